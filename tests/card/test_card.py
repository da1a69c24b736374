"""A card as a picture, a table as a file: legible, bounded, and nothing on them but what was given."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from daemon.card import HIGHEST, WIDTH, _font, picture, sheet, wrapped
from daemon.domain.message import Card, Table

LETTERS = "АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмнопрстуфхцчшщъыьэюяӘәҒғҚқҢңӨөҰұҮүҺһІі₽₸$€№×—«»…"


def image(*rows: tuple[str, str], title: str = "Ozon 1-1-1") -> Image.Image:
    return Image.open(io.BytesIO(picture(Card(title, rows)))).convert("RGB")


@pytest.mark.parametrize("letter", LETTERS)
def test_every_letter_of_the_shops_languages_is_drawn(letter: str) -> None:
    missing = bytes(_font(25).getmask("\uffff"))
    assert bytes(_font(25).getmask(letter)) not in (missing, b"")


def test_a_longer_text_makes_a_higher_picture_and_stays_within_its_edges() -> None:
    short, long = image(("Склад", "Хоругвино")), image(("Склад", "Хоругвино " * 40))
    assert short.width == long.width == WIDTH
    assert short.height < long.height
    edge = long.crop((WIDTH - 31, 0, WIDTH, long.height))
    assert ImageChops.difference(edge, Image.new("RGB", edge.size, "#ffffff")).getbbox() is None


def test_each_row_changes_the_picture() -> None:
    pictures = {picture(Card("a", rows)) for rows in ((("Статус", "a"),), (("Статус", "b"),), (("Склад", "a"),), ())}
    assert len(pictures) == 4


@given(st.text(max_size=300), st.integers(10, 60), st.integers(40, 900))
def test_wrapped_lines_fit_and_lose_nothing(text: str, size: int, width: int) -> None:
    lines = wrapped(text, size, width)
    assert all(_font(size).getlength(line) <= width or len(line) == 1 for line in lines)
    if lines[-1] != "…":
        assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text(max_size=100), st.lists(st.tuples(st.text(max_size=60), st.text(max_size=600)), max_size=30))
@settings(max_examples=25)
def test_whatever_a_record_holds_becomes_a_picture_that_telegram_takes(title: str, rows: list[tuple[str, str]]) -> None:
    data = picture(Card(title, tuple(rows)))
    width, height = Image.open(io.BytesIO(data)).size
    assert height <= HIGHEST
    assert width + height <= 10_000
    assert max(width, height) <= 20 * min(width, height)
    assert len(data) < 10_000_000


def test_a_card_with_too_many_rows_ends_in_an_ellipsis_and_not_in_an_error() -> None:
    assert image(*((f"Строка {number}", "слово " * 300) for number in range(50))).height <= HIGHEST


def read(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(sheet(table).decode("utf-8-sig"), newline=""), delimiter=";"))


def test_excel_opens_a_table_with_its_letters_and_columns() -> None:
    table = Table("a.csv", ("sku", "message"), (("LD-1", 'Нет "бренда"; и\nцены'), ("LD-2", "")))
    assert sheet(table).startswith(b"\xef\xbb\xbfsku;message\r\n")
    assert read(table) == [["sku", "message"], ["LD-1", 'Нет "бренда"; и\nцены'], ["LD-2", ""]]


@pytest.mark.parametrize("cell", ["=1+1", "+7 495", "-a", "@SUM(A1)", "\t=1", "\r=1", "-=1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    ((found,),) = read(Table("a.csv", (), ((cell,),)))
    assert found == f"'{cell}"


@pytest.mark.parametrize("cell", ["-5", "+3.5", "-0,25", "LD-1", "5 - 3"])
def test_numbers_and_plain_texts_stay_as_they_are(cell: str) -> None:
    assert read(Table("a.csv", (), ((cell,),))) == [[cell]]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_a_table_loses_nothing(rows: list[tuple[str, str]]) -> None:
    encodable = tuple(tuple(cell.encode("utf-8", "replace").decode().replace("\0", "") for cell in row) for row in rows)
    found = read(Table("a.csv", ("a", "b"), encodable))
    assert [[cell.removeprefix("'") for cell in row] for row in found[1:]] == [[cell.removeprefix("'") for cell in row] for row in encodable]
