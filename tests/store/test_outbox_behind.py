"""What waits behind a message can be leased with it, so that a night's messages leave as one; on both stores."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.engine.change import Change

LEASE = timedelta(seconds=60)


async def night(bench, make, **second):
    """A begin, a growth and an end of one episode, written while their contact slept."""
    tenure = await bench.running(make.rule(), lease=3600)
    kinds = (NoticeKind.BEGIN, NoticeKind.GROWTH, NoticeKind.END)
    notices = [make.notice(f"n{number}", kind, sequence=number) for number, kind in enumerate(kinds, 1)]
    dispatches = [make.dispatch(notice) for notice in notices]
    dispatches[1] = replace(dispatches[1], **second)
    change = Change("r", problems=(make.problem(),), notices=tuple(notices), dispatches=tuple(dispatches))
    await bench.store.commit(change, tenure)
    return tenure


async def test_all_that_waits_is_leased_with_the_first(bench, make):
    await night(bench, make)
    [head] = await bench.store.lease("n1", 10, LEASE)
    behind = await bench.store.behind(head, "n1", LEASE)
    assert [(one.id, one.epoch) for one in behind] == [("d-n2", 1), ("d-n3", 1)]
    for one in (head, *behind):
        done = replace(one, state=DeliveryState.DONE, tries=1)
        assert await bench.store.settle(done, Outcome(Result.DONE, reference="7"), (), bench.now)
    assert list(await bench.store.lease("n1", 10, LEASE)) == []


@pytest.mark.parametrize("second", [{"via": "sentry"}, {"contact": "boss"}, {"mirror": True}])
async def test_what_goes_elsewhere_does_not_go_with_it(bench, make, second):
    await night(bench, make, **second)
    head = next(one for one in await bench.store.lease("n1", 10, LEASE) if one.id == "d-n1")
    assert [one.id for one in await bench.store.behind(head, "n1", LEASE)] == ["d-n3"]


async def test_it_ends_before_the_first_that_is_not_due(bench, make):
    await night(bench, make, not_before=bench.now + timedelta(hours=1))
    [head] = await bench.store.lease("n1", 10, LEASE)
    assert list(await bench.store.behind(head, "n1", LEASE)) == []


async def test_another_episode_does_not_go_with_it(bench, make):
    tenure = await night(bench, make)
    again = make.notice("n4", episode=2, sequence=1)
    await bench.store.commit(Change("r", notices=(again,), dispatches=(make.dispatch(again),)), tenure)
    [head] = await bench.store.lease("n1", 10, LEASE)
    assert [one.id for one in await bench.store.behind(head, "n1", LEASE)] == ["d-n2", "d-n3"]


async def test_who_lost_the_first_gets_nothing_behind_it(bench, make):
    await night(bench, make)
    [lost] = await bench.store.lease("n1", 10, LEASE)
    await bench.advance(seconds=61)
    [head] = await bench.store.lease("n2", 10, LEASE)
    assert list(await bench.store.behind(lost, "n1", LEASE)) == []
    assert len(await bench.store.behind(head, "n2", LEASE)) == 2
    assert list(await bench.store.behind(head, "n2", LEASE)) == [], "leased already"


async def test_a_copy_for_the_record_goes_alone(bench, make):
    tenure = await bench.running(make.rule(), lease=3600)
    begin, end = make.notice("n1"), make.notice("n2", NoticeKind.END, sequence=2)
    dispatches = tuple(make.dispatch(notice, mirror=True) for notice in (begin, end))
    await bench.store.commit(Change("r", notices=(begin, end), dispatches=dispatches), tenure)
    [head] = await bench.store.lease("n1", 10, LEASE)
    assert list(await bench.store.behind(head, "n1", LEASE)) == []


@pytest.mark.parametrize("tries", [0, 1], ids=["waiting for hours", "asked to wait by its channel"])
async def test_what_may_not_wait_takes_with_it_what_only_waited_for_hours(bench, make, tries):
    tenure = await bench.running(make.rule(), lease=3600)
    begin, deadline = make.notice("n1"), make.notice("n2", NoticeKind.DEADLINE, sequence=2)
    waiting = make.dispatch(begin, not_before=bench.now + timedelta(hours=9), tries=tries)
    await bench.store.commit(Change("r", notices=(begin,), dispatches=(waiting,)), tenure)
    assert list(await bench.store.lease("n1", 10, LEASE)) == []
    await bench.store.commit(Change("r", notices=(deadline,), dispatches=(make.dispatch(deadline),)), tenure)
    leased = await bench.store.lease("n1", 10, LEASE)
    assert [one.id for one in leased] == ([] if tries else ["d-n1"])
    assert tries or [one.id for one in await bench.store.behind(leased[0], "n1", LEASE)] == ["d-n2"]
