"""A SellerCenter and the integration service before it, on loopback, in one world; files to transfer."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from aiohttp import web

from daemon.config import load_config
from daemon.connectors.http import HttpConnector, HttpSettings
from daemon.connectors.lamoda import LamodaConnector, LamodaSettings
from daemon.sandbox.shops import SHOPS, shop_world
from daemon.sandbox.wire import lamoda as wire
from daemon.sandbox.wire import service
from daemon.sandbox.wire.listener import Listener
from daemon.sandbox.world import Said, World
from daemon.settings import Secret
from tests.net.loopback import NOW
from tests.net.loopback import World as Surroundings

ROOT = Path(__file__).parents[2]
KEY, TOKEN = "canary-key-of-sellercenter", "canary-token-of-the-service"
SHOP = next(shop for shop in SHOPS if shop.name == "lamoda")
CSV = ("SellerSku", "Name", "Brand", "PrimaryCategory", "Price")
XLSX = ("Seller SKU", "Name", "Brand", "Primary Category", "Price")
PRODUCTS = (("A-1", "Платье", "Lichi", "12", "4990"), ("A-2", "Юбка; миди", "Lichi", "12", "-1"), ("007", "Топ", "Lichi", "13", "990"))


def text(rows: Sequence[Sequence[str]] = (CSV, *PRODUCTS), separator: str = ";") -> str:
    return "".join(separator.join(f'"{cell}"' if separator in cell else cell for cell in row) + "\r\n" for row in rows)


def workbook(rows: Sequence[Sequence[Any]] = (XLSX, *PRODUCTS)) -> bytes:
    book, data = openpyxl.Workbook(), io.BytesIO()
    assert book.active is not None
    for row in rows:
        book.active.append(list(row))
    book.save(data)
    return data.getvalue()


class Market:
    """The world of a transfer. Every look at it moves its time by ``step``; ``uploads`` are the keys of the requests that came."""

    def __init__(self) -> None:
        self.world: World = shop_world(NOW)
        self.step = timedelta(0)
        self.uploads: list[str] = []

    async def see(self, look: Callable[[World], Any]) -> Any:
        await asyncio.sleep(0)
        self.world.advance(self.world.now + self.step)
        return look(self.world)

    async def perform(self, call: str, args: Mapping[str, Any], key: str) -> Said:
        return self.world.perform(call, args, key, self.world.now)

    def wall(self) -> datetime:
        """Of a moment that signatures of now fit."""
        return NOW

    def service(self) -> web.Application:
        app = service.application(SHOP, TOKEN, self.perform)
        wire.extend(app, self.see, TOKEN)
        app.middlewares.append(self._kept)
        return app

    @web.middleware
    async def _kept(self, request: web.Request, handler: Callable[[web.Request], Any]) -> Any:
        self.uploads.append(request.headers.get("Idempotency-Key", ""))
        return await handler(request)

    @property
    def imports(self) -> int:
        return len(self.world.rows["lamoda.feed_status"])


class Moving:
    """A clock on which whoever waits moves the world."""

    def __init__(self, market: Market) -> None:
        self.at, self.market = 0.0, market
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.slept.append(seconds)
        self.market.world.advance(self.market.world.now + timedelta(seconds=seconds))
        await asyncio.sleep(0)


@dataclass
class Ways:
    """The two connectors before the world, as ``config.yaml`` declares them."""

    market: Market
    lamoda: LamodaConnector
    service: HttpConnector
    clock: Moving
    listeners: tuple[Listener, Listener]


def declared(url: str, timeout: timedelta = timedelta(seconds=5)) -> HttpSettings:
    """The service as ``config.yaml`` declares it, at this address."""
    found: Any = load_config([ROOT / "config.yaml"], {}, offline=True).connectors["lamoda-integration"].settings
    call = found.calls["save_csv"].model_copy(update={"timeout": timeout})
    update = {"url": url, "headers": {"Authorization": Secret(f"Bearer {TOKEN}")}, "calls": {"save_csv": call}, "rate": None}
    settings: HttpSettings = found.model_copy(update=update)
    return settings


@asynccontextmanager
async def opened(timeout: timedelta = timedelta(seconds=5)) -> AsyncIterator[Ways]:
    market, surroundings = Market(), Surroundings(KEY, TOKEN)
    seller = Listener(lambda: wire.application(market.see, KEY, market.wall))
    integration = Listener(market.service)
    await seller.open()
    await integration.open()
    lamoda = LamodaConnector(
        "lamoda",
        LamodaSettings(url=seller.url, user=Secret(wire.USER), api_key=Secret(KEY), timezone="Asia/Almaty", currency="KZT"),
        surroundings.tools,
    )
    http = HttpConnector("lamoda-integration", declared(integration.url, timeout), surroundings.tools)
    try:
        yield Ways(market, lamoda, http, Moving(market), (seller, integration))
    finally:
        await lamoda.close()
        await http.close()
        await seller.shut()
        await integration.shut()


@contextmanager
def in_background(market: Market, wall: Callable[[], datetime]) -> Iterator[tuple[str, str]]:
    """The addresses of SellerCenter and service, served beside this thread: for commands, which have a loop of their own."""
    loop = asyncio.new_event_loop()
    seller, integration = Listener(lambda: wire.application(market.see, KEY, wall)), Listener(market.service)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        wait(seller.open())
        wait(integration.open())
        yield seller.url, integration.url
    finally:
        wait(seller.shut())
        wait(integration.shut())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def market() -> Market:
    return Market()
