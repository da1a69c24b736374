"""Law 2: unknown belongs to the subject, incomplete to the listing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, Expression, clause, field, minutes, rule
from laws.stage import Moving, Stage, Wrapped, wrapping

from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Cause, Diagnose, Lookup
from daemon.domain.shape import Page, Present
from daemon.domain.value import Unknown
from daemon.engine.events import Scanned
from daemon.engine.ports import Unreachable

DEAL = Lookup("crm_deal", "crm", "deals", "id", (field("deal"),))


def no_deal(lookup: Lookup = DEAL, **changes: Any) -> Any:
    """Broken is who has no deal in the CRM."""
    return rule(broken=(clause(missing("crm_deal"), "crm_deal", text="crm_deal == null"),), lookups=(lookup,), **changes)


def missing(name: str) -> Any:
    return lambda scope: scope[name] if isinstance(scope[name], Unknown) else scope[name] is None


def last_scan(stage: Stage) -> Scanned:
    return [event for event in stage.events if isinstance(event, Scanned)][-1]


class Answering(Wrapped):
    """Answers by key as the test wants them."""

    def answers(self, found: dict[str, Any]) -> dict[str, Any]:
        return found

    async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> dict[str, Any]:
        return self.answers(dict(await self.inner.ask(records, by, keys, fresh)))


@pytest.mark.law("2.1")
async def test_an_unknown_record_does_not_make_its_scan_incomplete() -> None:
    stage = Stage(rule())
    stage.plant("N1", bad=None)
    await stage.begin(1)
    await stage.wait(1)
    assert (last_scan(stage).complete, last_scan(stage).unknown) == (True, 1)


@pytest.mark.law("2.1")
async def test_a_listing_that_breaks_off_is_incomplete_opens_what_it_saw_and_says_so() -> None:
    class Source(Wrapped):
        async def list(self, *args: Any) -> AsyncIterator[Page]:
            async for page in self.inner.list(*args):
                yield page
                if breaks:
                    raise Unreachable("shop: connection lost")

    breaks = [True]
    stage = Stage(rule(), wrap=wrapping(shop=Source), page=2)
    stage.plant("N1", "N2", "N3", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(1)
    assert (last_scan(stage).complete, last_scan(stage).failed) == (False, "shop: connection lost")
    assert [len(stage.incidents(number)) for number in ("N1", "N2", "N3")] == [1, 1, 0]
    state = stage.store.tables.rules["stuck"].state
    assert (state.failed, state.last_complete) == ("shop: connection lost", None)
    breaks.clear()
    await stage.wait(10)
    assert len(stage.incidents("N3")) == 1
    assert stage.store.tables.rules["stuck"].state.failed == ""


@pytest.mark.law("2.1")
async def test_what_a_listing_that_broke_off_did_not_show_is_listed_again_though_later_ones_were_seen() -> None:
    class Source(Moving):
        async def list(self, *args: Any) -> AsyncIterator[Page]:
            async for page in super().list(*args):
                yield page
                if breaks:
                    raise Unreachable("feed: connection lost")

    breaks: list[bool] = []
    stage = Stage(rule(connector="feed"), page=1, wrap=wrapping(feed=Source))
    stage.plant("A", bad=False, records="feed.orders", deadline=stage.start)
    await stage.begin(1)
    await stage.wait(3)
    breaks.append(True)
    stage.plant("N1", records="feed.orders", deadline=stage.start + minutes(3))
    stage.world.change({"feed.orders": ({"number": "A", "deadline": stage.start + minutes(9)},)})
    await stage.wait(9)
    breaks.clear()
    await stage.wait(5)
    assert [one.key for one in stage.store.tables.incidents.values()] == ["N1"]


@pytest.mark.law("2.2")
async def test_a_record_that_moved_in_the_future_hides_no_other() -> None:
    stage = Stage(rule(connector="feed"), wrap=wrapping(feed=Moving))
    stage.plant("A", bad=False, records="feed.orders", deadline=stage.start + minutes(60 * 24 * 365))
    await stage.begin(1)
    await stage.wait(7)
    stage.plant("N1", records="feed.orders", deadline=stage.now)
    await stage.wait(7)
    assert len(stage.incidents("N1")) == 1


@pytest.mark.law("2.2")
async def test_one_bad_row_holds_up_nobody_else() -> None:
    stage = Stage(rule())
    stage.plant("N1", bad=None)
    stage.plant("N2", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(60)
    assert not stage.incidents("N1")
    assert stage.incident("N2").resolution is Resolution.HEALED


@pytest.mark.law("2.2")
async def test_one_failed_lookup_holds_up_nobody_else() -> None:
    class Crm(Answering):
        def answers(self, found: dict[str, Any]) -> dict[str, Any]:
            return {key: Unknown("HTTP 500") if key == "D1" else answer for key, answer in found.items()}

    stage = Stage(no_deal(), wrap=wrapping(crm=Crm))
    stage.plant("N1", deal="D1")
    stage.plant("N2", deal="D2", calls={"api.upload": "refused"})
    await stage.begin(1)
    await stage.wait(60)
    assert not stage.incidents("N1")
    assert stage.incident("N2").phase is Phase.ESCALATED


def raises(scope: Any) -> Any:
    return Unknown("no such overload")


UNKNOWNS: dict[str, Any] = {
    "an expression that errs": (rule(broken=(clause(raises),)), {}, None),
    "a null key": (rule(key=field("deal")), {"deal": None}, None),
    "an empty key": (rule(key=field("deal")), {"deal": " "}, None),
    "a null key of a lookup": (no_deal(), {"deal": None}, None),
    "an empty key of a lookup": (no_deal(), {"deal": ""}, None),
    "a key without an answer": (no_deal(), {"deal": "D1"}, lambda found: {}),
    "several answers where one is meant": (
        no_deal(), {"deal": "D1"}, lambda found: {"D1": Present(({"id": "D1", "owner": "a"}, {"id": "D1", "owner": "b"}))},
    ),
}  # fmt: skip


@pytest.mark.law("2.3")
@pytest.mark.parametrize("row", UNKNOWNS.values(), ids=UNKNOWNS)
async def test_what_cannot_be_known_is_unknown(row: tuple) -> None:
    checked, planted, answers = row

    class Crm(Answering):
        def answers(self, found: dict[str, Any]) -> dict[str, Any]:
            return answers(found) if answers else found

    stage = Stage(checked, wrap=wrapping(crm=Crm))
    stage.plant("N1", **planted)
    await stage.begin(1)
    await stage.wait(30)
    assert (last_scan(stage).unknown, last_scan(stage).broken) == (1, 0)
    assert not stage.store.tables.incidents
    assert not stage.world.calls


def of_parent(*name: str) -> Any:
    def value(scope: Any) -> Any:
        parent = scope["crm_deal"]
        return parent if isinstance(parent, Unknown) else Unknown("no such key") if parent is None else parent["owner"]

    return Expression(value, "crm_deal.owner")


@pytest.mark.law("2.3")
@pytest.mark.parametrize(("parent", "broken"), [("absent", True), ("without the field", False)])
async def test_a_key_read_from_a_lookup_found_absent_is_absent_and_not_unknown(parent: str, broken: bool) -> None:
    owner = Lookup("crm_owner", "crm", "deals", "id", (of_parent(),), needs=frozenset({"crm_deal"}))
    stage = Stage(rule(broken=(clause(missing("crm_owner"), "crm_owner"),), lookups=(DEAL, owner)))
    if parent != "absent":
        stage.world.change({"crm.deals": ({"id": "D1", "owner": None},)})
    stage.plant("N1", deal="D1")
    await stage.begin(1)
    await stage.wait(1)
    assert bool(stage.store.tables.incidents) is broken
    assert last_scan(stage).unknown == (not broken)


@pytest.mark.law("2.4")
async def test_unknown_concludes_nothing_however_long_it_lasts() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    before = stage.incident()
    stage.set("N1", bad=None)
    await stage.run(minutes(600))
    after = stage.incident()
    assert (after.phase, after.why, after.steps, stage.calls()) == (Phase.OPEN, Why.UNKNOWN, before.steps, 1)
    assert after.unknown_since is not None


@pytest.mark.law("2.4")
async def test_an_unknown_condition_of_a_step_climbs_nothing() -> None:
    stage = Stage(rule(ladder=(replace(UPLOAD, when=Expression(raises)),)))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(60)
    assert (stage.incident().phase, stage.incident().why, stage.calls()) == (Phase.OPEN, Why.UNKNOWN, 0)


@pytest.mark.law("2.4")
async def test_a_diagnosis_that_is_late_at_a_source_that_lags_is_waited_for_and_not_asked_for_over_and_over() -> None:
    region = Cause(Expression(lambda s: "region"), clause(lambda s: Unknown("not said")))
    lagging = wrapping(shop=lambda inner: Wrapped(inner, lag=minutes(10)))
    stage = Stage(rule(grace=minutes(0), every=minutes(30), diagnose=Diagnose((), (region,), minutes(30))), wrap=lagging)
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(25)
    assert (stage.incident().cause, stage.calls()) == (None, 0)
    await stage.wait(15)
    assert (stage.incident().cause, stage.calls()) == ("undiagnosed", 1)


@pytest.mark.law("2.4")
async def test_an_unknown_diagnosis_acts_on_nothing_until_its_timeout_and_then_is_named_so() -> None:
    region = Cause(Expression(lambda s: "region"), clause(missing("crm_deal")))
    stage = Stage(rule(grace=minutes(0), diagnose=Diagnose((DEAL,), (region,), minutes(30))))
    stage.plant("N1", deal=None, calls={"api.upload": "refused"})
    await stage.begin(1)
    await stage.wait(25)
    assert (stage.incident().why, stage.calls()) == (Why.DIAGNOSING, 0)
    await stage.wait(20)
    assert (stage.incident().cause, stage.calls()) == ("undiagnosed", 1)


@pytest.mark.law("2.2")
async def test_an_incident_that_only_newer_code_can_read_holds_up_nobody_else() -> None:
    class Older(Wrapped):
        async def standing(self, *asked: Any) -> Any:
            known = await self.inner.standing(*asked)
            foreign = frozenset(one.key for one in known.incidents if one.key == "N1")
            return replace(known, foreign=foreign, incidents=tuple(one for one in known.incidents if one.key not in foreign))

    stage = Stage(rule())
    stage.plant("N1")
    await stage.begin(1)
    await stage.settle()
    before = stage.incident("N1")
    stage.engines = [stage.engine("older", Older(stage.store))]
    stage.plant("N2", calls={"api.upload": "done"})
    await stage.wait(60)
    assert stage.incident("N2").resolution is Resolution.HEALED
    assert stage.incidents("N1") == [before]
