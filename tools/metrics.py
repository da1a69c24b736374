"""docs/metrics.md from the daemon's own registry: ``python -m tools.metrics`` writes it, ``--check`` says whether it is fresh.

    CountEvents, Board, show_process ─▶ a registry with one of everything ─▶ name, type, labels, help ─▶ docs/metrics.md
    helm/alerts, helm/dashboards ─────▶ who uses it ────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

from prometheus_client import CollectorRegistry

from daemon.domain.standing import Illness, Pause, RuleState
from daemon.engine.archive import Archive, Gauges, RuleGauges, RuleRow
from daemon.engine.events import Decided, Drilled, Noticed, Requested, Resolved
from daemon.telemetry.metrics import Board, CountEvents, show_process

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "metrics.md"
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SUFFIXES: Final = {"counter": ("_total", "_created"), "histogram": ("_bucket", "_sum", "_count", "_created"), "gauge": ("",)}
_NAME: Final = re.compile(r"(?<![:\w])(?:orderheal|process)_[a-z_]+\b(?!:)")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as a scraper sees it; ``name`` is the one that queries use (a histogram's without suffix)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class _One:
    """An archive with one rule, one pause, one illness: enough for every gauge to show."""

    async def gauges(self) -> Gauges:
        """That."""
        row = RuleRow("r", "d", 1, True, "enforce", "team", 1, timedelta(minutes=5), 200, None, None, None, None, 0, _NOW, RuleState(last_complete=_NOW, candidates=1))  # fmt: skip
        rule = RuleGauges(row, whys={"grace": 1}, at_risk={"RUB": Decimal(1)})
        return Gauges(_NOW, (rule,), (Illness("c", _NOW, "401", _NOW),), (Pause("p", "anna", "", _NOW),))


def registry() -> CollectorRegistry:
    """A registry with everything that a replica shows."""
    made = CollectorRegistry()
    count = CountEvents(made, ["r"], ["c"], {"c": 1.0}, ["r"])
    for event in (
        Requested("c", "orders", "ok", 0.1), Noticed("r", "n", "begin", "team", "sentry", "later", "rate"),
        Decided("r", "i", "k", "escalated", "refused"), Resolved("r", "i", "k", "healed", 1.0),
        Drilled("r", "k", True, _NOW, {"detect": 1.0}),
    ):  # fmt: skip
        count(event)
    show_process(made, "1", lambda: 0)
    board = Board(cast("Archive", _One()), made, ["c"])
    asyncio.run(board.refresh())
    return made


def described() -> Iterator[Described]:
    """Every metric, by name."""
    for family in sorted(registry().collect(), key=lambda family: family.name):
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Described(name, family.type, tuple(labels), family.documentation)


def exposed() -> Mapping[str, Described]:
    """Every name that a query may use, with the metric that it belongs to."""
    names: dict[str, Described] = {}
    for one in described():
        base = one.name.removesuffix("_total") if one.kind == "counter" else one.name
        names |= {f"{base}{suffix}": one for suffix in _SUFFIXES.get(one.kind, ("",))} | {one.name: one}
    return names


def used() -> Mapping[str, frozenset[str]]:
    """Names of metrics by who asks for them. Recording rules count as alerts: they exist for what asks for them."""
    texts = {"alerts": " ".join(_expressions(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "helm" / "alerts").glob("*.yaml")))}
    for path in sorted((ROOT / "helm" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        asked = [target.get("expr", "") for panel in board["panels"] for target in panel.get("targets", ())]
        texts[path.stem] = " ".join([*asked, *(mark["target"]["expr"] for mark in board["annotations"]["list"])])
    return {place: frozenset(_NAME.findall(text)) for place, text in texts.items()}


def _expressions(text: str) -> str:
    """A rule file without comments and without what alerts say."""
    return "\n".join(line for line in text.splitlines() if not re.match(r"\s*(#|- (record|name|alert):|summary:|runbook_url:)", line))


def written() -> str:
    """The page."""
    names, places = exposed(), used()
    by = {one.name: [place for place, asked in places.items() if one in {names[name] for name in asked if name in names}] for one in described()}
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels) or '–'} | {one.help} | {', '.join(by[one.name]) or '–'} |"
        for one in described()
    ]
    return f"{_HEAD}{chr(10).join(rows)}\n{_TAIL}"


_HEAD: Final = """\
# Metrics

Made by `python -m tools.metrics` from the daemon's own registry; a test holds it fresh. Gauges, and counters of the kinds
attempts and resolutions, are read from the store's rows every five seconds, so every replica shows the same: take `max`. The other
counters and the histograms are a replica's own and begin anew with its process: take `sum` over `rate` or `increase`. Ages and
times of incidents are in rule time, which outside of the demo is the time on the wall. Labels are bounded: rules, connectors,
closed lists of words; never an object. Histograms offer exemplars in the OpenMetrics format: an incident's id leads from a slow
healing to `orderheal explain`.

The last column says which dashboards and whether alerts ask for a metric; one with – is there for your own queries.

| metric | type | labels | meaning | asked by |
| --- | --- | --- | --- | --- |
"""
_TAIL: Final = """
## Objectives

| objective | of | recorded as | alerts |
| --- | --- | --- | --- |
| 95 % end without a person | incidents that we healed or handed to people | `namespace:orderheal_handed_over:ratio_rate15m`, `…1h`, `…6h` | HealingFailingFast (14.4 × 5 % over 1 h and 15 min), HealingFailing (6 × 5 % over 6 h and 1 h) |
| 90 % are proved healed within half an hour | incidents that we healed | `namespace:orderheal_healed_late:ratio_rate1h`, `…6h` | HealingSlow (3 × 10 % over 6 h and 1 h) |

Few events are no basis for a ratio: these alerts also ask for five events in their longer window.
"""


def main(words: Sequence[str]) -> int:
    """Write the page, or (``--check``) say whether it is stale; the exit code."""
    if "--check" in words:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == written()
        print("" if fresh else "docs/metrics.md is not what tools/metrics.py makes: run make docs", end="" if fresh else "\n")
        return int(not fresh)
    PAGE.write_text(written(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
