"""A catalogue on its way to Lamoda: checked before anything is sent, sent once, followed until its import has ended.

    file ─ read ─▶ Catalogue, or every mistake with its line and column
         ─ push ─▶ save_csv ─▶ RequestId   (no answer: what has arrived since is looked for among the feeds, nothing is sent again)
         ─ follow ─▶ FeedStatus, 30 seconds later and then more and more seldom ─▶ Finished, Error or Canceled
         ─ verdict ─▶ ok, partial, failed: *Finished* alone is none of them

What was pushed is remembered by the file's hash, written before the first byte goes out, so that the same file is
recognised and a push that was cut off is looked for. This module knows ports: a connector with the call ``save_csv``, and
one with the records ``feeds`` and ``feed_status``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import Field

from daemon.domain.attempt import Outcome, Result
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Place, Record, Unknown, Value
from daemon.engine.ports import Clock, Connector, Unreachable
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import near
from daemon.settings import Settings

Format = Literal["csv", "xlsx"]
CALL: Final = "save_csv"
FEEDS: Final = "feeds"
FEED_STATUS: Final = "feed_status"

# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class HeadingSettings(Settings):
    """The headings of one format of the file."""

    sku: str = Field(description="The column of the seller's SKU: never empty, never twice.")
    required: list[str] = Field([], description="Further columns that must be there; others may be.")


class CatalogSettings(Settings):
    """What a catalogue file must look like; ``save_csv`` takes other headings in a workbook than in a text file."""

    csv: HeadingSettings = Field(
        HeadingSettings(sku="SellerSku", required=["Name", "Brand", "PrimaryCategory", "Price"]),
        description="Of a text file (--headers csv).",
    )
    xlsx: HeadingSettings = Field(
        HeadingSettings(sku="Seller SKU", required=["Name", "Brand", "Primary Category", "Price"]),
        description="Of a workbook (--headers xlsx).",
    )

    def of(self, format_: Format) -> HeadingSettings:
        """The headings of a format."""
        return self.csv if format_ == "csv" else self.xlsx


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LARGEST: Final = 128 * 1024 * 1024
"""Bytes that SellerCenter takes in one request."""
_UNPACKED: Final = 1024 * 1024 * 1024
_TOLD: Final = 50
_SEPARATORS: Final = ";,\t|"
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A file in which nothing was found wrong. ``skus`` in the file's order; ``digest`` is the file's SHA-256."""

    name: str
    format: Format
    separator: str
    skus: tuple[str, ...]
    digest: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row and the line it begins on, both as the file has them."""

    line: int
    cells: Sequence[str]

    @property
    def blank(self) -> bool:
        return not any(cell.strip() for cell in self.cells)


@dataclass(slots=True)
class _Reading:
    """What is found wrong on the way through a file. A column is that of the table, counted from 1."""

    file: str
    mistakes: list[Mistake] = field(default_factory=list)

    def wrong(self, line: int, column: int, message: str) -> None:
        self.mistakes.append(Mistake.at(Place(self.file, line, column), message))

    def stop(self, line: int, column: int, message: str) -> Mistakes:
        """The mistake after which nothing more can be read."""
        self.wrong(line, column, message)
        return self.result()

    def result(self) -> Mistakes:
        told = sorted(self.mistakes)[:_TOLD]
        if more := len(self.mistakes) - len(told):
            told[-1] = replace(told[-1], message=f"{told[-1].message} … and {more} more mistakes")
        return Mistakes(told)


def read(path: Path, format_: Format, separator: str, settings: CatalogSettings) -> Catalogue:
    """Read and check a file. Raises ``Mistakes``, each with line and column."""
    reading = _Reading(_shown(path))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise reading.stop(1, 1, f"cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise reading.stop(1, 1, f"is larger than {LARGEST // 1024**2} MB, which Lamoda does not take; split it")
    _check_format(reading, data, format_, separator)
    rows = _workbook(reading, data) if format_ == "xlsx" else _text(reading, data, separator)
    skus = _products(reading, rows, format_, separator, settings)
    if reading.mistakes:
        raise reading.result()
    return Catalogue(_shown(Path(path.name)), format_, separator if format_ == "csv" else "", skus, hashlib.sha256(data).hexdigest(), data)


def _shown(path: Path) -> str:
    """A path as text that can be printed and sent; a name from another system may be no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _check_format(reading: _Reading, data: bytes, format_: Format, separator: str) -> None:
    if not data.strip():
        raise reading.stop(1, 1, "is empty")
    if data.startswith(_OLD_EXCEL):
        raise reading.stop(1, 1, "is a workbook of the old kind (.xls); save it as .xlsx, or as CSV UTF-8")
    if format_ == "csv" and data.startswith(_ZIP):
        raise reading.stop(1, 1, "is a workbook, not a text file; say --headers xlsx, or save it as CSV UTF-8")
    if format_ == "xlsx" and not data.startswith(_ZIP):
        raise reading.stop(1, 1, "is no workbook (.xlsx); say --headers csv if it is a text file")
    if format_ == "csv" and (len(separator) != 1 or separator in '"\r\n'):
        raise reading.stop(1, 1, f'--separator: {separator!r} is no separator; write one character, such as ";"')


