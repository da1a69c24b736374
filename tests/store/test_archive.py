"""What views and metrics read, the same from both stores."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Marks, Phase, Resolution, Why
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.domain.standing import Illness, Pause, RuleState
from daemon.domain.value import Money
from daemon.engine.archive import Happening, NotUnique, Totals, Wanted
from daemon.engine.change import Change, Conclusion

ROOM = timedelta(seconds=5)


async def keys(bench, **wanted):
    return [one.key for one in await bench.store.incidents(Wanted(**wanted))]


async def healed(bench, make, key="k1", hours=2.0):
    """One subject that was found, called once, and proved healed some hours later; its incident's id."""
    tenure = await bench.running(make.rule(), lease=360_000)
    await bench.store.commit(Change("r", (make.incident(key, opened=bench.now),)), tenure)
    [incident] = (await bench.store.standing("r", bench.now)).incidents
    intent = make.intent(incident, tenure, begun=bench.now)
    assert await bench.store.admit([intent], tenure, ROOM) == {}
    await bench.advance(seconds=2)
    settling = replace(intent.incident, version=2, why=Why.SETTLING)
    await bench.store.conclude([Conclusion(make.done(intent.attempt), settling)], tenure)
    await bench.advance(hours=hours, seconds=-2)
    ended = replace(settling, version=3, phase=Phase.RESOLVED, why=Why.PROVED, resolution=Resolution.HEALED)
    await bench.store.commit(Change("r", (replace(ended, ended=bench.now),)), tenure)
    return tenure


async def test_the_journal_has_a_line_for_each_new_phase_or_why_and_no_other(bench, make):
    tenure = await bench.running(make.rule())
    incident = make.incident(cause="no_deal", reason="seen")
    await bench.store.commit(Change("r", (incident,)), tenure)
    await bench.advance(seconds=1)
    await bench.store.commit(Change("r", (replace(incident, version=1, last=bench.now),)), tenure)
    await bench.advance(seconds=1)
    told = replace(incident, version=2, phase=Phase.ESCALATED, why=Why.LADDER_SPENT)
    await bench.store.commit(Change("r", (told,)), tenure)
    lines = await bench.store.journal(incident.id)
    assert [(line.phase, line.why, line.at) for line in lines] == [
        ("open", "grace", bench.now - timedelta(seconds=2)), ("escalated", "ladder_spent", bench.now)
    ]  # fmt: skip
    assert (lines[0].key, lines[0].cause, lines[0].reason, lines[0].verdict) == ("k1", "no_deal", "seen", "broken")
    assert await bench.store.journal("nobody") == ()


async def test_incidents_are_found_by_what_people_filter_by(bench, make):
    tenure = await bench.running(make.rule())
    past = bench.now - timedelta(hours=3)
    await bench.store.commit(Change("r", (
        make.incident("old", opened=past, cause="a"),
        make.incident("told", phase=Phase.ESCALATED, cause="b"),
        make.incident("mine", phase=Phase.QUARANTINED, marks=Marks(claimed_by="anna")),
        make.incident("lapsed", phase=Phase.ESCALATED, marks=Marks(claimed_by="anna", claimed_until=past)),
        make.incident("over", phase=Phase.RESOLVED, ended=bench.now, resolution=Resolution.GONE),
    )), tenure)  # fmt: skip
    assert await keys(bench) == ["old", "lapsed", "mine", "told"]
    assert await keys(bench, rule="s") == []
    assert await keys(bench, phases=("resolved", "quarantined")) == ["mine", "over"]
    assert await keys(bench, cause="b") == ["told"]
    assert await keys(bench, older=timedelta(hours=2)) == ["old"]
    assert await keys(bench, needs_person=True) == ["lapsed", "told"]
    assert await keys(bench, limit=2) == ["old", "lapsed"]


async def test_an_incident_is_had_by_its_id_or_the_beginning_of_it(bench, make):
    tenure = await bench.running(make.rule())
    made = [make.incident(id, id=id) for id in ("abc", "abcd", "xyz")]
    await bench.store.commit(Change("r", tuple(made)), tenure)
    assert (await bench.store.incident("abc")).id == "abc"
    assert (await bench.store.incident("x")).id == "xyz"
    assert await bench.store.incident("abx") is None
    with pytest.raises(NotUnique, match="abc, abcd"):
        await bench.store.incident("ab")


