"""The connector before a portal on loopback: the sandbox's own, or one that answers byte by byte as it is told."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from daemon.connectors.bitrix24 import Bitrix24Connector, Bitrix24Settings
from daemon.domain.value import Timescale
from daemon.engine.events import Event
from daemon.kinds import Tools
from daemon.sandbox.systems import systems
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.wire.bitrix24 import Limits, Portal
from daemon.sandbox.world import World
from daemon.settings import Redactor, Secret

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "canarywebhooksecret"
FIELDS = {"market_order_id": "UF_CRM_MARKET_ORDER_ID", "posting_number": "UF_CRM_POSTING_NUMBER"}
DATA = Path(__file__).parents[1] / "data" / "bitrix24"


def recorded(name: str) -> Any:
    """An answer as it was recorded or documented."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


class Quota:
    """No limit but what the test says; keeps until when it was pushed."""

    def __init__(self, wait: float = 0.0) -> None:
        self.wait, self.pushed = wait, list[datetime]()

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return self.wait

    async def push(self, target: str, until_db: datetime) -> None:
        self.pushed.append(until_db)


class Impatient:
    """Waits for nobody: whoever sleeps moves it."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


def world_of(deals: Iterable[Mapping[str, Any]] = ()) -> World:
    """A world with nothing in it but these deals."""
    system = systems()["bitrix24"]
    world = World(system.stocks, system.deeds, NOW)
    world.change({DEALS: tuple(dict(deal) for deal in deals)})
    return world


def deals(*numbers: int) -> list[dict[str, Any]]:
    """Deals of which the marketplace's numbers follow from their own."""
    return [{"id": str(number), "market_order_id": f"M{number}", "posting_number": f"P{number}"} for number in numbers]


def connector(
    url: str, quota: Quota | None = None, events: list[Event] | None = None, clock: Impatient | None = None, **more: Any
) -> Bitrix24Connector:
    """The connector, opened on this address."""
    secret = Secret(url)
    tools = Tools(
        clock or Impatient(),
        quota or Quota(),
        (events if events is not None else []).append,
        Timescale(NOW),
        lambda: NOW,
        redact=Redactor([secret]),
    )
    return Bitrix24Connector(
        "bitrix24", Bitrix24Settings.model_validate({"url": secret, "deal_fields": FIELDS} | more), tools
    )


@asynccontextmanager
async def serving(app: web.Application, tls: Path | None = None) -> AsyncIterator[str]:
    """An application on a loopback port; its address."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def portal_of(world: World, **more: Any) -> Portal:
    """The sandbox's portal over a world."""

    async def see(look: Callable[[World], Any]) -> Any:
        return look(world)

    return Portal(SECRET, see, **{"limits": Limits(bucket=10_000), **more})


@asynccontextmanager
async def standing(
    world: World,
    *,
    quota: Quota | None = None,
    clock: Impatient | None = None,
    portal: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Bitrix24Connector, Portal]]:
    """The connector before the sandbox's portal."""
    there = portal_of(world, **(portal or {}))
    async with serving(there.application()) as url:
        client = connector(f"{url}/rest/1/{SECRET}/", quota, clock=clock, **more)
        try:
            yield client, there
        finally:
            await client.close()
