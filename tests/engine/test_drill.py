"""When a drill is decided, and how: pure, over what the rows say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import at, incident

from daemon.domain.incident import Incident, Phase, Resolution, Why
from daemon.engine.drill import Drill, Hand, Proof, Stage, key_of, stages_of, verdict

HEALED = Drill("stuck", Hand("d", "plant", "id"), Hand("d", "remove", "id"), "DRILL-", Proof.HEALED, timedelta(hours=1))
TOLD = replace(HEALED, proof=Proof.TOLD)
SOON, LATE = timedelta(minutes=5), timedelta(minutes=61)
ALL = (Stage.DETECT, Stage.ACT, Stage.PROVE)


def ended(resolution: Resolution) -> Incident:
    return incident(phase=Phase.RESOLVED, resolution=resolution)


@pytest.mark.parametrize(
    ("sentence", "drill", "found", "reached", "passed", "why"),
    [
        ("nothing is found yet", HEALED, None, (), SOON, None),
        ("nothing was found in time", HEALED, None, (), LATE, "no detect within 1:00:00"),
        ("it waits for its grace", HEALED, incident(why=Why.GRACE), (Stage.DETECT,), SOON, None),
        ("a pause holds it too long", HEALED, incident(why=Why.PAUSED), (Stage.DETECT,), LATE, "no act within 1:00:00; the incident waits: paused"),
        ("healed", HEALED, ended(Resolution.HEALED), ALL, SOON, ""),
        ("healed is healed, however late that was seen", HEALED, ended(Resolution.HEALED), ALL, LATE, ""),
        ("healed by itself proves nothing", HEALED, ended(Resolution.SELF_HEALED), (Stage.DETECT,), SOON, "ended as self_healed, without act"),
        ("gone proves nothing", HEALED, ended(Resolution.GONE), ALL[:2], SOON, "ended as gone, without prove"),
        ("handed to people", HEALED, incident(phase=Phase.ESCALATED, why=Why.REFUSED), ALL[:2], SOON, "not healed: escalated, refused"),
        ("handed to people, as it should be", TOLD, incident(phase=Phase.ESCALATED), ALL[:2], SOON, None),
        ("told", TOLD, incident(phase=Phase.ESCALATED), (Stage.DETECT, Stage.PAGE), SOON, ""),
        ("healed where it should not be", TOLD, ended(Resolution.HEALED), ALL, SOON, "ended as healed, without page"),
    ],
)  # fmt: skip
def test_a_drill_ends_when_it_is_decided(
    sentence: str, drill: Drill, found: Incident | None, reached: tuple[Stage, ...], passed: timedelta, why: str | None
) -> None:
    assert verdict(drill, found, reached, passed) == why, sentence


def test_rules_that_are_drilled_in_the_same_second_plant_different_objects() -> None:
    """Else each would take away what the other has planted."""
    keys = [key_of(drill, at(0)) for drill in (HEALED, replace(HEALED, rule="stuck-too"))]
    assert len(set(keys)) == 2
    assert all(key.startswith("DRILL-") for key in keys)


@pytest.mark.parametrize(("changes", "stages"), [
    ({}, {Stage.DETECT: at(0)}),
    ({"phase": Phase.RESOLVED, "resolution": Resolution.HEALED, "proved_at": at(20), "ended": at(21)}, {Stage.DETECT: at(0), Stage.PROVE: at(20)}),
    ({"phase": Phase.RESOLVED, "resolution": Resolution.SELF_HEALED, "ended": at(21)}, {Stage.DETECT: at(0)}),
])  # fmt: skip
def test_only_a_healing_of_ours_is_a_proof(changes: dict[str, Any], stages: dict[Stage, Any]) -> None:
    assert stages_of(incident(opened=at(0), **changes), (), ()) == stages
