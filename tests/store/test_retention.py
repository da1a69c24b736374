"""Forgetting, and what must not be forgotten."""

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Phase, Resolution
from daemon.domain.notice import DeliveryState
from daemon.engine.change import Change, Conclusion
from daemon.store.queries import queries

KEEP = timedelta(days=90)


async def ended(bench, make, tenure, *keys):
    incidents = [make.incident(key) for key in keys]
    await bench.store.commit(Change("r", tuple(incidents)), tenure)
    intents = [make.intent(replace(one, version=1), tenure) for one in incidents]
    await bench.store.admit(intents, tenure, timedelta(seconds=1))
    await bench.store.conclude([Conclusion(make.done(intent.attempt), None) for intent in intents], tenure)
    over = [replace(intent.incident, version=2, phase=Phase.RESOLVED, resolution=Resolution.HEALED, ended=bench.now)
            for intent in intents]  # fmt: skip
    await bench.store.commit(Change("r", tuple(over)), tenure)


async def test_what_ended_long_ago_is_forgotten_in_batches_and_stays_counted(postgres, make):
    tenure = await postgres.running(make.rule(), lease=10**8)
    await ended(postgres, make, tenure, "k1", "k2", "k3")
    notices = tuple(make.notice(f"n{number}", sequence=number) for number in (1, 2, 3))
    dispatches = tuple(make.dispatch(notice) for notice in notices)
    await postgres.store.commit(Change("r", notices=notices, dispatches=dispatches), tenure)
    for _ in notices:
        [sent] = await postgres.store.lease("n", 1, timedelta(minutes=1))
        await postgres.store.settle(replace(sent, state=DeliveryState.DONE), Outcome(Result.DONE), (), postgres.now)
    before = (await postgres.store.gauges()).rules[0]
    await postgres.advance(days=91)
    assert await postgres.store.prune(KEEP, batch=2) > 6
    after = (await postgres.store.gauges()).rules[0]
    assert (after.resolutions, after.attempts, after.calls) == ({"healed": 3}, {"done": 3}, 3)
    assert after.notices == before.notices == {("begin", "done"): 3}
    assert await postgres.store.previous("r", ["k1"]) == {}
    assert await postgres.store.journal("i-k1") == ()
    assert await postgres.store.attempts("i-k1") == ()
    assert await postgres.store.notices() == ()
    assert await postgres.store.prune(KEEP) == 0


async def test_what_is_young_or_live_or_on_its_way_stays(postgres, make):
    tenure = await postgres.running(make.rule(), lease=10**8)
    notice = make.notice()
    change = Change("r", (make.incident("live"),), notices=(notice,), dispatches=(make.dispatch(notice),))
    await postgres.store.commit(change, tenure)
    await postgres.advance(days=91)
    await ended(postgres, make, tenure, "young")
    await postgres.store.prune(KEEP)
    assert [one.key for one in await postgres.store.incidents()] == ["live"]
    assert set(await postgres.store.previous("r", ["young"])) == {"young"}
    assert len(await postgres.store.lease("n", 1, timedelta(minutes=1))) == 1


async def test_a_told_subject_that_is_still_listed_keeps_its_key_however_long_ago_it_was_told(postgres, make):
    tenure = await postgres.running(make.rule(), lease=10**8)
    told = make.incident("k1", phase=Phase.RESOLVED, resolution=Resolution.TOLD, ended=postgres.now, last=postgres.now)
    await postgres.store.commit(Change("r", (told,)), tenure)
    await postgres.advance(days=80)
    await postgres.store.commit(Change("r", (replace(told, version=1, last=postgres.now),)), tenure)
    await postgres.advance(days=80)
    await postgres.store.prune(KEEP)
    assert set(await postgres.store.previous("r", ["k1"])) == {"k1"}
    await postgres.advance(days=11)
    await postgres.store.prune(KEEP)
    assert await postgres.store.previous("r", ["k1"]) == {}


async def test_a_problem_that_ended_long_ago_is_forgotten_with_its_notices_and_one_that_goes_on_is_not(postgres, make):
    tenure = await postgres.running(make.rule(), lease=10**8)
    over = make.problem("over", begun=postgres.now, ended=postgres.now)
    kept, active = make.problem("kept", begun=postgres.now, ended=postgres.now), make.problem("active", active=True, begun=postgres.now)
    pending = make.notice("n2", problem="kept")
    change = Change(
        "r", problems=(over, kept, active), notices=(make.notice("n1", problem="over"), pending), dispatches=(make.dispatch(pending),)
    )
    await postgres.store.commit(change, tenure)
    await postgres.advance(days=89)
    await postgres.store.prune(KEEP)
    assert len((await postgres.store.standing("r", postgres.now)).problems) == 3
    await postgres.advance(days=2)
    await postgres.store.prune(KEEP)
    assert [one.id for one in (await postgres.store.standing("r", postgres.now)).problems] == ["active", "kept"]


FULL = """
INSERT INTO incident (id, rule, key, record_key, object, phase, why, opened, ended, version, body)
SELECT n, 'r', n, n, n, 'resolved', 'proved', now(), now(), 1, '{}' FROM generate_series(1, 5000) AS n;
INSERT INTO notice (id, problem, rule, episode, kind, sequence, at, body)
SELECT n, n, 'r', 1, 'begin', 1, now(), '{}' FROM generate_series(1, 5000) AS n;
INSERT INTO directive (id, rule, at, obeyed, body) SELECT n, 'r', now(), now(), '{}' FROM generate_series(1, 5000) AS n;
ANALYZE;
"""


@pytest.mark.parametrize(
    ("name", "index"),
    [("forget_incidents", "incident_forgotten"), ("forget_notices", "notice_forgotten"), ("forget_words", "directive_forgotten")],
)
def test_what_is_to_be_forgotten_is_found_without_reading_what_stays(store_dsn, name, index):
    with psycopg.connect(store_dsn) as store:
        store.execute(FULL)
        about = {"before": "2000-01-01", "limit": 1000}
        plan = "\n".join(row[0] for row in store.execute(f"EXPLAIN {queries('retention')[name]}", about))
        assert index in plan, plan
