"""What doctor says of a database: each fault in a sentence with its remedy, nothing when all is well."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import make_url

from tests.connectors_sql.shop import ORDERS, TABLE, connector, execute

INDEXED = {**ORDERS, "by": ["id"]}


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """The shop's database as a role that can only look."""
    name = str(make_url(database).database)
    role = sql.Identifier(name)
    execute(
        database,
        TABLE,
        "INSERT INTO orders VALUES (1, 'N1')",
        "ANALYZE orders",  # a table that small is read whole, were it not asked what serves a big one
        sql.SQL("CREATE ROLE {} LOGIN").format(role),
        sql.SQL("GRANT SELECT ON orders TO {}").format(role),
    )
    yield make_url(database).set(username=name, password=None).render_as_string(hide_password=False)
    execute(database, sql.SQL("DROP OWNED BY {}").format(role), sql.SQL("DROP ROLE {}").format(role))


async def test_all_is_well_with_a_role_that_only_selects_and_an_index_for_each_question(reader: str) -> None:
    assert await advice(reader, INDEXED) == []


async def test_a_superuser_and_a_writer_are_told(database: str, reader: str) -> None:
    assert "superuser" in (await advice(database, INDEXED))[0]
    execute(database, f'GRANT UPDATE ON orders TO "{make_url(reader).username}"')
    assert "may write to 1 tables" in (await advice(reader, INDEXED))[0]


async def test_a_question_without_an_index_is_told_until_there_is_one(database: str, reader: str) -> None:
    assert await advice(reader, ORDERS) == ["orders: no index answers questions by number, each reads a whole table: create one"]
    execute(database, "CREATE INDEX ON orders (number)")
    assert await advice(reader, ORDERS) == []


async def test_an_index_that_a_cast_hides_is_none(reader: str) -> None:
    hidden = {**INDEXED, "query": "SELECT id::text AS id, number, status, amount, created_at FROM orders"}
    assert "no index answers questions by id" in str(await advice(reader, hidden))


@pytest.mark.parametrize(
    ("column", "declared", "told"),
    [
        ("status", "number", "declared number, its column is of type text"),
        ("ARRAY[1]", "number", "of type int4[]"),
        ("amount", "bool", "declared bool"),
        ("created_at::timestamp", "timestamp", "set the connector's `timezone`"),
        ("created_at::date", "timestamp", "set the connector's `timezone`"),
    ],
)
async def test_a_field_that_its_column_cannot_fill_is_told(reader: str, column: str, declared: str, told: str) -> None:
    kind = {
        **INDEXED, "query": f"SELECT id, {column} AS value FROM orders", "fields": {"id": "string", "value": declared},
    }  # fmt: skip
    assert told in str(await advice(reader, kind))
    if "timezone" in told:
        assert await advice(reader, kind, timezone="Asia/Almaty") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"query": "SELECT id FROM orders"}, "no column called number"),
        ({"query": "SELECT 1 FROM nowhere"}, 'relation "nowhere" does not exist'),
        ({"where": "created > :now"}, "does not exist"),
        ({"query": "SELECT * FROM pg_authid"}, "permission denied"),
    ],
)
async def test_a_query_or_filter_that_does_not_plan_is_told(reader: str, change: dict[str, Any], told: str) -> None:
    found = await advice(reader, {**INDEXED, **change})
    assert len(found) == 1
    assert found[0].startswith("orders: ")
    assert told in found[0]


async def test_a_replica_that_is_away_is_told_and_the_rest_is_looked_at(reader: str) -> None:
    found = await advice(reader, ORDERS, replica_url="postgresql://u:p@127.0.0.1:1/d")
    assert len(found) == 2
    assert "connection refused" in found[0]


async def advice(url: str, orders: dict[str, Any], **more: Any) -> list[str]:
    """What doctor would print."""
    async with connector(url, {"orders": orders}, **more) as shop:
        return [*await shop.check()]