@pytest.mark.parametrize(
    ("text", "found"),
    [("oz-1", True), ("ROW-OZ", True), ("object-9", True), ("incid", True), ("0042-a", True), ("77", True),
     ("nested", True), ("7", False), ("ncident", False), ("042-a", False), ("true", False), ("%", False), ("_", False)],
)  # fmt: skip
async def test_any_number_from_a_chat_finds_its_incident(bench, make, text, found):
    """Exactly, where it is a fact; in any part, where it identifies the subject."""
    tenure = await bench.running(make.rule())
    facts = {"posting": "0042-A", "deal": 77, "paid": True, "crm": {"ids": ["NESTED"]}}
    one = make.incident("OZ-1", id="incident", record_key="row-oz", object="Object-9", facts=facts)
    await bench.store.commit(Change("r", (one,)), tenure)
    assert [hit.key for hit in await bench.store.find(text)] == (["OZ-1"] if found else [])


async def test_live_incidents_are_found_before_ended_ones_and_new_before_old(bench, make):
    tenure = await bench.running(make.rule())
    spans = {"a": 3, "b": 2, "c": 1}
    made = [make.incident(f"oz-{key}", opened=bench.now - timedelta(hours=hours)) for key, hours in spans.items()]
    made[2] = replace(made[2], phase=Phase.RESOLVED, ended=bench.now, resolution=Resolution.GONE)
    await bench.store.commit(Change("r", tuple(made)), tenure)
    assert [one.key for one in await bench.store.find("oz")] == ["oz-b", "oz-a", "oz-c"]
    assert [one.key for one in await bench.store.find("oz", limit=1)] == ["oz-b"]


async def test_a_rules_balance_says_what_became_of_its_subjects(bench, make):
    await healed(bench, make, "k1", hours=2)
    [balance] = await bench.store.totals()
    span = timedelta(hours=2)
    assert balance == Totals("r", found=1, healed=1, calls=1, median=span, longest=span)


async def test_escalated_ones_stay_counted_when_they_ended(bench, make):
    tenure = await bench.running(make.rule())
    one = make.incident(phase=Phase.ESCALATED)
    await bench.store.commit(Change("r", (one, make.incident("k2"))), tenure)
    over = replace(one, version=1, phase=Phase.RESOLVED, resolution=Resolution.HANDLED, ended=bench.now)
    await bench.store.commit(Change("r", (over,)), tenure)
    assert await bench.store.totals() == (Totals("r", found=2, live=1, handled=1, escalated=1),)


async def test_the_last_happenings_tell_phases_and_attempts_in_order(bench, make):
    start = bench.now
    await healed(bench, make, "k1", hours=2)
    lines = [
        Happening(start, "r", "i-k1", "k1", "phase", "open", "grace", ""),
        Happening(start + timedelta(seconds=1), "r", "i-k1", "k1", "attempt", "upload", "done", ""),
        Happening(start + timedelta(seconds=2), "r", "i-k1", "k1", "phase", "open", "settling", ""),
        Happening(start + timedelta(hours=2), "r", "i-k1", "k1", "phase", "resolved", "healed", ""),
    ]
    assert list(await bench.store.recent(10)) == lines
    assert list(await bench.store.recent(2)) == lines[2:]


async def test_the_gauges_show_how_every_rule_stands(bench, make):
    tenure = await healed(bench, make)
    start, now = bench.now - timedelta(hours=2), bench.now
    roubles, tenge = Money(Decimal("10.50"), "RUB"), Money(Decimal(4000), "KZT")
    await bench.store.commit(Change(
        "r",
        (make.incident("a", value=roubles, opened=now), make.incident("b", value=roubles, phase=Phase.ESCALATED),
         make.incident("c", value=roubles, phase=Phase.PROVED), make.incident("d", value=tenge, why=Why.PAUSED)),
        ill=(Illness("cdek", now, "401", now),), state=RuleState(last_complete=now, candidates=9),
    ), tenure)  # fmt: skip
    intent = make.intent(make.incident("a", opened=now, value=roubles, version=1), tenure, begun=now)
    await bench.store.admit([intent], tenure, ROOM)
    await bench.store.pause(Pause("p", "anna", "", now))
    seen = await bench.store.gauges()
    [rule] = seen.rules
    assert seen.now == now
    assert ([one.connector for one in seen.illnesses], [one.id for one in seen.pauses]) == (["cdek"], ["p"])
    assert rule.phases == {"open": 2, "escalated": 1, "proved": 1}
    assert rule.whys == {"grace": 3, "paused": 1}
    assert rule.at_risk == {"RUB": Decimal("21.00"), "KZT": Decimal(4000)}
    assert rule.resolutions == {"healed": 1}
    assert (rule.attempts, rule.calls, rule.calls_last_hour) == ({"done": 1, "open": 1}, 2, 1)
    assert (rule.row.oldest, rule.row.state.candidates, rule.row.holder) == (start, 9, "alpha")
    assert (rule.row.name, rule.row.digest, rule.row.every) == ("r", "d1", timedelta(minutes=5))


