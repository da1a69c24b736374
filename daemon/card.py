"""What is attached to a message, as files: a card as a picture, a table as CSV. The only importer of Pillow.

    Card ─▶ lines that fit ─▶ PNG       Table ─▶ CSV that Excel opens by a double click

Outboxes keep the values; a channel that carries files makes them here, at delivery. Nothing but the rows of the value is
drawn, so nothing that a rule did not name can be on a picture.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from daemon.domain.message import Card, Table

WIDTH: Final = 900
"""Pixels; legible on a telephone without a zoom."""

_MARGIN: Final = 32
_LABELS: Final = 240
_GAP: Final = 14
_TITLE_SIZE: Final = 34
_TEXT_SIZE: Final = 25
_LINES: Final = 40
"""Lines of one row; a longer text ends in an ellipsis."""

HIGHEST: Final = 6000
"""Pixels; what is below is not drawn. Telegram takes width and height of 10,000 together."""

_PAPER, _INK, _FAINT, _RULE = "#ffffff", "#1c2733", "#66737f", "#d5dbe1"


@dataclass(frozen=True, slots=True)
class _Line:
    """A piece of text where it stands, from the top of the picture."""

    text: str
    left: int
    top: int
    size: int
    colour: str


def picture(card: Card) -> bytes:
    """The card as a PNG, as high as its rows need."""
    lines, rules, height = _laid_out(card)
    image = Image.new("RGB", (WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    for top in rules:
        draw.line((_MARGIN, top, WIDTH - _MARGIN, top), fill=_RULE, width=2)
    for line in lines:
        draw.text((line.left, line.top), line.text, font=_font(line.size), fill=line.colour)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def sheet(table: Table) -> bytes:
    """The table as CSV for Excel: UTF-8 with its mark, semicolons, and no cell that Excel would take for a formula."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=";", lineterminator="\r\n")
    writer.writerows([_harmless(row) for row in ([table.columns] if table.columns else []) + [*table.rows]])
    return written.getvalue().encode("utf-8-sig", "replace")


def _harmless(row: Sequence[str]) -> list[str]:
    return [f"'{cell}" if _FORMULA.match(cell) else cell for cell in row]


_FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?!\d+([.,]\d+)?$)")
"""What begins a formula; a plain signed number does not."""


def _laid_out(card: Card) -> tuple[Sequence[_Line], Sequence[int], int]:
    """The lines, the tops of the rules between rows, and the height of the whole."""
    lines: list[_Line] = []
    rules: list[int] = []
    top = _MARGIN
    for text in wrapped(card.title, _TITLE_SIZE, WIDTH - 2 * _MARGIN):
        lines.append(_Line(text, _MARGIN, top, _TITLE_SIZE, _INK))
        top += _pitch(_TITLE_SIZE)
    for label, value in card.rows:
        if top > HIGHEST - _MARGIN - (_LINES + 2) * _pitch(_TEXT_SIZE):
            lines.append(_Line("…", _MARGIN, top + _GAP, _TEXT_SIZE, _INK))
            top += 2 * _GAP + _pitch(_TEXT_SIZE)
            break
        rules.append(top + _GAP)
        top += 2 * _GAP
        labels = wrapped(label, _TEXT_SIZE, _LABELS - _GAP)
        values = wrapped(value, _TEXT_SIZE, WIDTH - 2 * _MARGIN - _LABELS)
        for number, text in enumerate(labels):
            lines.append(_Line(text, _MARGIN, top + number * _pitch(_TEXT_SIZE), _TEXT_SIZE, _FAINT))
        for number, text in enumerate(values):
            lines.append(_Line(text, _MARGIN + _LABELS, top + number * _pitch(_TEXT_SIZE), _TEXT_SIZE, _INK))
        top += max(len(labels), len(values)) * _pitch(_TEXT_SIZE)
    return lines, rules, top + _MARGIN


def wrapped(text: str, size: int, width: int) -> Sequence[str]:
    """The text in lines within ``width`` pixels, broken between words, a longer word between characters."""
    lines = [line for part in text.splitlines() or [""] for line in _broken(" ".join(part.split()), size, width)]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "…"]


def _broken(text: str, size: int, width: int) -> Iterator[str]:
    line = ""
    for piece in re.findall(r"\S+\s*", text) or [""]:
        while _wide((line + piece).rstrip(), size, width):
            if line:
                yield line.rstrip()
                line = ""
                continue
            fits = _fitting(piece, size, width)
            yield piece[:fits]
            piece = piece[fits:]
        line += piece
    yield line.rstrip()


def _wide(text: str, size: int, width: int) -> bool:
    return _font(size).getlength(text) > width


def _fitting(word: str, size: int, width: int) -> int:
    """How many characters of a word fit; at least one, so that an end is reached."""
    return next((count - 1 for count in range(2, len(word) + 1) if _wide(word[:count], size, width)), len(word)) or 1


def _pitch(size: int) -> int:
    return round(size * 1.35)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans: Russian, Kazakh and the signs of currencies are in it, and it stands in the package."""
    return ImageFont.truetype(io.BytesIO((files("daemon") / "fonts" / "DejaVuSans.ttf").read_bytes()), size)
