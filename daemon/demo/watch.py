"""Following the demo from outside: the store's archive, what the world counted, what the daemon logs, as one picture."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

from daemon.domain.incident import Incident, Phase
from daemon.domain.notice import NoticeKind
from daemon.domain.value import Timescale
from daemon.engine.archive import Archive, Gauges, Totals, Wanted
from daemon.sandbox.judge import CROWD, Verdict, judge, seen
from daemon.sandbox.scenario import Scenario
from daemon.sandbox.wire.sandbox import Sandbox
from daemon.sandbox.world import Subject

_KEPT: Final = 10
CALLING: Final = frozenset(NoticeKind) - {
    NoticeKind.END, NoticeKind.GUARD_END, NoticeKind.BLIND_END, NoticeKind.CONNECTOR_WELL
}  # fmt: skip
"""Messages that call somebody, not those that say that it is over."""


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is shown at one moment. ``lasted`` is wall time since the faults were planted."""

    now: datetime
    factor: float
    lasted: timedelta
    gauges: Gauges
    totals: Sequence[Totals]
    verdicts: Sequence[Verdict]
    news: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether every fault has ended as its scenario says."""
        return all(verdict.ok for verdict in self.verdicts)


class Log:
    """The daemon's log on its way to a file; the last lines stay at hand, and what is fresh, but not of a crowd."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.last: deque[str] = deque(maxlen=_KEPT)
        self.raw: deque[str] = deque(maxlen=_KEPT)
        self.crowd: frozenset[str] = frozenset()
        self.fresh: deque[str] = deque()

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Read it to its end."""
        while line := (await stream.readline()).decode(errors="replace"):
            self._file.write(line)
            self._file.flush()
            self.raw.append(line.rstrip())
            if (told := sentence(line, self.crowd)) is not None:
                self.last.append(told)
                self.fresh.append(told)


def sentence(line: str, crowd: frozenset[str] = frozenset()) -> str | None:
    """A line of the log for people; ``None``: about one of a crowd, or nothing that could be read."""
    try:
        entry: dict[str, Any] = json.loads(line)
        at, message = datetime.fromisoformat(entry.pop("at")), str(entry.pop("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return line.rstrip() or None
    subject = str(entry.pop("key", ""))
    if subject in crowd:
        return None
    untold = ("level", "incident", *(("rule",) if subject else ()))
    rest = " ".join(f"{name}={value}" for name, value in entry.items() if name not in untold)
    return " ".join(part for part in (f"{at:%H:%M:%S}", message, subject, rest) if part)


class Watch:
    """Looks at everything that was planted."""

    def __init__(self, archive: Archive, sandbox: Sandbox, timescale: Timescale, log: Log) -> None:
        self._archive, self._sandbox, self._timescale, self._log = archive, sandbox, timescale, log
        self._planted: list[tuple[Scenario, Sequence[Subject]]] = []
        self._began = sandbox.world.now

    async def plant(self, scenarios: Sequence[Scenario]) -> None:
        """Plant them all at once, and remember whose are whose."""
        subjects = list(await self._sandbox.plant(*scenarios))
        self._began = self._sandbox.world.now
        for scenario in scenarios:
            mine, subjects = subjects[: scenario.count], subjects[scenario.count :]
            self._planted.append((scenario, mine))
            if scenario.count >= CROWD:
                self._log.crowd |= frozenset(subject.key for subject in mine)

    async def ready(self) -> bool:
        """Whether every rule has looked at its whole source once."""
        rules = await self._archive.rules()
        return bool(rules) and all(rule.state.last_complete is not None for rule in rules)

    async def look(self) -> Picture:
        """How all stands now."""
        gauges = await self._archive.gauges()
        held = frozenset(gauge.row.name for gauge in gauges.rules if gauge.row.state.held)
        pages = Counter(told.notice.rule for told in await self._archive.notices() if told.notice.kind in CALLING)
        facts = seen(self._sandbox.world, await self._incidents(), held, pages)
        verdicts = [judge(scenario, subjects, facts) for scenario, subjects in self._planted]
        lasted = (gauges.now - self._began) / self._timescale.factor
        totals = await self._archive.totals()
        return Picture(gauges.now, self._timescale.factor, lasted, gauges, totals, verdicts, tuple(self._log.last))

    async def _incidents(self) -> Sequence[Incident]:
        """The incidents of every rule but those of a crowd, which are too many to be listed again and again."""
        every, found = tuple(Phase), list[Incident]()
        for rule in {scenario.rule for scenario, _ in self._planted if scenario.count < CROWD}:
            found += await self._archive.incidents(Wanted(rule=rule, phases=every))
        return found


def open_log(folder: Path) -> TextIO:
    """The file that keeps the daemon's whole log."""
    return (folder / "daemon.log").open("w", encoding="utf-8")
