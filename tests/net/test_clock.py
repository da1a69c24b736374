"""Promises of the clocks."""

import asyncio

from daemon.clock import HandClock, SystemClock


async def test_the_system_clock_goes_forward_and_counts_the_time_asleep() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(-1)
    assert clock.monotonic() >= before


async def test_a_hand_clock_stands_still_until_it_is_moved() -> None:
    clock, woken = HandClock(), []

    async def sleeper() -> None:
        await clock.sleep(10)
        woken.append(clock.monotonic())

    task = asyncio.create_task(sleeper())
    await clock.asleep()
    await clock.move(9.5)
    assert (clock.monotonic(), woken, clock.next) == (9.5, [], 0.5)
    await clock.move(0.5)
    assert woken == [10]
    await task


async def test_sleepers_wake_in_the_order_of_their_times_each_at_its_own() -> None:
    clock, woken = HandClock(100), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 30), ("early", 10), ("middle", 20), ("as early", 10)):
            group.create_task(sleeper(name, seconds))
        await clock.asleep(4)
        await clock.move(60)
    assert woken == [("early", 110), ("as early", 110), ("middle", 120), ("late", 130)]
    assert clock.monotonic() == 160


async def test_who_wakes_may_sleep_again_within_the_same_move() -> None:
    clock, ticks = HandClock(), []

    async def ticking() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticking())
    await clock.move(35)
    task.cancel()
    assert ticks == [10, 20, 30]


async def test_who_was_cancelled_wakes_nobody() -> None:
    clock = HandClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.asleep()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next is None
    await clock.move(10)
