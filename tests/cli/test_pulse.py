"""How a replica waits, and how it speaks of a store that is away."""

import asyncio
import logging

from daemon.app import Outage, Pulse, keep_on
from daemon.clock import HandClock
from daemon.engine.events import Event, Trouble
from daemon.engine.ports import Unreachable

LOG = logging.getLogger("test")


async def settle() -> None:
    """Let everyone run until all wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_replica_asks_once_per_tick_however_many_workers_it_has() -> None:
    pulse, outage, asked = Pulse(HandClock()), Outage(lambda event: None), 0

    async def nothing() -> bool:
        nonlocal asked
        asked += 1
        return False

    workers = [asyncio.create_task(keep_on(nothing, pulse, outage, LOG)) for _ in range(3)]
    await settle()
    before = asked
    for _ in range(4):
        await pulse.tick()
        await settle()
    assert asked - before == 4
    pulse.end()
    await asyncio.gather(*workers)


async def test_a_busy_worker_holds_up_nobody() -> None:
    pulse, outage, hold = Pulse(HandClock()), Outage(lambda event: None), asyncio.Event()
    begun: list[int] = []

    async def long() -> bool:
        begun.append(1)
        await hold.wait()
        return False

    workers = [asyncio.create_task(keep_on(long, pulse, outage, LOG)) for _ in range(2)]
    await settle()
    assert len(begun) == 2
    pulse.end()
    hold.set()
    await asyncio.gather(*workers)


async def test_a_store_that_is_away_is_said_once_and_its_return_too() -> None:
    events: list[Event] = []
    pulse, outage, away = Pulse(HandClock()), Outage(events.append), True

    async def ask() -> bool:
        if away:
            raise Unreachable("the store: connection refused")
        return False

    workers = [asyncio.create_task(keep_on(ask, pulse, outage, LOG)) for _ in range(3)]
    for _ in range(5):
        await settle()
        await pulse.tick()
    away = False
    await pulse.tick()
    await settle()
    pulse.end()
    await asyncio.gather(*workers)
    said = [event.sentence for event in events if isinstance(event, Trouble)]
    assert said == ["the store cannot be reached; nothing is decided until it is", "the store is reached again"]


async def test_a_cycle_that_fails_is_its_rules_matter_and_the_worker_goes_on(caplog) -> None:
    pulse, outage, done = Pulse(HandClock()), Outage(lambda event: None), asyncio.Event()
    calls = 0

    async def work() -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug")
        done.set()
        return False

    worker = asyncio.create_task(keep_on(work, pulse, outage, LOG))
    await settle()
    await pulse.tick()
    await done.wait()
    pulse.end()
    await worker
    assert "a cycle failed" in caplog.text
