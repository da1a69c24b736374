"""A scan's pages: every keyed row once, from any cursor, whatever happens between two pages."""

from contextlib import aclosing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.connectors.sql import _Listing
from daemon.domain.shape import Page
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from tests.connectors_sql.shop import (
    NOW,
    ORDERS,
    TABLE,
    Quota,
    Told,
    ago,
    connector,
    execute,
    listed,
    pages,
    tools,
)  # fmt: skip

NUMBERED = "INSERT INTO orders SELECT i, 'N' || i, 'new', i, now() FROM generate_series(1, 25) i"
BOTH_WAYS = pytest.mark.parametrize("hold", [False, True], ids=["page by page", "one statement"])

COPIES = {"query": "SELECT k, n FROM copies", "key": "${k}", "by": ["k"], "fields": {"k": "string", "n": "number"}}
KEYS = {
    "text": st.text(alphabet="aAäяZ_ -0'%", max_size=3),
    "bigint": st.integers(-3, 12).map(str),
    "uuid": st.integers(0, 9).map(lambda n: f"00000000-0000-4000-8000-00000000000{n}"),
    "numeric": st.sampled_from(["0", "1", "1.0", "1.00", "2.5", "10"]),
    "char(4)": st.sampled_from(["a", "ab", "B", "abcd"]),
    "mood": st.sampled_from(["zest", "awe", "joy"]),
}


@BOTH_WAYS
@pytest.mark.parametrize("column", KEYS)
async def test_any_table_is_read_once_whatever_the_page_and_from_any_cursor(database: str, column: str, hold: bool) -> None:
    execute(database, "CREATE TYPE mood AS ENUM ('zest', 'awe', 'joy')", f"CREATE TABLE copies (n int, k {column})")

    async with connector(database, {"copies": COPIES}) as shop:
        for keys, size in _examples(column):
            with psycopg.connect(database, autocommit=True) as direct:
                direct.execute("TRUNCATE copies")
                with direct.cursor() as cursor:
                    cursor.executemany("INSERT INTO copies VALUES (%s, %s)", list(enumerate(keys)))
            whole = await pages(shop, "copies", size=size, hold=hold)
            readable = {n for n, key in enumerate(keys) if key is not None and key == key.strip() and key}
            assert sorted(record["n"] for page in whole for record in page.records) == sorted(readable)
            assert bool(readable) == any(page.records for page in whole)
            assert (len(readable) < len(keys)) == any(page.unreadable for page in whole)
            assert [page.cursor is None for page in whole] == [False] * (len(whole) - 1) + [True]
            for index, page in enumerate(whole[:-1]):
                rest = await pages(shop, "copies", size=size, hold=hold, cursor=page.cursor)
                assert _met(rest) == _met(whole[index + 1 :])


def _met(met: list[Page]) -> tuple[list[Any], set[Any]]:
    """Keys in their order, and the rows; rows of one key may come in any order, and pages may end elsewhere."""
    records = [record for page in met for record in page.records]
    return [record["k"] for record in records], {record["n"] for record in records}


def _examples(column: str) -> list[tuple[list[str | None], int]]:
    """Tables and page sizes, drawn once: hypothesis makes them, the test walks them in its own loop."""
    drawn: list[tuple[list[str | None], int]] = []

    @settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | KEYS[column], max_size=14), st.integers(1, 5))
    def draw(keys: list[str | None], size: int) -> None:
        drawn.append((keys, size))

    draw()
    return drawn


@BOTH_WAYS
async def test_rows_that_tie_stay_on_one_page(database: str, hold: bool) -> None:
    execute(database, "CREATE TABLE copies AS SELECT i / 4 AS k, i AS n FROM generate_series(0, 39) i")
    async with connector(database, {"copies": COPIES}) as shop:
        met = [{record["k"] for record in page.records} for page in await pages(shop, "copies", size=6, hold=hold)]
    assert len(met) > 3
    assert sum(map(len, met)) == len(set().union(*met)) == 10


