"""Metrics: counters of what this replica did, from events; gauges of how things stand, from the archive.

    events ──────────────▶ CountEvents ─┐
    archive.gauges() ──▶ Board.refresh ─┴▶ registry ─▶ /metrics

A gauge is read from rows of the store, so every replica shows the same and a scrape may ask any of them; a counter
of events is a replica's own and is summed over replicas. Labels are bounded: rules, connectors, closed lists of words;
never an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from http import HTTPStatus
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from daemon.domain.attempt import Result
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.domain.sight import Verdict
from daemon.domain.standing import Pause
from daemon.engine.archive import Archive, Gauges, RuleGauges
from daemon.engine.events import CycleEnded, Decided, Drilled, Event, Noticed, Requested, Resolved, Scanned, Sighted, Trouble
from daemon.telemetry.health import Page, Serve

_REQUEST_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SCAN_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
_HEAL_SECONDS = (60, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_FATES = ("finished", "fenced", "conflict", "failed")
_TO_PEOPLE = (Phase.ESCALATED, Phase.QUARANTINED)
_ESCALATING = (Why.LADDER_SPENT, Why.REFUSED, Why.QUARANTINED)
"""Why an incident is handed to people, as far as known beforehand; others appear when they happen."""


class CountEvents:
    """Subscriber that counts. Everything known beforehand starts at zero, so that a first increase is seen as one."""

    def __init__(
        self, registry: CollectorRegistry, rules: Iterable[str] = (), connectors: Iterable[str] = (), rates: Mapping[str, float] | None = None,
        drills: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """``rates``: requests per second that a connector may be asked at most, over all replicas. ``drills``: rules that are tried."""
        self.requests = Counter(
            "orderheal_requests",
            "Requests to outside systems.",
            ("connector", "operation", "outcome"),
            registry=registry,
        )
        self.latency = Histogram(
            "orderheal_request_seconds",
            "Time from sending a request to its outcome.",
            ("connector", "operation"),
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "orderheal_request_failures",
            "Requests that failed or were not understood.",
            ("connector",),
            registry=registry,
        )
        self.sightings = Counter("orderheal_sightings", "Looks at subjects, by what they found.", ("rule", "verdict"), registry=registry)
        self.scans = Counter("orderheal_scans", "Scans that came to an end.", ("rule", "result"), registry=registry)
        self.scan_seconds = Histogram(
            "orderheal_scan_seconds",
            "Time of a whole scan over all its slices.",
            ("rule",),
            buckets=_SCAN_SECONDS,
            registry=registry,
        )
        self.cycles = Counter("orderheal_cycles", "Cycles of rules, by how they ended.", ("rule", "fate"), registry=registry)
        self.dispatches = Counter(
            "orderheal_dispatches",
            "Messages handed to channels, by what became of them.",
            ("via", "state"),
            registry=registry,
        )
        self.over_rate = Counter(
            "orderheal_dispatches_over_rate",
            "Messages that a channel's own rate held back until later.",
            ("via",),
            registry=registry,
        )
        self.troubles = Counter("orderheal_troubles", "Mishaps that were survived; the log names each.", registry=registry)
        self.escalations = Counter(
            "orderheal_escalations",
            "Incidents handed to people, by why. The errors of the SLO on healing without a person.",
            ("rule", "why"),
            registry=registry,
        )
        self.time_to_heal = Histogram(
            "orderheal_time_to_heal_seconds",
            "Rule time from opening to proof of the incidents that we healed; the exemplar is an incident.",
            ("rule",),
            buckets=_HEAL_SECONDS,
            registry=registry,
        )
        self.drills = Gauge(
            "orderheal_drill_timestamp_seconds",
            "Rule time of the last drill of a rule that this replica ran, by how it ended; 0: none did so.",
            ("rule", "result"),
            registry=registry,
        )
        self.drill_stages = Gauge(
            "orderheal_drill_stage_seconds",
            "Rule time from planting to each stage in the last drill of a rule that this replica ran.",
            ("rule", "stage"),
            registry=registry,
        )
        limits = Gauge(
            "orderheal_connector_rate_limit",
            "Requests per second that a connector is asked at most, over all replicas.",
            ("connector",),
            registry=registry,
        )
        for connector, rate in (rates or {}).items():
            limits.labels(connector).set(rate)
        for rule in rules:
            self._start(rule)
        for connector in connectors:
            self.failures.labels(connector)
        for rule, result in product(drills, ("passed", "failed")):
            self.drills.labels(rule, result)

    def _start(self, rule: str) -> None:
        for verdict in Verdict:
            self.sightings.labels(rule, verdict.value)
        for result in ("complete", "failed"):
            self.scans.labels(rule, result)
        for fate in _FATES:
            self.cycles.labels(rule, fate)
        self.scan_seconds.labels(rule)
        self.time_to_heal.labels(rule)
        for why in _ESCALATING:
            self.escalations.labels(rule, why.value)

    def __call__(self, event: Event) -> None:
        """Count it, if it is of those that are counted."""
        match event:
            case Requested():
                self._requested(event)
            case Scanned():
                self._scanned(event)
            case Sighted():
                for verdict, count in event.counts.items():
                    self.sightings.labels(event.rule, verdict).inc(count)
            case CycleEnded():
                self.cycles.labels(event.rule, event.fate).inc()
            case Noticed() if event.via:
                self.dispatches.labels(event.via, event.state).inc()
                if event.reason == Why.RATE:
                    self.over_rate.labels(event.via).inc()
            case Decided() if event.phase in _TO_PEOPLE and event.was not in _TO_PEOPLE:
                self.escalations.labels(event.rule, event.why).inc()
            case Resolved(resolution=Resolution.HEALED):
                self.time_to_heal.labels(event.rule).observe(event.seconds, {"incident": event.incident})
            case Drilled():
                self._drilled(event)
            case Trouble():
                self.troubles.inc()

    def _requested(self, event: Requested) -> None:
        self.requests.labels(event.connector, event.operation, event.outcome).inc()
        self.latency.labels(event.connector, event.operation).observe(event.seconds)
        if event.outcome in ("error", Result.UNKNOWN, Result.LATER):
            self.failures.labels(event.connector).inc()

    def _drilled(self, event: Drilled) -> None:
        self.drills.labels(event.rule, "passed" if event.ok else "failed").set(event.at.timestamp())
        self.drill_stages.remove_by_labels({"rule": event.rule})  # a stage that this one did not reach has no time
        for stage, seconds in event.stages.items():
            self.drill_stages.labels(event.rule, stage).set(seconds)

    def _scanned(self, event: Scanned) -> None:
        if event.failed or event.complete:
            self.scans.labels(event.rule, "failed" if event.failed else "complete").inc()
            self.scan_seconds.labels(event.rule).observe(event.seconds)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One metric of the archive: its values by labels beside ``rule``, whether it only grows, what starts at zero."""

    name: str
    help: str
    values: Callable[[RuleGauges], Mapping[tuple[str, ...], float]]
    labels: tuple[str, ...] = ()
    grows: bool = False
    zeros: tuple[tuple[str, ...], ...] = ()