def _text(reading: _Reading, data: bytes, separator: str) -> Iterator[_Row]:
    """The rows of a text file, blank ones left out. Raises ``Mistakes``."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        begin = data.rfind(b"\n", 0, error.start) + 1
        line, column = data.count(b"\n", 0, error.start) + 1, len(data[begin : error.start].decode("utf-8", "replace")) + 1
        what = f"character {column} of the line is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as CSV UTF-8"
        raise reading.stop(line, 1 + data[begin : error.start].count(separator.encode()), what) from None
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for cells in rows:
            row, line = _Row(line, cells), rows.line_num + 1
            if not row.blank:
                yield row
    except csv.Error as error:
        raise reading.stop(line, 1, f"cannot be read as CSV: {error}; look for a quotation mark that is not closed") from None


def _workbook(reading: _Reading, data: bytes) -> Iterator[_Row]:
    """The rows of a workbook's first sheet, blank ones left out. Raises ``Mistakes``."""
    import openpyxl  # here, as every command loads the settings above and hardly any a workbook

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(each.file_size for each in packed.infolist()) > _UNPACKED:
                raise reading.stop(1, 1, "unpacks to more than 1 GB; split it")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets = book.worksheets
    except Mistakes:
        raise
    except Exception as error:  # whatever the library says of a broken file
        raise reading.stop(1, 1, f"cannot be read as a workbook ({type(error).__name__}); save it anew as .xlsx") from None
    if not sheets:
        raise reading.stop(1, 1, "has no sheet with a table")
    try:
        for line, cells in enumerate(sheets[0].iter_rows(values_only=True), 1):
            row = _Row(line, [_cell(cell) for cell in cells])
            if not row.blank:
                yield row
    except Exception as error:
        raise reading.stop(1, 1, f"its first sheet cannot be read ({type(error).__name__}); save it anew as .xlsx") from None
    finally:
        book.close()


