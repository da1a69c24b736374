"""Ticks: the only place that knows APScheduler. It says when a replica looks whether something is due, never what is.

What is due is a row of the store; a tick that is missed or comes twice changes nothing but the moment of looking.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta
from types import TracebackType
from typing import Self

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger


class Schedule:
    """Named jobs, each at its interval, never two of one job at a time, late ones once. An async context."""

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._scheduler.add_listener(lambda event: _report(event, failed), EVENT_JOB_ERROR)

    def every(self, interval: timedelta, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run ``job`` at each ``interval`` (wall time). What it raises goes to ``failed``, and it goes on."""
        self._scheduler.add_job(
            job,
            IntervalTrigger(seconds=max(interval.total_seconds(), 0.01), timezone=UTC),
            id=name,
            name=name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    async def __aenter__(self) -> Self:
        self._scheduler.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scheduler.shutdown(wait=False)


def _report(event: JobExecutionEvent, failed: Callable[[str, BaseException], None]) -> None:
    failed(event.job_id, event.exception)
