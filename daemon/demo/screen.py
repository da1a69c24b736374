"""The demo's faces: a live view on a terminal, plain lines in a pipe, the summary for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from daemon.demo.watch import Picture
from daemon.engine.archive import RuleGauges, Totals
from daemon.sandbox.judge import Verdict

_PROVED: Final = ("healed", "self_healed", "handled")


def live(picture: Picture) -> RenderableType:
    """The running view."""
    clock = Text.assemble(
        ("orderheal demo", "bold"),
        f"   rule time {picture.now:%H:%M}, {picture.factor:g} times as fast",
        f"   {picture.lasted.total_seconds():.0f}s   ",
        (f"{sum(verdict.ok for verdict in picture.verdicts)} of {len(picture.verdicts)} faults at their end", "green"),
    )
    news = Text("\n".join(picture.news), no_wrap=True, overflow="ellipsis")
    return Group(clock, _running(picture.gauges.rules), Panel(news, title="last events", height=12))


def _running(rules: Sequence[RuleGauges]) -> Table:
    table = Table(expand=True)
    for name in ("rule", "found", "waiting", "acting", "escalated", "proved", "gone"):
        table.add_column(name, justify="left" if name in ("rule", "waiting") else "right", overflow="fold")
    busy = [(gauge, cells) for gauge in rules if (cells := running(gauge))["found"]]
    for gauge, cells in busy:
        table.add_row(*(str(cells[name]) for name in cells), style="yellow" if gauge.row.state.held else None)
    table.caption = _nothing(len(rules) - len(busy))
    return table


def _nothing(rules: int) -> str | None:
    """Where the rules are that are not shown."""
    return f"{rules} more rules have found nothing" if rules else None


def running(gauge: RuleGauges) -> Mapping[str, Any]:
    """One rule's line of the running view."""
    acting = gauge.attempts.get("open", 0)
    waiting = ", ".join(f"{why} {number}" for why, number in sorted(gauge.whys.items()) if why not in ("told", "proved"))
    return {
        "rule": gauge.row.name,
        "found": sum(gauge.phases.values()) + sum(gauge.resolutions.values()),
        "waiting": waiting,
        "acting": acting,
        "escalated": gauge.phases.get("escalated", 0),
        "proved": sum(gauge.resolutions.get(way, 0) for way in _PROVED) + gauge.phases.get("proved", 0),
        "gone": gauge.resolutions.get("gone", 0),
    }


def summary(picture: Picture) -> Mapping[str, Any]:
    """The end of the demo for programs. Durations are seconds of rule time."""
    return {
        "ok": picture.ok,
        "factor": picture.factor,
        "seconds": round(picture.lasted.total_seconds(), 1),
        "rules": [_summed(totals) for totals in picture.totals],
        "faults": [_fault(verdict) for verdict in picture.verdicts],
    }


def _summed(totals: Totals) -> Mapping[str, Any]:
    return {
        "rule": totals.rule,
        "found": totals.found,
        "healed": totals.healed,
        "self_healed": totals.self_healed,
        "handled": totals.handled,
        "gone": totals.gone,
        "escalated": totals.escalated,
        "calls": totals.calls,
        "time_to_heal": totals.median.total_seconds() if totals.median is not None else None,
    }


def _fault(verdict: Verdict) -> Mapping[str, Any]:
    return {
        "fault": verdict.name,
        "rule": verdict.rule,
        "planted": verdict.planted,
        "expected": verdict.expected,
        "seen": verdict.seen,
        "calls": verdict.calls,
        "time_to_heal": verdict.healed_in.total_seconds() if verdict.healed_in is not None else None,
        "ok": verdict.ok,
        "differs": list(verdict.differs),
    }


def show_summary(console: Console, picture: Picture) -> None:
    """The end of the demo for people: a line per rule, a line per fault, and what differs."""
    told = summary(picture)
    busy = [rule for rule in told["rules"] if rule["found"]]
    rules = Table(title="Rules", title_justify="left", caption=_nothing(len(told["rules"]) - len(busy)), caption_justify="left")
    for name in told["rules"][0] if told["rules"] else ():
        rules.add_column(name.replace("_", " "), justify="left" if name == "rule" else "right")
    for rule in busy:
        rules.add_row(*(_cell(name, value) for name, value in rule.items()))
    faults = Table(title="Faults", title_justify="left")
    for name in ("fault", "planted", "expected end", "seen end", "calls", "time to heal", ""):
        faults.add_column(name, justify="right" if name in ("planted", "calls", "time to heal") else "left")
    for verdict in picture.verdicts:
        mark = Text("✓", "green") if verdict.ok else Text("✗", "red")
        took = _cell("time_to_heal", verdict.healed_in and verdict.healed_in.total_seconds())
        faults.add_row(verdict.name, str(verdict.planted), verdict.expected, verdict.seen, verdict.calls, took, mark)
    console.print(rules)
    console.print(faults)
    for verdict in picture.verdicts:
        for difference in verdict.differs:
            console.print(Text(f"✗ {verdict.name}: {difference}", "red"))
    right = sum(verdict.ok for verdict in picture.verdicts)
    console.print(f"{right} of {len(picture.verdicts)} faults ended as planned, after {told['seconds']:g}s")


def _cell(name: str, value: Any) -> str:
    if name == "time_to_heal":
        return "—" if value is None else minutes(timedelta(seconds=value))
    return str(value)


def minutes(lasted: timedelta) -> str:
    """Rule time in whole minutes."""
    return f"{lasted.total_seconds() / 60:.0f}m"


def for_programs(picture: Picture) -> str:
    """The summary as JSON."""
    return json.dumps(summary(picture), ensure_ascii=False, indent=2)
