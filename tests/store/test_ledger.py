"""Commit, the gate, conclude, people's words: what is written, what is refused, on both stores."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from daemon.domain.attempt import CRASHED, Outcome, Result
from daemon.domain.incident import Incident, Marks, Phase, Resolution, StepState, Why
from daemon.domain.notice import NoticeKind
from daemon.domain.standing import Held, Illness, Pause, Progress, RuleState, Telling
from daemon.domain.value import Money, Unknown
from daemon.engine.change import Change, Conclusion, Conflict, Fenced, GiveBack

LEASE = timedelta(seconds=30)
ROOM = timedelta(seconds=5)
HOUR = timedelta(hours=1)


async def incidents(bench, rule="r") -> dict[str, Incident]:
    return {one.key: one for one in (await bench.store.standing(rule, bench.now)).incidents}


async def opened(bench, make, tenure, *keys, **given) -> list[Incident]:
    await bench.store.commit(Change(tenure.rule, tuple(make.incident(key, **given) for key in keys)), tenure)
    known = await incidents(bench, tenure.rule)
    return [known[key] for key in keys]


def rich(make, now):
    facts = {
        "paid": True, "amount": Decimal("10.50"), "created": now, "age": timedelta(minutes=7), "empty": None,
        "crm": {"id": "42", "tags": ["a", Unknown("timeout")]}, "quote": 'a "b" \\ é 😀', "count": 3, "ratio": 0.5,
    }  # fmt: skip
    return make.incident(
        "k1", facts=facts, value=Money(Decimal("10.50"), "RUB"), deadline=now + HOUR, due=now, cause="not_sent",
        steps={"upload": StepState(now, tries=2, result=Result.UNKNOWN, response={"ok": [1, None]})},
        levels={"l1": now}, marks=Marks(claimed_by="anna", claimed_until=now + HOUR, reason="смотрю"),
    )  # fmt: skip


async def test_an_incident_comes_back_as_it_was_written_one_version_on(bench, make):
    tenure = await bench.running(make.rule())
    incident = rich(make, bench.now)
    await bench.store.commit(Change("r", (incident,)), tenure)
    [stored] = (await bench.store.standing("r", bench.now)).incidents
    assert stored == replace(incident, version=1)


async def test_what_a_foreign_system_sent_is_stored_whatever_it_is(bench, make):
    tenure = await bench.running(make.rule())
    [stored] = await opened(bench, make, tenure, "k1", facts={"s": "a\\u0000 \ud800", "n": float("inf"), "e": "\\\\u0000"})
    assert stored.facts["e"] == "\\\\u0000"


async def test_a_nul_byte_does_not_stop_a_commit(bench, make):
    tenure = await bench.running(make.rule())
    [stored] = await opened(bench, make, tenure, "k1", facts={"s": "a\x00b"})
    assert stored.facts["s"] in ("a\x00b", "a\ufffdb")


async def test_a_commit_not_based_on_the_stored_version_writes_nothing_at_all(bench, make):
    tenure = await bench.running(make.rule())
    [one, two] = await opened(bench, make, tenure, "k1", "k2")
    await bench.store.commit(Change("r", (replace(one, why=Why.WAITING),)), tenure)
    with pytest.raises(Conflict):
        await bench.store.commit(Change("r", (two, replace(one, why=Why.PAUSED)), state=RuleState(failed="x")), tenure)
    stored = await incidents(bench)
    assert (stored["k1"].why, stored["k1"].version, stored["k2"].version) == (Why.WAITING, 2, 1)
    assert (await bench.store.standing("r", bench.now)).state == RuleState()


async def test_a_subject_has_one_live_incident_whatever_its_phase(bench, make):
    """Law 8."""
    tenure = await bench.running(make.rule())
    await opened(bench, make, tenure, "k1", phase=Phase.QUARANTINED)
    with pytest.raises(Conflict):
        await bench.store.commit(Change("r", (make.incident("k1", id="other"),)), tenure)


async def test_an_ended_incident_makes_room_and_may_come_back_by_relapse(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    ended = replace(one, phase=Phase.RESOLVED, resolution=Resolution.HEALED, ended=bench.now)
    await bench.store.commit(Change("r", (ended,)), tenure)
    assert await incidents(bench) == {}
    previous = (await bench.store.previous("r", ["k1", "k2"]))["k1"]
    assert previous == replace(ended, version=2)
    again = replace(previous, phase=Phase.OPEN, resolution=None, ended=None, relapses=1)
    await bench.store.commit(Change("r", (again,)), tenure)
    assert (await incidents(bench))["k1"].relapses == 1
    assert await bench.store.previous("r", ["k1"]) == {}


async def test_the_newest_ended_incident_of_a_key_is_the_previous_one(bench, make):
    tenure = await bench.running(make.rule())
    for hours in (1, 3, 2):
        ended = bench.now + timedelta(hours=hours)
        incident = make.incident("k1", id=f"i{hours}", phase=Phase.RESOLVED, ended=ended, resolution=Resolution.GONE)
        await bench.store.commit(Change("r", (incident,)), tenure)
    assert (await bench.store.previous("r", ["k1"]))["k1"].id == "i3"


async def test_the_same_change_committed_again_does_nothing(bench, make):
    """Law 18: even when the tenure is over by then, for it was written."""
    tenure = await bench.running(make.rule())
    change = Change("r", (make.incident(),))
    await bench.store.commit(change, tenure)
    await bench.store.commit(change, tenure)
    await bench.advance(minutes=1)
    await bench.store.commit(change, tenure)
    assert (await incidents(bench))["k1"].version == 1


async def test_a_refused_change_may_be_tried_again(bench, make):
    tenure = await bench.running(make.rule())
    await bench.advance(minutes=1)
    change = Change("r", (make.incident(),))
    with pytest.raises(Fenced):
        await bench.store.commit(change, tenure)
    fresh = await bench.store.take({"r": "d1"}, "alpha", LEASE)
    await bench.store.commit(change, fresh)
    assert set(await incidents(bench)) == {"k1"}


async def test_a_rules_state_is_replaced_by_each_commit_that_has_one(bench, make):
    tenure = await bench.running(make.rule())
    now = bench.now
    state = RuleState(
        progress=Progress(now, "cursor", 5), last_complete=now, population=900,
        held=Held(now, Why.MAX_BROKEN, 120, 100.0, 900), failed="no route",
    )  # fmt: skip
    await bench.store.commit(Change("r", state=state), tenure)
    await bench.store.commit(Change("r", (make.incident(),)), tenure)
    assert (await bench.store.standing("r", now)).state == state
    await bench.store.commit(Change("r", state=RuleState(last_complete=now)), tenure)
    assert (await bench.store.standing("r", now)).state == RuleState(last_complete=now)


async def test_connectors_fall_ill_and_get_well_for_every_rule(bench, make):
    tenure = await bench.running(make.rule())
    illness = Illness("bitrix24", bench.now, "401", bench.now + HOUR)
    await bench.store.commit(Change("r", ill=(illness,)), tenure)
    assert (await bench.store.standing("r", bench.now)).illnesses == {"bitrix24": illness}
    await bench.store.commit(Change("r", well=("bitrix24",)), tenure)
    assert (await bench.store.standing("r", bench.now)).illnesses == {}


async def test_words_wait_in_order_until_a_commit_obeyed_them(bench, make):
    tenure = await bench.running(make.rule())
    second = make.directive(id="w2", at=bench.now + timedelta(seconds=1))
    await bench.store.direct(second)
    await bench.store.direct(make.directive(id="w1"))
    await bench.store.direct(make.directive(id="w1", reason="said twice"))
    waiting = (await bench.store.standing("r", bench.now)).directives
    assert waiting == (make.directive(id="w1"), second)
    await bench.store.commit(Change("r", obeyed=("w1",)), tenure)
    assert (await bench.store.standing("r", bench.now)).directives == (second,)


# The gate


async def test_who_is_let_in_has_an_open_attempt_and_a_new_version(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    intent = make.intent(one, tenure)
    assert await bench.store.admit([intent], tenure, ROOM) == {}
    standing = await bench.store.standing("r", bench.now)
    assert standing.attempts == {one.id: intent.attempt}
    assert standing.incidents == (replace(intent.incident, version=2),)
    assert standing.calls == (intent.attempt.begun,)


async def test_an_object_has_one_actor_within_a_slice_and_across_rules(bench, make):
    """Law 7."""
    tenure = await bench.running(make.rule())
    [one, two] = await opened(bench, make, tenure, "k1", "k2", object="order-7")
    refused = await bench.store.admit([make.intent(one, tenure), make.intent(two, tenure)], tenure, ROOM)
    assert refused == {"a-i-k2": Why.OBJECT_BUSY}
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule(), make.rule("s")], None)
    other = await bench.store.take({"s": "d1"}, "beta", LEASE)
    [three] = await opened(bench, make, other, "k3", rule="s", object="order-7")
    assert await bench.store.admit([make.intent(three, other)], other, ROOM) == {"a-i-k3": Why.OBJECT_BUSY}
    assert (await bench.store.standing("s", bench.now)).busy == {"order-7": make.attempt(one, tenure).ends_by}
    assert (await incidents(bench, "s"))["k3"].version == 1


async def test_an_object_stays_busy_for_others_while_it_settles(bench, make):
    """Law 7."""
    tenure = await bench.running(make.rule(), lease=3600)
    [one, two] = await opened(bench, make, tenure, "k1", "k2", object="order-7")
    intent = make.intent(one, tenure)
    await bench.store.admit([intent], tenure, ROOM)
    ended = make.done(intent.attempt, settle=300)
    assert await bench.store.conclude([Conclusion(ended, replace(intent.incident, version=2))], tenure)
    assert (await bench.store.standing("r", bench.now)).busy == {"order-7": ended.settled}
    assert await bench.store.admit([make.intent(two, tenure)], tenure, ROOM) == {"a-i-k2": Why.OBJECT_BUSY}
    await bench.advance(seconds=301)
    assert (await bench.store.standing("r", bench.now)).busy == {}
    assert await bench.store.admit([make.intent(two, tenure)], tenure, ROOM) == {}


@pytest.mark.parametrize(
    ("scope", "stops"),
    [({}, True), ({"rule": "r"}, True), ({"rule": "s"}, False), ({"connector": "ozon-integration"}, True),
     ({"connector": "cdek"}, False), ({"rule": "r", "connector": "cdek"}, False)],
    ids=["all", "this rule", "another rule", "its connector", "another connector", "rule but another connector"],
)  # fmt: skip
async def test_a_pause_takes_effect_at_the_gate_at_once_and_ends(bench, make, scope, stops):
    tenure = await bench.running(make.rule(), lease=3600)
    [one] = await opened(bench, make, tenure, "k1")
    pause = Pause("p", "anna", "stocktaking", bench.now, bench.now + timedelta(minutes=10), **scope)
    await bench.store.pause(pause)
    refused = await bench.store.admit([make.intent(one, tenure)], tenure, ROOM)
    assert refused == ({"a-i-k1": Why.PAUSED} if stops else {})
    if stops:
        assert (await bench.store.standing("r", bench.now)).pauses == (pause,)
        await bench.advance(minutes=10)
        assert (await bench.store.standing("r", bench.now)).pauses == ()
        assert await bench.store.admit([make.intent(one, tenure)], tenure, ROOM) == {}


async def test_resume_ends_the_pauses_of_exactly_that_scope_and_makes_their_rules_due(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(bench.now + HOUR, bench.now + HOUR))
    await bench.store.pause(Pause("p1", "anna", "", bench.now))
    await bench.store.pause(Pause("p2", "anna", "", bench.now, rule="r"))
    paused = await bench.store.take({"r": "d1"}, "alpha", LEASE)
    assert paused is not None, "who shows why must look first"
    await bench.store.give_back(paused, GiveBack(bench.now + HOUR, bench.now + HOUR))
    assert await bench.store.resume("r", "cdek", "boris") == 0
    assert await bench.store.take({"r": "d1"}, "alpha", LEASE) is None
    assert await bench.store.resume("r", None, "boris") == 1
    assert await bench.store.resume("r", None, "boris") == 0
    assert [one.id for one in (await bench.store.standing("r", bench.now)).pauses] == ["p1"]
    assert await bench.store.take({"r": "d1"}, "alpha", LEASE) is not None


async def test_the_hour_is_never_exceeded_and_what_was_not_sent_is_no_call(bench, make):
    tenure = await bench.running(make.rule(calls=2), lease=7200)
    found = await opened(bench, make, tenure, "k1", "k2", "k3")
    intents = [make.intent(one, tenure) for one in found]
    assert await bench.store.admit(intents, tenure, ROOM) == {"a-i-k3": Why.CALLS_PER_HOUR}
    unsent = make.done(intents[0].attempt, Result.NOT_SENT)
    assert await bench.store.conclude([Conclusion(unsent, None)], tenure)
    assert len((await bench.store.standing("r", bench.now)).calls) == 1
    assert await bench.store.admit(intents[2:], tenure, ROOM) == {}
    [four] = await opened(bench, make, tenure, "k4")
    assert await bench.store.admit([make.intent(four, tenure)], tenure, ROOM) == {"a-i-k4": Why.CALLS_PER_HOUR}
    await bench.advance(minutes=61)
    assert await bench.store.admit([make.intent(four, tenure)], tenure, ROOM) == {}


async def test_an_intent_on_an_older_version_is_not_let_in(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    await bench.store.commit(Change("r", (replace(one, why=Why.WAITING),)), tenure)
    stranger = make.incident("k9", version=1)
    refused = await bench.store.admit([make.intent(one, tenure), make.intent(stranger, tenure)], tenure, ROOM)
    assert refused == {"a-i-k1": Why.UNKNOWN, "a-i-k9": Why.UNKNOWN}
    assert (await bench.store.standing("r", bench.now)).attempts == {}


async def test_nobody_is_let_in_when_too_little_of_the_lease_is_left(bench, make):
    """Law 16."""
    tenure = await bench.running(make.rule(), lease=30)
    [one] = await opened(bench, make, tenure, "k1")
    await bench.advance(seconds=26)
    assert await bench.store.admit([make.intent(one, tenure)], tenure, ROOM) == {"a-i-k1": Why.LEASE_SHORT}
    await bench.store.renew([tenure], LEASE)
    assert await bench.store.admit([make.intent(one, tenure)], tenure, ROOM) == {}


async def test_the_gate_is_closed_to_who_lost_the_rule_or_runs_an_older_version(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule(digest="d2")], None)
    with pytest.raises(Fenced):
        await bench.store.admit([make.intent(one, tenure)], tenure, ROOM)
    await bench.advance(minutes=1)
    with pytest.raises(Fenced):
        await bench.store.admit([make.intent(one, tenure)], tenure, ROOM)
    assert (await bench.store.standing("r", bench.now)).attempts == {}


# Outcomes


async def test_an_outcome_and_its_incident_are_recorded_together(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    intent = make.intent(one, tenure)
    await bench.store.admit([intent], tenure, ROOM)
    ended = make.done(intent.attempt)
    after = replace(intent.incident, version=2, credit=True, why=Why.SETTLING)
    assert await bench.store.conclude([Conclusion(ended, after)], tenure)
    standing = await bench.store.standing("r", bench.now)
    assert standing.attempts == {}
    assert standing.incidents == (replace(after, version=3),)
    assert await bench.store.attempts(one.id) == (ended,)


async def test_a_late_outcome_is_accepted_from_its_own_sender_and_changes_nothing_by_itself(bench, make):
    """Law 16."""
    stale = await bench.running(make.rule())
    [one] = await opened(bench, make, stale, "k1")
    intent = make.intent(one, stale)
    await bench.store.admit([intent], stale, ROOM)
    await bench.advance(minutes=1)
    fresh = await bench.store.take({"r": "d1"}, "beta", LEASE)
    [now_known] = (await bench.store.standing("r", bench.now)).incidents
    crashed = replace(intent.attempt, outcome=Outcome(Result.UNKNOWN, CRASHED), ended=bench.now, settled=bench.now)
    await bench.store.commit(Change("r", (replace(now_known, why=Why.WAITING),), closed=(crashed,)), fresh)
    late = make.done(intent.attempt)
    stranger = replace(late, holder="gamma", outcome=Outcome(Result.REFUSED))
    later_life = replace(late, epoch=fresh.epoch, outcome=Outcome(Result.REFUSED))
    strangers = [Conclusion(stranger, None), Conclusion(later_life, None)]
    assert not await bench.store.conclude([*strangers, Conclusion(late, now_known)], stale)
    assert await bench.store.attempts(one.id) == (late,)
    assert (await incidents(bench))["k1"].why is Why.WAITING


async def test_a_recorded_outcome_is_not_overwritten(bench, make):
    tenure = await bench.running(make.rule())
    [one] = await opened(bench, make, tenure, "k1")
    intent = make.intent(one, tenure)
    await bench.store.admit([intent], tenure, ROOM)
    ended = make.done(intent.attempt)
    await bench.store.conclude([Conclusion(ended, None)], tenure)
    await bench.store.conclude([Conclusion(make.done(intent.attempt, Result.REFUSED), None)], tenure)
    crashed = make.done(intent.attempt, Result.UNKNOWN, CRASHED)
    await bench.store.commit(Change("r", closed=(crashed,)), tenure)
    assert await bench.store.attempts(one.id) == (ended,)


async def test_an_outcome_that_came_too_late_for_its_incident_waits_for_the_successor(bench, make):
    """Law 16: the incident still names its attempt in flight, so the next cycle is handed the ended attempt."""
    stale = await bench.running(make.rule())
    [one] = await opened(bench, make, stale, "k1")
    intent = make.intent(one, stale)
    intent = replace(intent, incident=replace(intent.incident, flight=intent.attempt.id))
    await bench.store.admit([intent], stale, ROOM)
    await bench.advance(minutes=1)
    ended = make.done(intent.attempt)
    known = replace(intent.incident, version=2)
    assert not await bench.store.conclude([Conclusion(ended, replace(known, flight=None))], stale)
    assert (await bench.store.standing("r", bench.now)).attempts == {one.id: ended}
    fresh = await bench.store.take({"r": "d1"}, "beta", LEASE)
    await bench.store.commit(Change("r", (replace(known, flight=None),)), fresh)
    assert (await bench.store.standing("r", bench.now)).attempts == {}


async def test_outcomes_stand_although_an_incident_was_written_meanwhile(bench, make):
    tenure = await bench.running(make.rule())
    found = await opened(bench, make, tenure, "k1", "k2")
    intents = [make.intent(one, tenure) for one in found]
    await bench.store.admit(intents, tenure, ROOM)
    await bench.store.commit(Change("r", (replace(intents[0].incident, version=2),)), tenure)
    conclusions = [Conclusion(make.done(one.attempt), replace(one.incident, version=2, handled=True)) for one in intents]
    assert not await bench.store.conclude(conclusions, tenure)
    standing = await bench.store.standing("r", bench.now)
    assert standing.attempts == {}
    assert [one.handled for one in standing.incidents] == [False, False]


# What one rule knows of others


async def test_a_rule_learns_what_others_are_telling_about_its_objects(bench, make):
    tenure = await bench.running(make.rule())
    await opened(bench, make, tenure, "k1", object="order-7", phase=Phase.ESCALATED)
    await opened(bench, make, tenure, "k2", object="order-8")
    await opened(bench, make, tenure, "k3", object="order-9", levels={"l1": bench.now})
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule(severity=0), make.rule("s")], None)
    other = await bench.store.take({"s": "d1"}, "beta", LEASE)
    for number in (7, 8, 9):
        await opened(bench, make, other, f"s{number}", rule="s", object=f"order-{number}")
    opened_at = bench.now - timedelta(seconds=1)
    expected = (Telling("order-7", "r", 0, opened_at), Telling("order-9", "r", 0, opened_at))
    assert (await bench.store.standing("s", bench.now)).tellings == expected


@pytest.mark.parametrize("mode", ["observe", "disabled", None])
async def test_a_rule_that_tells_nobody_speaks_for_nobody(bench, make, mode):
    tenure = await bench.running(make.rule())
    await opened(bench, make, tenure, "k1", object="order-7", phase=Phase.ESCALATED, levels={"l1": bench.now})
    await bench.store.activate([*([make.rule(digest="d2", mode=mode)] if mode else []), make.rule("s")], None)
    other = await bench.store.take({"s": "d1"}, "beta", LEASE)
    await opened(bench, make, other, "s7", rule="s", object="order-7")
    assert (await bench.store.standing("s", bench.now)).tellings == ()


async def test_standing_of_a_rule_that_nobody_knows_is_empty(bench):
    assert (await bench.store.standing("nobody", bench.now)).incidents == ()


async def test_an_illness_keeps_its_begin_and_is_told_by_whoever_met_it_first(bench, make):
    tenure = await bench.running(make.rule(), lease=3600)
    for seconds in (0, 2):
        since = bench.now + timedelta(seconds=seconds)
        illness = Illness("ozon", since, "HTTP 401", since + timedelta(minutes=5))
        notice = make.notice(f"n{seconds}", NoticeKind.CONNECTOR_ILL, problem="connector/ozon", episode=seconds, context={
            "connector": "ozon", "since": since.isoformat(),
        })  # fmt: skip
        await bench.store.commit(Change("r", notices=(notice,), dispatches=(make.dispatch(notice),), ill=(illness,)), tenure)
    [told] = await bench.store.notices()
    [ill] = (await bench.store.standing("r", bench.now)).illnesses.values()
    assert (told.notice.id, ill.since, ill.retry_at) == ("n0", bench.now, bench.now + timedelta(minutes=5, seconds=2))
