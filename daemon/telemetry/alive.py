"""Signs of life to the outside, for whoever has to call a person when orderheal itself is gone.

    rules' rows ─▶ overdue ─ nobody is ─▶ DeadMan ─▶ GET alerts.deadman.url
    Scanned ─────▶ CheckIns ────────────▶ watchers (a monitor per rule)

Silence is the alarm on both ways, so each says only what was done: the ping goes out while every active rule has looked at
its whole source lately, by the store's rows; the check-in follows the end of a rule's scan. A sign that fails to go out is
not repeated: the next one is due soon, and one that stays away is what the other side waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from daemon.engine.archive import RuleRow
from daemon.engine.events import Event, Scanned, Trouble
from daemon.net import Client, Surroundings

SLACK: Final = timedelta(minutes=10)
"""How long a scan itself may take before its rule counts as overdue: the alert OrderhealNoCompleteScan allows the same."""

MISSED: Final = 3
"""Scans in a row that may be missing."""

_TIMEOUT: Final = timedelta(seconds=10)


@runtime_checkable
class Watcher(Protocol):
    """A connector that keeps a monitor per rule on the other side, if it is told to."""

    @property
    def checks_in(self) -> bool:
        """Whether it is to be told."""
        ...

    async def check_in(self, rule: str, every: timedelta, margin: timedelta, ok: bool, seconds: float) -> None:
        """Say that a scan of this rule ended; the next is expected after ``every``, at most ``margin`` later."""
        ...


def margin(every: timedelta) -> timedelta:
    """How late the next complete scan of a rule may be."""
    return (MISSED - 1) * every + SLACK


def overdue(rows: Iterable[RuleRow], now: datetime) -> Sequence[str]:
    """Active rules whose last complete scan is missing or too long ago. Pure; ``now`` is rule time."""
    return [
        row.name
        for row in rows
        if row.active and (row.state.last_complete is None or now - row.state.last_complete > row.every + margin(row.every))
    ]


class DeadMan:
    """Pings a URL as long as every rule looks at its whole source. Whose silence it is, the other side calls somebody."""

    def __init__(self, url: str, tools: Surroundings) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        parts = urlsplit(url)
        self._url, self._events = url, tools.events
        self._client = Client("deadman", f"{parts.scheme}://{parts.netloc}", tools, timeout=_TIMEOUT)
        self._silent: Sequence[str] = ()

    async def ping(self, rows: Sequence[RuleRow], now: datetime) -> None:
        """One ping, if no rule is overdue and there is any; why not is told once."""
        late = overdue(rows, now)
        if late and late != self._silent:
            self._events(Trouble("no dead-man ping: a rule has not scanned completely for too long", {"rules": " ".join(late)}))
        self._silent = late
        if not late and any(row.active for row in rows):
            await self._client.read("ping", "GET", self._url)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()


class CheckIns:
    """Subscriber that keeps the last end of a scan per rule until it is sent. Lost in a crash it is missed, as it should be."""

    def __init__(self, every: Mapping[str, timedelta]) -> None:
        self._every = every
        self._ended: dict[str, Scanned] = {}

    def __call__(self, event: Event) -> None:
        """Keep it, if a scan came to its end."""
        if isinstance(event, Scanned) and (event.failed or event.complete) and event.rule in self._every:
            self._ended[event.rule] = event

    async def send(self, watchers: Sequence[Watcher]) -> None:
        """Tell every watcher what ended since the last time."""
        ended, self._ended = self._ended, {}
        for scanned in ended.values():
            every = self._every[scanned.rule]
            for watcher in watchers:
                await watcher.check_in(scanned.rule, every, margin(every), not scanned.failed, scanned.seconds)
