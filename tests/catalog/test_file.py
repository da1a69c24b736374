"""Promises of the check: what is wrong with a file is said with line and column before anything is sent."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.catalog import CatalogSettings, Format, read
from daemon.language.mistake import Mistakes
from tests.catalog.conftest import CSV, PRODUCTS, XLSX, text, workbook

SETTINGS = CatalogSettings()


def wrong(path: Path, data: str | bytes, format_: Format = "csv", separator: str = ";") -> list[str]:
    """Every mistake, as ``line:column: message``."""
    file = path / "catalog.csv"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(Mistakes) as found:
        read(file, format_, separator, SETTINGS)
    assert all(mistake.file == str(file) for mistake in found.value.mistakes)
    return [f"{mistake.line}:{mistake.column}: {mistake.message}" for mistake in found.value.mistakes]


def skus(path: Path, data: str | bytes, format_: Format = "csv", separator: str = ";") -> tuple[str, ...]:
    file = path / "catalog"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read(file, format_, separator, SETTINGS).skus


def test_a_sound_file_is_read_in_both_formats(tmp_path: Path) -> None:
    assert skus(tmp_path, text()) == ("A-1", "A-2", "007")
    assert skus(tmp_path, "\ufeff" + text(separator="\t"), separator="\t") == ("A-1", "A-2", "007")
    assert skus(tmp_path, text() + "\r\n;;;;\r\n") == ("A-1", "A-2", "007")
    assert skus(tmp_path, workbook(), "xlsx", "") == ("A-1", "A-2", "007")
    assert skus(tmp_path, workbook((XLSX, (100500, "x", "x", "x", 1), (2.0, "x", "x", "x", 1))), "xlsx", "") == ("100500", "2")


def test_the_format_has_to_be_that_of_headers(tmp_path: Path) -> None:
    assert "--headers xlsx" in wrong(tmp_path, workbook())[0]
    assert "--headers csv" in wrong(tmp_path, text(), "xlsx")[0]
    assert ".xls" in wrong(tmp_path, b"\xd0\xcf\x11\xe0rest", "xlsx")[0]
    assert wrong(tmp_path, b"PK\x03\x04 no workbook at all", "xlsx")[0].startswith("1:1: cannot be read as a workbook")
    assert wrong(tmp_path, " \n ") == ["1:1: is empty"]


def test_the_separator_has_to_be_the_files(tmp_path: Path) -> None:
    assert wrong(tmp_path, text(), separator=",") == ["1:1: is one column when separated by ','; say --separator ';'"]
    assert "--separator '\\t'" in wrong(tmp_path, text(separator="\t"))[0]
    for none in ("", ";;", '"'):
        assert "no separator" in wrong(tmp_path, text(), separator=none)[0]


def test_the_headings_have_to_be_those_of_the_format(tmp_path: Path) -> None:
    assert wrong(tmp_path, text((XLSX, *PRODUCTS))) == [f"1:1: has the headings of xlsx; those of csv are {', '.join(CSV)}"]
    assert "headings of csv" in wrong(tmp_path, workbook((CSV, *PRODUCTS)), "xlsx")[0]
    typo = ("SellerSku", "Nane", "Brand", "PrimaryCategory", "Price")
    assert wrong(tmp_path, text((typo, *PRODUCTS))) == ['1:1: heading "Name" is missing, did you mean "Nane"?']
    twice = (*CSV, "Brand", "", "Color")
    found = wrong(tmp_path, text((twice, *PRODUCTS)))
    assert found == ['1:6: heading "Brand" stands in column 3 already', "1:7: has no heading"]


def test_the_encoding_has_to_be_utf_8_and_the_place_is_named(tmp_path: Path) -> None:
    found = wrong(tmp_path, text().encode("cp1251"))
    assert len(found) == 1
    assert found[0].startswith("2:2: character 5 of the line is not UTF-8 (byte 0xcf)")


def test_empty_and_repeated_skus_are_named_with_line_and_column(tmp_path: Path) -> None:
    head = ("Name", *(title for title in CSV if title != "Name"))
    rows = [(name, sku, *rest) for sku, name, *rest in (*PRODUCTS, ("", "Пальто", "L", "1", "1"), ("A-1", "Шарф", "L", "1", "1"), (" B ", "x", "L", "1", "1"))]
    assert wrong(tmp_path, text((head, *rows))) == [
        "5:2: SellerSku is empty",
        '6:2: SellerSku "A-1" stands in line 2 already',
        "7:2: SellerSku ' B ' has blanks around it; take them away",
    ]
    assert "3:1: Seller SKU is empty" in wrong(tmp_path, workbook((XLSX, PRODUCTS[0], (None, *PRODUCTS[1][1:]))), "xlsx")
    assert wrong(tmp_path, workbook((XLSX, PRODUCTS[0], (), PRODUCTS[0])), "xlsx") == ['4:1: Seller SKU "A-1" stands in line 2 already']


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    rows = text((CSV, ("A", '"two\nlines"', "b", "c", "1"))) + '""\r\n' + text([("", "x", "b", "c", "1")])
    assert wrong(tmp_path, rows) == ["5:1: SellerSku is empty"]


def test_cells_without_a_heading_and_open_quotes_are_named(tmp_path: Path) -> None:
    assert wrong(tmp_path, text() + "B-1;a;b;c;1;2;3\n")[0].startswith("5:6: has 7 cells, but there are 5 headings")
    assert wrong(tmp_path, text() + 'B-1;"a;b;c;1\n')[0].startswith("5:1: cannot be read as CSV")


def test_no_product_is_a_mistake_too(tmp_path: Path) -> None:
    assert wrong(tmp_path, text((CSV,))) == ["2:1: there are headings, but no product"]


def test_of_many_mistakes_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    found = wrong(tmp_path, text((CSV, *[PRODUCTS[0]] * 500)))
    assert len(found) == 50
    assert found[-1].endswith("… and 449 more mistakes")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match="cannot be read"):
        read(tmp_path / "none.csv", "csv", ";", SETTINGS)


def test_a_workbook_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr("xl/workbook.xml", "x")
    directory = data.getvalue().index(b"PK\x01\x02")
    data.seek(directory + 24)  # where it says how long the part will be
    data.write((2**31).to_bytes(4, "little"))
    assert wrong(tmp_path, data.getvalue(), "xlsx") == ["1:1: unpacks to more than 1 GB; split it"]


def test_formulas_are_read_as_their_values_and_an_unsaved_one_is_empty(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (XLSX, ("=1+1", "x", "x", "x", "1")):
        book.active.append(list(row))
    book.save(tmp_path / "formula.xlsx")
    assert wrong(tmp_path, (tmp_path / "formula.xlsx").read_bytes(), "xlsx") == ["2:1: Seller SKU is empty"]


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=7), max_size=6), st.sampled_from(";,\t|"), st.binary(max_size=20))
def test_whatever_is_in_a_file_it_is_read_or_refused_in_lines(tmp_path_factory: pytest.TempPathFactory, rows: Sequence[Sequence[str]], separator: str, tail: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes((text((CSV,), separator) + "\n".join(separator.join(row) for row in rows)).encode() + tail)
    try:
        skus, mistakes = read(file, "csv", separator, SETTINGS).skus, ()
    except Mistakes as error:
        skus, mistakes = (), error.mistakes
    assert bool(skus) != bool(mistakes)
    assert all(mistake.line >= 1 and mistake.column >= 1 and mistake.message for mistake in mistakes)
    assert len(set(skus)) == len(skus)
    assert all(sku == sku.strip() != "" for sku in skus)
