"""Law 12: two clocks. Rule time runs sixty times as fast here; the wire's time is the database's."""

import itertools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import UPLOAD, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Resolution, Why
from daemon.domain.rule import Step
from daemon.engine.act import MARGIN, ROOM

FACTOR = 60.0
WAIT = Step(id="wait", wait=minutes(30))


class Fast(Stage):
    """Rule time runs sixty times as fast as the database's."""

    def __init__(self, *rules: Any, **more: Any) -> None:
        super().__init__(*rules, factor=FACTOR, **more)

    async def seconds(self, number: float) -> None:
        """Let so many seconds of database time pass, looking often."""
        for _ in range(int(number * 4)):
            await self.settle()
            await self.clock.move(0.25)
        await self.settle()


async def fast(calls: Any = None, checked: Any = None, seconds: float = 0, **more: Any) -> Fast:
    stage = Fast(checked or rule(), **more)
    stage.plant("N1", calls=calls or {"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.seconds(seconds)
    return stage


@pytest.mark.law("12.1")
async def test_what_a_rule_says_is_rule_time() -> None:
    stage = await fast(checked=rule(ladder=(WAIT, UPLOAD)), seconds=14)
    assert (stage.incident().why, stage.incident().steps) == (Why.GRACE, {}), "fifteen minutes of grace are fifteen seconds"
    await stage.seconds(2)
    assert stage.incident().why is Why.WAITING
    await stage.seconds(28)
    assert stage.calls() == 0
    await stage.seconds(4)
    assert stage.calls() == 1
    (made,) = stage.attempts()
    assert made.settled - made.ended == UPLOAD.settle
    await stage.seconds(1)
    assert stage.calls() == 1
    await stage.seconds(4)
    assert stage.calls() == 2, "five minutes of settle are five seconds"


@pytest.mark.law("12.1")
async def test_what_a_person_says_is_rule_time() -> None:
    stage = await fast()
    await stage.pause(until=await stage.store.now() + minutes(40))
    await stage.seconds(39)
    assert stage.calls() == 0
    await stage.seconds(4)
    assert stage.calls() == 1


@pytest.mark.law("12.1")
async def test_the_hour_of_the_hourly_cap_is_rule_time() -> None:
    from daemon.domain.rule import Guard

    stage = await fast(checked=rule(guard=Guard(max_calls_per_hour=1)), seconds=70)
    assert stage.calls() == 1
    await stage.seconds(15)
    assert stage.calls() == 2


@pytest.mark.law("12.2")
async def test_retry_after_is_database_time_turned_once() -> None:
    stage = await fast({"api.upload": [{"answer": "later", "retry_after": "40s"}, "done"]}, seconds=17)
    (first,) = stage.attempts()
    waited = stage.incident().steps["upload"].retry_at - first.ended
    assert waited == timedelta(seconds=40) * FACTOR
    await stage.seconds(36)
    assert stage.calls() == 1
    await stage.seconds(6)
    assert stage.calls() == 2


@pytest.mark.law("12.2")
async def test_ends_by_covers_the_requests_timeout_in_database_time() -> None:
    stage = await fast(seconds=16)
    (first,) = stage.attempts()
    assert first.ends_by - first.begun == (timedelta(seconds=10) + MARGIN + ROOM) * FACTOR


@pytest.mark.law("12.2")
async def test_the_lease_is_database_time() -> None:
    stage = Fast(rule())
    await stage.begin(1)
    tenure = await stage.store.take({"stuck": "d1"}, "other", timedelta(seconds=30))
    assert tenure.until_db - tenure.now_db == timedelta(seconds=30)
    await stage.clock.move(29)
    assert await stage.store.take({"stuck": "d1"}, "me", timedelta(seconds=30)) is None
    await stage.clock.move(2)
    assert await stage.store.take({"stuck": "d1"}, "me", timedelta(seconds=30)) is not None


@pytest.mark.law("12.2")
async def test_the_rate_is_database_time() -> None:
    stage = Fast(rule(), wrap=wrapping(api=lambda inner: Wrapped(inner, rate=(0.5, 1))))
    stage.plant("N1", "N2", "N3", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.seconds(40)
    at = sorted(one.begun for one in stage.attempts())
    assert len(at) == 3
    assert all(later - earlier >= timedelta(seconds=2) * FACTOR for earlier, later in itertools.pairwise(at))


@pytest.mark.law("12.2")
async def test_the_lag_of_a_source_is_database_time() -> None:
    stage = await fast(seconds=1, wrap=wrapping(shop=lambda inner: Wrapped(inner, lag=timedelta(seconds=3))))
    last = stage.incident().last
    assert await stage.store.now() - last >= timedelta(seconds=3) * FACTOR


@pytest.mark.law("12.5")
async def test_a_replicas_own_clock_decides_nothing() -> None:
    """Two replicas whose monotonic clocks began at different moments agree, for what counts is the store's time."""

    class Elsewhere(Wrapped):
        def monotonic(self) -> float:
            return float(self.inner.monotonic()) + 1e6

    stage = Stage(rule())
    stage.engines[0]._clock = Elsewhere(stage.clock)
    stage.engines.append(stage.engine("two"))
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(60)
    assert [one.begun for one in stage.attempts()] == [stage.start + minutes(15 + 5 * n) for n in range(3)]


@pytest.mark.law("12.5")
def test_engine_and_domain_ask_no_clock_but_the_one_they_are_handed() -> None:
    root = Path(__file__).parents[2] / "daemon"
    for folder in ("domain", "engine"):
        for file in (root / folder).glob("*.py"):
            looks = re.findall(r"^import time$|datetime\.(?:now|utcnow)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert not looks, file.name


@pytest.mark.law("12.1")
async def test_later_without_a_word_backs_off_in_rule_time() -> None:
    class Service(Wrapped):
        async def perform(self, request: Any) -> Outcome:
            return Outcome(Result.LATER, "busy")

    stage = await fast(seconds=17, wrap=wrapping(api=Service))
    state = stage.incident().steps["upload"]
    assert timedelta(0) <= state.retry_at - state.at <= UPLOAD.backoff.ceiling(max(state.laters, 1))
    assert Resolution.HEALED not in {stage.incident().resolution}
