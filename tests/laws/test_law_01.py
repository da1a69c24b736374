"""Law 1: not listed is not healed."""

import pytest
from builders import UPLOAD, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Step
from daemon.domain.shape import Absent, Present
from daemon.engine.change import Change

COMMENT = Step(id="comment", connector="api", call="comment", args=UPLOAD.args)


async def at_work(stage: Stage) -> Stage:
    """N1 was called for once, in vain, and settles."""
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    assert stage.calls() == 1
    return stage


@pytest.mark.law("1.1")
async def test_an_order_that_is_listed_no_more_goes_on_as_the_question_by_key_says() -> None:
    stage = await at_work(Stage(rule()))
    stage.set("N1", order="unlisted")
    await stage.wait(120)
    assert (stage.incident().phase, stage.calls()) == (Phase.ESCALATED, 3), "out of the listing is still broken"


@pytest.mark.law("1.1")
async def test_a_scan_only_opens_and_never_closes_or_acts() -> None:
    class Store(Wrapped):
        """Keeps what scans write."""

        async def commit(self, change: Change, tenure: object) -> None:
            written.extend(change.incidents if change.state is not None and change.state.progress is not None else ())
            await self.inner.commit(change, tenure)

    written: list[object] = []
    stage = Stage(rule())
    stage.engines = [stage.engine("one", Store(stage.store))]
    stage.plant("N1", "N2", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(60)
    assert {one.key for one in written} == {"N1", "N2"}
    assert all(one.version == 0 and one.phase is Phase.OPEN for one in written)
    assert {stage.incident(number).resolution for number in ("N1", "N2")} == {Resolution.HEALED}


@pytest.mark.law("1.2")
async def test_an_open_incident_is_asked_for_by_its_own_key_alone() -> None:
    class Source(Wrapped):
        async def ask(self, records: str, by: str, keys: object, fresh: bool) -> object:
            asked.append((records, by, set(keys)))
            return await self.inner.ask(records, by, keys, fresh)

    asked: list[object] = []
    stage = await at_work(Stage(rule(where="bad = true"), wrap=wrapping(shop=Source)))
    assert asked
    assert all(question == ("orders", "number", {"N1"}) for question in asked)
    assert stage.incident().phase is Phase.OPEN


@pytest.mark.law("1.3")
async def test_present_and_not_broken_is_clean_even_if_it_is_ours_no_more() -> None:
    stage = await at_work(Stage(rule()))
    stage.set("N1", bad=False, ours=False)
    await stage.wait(10)
    assert stage.incident().resolution is Resolution.HEALED


@pytest.mark.law("1.4")
@pytest.mark.parametrize("how", ["out of scope", "absent"])
async def test_gone_is_never_healed_and_runs_no_follow_up(how: str) -> None:
    stage = await at_work(Stage(rule(on_resolved=(COMMENT,))))
    if how == "absent":
        stage.world.remove("shop.orders", "N1")
    else:
        stage.set("N1", ours=False)
    await stage.wait(30)
    ended = stage.incident()
    assert (ended.resolution, ended.credit) == (Resolution.GONE, True)
    assert ended.why is (Why.ABSENT if how == "absent" else Why.OUT_OF_SCOPE)
    assert (stage.calls(), stage.calls(call="api.comment")) == (1, 0)


@pytest.mark.law("1.5")
async def test_no_answer_is_neither_clean_nor_gone() -> None:
    stage = await at_work(Stage(rule()))
    stage.world.switch("shop", up=False)
    stage.world.remove("shop.orders", "N1")
    await stage.wait(60)
    assert (stage.incident().phase, stage.incident().why, stage.calls()) == (Phase.OPEN, Why.UNKNOWN, 1)
    stage.world.switch("shop", up=True)
    await stage.wait(10)
    assert stage.incident().resolution is Resolution.GONE


@pytest.mark.law("1.5")
async def test_several_different_records_under_its_key_are_unknown() -> None:
    class Source(Wrapped):
        async def ask(self, records: str, by: str, keys: object, fresh: bool) -> object:
            answers = await self.inner.ask(records, by, keys, fresh)
            return {key: twins(answer) for key, answer in answers.items()}

    def twins(answer: object) -> object:
        return answer if isinstance(answer, Absent) else Present((*answer.records, {**answer.records[0], "bad": False}))

    stage = Stage(rule(), wrap=wrapping(shop=Source))
    stage.plant("N1")
    await stage.begin(1)
    await stage.run(minutes(60))
    assert (stage.incident().phase, stage.incident().why, stage.calls()) == (Phase.OPEN, Why.UNKNOWN, 0)