def _one(value: float | None) -> Mapping[tuple[str, ...], float]:
    return {} if value is None else {(): value}


def _by(values: Mapping[str, float]) -> Mapping[tuple[str, ...], float]:
    return {(word,): value for word, value in values.items()}


def _stamp(at: datetime | None) -> float | None:
    return at.timestamp() if at else None


def _each(*kinds: type[StrEnum]) -> tuple[tuple[str, ...], ...]:
    return tuple(product(*([word.value for word in kind] for kind in kinds)))


_SHOWN = (
    _Shown("orderheal_candidates", "Records that the last scan read.", lambda rule: _one(rule.row.state.candidates)),
    _Shown(
        "orderheal_incidents",
        "Live incidents by phase.",
        lambda rule: _by(rule.phases),
        ("phase",),
        zeros=tuple(words for words in _each(Phase) if words != (Phase.RESOLVED.value,)),
    ),
    _Shown("orderheal_decisions", "Live incidents by why they are so.", lambda rule: _by(rule.whys), ("why",)),
    _Shown(
        "orderheal_attempts",
        "Attempts by outcome; without one yet: open.",
        lambda rule: _by({word: count for word, count in rule.attempts.items() if word != "open"}),
        ("outcome",),
        grows=True,
        zeros=_each(Result),
    ),
    _Shown("orderheal_attempts_open", "Attempts on their way.", lambda rule: _one(rule.attempts.get("open", 0))),
    _Shown(
        "orderheal_resolutions",
        "Ended incidents by how they ended.",
        lambda rule: _by(rule.resolutions),
        ("resolution",),
        grows=True,
        zeros=_each(Resolution),
    ),
    _Shown(
        "orderheal_notices",
        "Notices to people by kind and by what became of them.",
        lambda rule: {(kind, state): count for (kind, state), count in rule.notices.items()},
        ("kind", "state"),
        zeros=_each(NoticeKind, DeliveryState),
    ),
    _Shown("orderheal_notices_undelivered", "Notices that reached nobody yet.", lambda rule: _one(rule.undelivered)),
    _Shown(
        "orderheal_incidents_needing_person",
        "Live incidents that wait for a person and that nobody has claimed.",
        lambda rule: _one(rule.needs_person),
    ),
    _Shown("orderheal_deadlines_near", "Live incidents with less than two hours to their deadline.", lambda rule: _one(rule.deadlines_near)),
    _Shown("orderheal_deadlines_missed", "Live incidents whose deadline has passed.", lambda rule: _one(rule.deadlines_missed)),
    _Shown("orderheal_calls_last_hour", "Calls begun in the last hour of rule time.", lambda rule: _one(rule.calls_last_hour)),
    _Shown("orderheal_calls_per_hour_limit", "The rule's max_calls_per_hour.", lambda rule: _one(rule.row.max_calls)),
    _Shown("orderheal_rule_scan_interval_seconds", "The rule's every.", lambda rule: _one(rule.row.every.total_seconds())),
    _Shown("orderheal_rule_unfinished_cycles", "Cycles begun since one came to its end.", lambda rule: _one(rule.row.unfinished)),
    _Shown("orderheal_rule_held", "1 while a guard holds the rule.", lambda rule: _one(rule.row.state.held is not None)),
    _Shown("orderheal_rule_active", "1 while the rule is active.", lambda rule: _one(rule.row.active)),
    _Shown("orderheal_value_at_risk", "Money of live incidents.", lambda rule: _by(_floats(rule.at_risk)), ("currency",)),
    _Shown(
        "orderheal_last_complete_scan_timestamp_seconds",
        "Rule time of the end of the last complete scan.",
        lambda rule: _one(_stamp(rule.row.state.last_complete)),
    ),
)


