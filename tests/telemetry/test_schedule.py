"""Ticks come, one at a time, and go on after a failure."""

import asyncio
from datetime import timedelta

from daemon.schedule import Schedule


async def test_a_failing_tick_is_reported_and_the_next_one_comes() -> None:
    ticks: asyncio.Queue[int] = asyncio.Queue()
    failures: list[tuple[str, str]] = []

    async def tick() -> None:
        ticks.put_nowait(1)
        raise RuntimeError("once more")

    schedule = Schedule(lambda name, error: failures.append((name, str(error))))
    schedule.every(timedelta(milliseconds=10), "poll", tick)
    async with schedule:
        for _ in range(3):
            await ticks.get()
    assert failures[0] == ("poll", "once more")


async def test_a_slow_tick_is_never_run_beside_itself() -> None:
    running, most, seen = 0, 0, asyncio.Event()
    other: asyncio.Queue[int] = asyncio.Queue()

    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.set()
        await asyncio.Event().wait()

    async def beat() -> None:
        other.put_nowait(1)

    schedule = Schedule(lambda name, error: None)
    schedule.every(timedelta(milliseconds=10), "slow", slow)
    schedule.every(timedelta(milliseconds=10), "beat", beat)
    async with schedule:
        await seen.wait()
        for _ in range(5):
            await other.get()
    assert most == 1
