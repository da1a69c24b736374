"""A database that is away, wrong or refuses: one sentence, nothing concluded, and no secret in it."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.settings import Redactor, Secret
from tests.connectors_sql.shop import NOW, ORDERS, TABLE, Told, connector, execute, listed, tools

BAIT = "canary-7Qx"


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """An address where somebody accepts and never says a word."""
    held = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"postgresql://{BAIT}u:{BAIT}p@127.0.0.1:{server.sockets[0].getsockname()[1]}/{BAIT}d"
    for writer in held:
        writer.close()
    server.close()


@pytest.fixture
async def rude() -> AsyncIterator[str]:
    """An address that answers every login with an error that quotes all it was given."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = (await reader.read(1000))[-200:].replace(b"\0", b" ")
        fields = b"SFATAL\0C28P01\0Mpassword authentication failed for " + said + b" " + BAIT.encode() + b"\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    yield f"postgresql://{BAIT}u:{BAIT}p@127.0.0.1:{server.sockets[0].getsockname()[1]}/{BAIT}d?sslmode=disable"
    server.close()


@pytest.fixture
def address(request: pytest.FixtureRequest, database: str) -> str:
    """An address of the kind that the test names."""
    match request.param:
        case "no such host":
            return f"postgresql://{BAIT}u:{BAIT}p@{BAIT}.invalid/{BAIT}d"
        case "refused":
            return f"postgresql://{BAIT}u:{BAIT}p@127.0.0.1:1/{BAIT}d"
        case "no such database":
            return make_url(database).set(database=f"{BAIT}d").render_as_string(hide_password=False)
        case "no such role":
            return make_url(database).set(username=f"{BAIT}u", password=f"{BAIT}p").render_as_string(hide_password=False)
    return str(request.getfixturevalue(request.param))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("no such host", "host name"), ("refused", "refused"), ("no such database", "no such database"),
        ("no such role", "no such role"), ("silent", "in time"), ("rude", "refuses this user or password"),
    ],
    indirect=["address"],
)  # fmt: skip
async def test_a_database_that_cannot_be_reached_says_why_and_not_where(
    address: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    events = Told()
    async with connector(address, given=tools(events), timeout="50ms" if told == "in time" else "5s") as shop:
        with pytest.raises(Unreachable, match=told) as caught:
            await listed(shop)
        with pytest.raises(Unreachable, match=told):
            await shop.count("orders", NOW)
        answers = await shop.ask("orders", "id", ["1", "2"], True)
        advice = await shop.check()
    assert all(isinstance(answer, Unknown) and told in answer.reason for answer in answers.values())
    assert len(advice) == 1
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + str(answers)
    assert BAIT not in said + str(events) + str(advice) + caplog.text


@pytest.mark.parametrize(
    ("query", "where"),
    [
        (f"SELECT *, '{BAIT}'::int AS x FROM orders", None),
        (f"SELECT *, '{BAIT}' + 1 AS x FROM orders", None),
        (f'SELECT *, "{BAIT}" FROM orders', None),
        (f'SELECT * FROM "{BAIT}"', None),
        (f"SELECT * FROM orders WHERE '{BAIT}' '{BAIT}'", None),
        ("SELECT * FROM orders", f"number::int > 0 OR '{BAIT}' = ''"),
        ("SELECT * FROM orders", f"number::{BAIT.replace('-', '')}"),
        (f"SELECT * FROM orders, xmlparse(document '{BAIT}') x", None),
    ],
)
async def test_an_error_that_quotes_the_statement_or_a_row_is_told_without_its_quotes(
    database: str, query: str, where: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    execute(database, TABLE, f"INSERT INTO orders VALUES (1, '{BAIT}')")
    events = Told()
    given = tools(events, redact=Redactor([Secret(BAIT.replace("-", ""))]))
    kind = {**ORDERS, "fields": {**ORDERS["fields"], "x": "string"} if " x " in query else ORDERS["fields"]}
    async with connector(database, {"orders": {**kind, "query": query}}, given) as shop:
        try:
            said = str(await listed(shop, where=where))
        except Unreachable as error:
            said = "".join(traceback.format_exception(error)) + repr(error.__context__)
        answers = await shop.ask("orders", "id", ["1"], True)
        advice = await shop.check()
    told = said + str(list(events)) + str(advice) + caplog.text
    if where is None:
        told += str(answers)
    assert BAIT not in told.replace(f"'number': '{BAIT}'", "")
    assert BAIT.replace("-", "") not in told


async def test_a_mistake_in_the_query_is_named_so_that_it_can_be_found(database: str) -> None:
    async with connector(database) as shop:
        with pytest.raises(Unreachable, match=r'undefined table \(42P01\): relation "orders" does not exist'):
            await listed(shop)


@pytest.mark.parametrize(
    "fingerprint", ["current_database() = 'another'", "SELECT NULL::bool", "SELECT true UNION ALL SELECT true", "SELECT 1"]
)
async def test_nothing_runs_while_the_fingerprint_does_not_hold(database: str, fingerprint: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1)")
    async with connector(database, fingerprint=fingerprint) as shop:
        for hold in (False, True):
            with pytest.raises(Unreachable, match="fingerprint"):
                await listed(shop, hold=hold)
        with pytest.raises(Unreachable, match="fingerprint"):
            await shop.count("orders", NOW)
        assert "fingerprint" in str((await shop.ask("orders", "id", ["1", "9"], True))["9"])
        assert "fingerprint" in str(await shop.check())


async def test_the_fingerprint_is_asked_once_per_connection_and_of_each_address(pg_server: Any, database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1)", "CREATE TABLE mark (ok bool)", "INSERT INTO mark VALUES (true)")
    with pg_server.database(template=database) as replica:
        async with connector(database, replica_url=replica, fingerprint="(SELECT ok FROM mark)") as shop:
            assert len(await listed(shop)) == 1
            assert "Present" in str(await shop.ask("orders", "id", ["1"], True))
            execute(replica, "UPDATE mark SET ok = false")
            assert len(await listed(shop)) == 1, "the connection is known already"
            _cut(replica)
            with pytest.raises(Unreachable, match="fingerprint"):
                await listed(shop)
            assert "Present" in str(await shop.ask("orders", "id", ["1"], True)), "the primary is still the right one"


async def test_a_database_that_was_away_is_used_again(database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders VALUES (1)")
    async with connector(database) as shop:
        assert len(await listed(shop)) == 1
        _cut(database)
        assert len(await listed(shop)) == 1


async def test_a_connection_lost_between_pages_ends_the_listing(database: str) -> None:
    execute(database, TABLE, "INSERT INTO orders SELECT generate_series(1, 9)")
    async with connector(database) as shop:
        listing = shop.list("orders", None, None, None, NOW, 3, True)
        page = await anext(listing)
        _cut(database)
        with pytest.raises(Unreachable):
            await anext(listing)
        assert len(await listed(shop, cursor=page.cursor)) == 9 - len(page.records), "and goes on from its cursor"


async def test_a_query_that_lacks_a_declared_field_is_told_by_its_name(database: str) -> None:
    execute(database, TABLE)
    async with connector(database, {"orders": {**ORDERS, "query": "SELECT id, number, amount, created_at FROM orders"}}) as shop:
        with pytest.raises(Unreachable, match="no column called status"):
            await listed(shop)


async def test_a_key_whose_text_is_not_its_identity_is_refused(database: str) -> None:
    execute(database, TABLE)
    query = "SELECT created_at AS id, number, status, amount, created_at FROM orders"
    async with connector(database, {"orders": {**ORDERS, "query": query}}) as shop:
        with pytest.raises(Unreachable, match="cast it to text"):
            await listed(shop)


def _cut(url: str) -> None:
    """End every other connection to the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
