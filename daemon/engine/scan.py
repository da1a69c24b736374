"""Scanning: finding new subjects by listing, a slice at a time, with its cursor in the rule's row (law 15).

A scan only opens incidents; whatever is done about one comes from a visit, which asks for it by key. So absence from a
listing can conclude nothing (law 1), by construction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from uuid import uuid4

from daemon.domain.guard import census, hold
from daemon.domain.incident import Incident, forgotten, opened
from daemon.domain.notice import Notice, blind_notice
from daemon.domain.rule import Mode, Rule
from daemon.domain.shape import Page
from daemon.domain.sight import Verdict
from daemon.domain.standing import Progress, RuleState, Standing
from daemon.domain.words import Words
from daemon.engine.act import Desk
from daemon.engine.change import Change
from daemon.engine.events import Scanned, Sighted
from daemon.engine.look import Found, inspect_page
from daemon.engine.news import announce
from daemon.engine.ports import Unreachable
from daemon.engine.propose import news, routed

BLIND_AFTER = timedelta(hours=1)
"""Unknown for this long (rule time), a rule is blind, and its owner is told."""

COUNT_EVERY = timedelta(hours=1)
"""How often the population of a scan is counted, where it can be (rule time)."""

NOTED_EVERY = 2.0
"""Seconds between writes of the cursor when a scan finds nothing new."""


@dataclass(slots=True)
class Sweep:
    """A slice under way: the incidents as they are stored, the state to be written, and what the pages came to."""

    incidents: dict[str, Incident]
    state: RuleState
    progress: Progress
    known: set[str]
    clean: int = 0
    out: int = 0
    first_doubt: str = ""
    noted: float = 0.0


async def scan(
    desk: Desk, rule: Rule, standing: Standing, state: RuleState, incidents: Mapping[str, Incident], page: int, slice: timedelta
) -> tuple[datetime | None, Mapping[str, Incident]]:
    """One slice of the rule's scan: when the next is due (rule time), and all incidents as they are stored now."""
    began = desk.earliest()  # when it is due again counts from here; only sightings are dated back by a lag
    until = desk.clock.monotonic() + slice.total_seconds()
    known = {incident.key for incident in incidents.values() if incident.live}
    sweep = Sweep(dict(incidents), state, state.progress or _first(rule, desk, state, began), known)
    source = desk.around.connectors[rule.detect.connector]
    listing = source.list(
        rule.detect.records, rule.detect.where, sweep.progress.since, sweep.progress.cursor, desk.earliest(), page, not rule.detect.lookups
    )
    failed, ended = "", False
    try:
        async with aclosing(listing):
            async for one in listing:
                await _page(desk, rule, sweep, one)
                ended = one.cursor is None
                if not desk.going():
                    return None, sweep.incidents
                if ended or desk.clock.monotonic() > until:
                    break
            else:
                ended = True
    except Unreachable as error:
        failed = str(error)
    if not ended and not failed:
        await _note(desk, rule, sweep, ())
        return desk.earliest(), sweep.incidents
    await _finish(desk, rule, standing, sweep, failed)
    return max(sweep.progress.began + rule.every, desk.earliest()), sweep.incidents


def _first(rule: Rule, desk: Desk, state: RuleState, began: datetime) -> Progress:
    """The start of a scan: all of it, or only what moved since the last one if the records are incremental."""
    moving = desk.around.connectors[rule.detect.connector].shape.records[rule.detect.records].incremental
    if moving is None or state.last_full is None or state.high_water is None or began - state.last_full >= moving.full_every:
        return Progress(began)
    return Progress(began, since=state.high_water - moving.overlap)


async def _page(desk: Desk, rule: Rule, sweep: Sweep, page: Page) -> None:
    at = desk.looked_at(rule)
    found = await inspect_page(rule, page, desk.around.connectors, at, desk.earliest())
    sweep.clean += found.clean
    sweep.out += found.out
    sweep.first_doubt = sweep.first_doubt or _doubt(found)
    sweep.progress = replace(
        sweep.progress,
        cursor=page.cursor,
        candidates=sweep.progress.candidates + found.candidates,
        broken=sweep.progress.broken + found.broken,
        unknown=sweep.progress.unknown + found.unknown,
    )
    sweep.state = replace(sweep.state, high_water=_high_water(rule, desk, sweep.state, page))
    new = await _opened(desk, rule, sweep, found)
    if new or desk.clock.monotonic() - sweep.noted > NOTED_EVERY:
        await _note(desk, rule, sweep, new)


