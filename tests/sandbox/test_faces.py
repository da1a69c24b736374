"""Both faces of the world, seen through the connectors that the daemon has: equal answers, equal records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.clock import SystemClock
from daemon.connectors import http, sql
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Timescale, Unknown
from daemon.engine.ports import Connector, Unreachable
from daemon.kinds import Tools
from daemon.sandbox.inside import InsideConnector
from daemon.sandbox.scenario import parse
from daemon.sandbox.shops import ORDERS, shapes, shop_world
from daemon.sandbox.wire.sandbox import Sandbox
from daemon.store.memory import MemoryStore

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
ARGS = {"number_type": "posting_number"}


@pytest.fixture
def tools() -> Tools:
    store = MemoryStore(SystemClock(), START)
    return Tools(SystemClock(), store, lambda event: None, Timescale(START), lambda: START)


@pytest.fixture
async def service(sandbox: Sandbox, tools: Tools) -> AsyncIterator[Connector]:
    settings = {
        "url": sandbox.environment["OZON_INTEGRATION_URL"],
        "headers": {"Authorization": f"Bearer {sandbox.environment['OZON_INTEGRATION_TOKEN']}"},
        "timeout": "500ms",
        "calls": {
            "upload_order": {
                "method": "POST", "path": "/upload_order", "body": {"id": "${id}", "number_type": "${number_type}"},
                "idempotent": True, "done": "status == 200 && body.success == true",
                "refused": "status == 422 || status == 200 && body.success == false",
            }
        },
    }  # fmt: skip
    connector = http.KIND.open("ozon-integration", http.KIND.settings.model_validate(settings), tools)
    yield connector
    await connector.close()


@pytest.fixture
async def database(sandbox: Sandbox, tools: Tools) -> AsyncIterator[Connector]:
    settings = {
        "url": sandbox.environment["KASPI_DB_URL"],
        "timezone": "Asia/Almaty",
        "records": {
            "orders": {
                "query": f"SELECT {', '.join(ORDERS.fields)} FROM orders",
                "where": "created_at > :now - interval '60 days'",
                "key": "${posting_number}",
                "by": sorted(ORDERS.by),
                "fields": {name: field.type + "|null" * field.nullable for name, field in ORDERS.fields.items()},
            }
        },
    }
    connector = sql.KIND.open("kaspi-db", sql.KIND.settings.model_validate(settings), tools)
    yield connector
    await connector.close()


WORDS = ["done", "refused", {"answer": "later", "retry_after": "3s"}, 500, "html", "reset", "timeout",
         "timeout_after_effect", "no_effect"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS, ids=str)
async def test_an_answer_means_the_same_on_both_faces(sandbox: Sandbox, service: Connector, word: Any) -> None:
    number = f"F-{WORDS.index(word)}"
    world = {"ozon-db.orders": [{"posting_number": number}]}
    scenario = parse({"name": number, "world": world, "calls": {"ozon-integration.upload_order": word}})
    await sandbox.plant(scenario)
    alone = shop_world(START)
    alone.plant(scenario, START)
    inside = InsideConnector("ozon-integration", shapes()["ozon-integration"], alone, lambda: START)
    args = {"id": number, **ARGS}
    here = await inside.perform(inside.prepare("upload_order", args, number))
    there = await service.perform(service.prepare("upload_order", args, number))
    assert (there.result, there.retry_at_db) == (here.result, here.retry_at_db)
    assert len(sandbox.world.effected(number)) == len(alone.effected(number))


async def test_a_row_is_the_same_record_on_both_faces(sandbox: Sandbox, database: Connector) -> None:
    rows = [
        {"posting_number": "R-1", "amount": 12, "ship_by": None, "created_at": "2026-02-01T10:00:00+00:00"},
        {"posting_number": "R-2", "status": None, "created_at": "2025-02-01T10:00:00+00:00"},
    ]
    scenario = parse({"name": "rows", "world": {"kaspi-db.orders": rows}})
    await sandbox.plant(scenario)
    alone = shop_world(sandbox.world.now)
    alone.plant(scenario, sandbox.world.now)
    inside = InsideConnector("kaspi-db", shapes()["kaspi-db"], alone, lambda: alone.now)
    keys = ["R-1", "R-2", "R-3"]
    here = await inside.ask("orders", "posting_number", keys, True)
    there = await database.ask("orders", "posting_number", keys, True)
    assert here["R-3"] == there["R-3"] == Absent()
    for key in ("R-1", "R-2"):
        mine, theirs = here[key], there[key]
        assert isinstance(mine, Present)
        assert isinstance(theirs, Present)
        plain = [{name: "unknown" if isinstance(value, Unknown) else value for name, value in row.items()}
                 for row in (mine.records[0], theirs.records[0])]  # fmt: skip
        assert plain[0] == plain[1]
    listings = [connector.list("orders", None, None, None, START, 1000, False) for connector in (inside, database)]
    found = [{row["posting_number"] for page in [page async for page in pages] for row in page.records} for pages in listings]
    assert found[0] == {number for number in found[1] if str(number).startswith("R-")} == {"R-1"}


async def test_a_database_that_is_down_is_unknown_on_both_faces(sandbox: Sandbox, database: Connector) -> None:
    alone = shop_world(START)
    inside = InsideConnector("kaspi-db", shapes()["kaspi-db"], alone, lambda: START)
    alone.switch("kaspi-db", up=False)
    await sandbox.live(lambda: sandbox.world.switch("kaspi-db", up=False))
    for connector in (inside, database):
        assert isinstance((await connector.ask("orders", "posting_number", ["R-1"], False))["R-1"], Unknown)
        with pytest.raises(Unreachable):
            _ = [page async for page in connector.list("orders", None, None, None, START, 10, False)]
    await sandbox.live(lambda: sandbox.world.switch("kaspi-db", up=True))
    assert (await database.ask("orders", "posting_number", ["nobody"], False))["nobody"] == Absent()