def _floats(amounts: Mapping[str, Decimal]) -> Mapping[str, float]:
    return {currency: float(amount) for currency, amount in amounts.items()}


class Board:
    """The gauges: shows what was last read from the archive, and since when that is. A prometheus_client collector."""

    def __init__(self, archive: Archive, registry: CollectorRegistry, connectors: Iterable[str] = ()) -> None:
        self._archive = archive
        self._read: Gauges | None = None
        self._up = False
        self._connectors = tuple(connectors)
        registry.register(self)

    async def refresh(self) -> None:
        """Read the archive anew. Raises what it raises; the old values stay, and ``orderheal_archive_up`` says so."""
        self._up = False
        self._read = await self._archive.gauges()
        self._up = True

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known only when rows are."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of the last reading."""
        yield GaugeMetricFamily("orderheal_archive_up", "Whether the last reading of the archive worked.", value=self._up)
        if self._read is None:
            return
        for shown in _SHOWN:
            yield _family(shown, self._read.rules)
        yield _rules(self._read)
        yield from _ages(self._read)
        yield from _pauses(self._read)
        yield _ill(self._read, self._connectors)


def _family(shown: _Shown, rules: Iterable[RuleGauges]) -> Metric:
    kind = CounterMetricFamily if shown.grows else GaugeMetricFamily
    family = kind(shown.name, shown.help, labels=("rule", *shown.labels))
    for rule in rules:
        for words, value in (dict.fromkeys(shown.zeros, 0.0) | dict(shown.values(rule))).items():
            family.add_metric((rule.row.name, *words), float(value))
    return family


