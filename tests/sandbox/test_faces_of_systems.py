"""Every system that the faults touch, seen through the connector that the shipped configuration declares: as inside."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.clock import SystemClock
from daemon.config import Config, load_config
from daemon.demo.setting import lay_out, write_environment
from daemon.domain.shape import Answer, Present
from daemon.domain.value import Timescale, Unknown
from daemon.kinds import Tools
from daemon.sandbox.faults import faults
from daemon.sandbox.inside import InsideConnector
from daemon.sandbox.shops import shop_world
from daemon.sandbox.wire.sandbox import Sandbox
from daemon.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
OTHERS = [fault for fault in faults() if not fault.rule.endswith("order-not-sent")]
# What the wire says of each, field by field; the rest is rounded, guessed or left out on its way. Lamoda is not asked: its
# signatures count by the wall clock, which is not moved by hand.
LIKE: Mapping[str, tuple[str, ...]] = {
    "ozon.postings": ("posting_number", "number", "status", "carrier", "ship_by", "status_since"),
    "ozon.orders": ("number", "id", "state"),
    "kaspi.orders": ("number", "id", "state", "created_at"),
    "namshi.orders": ("id", "number", "posting_number", "status", "state", "amount", "currency", "created_at", "ship_by"),
    "bitrix24.deals": ("id", "market_order_id", "posting_number", "stage"),
    "logistic.packages": ("id", "number", "status", "created_at"),
    "logistic.outbox": (
        "id", "event", "status", "processed_at", "created_at", "package_id", "package_number", "first_error_at", "last_error_at",
        "errors", "error_text",
    ),
    "lamoda-db.order_copies": ("market_order_id", "copies", "posting_numbers", "bitrix_order_ids", "first_at"),
    "kaspi-db.orders": ("posting_number", "market_order_id", "bitrix_order_id", "paid", "ship_by"),
}  # fmt: skip


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> Config:
    setting = lay_out(tmp_path, ROOT / "config.yaml", "127.0.0.1:1")
    return load_config(setting.configs, {**sandbox.environment, "ORDERHEAL_DB_URL": "postgresql://localhost/none"})


def plain(answer: Answer, fields: tuple[str, ...]) -> Any:
    """What an answer says of these fields; times to the second, for some systems tell no more."""
    if not isinstance(answer, Present):
        return getattr(answer, "reason", "absent")
    rows = [{name: row[name] for name in fields} for row in answer.records]
    return [
        {
            name: value.replace(microsecond=0) if hasattr(value, "replace") and hasattr(value, "year") else
            "unknown" if isinstance(value, Unknown) else value
            for name, value in row.items()
        }
        for row in rows
    ]  # fmt: skip


async def test_every_planted_record_is_the_same_on_both_faces(sandbox: Sandbox, config: Config, now: Any) -> None:
    await sandbox.plant(*OTHERS)
    alone = shop_world(sandbox.world.now)
    for fault in OTHERS:
        alone.plant(fault, sandbox.world.now)
    store, clock = MemoryStore(SystemClock(), now.at), SystemClock()
    tools = Tools(clock, store, lambda event: None, Timescale(now.at), lambda: now.at)
    async with AsyncExitStack() as stack:
        for kind, fields in LIKE.items():
            name, records = kind.split(".")
            declared = config.connectors[name]
            unnamed = {"fingerprint": None} if name.endswith("-db") else {}  # databases of tests have names of their own
            there = declared.kind.open(name, declared.settings.model_copy(update=unnamed), tools)
            stack.push_async_callback(there.close)
            here = InsideConnector(name, declared.shape, alone, lambda: now.at)
            keys = sorted(alone.table(kind))
            assert keys, f"no fault plants {kind}"
            mine, theirs = [await one.ask(records, declared.shape.records[records].key, keys, False) for one in (here, there)]
            assert {key: plain(theirs[key], fields) for key in keys} == {key: plain(mine[key], fields) for key in keys}, kind


async def test_an_order_that_namshi_gave_up_sending_to_us_is_one_that_must_not_be_missing(sandbox: Sandbox, config: Config, now: Any) -> None:
    await sandbox.see(lambda world: world.change({"namshi.orders": ({"number": "K-1", "status": "Killed"},)}))
    store, declared = MemoryStore(SystemClock(), now.at), config.connectors["namshi"]
    namshi = declared.kind.open("namshi", declared.settings, Tools(SystemClock(), store, lambda event: None, Timescale(now.at), lambda: now.at))
    try:
        (answer,) = (await namshi.ask("orders", "number", ["K-1"], True)).values()
    finally:
        await namshi.close()
    assert plain(answer, ("status", "state")) == [{"status": "Killed", "state": "new"}]


async def test_a_service_does_all_that_the_instruction_names(sandbox: Sandbox) -> None:
    url, token = sandbox.environment["NAMSHI_INTEGRATION_URL"], sandbox.environment["NAMSHI_INTEGRATION_TOKEN"]
    await sandbox.see(lambda world: world.change({
        "namshi-db.orders": ({"posting_number": "S-1", "bitrix_order_id": "7777"},),
        "namshi.orders": ({"number": "S-2"},),
    }))  # fmt: skip
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        status = await client.post("/change_order_status", json={"order": "MS-1", "status": "paid"})
        comment = await client.post("/appendcomment", json={"order": "MS-1", "text": "Dubai"})
        fetched = await client.post("/notifyOrder", json={"id": "S-2", "number_type": "internal"})
        nobody = await client.post("/change_order_status", json={"order": "nobody", "status": "paid"})
        wrong = await client.post("/appendcomment", json={"order": "MS-1"})
    assert [answer.status_code for answer in (status, comment, fetched, nobody, wrong)] == [200, 200, 200, 422, 400]
    world = sandbox.world
    assert world.rows["bitrix24.deals"]["7777"]["market_order_id"] == "MS-1"
    assert [row["deal_id"] for row in world.rows["bitrix24.comments"].values() if row["text"] == "Dubai"] == ["7777"]
    (row,) = world.find("namshi-db.orders", "market_order_id", "S-2")
    assert world.rows["bitrix24.deals"][str(row["bitrix_order_id"])]["posting_number"] == row["posting_number"]


def test_the_variables_for_a_second_terminal_are_their_owners_alone(tmp_path: Path) -> None:
    path = write_environment(tmp_path, {"TOKEN": "it's; $(echo) x"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == """TOKEN='it'"'"'s; $(echo) x'\n"""