async def test_the_gauges_count_who_needs_a_person_and_what_presses(bench, make):
    tenure = await bench.running(make.rule())
    now, soon = bench.now, timedelta(minutes=119)
    claimed = {"marks": Marks(claimed_by="anna", claimed_until=now + soon)}
    await bench.store.commit(Change("r", (
        make.incident("near", deadline=now + soon), make.incident("missed", deadline=now),
        make.incident("far", deadline=now + timedelta(minutes=121)), make.incident("proved", phase=Phase.PROVED, deadline=now),
        make.incident("left", phase=Phase.ESCALATED), make.incident("quarantined", phase=Phase.QUARANTINED),
        make.incident("claimed", phase=Phase.ESCALATED, **claimed),
        make.incident("lapsed", phase=Phase.ESCALATED, marks=Marks(claimed_by="anna", claimed_until=now)),
    )), tenure)  # fmt: skip
    [rule] = (await bench.store.gauges()).rules
    assert (rule.deadlines_near, rule.deadlines_missed, rule.needs_person) == (1, 1, 3)


async def test_a_relapse_does_not_take_a_resolution_back(bench, make):
    tenure = await healed(bench, make)
    previous = (await bench.store.previous("r", ["k1"]))["k1"]
    await bench.store.commit(Change("r", (replace(previous, phase=Phase.OPEN, resolution=None, ended=None),)), tenure)
    [rule] = (await bench.store.gauges()).rules
    assert rule.resolutions == {"healed": 1}


async def test_notices_are_told_with_all_their_ways(bench, make):
    tenure = await bench.running(make.rule())
    begin = make.notice("n1", incidents=("i-k1",))
    end = make.notice("n2", NoticeKind.END, sequence=2, incidents=("i-k2",))
    ways = make.dispatch(begin), make.dispatch(begin, id="d-mirror", via="sentry", mirror=True), make.dispatch(end)
    await bench.store.commit(Change("r", problems=(make.problem(),), notices=(begin, end), dispatches=ways), tenure)
    assert await bench.store.undelivered() == ()
    for sent in await bench.store.lease("n", 10, timedelta(minutes=1)):
        state = DeliveryState.DONE if sent.mirror else DeliveryState.FAILED
        changed = replace(sent, state=state, tries=1, reason="chat not found")
        await bench.store.settle(changed, Outcome(Result.DONE, reference="7"), (), bench.now)
    [told] = await bench.store.notices(incident="i-k1")
    assert told.notice == begin
    assert [(way.via, way.state, way.reason, way.reference) for way in told.ways] == [
        ("telegram", "failed", "chat not found", "7"), ("sentry", "done", "chat not found", "7")
    ]  # fmt: skip
    assert {way.ended for way in told.ways} == {bench.now}
    assert [one.notice.id for one in await bench.store.notices(problem="p1")] == ["n1", "n2"]
    assert [one.notice.id for one in await bench.store.undelivered()] == ["n1"]
    [rule] = (await bench.store.gauges()).rules
    assert rule.undelivered == 1
    assert rule.notices == {("begin", "failed"): 1, ("begin", "done"): 1, ("end", "pending"): 1}


async def test_what_people_said_stays_readable_after_it_was_obeyed(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.direct(make.directive())
    await bench.store.commit(Change("r", obeyed=("w1",)), tenure)
    assert await bench.store.words("i-k1") == (make.directive(),)
    assert await bench.store.words("i-k2") == ()


async def test_pauses_and_illnesses_are_listed_while_they_last(bench, make):
    tenure = await bench.running(make.rule())
    pause = Pause("p", "anna", "", bench.now, bench.now + timedelta(minutes=1), rule="s")
    illness = Illness("cdek", bench.now, "401", bench.now)
    await bench.store.pause(pause)
    await bench.store.commit(Change("r", ill=(illness,)), tenure)
    assert (tuple(await bench.store.pauses()), tuple(await bench.store.illnesses())) == ((pause,), (illness,))
    await bench.advance(minutes=1)
    assert tuple(await bench.store.pauses()) == ()
