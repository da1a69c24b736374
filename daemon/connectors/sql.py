"""The shop's own databases: declared SQL becomes records that can be listed and asked for by key.

A kind of records is one SELECT (``query``), wrapped and never rewritten, so that PostgreSQL sees through it and uses
its indexes. A scan adds the filters as text and goes page by page in the order of the key; a question by key adds
nothing but the keys. Every statement runs in a read-only transaction with a timeout, in the connector's zone:

    list ─▶ _Source.select + filters ─▶ page after page, or one open cursor ─▶ rows ─▶ readers by declared type ─▶ Page
    ask  ─▶ keys cast to the column's type ─▶ batches, halved where a row spoils them ─▶ rows ─▶ readers ─▶ Answers

What a row holds and cannot be read is ``Unknown`` in its field, a row that makes a statement fail is ``Unknown`` as a
whole (law 2). Messages hold neither the address nor any value: they are made here, from the error's code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from pydantic import BeforeValidator, field_validator
from pydantic import Field as Setting
from sqlalchemy import event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from daemon.domain.shape import Absent, Answer, Field, FieldType, Incremental, Page, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.events import Requested
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools, WithoutCalls, parse_field
from daemon.language.mistake import Mistake
from daemon.language.sqltext import at_rule_time, begins_as_select, faults, moment_literal
from daemon.settings import ConnectorSettings, Duration, Redactor, Secret, Settings, Zone

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]
Names: TypeAlias = list[str]

_KEYS_PER_STATEMENT: Final = 5000
_SAME_KEY: Final = 1000
"""More rows than this with one key are no records but a mistake; they are reported, not kept in memory."""
_SPLITS: Final = 200
"""Statements that one question may spend on finding the rows that fail."""
_REASONS: Final = 10
_IDLE_IN_TRANSACTION: Final = timedelta(minutes=2)
"""A daemon that was stopped in the middle of a listing must not hold the shop's vacuum back for longer."""


# ── Settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_KEY = re.compile(r"\$\{\s*([A-Za-z_]\w*)\s*\}")
_COLUMN = re.compile(r"[A-Za-z_]\w*")


def _parse_field(written: object) -> Field:
    """``string``, ``number|null`` or ``{type: string}`` as a field. Raises ValueError with what would be right."""
    if isinstance(written, Field):
        return written
    return parse_field(written["type"] if isinstance(written, Mapping) and set(written) == {"type"} else written)


class IncrementalSettings(Settings):
    """Scan only what is new, and everything now and then."""

    cursor: str = Setting(description="The timestamp field that grows whenever a record changes; an index on it pays.")
    overlap: Duration = Setting(
        timedelta(minutes=10), description="How far back to look again each time, for rows committed late (10m)."
    )
    full_every: Duration = Setting(
        timedelta(hours=6), description="How often to scan all of it nevertheless (6h)."
    )


class RecordsSettings(Settings):
    """One kind of records: a SELECT without any symptom in it, its identity, its types."""

    query: str = Setting(
        description="One SELECT that gives a row per record, whatever its state; scans and questions by key share it."
    )
    where: str | None = Setting(
        None, description="SQL condition that bounds scans only, for speed; `:now` is rule time. Questions ignore it."
    )
    key: str = Setting(description="`${field}` that identifies a record; a string field, one of `by`.")
    by: Names = Setting(min_length=1, description="String fields by which records can be asked for; index them.")
    fields: dict[str, Annotated[Field, BeforeValidator(_parse_field, json_schema_input_type=str | dict[str, str])]] = (
        Setting(
            min_length=1,
            description="Columns of the query and their types: string number bool timestamp duration list map, each "
            "with |null where it may be NULL. Identifiers are strings, whatever the column's type.",
        )
    )
    incremental: IncrementalSettings | None = Setting(
        None, description="Scan only what changed since the last scan, all of it now and then."
    )

    @property
    def key_field(self) -> str:
        """The field that ``key`` names, or nothing when it names none."""
        match = _KEY.fullmatch(self.key.strip())
        return match[1] if match else ""


class SqlSettings(ConnectorSettings):
    """A database of the shop. PostgreSQL; a role that can only SELECT."""

    url: Secret = Setting(
        description="postgresql://user:password@host/database of the primary, with sslmode=verify-full over a network."
    )
    replica_url: Secret | None = Setting(
        None, description="The same of a replica; scans go there, questions by key never do. None: scans use `url`."
    )
    timezone: Zone | None = Setting(
        None, description="Zone of timestamps and dates that carry none; without it such a field is unknown."
    )
    fingerprint: str | None = Setting(
        None,
        description="SQL condition or SELECT that is true in the right database (current_database() = 'shop'), asked "
        "once per connection; while it does not hold nothing of this connector runs.",
    )
    records: dict[str, RecordsSettings] = Setting(
        default_factory=dict, description="The kinds of records it offers, by name."
    )
    timeout: Duration = Setting(
        timedelta(seconds=10), description="Bound on connecting, and on each statement (statement_timeout): 30s."
    )

    @field_validator("timeout")
    @classmethod
    def _some_time(cls, timeout: timedelta) -> timedelta:
        if timeout < timedelta(milliseconds=1):
            raise ValueError("a statement needs some time; write 10s or more")
        return timeout


def _shape(settings: SqlSettings) -> Shape:
    return Shape(records={name: _offered(records) for name, records in settings.records.items()})


def _offered(records: RecordsSettings) -> Records:
    incremental = records.incremental
    identifiers = {*records.by, records.key_field}
    return Records(
        fields={
            name: Field(field.type, field.nullable, Role.IDENTIFIER if name in identifiers else field.role)
            for name, field in records.fields.items()
        },
        key=records.key_field,
        by=frozenset(records.by),
        where="sql",
        incremental=None if incremental is None else Incremental(**dict(incremental)),
        population=True,
        streams=True,
    )


# ── What is wrong with the settings ───────────────────────────────────────────────────────────────────────────────────


