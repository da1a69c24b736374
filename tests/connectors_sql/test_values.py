"""What a column holds becomes the declared type, exactly, or is unknown with its reason."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.connectors.sql import _moment
from daemon.domain.value import Unknown, Value
from tests.connectors_sql.shop import connector, listed


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


READ: list[tuple[str, str, Value]] = [
    ("'A-1'::text", "string", "A-1"),
    ("9007199254740993::bigint", "string", "9007199254740993"),
    ("12345678901234567890::numeric", "string", "12345678901234567890"),
    ("1e5::numeric", "string", "100000"),
    ("'2fD4B2a8-0000-4000-8000-00000000000F'::uuid", "string", "2fd4b2a8-0000-4000-8000-00000000000f"),
    ("'A-1'::char(9)", "string", "A-1"),
    ("12::int", "number", 12),
    ("0.10::numeric(20,2)", "number", Decimal("0.10")),
    ("12345678901234567.89::numeric", "number", Decimal("12345678901234567.89")),
    ("1.5::float8", "number", 1.5),
    ("true", "bool", True),
    ("timestamptz '2026-07-01 12:00+03'", "timestamp", at("2026-07-01T09:00")),
    ("timestamp '2026-07-01 12:00:00.123456'", "timestamp", at("2026-07-01T10:00:00.123456")),
    ("date '2026-01-31'", "timestamp", at("2026-01-30T23:00")),
    ("interval '2 days 3 hours'", "duration", timedelta(days=2, hours=3)),
    ("ARRAY['a', NULL, 'b']", "list", ["a", None, "b"]),
    ("ARRAY[[1.5, 2]]::numeric[]", "list", [[Decimal("1.5"), Decimal(2)]]),
    ("ARRAY[timestamp '2026-07-01 12:00']", "list", [at("2026-07-01T10:00")]),
    ("'[1, 0.1, \"x\", null, {\"a\": true}]'::json", "list", [1, Decimal("0.1"), "x", None, {"a": True}]),
    ("'{\"sum\": 10.10, \"lines\": [1]}'::jsonb", "map", {"sum": Decimal("10.10"), "lines": [1]}),
    ("NULL::text", "string|null", None),
    ("'null'::jsonb", "map|null", None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "declared", "expected"), READ, ids=[f"{sql} as {kind}" for sql, kind, _ in READ])
async def test_a_column_is_read_exactly(database: str, column: str, declared: str, expected: Value) -> None:
    value = await read(database, column, declared, timezone="Europe/Berlin")
    assert value == expected
    assert type(value) is type(expected)
    assert str(value) == str(expected), "down to the digits"


@pytest.mark.parametrize(
    ("column", "declared", "reason"),
    [
        ("NULL::text", "string", "is NULL, declared string and not string|null"),
        ("true", "string", "is a bool, declared string"),
        ("1.5::float8", "string", "is a float, declared string"),
        ("now()", "string", "is a datetime, declared string"),
        ("'12'::text", "number", "is a str, declared number"),
        ("true", "number", "is a bool, declared number"),
        ("'NaN'::numeric", "number", "no finite number"),
        ("'Infinity'::numeric", "number", "no finite number"),
        ("'-Infinity'::float8", "number", "no finite number"),
        ("'$5.00'::money", "number", "is a str, declared number"),
        ("1", "bool", "is a int, declared bool"),
        ("'2026-01-01'::text", "timestamp", "is a str, declared timestamp"),
        ("timestamptz 'infinity'", "timestamp", "out of the range"),
        ("timestamptz '10000-01-01'", "timestamp", "out of the range"),
        ("timestamp '0044-03-15 BC'", "timestamp", "out of the range"),
        ("timestamp '0001-01-01'", "timestamp", "out of the range"),
        ("date '-infinity'", "timestamp", "out of the range"),
        ("interval '1 month'", "duration", "no exact length"),
        ("interval '1 year 2 days'", "duration", "no exact length"),
        ("ARRAY[timestamptz 'infinity']", "list", "out of the range"),
        ("ARRAY['\\x00'::bytea]", "list", "holds a bytes"),
        ("'{\"a\": [NaN]}'::text", "map", "is a str"),
        ("('[' || repeat('[', 4000) || repeat(']', 4000) || ']')::json", "list", "out of the range"),
        ("'[1]'::jsonb", "map", "is a list, declared map"),
    ],
)
async def test_what_does_not_fit_is_unknown_with_the_reason(
    database: str, column: str, declared: str, reason: str
) -> None:
    value = await read(database, column, declared, timezone="Europe/Berlin")
    assert isinstance(value, Unknown)
    assert reason in value.reason


@pytest.mark.parametrize("column", ["timestamp '2026-07-01 12:00'", "date '2026-07-01'", "ARRAY[date '2026-07-01']"])
async def test_a_time_without_a_zone_is_unknown_when_nobody_says_the_zone(database: str, column: str) -> None:
    declared = "list" if "ARRAY" in column else "timestamp"
    assert "no time zone" in str(await read(database, column, declared))


async def test_one_unreadable_value_leaves_the_rest_of_its_row_and_the_other_rows(database: str) -> None:
    kind = {
        "query": "SELECT i AS id, CASE i WHEN 2 THEN 'infinity' ELSE now() END AS at, 'x' AS name FROM generate_series(1,3) i",
        "key": "${id}", "by": ["id"], "fields": {"id": "string", "at": "timestamp", "name": "string"},
    }  # fmt: skip
    async with connector(database, {"things": kind}) as shop:
        records = await listed(shop, "things")
    assert [isinstance(record["at"], Unknown) for record in records] == [False, True, False]
    assert [record["name"] for record in records] == ["x"] * 3


async def test_text_that_is_no_utf8_is_unknown_and_the_rest_is_read(pg_server: Any) -> None:
    with psycopg.connect(pg_server.admin, autocommit=True) as admin:
        admin.execute("CREATE DATABASE orderheal_ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'")
    url = pg_server.admin.replace("/postgres?", "/orderheal_ascii?")
    kind = {
        "query": "SELECT i AS id, CASE i WHEN 2 THEN convert_from('\\xcffff0e8e2e5f2'::bytea, 'SQL_ASCII') ELSE 'ok' END AS t "
        "FROM generate_series(1,3) i",
        "key": "${id}", "by": ["id"], "fields": {"id": "string", "t": "string"},
    }  # fmt: skip
    try:
        async with connector(url, {"things": kind}) as shop:
            records = await listed(shop, "things")
    finally:
        pg_server.drop(url)
    assert [type(record["t"]) for record in records] == [str, Unknown, str]


ZONES = ["Europe/Berlin", "Europe/Moscow", "Asia/Almaty", "Asia/Dubai", "America/St_Johns", "Australia/Lord_Howe"]


@pytest.mark.parametrize("zone", ZONES)
def test_a_local_time_is_the_moment_that_postgresql_takes_it_for(database: str, zone: str) -> None:
    """Also in the hour that is there twice and in the one that is not there at all, for years of local half hours."""
    with psycopg.connect(database) as connection:
        connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
        rows = connection.execute(
            "SELECT t, t::timestamptz FROM generate_series(timestamp '2009-12-31', '2026-12-31', '30 minutes') t "
            "WHERE extract(day FROM t) > 24 OR extract(day FROM t) < 9"
        )
        wrong = [(local, moment) for local, moment in rows if _moment(local, ZoneInfo(zone)) != moment.astimezone(UTC)]
    assert wrong == []


@given(st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)), st.sampled_from(ZONES))
def test_a_local_time_always_means_one_moment(local: datetime, zone: str) -> None:
    moment = _moment(local, ZoneInfo(zone))
    assert moment.tzinfo is UTC
    assert moment == _moment(local.replace(fold=1), ZoneInfo(zone))


@pytest.mark.parametrize(("zone", "found"), [("Asia/Almaty", ["1", "2"]), ("UTC", ["2"])])
async def test_filters_compare_local_times_in_the_zone_of_the_connector(
    database: str, zone: str, found: list[str]
) -> None:
    kind = {
        "query": "SELECT * FROM (VALUES (1, timestamp '2026-03-02 10:00'), (2, timestamp '2026-03-02 02:00')) v (id, at)",
        "key": "${id}", "by": ["id"], "fields": {"id": "string", "at": "timestamp"},
    }  # fmt: skip
    async with connector(database, {"things": kind}, timezone=zone) as shop:
        records = await listed(shop, "things", where="at < :now")
    assert [record["id"] for record in records] == found


async def read(database: str, column: str, declared: str, **more: Any) -> Value:
    """The value of one column by one declaration."""
    kind = {
        "query": f"SELECT 1 AS id, {column} AS value",
        "key": "${id}", "by": ["id"], "fields": {"id": "string", "value": declared},
    }  # fmt: skip
    async with connector(database, {"things": kind}, **more) as shop:
        return (await listed(shop, "things"))[0]["value"]
