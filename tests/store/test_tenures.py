"""Whose turn it is: activation, take, renew, give back, on both stores."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.incident import Phase
from daemon.engine.change import Change, Conflict, Fenced, GiveBack

LEASE = timedelta(seconds=30)
HOLDS = {"r": "d1"}


async def test_a_new_rule_is_due_at_once_and_for_one_replica_only(bench, make):
    await bench.store.activate([make.rule()], None)
    tenure = await bench.store.take(HOLDS, "alpha", LEASE)
    assert (tenure.rule, tenure.holder, tenure.scan_due) == ("r", "alpha", True)
    assert (tenure.now_db, tenure.until_db) == (bench.now, bench.now + LEASE)
    assert await bench.store.take(HOLDS, "beta", LEASE) is None


async def test_the_most_overdue_rule_comes_first_and_severity_breaks_the_tie(bench, make):
    held = {"mild": "d1", "grave": "d1", "late": "d1"}
    await bench.store.activate([make.rule("late")], 1)
    await bench.advance(minutes=1)
    await bench.store.activate([make.rule("late"), make.rule("mild", severity=2), make.rule("grave", severity=0)], 2)
    order = [(await bench.store.take(held, "alpha", LEASE)).rule for _ in held]
    assert order == ["late", "grave", "mild"]


async def test_a_dead_replicas_rule_moves_on_after_one_lease_with_a_higher_epoch(bench, make):
    first = await bench.running(make.rule())
    await bench.advance(seconds=29)
    assert await bench.store.take(HOLDS, "beta", LEASE) is None
    await bench.advance(seconds=1)
    second = await bench.store.take(HOLDS, "beta", LEASE)
    assert second.epoch == first.epoch + 1


async def test_a_renewed_tenure_outlives_its_first_lease_and_a_lost_one_is_not_renewed(bench, make):
    tenure = await bench.running(make.rule())
    await bench.advance(seconds=20)
    assert await bench.store.renew([tenure], LEASE) == {"r": bench.now + LEASE}
    await bench.advance(seconds=20)
    assert await bench.store.take(HOLDS, "beta", LEASE) is None
    await bench.advance(seconds=20)
    assert await bench.store.renew([tenure], LEASE) == {}
    assert await bench.store.take(HOLDS, "beta", LEASE) is not None
    assert await bench.store.renew([tenure], LEASE) == {}


async def test_a_rule_given_back_is_due_when_the_cycle_said(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(minutes=5), bench.now + timedelta(minutes=2)))
    await bench.advance(minutes=1)
    assert await bench.store.take(HOLDS, "beta", LEASE) is None
    await bench.advance(minutes=1)
    visit = await bench.store.take(HOLDS, "beta", LEASE)
    assert not visit.scan_due
    await bench.store.give_back(visit, GiveBack())
    await bench.advance(minutes=3)
    assert (await bench.store.take(HOLDS, "beta", LEASE)).scan_due


async def test_a_finished_cycle_that_names_no_visit_leaves_the_least_due_of_its_incidents(bench, make):
    tenure = await bench.running(make.rule())
    due = bench.now + timedelta(minutes=3)
    incidents = make.incident("k1", due=due), make.incident("k2", due=due + timedelta(minutes=9)), make.incident("k3")
    await bench.store.commit(Change("r", incidents), tenure)
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(hours=1)))
    await bench.advance(minutes=2)
    assert await bench.store.take(HOLDS, "alpha", LEASE) is None
    await bench.advance(minutes=1)
    assert not (await bench.store.take(HOLDS, "alpha", LEASE)).scan_due


async def test_a_rule_without_live_incidents_is_not_visited(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(hours=1)))
    await bench.advance(minutes=59)
    assert await bench.store.take(HOLDS, "alpha", LEASE) is None


async def test_a_persons_word_during_the_cycle_keeps_the_rule_due_now(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.direct(make.directive())
    later = bench.now + timedelta(hours=1)
    await bench.store.give_back(tenure, GiveBack(later, later))
    again = await bench.store.take(HOLDS, "alpha", LEASE)
    assert again is not None
    await bench.store.give_back(again, GiveBack(later, later))
    assert await bench.store.take(HOLDS, "alpha", LEASE) is None


async def test_giving_back_what_is_no_longer_ours_changes_nothing(bench, make):
    stale = await bench.running(make.rule())
    await bench.advance(minutes=1)
    fresh = await bench.store.take(HOLDS, "beta", LEASE)
    await bench.store.give_back(stale, GiveBack(bench.now + timedelta(hours=1)))
    assert await bench.store.renew([fresh], LEASE) == {"r": bench.now + LEASE}


async def test_a_rule_that_kills_its_process_is_taken_with_growing_delay(bench, make):
    """Law 18: at once after the first time, later and later from then on; a cycle that ends sets it right."""
    tenure = await bench.running(make.rule())
    waits = []
    for _ in range(4):
        await bench.advance(seconds=30)
        waited = 0
        while (tenure := await bench.store.take(HOLDS, "alpha", LEASE)) is None:
            await bench.advance(seconds=5)
            waited += 5
        waits.append(waited)
    assert waits == [0, 10, 20, 40]
    assert (await bench.store.standing("r", bench.now)).unfinished == 4
    await bench.store.give_back(tenure, GiveBack(bench.now))
    assert await bench.store.take(HOLDS, "alpha", LEASE) is not None
    assert (await bench.store.standing("r", bench.now)).unfinished == 0


async def test_a_cycle_given_back_unfinished_still_counts(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(finished=False))
    assert await bench.store.take(HOLDS, "beta", LEASE) is not None, "a rollout hands over at once"
    assert (await bench.store.standing("r", bench.now)).unfinished == 1


async def test_a_replica_takes_only_what_it_holds_in_the_active_version(bench, make):
    """Law 11."""
    await bench.store.activate([make.rule(digest="new")], 2)
    assert await bench.store.take({"r": "old"}, "alpha", LEASE) is None
    assert await bench.store.take({"other": "new"}, "alpha", LEASE) is None
    assert await bench.store.take({}, "alpha", LEASE) is None
    assert await bench.store.take({"r": "new"}, "beta", LEASE) is not None


async def test_only_a_higher_revision_or_the_same_one_activates(bench, make):
    await bench.store.activate([make.rule(digest="new")], 7)
    assert await bench.store.activate([make.rule(digest="old"), make.rule("stray")], 6) == ()
    assert await bench.store.take({"r": "old", "stray": "d1"}, "alpha", LEASE) is None
    await bench.store.activate([make.rule(digest="newer")], 7)
    assert await bench.store.take({"r": "newer"}, "alpha", LEASE) is not None


async def test_without_a_revision_the_later_start_wins(bench, make):
    await bench.store.activate([make.rule(digest="morning")], None)
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule(digest="noon")], None)
    assert await bench.store.take({"r": "morning"}, "alpha", LEASE) is None
    assert await bench.store.take({"r": "noon"}, "alpha", LEASE) is not None


async def test_a_version_that_nobody_takes_is_given_up_for_the_one_that_somebody_holds(bench, make):
    """A rollout that failed: its replica activated other rules and is gone; the old replicas were never started anew."""
    quarter, old = timedelta(minutes=15), {"r": "old"}
    await bench.store.activate([make.rule(digest="old")], 6)
    await bench.store.activate([make.rule(digest="new")], 7)
    tenure = await bench.store.take({"r": "new"}, "new", LEASE)
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(minutes=5)))
    await bench.advance(minutes=19, seconds=59)
    assert await bench.store.deserted(old, quarter) is None, "it was not due for a quarter of an hour yet"
    await bench.advance(seconds=1)
    assert await bench.store.deserted({"r": "new"}, quarter) is None, "we hold it ourselves"
    revision = await bench.store.deserted(old, quarter)
    assert revision == 8
    await bench.store.activate([make.rule(digest="old")], revision)
    assert await bench.store.take(old, "old", LEASE) is not None
    await bench.store.activate([make.rule(digest="new")], 7)
    assert await bench.store.take({"r": "new"}, "new", LEASE) is None, "the failed one comes back and is refused"


async def test_a_version_whose_holder_works_on_it_is_not_given_up_however_late(bench, make):
    await bench.store.activate([make.rule(digest="new")], 7)
    await bench.advance(minutes=14)
    assert await bench.store.take({"r": "new"}, "new", LEASE) is not None
    await bench.advance(minutes=15)
    assert await bench.store.deserted({"r": "old"}, timedelta(minutes=15)) is None
    await bench.advance(minutes=1)
    assert await bench.store.deserted({}, timedelta(minutes=15)) == 8


async def test_activating_the_same_version_again_leaves_its_times_alone(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(minutes=5)))
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule()], None)
    assert await bench.store.take(HOLDS, "alpha", LEASE) is None
    await bench.store.activate([make.rule(digest="d2")], None)
    assert await bench.store.take({"r": "d2"}, "alpha", LEASE) is not None


@pytest.mark.parametrize("left", [[], ["disabled"]], ids=["removed", "disabled"])
async def test_a_rule_that_is_gone_is_not_run_and_its_incidents_are_to_be_parked(bench, make, left):
    tenure = await bench.running(make.rule())
    incident = make.incident()
    await bench.store.commit(Change("r", (incident,)), tenure)
    await bench.advance(seconds=1)
    versions = [make.rule(mode=mode) for mode in left]
    assert list(await bench.store.activate(versions, None)) == ["r"]
    parked = Change("r", (replace(incident, version=1, phase=Phase.PARKED),))
    with pytest.raises(Conflict):
        await bench.store.park("r", parked)
    await bench.advance(seconds=30)
    assert await bench.store.take(HOLDS, "alpha", LEASE) is None
    await bench.store.park("r", parked)
    await bench.store.park("r", parked)
    [stored] = (await bench.store.standing("r", bench.now)).incidents
    assert (stored.phase, stored.version) == (Phase.PARKED, 2)
    assert list(await bench.store.activate(versions, None)) == []


async def test_an_active_rule_cannot_be_parked(bench, make):
    await bench.store.activate([make.rule()], None)
    with pytest.raises(Conflict):
        await bench.store.park("r", Change("r", (make.incident(),)))


async def test_a_rule_that_comes_back_is_due_at_once(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.give_back(tenure, GiveBack(bench.now + timedelta(hours=9)))
    await bench.advance(seconds=1)
    await bench.store.activate([], None)
    await bench.advance(seconds=1)
    await bench.store.activate([make.rule()], None)
    assert await bench.store.take(HOLDS, "alpha", LEASE) is not None


async def test_who_lost_the_rule_commits_nothing(bench, make):
    """Law 3."""
    stale = await bench.running(make.rule())
    await bench.advance(seconds=30)
    with pytest.raises(Fenced):
        await bench.store.commit(Change("r", (make.incident("k1"),)), stale)
    fresh = await bench.store.take(HOLDS, "beta", LEASE)
    with pytest.raises(Fenced):
        await bench.store.commit(Change("r", (make.incident("k1"),)), stale)
    await bench.store.give_back(fresh, GiveBack(bench.now))
    with pytest.raises(Fenced):
        await bench.store.commit(Change("r", (make.incident("k1"),)), fresh)
    assert (await bench.store.standing("r", bench.now)).incidents == ()


async def test_all_replicas_read_one_timescale(bench):
    scale = await bench.store.timescale()
    assert (scale.origin, scale.factor) == (bench.now, 1.0)


async def test_a_cycle_of_the_version_before_does_not_put_off_the_new_one(bench, make):
    tenure = await bench.running(make.rule())
    await bench.store.activate([make.rule(digest="d2")], None)
    await bench.store.give_back(tenure, GiveBack(scan_at=bench.now + timedelta(days=1), visit_at=bench.now + timedelta(days=1)))
    taken = await bench.store.take({"r": "d2"}, "beta", timedelta(seconds=30))
    assert taken is not None
    assert taken.scan_due
