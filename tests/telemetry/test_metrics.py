"""Metrics: counters of this replica, gauges of the archive; bounded labels, zeros from the start, sound names."""

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from daemon.domain.incident import Why
from daemon.domain.standing import Held, Illness, Pause, RuleState
from daemon.engine.archive import Gauges, RuleGauges, RuleRow
from daemon.engine.events import CycleEnded, Decided, Drilled, Noticed, Requested, Resolved, Scanned, Sighted, Trouble
from daemon.telemetry.metrics import Board, CountEvents, page_of, show_process

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROW = RuleRow(
    name="ozon-order-not-sent",
    digest="d",
    revision=1,
    active=True,
    mode="enforce",
    owner="team",
    severity=1,
    every=timedelta(minutes=5),
    max_calls=200,
    next_scan_at=None,
    next_visit_at=None,
    holder=None,
    until_db=None,
    unfinished=0,
    oldest=NOW - timedelta(hours=2),
    state=RuleState(candidates=40_000, last_complete=NOW - timedelta(minutes=1), held=Held(NOW, Why.MAX_BROKEN, 101, 100.0)),
)
RULE = RuleGauges(
    row=ROW,
    phases={"open": 2, "escalated": 1},
    whys={"settling": 2, "ladder_spent": 1},
    attempts={"done": 7, "open": 1},
    resolutions={"healed": 5},
    notices={("begin", "failed"): 1},
    undelivered=1,
    calls_last_hour=7,
    needs_person=1,
    deadlines_near=2,
    at_risk={"RUB": Decimal("1200.50")},
)


class Readings:
    """An archive that gives these gauges, one after the other, and then fails."""

    def __init__(self, *readings: Gauges) -> None:
        self._readings = list(readings)

    async def gauges(self) -> Gauges:
        if not self._readings:
            raise OSError("not reachable")
        return self._readings.pop(0)


