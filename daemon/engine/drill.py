"""A drill: a synthetic broken object is planted where configuration says how, and the daemon's own rows say what became of it.

    plant (a declared call) ─▶ look at the archive until every stage is reached, the end is a wrong one, or it takes too long ─▶ remove

Nothing here looks, decides or heals: whatever runs does, as for every order, and is measured from outside, in rule time. What is
planted carries a key that begins with the drill's prefix. It is removed however the drill ends, unless it was certainly never
sent; that it could not be removed is a failure of the drill, since it stays in somebody's system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from daemon.domain.attempt import CONNECTOR_ILL, NOT_CONNECTED, Attempt, Outcome, Result
from daemon.domain.incident import Incident, Phase, Resolution
from daemon.domain.notice import DeliveryState
from daemon.engine.archive import Archive, Told
from daemon.engine.events import Drilled
from daemon.engine.ports import Clock, Connector, Quota

LOOK: Final = 1.0
"""Seconds between two looks at the archive: the precision of a drill's figures is that of the rows, not of this."""


class Stage(StrEnum):
    """What a drill measures, each from the moment of planting."""

    DETECT = "detect"
    ACT = "act"
    PROVE = "prove"
    PAGE = "page"


class Proof(StrEnum):
    """What a drill is to prove: that such an object is healed, or that a person is told of it."""

    HEALED = "healed"
    TOLD = "told"


_WANTED: Final[Mapping[Proof, tuple[Stage, ...]]] = {
    Proof.HEALED: (Stage.DETECT, Stage.ACT, Stage.PROVE),
    Proof.TOLD: (Stage.DETECT, Stage.PAGE),
}


@dataclass(frozen=True, slots=True)
class Hand:
    """A call that takes the synthetic object's key as its only argument."""

    connector: str
    call: str
    param: str


@dataclass(frozen=True, slots=True)
class Drill:
    """How a rule is tried. ``within``: rule time from planting to the last stage."""

    rule: str
    plant: Hand
    remove: Hand
    prefix: str
    proof: Proof
    within: timedelta


@dataclass(frozen=True, slots=True)
class Range:
    """Where a drill takes place: ports, nothing else."""

    connectors: Mapping[str, Connector]
    archive: Archive
    quota: Quota
    clock: Clock


Progress = Callable[[str, float], None]
"""Told of each stage once, with its seconds of rule time since planting."""


async def drill(one: Drill, where: Range, progress: Progress) -> Drilled:
    """Plant, watch, remove. Raises ``Unreachable`` when the store is away; the object is removed then too."""
    began = await where.archive.now()
    key = key_of(one, began)
    planting = asyncio.ensure_future(_call(one.plant, key, where))
    try:
        planted = await asyncio.shield(planting)
        if planted.result is Result.DONE:
            found = await _watch(one, key, began, where, progress)
        else:
            why = f"not planted: {planted.reason or planted.result}"
            found = Drilled(one.rule, key, False, began, {}, why, unreachable=_never_arrived(planted))
    finally:  # broken off in the middle of planting too: what is on its way arrives first
        left = await _remove(one, key, await planting, where)
    return replace(found, ok=False, why="; ".join(filter(None, (found.why, left)))) if left else found


def key_of(one: Drill, began: datetime) -> str:
    """The key of what is planted: its mark, the moment, and the rule, for rules may be drilled in the same second. Pure."""
    return f"{one.prefix}{began:%Y%m%d%H%M%S}-{blake2b(one.rule.encode(), digest_size=2).hexdigest()}"


async def _remove(one: Drill, key: str, planted: Outcome, where: Range) -> str:
    """Take away what may have been planted; what is to be done if that failed."""
    if _never_arrived(planted):
        return ""
    removed = await _call(one.remove, key, where)
    if removed.result is Result.DONE:
        return ""
    return f"{key} could not be removed ({removed.reason or removed.result}): remove it by hand"


async def _watch(one: Drill, key: str, began: datetime, where: Range, progress: Progress) -> Drilled:
    """Look until it is decided."""
    stages: dict[str, float] = {}
    while True:
        now, incident = await where.archive.now(), await _incident(one.rule, key, where.archive)
        reached = await _reached(incident, where.archive) if incident else {}
        for stage, at in reached.items():
            if stage not in stages:
                stages[stage] = max(0.0, (at - began).total_seconds())
                progress(stage, stages[stage])
        why = verdict(one, incident, reached.keys(), now - began)
        if why is not None:
            return Drilled(one.rule, key, not why, now, stages, why)
        await where.clock.sleep(LOOK)


def verdict(one: Drill, incident: Incident | None, reached: Iterable[Stage], passed: timedelta) -> str | None:
    """Empty: proved. A text: why it failed. ``None``: not decided yet. Pure."""
    missing = [stage for stage in _WANTED[one.proof] if stage not in set(reached)]
    if not missing:
        return ""
    if incident and not incident.live:
        return f"ended as {incident.resolution}, without {missing[0]}"
    if incident and one.proof is Proof.HEALED and incident.phase in (Phase.ESCALATED, Phase.QUARANTINED):
        return f"not healed: {incident.phase}, {incident.why}"
    if passed > one.within:
        waiting = f"; the incident waits: {incident.why}" if incident else ""
        return f"no {missing[0]} within {one.within}{waiting}"
    return None


def stages_of(incident: Incident, attempts: Iterable[Attempt], told: Iterable[Told]) -> Mapping[Stage, datetime]:
    """The stages that the rows show, with their moments (rule time). Pure."""
    acts = [attempt.begun for attempt in attempts]
    pages = [way.ended for notice in told for way in notice.ways if way.state == DeliveryState.DONE and way.ended]
    proved = incident.proved_at or incident.ended if incident.resolution is Resolution.HEALED else None
    moments = {Stage.DETECT: incident.opened, Stage.ACT: min(acts, default=None), Stage.PROVE: proved, Stage.PAGE: min(pages, default=None)}
    return {stage: at for stage, at in moments.items() if at is not None}


async def _reached(incident: Incident, archive: Archive) -> Mapping[Stage, datetime]:
    return stages_of(incident, await archive.attempts(incident.id), await archive.notices(incident=incident.id))


async def _incident(rule: str, key: str, archive: Archive) -> Incident | None:
    found = [one for one in await archive.find(key) if one.rule == rule and key in (one.key, one.record_key, one.object)]
    return found[0] if found else None


async def _call(hand: Hand, key: str, where: Range) -> Outcome:
    """One request, within the connector's rate."""
    connector = where.connectors[hand.connector]
    if connector.rate is not None:
        while wait := await where.quota.reserve(connector.name, *connector.rate, 1):
            await where.clock.sleep(wait)
    return await connector.perform(connector.prepare(hand.call, {hand.param: key}, f"drill/{key}/{hand.call}"))


def _never_arrived(outcome: Outcome) -> bool:
    return outcome.reason in (NOT_CONNECTED, CONNECTOR_ILL) or outcome.result is Result.NOT_SENT
