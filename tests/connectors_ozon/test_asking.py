"""Promises of questions by key: absence is earned, whatever Ozon says, and nothing but reading is ever asked."""

import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.connectors.ozon import CarrierSettings, Method
from daemon.domain.attempt import Request, Result
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from tests.connectors_ozon.shop import CARRIERS, DAY, ERRORS, NOT_FOUND, item, load, page, shop, simulated
from tests.net.loopback import NOW, Write, answer, endless, garbage, refused_address, reset, silent, truncated

FOUND = {"result": load("doc_v3_posting_fbs_get_200.json")["result"]}
NUMBER = FOUND["result"]["posting_number"]

SINGLE: list[tuple[str, Write, type]] = [
    ("there", answer(200, FOUND), Present),
    ("said to be absent", NOT_FOUND, Absent),
    ("another posting", answer(200, {"result": FOUND["result"] | {"posting_number": "1-1"}}), Unknown),
    ("nothing in the result", answer(200, {"result": None}), Unknown),
    ("a list", answer(200, [FOUND]), Unknown),
    ("HTML with 200", answer(200, "<html>"), Unknown),
    ("empty", answer(200, ""), Unknown),
    ("empty object", answer(200, {}), Unknown),
    ("absent with status 200", answer(200, ERRORS["posting_not_found_404"]), Unknown),
    ("absent with status 400", answer(400, ERRORS["posting_not_found_404"]), Unknown),
    ("a 404 of somebody else", answer(404, {"code": 5, "message": "no route", "details": []}), Unknown),
    ("a 404 in HTML", answer(404, "<html>POSTING_NOT_FOUND</html>"), Unknown),
    ("wrong key", answer(403, ERRORS["invalid_api_key_403"]), Unknown),
    ("role missing", answer(403, ERRORS["role_missing_403"]), Unknown),
    ("unauthorised", answer(401, ERRORS["posting_not_found_404"]), Unknown),
    ("limit", answer(429, ERRORS["rate_limit_429"]), Unknown),
    ("circle is open", answer(429, ERRORS["circle_is_open_429_text"]), Unknown),
    ("error", answer(500, ERRORS["internal_500"]), Unknown),
    ("error that says absent", answer(500, ERRORS["posting_not_found_404"]), Unknown),
    ("redirect", answer(302, "", {"Location": "/login"}), Unknown),
    ("10 MB", endless, Unknown),
    ("less than promised", truncated, Unknown),
    ("reset", reset, Unknown),
    ("no HTTP", garbage, Unknown),
    ("silence", silent, Unknown),
]


@pytest.mark.parametrize(("behaviour", "kind"), [row[1:] for row in SINGLE], ids=[row[0] for row in SINGLE])
async def test_a_posting_is_absent_by_the_documented_code_alone(behaviour: Write, kind: type) -> None:
    timeout = timedelta(milliseconds=100) if behaviour is silent else timedelta(seconds=20)
    async with shop(behaviour, timeout=timeout) as (connector, server, _):
        answers = await connector.ask("postings", "posting_number", [NUMBER], fresh=True)
        assert list(answers) == [NUMBER]
        assert isinstance(answers[NUMBER], kind), answers
        assert server.seen[0].target == "/v3/posting/fbs/get"
        assert server.seen[0].json == {"posting_number": NUMBER}


@pytest.mark.parametrize(
    ("behaviour", "kind"), [row[1:] for row in SINGLE if row[2] is not Present], ids=[r[0] for r in SINGLE if r[2] is not Present]
)
async def test_an_order_is_not_absent_for_any_answer_of_the_list(behaviour: Write, kind: type) -> None:
    timeout = timedelta(milliseconds=100) if behaviour is silent else timedelta(seconds=20)
    async with shop(behaviour, timeout=timeout, history=30 * DAY) as (connector, _, _):
        answers = await connector.ask("orders", "number", ["0001"], fresh=True)
        assert isinstance(answers["0001"], Unknown), answers


async def test_who_cannot_be_reached_knows_nothing_and_an_empty_key_is_never_asked() -> None:
    async with shop(answer(), url=refused_address()) as (connector, _, _):
        for records, by in (("postings", "posting_number"), ("postings", "order_number"), ("orders", "number")):
            answers = await connector.ask(records, by, ["1", ""], fresh=False)
            assert [type(found) for found in answers.values()] == [Unknown, Unknown]


async def test_an_order_is_absent_when_a_control_stood_beside_it_and_its_postings_do_not_exist() -> None:
    control = page(item("0009-1"))
    async with shop(page(), control, control, NOT_FOUND, history=30 * DAY) as (connector, server, _):
        answers = await connector.ask("orders", "number", ["0001"], fresh=False)
        assert isinstance(answers["0001"], Absent)
        bodies = [json.loads(seen.body) for seen in server.seen]
        assert bodies[2]["filter"]["order_numbers"] == ["0001", "0009"], "the control is asked for in the same request"
        assert sorted(body["posting_number"] for body in bodies[3:]) == ["0001-1", "0001-2", "0001-3"]


