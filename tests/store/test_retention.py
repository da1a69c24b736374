"""Forgetting, and what must not be forgotten."""

from dataclasses import replace
from datetime import timedelta

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Phase, Resolution
from daemon.domain.notice import DeliveryState
from daemon.engine.change import Change, Conclusion

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
