"""Signs of life: a ping only while every rule looks at its whole source, a check-in after each end of a scan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from daemon.clock import HandClock
from daemon.domain.standing import RuleState
from daemon.domain.value import Timescale
from daemon.engine.archive import RuleRow
from daemon.engine.events import Event, Requested, Scanned, Trouble
from daemon.kinds import Tools
from daemon.settings import Redactor, Secret
from daemon.telemetry.alive import CheckIns, DeadMan, Watcher, margin, overdue

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)
ALERTS = Path(__file__).parents[2] / "helm" / "alerts" / "alerts.yaml"


def row(name: str = "r", ago: timedelta | None = timedelta(0), every: timedelta = FIVE, active: bool = True) -> RuleRow:
    state = RuleState(last_complete=None if ago is None else NOW - ago)
    return RuleRow(name, "d", 1, active, "enforce", "team", 1, every, 200, None, None, None, None, 0, None, state)


def ended(rule: str = "r", failed: str = "", complete: bool = True) -> Scanned:
    return Scanned(rule, 10, 1, 9, 0, 0, 1.5, complete, failed)


@pytest.mark.parametrize(
    ("late", "given"),
    [
        pytest.param(False, row(ago=timedelta(minutes=25)), id="three intervals and ten minutes are in time"),
        pytest.param(True, row(ago=timedelta(minutes=25, seconds=1)), id="a second more is not"),
        pytest.param(False, row(ago=timedelta(hours=3), every=timedelta(hours=1)), id="it depends on the rule's interval"),
        pytest.param(True, row(ago=None), id="a rule that never scanned completely is overdue"),
        pytest.param(False, row(ago=None, active=False), id="a rule that is not active owes nothing"),
    ],
)
def test_a_rule_is_overdue_when_its_last_complete_scan_is_too_long_ago(late: bool, given: RuleRow) -> None:
    assert bool(overdue([given], NOW)) is late


def test_the_alert_on_scans_draws_the_same_line() -> None:
    [rule] = [
        rule
        for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if rule["alert"] == "OrderhealNoCompleteScan"
    ]
    for every in (FIVE, timedelta(hours=1)):
        line = (every + margin(every)).total_seconds()
        assert line == 3 * every.total_seconds() + 600
    assert "> 3 * max by (namespace, rule) (max_over_time(orderheal_rule_scan_interval_seconds[2m])) + 600" in rule["expr"]


@dataclass
class Outside:
    """Somebody who waits to hear from us; what came."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@asynccontextmanager
async def outside() -> AsyncIterator[tuple[Outside, DeadMan]]:
    there = Outside()

    async def take(request: web.Request) -> web.Response:
        there.paths.append(str(request.rel_url))
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/{tail:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ping/canary-uuid?source=orderheal"
    redact = Redactor([Secret(there.url)])
    tools = Tools(HandClock(), NoQuota(), there.events.append, Timescale(NOW), lambda: NOW, redact=redact)
    man = DeadMan(there.url, tools)
    try:
        yield there, man
    finally:
        await man.close()
        await runner.cleanup()


class NoQuota:
    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        raise AssertionError("a ping asks nobody for leave")

    async def push(self, target: str, until_db: datetime) -> None:
        pass


async def test_it_is_pinged_while_every_rule_has_scanned_completely() -> None:
    async with outside() as (there, man):
        await man.ping([row("a"), row("b")], NOW)
        await man.ping([row("a"), row("b")], NOW)
    assert there.paths == ["/ping/canary-uuid?source=orderheal"] * 2
    assert [event.outcome for event in there.events if isinstance(event, Requested)] == ["ok", "ok"]


async def test_one_overdue_rule_silences_it_and_that_is_told_once() -> None:
    late = row("b", ago=timedelta(hours=1))
    async with outside() as (there, man):
        for _ in range(3):
            await man.ping([row("a"), late], NOW)
        assert there.paths == []
        await man.ping([row("a"), row("b")], NOW)
        await man.ping([row("a"), late], NOW)
    assert len(there.paths) == 1
    assert [event.fields for event in there.events if isinstance(event, Trouble)] == [{"rules": "b"}] * 2


async def test_without_any_active_rule_nothing_is_claimed() -> None:
    async with outside() as (there, man):
        await man.ping([], NOW)
        await man.ping([row(active=False, ago=None)], NOW)
    assert there.paths == []


@dataclass
class Monitors:
    """A connector that keeps monitors; what it was told."""

    checks_in: bool = True
    told: list[tuple[str, timedelta, timedelta, bool, float]] = field(default_factory=list)

    async def check_in(self, rule: str, every: timedelta, margin: timedelta, ok: bool, seconds: float) -> None:
        self.told.append((rule, every, margin, ok, seconds))


async def test_each_end_of_a_scan_is_told_once_with_what_to_expect_next() -> None:
    monitors, check_ins = Monitors(), CheckIns({"r": FIVE, "s": timedelta(hours=1)})
    assert isinstance(monitors, Watcher)
    for event in (ended("r", complete=False), ended("r"), ended("s", failed="refused", complete=False), ended("removed"), Trouble("odd")):
        check_ins(event)
    await check_ins.send([monitors])
    await check_ins.send([monitors])
    assert monitors.told == [
        ("r", FIVE, timedelta(minutes=20), True, 1.5),
        ("s", timedelta(hours=1), timedelta(minutes=130), False, 1.5),
    ]


async def test_of_several_ends_between_two_tellings_the_last_counts() -> None:
    monitors, check_ins = Monitors(), CheckIns({"r": FIVE})
    check_ins(ended(failed="refused", complete=False))
    check_ins(replace(ended(), seconds=2.5))
    await check_ins.send([monitors])
    assert monitors.told == [("r", FIVE, timedelta(minutes=20), True, 2.5)]