DOUBTS: list[tuple[str, list[Write]]] = [
    ("the control is not shown", [page(), page(item("0009-1")), page(), NOT_FOUND]),
    ("the shop shows no posting at all", [page(), page(), NOT_FOUND]),
    ("the filter is not heeded", [page(), page(item("0009-1")), page(item("0009-1"), item("0007-1")), NOT_FOUND]),
    ("a posting may exist", [page(), page(item("0009-1")), page(item("0009-1")), NOT_FOUND, answer(500, {})]),
    ("the list goes in a circle", [page(cursor="a"), page(cursor="a"), page(cursor="a"), NOT_FOUND]),
    ("there is more, but not where", [answer(200, {"postings": [], "has_next": True, "cursor": ""}), NOT_FOUND]),
]


@pytest.mark.parametrize("answers", [row[1] for row in DOUBTS], ids=[row[0] for row in DOUBTS])
async def test_an_order_whose_absence_is_not_earned_is_unknown(answers: list[Write]) -> None:
    async with shop(*answers, history=30 * DAY) as (connector, _, _):
        found = await connector.ask("orders", "number", ["0001"], fresh=True)
        assert isinstance(found["0001"], Unknown), found


async def test_a_posting_that_the_list_does_not_show_yet_is_no_absence() -> None:
    control = page(item("0009-1"))
    late = answer(200, {"result": FOUND["result"] | {"posting_number": "0001-1", "order_number": "0001"}})
    async with shop(page(), control, control, late, NOT_FOUND, history=30 * DAY) as (connector, _, _):
        found = (await connector.ask("orders", "number", ["0001"], fresh=True))["0001"]
        assert isinstance(found, Present | Unknown), "whichever of the three questions got the posting"


async def test_many_orders_go_in_few_requests_and_the_young_ones_in_the_first() -> None:
    rows = [{"number": f"N{place}", "id": str(place), "created_at": NOW - DAY} for place in range(150)]
    seen: list[str] = []

    def noted(app: web.Application) -> web.Application:
        @web.middleware
        async def note(request: web.Request, handler: Any) -> web.StreamResponse:
            seen.append(request.path)
            response: web.StreamResponse = await handler(request)
            return response

        app.middlewares.append(note)
        return app

    async with simulated({"ozon.orders": rows}, noted) as (connector, _):
        answers = await connector.ask("orders", "number", [row["number"] for row in rows], fresh=False)
        assert all(isinstance(found, Present) for found in answers.values())
        assert seen == [Method.LIST] * 2


async def test_old_and_split_orders_are_found_and_their_parts_put_together() -> None:
    old = {"order_number": "OLD", "number": "OLD", "order_id": "7", "id": "7", "created_at": NOW - 200 * DAY, "amount": 10}
    parts = [old | {"posting_number": f"OLD-{place}", "status": status} for place, status in ((5, "delivering"), (6, "awaiting_deliver"))]
    young = {"posting_number": "NEW-1", "number": "NEW", "order_number": "NEW", "created_at": NOW - DAY}
    async with simulated({"ozon.postings": [*parts, young]}) as (connector, _):
        answers = await connector.ask("orders", "number", ["OLD", "NEW", "NONE"], fresh=True)
        assert [type(answers[number]) for number in ("OLD", "NEW", "NONE")] == [Present, Present, Absent]
        found = answers["OLD"]
        assert isinstance(found, Present)
        assert (found.records[0]["state"], found.records[0]["amount"], found.records[0]["posting_number"]) == ("ready", 20, None)
        several = await connector.ask("postings", "order_number", ["OLD"], fresh=True)
        assert isinstance(several["OLD"], Present)
        assert [one["posting_number"] for one in several["OLD"].records] == ["OLD-5", "OLD-6"]


SPOILS = ["sound", "500", "html", "empty", "short", "types", "limit", "circle", "unfiltered", "no postings", "more"]
spoilt = st.lists(st.sampled_from(SPOILS) | st.just("sound"), min_size=1, max_size=12)
ages = st.dictionaries(st.sampled_from(["A", "B", "C", "D"]), st.tuples(st.integers(0, 340), st.integers(1, 3)), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages, spoilt, st.booleans())
async def test_absent_is_never_wrong_whatever_is_spoilt_on_the_way(
    there: dict[str, tuple[int, int]], spoils: list[str], lags: bool
) -> None:
    rows = [
        {
            "posting_number": f"{order}-{place}",
            "number": order,
            "order_number": order,
            "created_at": NOW - days * DAY - timedelta(minutes=1),
        }
        for order, (days, place) in there.items()
    ]
    async with simulated({"ozon.postings": rows}, lambda app: _spoil(app, list(spoils), lags), rate=None) as (connector, _):
        answers = await connector.ask("orders", "number", ["A", "B", "C", "D"], fresh=True)
        singles = await connector.ask("postings", "posting_number", ["A-1", "E-1"], fresh=True)
    for order, found in answers.items():
        assert not (isinstance(found, Absent) and order in there), (order, answers)
        if isinstance(found, Present):
            assert order in there
            assert found.records[0]["number"] == order
    if "A" in there and there["A"][1] == 1:
        assert not isinstance(singles["A-1"], Absent)
    assert not isinstance(singles["E-1"], Present)
    if set(spoils) == {"sound"} and there and not lags:
        assert {order for order, found in answers.items() if isinstance(found, Present)} == set(there)
        assert {order for order, found in answers.items() if isinstance(found, Absent)} == {"A", "B", "C", "D"} - set(there)


