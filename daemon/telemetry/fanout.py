"""One event to every subscriber. Telling must never disturb the work, so a subscriber that raises is only counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daemon.engine.events import Event


class Fanout:
    """The ``Events`` port: hands each event to every subscriber, and cannot fail."""

    def __init__(self, subscribers: Sequence[Callable[[Event], None]]) -> None:
        self._subscribers = tuple(subscribers)
        self.failures = 0
        """How many tellings failed; a metric shows it, since a log may be what is broken."""

    def __call__(self, event: Event) -> None:
        """Tell everyone, whatever becomes of it."""
        for tell in self._subscribers:
            try:
                tell(event)
            except Exception:  # news are not worth a cycle; the count stays visible
                self.failures += 1
