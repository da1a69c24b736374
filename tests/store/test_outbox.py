"""Notices on their way, and the rates that connectors share, on both stores."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.engine.change import Change, GiveBack

LEASE = timedelta(seconds=60)
DONE = Outcome(Result.DONE, reference="101")


async def told(bench, make, *notices, problem=None, **dispatch):
    """A tenure whose commit wrote these notices, each with one dispatch."""
    tenure = await bench.running(make.rule(), lease=3600)
    dispatches = tuple(make.dispatch(notice, **dispatch) for notice in notices)
    problems = (problem or make.problem(),)
    await bench.store.commit(Change("r", problems=problems, notices=notices, dispatches=dispatches), tenure)
    return tenure


async def lease(bench, holder="n1", limit=10):
    return list(await bench.store.lease(holder, limit, LEASE))


async def settle(bench, dispatch, state=DeliveryState.DONE, outcome=DONE, following=(), **changes):
    changed = replace(dispatch, state=state, tries=dispatch.tries + 1, **changes)
    return await bench.store.settle(changed, outcome, following, bench.now)


async def test_a_message_is_leased_whole_to_one_notifier(bench, make):
    notice = make.notice(incidents=("i1", "i2"), context={"at": "x", "n": [1]}, deadline=bench.now)
    await told(bench, make, notice)
    [sent] = await lease(bench)
    assert sent == replace(make.dispatch(notice), epoch=1)
    assert await lease(bench, "n2") == []


async def test_a_crashed_notifiers_message_comes_back_and_shows_it(bench, make):
    await told(bench, make, make.notice())
    [lost] = await lease(bench)
    await bench.advance(seconds=60)
    [again] = await lease(bench, "n2")
    assert (again.epoch, again.tries) == (2, 0)
    assert not await settle(bench, lost)
    assert await settle(bench, again)
    assert await lease(bench) == []


async def test_a_message_waits_for_its_time(bench, make):
    await told(bench, make, make.notice(), not_before=bench.now + timedelta(hours=1))
    assert await lease(bench) == []
    await bench.advance(hours=1)
    [sent] = await lease(bench)
    assert await settle(bench, sent, DeliveryState.PENDING, not_before=bench.now + timedelta(minutes=5), reason="429")
    await bench.advance(minutes=4)
    assert await lease(bench) == []
    await bench.advance(minutes=1)
    [again] = await lease(bench)
    assert (again.tries, again.reason) == (1, "429")


async def test_the_end_of_a_problem_is_not_told_before_its_begin(bench, make):
    begin, end = make.notice("n1"), make.notice("n2", NoticeKind.END, sequence=2)
    other = make.notice("n3", problem="p2")
    await told(bench, make, begin, end, other)
    first, elsewhere = await lease(bench)
    assert (first.id, elsewhere.id) == ("d-n1", "d-n3")
    assert await settle(bench, elsewhere)
    assert await settle(bench, first, DeliveryState.PENDING, not_before=bench.now + timedelta(hours=1))
    assert await lease(bench) == []
    await bench.advance(hours=1)
    [begun] = await lease(bench)
    assert await settle(bench, begun)
    assert [one.id for one in await lease(bench)] == ["d-n2"]


async def test_mirrors_and_other_contacts_do_not_wait_for_each_other(bench, make):
    begin, end = make.notice("n1"), make.notice("n2", NoticeKind.END, sequence=2)
    tenure = await told(bench, make, begin)
    dispatches = make.dispatch(end, mirror=True, via="sentry"), make.dispatch(end, id="d2", contact="logistics")
    await bench.store.commit(Change("r", notices=(end,), dispatches=dispatches), tenure)
    assert {one.id for one in await lease(bench)} == {"d-n1", "d-n2", "d2"}


async def test_a_thread_goes_on_from_the_first_message_of_its_episode(bench, make):
    begin, growth = make.notice("n1"), make.notice("n2", NoticeKind.GROWTH, sequence=2)
    again = make.notice("n3", episode=2, sequence=1)
    await told(bench, make, begin, growth, again)
    threads = []
    for reference in ("101", "102", "103"):
        [sent] = await lease(bench)
        threads.append(sent.thread)
        await settle(bench, sent, outcome=Outcome(Result.DONE, reference=reference))
    assert threads == ["", "101", ""]


async def test_the_same_notice_is_written_once(bench, make):
    """Law 13: (problem, episode, kind, sequence)."""
    tenure = await told(bench, make, make.notice("n1"))
    twin = make.notice("n9")
    await bench.store.commit(Change("r", notices=(twin,), dispatches=(make.dispatch(twin),)), tenure)
    assert [one.id for one in await lease(bench)] == ["d-n1"]


async def test_the_first_awaited_answer_marks_the_episode_as_delivered_and_makes_the_rule_due(bench, make):
    begin, growth = make.notice("n1"), make.notice("n2", NoticeKind.GROWTH, sequence=2)
    tenure = await told(bench, make, begin, growth)
    later = bench.now + timedelta(hours=1)
    await bench.store.give_back(tenure, GiveBack(later, later))
    [sent] = await lease(bench)
    delivered = await bench.advance(seconds=5)
    await settle(bench, sent)
    tenure = await bench.store.take({"r": "d1"}, "alpha", LEASE)
    assert tenure is not None
    assert [one.delivered for one in (await bench.store.standing("r", bench.now)).problems] == [delivered]
    await bench.store.give_back(tenure, GiveBack(later, later))
    await bench.advance(seconds=5)
    await settle(bench, (await lease(bench))[0])
    assert await bench.store.take({"r": "d1"}, "alpha", LEASE) is None
    assert [one.delivered for one in (await bench.store.standing("r", bench.now)).problems] == [delivered]


async def test_a_commit_does_not_forget_what_was_delivered_and_a_new_episode_begins_untold(bench, make):
    tenure = await told(bench, make, make.notice())
    await settle(bench, (await lease(bench))[0])
    await bench.store.commit(Change("r", problems=(make.problem(told=4),)), tenure)
    assert (await bench.store.standing("r", bench.now)).problems[0].delivered == bench.now
    await bench.store.commit(Change("r", problems=(make.problem(episode=2),)), tenure)
    assert (await bench.store.standing("r", bench.now)).problems == (make.problem(episode=2),)


async def test_a_late_message_of_an_older_episode_does_not_make_the_new_one_undelivered(bench, make):
    old, new = make.notice("n1"), make.notice("n2", episode=2)
    tenure = await told(bench, make, old, problem=make.problem(episode=2))
    [late] = await lease(bench)
    await bench.store.commit(Change("r", notices=(new,), dispatches=(make.dispatch(new, via="pager"),)), tenure)
    [sent] = await lease(bench)
    await settle(bench, sent)
    delivered = bench.now
    await bench.advance(seconds=5)
    await settle(bench, late)
    assert [one.delivered for one in (await bench.store.standing("r", bench.now)).problems] == [delivered]


@pytest.mark.parametrize("case", ["failed", "mirror"])
async def test_a_failure_or_a_mirror_reaches_nobody(bench, make, case):
    await told(bench, make, make.notice(), mirror=case == "mirror")
    [sent] = await lease(bench)
    await settle(bench, sent, DeliveryState.FAILED if case == "failed" else DeliveryState.DONE)
    assert (await bench.store.standing("r", bench.now)).problems[0].delivered is None


async def test_the_next_channel_follows_in_the_same_transaction(bench, make):
    await told(bench, make, make.notice("n1"), make.notice("n2", NoticeKind.END, sequence=2))
    [first] = await lease(bench)
    [end] = await bench.store.behind(first, "n1", LEASE)
    last = make.dispatch(end.notice, id="d-last", via="sentry", position=1)
    assert await settle(bench, end, DeliveryState.FAILED, following=[last], reason="chat not found")
    following = make.dispatch(first.notice, id="d-next", via="sentry", position=1)
    assert await settle(bench, first, DeliveryState.FAILED, following=[following], reason="chat not found")
    [second] = await lease(bench)
    assert (second.id, second.position) == ("d-next", 1), "before the end that was written earlier"
    assert not await settle(bench, replace(first, epoch=1), following=[make.dispatch(first.notice, id="d-stray")])
    await settle(bench, second)
    assert [one.id for one in await lease(bench)] == ["d-last"]


async def test_a_channel_that_is_down_keeps_nothing_back_from_another(bench, make):
    begin, deadline = make.notice("n1"), make.notice("n2", NoticeKind.DEADLINE, sequence=2)
    tenure = await told(bench, make, begin)
    [down] = await lease(bench)
    await settle(bench, down, DeliveryState.PENDING, not_before=bench.now + timedelta(minutes=5), reason="503")
    both = make.dispatch(deadline), make.dispatch(deadline, id="d-pager", via="pager", position=1)
    await bench.store.commit(Change("r", notices=(deadline,), dispatches=both), tenure)
    assert [one.id for one in await lease(bench)] == ["d-pager"]


async def test_a_contacts_rate_counts_what_it_was_sent(bench, make):
    await told(bench, make, make.notice("n1"), make.notice("n2", problem="p2"), make.notice("n3", problem="p3"))
    for dispatch, state in zip(await lease(bench), (DeliveryState.DONE, DeliveryState.FAILED), strict=False):
        await settle(bench, dispatch, state)
    since = bench.now
    await bench.advance(minutes=1)
    assert await bench.store.sent("crm", since) == 1
    assert await bench.store.sent("logistics", since) == 0
    assert await bench.store.sent("crm", bench.now) == 0


async def test_messages_that_left_as_one_count_as_one(bench, make):
    await told(bench, make, make.notice("n1"), make.notice("n2", NoticeKind.GROWTH, sequence=2), make.notice("n3", problem="p2"))
    [first, other] = await lease(bench)
    for dispatch in (first, *await bench.store.behind(first, "n1", LEASE), other):
        assert await settle(bench, dispatch)
    assert await bench.store.sent("crm", bench.now - timedelta(hours=1)) == 2


# Rates


async def test_a_burst_is_granted_and_then_the_rate_holds(bench):
    granted = [await bench.store.reserve("ozon", 2.0, 5, 1) for _ in range(6)]
    assert granted[:5] == [0.0] * 5
    assert granted[5] == pytest.approx(0.5)
    await bench.advance(seconds=0.5)
    assert await bench.store.reserve("ozon", 2.0, 5, 1) == 0.0
    assert await bench.store.reserve("ozon", 2.0, 5, 2) == pytest.approx(1.0)
    assert await bench.store.reserve("lamoda", 2.0, 5, 5) == 0.0


async def test_a_refusal_takes_nothing(bench):
    await bench.store.reserve("ozon", 1.0, 2, 2)
    waits = [await bench.store.reserve("ozon", 1.0, 2, 1) for _ in range(3)]
    assert waits == [pytest.approx(1.0)] * 3


async def test_retry_after_pushes_the_row_that_all_share_and_never_back(bench):
    await bench.store.push("ozon", bench.now + timedelta(seconds=30))
    await bench.store.push("ozon", bench.now + timedelta(seconds=10))
    assert await bench.store.reserve("ozon", 1.0, 3, 1) == pytest.approx(31.0)
    await bench.advance(seconds=31)
    assert await bench.store.reserve("ozon", 1.0, 3, 1) == 0.0


async def test_what_could_never_be_granted_is_refused_outright(bench):
    with pytest.raises(ValueError, match="can never be had"):
        await bench.store.reserve("ozon", 1.0, 2, 3)