def _spoil(app: web.Application, spoils: list[str], lags: bool) -> web.Application:
    """Spoils the answers in turn; ``lags``: the list does not show what is younger than a day."""

    @web.middleware
    async def spoil(request: web.Request, handler: Any) -> web.StreamResponse:
        said = await request.json()
        if lags and "filter" in said:
            said["filter"]["to"] = min(said["filter"]["to"], (NOW - DAY).isoformat())
        how = spoils.pop(0) if spoils else "sound"
        if how == "unfiltered" and "filter" in said:
            said["filter"].pop("order_numbers", None)
        request._read_bytes = json.dumps(said).encode()
        response: web.Response = await handler(request)
        return _spoiled(how, response)

    app.middlewares.append(spoil)
    return app


def _spoiled(how: str, sound: web.Response) -> web.Response:
    assert isinstance(sound.body, bytes)
    match how:
        case "500":
            return web.json_response(ERRORS["internal_500"], status=500)
        case "html":
            return web.Response(text="<html>", content_type="text/html")
        case "empty":
            return web.Response()
        case "short":
            return web.Response(body=sound.body[: len(sound.body) // 2], content_type="application/json")
        case "types":
            return web.json_response({"postings": {}, "has_next": "no", "cursor": 7, "result": []})
        case "limit":
            return web.json_response(ERRORS["rate_limit_429"], status=429)
        case "circle":
            return web.Response(status=429, text=ERRORS["circle_is_open_429_text"])
        case "no postings":
            return web.json_response({"has_next": False, "cursor": ""})
        case "more":
            return web.json_response({"postings": [], "has_next": True, "cursor": "x"})
    return sound


# ── Only reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_can_be_called_and_no_other_method_can_be_asked() -> None:
    async with shop(answer()) as (connector, server, _):
        with pytest.raises(ValueError, match="has no calls"):
            connector.prepare("ship", {}, "k")
        changing = Request("ozon", "ship", {}, "POST", f"{server.address}/v4/posting/fbs/ship", {}, "{}", "k")
        assert (await connector.perform(changing)).result is Result.NOT_SENT
        with pytest.raises(ValueError, match="ship"):
            await connector._post("/v4/posting/fbs/ship", {})  # type: ignore[arg-type]
        assert server.seen == []


def test_what_is_allowed_are_methods_that_the_description_calls_lists_and_gets() -> None:
    described = load("openapi_fbs_subset_2026-06.json")["paths"]
    assert set(Method) < set(described)
    assert all(method.endswith(("/list", "/get")) for method in Method)
    assert not any(described[method]["post"].get("deprecated") for method in Method)


async def test_circle_is_open_leaves_the_method_alone_and_the_others_not() -> None:
    async with shop(answer(429, "Circle is open"), page(item("0001-1"))) as (connector, server, _):
        for _ in range(3):
            found = await connector.ask("postings", "posting_number", ["0001-1"], fresh=True)
            assert isinstance(found["0001-1"], Unknown)
            assert "Circle is open" in found["0001-1"].reason
        assert len(server.seen) == 1, "the blocked method is not asked again"
        assert isinstance((await connector.ask("orders", "number", ["0001"], fresh=True))["0001"], Present)


async def test_a_429_without_a_word_stops_all_replicas_for_a_second() -> None:
    async with shop(answer(429, ERRORS["rate_limit_429"])) as (connector, _, world):
        await connector.ask("postings", "posting_number", ["0001-1"], fresh=True)
        assert world.quota.pushed == [("ozon", NOW + timedelta(seconds=1))]
        assert len(world.quota.reserved) == 1, "every request takes a token of the shared rate"


# ── Doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_doctor_tells_a_refused_key_and_a_delivery_method_that_is_not_the_shops() -> None:
    async with shop(answer(403, ERRORS["role_missing_403"])) as (connector, _, _):
        assert "missing a required role" in (await connector.check())[0]
    async with shop(answer(500, {})) as (connector, _, _):
        assert "cannot be asked" in (await connector.check())[0]
    strange = {"cdek": CarrierSettings(delivery_method_ids=["5"])}
    async with simulated({}, carriers=strange) as (other, _):
        assert [line.partition(";")[0] for line in await other.check()] == ["carriers.cdek: the shop has no delivery method 5"]
    async with simulated({}, carriers=CARRIERS) as (sound, _):
        assert await sound.check() == []
