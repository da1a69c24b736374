"""Questions by key: an answer for exactly the keys asked, and one bad key or row spoils no other."""

import psycopg
import pytest

from daemon.connectors.sql import _Question
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from tests.connectors_sql.shop import ORDERS, TABLE, Told, connector, execute, tools

NUMBERED = "INSERT INTO orders SELECT i, 'N' || i, 'new', i, now() FROM generate_series(1, 20000) i"


async def test_thousands_of_keys_take_a_statement_each_five_thousand(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    told = Told()
    keys = [str(i) for i in range(10_000, 22_000)]
    async with connector(database, given=tools(told)) as shop:
        answers = await shop.ask("orders", "id", keys, False)
    assert set(answers) == set(keys)
    assert sum(isinstance(answer, Present) for answer in answers.values()) == 10_001
    assert sum(isinstance(answer, Absent) for answer in answers.values()) == 1_999
    assert len(told) == 1 + 3


async def test_a_question_sees_what_no_scan_reads(database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1, 'N1', 'old')")
    async with connector(database, {"orders": {**ORDERS, "where": "false"}}) as shop:
        assert isinstance((await shop.ask("orders", "number", ["N1"], True))["N1"], Present)


async def test_several_records_that_fit_a_key_come_together(database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1, 'N'), (2, 'N'), (3, NULL)")
    async with connector(database) as shop:
        answer = (await shop.ask("orders", "number", ["N"], True))["N"]
    assert isinstance(answer, Present)
    assert sorted(str(record["id"]) for record in answer.records) == ["1", "2"]


@pytest.mark.parametrize(
    ("column", "present", "absent", "unknown"),
    [
        ("bigint", ["7", "007", "+7"], ["8", "-7"], ["", " ", "x", "7.5", "9" * 30, "9223372036854775808"]),
        ("integer", ["7"], ["9223372036854775807"], ["seven"]),
        ("text", ["7", "it's", "100%", "{a,b}", 'a"b', "\\", "NULL", "Ночь"], ["8", "IT'S"], ["", "a\0b", "\ud800"]),
        ("varchar(9)", ["7", "it's"], ["8"], [""]),
        ("char(9)", ["7", "it's"], ["8"], [""]),
        ("uuid", ["00000000-0000-4000-8000-000000000007", "00000000000040008000000000000007"],
         ["00000000-0000-4000-8000-000000000008"], ["7", ""]),
        ("numeric(30,2)", ["7", "7.0"], ["8"], ["x", "NaN", "1e999999999"]),
        ("mood", ["zest"], ["gloom", "joy"], [""]),
    ],
)  # fmt: skip
async def test_a_key_that_the_column_cannot_hold_is_unknown_and_no_other(
    database: str, column: str, present: list[str], absent: list[str], unknown: list[str]
) -> None:
    execute(database, "CREATE TYPE mood AS ENUM ('zest', 'awe', 'joy')", f"CREATE TABLE copies (k {column})")
    with psycopg.connect(database, autocommit=True) as direct:
        for key in present:
            direct.execute("INSERT INTO copies VALUES (%s)", [key])
    kind = {"query": "SELECT k FROM copies", "key": "${k}", "by": ["k"], "fields": {"k": "string"}}
    async with connector(database, {"copies": kind}) as shop:
        answers = await shop.ask("copies", "k", [*present, *absent, *unknown], True)
    assert {key: type(answer) for key, answer in answers.items()} == {
        **dict.fromkeys(present, Present), **dict.fromkeys(absent, Absent), **dict.fromkeys(unknown, Unknown),
    }  # fmt: skip


async def test_one_row_that_makes_the_query_fail_spoils_no_other_answer(database: str) -> None:
    execute(database, TABLE, NUMBERED, "UPDATE orders SET amount = 0 WHERE id IN (1, 777, 3000)")
    divided = {**ORDERS, "query": "SELECT id, number, status, 100 / amount AS amount, created_at FROM orders"}
    async with connector(database, {"orders": divided}) as shop:
        answers = await shop.ask("orders", "id", [str(i) for i in range(1, 3001)], True)
    assert sorted(int(key) for key, answer in answers.items() if isinstance(answer, Unknown)) == [1, 777, 3000]
    assert sum(isinstance(answer, Present) for answer in answers.values()) == 2997


async def test_a_table_of_bad_rows_costs_a_bounded_number_of_statements(database: str) -> None:
    execute(database, TABLE, NUMBERED)
    broken = {**ORDERS, "query": "SELECT id, number, status, amount / 0 AS amount, created_at FROM orders"}
    told = Told()
    async with connector(database, {"orders": broken}, tools(told)) as shop:
        answers = await shop.ask("orders", "id", [str(i) for i in range(1, 4001)], True)
    assert all(isinstance(answer, Unknown) for answer in answers.values())
    assert len(told) < 500


async def test_rows_that_were_not_asked_for_spoil_their_batch(database: str) -> None:
    """In this shop `=` takes `n1` and `N1` for one; keys do not: nothing is concluded from such answers."""
    execute(
        database,
        "CREATE FUNCTION same(a text, b text) RETURNS bool LANGUAGE sql AS $$ SELECT lower(a) LIKE lower(b) $$",
        "CREATE OPERATOR public.= (leftarg = text, rightarg = text, function = same)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$",
        "CREATE TABLE copies (k text)",
        "INSERT INTO copies VALUES ('N1')",
    )
    kind = {"query": "SELECT k FROM copies", "key": "${k}", "by": ["k"], "fields": {"k": "string"}}
    async with connector(database, {"copies": kind}) as shop:
        answers = await shop.ask("copies", "k", ["n1", "other"], True)
    assert [type(answer) for answer in answers.values()] == [Unknown, Unknown]
    assert "not asked for" in str(answers["other"])


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("SELECT id, number, status, amount, created_at FROM orders", "the key's index, through the query"),
        (
            ("SELECT number, min(id) AS id, max(status) AS status, sum(amount) AS amount, min(created_at) AS created_at "
             "FROM orders GROUP BY number"),
            "below GROUP BY",
        ),
        (
            ("SELECT o.id, o.number, o.status, x.amount, o.created_at FROM orders o "
             "LEFT JOIN LATERAL (SELECT sum(amount) AS amount FROM orders y WHERE y.id = o.id) x ON true"),
            "beside LATERAL",
        ),
    ],
    ids=["plain", "group by", "lateral"],
)  # fmt: skip
async def test_keys_reach_the_index(database: str, query: str, where: str) -> None:
    execute(database, TABLE, NUMBERED, "CREATE INDEX ON orders (number)", "VACUUM ANALYZE orders")
    kind = {**ORDERS, "query": query, "key": "${number}", "by": ["number"]}
    kind["fields"] = {**ORDERS["fields"], "number": "string"}
    async with connector(database, {"orders": kind}) as shop:
        source = await shop._source("orders", shop._primary)
        question = _Question(source, "number", source.column("number"))
        plan = str(await shop._primary.rows(f"EXPLAIN {question.statement}", {"keys": [f"N{i}" for i in range(100)]}))
    assert "orders_number_idx" in plan, where
    assert "Seq Scan" not in plan, where


async def test_a_column_that_changes_its_type_is_looked_at_anew(database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1, 'N1')")
    async with connector(database) as shop:
        assert isinstance((await shop.ask("orders", "id", ["1"], True))["1"], Present)
        execute(database, "ALTER TABLE orders ALTER id TYPE text")
        await shop.ask("orders", "id", ["1"], True)
        assert isinstance((await shop.ask("orders", "id", ["1"], True))["1"], Present)


async def test_a_database_has_no_calls(database: str) -> None:
    async with connector(database) as shop:
        with pytest.raises(ValueError, match="has no calls"):
            shop.prepare("delete", {}, "")
