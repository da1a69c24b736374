"""Law 8: ended means seen clean or gone."""

from dataclasses import replace

import pytest
from builders import UPLOAD, minutes, rule
from laws.stage import Stage, Wrapped, called, wrapping

from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Guard, ResolveOn

EVENT = rule(ladder=(), grace=minutes(0), resolve_on=ResolveOn.DELIVERY)
DAY = 24 * 60


async def stuck(how: str) -> Stage:
    """N1 escalated, quarantined, dismissed or excluded."""
    checked = rule(guard=Guard(max_attempts=1)) if how == "quarantined" else rule()
    stage = Stage(checked)
    stage.plant("N1", calls={"api.upload": "refused" if how == "escalated" else "no_effect"})
    await stage.begin(1)
    await stage.wait(2 if how in ("dismissed", "excluded") else 30)
    if how in ("dismissed", "excluded"):
        await stage.say(DirectiveKind.DISMISS if how == "dismissed" else DirectiveKind.EXCLUDE)
    await stage.wait(10)
    return stage


HOW = pytest.mark.parametrize("how", ["escalated", "quarantined", "dismissed", "excluded"])


@pytest.mark.law("8.1")
@pytest.mark.law("8.2")
@HOW
async def test_it_holds_for_days_without_a_new_incident_or_attempt(how: str) -> None:
    stage = await stuck(how)
    before = len(called(stage))
    await stage.wait(2 * DAY)
    (only,) = stage.incidents()
    assert only.live
    assert len(called(stage)) == before == {"escalated": 1, "quarantined": 1}.get(how, 0)
    assert only.why is {"escalated": Why.TOLD, "quarantined": Why.QUARANTINED, "dismissed": Why.DISMISSED, "excluded": Why.EXCLUDED}[how]


@pytest.mark.law("8.1")
@HOW
@pytest.mark.parametrize("end", ["clean", "gone"])
async def test_it_ends_when_seen_clean_or_gone(how: str, end: str) -> None:
    stage = await stuck(how)
    stage.set("N1", **({"bad": False} if end == "clean" else {"ours": False}))
    await stage.wait(10)
    resolution = stage.incident().resolution
    if how == "dismissed":
        assert resolution is Resolution.DISMISSED
    elif end == "gone":
        assert resolution is Resolution.GONE
    else:
        assert resolution is {"excluded": Resolution.SELF_HEALED}.get(how, Resolution.HANDLED)


@pytest.mark.law("8.1")
@pytest.mark.parametrize("kind", [DirectiveKind.DISMISS, DirectiveKind.EXCLUDE])
async def test_a_mark_with_an_end_expires(kind: DirectiveKind) -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(2)
    await stage.say(kind, until=stage.now + minutes(60))
    await stage.wait(58)
    assert stage.calls() == 0
    await stage.wait(30)
    assert (stage.calls(), stage.incident().resolution) == (1, Resolution.HEALED)


async def told(asked: list[object] | None = None) -> Stage:
    class Source(Wrapped):
        async def ask(self, *question: object) -> object:
            (asked if asked is not None else []).append(question)
            return await self.inner.ask(*question)

    stage = Stage(EVENT, wrap=wrapping(shop=Source))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(10)
    assert stage.incident().resolution is Resolution.TOLD
    assert stage.kinds() == ["begin"]
    return stage


@pytest.mark.law("8.3")
async def test_told_ends_the_work_and_not_the_memory() -> None:
    asked: list[object] = []
    stage = await told(asked)
    asked.clear()
    await stage.wait(3 * DAY)
    (only,) = stage.incidents()
    assert (only.resolution, only.relapses, only.phase) == (Resolution.TOLD, 0, Phase.RESOLVED)
    assert stage.kinds() == ["begin"], "no message and no relapse while it is listed"
    assert not asked, "it is not visited"


@pytest.mark.law("8.3")
async def test_told_ones_count_for_no_guard() -> None:
    stage = Stage(replace(EVENT, guard=Guard(max_broken=2, max_broken_percent=100)))
    for n in range(5):
        stage.plant(f"N{n}")
        await stage.begin(1)
        await stage.wait(10)
    assert stage.store.tables.rules["stuck"].state.held is None
    assert len(stage.store.tables.incidents) == 5


@pytest.mark.law("8.4")
@pytest.mark.parametrize("how", ["clean", "gone"])
async def test_the_key_is_free_again_once_it_was_seen_clean_or_gone(how: str) -> None:
    stage = await told()
    stage.set("N1", **({"bad": False} if how == "clean" else {"ours": False}))
    await stage.wait(10)
    stage.set("N1", bad=True, ours=True)
    await stage.wait(10)
    assert len(stage.incidents()) == 2
    assert stage.notices()[-1].kind.value in ("begin", "growth")


@pytest.mark.law("8.4")
@pytest.mark.parametrize(("hours", "fresh"), [(20, 1), (25, 2)])
async def test_the_key_is_free_again_when_not_listed_for_as_long_as_a_relapse_counts(hours: int, fresh: int) -> None:
    stage = await told()
    stage.set("N1", order="unlisted")
    await stage.wait(hours * 60)
    stage.set("N1", order="order/N1")
    await stage.wait(10)
    assert len(stage.incidents()) == fresh


@pytest.mark.law("8.2")
async def test_a_step_that_was_added_gives_an_escalated_one_no_fresh_attempts() -> None:
    stage = await stuck("escalated")
    stage.rules["stuck"] = replace(rule(digest="d2"), ladder=(UPLOAD, replace(UPLOAD, id="second", call="second")))
    await stage.begin(2)
    await stage.wait(60)
    assert (stage.incident().phase, stage.calls(call="api.second")) == (Phase.ESCALATED, 0)
