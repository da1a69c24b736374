"""Named tasks, and what happens when one dies: it is said without secrets, and the process ends non-zero.

A daemon that goes on with half of its tasks looks alive and heals nothing, so the first task that raises (or returns,
when it was to run for ever) ends the crew; an orchestrator starts the process anew, and its leases move its rules on.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class Crew:
    """The tasks of one process. ``fallen`` is set by the first that ends before it was asked to."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self.fallen = asyncio.Event()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which is to go on until it is cancelled, under this name."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._leaving and error is None:
            return
        name = task.get_name()
        info = (type(error), error, error.__traceback__) if error else None
        sentence = "task %s crashed" if error else "task %s ended unasked"
        self._logger.critical(sentence, name, exc_info=info, extra={"fields": {"task": name}})
        self.fallen.set()

    def may_end(self) -> None:
        """From now on a task that ends was asked to."""
        self._leaving = True

    async def leave(self, grace: float = 0.0) -> None:
        """Wait for whatever still runs, at most ``grace`` seconds, then cancel it."""
        self.may_end()
        if grace and self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=grace)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def watch_uncaught(logger: logging.Logger) -> None:
    """Say what nobody caught through the (scrubbed) log: in the main thread and in others."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            logger.critical("unhandled exception", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        value = args.exc_value or args.exc_type()
        info = (args.exc_type, value, args.exc_traceback)
        logger.critical("unhandled exception in a thread", exc_info=info, extra={"fields": {"thread": name}})

    sys.excepthook = uncaught
    threading.excepthook = in_thread


def watch_loop(loop: asyncio.AbstractEventLoop, logger: logging.Logger) -> None:
    """Say what the event loop could hand to nobody."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        info = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
        logger.error("event loop: %s", context.get("message", "unhandled"), exc_info=info)

    loop.set_exception_handler(handle)