def _cell(value: Any) -> str:
    """A cell as text; a number without its ``.0``, as it is shown."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _products(
    reading: _Reading, rows: Iterator[_Row], format_: Format, separator: str, settings: CatalogSettings
) -> tuple[str, ...]:
    """The SKU of every product; what is wrong with them is noted. Raises ``Mistakes`` when the headings are of no use."""
    head = next(rows, None)
    if head is None:
        raise reading.stop(1, 1, "holds no headings and no product")
    titles = _trimmed(head.cells)
    _check_headings(reading, head.line, titles, format_, separator, settings)
    if reading.mistakes:
        raise reading.result()
    at = titles.index(settings.of(format_).sku)
    first: dict[str, int] = {}
    for row in rows:
        _check_row(reading, row, titles, at, first)
    if not first and not reading.mistakes:
        reading.wrong(head.line + 1, 1, "there are headings, but no product")
    return tuple(first)


def _trimmed(cells: Sequence[str]) -> list[str]:
    """The headings without the empty ones at the end, which programs leave behind."""
    titles = list(cells)
    while titles and not titles[-1].strip():
        titles.pop()
    return titles


def _check_row(reading: _Reading, row: _Row, titles: Sequence[str], at: int, first: dict[str, int]) -> None:
    cells = _trimmed(row.cells) if len(row.cells) > len(titles) else row.cells
    if len(cells) > len(titles):
        reading.wrong(row.line, len(titles) + 1, f"has {len(cells)} cells, but there are {len(titles)} headings; is a separator in a text not quoted?")
        return
    sku = cells[at] if at < len(cells) else ""
    if not sku.strip():
        reading.wrong(row.line, at + 1, f"{titles[at]} is empty")
    elif sku != sku.strip():
        reading.wrong(row.line, at + 1, f"{titles[at]} {sku!r} has blanks around it; take them away")
    elif sku in first:
        reading.wrong(row.line, at + 1, f'{titles[at]} "{sku}" stands in line {first[sku]} already')
    else:
        first[sku] = row.line


def _check_headings(
    reading: _Reading, line: int, titles: Sequence[str], format_: Format, separator: str, settings: CatalogSettings
) -> None:
    for column, title in enumerate(titles, 1):
        if not title.strip():
            reading.wrong(line, column, "has no heading")
        elif title in titles[: column - 1]:
            reading.wrong(line, column, f'heading "{title}" stands in column {titles.index(title) + 1} already')
    wanted = _wanted(settings.of(format_))
    missing = [title for title in wanted if title not in titles]
    other: Format = "csv" if format_ == "xlsx" else "xlsx"
    if not missing:
        return
    if format_ == "csv" and len(titles) == 1 and (meant := _meant(titles[0], separator)):
        reading.wrong(line, 1, f"is one column when separated by {separator!r}; say --separator {meant!r}")
    elif set(_wanted(settings.of(other))) <= set(titles):
        reading.wrong(line, 1, f"has the headings of {other}; those of {format_} are {', '.join(wanted)}")
    else:
        for title in missing:
            reading.wrong(line, 1, f'heading "{title}" is missing{near(title, titles, listed=False)}')


def _wanted(headings: HeadingSettings) -> list[str]:
    return [headings.sku, *(title for title in headings.required if title != headings.sku)]


def _meant(head: str, separator: str) -> str | None:
    """The separator that a line of headings seems to have instead."""
    counts = {each: head.count(each) for each in _SEPARATORS if each != separator}
    best = max(counts, key=lambda each: counts[each])
    return best if counts[best] else None


# ── What was pushed ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push of a file. ``request_id``: Lamoda accepted it. Without one it was cut off; ``known`` are the feeds from before."""

    digest: str
    file: str
    at: str
    number: int = 1
    request_id: str | None = None
    known: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The idempotency key: that of a push whose end is not known stays the same."""
        return f"catalog-{self.digest[:24]}-{self.number}"


class Memory:
    """The last push of each file, in a file of our own, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "catalog.json"

    def last(self, digest: str) -> Pushed | None:
        """The last push of the file with this hash. Raises ``Mistakes`` when the memory cannot be read."""
        return self._all().get(digest)

    def imports(self) -> frozenset[str]:
        """The numbers of all imports that are known to be of some file. Raises ``Mistakes``."""
        return frozenset(pushed.request_id for pushed in self._all().values() if pushed.request_id)

    def keep(self, pushed: Pushed) -> None:
        """Remember. Raises ``Mistakes`` when it cannot be written: nothing is sent that would be forgotten."""
        self._write(self._all() | {pushed.digest: pushed})

    def restore(self, digest: str, before: Pushed | None) -> None:
        """Undo ``keep``: nothing has arrived after all. Raises ``Mistakes``."""
        others = {each: pushed for each, pushed in self._all().items() if each != digest}
        self._write(others | ({digest: before} if before else {}))

    def _write(self, every: Mapping[str, Pushed]) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({digest: asdict(each) for digest, each in every.items()}, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise self._mistake(f"cannot be written: {error.strerror}; what was pushed would be forgotten") from None

    def _all(self) -> dict[str, Pushed]:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            return {digest: Pushed(**{**each, "known": tuple(each["known"])}) for digest, each in stored.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._mistake(f"cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._mistake("is damaged; move it away, and look at Lamoda's list of imports before pushing again") from None

    def _mistake(self, message: str) -> Mistakes:
        return Mistakes([Mistake(str(self._path), 1, 1, message)])


# ── Pushing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class NotPushed(Exception):
    """It was not taken: the text says why. ``refused``: somebody looked at it and said no; else it never got there."""

    def __init__(self, message: str, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


class NotKnown(Exception):
    """It was sent, and whether it has arrived could not be seen. Nothing is sent again by itself."""


_LOOKS: Final = (0.0, 15.0, 45.0)
"""Seconds between the looks for an import that may have arrived."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The two systems of a transfer: the service that takes the file, and the market that imports it."""

    service: Connector
    market: Connector
    clock: Clock
    memory: Memory

    async def push(self, catalogue: Catalogue, at: datetime) -> Pushed:
        """Send it, once. Gives the RequestId, or raises ``NotPushed``, ``NotKnown``; ``Unreachable`` before anything is sent."""
        before = self.memory.last(catalogue.digest)
        number = 1 if before is None else before.number + (1 if before.request_id else 0)
        known = tuple([record async for record in self._feeds(at)])
        pushed = Pushed(catalogue.digest, catalogue.name, at.isoformat(), number, None, known)
        self.memory.keep(pushed)
        outcome = await self._send(catalogue, pushed.key)
        match outcome.result:
            case Result.DONE:
                request_id = request_id_of(outcome)
                return self._kept(pushed, request_id) if request_id else await self.arrived(pushed)
            case Result.UNKNOWN:
                return await self.arrived(pushed)
        self.memory.restore(catalogue.digest, before)
        raise NotPushed(_said(outcome), outcome.result is Result.REFUSED)

    async def arrived(self, pushed: Pushed) -> Pushed:
        """Look whether a push without an answer has arrived: the one import that was not there before and is of no other file.

        Raises ``NotKnown``.
        """
        found: list[str] = []
        for seconds in _LOOKS:
            await self.clock.sleep(seconds)
            found = await self._since(pushed)
            if len(found) == 1:
                return self._kept(pushed, found[0])
            if found:
                break
        if found:
            raise NotKnown(f"no RequestId came, and several imports have begun since: {', '.join(found)}; look which one is yours")
        raise NotKnown("no RequestId came, and no import of it is to be seen yet")

    def _kept(self, pushed: Pushed, request_id: str) -> Pushed:
        done = replace(pushed, request_id=request_id, known=())
        self.memory.keep(done)
        return done

    async def _since(self, pushed: Pushed) -> list[str]:
        at, others = datetime.fromisoformat(pushed.at), self.memory.imports()
        try:
            return [feed async for feed in self._feeds(at) if feed not in pushed.known and feed not in others]
        except Unreachable:
            return []

    async def _feeds(self, at: datetime) -> AsyncIterator[str]:
        """The imports of products of the last days; what cannot be read may be one. Raises ``Unreachable``."""
        where: Mapping[str, Value] = {"within": _REACH}
        async with aclosing(self.market.list(FEEDS, where, None, None, at, 100, False)) as pages:
            async for page in pages:
                for record in page.records:
                    if record["action"] in _IMPORTS or isinstance(record["action"], Unknown):
                        yield str(record["feed"])

    async def _send(self, catalogue: Catalogue, key: str) -> Outcome:
        content = base64.b64encode(catalogue.data).decode("ascii")
        said: Mapping[str, Value] = {"headers": catalogue.format, "separator": catalogue.separator, "file_name": catalogue.name, "file": content}
        try:
            request = self.service.prepare(CALL, said, key)
        except ValueError as error:
            return Outcome(Result.NOT_SENT, f"{self.service.name}.{CALL}: {error}")
        return await self.service.perform(request)


_REACH: Final = timedelta(days=3)
_IMPORTS: Final = frozenset({"ProductCreate", "ProductUpdate"})


def request_id_of(outcome: Outcome) -> str | None:
    """The RequestId that Lamoda's answer carries: the number of the import. ``None``: there is none in it."""
    body = outcome.reply.body if outcome.reply else ""
    try:
        root = fromstring(body.strip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return (root.findtext("Head/RequestId") or "").strip() or None


def _said(outcome: Outcome) -> str:
    body = " ".join(outcome.reply.body.split())[:300] if outcome.reply else ""
    return f"{outcome.reason}: {body}" if body and body != outcome.reason else outcome.reason


# ── Following ────────────────────────────────────────────────────────────────────────────────────────────────────────

ENDED: Final = frozenset({"Finished", "Error", "Canceled"})
_FIRST, _GROWTH, _SELDOM = 30.0, 1.5, 120.0
_UNSEEN: Final = 5
"""An import that was just accepted may not be known yet: so many looks are given to it."""


class NoSuchImport(Exception):
    """Lamoda knows no import of this number."""


class NotEnded(Exception):
    """It had not ended when patience did. The text says what was seen last."""


class Verdict(StrEnum):
    """What an ended import came to."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Import:
    """An import as it was last seen. A number that could not be read is ``None``."""

    request_id: str
    status: str
    action: str
    total: int | None
    processed: int | None
    failed: int | None
    errors: tuple[Mapping[str, str], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """*Finished* says that it has ended, ``failed`` how."""
        if self.status != "Finished":
            return Verdict.FAILED
        if self.failed is None:
            return Verdict.UNKNOWN
        if self.failed == 0:
            return Verdict.OK if not self.errors else Verdict.PARTIAL
        return Verdict.FAILED if self.total is not None and self.failed >= self.total else Verdict.PARTIAL


def seen(record: Record) -> Import:
    """A record of ``feed_status`` as an import."""
    errors = record["errors"]
    listed = [each for each in errors if isinstance(each, Mapping)] if isinstance(errors, list) else []
    plain = tuple({name: str(each.get(name) or "") for name in ("sku", "message")} for each in listed)
    words = {name: value if isinstance(value := record[name], str) else "" for name in ("feed", "status", "action")}
    total, processed, failed = (_count(record[name]) for name in ("total", "processed", "failed"))
    return Import(words["feed"], words["status"], words["action"], total, processed, failed, plain)


def _count(value: Value) -> int | None:
    return None if value is None or isinstance(value, Unknown) else int(str(value).partition(".")[0])


Show = Callable[[Import | str], None]
"""Gets what was seen, or why nothing was."""


async def follow(market: Connector, request_id: str, clock: Clock, patience: timedelta, show: Show, *, at_once: bool) -> Import:
    """Ask until it has ended. Raises ``NoSuchImport``, ``NotEnded``."""
    left, wait, unseen = patience.total_seconds(), _FIRST, 0
    until = clock.monotonic() + left
    last = ""
    if not at_once:
        await clock.sleep(min(wait, left))
    while True:
        answer = (await market.ask(FEED_STATUS, "feed", [request_id], True))[request_id]
        match answer:
            case Present(records):
                found = seen(records[0])
                if found.status in ENDED:
                    return found
                last = found.status or "no status"
                show(found)
            case Absent():
                unseen += 1
                if at_once or unseen >= _UNSEEN:
                    raise NoSuchImport(request_id)
                last = "not known to Lamoda yet"
                show(last)
            case Unknown(reason):
                last = reason
                show(last)
        if (left := until - clock.monotonic()) <= 0:
            raise NotEnded(last)
        await clock.sleep(min(wait, left))
        wait = min(wait * _GROWTH, _SELDOM)


def one_with(connectors: Mapping[str, Connector], named: str | None, has: Callable[[Connector], bool], what: str, option: str) -> Connector:
    """The connector that was named, or the only one that has what is needed. Raises ValueError with what would be right."""
    fitting = {name: each for name, each in connectors.items() if has(each)}
    if named is not None and named in fitting:
        return fitting[named]
    if named is not None:
        raise ValueError(f'{option}: "{named}" has no {what}{near(named, fitting) if fitting else ""}')
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if not fitting:
        raise ValueError(f"no connector in the configuration has {what}")
    raise ValueError(f"several connectors have {what}; say {option}: {', '.join(sorted(fitting))}")