def _lint(name: str, settings: SqlSettings, at: At) -> Sequence[Mistake]:
    found = [*_lint_addresses(settings), *_lint_fingerprint(settings)]
    for kind, records in settings.records.items():
        found += [(("records", kind, *path), message) for path, message in _lint_records(records)]
    return [Mistake.at(at(path), message) for path, message in found]


Finding: TypeAlias = tuple[tuple[str | int, ...], str]


def _lint_addresses(settings: SqlSettings) -> Iterator[Finding]:
    for path, secret in (("url", settings.url), ("replica_url", settings.replica_url)):
        if secret is not None:
            try:
                _address(secret)
            except ValueError as error:
                yield (path,), str(error)


def _lint_fingerprint(settings: SqlSettings) -> Iterator[Finding]:
    if settings.fingerprint is not None:
        for fault in faults(settings.fingerprint, ()):
            yield ("fingerprint",), fault


def _lint_records(records: RecordsSettings) -> Iterator[Finding]:
    yield from (((path, *rest), message) for path, rest, message in _lint_names(records))
    if not begins_as_select(records.query):
        yield ("query",), "a query begins with SELECT or WITH"
    yield from ((("query",), fault) for fault in faults(records.query, ()))
    if records.where is not None:
        yield from ((("where",), fault) for fault in faults(records.where, (":now",)))


def _lint_names(records: RecordsSettings) -> Iterator[tuple[str, tuple[str | int, ...], str]]:
    declared, key = records.fields, records.key_field
    for name in declared:
        if not _COLUMN.fullmatch(name):
            yield "fields", (name,), f"{name!r} is no name of a field; rename the column in the query (… AS name)"
    if not key or key not in declared:
        yield "key", (), f"a key is one declared field, such as ${{{next(iter(records.by))}}}"
    else:
        if key not in records.by:
            yield "key", (), f"the key must be one of `by`, so that a record can be asked for again: add {key}"
        if declared[key].nullable:
            yield "fields", (key,), "a key cannot be NULL; declare it without |null"
    for index, name in enumerate(records.by):
        if name not in declared:
            yield "by", (index,), f"{name!r} is not among `fields`"
        elif declared[name].type is not FieldType.STRING:
            yield "fields", (name,), "records are asked by identifiers: declare it string, whatever the column's type"
    if records.incremental is not None:
        cursor = declared.get(records.incremental.cursor)
        if cursor is None or cursor.type is not FieldType.TIMESTAMP:
            yield "incremental", ("cursor",), "the cursor of an incremental scan is a declared timestamp field"


_NO_ADDRESS: Final = "no PostgreSQL address; write postgresql://user:password@host:5432/database, best as ${env:NAME}"


def _address(secret: Secret) -> URL:
    """The address in SQLAlchemy's terms. Raises ValueError in words that do not quote it."""
    url = None
    try:
        url = make_url(secret.reveal().strip())
        backend, _, driver = url.drivername.partition("+")
        known = backend in ("postgresql", "postgres") and driver in ("", "psycopg")
        url = url.set(drivername="postgresql+psycopg")
        arguments = url.get_dialect()().create_connect_args(url)[1]
        psycopg.conninfo.make_conninfo(**arguments)
    except (SQLAlchemyError, psycopg.Error, ValueError, TypeError):
        known = False  # and raised below, where this error is no longer anybody's context
    if url is None or not known:
        raise ValueError(_NO_ADDRESS)
    return url


# ── Values: from what the driver gives to what is declared ────────────────────────────────────────────────────────────


class _Misfit(Exception):
    """A value that does not fit the declared type; the text is the reason."""


