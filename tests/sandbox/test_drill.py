"""The sandbox plants and removes orders for drills, and nothing else; the demo that stays up can be drilled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from daemon.sandbox.shops import SHOPS
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.wire.sandbox import Sandbox
from tests.sandbox.conftest import Now
from tests.sandbox.test_demo import ROOT, demo

KEY, ORDERS = "DRILL-1", SHOPS[0].orders


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.control) as client:
        yield client


async def send(sandbox: Sandbox, key: str) -> int:
    """The instruction's call for this order, to the shop's service."""
    environment = sandbox.environment
    headers = {"Authorization": f"Bearer {environment['OZON_INTEGRATION_TOKEN']}"}
    async with httpx.AsyncClient(base_url=environment["OZON_INTEGRATION_URL"], headers=headers) as service:
        return (await service.post("/upload_order", json={"id": key, "number_type": "external"})).status_code


async def test_a_planted_order_is_broken_heals_and_leaves_nothing(sandbox: Sandbox, client: httpx.AsyncClient, now: Now) -> None:
    assert (await client.post("/drill/plant", json={"id": KEY})).status_code == 200
    (row,) = sandbox.world.find(ORDERS, "posting_number", KEY)
    assert not str(row["bitrix_order_id"]).isdigit()
    assert await send(sandbox, KEY) == 200
    (healed,) = sandbox.world.find(ORDERS, "posting_number", KEY)
    assert [deal["id"] for deal in sandbox.world.find(DEALS, "posting_number", KEY)] == [healed["bitrix_order_id"]]
    for _ in range(2):
        assert (await client.post("/drill/remove", json={"id": KEY})).status_code == 200, "removed twice is removed"
    assert not sandbox.world.find(ORDERS, "posting_number", KEY)
    assert not sandbox.world.find(DEALS, "posting_number", KEY)


async def test_a_hopeless_one_does_not_heal(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await client.post("/drill/plant_hopeless", json={"id": "DRILL-2"})
    await send(sandbox, "DRILL-2")
    (row,) = sandbox.world.find(ORDERS, "posting_number", "DRILL-2")
    assert not str(row["bitrix_order_id"]).isdigit()
    await client.post("/drill/remove", json={"id": "DRILL-2"})


@pytest.mark.parametrize("body", [b"{}", b'{"id": "OZ-1"}', b'{"id": 7}', b"[]", b"no"])
@pytest.mark.parametrize("path", ["plant", "plant_hopeless", "remove"])
async def test_nothing_without_the_mark_is_touched(path: str, body: bytes, sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    before = len(sandbox.world.rows[ORDERS])
    assert (await client.post(f"/drill/{path}", content=body)).status_code == 400
    assert len(sandbox.world.rows[ORDERS]) == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_that_stays_up_is_drilled_from_another_terminal_and_outlives_its_daemon() -> None:
    with demo("--keep") as (process, _):
        assert process.stdout is not None
        command = next(line for line in process.stdout if "orderheal status" in line)
        drilled = other_terminal(command.replace("orderheal status", "orderheal drill ozon-order-not-sent --json"))
        (daemon,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(daemon), signal.SIGKILL)
        assert any("was killed by signal 9" in line for line in process.stdout)
        after = other_terminal(command.replace("orderheal status", "orderheal incidents list --json"))
        process.terminate()
        process.stdout.read()
        process.wait()
    assert drilled.returncode == 0, drilled.stderr
    told = json.loads(drilled.stdout)
    print(told)
    assert list(told["stages"]) == ["detect", "act", "prove"]
    assert told["stages"]["prove"] <= 2 * 3600
    assert json.loads(after.stdout), after.stderr


def other_terminal(command: str) -> subprocess.CompletedProcess[str]:
    """What the demo prints to be pasted."""
    script = command.replace("; orderheal ", f"; {sys.executable} -m daemon ")
    return subprocess.run(["sh", "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
