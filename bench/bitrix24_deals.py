"""A hundred thousand deals asked for: how many HTTP requests, and how long at two requests a second.

Stands the sandbox's Bitrix24 on loopback with 100,000 deals, of which nine in ten are asked for, beside as many that are
not there as make 100,000. orderheal asks within the portal's rate, 2/s; then `fast-bitrix24` (1.8) does the same job
before the same portal, whose bucket refuses what comes faster:

- `get_by_ID` of `crm.deal.get`, its documented way to get deals by number: 50 to a request. It raises for the first that is
  missing, so it is asked only for those that are there. As it comes it sends 50 requests abreast, and gives up when the
  portal refuses too many; held to the rate it takes a quarter of an hour, so it is asked for 10,000, and the rest reckoned.
- `get_all` of `crm.deal.list`: every deal of the portal, whatever was asked for. It suits a portal that has no more deals.
- `call` of `crm.deal.list` with filters of 50 numbers, written by hand: what orderheal does, without any check of what comes.

    .venv/bin/python bench/bitrix24_deals.py                  # exit 1 when an answer is wrong
    .venv/bin/python bench/bitrix24_deals.py --peer 100000    # nothing reckoned; a quarter of an hour more
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from fast_bitrix24 import BitrixAsync

from daemon.clock import SystemClock
from daemon.connectors.bitrix24 import Bitrix24Connector, Bitrix24Settings
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Timescale
from daemon.engine.events import Event
from daemon.kinds import Tools
from daemon.sandbox.systems import systems
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.wire.bitrix24 import Portal
from daemon.sandbox.world import World

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "0123456789abcdef"
DEALS_ASKED = 100_000


class Rate:
    """Two requests a second, one after the other, as the store's row grants them."""

    def __init__(self) -> None:
        self._free = time.monotonic()

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """Take the next slot and return 0, or the seconds until there is one."""
        now = time.monotonic()
        if self._free - now > (burst - 1) / rate:
            return self._free - now - (burst - 1) / rate
        self._free = max(self._free, now) + tokens / rate
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        """Wait for a second, as the portal asked for a pause."""
        self._free = max(self._free, time.monotonic() + 1)


def ignore(event: Event) -> None:
    """Nobody listens."""


def world_of(number: int) -> World:
    """A world of so many deals; their numbers are the even ones."""
    system = systems()["bitrix24"]
    world = World(system.stocks, system.deeds, NOW)
    empty = dict.fromkeys(system.stocks[DEALS].records.fields)
    for deal in range(2, 2 * number + 2, 2):
        world.rows[DEALS][str(deal)] = {**empty, "id": str(deal), "title": "Order", "stage": "NEW", "created_at": NOW - timedelta(hours=1)}
    return world


async def stand(world: World) -> tuple[Portal, web.AppRunner, str]:
    """A portal of its own, with the bucket and the operating time of the documentation."""

    async def see(look: Callable[[World], Any]) -> Any:
        return look(world)

    portal = Portal(SECRET, see)
    runner = web.AppRunner(portal.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return portal, runner, f"http://127.0.0.1:{runner.addresses[0][1]}/rest/1/{SECRET}/"


async def orderheal(url: str, keys: list[str]) -> Mapping[str, Any]:
    """Ask for all of them."""
    tools = Tools(SystemClock(), Rate(), ignore, Timescale(NOW), lambda: datetime.now(UTC))
    portal = Bitrix24Connector("bitrix24", Bitrix24Settings.model_validate({"url": url}), tools)
    answers = await portal.ask("deals", "id", keys, False)
    await portal.close()
    return answers


def patient(url: str) -> BitrixAsync:
    """The other client, held to the portal's rate of sending, of which its own limiter falls short."""
    client = BitrixAsync(url, verbose=False, request_pool_size=1, requests_per_second=2.0)
    client.srh.mcr_max = client.srh.mcr_cur_limit = 1
    return client


async def one_by_one(client: BitrixAsync, keys: list[str]) -> int:
    """Its documented way."""
    return len(await client.get_by_ID("crm.deal.get", keys))


async def all_there_are(client: BitrixAsync, keys: list[str]) -> int:
    """Every deal of the portal."""
    found = {deal["ID"] for deal in await client.get_all("crm.deal.list", {"select": ["ID"]})}
    return len(found & set(keys))


async def by_filters(client: BitrixAsync, keys: list[str]) -> int:
    """Commands of 50 numbers each, written by hand."""
    groups = [keys[at : at + 50] for at in range(0, len(keys), 50)]
    pages = await client.call("crm.deal.list", [{"filter": {"@ID": group}, "select": ["ID"], "start": -1} for group in groups])
    return sum(len(page) if isinstance(page, list) else 1 for page in pages)


async def measured(
    name: str, world: World, work: Callable[[str], Awaitable[int]], expected: int, asked: int, of: int = DEALS_ASKED
) -> bool:
    """Do it against a portal of its own, print what it took, and whether it found what there is."""
    portal, runner, url = await stand(world)
    began = time.perf_counter()
    try:
        found = await work(url)
    except RuntimeError as error:
        print(f"{name:<42} {asked:>7,} asked, gave up after {portal.requests:,} requests, {portal.refused:,} of them refused: {error}", flush=True)
        return True  # how another client fares is told, not judged
    finally:
        await runner.cleanup()
    seconds = time.perf_counter() - began
    rest = f", so {portal.requests * of / asked:,.0f} requests and {seconds * of / asked:,.0f} s for all {of:,}" if asked < of else ""
    print(
        f"{name:<42} {asked:>7,} asked, {found:>7,} found, {portal.requests:>5,} requests, {portal.refused} of them refused, {seconds:6.1f} s{rest}",
        flush=True,
    )
    return found == expected


async def run(number: int, peer: int) -> bool:
    """All of it, one after the other."""
    there, missing = number * 9 // 10, number - number * 9 // 10
    world = world_of(number)
    present = [str(2 * deal) for deal in range(1, there + 1)]
    keys = present + [str(2 * deal + 1) for deal in range(1, missing + 1)]

    async def ours(url: str) -> int:
        answers = await orderheal(url, keys)
        absent = sum(isinstance(answer, Absent) for answer in answers.values())
        found = sum(isinstance(answer, Present) for answer in answers.values())
        return found if absent == missing else -1

    good = await measured("orderheal", world, ours, there, number, number)
    await measured("fast-bitrix24, get_by_ID as it comes", world, lambda url: one_by_one(BitrixAsync(url, verbose=False), present), there, there)
    some = [str(2 * deal) for deal in range(1, min(peer, number) + 1)]
    ways = {"get_by_ID": (one_by_one, some), "get_all": (all_there_are, keys), "call, filters by hand": (by_filters, keys)}
    for name, (way, asked) in ways.items():
        good &= await measured(
            f"fast-bitrix24, {name}",
            world,
            lambda url, way=way, asked=asked: way(patient(url), asked),  # type: ignore[misc]
            len(asked) if way is one_by_one else there,
            len(asked),
            number,
        )
    return good


def main() -> int:
    """Measure, print, judge."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--deals", type=int, default=DEALS_ASKED, help="how many are asked for")
    arguments.add_argument("--peer", type=int, default=10_000, help="how many get_by_ID is asked for")
    given = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    return 0 if asyncio.run(run(given.deals, given.peer)) else 1


if __name__ == "__main__":
    sys.exit(main())