def _ages(read: Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("orderheal_rule_time_timestamp_seconds", "Rule time of this reading.", _stamp(read.now))
    oldest = GaugeMetricFamily("orderheal_oldest_incident_seconds", "Age of the oldest live incident, in rule time.", labels=("rule",))
    blind = GaugeMetricFamily(
        "orderheal_rule_blind_seconds", "Rule time for which scans could not tell broken from clean; 0: they can.", labels=("rule",)
    )
    for rule in read.rules:
        oldest.add_metric((rule.row.name,), _age(read.now, rule.row.oldest))
        blind.add_metric((rule.row.name,), _age(read.now, rule.row.state.unknown_since))
    yield from (oldest, blind)


def _age(now: datetime, since: datetime | None) -> float:
    return (now - since).total_seconds() if since else 0.0


def _rules(read: Gauges) -> Metric:
    family = GaugeMetricFamily(
        "orderheal_rule_info", "1 for each rule in its active version: digest, mode, owner.", labels=("rule", "digest", "mode", "owner")
    )
    for row in (rule.row for rule in read.rules):
        family.add_metric((row.name, row.digest[:12], row.mode, row.owner), 1.0)
    return family


def _pauses(read: Gauges) -> Iterator[Metric]:
    paused = GaugeMetricFamily("orderheal_paused", "1 for each pause in force.", labels=("scope", "name"))
    ages = GaugeMetricFamily("orderheal_pause_age_seconds", "Rule time since the oldest pause of a scope began.", labels=("scope", "name"))
    for scope in sorted({_scope(pause) for pause in read.pauses}):
        paused.add_metric(scope, 1.0)
        ages.add_metric(scope, max(_age(read.now, pause.since) for pause in read.pauses if _scope(pause) == scope))
    yield from (paused, ages)


def _ill(read: Gauges, connectors: Iterable[str]) -> Metric:
    family = GaugeMetricFamily("orderheal_connector_ill", "1 while a connector refuses us (401, 403).", labels=("connector",))
    for connector, ill in (dict.fromkeys(connectors, 0.0) | {one.connector: 1.0 for one in read.illnesses}).items():
        family.add_metric((connector,), ill)
    return family


def _scope(pause: Pause) -> tuple[str, str]:
    if pause.rule:
        return "rule", pause.rule
    return ("connector", pause.connector) if pause.connector else ("all", "")


def show_process(registry: CollectorRegistry, version: str, untold: Callable[[], int]) -> None:
    """What concerns this process: which version it is, what it takes of the machine, how often a subscriber failed."""
    ProcessCollector(registry=registry)
    registry.register(_Process(version, untold))


class _Process:
    """A prometheus_client collector over values that others keep."""

    def __init__(self, version: str, untold: Callable[[], int]) -> None:
        self._version, self._untold = version, untold

    def describe(self) -> Iterable[Metric]:
        """Nothing that would have to be known beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The version, and how often telling failed."""
        build = GaugeMetricFamily("orderheal_build_info", "1, labelled with the running version.", labels=("version",))
        build.add_metric((self._version,), 1.0)
        yield build
        yield CounterMetricFamily(
            "orderheal_telling_failures", "Events that a log, metric or other subscriber failed to take.", value=self._untold()
        )


def page_of(registry: CollectorRegistry) -> Serve:
    """The page a scraper reads, in the format it asks for."""

    async def serve(headers: Mapping[str, str]) -> Page:
        encode, kind = choose_encoder(headers.get("accept", ""))
        return Page(HTTPStatus.OK, kind, encode(registry))

    return serve
