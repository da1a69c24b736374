"""The whole loop under random scripts: the world changes, services answer as they like, systems go down, people speak.

Whatever happens: no effect without an admitted attempt, attempts within their bounds, `healed` only where the world is
well, and every incident has ended or waits for a named reason until a named time.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from builders import UPLOAD, field, minutes, rule
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.stage import Stage, called

from daemon.domain.attempt import Result
from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Delivery, Guard, Rule, Step

NUMBERS = ("N1", "N2", "N3")
WORDS = ("done", "no_effect", "refused", "later", "500", "html", "reset", "timeout", "timeout_after_effect")
FIRST = replace(UPLOAD, attempts=2, delivery=Delivery.AT_LEAST_ONCE)
ONCE = replace(UPLOAD, id="second", call="second", attempts=2, delivery=Delivery.AT_MOST_ONCE)
COMMENT = Step(id="comment", connector="api", call="comment", args=UPLOAD.args, attempts=1, delivery=Delivery.AT_MOST_ONCE)
CAP = 6
STUCK: Rule = rule(
    ladder=(FIRST, Step(id="wait", wait=minutes(15)), ONCE), on_resolved=(COMMENT,), object=field("order"), deadline=field("deadline"),
    guard=Guard(max_attempts=CAP, max_broken=2, max_broken_percent=100),
)  # fmt: skip


@dataclass(frozen=True)
class Happens:
    """One line of a script: what, to which order or system, and how long nothing else happens."""

    what: str
    number: str = "N1"
    more: Any = None
    after: int = 5


numbers, pauses = st.sampled_from(NUMBERS), st.sampled_from([1, 4, 6, 17, 61, 300])
happenings = st.one_of(
    st.builds(Happens, st.just("row"), numbers, st.sampled_from([{"bad": True}, {"bad": False}, {"bad": None}, {"ours": False}, {"ours": True}]), pauses),
    st.builds(Happens, st.just("removed"), numbers, st.none(), pauses),
    st.builds(Happens, st.sampled_from(["down", "up"]), st.sampled_from(["shop", "api", "chat"]), st.none(), pauses),
    st.builds(Happens, st.just("word"), numbers, st.sampled_from(list(DirectiveKind)), pauses),
    st.builds(Happens, st.sampled_from(["pause", "resume", "restart"]), numbers, st.none(), pauses),
)
answers = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)
scripts = st.tuples(st.lists(answers, min_size=3, max_size=3), st.lists(happenings, max_size=8), st.booleans())


async def happen(stage: Stage, line: Happens) -> None:
    match line.what:
        case "row" if line.number in stage.world.rows["shop.orders"]:
            stage.set(line.number, **line.more)
        case "removed":
            stage.world.remove("shop.orders", line.number)
        case "down" | "up":
            stage.world.switch(line.number, up=line.what == "up")
        case "word" if stage.incidents(line.number) and stage.incident(line.number).live:
            await stage.say(line.more, line.number, stage.now + minutes(50) if line.more is not DirectiveKind.RETRY else None)
        case "pause":
            await stage.pause(until=stage.now + minutes(40))
        case "resume":
            await stage.store.resume(None, None, "ann")
        case "restart":
            stage.engines = [stage.engine(f"{line.what}-{stage.clock.monotonic()}")]
    await stage.wait(line.after)


def check(stage: Stage) -> None:
    """What holds after each line."""
    tables, sent = stage.store.tables, Counter(called(stage))
    arrived: Counter[tuple[str, str]] = Counter()
    for one in tables.attempts.values():
        if one.outcome is None or one.outcome.result is not Result.NOT_SENT:
            arrived[one.request.call, one.request.args["id"]] += 1
    assert all(sent[key] <= arrived[key] for key in sent), "every request has an admitted attempt of its own"
    for incident in tables.incidents.values():
        mine = [one for one in tables.attempts.values() if one.incident == incident.id and one.outcome]
        counted = Counter(one.step for one in mine if one.outcome.result in (Result.DONE, Result.REFUSED, Result.UNKNOWN))
        retries = sum(one.incident == incident.id and one.kind is DirectiveKind.RETRY for one in tables.directives.values())
        assert counted["upload"] <= 2 + retries
        assert counted["second"] <= 2 + retries
        assert counted["comment"] <= 1
        assert counted["upload"] + counted["second"] <= CAP
        ended(stage, incident)


def ended(stage: Stage, incident: Any) -> None:
    """It ended truly, or waits for a named reason until a named time."""
    if incident.live:
        assert incident.phase is not Phase.PARKED
        assert incident.due is not None
        assert incident.due > stage.now, "whatever is due has been looked at"
        assert isinstance(incident.why, Why)
        return
    assert incident.due is None
    if incident.resolution is Resolution.HEALED:
        ours = [one for one in stage.attempts(incident.key) if one.outcome and one.outcome.result in (Result.DONE, Result.UNKNOWN)]
        assert ours
        assert incident.seen > max(one.ended for one in ours if not one.follow_up)


@given(scripts)
@settings(max_examples=120)
async def test_any_script_keeps_the_promises(script: Any) -> None:
    calls, lines, two = script
    stage = Stage(STUCK, replicas=1 + two)
    for place, (number, words) in enumerate(zip(NUMBERS, calls, strict=True)):
        stage.plant(number, order=f"order/{place // 2}", deadline="+9h", calls={"api.upload": words, "api.second": words, "api.comment": words})
    await stage.begin(1)
    await stage.wait(17)
    check(stage)
    for line in lines:
        before = {one.id: one for one in stage.store.tables.incidents.values()}
        await happen(stage, line)
        check(stage)
        for one in stage.store.tables.incidents.values():
            was = before.get(one.id)
            proved_now = was is None or (was.live and was.phase is not Phase.PROVED)
            if one.resolution is Resolution.HEALED and proved_now:  # rows get ill at the begin of a line only
                assert stage.world.rows["shop.orders"][one.key]["bad"] is False, "healed only where the world is well"
