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
    """A slice under way: the incidents as they are stored, the rule's state, and what the pages of all slices came to."""

    incidents: dict[str, Incident]
    state: RuleState
    progress: Progress
    known: set[str]
    noted: float = 0.0


async def scan(
    desk: Desk, rule: Rule, standing: Standing, state: RuleState, incidents: Mapping[str, Incident], page: int, slice: timedelta
) -> tuple[datetime | None, Mapping[str, Incident]]:
    """One slice of the rule's scan: when the next is due (rule time), and all incidents as they are stored now."""
    began = desk.earliest()  # when it is due again counts from here; only sightings are dated back by a lag
    until = desk.clock.monotonic() + slice.total_seconds()
    known = {incident.key for incident in incidents.values() if incident.live} | standing.foreign
    sweep = Sweep(dict(incidents), state, _going_on(rule, state) or _first(rule, desk, state, began), known)
    source, hold = desk.around.connectors[rule.detect.connector], not rule.detect.lookups
    asked = desk.looked_at(rule)
    listing = source.list(
        rule.detect.records, rule.detect.where, sweep.progress.since, sweep.progress.cursor, desk.earliest(), page, hold
    )
    failed, ended = "", False
    try:
        async with aclosing(listing):
            async for one in listing:
                await _page(desk, rule, sweep, one, asked)
                asked = asked if hold else desk.looked_at(rule)  # all pages of one statement show the moment it began
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


def _going_on(rule: Rule, state: RuleState) -> Progress | None:
    """The scan under way, unless another version of the rule began it: its cursor means nothing to this one (law 11)."""
    return state.progress if state.progress is not None and state.progress.digest == rule.digest else None


def _first(rule: Rule, desk: Desk, state: RuleState, began: datetime) -> Progress:
    """The start of a scan: all of it, or only what moved since the last one if the records are incremental.

    A version of the rule that has not seen all of it yet begins with that: what did not move may be broken by its words.
    """
    moving = desk.around.connectors[rule.detect.connector].shape.records[rule.detect.records].incremental
    whole = Progress(began, digest=rule.digest)
    if moving is None or state.last_full is None or state.high_water is None or state.digest != rule.digest:
        return whole
    return whole if began - state.last_full >= moving.full_every else replace(whole, since=state.high_water - moving.overlap)


async def _page(desk: Desk, rule: Rule, sweep: Sweep, page: Page, at: datetime) -> None:
    """Judge one page, dated ``at``, and note what it came to."""
    found, so_far = await inspect_page(rule, page, desk.around.connectors, at, desk.earliest()), sweep.progress
    sweep.progress = replace(
        so_far,
        cursor=page.cursor,
        candidates=so_far.candidates + found.candidates,
        broken=so_far.broken + found.broken,
        unknown=so_far.unknown + found.unknown,
        clean=so_far.clean + found.clean,
        out=so_far.out + found.out,
        high_water=_high_water(rule, desk, so_far, page),
        doubt=so_far.doubt or _doubt(found),
    )
    new = await _opened(desk, rule, sweep, found)
    if new or desk.clock.monotonic() - sweep.noted > NOTED_EVERY:
        await _note(desk, rule, sweep, new)


def _doubt(found: Found) -> str:
    unknown = (seen.reason for seen in found.sightings if seen.verdict is Verdict.UNKNOWN)
    return next(chain(found.doubts, unknown), "")


def _high_water(rule: Rule, desk: Desk, progress: Progress, page: Page) -> datetime | None:
    """The latest movement met; one that claims to be after the scan's begin counts as then, or it would hide all others."""
    moving = desk.around.connectors[rule.detect.connector].shape.records[rule.detect.records].incremental
    if moving is None:
        return None
    moments = (record.get(moving.cursor) for record in page.records)
    latest = max((moment for moment in (*moments, progress.high_water) if isinstance(moment, datetime)), default=None)
    return latest and min(latest, progress.began)


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
        state = replace(state, last_complete=now, high_water=_latest(was.high_water, progress.high_water))
        if progress.since is None:
            state = replace(state, last_full=progress.began, digest=rule.digest, candidates=progress.candidates)
        state = await _counted(desk, rule, state, progress, now)
    held = hold(rule, was.held, census(sweep.incidents.values(), state.population), complete, now)
    state = replace(state, held=held)
    state, blind = _blindness(rule, state, progress.unknown, failed or progress.doubt, desk.around.words, now)
    notices = (*news(rule, was.held, held, (), desk.around.words, now), *(blind if rule.mode is not Mode.OBSERVE else ()))
    change = Change(rule.name, state=state, notices=notices, dispatches=routed(notices, desk.around, now))
    await desk.commit(change)
    announce(desk.events, rule, (), was, change)
    seconds = (now - progress.began).total_seconds() / desk.tenure().timescale.factor
    desk.events(Sighted(rule.name, Counter(broken=progress.broken, clean=progress.clean, unknown=progress.unknown)))
    desk.events(
        Scanned(rule.name, progress.candidates, progress.broken, progress.clean, progress.out, progress.unknown, seconds, complete, failed)
    )


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


async def _counted(desk: Desk, rule: Rule, state: RuleState, progress: Progress, now: datetime) -> RuleState:
    """With the population of a percentage: counted hourly where the source can, else those that match (law 6).

    Of those only a scan of all tells how many there are.
    """
    source = desk.around.connectors[rule.detect.connector]
    if not source.shape.records[rule.detect.records].population:
        ours = progress.candidates - progress.out
        return replace(state, population=ours or None, population_at=now) if progress.since is None else state
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
    if state.blind_told or rule.mode is Mode.OBSERVE or now - since < BLIND_AFTER:
        return state, ()
    return replace(state, blind_told=True), (blind_notice(rule, reason, unknown, True, now, since, words),)
