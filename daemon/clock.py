"""Time for everyone who may not look at it: the machine's own clock, and one that is moved by hand.

Neither is a wall clock; what moment it is, the store says (law 12). Rehearsals and tests hold a ``HandClock`` and move
it; whoever sleeps on it wakes when it has been moved that far, the earliest first.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count


class SystemClock:
    """Seconds since boot. They go on while the machine is suspended, so a lease cannot be overslept unnoticed."""

    def monotonic(self) -> float:
        """Seconds since boot (CLOCK_BOOTTIME; where a system has none, its CLOCK_MONOTONIC)."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(max(seconds, 0))


class HandClock:
    """A clock that stands still until somebody moves it."""

    def __init__(self, at: float = 0.0) -> None:
        self._now = at
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def monotonic(self) -> float:
        """Seconds it has been moved so far, from where it began."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved that far; for nothing or less at once, after letting others run."""
        if seconds <= 0:
            return await asyncio.sleep(0)
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        self._changed.set()
        try:
            await woken
        finally:
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[2] is not woken]
            heapq.heapify(self._sleepers)

    async def move(self, seconds: float) -> None:
        """Move on, waking sleepers in the order of their times, each at its own time and before the clock goes further.

        Whoever wakes runs until it waits for something else, so what it sleeps next may fall within the same move.
        """
        target = self._now + seconds
        await _let_run()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await _let_run()
        self._now = target
        await _let_run()

    @property
    def next(self) -> float | None:
        """Seconds until the first sleeper wakes; ``None``: nobody sleeps."""
        return self._sleepers[0][0] - self._now if self._sleepers else None

    async def asleep(self, sleepers: int = 1) -> None:
        """Return once so many sleep: the signal on which a test waits before it moves the clock."""
        while len(self._sleepers) < sleepers:
            self._changed.clear()
            await self._changed.wait()


async def _let_run(rounds: int = 50) -> None:
    """Give everyone who can go on some turns of the loop."""
    for _ in range(rounds):
        await asyncio.sleep(0)