def _doubt(found: Found) -> str:
    unknown = (seen.reason for seen in found.sightings if seen.verdict is Verdict.UNKNOWN)
    return next(chain(found.doubts, unknown), "")


def _high_water(rule: Rule, desk: Desk, state: RuleState, page: Page) -> datetime | None:
    moving = desk.around.connectors[rule.detect.connector].shape.records[rule.detect.records].incremental
    if moving is None:
        return None
    moments = (record.get(moving.cursor) for record in page.records)
    return max((moment for moment in (*moments, state.high_water) if isinstance(moment, datetime)), default=None)


async def _opened(desk: Desk, rule: Rule, sweep: Sweep, found: Found) -> tuple[Incident, ...]:
    """The incidents that a page's broken subjects begin, or go on with after a relapse; and told ones that are well, forgotten."""
    fresh = [seen for seen in found.sightings if seen.verdict is Verdict.BROKEN and seen.key not in sweep.known]
    if not fresh and not found.well:
        return ()
    previous = await desk.store.previous(rule.name, [*(seen.key for seen in fresh), *found.well])
    new = (opened(rule, seen, previous.get(seen.key), uuid4().hex) for seen in fresh)
    well = (forgotten(previous[key]) for key in found.well if key in previous)
    return tuple(incident for incident in (*new, *well) if incident is not None)


async def _note(desk: Desk, rule: Rule, sweep: Sweep, new: tuple[Incident, ...]) -> None:
    """Write what was found so far, and from where to go on."""
    change = Change(rule.name, incidents=new, state=replace(sweep.state, progress=sweep.progress))
    await desk.commit(change)
    announce(desk.events, rule, (), sweep.state, change)
    sweep.incidents.update(change.stored())
    sweep.known.update(incident.key for incident in new if incident.live)
    sweep.noted = desk.clock.monotonic()


async def _finish(desk: Desk, rule: Rule, standing: Standing, sweep: Sweep, failed: str) -> None:
    """The end of a scan: its numbers, the guard's word on them, and whether the rule is blind."""
    now, progress, complete = desk.earliest(), sweep.progress, not failed
    was = sweep.state
    state = replace(was, progress=None, failed=failed)
    if complete:
        full = progress.since is None
        state = replace(
            state, last_complete=now, last_full=progress.began if full else was.last_full,
            candidates=progress.candidates if full else was.candidates,
        )  # fmt: skip
        state = await _counted(desk, rule, state, progress.candidates - sweep.out, now)
    held = hold(rule.guard, was.held, census(sweep.incidents.values(), state.population), complete, now)
    state = replace(state, held=held)
    state, blind = _blindness(rule, state, progress.unknown, failed or sweep.first_doubt, desk.around.words, now)
    notices = (*news(rule, was.held, held, (), desk.around.words, now), *(blind if rule.mode is not Mode.OBSERVE else ()))
    change = Change(rule.name, state=state, notices=notices, dispatches=routed(notices, desk.around, now))
    await desk.commit(change)
    announce(desk.events, rule, (), was, change)
    seconds = (now - progress.began).total_seconds() / desk.tenure().timescale.factor
    desk.events(Sighted(rule.name, Counter(broken=progress.broken, clean=sweep.clean, unknown=progress.unknown)))
    desk.events(
        Scanned(rule.name, progress.candidates, progress.broken, sweep.clean, sweep.out, progress.unknown, seconds, complete, failed)
    )


async def _counted(desk: Desk, rule: Rule, state: RuleState, ours: int, now: datetime) -> RuleState:
    """With the population of a percentage: counted hourly where the source can, else those that match (law 6)."""
    source = desk.around.connectors[rule.detect.connector]
    if not source.shape.records[rule.detect.records].population:
        return replace(state, population=ours or None, population_at=now)
    if state.population_at is not None and now - state.population_at < COUNT_EVERY:
        return state
    try:
        return replace(state, population=await source.count(rule.detect.records, now), population_at=now)
    except Unreachable:
        return state


def _blindness(rule: Rule, state: RuleState, unknown: int, reason: str, words: Words, now: datetime) -> tuple[RuleState, tuple[Notice, ...]]:
    """A rule that could not see something for an hour is blind: told once, and once more when it sees again."""
    if not (unknown or state.failed):
        notices = (blind_notice(rule, "", 0, False, now, state.unknown_since, words),) if state.blind_told else ()
        return replace(state, unknown_since=None, blind_told=False), notices
    since = state.unknown_since or now
    state = replace(state, unknown_since=since)
    if state.blind_told or now - since < BLIND_AFTER:
        return state, ()
    return replace(state, blind_told=True), (blind_notice(rule, reason, unknown, True, now, since, words),)
