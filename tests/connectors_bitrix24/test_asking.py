"""Asking a portal for deals: what is there, what is not, and what nobody can say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.connectors.bitrix24 import Batch, Pace, opened
from daemon.domain.shape import Absent, Answer, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.net import Response
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.wire.bitrix24 import Limits, Portal, User
from tests.connectors_bitrix24.portal import (
    DATA,
    NOW,
    SECRET,
    Impatient,
    Quota,
    connector,
    deals,
    recorded,
    serving,
    standing,
    world_of,
)


def ids(answer: Answer) -> list[object]:
    assert isinstance(answer, Present), answer
    return [deal["id"] for deal in answer.records]


async def test_2500_keys_go_into_one_request_the_control_key_among_them() -> None:
    async with standing(world_of(deals(*range(1, 10_001)))) as (portal, there):
        await portal.ask("deals", "id", ["1"], False)
        before = there.requests
        keys = [str(number) for number in range(1, 2 * 2499 + 1)]
        answers = await portal.ask("deals", "id", keys, False)
        assert there.requests - before == 2
        assert all(isinstance(answer, Present) for answer in answers.values())


async def test_a_deal_that_is_not_there_is_absent_beside_one_that_is() -> None:
    async with standing(world_of(deals(1, 2, 3))) as (portal, _):
        answers = await portal.ask("deals", "id", ["2", "77"], False)
        assert ids(answers["2"]) == ["2"]
        assert answers["77"] == Absent()


async def test_deals_are_found_by_the_marketplaces_numbers_whatever_else_is_asked() -> None:
    async with standing(world_of(deals(*range(1, 200)))) as (portal, _):
        for fresh in (False, True):
            answers = await portal.ask("deals", "posting_number", ["P7", "P999", "P199"], fresh)
            assert ids(answers["P7"]) == ["7"]
            assert (answers["P999"], ids(answers["P199"])) == (Absent(), ["199"])


async def test_a_record_has_every_declared_field_and_a_number_that_is_not_set_is_null() -> None:
    world = world_of([{"id": "5", "title": "Pants", "stage": "WON", "created_at": "-2h", "market_order_id": "M5"}])
    async with standing(world) as (portal, _):
        answers = await portal.ask("deals", "market_order_id", ["M5"], False)
        assert isinstance(answers["M5"], Present)
        (deal,) = answers["M5"].records
        assert deal.keys() == portal.shape.records["deals"].fields.keys()
        assert (deal["id"], deal["title"], deal["stage"], deal["posting_number"]) == ("5", "Pants", "WON", None)
        assert deal["created_at"] == world.rows[DEALS]["5"]["created_at"]
        assert str(deal["url"]).endswith("/crm/deal/details/5/")


async def test_several_deals_with_one_number_stand_in_one_answer_and_crowd_nobody_out() -> None:
    twins = [{"id": str(number), "posting_number": "P1"} for number in range(1000, 1030)]
    crowd = [{"id": str(number), "posting_number": "P2"} for number in range(2000, 2060)]
    async with standing(world_of([*twins, *crowd, *deals(*range(3, 120))])) as (portal, _):
        answers = await portal.ask("deals", "posting_number", [f"P{number}" for number in range(1, 200)], False)
        assert len(ids(answers["P1"])) == 30
        assert isinstance(answers["P2"], Unknown)
        assert all(ids(answers[f"P{number}"]) == [str(number)] for number in range(3, 120))
        assert all(answers[f"P{number}"] == Absent() for number in range(120, 200))


@pytest.mark.parametrize("key", ["", "  ", "not_sent", "007", "1 OR 1=1", "-5", "1.0", "９", "9" * 40])
async def test_what_is_no_number_of_a_deal_is_neither_asked_nor_absent(key: str) -> None:
    async with standing(world_of(deals(7, 9))) as (portal, there):
        assert isinstance((await portal.ask("deals", "id", [key], True))[key], Unknown)
        assert there.requests == 0


async def test_a_number_in_another_writing_is_doubtful_and_disturbs_nobody() -> None:
    async with standing(world_of([{"id": "1", "posting_number": "ab-1"}, *deals(2)])) as (portal, _):
        answers = await portal.ask("deals", "posting_number", ["AB-1", "P2", "P3"], False)
        assert isinstance(answers["AB-1"], Unknown)
        assert (ids(answers["P2"]), answers["P3"]) == (["2"], Absent())


# Absence is earned


@pytest.mark.parametrize("by", ["id", "posting_number"])
@pytest.mark.parametrize("fresh", [False, True])
async def test_a_deal_hidden_by_rights_is_unknown(by: str, fresh: bool) -> None:
    user = User(admin=False, sees=lambda deal: deal["id"] != "7")
    async with standing(world_of(deals(1, 7)), portal={"user": user}) as (portal, _):
        key = {"id": "7", "posting_number": "P7"}[by]
        answers = await portal.ask("deals", by, [key], fresh)
        assert isinstance(answers[key], Unknown)
        assert "no administrator" in answers[key].reason


async def test_who_says_that_the_user_reads_all_deals_still_does_not_lose_one_that_is_hidden_before_an_act() -> None:
    user = User(admin=False, sees=lambda deal: deal["id"] != "7")
    async with standing(world_of(deals(1, 7)), portal={"user": user}, reads_all_deals=True) as (portal, _):
        answers = await portal.ask("deals", "id", ["7", "8"], True)
        assert isinstance(answers["7"], Unknown)
        assert answers["8"] == Absent()


async def test_a_portal_in_which_no_deal_is_seen_has_none_absent() -> None:
    async with standing(world_of()) as (portal, _):
        for by, key in (("id", "7"), ("posting_number", "P7")):
            assert isinstance((await portal.ask("deals", by, [key], True))[key], Unknown)


async def test_while_the_control_deal_is_not_found_nothing_is_absent_and_the_next_question_finds_another() -> None:
    world = world_of(deals(1, 9))
    async with standing(world) as (portal, _):
        assert (await portal.ask("deals", "id", ["5"], False))["5"] == Absent()
        world.remove(DEALS, "9")
        assert isinstance((await portal.ask("deals", "id", ["5"], False))["5"], Unknown)
        assert (await portal.ask("deals", "id", ["5"], False))["5"] == Absent()


async def test_a_witness_is_looked_for_again_when_it_was_long_ago() -> None:
    world, clock = world_of(deals(1, 9)), Impatient()
    async with standing(world, clock=clock) as (portal, _):
        await portal.ask("deals", "id", ["5"], False)
        world.remove(DEALS, "9")
        clock.at += 3600
        assert (await portal.ask("deals", "id", ["5"], False))["5"] == Absent()


async def test_a_deal_that_appears_between_the_list_and_the_second_look_is_present() -> None:
    world = world_of(deals(1))

    async with standing(world) as (portal, there):
        calls: list[str] = []
        original = there._one

        async def one(method: str, given: Any, view: Any) -> dict[str, Any]:
            calls.append(method)
            if method == "crm.item.get":
                world.change({DEALS: tuple(deals(5))})
            return await original(method, given, view)

        there._one = one  # type: ignore[method-assign]
        assert ids((await portal.ask("deals", "id", ["5"], True))["5"]) == ["5"]
        assert "crm.item.get" in calls


# Limits


async def test_a_full_bucket_is_waited_for_and_told_to_all_replicas() -> None:
    clock, quota = Impatient(), Quota()
    limits = {"limits": Limits(bucket=2), "tick": clock.monotonic}
    async with standing(world_of(deals(1)), clock=clock, quota=quota, portal=limits) as (portal, there):
        for _ in range(6):
            answers = await portal.ask("deals", "id", ["1", "2"], False)
        assert there.refused
        assert isinstance(answers["1"], Present | Unknown)
        assert not isinstance(answers["1"], Absent)


async def test_a_method_whose_time_is_nearly_used_up_rests_until_the_portal_forgets() -> None:
    limits = {"limits": Limits(bucket=1000, cost=100.0)}
    async with standing(world_of(deals(1)), portal=limits) as (portal, there):
        for _ in range(2):
            await portal.ask("deals", "id", ["1"], False)
        before = there.requests
        answers = await portal.ask("deals", "id", ["1", "2"], False)
        assert there.requests == before
        assert all(isinstance(answer, Unknown) and "used up" in answer.reason for answer in answers.values())


@pytest.mark.parametrize(("status", "code"), [(429, "OPERATION_TIME_LIMIT"), (503, "OVERLOAD_LIMIT")])
async def test_a_portal_that_blocks_whole_batches_is_left_alone_until_it_forgets(status: int, code: str) -> None:
    came: list[str] = []

    async def say(request: web.Request) -> web.Response:
        came.append(request.path)
        return web.json_response({"error": code, "error_description": "Method is blocked"}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", say)
    async with serving(app) as url:
        portal = connector(f"{url}/rest/1/{SECRET}/")
        assert isinstance((await portal.ask("deals", "id", ["1"], True))["1"], Unknown)
        assert len(came) == 1, "what blocks us is not tried again"
        again = (await portal.ask("deals", "id", ["1"], True))["1"]
        assert isinstance(again, Unknown)
        assert "12:05:00 UTC" in again.reason
        with pytest.raises(Unreachable, match="12:05:00 UTC"):
            [_ async for _ in portal.list("deals", None, None, None, NOW, 50, False)]
        assert len(came) == 1, "not asked again within five minutes, neither by key nor for a list"
        await portal.close()


def page(seconds: float = 0.1, operating: float = 1.0, **errors: str) -> Response:
    time = {"finish": 1000.0, "operating": operating, "operating_reset_at": 1120}
    sections = {"result": {"c00": {"items": []}}, "result_error": {name: {"error": code} for name, code in errors.items()}}
    return Response(200, {}, {"result": {**sections, "result_time": {"c00": time}}, "time": {"duration": seconds}})


@pytest.mark.parametrize(
    ("said", "commands", "rests"),
    [
        pytest.param(page(), 50, None, id="quick: as much again"),
        pytest.param(page(seconds=30), 20, None, id="slow: half"),
        pytest.param(page(seconds=8), 40, None, id="in between: as it is"),
        pytest.param(page(operating=300), 20, 120, id="time nearly used up: half, after the reset"),
        pytest.param(page(c01="OPERATION_TIME_LIMIT"), 20, 120, id="time used up: half, after the reset"),
        pytest.param(Response(500, {}, "<html>"), 20, None, id="failed: half"),
    ],
)
def test_the_pace_follows_what_the_portal_says(said: Response, commands: int, rests: int | None) -> None:
    pace = Pace(40).after(opened(said), 40, NOW)
    assert pace.commands == commands
    assert (pace.rests_until and (pace.rests_until - NOW).total_seconds()) == rests


def test_a_small_request_that_was_quick_says_nothing_about_large_ones() -> None:
    assert Pace(10).after(opened(page()), 2, NOW).commands == 10


async def test_a_batch_that_is_too_large_for_the_portal_is_asked_again_in_smaller_ones() -> None:
    sizes: list[int] = []
    async with standing(world_of(deals(*range(1, 3000)))) as (portal, there):
        await portal.ask("deals", "id", ["1"], False)
        original = there._batch

        async def batch(given: Any, view: Any) -> dict[str, Any]:
            sizes.append(len(given["cmd"]))
            if len(given["cmd"]) > 30:
                raise web.HTTPInternalServerError
            return await original(given, view)

        there._batch = batch  # type: ignore[method-assign]
        answers = await portal.ask("deals", "id", [str(number) for number in range(1, 2900)], False)
        assert sizes[0] == 50
        assert all(isinstance(answer, Present) for answer in answers.values())


async def test_a_portal_that_only_fails_is_not_hammered() -> None:
    async with serving(_says(web.json_response({"error": "INTERNAL_SERVER_ERROR"}, status=500))) as url:
        portal = connector(f"{url}/rest/1/{SECRET}/")
        answers = await portal.ask("deals", "id", [str(number) for number in range(1, 100_001)], False)
        assert all(isinstance(answer, Unknown) for answer in answers.values())
        await portal.close()


def _says(answer: web.Response) -> web.Application:
    async def say(request: web.Request) -> web.Response:
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", say)
    return app


# Whatever it answers


class Liar:
    """A portal that gives the true answer to who and newest, and then whatever the test makes of the truth."""

    def __init__(self, there: Portal) -> None:
        self._truth, self.twist = there._batch, lambda body: body  # type: ignore[var-annotated]
        there._batch = self._batch  # type: ignore[method-assign]

    async def _batch(self, given: Any, view: Any) -> Any:
        body = await self._truth(given, view)
        return body if "who" in given["cmd"] else self.twist(body)


def first_of(body: Any, section: str = "result") -> dict[str, Any]:
    found = body["result"][section]
    assert isinstance(found, dict)
    return found


def without_first(body: Any) -> Any:
    first_of(body).pop("c00")
    return body


def failed_first(body: Any) -> Any:
    first_of(body).pop("c00")
    body["result"]["result_error"] = {"c00": {"error": "INVALID_ARG_VALUE", "error_description": "field 'X' is not allowed in filter"}}
    return body


def both(body: Any) -> Any:
    body["result"]["result_error"] = {"c00": {"error": "", "error_description": "Not found"}}
    return body


def everything(body: Any) -> Any:
    first_of(body)["c00"]["items"] = [
        {**first_of(body)["c00"]["items"][0], "id": number, "UF_CRM_POSTING_NUMBER": f"X{number}"} for number in range(500, 550)
    ]
    return body


def as_lists(body: Any) -> Any:
    body["result"]["result"] = list(first_of(body).values())
    return body


def all_failed(body: Any) -> Any:
    body["result"]["result_error"] = {name: {"error": "insufficient_scope"} for name in first_of(body)}
    body["result"]["result"] = []
    return body


def fieldless(body: Any) -> Any:
    for told in first_of(body).values():
        told["items"] = [{key: value for key, value in item.items() if not key.startswith("UF_")} for item in told["items"]]
    return body


def wrong_types(body: Any) -> Any:
    first_of(body)["c00"] = {"items": "none"}
    return body


@pytest.mark.parametrize("by", ["id", "posting_number"])
@pytest.mark.parametrize("lie", [without_first, failed_first, both, everything, as_lists, all_failed, wrong_types])
async def test_no_trap_of_a_batch_makes_a_deal_absent(by: str, lie: Any) -> None:
    async with standing(world_of(deals(1, 2, 3))) as (portal, there):
        Liar(there).twist = lie
        keys = {"id": ["1", "2", "77"], "posting_number": ["P1", "P2", "P77"]}[by]
        answers = await portal.ask("deals", by, keys, False)
        assert all(isinstance(answer, Unknown) for answer in answers.values()), answers


@pytest.mark.parametrize("name", ["recorded_crm_get_batch_of_two_error", "recorded_crm_lead_get_batch_error"])
def test_a_batch_whose_names_were_lost_says_nothing(name: str) -> None:
    assert isinstance(opened(Response(200, {}, recorded(name))), Unknown)


def test_the_documented_batches_are_read_by_name() -> None:
    good, stopped = (opened(Response(200, {}, recorded(name))) for name in ("doc_batch_200", "doc_batch_200_halt1_error"))
    assert isinstance(good, Batch)
    assert isinstance(stopped, Batch)
    assert good.said("get_department")[0]["ID"] == "1"
    assert good.said("get_nothing") == Unknown("the command was not answered")
    assert stopped.said("get_user") == Unknown("insufficient_scope")


async def test_a_mapped_field_that_the_portal_does_not_know_makes_nothing_absent_and_says_what_to_check() -> None:
    async with standing(world_of(deals(1, 2)), deal_fields={"order": "UF_CRM_NO_SUCH"}) as (portal, _):
        answers = await portal.ask("deals", "order", ["M1", "M9"], True)
        assert all(isinstance(answer, Unknown) for answer in answers.values())
    async with standing(world_of(deals(1, 2))) as (portal, there):
        Liar(there).twist = fieldless
        answers = await portal.ask("deals", "posting_number", ["P1", "P9"], False)
        assert all(isinstance(answer, Unknown) and "deal_fields" in answer.reason for answer in answers.values())


BODIES = [
    b"", b"null", b"[]", b"{}", b'"text"', b"<!DOCTYPE html><h1>It works!</h1>", b'{"result": {"result": {"c00": {"items"',
    b'{"result": []}', b'{"result": {"result": [], "result_error": []}}', b'{"result": {"result": {"c00": {"items": []}}, "result_error": []}}',
    b'{"result": {"result": {"c00": {"items": [null]}}, "result_error": []}}', b'{"result": {"items": []}, "total": 0}',
    b'{"error": "", "error_description": "Not found"}', b"x" * 10_000_000,
    *(path.read_bytes() for path in sorted(DATA.glob("*.json"))),
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 302, 403, 500])
async def test_whatever_comes_back_instead_of_an_answer_nothing_is_absent(status: int) -> None:
    world = world_of(deals(1, 2))
    async with standing(world) as (portal, there):
        await portal.ask("deals", "id", ["1"], False)
        for body in BODIES:
            other = _Answers(there, body, status)
            for fresh in (False, True):
                answers = await portal.ask("deals", "id", ["1", "2", "77"], fresh)
                assert all(isinstance(answer, Unknown) for answer in answers.values()), (body[:80], answers)
            other.truth()


class _Answers:
    """For a while the portal gives this body for everything."""

    def __init__(self, there: Portal, body: bytes, status: int) -> None:
        self._there, self._truth = there, there._batch

        async def batch(given: Any, view: Any) -> Any:
            raise _Raw(status=status, body=body)

        there._batch = batch  # type: ignore[method-assign]

    def truth(self) -> None:
        self._there._batch = self._truth  # type: ignore[method-assign]


class _Raw(web.HTTPException):
    """Any status with any body."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status_code = status
        super().__init__(headers={"Content-Type": "application/json"}, body=body)  # type: ignore[call-arg]