@BOTH_WAYS
async def test_a_key_of_countless_rows_is_told_and_not_kept(
    database: str, hold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    page = _Listing.page
    monkeypatch.setattr(_Listing, "page", lambda *given: kept.append(len(given[1])) or page(*given))
    execute(database, "CREATE TABLE copies AS SELECT least(i, 50) AS k, i AS n FROM generate_series(0, 5000) i")
    execute(database, "INSERT INTO copies VALUES (60, 0)")
    async with connector(database, {"copies": COPIES}) as shop:
        whole = await pages(shop, "copies", size=20, hold=hold)
    assert [record["k"] for page in whole for record in page.records] == [*map(str, range(50)), "60"]
    assert [told for page in whole for told in page.unreadable] == ["more than 1000 rows have one and the same k"]
    assert max(kept) <= 20 + 1001


@BOTH_WAYS
async def test_rows_without_a_key_are_counted_and_hold_up_nobody(database: str, hold: bool) -> None:
    execute(database, "CREATE TABLE copies (k text, n int)", "INSERT INTO copies VALUES ('a',1),('',2),(NULL,3),(NULL,4),(' b',5)")
    async with connector(database, {"copies": COPIES}) as shop:
        whole = await pages(shop, "copies", size=1, hold=hold)
        later = await pages(shop, "copies", size=1, hold=hold, cursor="")
    told = [told for page in whole for told in page.unreadable]
    assert [record["n"] for page in whole for record in page.records] == [1]
    assert {"2 rows without a usable k: it is NULL", "1 rows without a usable k: it is empty"} < set(told)
    assert len(told) == 3
    assert "NULL" not in str(later), "the rows without a key are told once a scan"


async def test_rows_that_come_and_go_between_pages_cost_no_other_row(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    seen: list[Any] = []
    async with connector(database) as shop, aclosing(shop.list("orders", None, None, None, NOW, 10, False)) as listing:
        async for page in listing:
            seen += [record["id"] for record in page.records]
            execute(database, "DELETE FROM orders WHERE id IN (3, 14)", "INSERT INTO orders VALUES (0), (200) ON CONFLICT DO NOTHING")
    assert seen == [str(i) for i in [*range(1, 14), *range(15, 26), 200]]


async def test_one_statement_shows_the_state_it_began_with(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    seen: list[Any] = []
    async with connector(database) as shop, aclosing(shop.list("orders", None, None, None, NOW, 10, True)) as listing:
        async for page in listing:
            seen += [record["id"] for record in page.records]
            execute(database, "DELETE FROM orders")
    assert seen == [str(i) for i in range(1, 26)]


@BOTH_WAYS
async def test_no_transaction_outlives_the_page_unless_it_may(database: str, hold: bool) -> None:
    execute(database, TABLE, NUMBERED)
    busy = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'orderheal' AND state = 'idle in transaction'"
    )
    async with connector(database) as shop:
        async with aclosing(shop.list("orders", None, None, None, NOW, 10, hold)) as listing:
            await anext(listing)
            assert _one(database, busy) == int(hold)
        assert _one(database, busy) == 0, "a listing that is left early lets go"


def _one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        return (connection.execute(query).fetchone() or (None,))[0]


@BOTH_WAYS
async def test_a_scan_reads_what_both_filters_let_through_and_only_what_is_new(database: str, hold: bool) -> None:
    execute(
        database, TABLE,
        f"INSERT INTO orders SELECT i, 'N' || i, CASE WHEN i % 2 = 0 THEN '50% off' ELSE 'new' END, i, "
        f"timestamptz '{NOW.isoformat()}' - i * interval '1 hour' FROM generate_series(1, 12) i",
    )  # fmt: skip
    bounded = {
        **ORDERS,
        "where": "created_at > :now - interval '10 hours' -- ten, ':now' counted",
        "incremental": {"cursor": "created_at"},
    }
    async with connector(database, {"orders": bounded}) as shop:
        assert await shop.count("orders", NOW) == 9
        assert await shop.count("orders", NOW + timedelta(hours=5)) == 4
        even = await listed(shop, where="status LIKE '50% %' OR false", hold=hold)
        recent = await listed(shop, since=ago(hours=4), hold=hold)
    assert [record["id"] for record in even] == ["2", "4", "6", "8"]
    assert [record["id"] for record in recent] == ["1", "2", "3", "4"]


@BOTH_WAYS
async def test_one_row_that_makes_the_query_fail_is_unknown_and_the_others_are_read(database: str, hold: bool) -> None:
    execute(database, TABLE, NUMBERED, "UPDATE orders SET amount = 0 WHERE id IN (1, 13, 25)")
    divided = {**ORDERS, "query": "SELECT id, number, status, 100 / amount AS amount, created_at FROM orders"}
    async with connector(database, {"orders": divided}) as shop:
        records = await listed(shop, size=10, hold=hold)
    assert [record["id"] for record in records] == [str(i) for i in range(1, 26)]
    assert [record["id"] for record in records if isinstance(record["amount"], Unknown)] == ["1", "13", "25"]
    assert "division by zero" in str(records[0]["status"])


@BOTH_WAYS
@pytest.mark.parametrize("where", ["nonsense", "1 / (id - 3) > 0", "id = 'x'"])
async def test_a_filter_that_fails_fails_the_listing(database: str, where: str, hold: bool) -> None:
    execute(database, TABLE, NUMBERED)
    async with connector(database) as shop:
        with pytest.raises(Unreachable, match="the statement failed"):
            await listed(shop, where=where, hold=hold)


async def test_a_query_can_write_nothing(database: str) -> None:
    execute(
        database, TABLE, NUMBERED,
        "CREATE FUNCTION spoil() RETURNS text LANGUAGE sql VOLATILE AS $$ DELETE FROM orders RETURNING 'gone' $$",
        "CREATE FUNCTION unlock() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT set_config('transaction_read_only', 'off', false) $$",
    )  # fmt: skip
    for query in ("SELECT *, spoil() FROM orders", "SELECT id, number, unlock() || spoil() AS status, amount, created_at FROM orders"):
        async with connector(database, {"orders": {**ORDERS, "query": query}}) as shop:
            with pytest.raises(Unreachable):
                await listed(shop, where="spoil() <> ''")
            answers = await shop.ask("orders", "id", ["1"], True)
    assert isinstance(answers["1"], Unknown)
    assert _one(database, "SELECT count(*) FROM orders") == 25


async def test_a_statement_ends_at_its_timeout(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    async with connector(database, timeout="100ms") as shop:
        with pytest.raises(Unreachable, match="longer than its timeout"):
            await listed(shop, where="pg_sleep(60) IS NULL")
        assert len(await listed(shop)) == 25, "and the next one runs"


async def test_no_statement_is_left_prepared(database: str) -> None:
    """A generic plan would lose partial indexes, and a pooler hands the next transaction to another connection."""
    execute(database, TABLE, NUMBERED)
    async with connector(database) as shop:
        for _ in range(8):
            await listed(shop)
            await shop.ask("orders", "id", ["1"], True)
        assert await shop._primary.rows("SELECT name FROM pg_prepared_statements", {}) == []


async def test_scans_read_the_replica_and_questions_the_primary(pg_server: Any, database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1, 'primary')")
    with pg_server.database() as replica:
        execute(replica, TABLE, "INSERT INTO orders VALUES (1, 'replica'), (2, 'replica')")
        async with connector(database, replica_url=replica) as shop:
            assert [record["number"] for record in await listed(shop)] == ["replica", "replica"]
            assert await shop.count("orders", NOW) == 2
            for fresh in (False, True):
                assert "primary" in str(await shop.ask("orders", "id", ["1"], fresh))


async def test_a_scan_waits_for_its_rate_and_each_request_is_told(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    told, quota = Told(), Quota(0, 0, 0.0)
    async with connector(database, given=tools(told, quota), rate="10/s") as shop:
        await listed(shop, size=20)
    assert quota.asked == [("shop", 10.0, 10, 1)] * 4
    assert [(event.operation, event.outcome) for event in told] == [("orders", "ok")] * 4


async def test_nothing_is_asked_before_the_rate_allows_it(database: str) -> None:
    import anyio

    execute(database, TABLE, NUMBERED)
    told, given_tools = Told(), None
    given_tools = tools(told, Quota(7.0))
    async with connector(database, given=given_tools, rate="10/s") as shop, anyio.create_task_group() as group:
        group.start_soon(shop.count, "orders", NOW)
        await given_tools.clock.asleep()
        assert told == []
        await given_tools.clock.move(7.0)
    assert len(told) == 2
