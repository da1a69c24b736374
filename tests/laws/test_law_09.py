"""Law 9: sightings are dated."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from builders import UPLOAD, field, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.attempt import Result
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Lookup


@pytest.mark.law("9.1")
async def test_a_sighting_is_dated_by_the_start_of_its_request_minus_the_lag() -> None:
    class Source(Wrapped):
        async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> Any:
            began.append(stage.now)
            answers = await self.inner.ask(records, by, keys, fresh)
            stage.clock._now += 7  # the answer takes its time
            return answers

    began: list[Any] = []
    lag = timedelta(seconds=90)
    stage = Stage(rule(), wrap=wrapping(shop=lambda inner: Source(inner, lag=lag)))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(3)
    assert stage.incident().last == began[-1] - lag


@pytest.mark.law("9.1")
@pytest.mark.parametrize(("lookups", "dates"), [(True, [0, 20]), (False, [0, 0])])
async def test_what_a_listing_shows_is_dated_by_the_start_of_its_request(lookups: bool, dates: list[int]) -> None:
    class Source(Wrapped):
        async def list(self, *asked: Any) -> AsyncIterator[Any]:
            async for page in self.inner.list(*asked):
                stage.clock._now += 20  # a page takes its time; without lookups one statement stays open over all of them
                yield page

    deal = Lookup("crm_deal", "crm", "deals", "id", (field("deal"),))
    stage = Stage(rule(lookups=(deal,) if lookups else ()), page=1, lease=minutes(10), wrap=wrapping(shop=Source))
    stage.plant("N1", "N2")
    await stage.begin(1)
    await stage.engines[0].run_cycle()
    assert [(stage.incident(number).opened - stage.start).total_seconds() for number in ("N1", "N2")] == dates


@pytest.mark.law("9.2")
async def test_settle_runs_from_the_arrival_of_the_answer_and_is_stored() -> None:
    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            outcome = await self.inner.perform(request)
            stage.clock._now += 4
            return outcome

    stage = Stage(rule(), wrap=wrapping(api=Service))
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    (made,) = stage.attempts()
    assert made.ended - made.begun == timedelta(seconds=4)
    assert made.settled == stage.incident().steps["upload"].settle_until == made.ended + UPLOAD.settle


@pytest.mark.law("9.2")
async def test_without_an_answer_settle_runs_from_ends_by() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "timeout"})
    await stage.begin(1)
    await stage.wait(16)
    (made,) = stage.attempts()
    assert (made.outcome.result, made.settled) == (Result.UNKNOWN, made.ends_by + UPLOAD.settle)


@pytest.mark.law("9.3")
async def test_a_clean_answer_that_lags_behind_the_attempt_proves_nothing() -> None:
    stage = Stage(rule(), wrap=wrapping(shop=lambda inner: Wrapped(inner, lag=minutes(10))))
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(45)
    (made,) = stage.attempts()
    ended = stage.incident()
    assert ended.resolution is Resolution.HEALED
    assert ended.seen > made.ended
    assert ended.ended >= made.ended + minutes(10), "only the answer of ten minutes later tells of the time after the attempt"


@pytest.mark.law("9.4")
@pytest.mark.parametrize("lag", [0, 7])
async def test_only_a_look_dated_after_settle_allows_the_next_attempt(lag: int) -> None:
    stage = Stage(rule(), wrap=wrapping(shop=lambda inner: Wrapped(inner, lag=minutes(lag))))
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(120)
    made = stage.attempts()
    assert len(made) == 3
    for before, after in itertools.pairwise(made):
        assert after.begun >= before.settled + minutes(lag)
    assert stage.incident().phase is Phase.ESCALATED


@pytest.mark.law("9.4")
async def test_passing_time_alone_allows_nothing() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    stage.world.switch("shop", up=False)
    await stage.wait(300)
    assert (stage.calls(), stage.incident().phase, stage.incident().why) == (1, Phase.OPEN, Why.UNKNOWN)


@pytest.mark.law("9.5")
async def test_the_last_look_before_an_act_reads_the_primary() -> None:
    class Source(Wrapped):
        """The replica shows it broken long after the primary has it well."""

        async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> Any:
            answers = await self.inner.ask(records, by, keys, fresh)
            asked.append(fresh)
            if not fresh:
                from daemon.domain.shape import Present

                answers = {key: Present(({**one.records[0], "bad": True},)) for key, one in answers.items()}
            return answers

    asked: list[bool] = []
    stage = Stage(rule(), wrap=wrapping(shop=Source))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(10)
    stage.set("N1", bad=False)
    await stage.wait(60)
    assert True in asked
    assert stage.calls() == 0
    assert stage.incident().resolution is Resolution.SELF_HEALED