# A whole and sound answer in which just this row is missing, or is another's, is a lie that nobody can see through: rows are
# spoilt here, never left out, and no value is a key that was asked for.
json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 0) | st.integers(80, 90) | st.sampled_from(["", "X", "Not found", "NOT_FOUND"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["items", "id", "error", "result", "item"]), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def twists(draw: st.DrawFn) -> Any:
    """A change somewhere in an answer: a part replaced by something, or taken out."""
    steps = draw(st.lists(st.integers(0, 5), min_size=6, max_size=6))
    depth = draw(st.integers(1, 6))
    remove, value = draw(st.booleans()), draw(json_like)

    def twist(body: Any) -> Any:
        node: Any = body
        for level, step in enumerate(steps, 1):
            keys: Sequence[Any] = list(node) if isinstance(node, dict) else range(len(node))
            key = keys[step % len(keys)]
            if level == depth or not isinstance(node[key], dict | list) or not node[key]:
                break
            node = node[key]
        if remove and isinstance(node, dict):
            node.pop(key)
        else:
            node[key] = None if key == "items" and value == [] else value
        return body

    return twist


@given(twist=twists(), by=st.sampled_from(["id", "posting_number"]), fresh=st.booleans())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_an_answer_is_bent_a_deal_that_is_there_is_never_absent(twist: Any, by: str, fresh: bool) -> None:
    import asyncio

    async def bent() -> None:
        async with standing(world_of(deals(1, 2, 3))) as (portal, there):
            Liar(there).twist = twist
            keys = {"id": ["1", "2", "77"], "posting_number": ["P1", "P2", "P77"]}[by]
            answers = await portal.ask("deals", by, keys, fresh)
            assert answers.keys() == set(keys)
            assert not any(isinstance(answers[key], Absent) for key in keys[:2])
            assert not isinstance(answers[keys[2]], Present)

    asyncio.run(bent())