def value(registry: CollectorRegistry, name: str, /, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_counters_of_known_rules_start_at_zero(registry: CollectorRegistry) -> None:
    CountEvents(registry, ["r"], ["ozon-db"])
    assert value(registry, "orderheal_sightings_total", rule="r", verdict="broken") == 0
    assert value(registry, "orderheal_scans_total", rule="r", result="failed") == 0
    assert value(registry, "orderheal_request_failures_total", connector="ozon-db") == 0


def test_events_are_counted_by_what_they_say(registry: CollectorRegistry) -> None:
    count = CountEvents(registry, ["r"])
    for event in (
        Requested("ozon-db", "orders", "ok", 0.2),
        Requested("ozon-db", "orders", "error", 9),
        Scanned("r", 10, 1, 9, 0, 0, 3.5, True),
        Scanned("r", 10, 1, 9, 0, 0, 3.5, False),
        Scanned("r", 0, 0, 0, 0, 0, 1, False, "refused"),
        Sighted("r", {"clean": 9, "broken": 1}),
        CycleEnded("r", 1.0, "finished"),
        Noticed("r", "n", "begin", "team", "sentry", "done"),
        Noticed("r", "n", "begin", "team", "sentry", "later", "rate"),
        Noticed("r", "n", "begin", "team", "sentry", "later", "status 429"),
        Trouble("odd"),
    ):
        count(event)
    assert value(registry, "orderheal_requests_total", connector="ozon-db", operation="orders", outcome="ok") == 1
    assert value(registry, "orderheal_request_failures_total", connector="ozon-db") == 1
    assert value(registry, "orderheal_request_seconds_sum", connector="ozon-db", operation="orders") == 9.2
    assert value(registry, "orderheal_scans_total", rule="r", result="complete") == 1
    assert value(registry, "orderheal_scans_total", rule="r", result="failed") == 1
    assert value(registry, "orderheal_sightings_total", rule="r", verdict="clean") == 9
    assert value(registry, "orderheal_cycles_total", rule="r", fate="finished") == 1
    assert value(registry, "orderheal_dispatches_total", via="sentry", state="done") == 1
    assert value(registry, "orderheal_dispatches_over_rate_total", via="sentry") == 1
    assert value(registry, "orderheal_troubles_total") == 1


def test_an_incident_is_handed_to_people_once_however_often_its_why_changes(registry: CollectorRegistry) -> None:
    count = CountEvents(registry, ["r"])
    for was, phase, why in (("", "open", "grace"), ("open", "escalated", "refused"), ("escalated", "escalated", "told"),
                            ("escalated", "quarantined", "quarantined"), ("escalated", "open", "settling")):  # fmt: skip
        count(Decided("r", "i", "k", phase, why, "", was))
    assert value(registry, "orderheal_escalations_total", rule="r", why="refused") == 1
    assert value(registry, "orderheal_escalations_total", rule="r", why="told") is None
    assert value(registry, "orderheal_escalations_total", rule="r", why="quarantined") == 0
    assert value(registry, "orderheal_escalations_total", rule="r", why="ladder_spent") == 0


def test_only_what_we_healed_counts_for_the_time_to_heal(registry: CollectorRegistry) -> None:
    count = CountEvents(registry, ["r"])
    assert value(registry, "orderheal_time_to_heal_seconds_count", rule="r") == 0
    for resolution in ("healed", "handled", "gone", "self_healed"):
        count(Resolved("r", "i", "k", resolution, 400.0))
    assert value(registry, "orderheal_time_to_heal_seconds_count", rule="r") == 1
    assert value(registry, "orderheal_time_to_heal_seconds_bucket", rule="r", le="600.0") == 1


def test_a_failed_drill_shows_no_stage_of_the_one_before(registry: CollectorRegistry) -> None:
    count = CountEvents(registry, ["r", "q"], drills=["r", "q"])
    for drilled in (
        Drilled("r", "D-1", True, NOW, {"detect": 60.0, "act": 70.0, "prove": 90.0}),
        Drilled("q", "D-2", True, NOW, {"detect": 60.0, "page": 70.0}),
        Drilled("r", "D-3", False, NOW + timedelta(hours=1), {"detect": 300.0}, "no act within 1:00:00"),
    ):
        count(drilled)
    assert value(registry, "orderheal_drill_stage_seconds", rule="r", stage="detect") == 300
    assert value(registry, "orderheal_drill_stage_seconds", rule="r", stage="prove") is None, "it was not reached"
    assert value(registry, "orderheal_drill_stage_seconds", rule="q", stage="page") == 70
    stamps = [value(registry, "orderheal_drill_timestamp_seconds", rule="r", result=result) for result in ("passed", "failed")]
    assert stamps == [NOW.timestamp(), (NOW + timedelta(hours=1)).timestamp()]


async def test_gauges_show_the_archive_with_zeros_for_what_is_not_there(registry: CollectorRegistry) -> None:
    pauses = (Pause("p", "ops", "deploy", NOW - timedelta(hours=1), connector="ozon-integration"),)
    ill = (Illness("sentry", NOW, "401", NOW),)
    await Board(Readings(Gauges(NOW, (RULE,), ill, pauses)), registry, ["ozon-db"]).refresh()  # type: ignore[arg-type]
    rule = {"rule": ROW.name}
    shown = {
        "orderheal_candidates": 40_000,
        "orderheal_rule_held": 1,
        "orderheal_notices_undelivered": 1,
        "orderheal_attempts_open": 1,
        "orderheal_oldest_incident_seconds": 7200,
        "orderheal_rule_blind_seconds": 0,
        "orderheal_incidents_needing_person": 1,
        "orderheal_deadlines_near": 2,
        "orderheal_deadlines_missed": 0,
        "orderheal_calls_last_hour": 7,
        "orderheal_calls_per_hour_limit": 200,
        "orderheal_rule_scan_interval_seconds": 300,
        "orderheal_last_complete_scan_timestamp_seconds": (NOW - timedelta(minutes=1)).timestamp(),
    }
    assert {name: value(registry, name, **rule) for name in shown} == shown
    assert value(registry, "orderheal_incidents", **rule, phase="escalated") == 1
    assert value(registry, "orderheal_incidents", **rule, phase="quarantined") == 0
    assert value(registry, "orderheal_attempts_total", **rule, outcome="done") == 7
    assert value(registry, "orderheal_attempts_total", **rule, outcome="unknown") == 0
    assert value(registry, "orderheal_resolutions_total", **rule, resolution="healed") == 5
    assert value(registry, "orderheal_notices", **rule, kind="begin", state="failed") == 1
    assert value(registry, "orderheal_decisions", **rule, why="settling") == 2
    assert value(registry, "orderheal_value_at_risk", **rule, currency="RUB") == 1200.5
    assert value(registry, "orderheal_paused", scope="connector", name="ozon-integration") == 1
    assert value(registry, "orderheal_pause_age_seconds", scope="connector", name="ozon-integration") == 3600
    assert value(registry, "orderheal_rule_info", **rule, digest="d", mode="enforce", owner="team") == 1
    assert value(registry, "orderheal_connector_ill", connector="ozon-db") == 0
    assert value(registry, "orderheal_connector_ill", connector="sentry") == 1


async def test_every_replica_shows_the_same_gauges(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    for one in (registry, other):
        await Board(Readings(Gauges(NOW, (RULE,), (), ())), one).refresh()  # type: ignore[arg-type]
    assert generate_latest(registry) == generate_latest(other)


async def test_a_failed_reading_keeps_the_old_values_and_says_so(registry: CollectorRegistry) -> None:
    board = Board(Readings(Gauges(NOW, (RULE,), (), ())), registry)  # type: ignore[arg-type]
    assert value(registry, "orderheal_archive_up") == 0
    await board.refresh()
    assert value(registry, "orderheal_archive_up") == 1
    with pytest.raises(OSError, match="not reachable"):
        await board.refresh()
    assert value(registry, "orderheal_archive_up") == 0
    assert value(registry, "orderheal_candidates", rule=ROW.name) == 40_000


async def exposition(registry: CollectorRegistry, rules: Sequence[RuleGauges] = (RULE,)) -> bytes:
    CountEvents(registry, [ROW.name], ["ozon-db"], {"ozon-db": 10.0})(Requested("ozon-db", "orders", "ok", 0.2))
    show_process(registry, "1.2.3", lambda: 0)
    pauses = (Pause("p", "ops", "deploy", NOW),)
    await Board(Readings(Gauges(NOW, tuple(rules), (), pauses)), registry).refresh()  # type: ignore[arg-type]
    return (await page_of(registry)({})).body


async def test_promtool_finds_nothing_to_say(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here: the names are NOT checked")
    body = await exposition(registry)
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


LABELS = {
    *("rule", "connector", "operation", "outcome", "verdict", "phase", "why", "resolution", "kind", "currency"),
    *("scope", "name", "via", "state", "result", "fate", "le", "digest", "mode", "owner", "version"),
}


async def test_labels_are_of_a_closed_list_without_any_object(registry: CollectorRegistry) -> None:
    await exposition(registry)
    assert {label for family in registry.collect() for sample in family.samples for label in sample.labels} <= LABELS


async def test_the_scraper_gets_the_format_it_asks_for(registry: CollectorRegistry) -> None:
    CountEvents(registry)(Resolved("r", "i-17", "k", "healed", 600.0))
    page = await page_of(registry)({"accept": "application/openmetrics-text; version=1.0.0"})
    assert b'# {incident="i-17"} 600.0' in page.body, "the exemplar leads from the histogram to an incident"
    assert page.kind.startswith("application/openmetrics-text")
    assert page.body.endswith(b"# EOF\n")