def _moment(value: datetime, zone: ZoneInfo | None) -> datetime:
    """An aware moment in UTC.

    A local time that is there twice, or not at all, is taken as PostgreSQL takes it (the smaller offset), so that it
    compares here as it does in `where`.
    """
    if value.tzinfo is None:
        if zone is None:
            raise _Misfit("carries no time zone, and the connector has no `timezone`")
        offsets = (value.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
        value = value.replace(tzinfo=UTC) - min(offset for offset in offsets if offset is not None)
    return value.astimezone(UTC)


def _midnight(value: date, zone: ZoneInfo | None) -> datetime:
    return _moment(datetime.combine(value, time()), zone)


def _same(value: Value, zone: ZoneInfo | None) -> Value:
    return value


def _text(value: Any, zone: ZoneInfo | None = None) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _finite(value: float | Decimal, zone: ZoneInfo | None) -> float | Decimal:
    if not math.isfinite(value):
        raise _Misfit("is no finite number")
    return value


def _items(value: Sequence[Any], zone: ZoneInfo | None) -> Sequence[Value]:
    return [_plain(item, zone) for item in value]


def _entries(value: Mapping[Any, Any], zone: ZoneInfo | None) -> Mapping[str, Value]:
    return {str(key): _plain(item, zone) for key, item in value.items()}


Reader: TypeAlias = Callable[[Any, ZoneInfo | None], Value]

_READERS: Final[Mapping[FieldType, Mapping[type, Reader]]] = {
    FieldType.STRING: {str: _same, int: _text, UUID: _text, Decimal: _text},
    FieldType.NUMBER: {int: _same, Decimal: _finite, float: _finite},
    FieldType.BOOL: {bool: _same},
    FieldType.TIMESTAMP: {datetime: _moment, date: _midnight},
    FieldType.DURATION: {timedelta: _same},
    FieldType.LIST: {list: _items},
    FieldType.MAP: {dict: _entries},
}
_INSIDE: Final[Mapping[type, Reader]] = {
    type(None): _same, str: _same, bool: _same, int: _same, UUID: _text, Decimal: _finite, float: _finite,
    datetime: _moment, date: _midnight, timedelta: _same, list: _items, dict: _entries,
}  # fmt: skip
"""Within lists and maps nothing is declared: every value becomes what it is."""


def _plain(value: Any, zone: ZoneInfo | None) -> Value:
    reader = _INSIDE.get(type(value))
    if reader is None:
        raise _Misfit(value.reason if isinstance(value, Unknown) else f"holds a {type(value).__name__}")
    return reader(value, zone)


def _reader(field: Field, zone: ZoneInfo | None) -> Callable[[Any], Value]:
    """What makes a value of the declared type out of a column's, or ``Unknown`` with the reason."""
    readers = _READERS[field.type]

    def read(value: Any) -> Value:
        reader = readers.get(type(value))
        if reader is None:
            return _unread(value, field)
        try:
            return reader(value, zone)
        except _Misfit as misfit:
            return Unknown(str(misfit))
        except (OverflowError, RecursionError, ValueError):
            return Unknown("is out of the range that can be read")

    return read


def _plain_types(field: Field) -> frozenset[type]:
    """What the driver gives and needs no reading."""
    return frozenset(kind for kind, reader in _READERS[field.type].items() if reader is _same)


def _unread(value: Any, field: Field) -> Value:
    if value is None:
        return None if field.nullable else Unknown(f"is NULL, declared {field.type} and not {field.type}|null")
    if isinstance(value, Unknown):
        return value
    return Unknown(f"is a {type(value).__name__}, declared {field.type}; cast it in the query")


# The driver raises for a whole page when one value is beyond Python: a timestamp of `infinity`, an interval of months.
# These loaders put an Unknown in the value's place.


def _forgiving(oid: int, load: Callable[[Callable[[Buffer], Any], Buffer], Any]) -> type[Loader]:
    ordinary = psycopg.adapters.get_loader(oid, Format.TEXT)
    assert ordinary is not None
    make = ordinary

    class Forgiving(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._ordinary = make(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return load(self._ordinary, data)
            except (psycopg.Error, ValueError, OverflowError, RecursionError, NotImplementedError):
                return Unknown("is out of the range that can be read")

    return Forgiving


def _load(ordinary: Callable[[Buffer], Any], data: Buffer) -> Any:
    return ordinary(data)


def _load_exact_interval(ordinary: Callable[[Buffer], Any], data: Buffer) -> Any:
    if re.search(rb"mon|year", bytes(data)):
        return Unknown("is an interval of months, which has no exact length")
    return ordinary(data)


def _load_unpadded(ordinary: Callable[[Buffer], Any], data: Buffer) -> Any:
    return ordinary(data).rstrip(" ")  # blanks at the end of a character(n) are padding and no part of its value


def _load_json(ordinary: Callable[[Buffer], Any], data: Buffer) -> Any:
    return json.loads(bytes(data), parse_float=Decimal)


def _oid(name: str) -> int:
    return psycopg.adapters.types[name].oid


_LOADERS: Final[Mapping[int, type[Loader]]] = {
    **{_oid(name): _forgiving(_oid(name), _load) for name in ("timestamptz", "timestamp", "date", "time", "timetz")},
    **{_oid(name): _forgiving(_oid(name), _load_json) for name in ("json", "jsonb")},
    _oid("interval"): _forgiving(_oid("interval"), _load_exact_interval),
    _oid("bpchar"): _forgiving(_oid("bpchar"), _load_unpadded),
}
_TEXT_LOADERS: Final[Mapping[int, type[Loader]]] = {
    _oid(name): _forgiving(_oid(name), _load) for name in ("text", "varchar", "name")
}
"""For databases in SQL_ASCII, which may hold any bytes."""


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _int_key(key: str) -> str:
    number = int(key) if re.fullmatch(r"[+-]?[0-9]{1,19}", key) else 2**63
    if not -(2**63) <= number < 2**63:
        raise _Misfit("is no whole number, as its column wants")
    return str(number)


def _uuid_key(key: str) -> str:
    try:
        return str(UUID(key))
    except ValueError:
        raise _Misfit("is no uuid, as its column wants") from None


def _numeric_key(key: str) -> str:
    try:
        number = Decimal(key)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > 1000:
        raise _Misfit("is no number, as its column wants")
    return format(number.normalize(), "f") if number else "0"


def _text_key(key: str) -> str:
    if "\0" in key or any("\ud800" <= letter <= "\udfff" for letter in key):
        raise _Misfit("holds characters that no database text has")
    return key


def _char_key(key: str) -> str:
    return _text_key(key).rstrip(" ")


@dataclass(frozen=True, slots=True)
class _KeyColumn:
    """A column that identifies: how it compares in SQL, what keys are cast to, the form in which equal keys agree."""

    expression: str
    cast: str
    canonical: Callable[[str], str]

    def of(self, value: Any) -> str:
        """A key in the form that compares. Raises ``_Misfit`` when it has none."""
        return self.canonical(self.text(value))

    def text(self, value: Any) -> str:
        """A row's key as text. Raises ``_Misfit`` when it has none."""
        if value is None or value == "":
            raise _Misfit("is NULL" if value is None else "is empty")
        if isinstance(value, Unknown):
            raise _Misfit(value.reason)
        return _text(value)


_KEY_TYPES: Final[Mapping[int, tuple[str, Callable[[str], str]]]] = {
    **{_oid(name): ("bigint", _int_key) for name in ("int2", "int4", "int8")},
    **{_oid(name): ("text", _text_key) for name in ("text", "varchar", "name")},
    _oid("bpchar"): ("bpchar", _char_key),
    _oid("uuid"): ("uuid", _uuid_key),
    _oid("numeric"): ("numeric", _numeric_key),
}


def _key_column(name: str, oid: int) -> _KeyColumn:
    """Raises ``_Misfit`` for a type whose text is not its identity, such as a timestamp."""
    column = f"q.{_quoted(name)}"
    if oid in _KEY_TYPES:
        return _KeyColumn(column, *_KEY_TYPES[oid])
    if psycopg.adapters.get_loader(oid, Format.TEXT) is not None:
        raise _Misfit(f"{name} identifies records, and its column's type does not: cast it to text in the query")
    # An enumeration, a citext: compared as the text it is, byte by byte, at the price of its index.
    return _KeyColumn(f'CAST({column} AS text) COLLATE "C"', "text", _text_key)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ── Faults ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Fault(Unreachable):
    """A statement failed. ``of_a_row``: another row, or fewer of them, may well be read."""

    def __init__(self, sentence: str, of_a_row: bool = False, of_the_query: bool = False) -> None:
        super().__init__(sentence)
        self.of_a_row = of_a_row
        self.of_the_query = of_the_query

    def through(self, redact: Redactor) -> _Fault:
        """The same, with no secret in its words."""
        return _Fault(redact(str(self)), self.of_a_row, self.of_the_query)


_CONNECTING: Final = (
    ("authentication failed", "the database refuses this user or password"),
    ("no pg_hba.conf entry", "the database refuses this user from here (pg_hba.conf)"),
    ("refused", "connection refused"),
    ("resolve", "its host name is not known"),
    ("translate host", "its host name is not known"),
    ("not known", "its host name is not known"),
    ("timeout", "connecting took too long"),
    ("certificate", "its TLS certificate is not trusted"),
    ("SSL", "TLS could not be agreed upon"),
    ("No such file", "connection refused"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("too many", "it has no free connections"),
    ("remaining connection slots", "it has no free connections"),
    ("closed the connection", "the connection was lost"),
    ("database", "there is no such database, or this role may not connect to it"),
    ("role", "there is no such role, or it may not log in"),
)
"""What libpq says names host, user and database; what we say does not."""

_STATES: Final[Mapping[str, str]] = {
    "57014": "took longer than its timeout allows",
    "55P03": "waited too long for a lock",
    "25006": "tries to write, and everything here is read-only",
    "25P03": "was left open too long",
    "40001": "was cancelled by the replica's recovery; try `url` for scans or a longer max_standby_streaming_delay",
    "57P01": "was ended by the administrator",
    "57P03": "cannot be served just now: the database is starting up or recovering",
    "53300": "cannot be served: the database has no free connections",
}
_OF_A_ROW: Final = ("21", "22", "38", "39", "54", "P0", "XX001", "XX002")
"""What single rows cause, by SQLSTATE: bad values, a subquery's second row, functions that raise, damage."""


def _fault(error: BaseException) -> _Fault:
    """What happened in a sentence that holds neither address nor values."""
    if isinstance(error, _Fault):
        return error
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(original, TimeoutError | NoFreeConnection):
        return _Fault("the database did not answer in time")
    if isinstance(original, psycopg.Error):
        return _fault_of_driver(original)
    if isinstance(original, UnicodeError):
        return _Fault("a text in it cannot be decoded", of_a_row=True)
    return _Fault(f"the database cannot be used ({type(original).__name__})")


def _fault_of_driver(error: psycopg.Error) -> _Fault:
    state = error.sqlstate
    if state is not None and state in _STATES:
        return _Fault(f"the statement {_STATES[state]}")
    if state is None and isinstance(error, psycopg.DataError):
        return _Fault("a value in it cannot be read", of_a_row=True)
    if state is None or state[:2] in ("08", "28", "3D"):
        said = str(error)
        return _Fault(next((ours for theirs, ours in _CONNECTING if theirs in said), "the database cannot be reached"))
    return _Fault(f"the statement failed: {_named(error)}", state.startswith(_OF_A_ROW), state.startswith("42"))


def _named(error: psycopg.Error) -> str:
    """The error's name; of a mistake in the statement also what PostgreSQL says, nothing quoted but plain names."""
    state = error.sqlstate or ""
    name = f"{re.sub('(?<=[a-z])(?=[A-Z])', ' ', type(error).__name__).lower()} ({state})"
    said = error.diag.message_primary
    if not said or not state.startswith("42"):
        return name
    return f"{name}: {_QUOTED.sub(lambda quoted: quoted[0] if _PLAIN_NAME.fullmatch(quoted[0]) else '…', said)}"


_QUOTED = re.compile(r"""'.*'|"[^"']*"|["'].*""", re.DOTALL)
_PLAIN_NAME = re.compile(r'"[a-z_][a-z0-9_.]{0,62}"')


# ── The database ──────────────────────────────────────────────────────────────────────────────────────────────────────

_SESSION: Final = """
    SELECT set_config('TimeZone', %(zone)s, true), set_config('statement_timeout', %(timeout)s, true),
           set_config('lock_timeout', %(timeout)s, true),
           set_config('idle_in_transaction_session_timeout', %(idle)s, true),
           set_config('IntervalStyle', 'postgres', true), set_config('DateStyle', 'ISO', true),
           set_config('cursor_tuple_fraction', '1', true)
"""
"""For this transaction alone, so that it holds behind a pooler as well."""


class _Database:
    """One address: a few connections, and read-only transactions on them after the fingerprint was seen to hold."""

    def __init__(self, url: URL, settings: SqlSettings) -> None:
        self._fingerprint = settings.fingerprint
        self._timeout = settings.timeout.total_seconds()
        milliseconds = str(max(1, round(self._timeout * 1000)))
        self._session = {
            "zone": settings.timezone or "UTC",
            "timeout": milliseconds,
            "idle": str(round(_IDLE_IN_TRANSACTION.total_seconds() * 1000)),
        }
        self._engine = _engine(url, self._timeout)

    async def begin(self) -> AsyncConnection:
        """A connection in a read-only transaction; whoever takes it gives it to ``end``.

        Raises what the driver raises, and ``_Fault`` when the fingerprint does not hold.
        """
        connection = self._engine.connect()
        try:
            async with asyncio.timeout(2 * self._timeout + 1):
                await connection.start()
                await self.run(connection, _SESSION, self._session)
                await self._recognise(connection)
        except BaseException:
            await self.end(connection)
            raise
        return connection

    async def end(self, connection: AsyncConnection) -> None:
        """Roll back and let go, whatever state it is in."""
        # A broken connection is dropped by the pool; what broke it was told where it broke.
        with contextlib.suppress(SQLAlchemyError, psycopg.Error, OSError):
            await asyncio.shield(asyncio.ensure_future(connection.close()))

    async def run(self, connection: AsyncConnection, statement: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """A statement's rows. The server bounds its time; should the server be gone, we do, a second later."""
        async with asyncio.timeout(self._timeout + 1):
            result = await connection.exec_driver_sql(statement, dict(parameters))
            return result.fetchall() if result.returns_rows else ()

    async def columns(self, connection: AsyncConnection, query: str) -> Sequence[tuple[str, int]]:
        """Names and types of a query's columns, without running it."""
        async with asyncio.timeout(self._timeout + 1):
            result = await connection.exec_driver_sql(_wrapped("*", query, "true LIMIT 0"), {})
            described: Any = result.cursor.description
            return [(column[0], column[1]) for column in described]

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """A statement's rows, in a transaction of its own."""
        connection = await self.begin()
        try:
            return await self.run(connection, statement, parameters)
        finally:
            await self.end(connection)

    async def describe(self, query: str) -> Sequence[tuple[str, int]]:
        """``columns`` in a transaction of its own."""
        connection = await self.begin()
        try:
            return await self.columns(connection, query)
        finally:
            await self.end(connection)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def _recognise(self, connection: AsyncConnection) -> None:
        info = connection.info
        if self._fingerprint is None or info.get("recognised"):
            return
        text = self._fingerprint
        statement = text if begins_as_select(text) else f"SELECT (\n{text}\n)"
        rows = await self.run(connection, _percent(statement), {})
        if not (len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] is True):
            raise _Fault("the fingerprint does not hold: this is another database than the one it was written for")
        info["recognised"] = True


def _engine(url: URL, timeout: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=4,
        max_overflow=6,
        pool_timeout=timeout,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
        execution_options={"postgresql_readonly": True},
        connect_args={
            "application_name": "orderheal",
            "client_encoding": "utf8",
            "connect_timeout": max(2, math.ceil(timeout)),
            "tcp_user_timeout": math.ceil(timeout * 1000),
            "prepare_threshold": None,  # a generic plan loses partial indexes; poolers lose prepared statements
        },
    )
    event.listen(engine.sync_engine, "connect", _teach)
    return engine


def _teach(connection: Any, record: Any) -> None:
    """A new connection learns our loaders."""
    driver = connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    for oid, loader in {**_LOADERS, **(_TEXT_LOADERS if encoding == "SQL_ASCII" else {})}.items():
        driver.adapters.register_loader(oid, loader)


def _wrapped(columns: str, query: str, where: str) -> str:
    """The operator's query with ours around it. All of it is text of the configuration; values are bound."""
    return f"SELECT {columns} FROM (\n{_percent(query)}\n) q WHERE {where}"  # noqa: S608 - see above


def _percent(sql: str) -> str:
    """Written-in text for a driver that takes ``%`` for its own placeholders."""
    return sql.replace("%", "%%")


@dataclass(frozen=True, slots=True)
class _Source:
    """A kind of records whose columns' types are known: makes its statements and reads its rows."""

    name: str
    query: str
    fields: tuple[str, ...]
    readers: tuple[tuple[frozenset[type], Callable[[Any], Value]], ...]
    types: Mapping[str, int]
    key: str

    def select(self, filters: Sequence[str], columns: Sequence[str] | None = None) -> str:
        """The query with filters around it; each filter stands on lines of its own, so that it may end in a comment."""
        names = ", ".join(f"q.{_quoted(name)}" for name in columns or self.fields)
        where = " AND ".join(f"(\n{text}\n)" for text in filters) or "true"
        return _wrapped(names, self.query, where)

    def column(self, name: str) -> _KeyColumn:
        """Raises ``_Misfit`` when the column identifies nothing."""
        if name not in self.types:
            raise _Misfit(f"{self.name} cannot be asked by {name}")
        return _key_column(name, self.types[name])

    def at(self, name: str) -> int:
        """Where in a row a field stands."""
        return self.fields.index(name)

    def of_answer(self, key: str, answer: Answer) -> Sequence[Record]:
        """What a listing gives for a key that it had to ask for: its rows, or one that is unknown but for its key."""
        match answer:
            case Present(records):
                return records
            case Unknown():
                return [{**dict.fromkeys(self.fields, answer), self.key: key}]
        return ()

    def records(self, rows: Sequence[Row]) -> Sequence[Record]:
        """Rows by the declared types; column by column, for a big table is mostly values that are right as they are."""
        columns = (
            [value if type(value) in plain else read(value) for value in column]
            for (plain, read), column in zip(self.readers, zip(*rows, strict=True), strict=bool(rows))
        )
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*columns, strict=True)]


def _source(name: str, records: RecordsSettings, columns: Sequence[tuple[str, int]], zone: ZoneInfo | None) -> _Source:
    """Raises ``_Fault`` when the query does not give the declared fields, or the key identifies nothing."""
    names = [column for column, _ in columns]
    for field in records.fields:
        if names.count(field) != 1:
            how = "no column" if field not in names else "more than one column"
            raise _Fault(f"the query of {name} gives {how} called {field}", of_the_query=True)
    readers = tuple((_plain_types(field), _reader(field, zone)) for field in records.fields.values())
    source = _Source(name, records.query, tuple(records.fields), readers, dict(columns), records.key_field)
    try:
        source.column(source.key)
    except _Misfit as misfit:
        raise _Fault(str(misfit), of_the_query=True) from None
    return source


# ── The connector ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Listing:
    """One listing on its way: what is read, which rows of it, how many at a time."""

    source: _Source
    key: _KeyColumn
    filters: tuple[str, ...]
    size: int

    def after(self, cursor: str | None, more: tuple[str, ...] = ()) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The filters and parameters of what comes after a cursor."""
        if cursor is None:
            return (*self.filters, f"{self.key.expression} IS NOT NULL", *more), {}
        return (*self.filters, f"{self.key.expression} > CAST(%(after)s AS {self.key.cast})", *more), {"after": cursor}

    def page(self, rows: Sequence[Row], last: bool, unreadable: Sequence[str] = ()) -> Page:
        """Rows, which end where the rows of a key end, as a page."""
        at = self.source.at(self.source.key)
        sound: list[Row] = []
        doubts = [*unreadable]
        for value, group in groupby(rows, key=lambda row: row[at]):
            same = list(group)
            if doubt := self.doubt(value, len(same)):
                doubts.append(doubt)
            else:
                sound += same
        cursor = None if last or not rows else self.cursor(rows[-1][at])
        return Page(tuple(self.source.records(sound)), cursor, tuple(doubts[:_REASONS]))

    def last_key(self, rows: Sequence[Row]) -> int:
        """Where the rows of the last key begin."""
        at = self.source.at(self.source.key)
        start = len(rows)
        while start and rows[start - 1][at] == rows[-1][at]:
            start -= 1
        return start

    def cursor(self, value: Any) -> str:
        """What goes on after this key, in the text that PostgreSQL reads back as the same value."""
        if isinstance(value, Unknown):
            raise _Fault(f"the key of a row {value.reason}: no listing can go on after it")
        return _text(value)

    def doubt(self, value: Any, rows: int) -> str | None:
        """Why rows with this key are no records; ``None``: they are."""
        name = self.source.key
        try:
            key = self.key.text(value)
        except _Misfit as misfit:
            return f"{rows} rows without a usable {name}: it {misfit}"
        if key != key.strip():
            return f"{rows} rows without a usable {name}: it begins or ends with blanks, so nobody could ask for it"
        return f"more than {_SAME_KEY} rows have one and the same {name}" if rows > _SAME_KEY else None


class SqlConnector(WithoutCalls):
    """One database of the shop."""

    def __init__(self, name: str, settings: SqlSettings, tools: Tools) -> None:
        self.name = name
        self.shape = _shape(settings)
        self.slots = settings.slots
        self.lag = settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings = settings
        self._tools = tools
        self._zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._primary = _Database(_address(settings.url), settings)
        self._scanned = _Database(_address(settings.replica_url), settings) if settings.replica_url else self._primary
        self._sources: dict[str, _Source] = {}

    async def list(
        self, records: str, where: str | Mapping[str, Value] | None, since: datetime | None, cursor: str | None,
        now: datetime, size: int, hold: bool,
    ) -> AsyncGenerator[Page, None]:  # fmt: skip
        """Pages in the order of the key, each ending where the rows of a key end. Raises ``Unreachable``.

        Close it (``contextlib.aclosing``) when leaving it early: with ``hold`` it keeps a connection in a transaction.
        """
        source = await self._source(records, self._scanned)
        filters = self._filters(self._settings.records[records], where, since, now)
        listing = _Listing(source, source.column(source.key), filters, max(1, size))
        unreadable = await self._without_key(listing) if cursor is None else ()
        if hold:
            try:
                async with contextlib.aclosing(self._streamed(listing, cursor, unreadable)) as streamed:
                    async for page in streamed:
                        cursor, unreadable = page.cursor, ()
                        yield page
            except _Fault as fault:
                if not fault.of_a_row:
                    raise
            else:
                return
        async for page in self._paged(listing, cursor, unreadable):
            yield page

    async def count(self, records: str, now: datetime) -> int | None:
        """How many rows a scan without a rule's filter would read now. Raises ``Unreachable``."""
        source = await self._source(records, self._scanned)
        filters = self._filters(self._settings.records[records], None, None, now)
        return await self._counted(records, source.select(filters, (source.key,)))

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for each key, from the primary, fresh or not.

        A statement sees one state of the right database, so an absence needs neither a control key nor a second look.
        """
        try:
            source = await self._source(records, self._primary)
            column = source.column(by)
        except (_Misfit, _Fault) as error:
            return dict.fromkeys(keys, Unknown(str(error)))
        asked, answers = _canonical(column, keys)
        for part in _parts(list(asked)):
            for canonical, answer in (await self._answered(_Question(source, by, column), part)).items():
                answers.update(dict.fromkeys(asked[canonical], answer))
        return answers

    async def check(self) -> Sequence[str]:
        """What is wrong with the addresses, the role, the fields and the indexes."""
        found: Names = []
        if self._scanned is not self._primary:
            found += await _found(_check_replica(self._scanned))
        try:
            found += await _check_role(self._primary, self._settings)
        except _FAILURES as error:
            return [self._tools.redact(text) for text in (*found, str(_fault(error)))]
        for name, records in self._settings.records.items():
            wrong = await _found(_check_records(self._primary, name, records, self._zone))
            found += [f"{name}: {fault}" for fault in wrong]
        return [self._tools.redact(text) for text in found]

    async def close(self) -> None:
        """Close all connections."""
        await self._primary.close()
        if self._scanned is not self._primary:
            await self._scanned.close()

    # How a listing goes on

    async def _paged(self, listing: _Listing, cursor: str | None, unreadable: Sequence[str]) -> AsyncGenerator[Page]:
        """A transaction each page. A page that fails for one row's sake is read anew, row by row where it must be."""
        while True:
            try:
                rows = await self._page_rows(listing, cursor)
                page = listing.page(rows, len(rows) < listing.size, unreadable)
            except _Fault as fault:
                if not fault.of_a_row:
                    raise
                page = await self._mended(listing, cursor, unreadable)
            yield page
            cursor, unreadable = page.cursor, ()
            if cursor is None:
                return

    async def _page_rows(
        self, listing: _Listing, cursor: str | None, columns: Sequence[str] | None = None
    ) -> Sequence[Row]:
        """A page's rows and all that tie with its last one, or so many of them that there are plainly too many."""
        filters, parameters = listing.after(cursor)
        key, most = listing.key.expression, listing.size + _SAME_KEY
        first = f"{listing.source.select(filters, columns)} ORDER BY {key} FETCH FIRST {listing.size} ROWS WITH TIES"
        statement = f"SELECT * FROM ({first}) q ORDER BY {key} LIMIT {most}"  # noqa: S608 - text of the configuration
        return await self._asked(listing.source.name, self._scanned.rows(statement, parameters))

    async def _mended(self, listing: _Listing, cursor: str | None, unreadable: Sequence[str]) -> Page:
        """A page by its keys first; a row that cannot be read is there with its key, the rest of it unknown."""
        source, column = listing.source, listing.key
        values = [row[0] for row in await self._page_rows(listing, cursor, (source.key,))]
        groups = [(value, len(list(group))) for value, group in groupby(values)]
        doubts = [doubt for value, rows in groups if (doubt := listing.doubt(value, rows))]
        keys = [column.of(value) for value, rows in groups if not listing.doubt(value, rows)]
        question = _Question(source, source.key, column, listing.filters, self._scanned)
        records: list[Record] = []
        for part in _parts(keys):
            for key, answer in (await self._halved(question, part)).items():
                records += source.of_answer(key, answer)
        last = len(values) < listing.size
        return Page(
            tuple(records), None if last else listing.cursor(values[-1]), tuple([*unreadable, *doubts][:_REASONS])
        )

    async def _streamed(self, listing: _Listing, cursor: str | None, unreadable: Sequence[str]) -> AsyncGenerator[Page]:
        """Pages out of one statement: what the server has ready is fetched a page at a time."""
        filters, parameters = listing.after(cursor)
        name, database = listing.source.name, self._scanned
        ordered = f"{listing.source.select(filters)} ORDER BY {listing.key.expression}"
        fetch = f"FETCH {listing.size} FROM listing"
        connection = await self._asked(name, database.begin())
        try:
            await self._asked(name, database.run(connection, f"DECLARE listing CURSOR FOR {ordered}", parameters))
            rows: list[Row] = []
            while fetched := await self._asked(name, database.run(connection, fetch, {})):
                rows += fetched
                if start := listing.last_key(rows):
                    yield listing.page(rows[:start], False, unreadable)
                    unreadable = ()
                rows = rows[start:][: _SAME_KEY + 1]
            yield listing.page(rows, True, unreadable)
        finally:
            await database.end(connection)

    async def _without_key(self, listing: _Listing) -> Sequence[str]:
        """Rows whose key is NULL stand in no page, so they are looked for once, at the beginning."""
        name, filters = listing.source.key, (*listing.filters, f"{listing.key.expression} IS NULL")
        try:
            rows = await self._counted(listing.source.name, f"{listing.source.select(filters, (name,))} LIMIT 1000")
        except _Fault as fault:
            if not fault.of_a_row:
                raise
            return [f"whether there are rows without {name} is not to be known: {fault}"]
        return [f"{rows} rows without a usable {name}: it is NULL"] if rows else []

    async def _counted(self, records: str, statement: str) -> int:
        counting = f"SELECT count(*) FROM ({statement}) counted"  # noqa: S608 - text of the configuration
        return int((await self._asked(records, self._scanned.rows(counting, {})))[0][0])

    # How a question is answered

    async def _answered(self, question: _Question, keys: Sequence[str]) -> Mapping[str, Answer]:
        """The answers for one batch; a statement that fails as a whole leaves all of them unknown."""
        try:
            return await self._halved(question, keys)
        except _Fault as fault:
            if fault.of_the_query:
                self._sources.pop(question.source.name, None)  # perhaps a column has another type now
            return dict.fromkeys(keys, Unknown(str(fault)))

    async def _halved(self, question: _Question, keys: Sequence[str]) -> Mapping[str, Answer]:
        """A batch that fails for a row's sake is halved until that row stands alone. Other failures are raised."""
        answers: dict[str, Answer] = {}
        parts, splits = [keys], _SPLITS
        while parts:
            part = parts.pop()
            try:
                answers.update(await self._batch(question, part))
            except _Fault as fault:
                if not fault.of_a_row:
                    raise
                if len(part) == 1 or not splits:
                    answers.update(dict.fromkeys(part, Unknown(str(fault))))
                else:
                    splits -= 1
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        return answers

    async def _batch(self, question: _Question, keys: Sequence[str]) -> Mapping[str, Answer]:
        """One statement. Rows with keys that were not asked for spoil it: something compares otherwise than we do."""
        source = question.source
        work = (question.database or self._primary).rows(question.statement, {"keys": list(keys)})
        found: dict[str, list[Record]] = {key: [] for key in keys}
        at, rows = source.at(question.by), await self._asked(source.name, work)
        for row, record in zip(rows, source.records(rows), strict=True):
            try:
                found[question.column.of(row[at])].append(record)
            except (_Misfit, KeyError):
                return dict.fromkeys(keys, Unknown("the answer holds records that were not asked for"))
        return {key: Present(tuple(records)) if records else Absent() for key, records in found.items()}

    # Around every statement

    async def _source(self, records: str, database: _Database) -> _Source:
        """The kind of records with its columns' types, asked for once. Raises ``_Fault``."""
        if records not in self._sources:
            settings = self._settings.records[records]
            columns = await self._asked(records, database.describe(settings.query))
            self._sources[records] = _source(records, settings, columns, self._zone)
        return self._sources[records]

    def _filters(
        self, settings: RecordsSettings, where: str | Mapping[str, Value] | None, since: datetime | None, now: datetime
    ) -> tuple[str, ...]:
        """What bounds a scan, as text: under bound parameters the planner would not see that a partial index serves."""
        if isinstance(where, Mapping):
            raise _Fault("a database takes SQL text as `where`, not a map")
        filters = [_percent(at_rule_time(text, now)) for text in (settings.where, where) if text]
        if since is not None and settings.incremental is not None:
            filters.append(f"q.{_quoted(settings.incremental.cursor)} >= {moment_literal(since)}")
        return tuple(filters)

    async def _asked(self, records: str, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the rate, do it, tell of it. Raises ``_Fault``, without the driver's error in its context."""
        await self._wait_for_rate(work)
        began = self._tools.clock.monotonic()
        try:
            result = await work
        except _FAILURES as error:
            fault = _fault(error).through(self._tools.redact)
        else:
            self._tell(records, "ok", began)
            return result
        self._tell(records, "error", began, str(fault))
        raise fault

    async def _wait_for_rate(self, work: Coroutine[Any, Any, T]) -> None:
        """Return when it may begin; whoever gives up waiting has begun nothing."""
        try:
            while self.rate and (seconds := await self._tools.quota.reserve(self.name, *self.rate, tokens=1)):
                await self._tools.clock.sleep(seconds)
        except BaseException:
            work.close()
            raise

    def _tell(self, records: str, outcome: str, began: float, reason: str = "") -> None:
        seconds = self._tools.clock.monotonic() - began
        self._tools.events(Requested(self.name, records, outcome, seconds, reason))


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked for by key, by which column, of which rows, and where when not of the primary."""

    source: _Source
    by: str
    column: _KeyColumn
    filters: tuple[str, ...] = ()
    database: _Database | None = None

    @property
    def statement(self) -> str:
        """The keys are bound as one array, cast to the column's type so that its index serves."""
        return self.source.select(
            (*self.filters, f"{self.column.expression} = ANY(CAST(%(keys)s AS {self.column.cast}[]))")
        )


def _canonical(column: _KeyColumn, keys: Collection[str]) -> tuple[dict[str, Names], dict[str, Answer]]:
    """The keys by the form in which they compare, and the answers for those that the column cannot hold."""
    asked: dict[str, Names] = {}
    answers: dict[str, Answer] = {}
    for key in keys:
        try:
            asked.setdefault(column.of(key.strip() and key), []).append(key)
        except _Misfit as misfit:
            answers[key] = Unknown(f"the key {misfit}")
    return asked, answers


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _KEYS_PER_STATEMENT] for start in range(0, len(keys), _KEYS_PER_STATEMENT))


_FAILURES: Final = (SQLAlchemyError, psycopg.Error, OSError, TimeoutError, UnicodeError, _Fault)


# ── Doctor ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_ROLE: Final = """
    SELECT rolsuper, pg_is_in_recovery(),
           (SELECT count(*) FROM pg_class c
            WHERE c.relkind IN ('r', 'p', 'v', 'f')
              AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
              AND has_schema_privilege(c.relnamespace, 'USAGE')
              AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
    FROM pg_roles WHERE rolname = current_user
"""

_FITTING: Final[Mapping[FieldType, frozenset[str]]] = {
    FieldType.NUMBER: frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"}),
    FieldType.BOOL: frozenset({"bool"}),
    FieldType.TIMESTAMP: frozenset({"timestamp", "timestamptz", "date"}),
    FieldType.DURATION: frozenset({"interval"}),
    FieldType.MAP: frozenset({"json", "jsonb"}),
}


async def _found(checking: Coroutine[Any, Any, Sequence[str]]) -> Sequence[str]:
    """What a check found, or that it could not be made."""
    try:
        return await checking
    except _Misfit as misfit:
        return [str(misfit)]
    except _FAILURES as error:
        return [str(_fault(error))]


async def _check_replica(database: _Database) -> Sequence[str]:
    await database.rows("SELECT 1", {})
    return ()


async def _check_role(database: _Database, settings: SqlSettings) -> Sequence[str]:
    superuser, standby, writable = (await database.rows(_ROLE, {}))[0]
    found = []
    if superuser:
        found.append("the role is a superuser: give orderheal a role of its own that can only SELECT")
    elif writable:
        found.append(f"the role may write to {writable} tables: give orderheal a role that can only SELECT")
    if standby and not settings.lag:
        found.append("`url` leads to a replica: name the primary, or say in `lag` how far behind it may be")
    return found


async def _check_records(
    database: _Database, name: str, records: RecordsSettings, zone: ZoneInfo | None
) -> Sequence[str]:
    columns = await database.describe(records.query)
    source = _source(name, records, columns, zone)
    some_time = datetime(2000, 1, 1, tzinfo=UTC)
    filters = [_percent(at_rule_time(records.where, some_time))] if records.where else []
    await database.rows(f"EXPLAIN {source.select(filters)}", {})
    slow = [by for by in records.by if not await _index_helps(database, source, by)]
    return [
        *_check_types(records, columns, zone),
        *(f"no index answers questions by {by}, each reads a whole table: create one" for by in slow),
    ]


def _check_types(records: RecordsSettings, columns: Sequence[tuple[str, int]], zone: ZoneInfo | None) -> Iterator[str]:
    types = {name: _type_name(oid) for name, oid in columns}
    for name, field in records.fields.items():
        fitting = _FITTING.get(field.type)
        if fitting is not None and types[name] not in fitting:
            yield f"{name} is declared {field.type}, its column is of type {types[name]}: cast it in the query"
        elif field.type is FieldType.TIMESTAMP and types[name] != "timestamptz" and zone is None:
            yield f"{name} carries no time zone: set the connector's `timezone`"


def _type_name(oid: int) -> str:
    known = psycopg.adapters.types.get(oid)
    if known is None:
        return "our own"
    return f"{known.name}[]" if known.array_oid == oid else known.name


_PROBE: Final[Mapping[str, str]] = {
    "bigint": "918273645", "numeric": "918273645", "uuid": "91827364-5000-4000-8000-918273645000",
}  # fmt: skip
_PROBE_TEXT: Final = "orderheal-918273645"


async def _index_helps(database: _Database, source: _Source, by: str) -> bool:
    """Whether the planner, when it wants no table read whole, finds the keys by an index: they then filter no node."""
    column = source.column(by)
    probe = _PROBE.get(column.cast, _PROBE_TEXT)
    wanted = f"{column.expression} = ANY('{{{probe}}}'::{column.cast}[])"
    connection = await database.begin()
    try:
        await database.run(connection, "SET LOCAL enable_seqscan = off", {})
        rows = await database.run(connection, f"EXPLAIN (FORMAT JSON) {source.select((wanted,))}", {})
    finally:
        await database.end(connection)
    return not any(probe in str(node.get("Filter", "")) for node in _nodes(rows[0][0][0]["Plan"]))


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


_EXAMPLE: Final = """\
type: sql
url: ${env:OZON_DB_URL}
timezone: Europe/Moscow
timeout: 30s
fingerprint: current_database() = 'ozon_integration'
records:
  orders:
    query: |
      SELECT market_order_id, posting_number, bitrix_order_id, status, paid, amount, created_at
      FROM orders
    where: created_at > :now - interval '60 days'
    key: ${posting_number}
    by: [posting_number, market_order_id]
    fields:
      market_order_id: string
      posting_number: string
      bitrix_order_id: string|null
      status: string
      paid: bool
      amount: number
      created_at: timestamp
"""

KIND: Final = Kind(name="sql", settings=SqlSettings, shape=_shape, open=SqlConnector, example=_EXAMPLE, lint=_lint)
