"""Promises of questions to CDEK: a token is fetched once and renewed once, absence is earned, secrets stay out."""

import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given
from hypothesis import settings as example
from hypothesis import strategies as st

from daemon.connectors.cdek import KIND
from daemon.domain.attempt import Request, Result
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.settings import Secret
from tests.connectors_cdek.account import BODIES, DATA, KEYS, NUMBER, TOKEN, account, said, simulated
from tests.described import Described
from tests.net.loopback import NOW, Write, answer, endless, garbage, refused_address, reset, silent, truncated

EXPIRED = answer(401, {"errors": [{"code": "v2_token_expired", "message": "Token is expired"}]})
GONE = BODIES["orders_im_number_not_found_400"]["body"]

ANSWERS: list[tuple[str, Write, type]] = [
    ("there", said("get_200_successful"), Present),
    ("rejected is there too", said("get_200_invalid_city"), Present),
    ("said to be absent", said("orders_im_number_not_found_400"), Absent),
    ("absent with 404", answer(404, GONE), Absent),
    ("absent by another code", said("orders_uuid_not_found_400"), Unknown),
    ("absent with 200", answer(200, GONE), Unknown),
    ("absent with 500", answer(500, GONE), Unknown),
    ("absent with 403", answer(403, GONE), Unknown),
    ("another 400", answer(400, {"errors": [{"code": "v2_bad_request", "message": "Bad request"}]}), Unknown),
    ("forbidden", answer(400, {"requests": [{"errors": [{"code": "v2_entity_forbidden"}]}]}), Unknown),
    ("a 400 in HTML", answer(400, "<html>v2_entity_not_found_im_number</html>"), Unknown),
    ("a 404 in HTML", answer(404, "<html>"), Unknown),
    ("HTML with 200", answer(200, "<html>"), Unknown),
    ("empty", answer(200, ""), Unknown),
    ("empty object", answer(200, {}), Unknown),
    ("a list", answer(200, []), Unknown),
    ("gateway", answer(502, "<html>"), Unknown),
    ("too many", answer(429, ""), Unknown),
    ("redirect", answer(302, "", {"Location": "/login"}), Unknown),
    ("10 MB", endless, Unknown),
    ("less than promised", truncated, Unknown),
    ("reset", reset, Unknown),
    ("no HTTP", garbage, Unknown),
    ("silence", silent, Unknown),
]


@pytest.mark.parametrize(("behaviour", "kind"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
async def test_absence_is_earned(behaviour: Write, kind: type) -> None:
    timeout = timedelta(milliseconds=200) if behaviour is silent else timedelta(seconds=20)
    async with account(TOKEN, behaviour, timeout=timeout) as (cdek, server, _):
        answers = await cdek.ask("orders", "number", [NUMBER], fresh=True)
        assert list(answers) == [NUMBER]
        assert isinstance(answers[NUMBER], kind), answers
        assert server.seen[1].target == f"/v2/orders?im_number={NUMBER}"
        assert server.seen[1].headers["authorization"] == "Bearer a.b.c"


async def test_an_order_of_another_number_is_not_the_askers() -> None:
    async with account(TOKEN, said("get_200_successful")) as (cdek, _, _):
        answers = await cdek.ask("orders", "number", ["OZ-1", ""], fresh=True)
        assert [type(found) for found in answers.values()] == [Unknown, Unknown]


async def test_a_number_cannot_leave_its_place_in_the_address() -> None:
    async with account(TOKEN, said("orders_im_number_not_found_400")) as (cdek, server, _):
        await cdek.ask("orders", "number", ["OZ-1&cdek_number=5#/ё"], fresh=True)
        assert server.seen[1].target == "/v2/orders?im_number=OZ-1%26cdek_number%3D5%23%2F%D1%91"


# ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_fetched_once_for_many_questions() -> None:
    rows = [{"number": f"OZ-{place}"} for place in range(40)]
    logins: list[str] = []
    async with simulated(*rows, wrap=lambda app: _noting(app, logins)) as (cdek, _):
        answers = await cdek.ask("orders", "number", [*(row["number"] for row in rows), "OZ-none"], fresh=False)
        await cdek.ask("orders", "number", ["OZ-1"], fresh=False)
        assert [type(found) for found in answers.values()] == [Present] * 40 + [Absent]
        assert logins.count("/v2/oauth/token") == 1


async def test_a_token_that_expired_is_renewed_once_and_the_question_asked_again() -> None:
    seen: list[str] = []
    async with simulated({"number": "OZ-1"}, wrap=lambda app: _noting(app, seen, forget_at=2)) as (cdek, _):
        keys = ["OZ-1", *(f"OZ-{place}" for place in range(2, 12))]
        await cdek.ask("orders", "number", ["OZ-1"], fresh=True)
        answers = await cdek.ask("orders", "number", keys, fresh=True)
        assert [type(found) for found in answers.values()] == [Present] + [Absent] * 10
        assert seen.count("/v2/oauth/token") == 2, "all who were refused share the new one"


async def test_a_new_token_that_is_refused_too_is_an_illness_that_is_not_repeated() -> None:
    async with account(TOKEN, EXPIRED, TOKEN, EXPIRED) as (cdek, server, _):
        answers = await cdek.ask("orders", "number", ["OZ-1"], fresh=True)
        assert isinstance(answers["OZ-1"], Unknown)
        assert "401" in answers["OZ-1"].reason
        again = await cdek.ask("orders", "number", ["OZ-1", "OZ-2"], fresh=True)
        assert {type(found) for found in again.values()} == {Unknown}
        assert len(server.seen) == 4, "for a while nothing more is asked"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_credentials_that_are_refused_are_not_tried_for_every_number(status: int) -> None:
    async with account(answer(status, {"error": "invalid_client", "error_description": "Bad"})) as (cdek, server, _):
        answers = await cdek.ask("orders", "number", [f"OZ-{place}" for place in range(20)], fresh=True)
        assert {found.reason for found in answers.values() if isinstance(found, Unknown)} == {
            f"CDEK refuses our credentials (status {status})"
        }
        assert len(server.seen) == 1
        assert "check client_id" in (await cdek.check())[0]


@pytest.mark.parametrize(
    "body",
    ["", "<html>", [], {}, {"access_token": 5}, {"access_token": ""}, {"access_token": "a\r\nX: y"}, {"access_token": "токен"}],
    ids=repr,
)
async def test_no_token_no_answer(body: Any) -> None:
    async with account(answer(200, body)) as (cdek, server, _):
        answers = await cdek.ask("orders", "number", ["OZ-1"], fresh=True)
        assert isinstance(answers["OZ-1"], Unknown)
        assert all("oauth" in seen.target for seen in server.seen)


async def test_a_token_near_its_end_is_not_used() -> None:
    async with account(answer(200, {"access_token": "a", "expires_in": 3599}), said("orders_im_number_not_found_400")) as (cdek, server, _):
        token = await cdek._logged_in(None)
        assert not hasattr(token, "reason")
        begun = cdek._tools.clock.monotonic()
        assert cdek._token is not None
        assert 3500 < cdek._token.until - begun < 3540
        object.__setattr__(cdek._token, "until", begun)
        await cdek._logged_in(None)
        assert [seen.target.partition("?")[0] for seen in server.seen] == ["/v2/oauth/token"] * 2


# ── Whatever it says ─────────────────────────────────────────────────────────────────────────────────────────────────

SPOILS = ["sound", "500", "html", "empty", "short", "types", "401", "another", "no token"]


@example(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["OZ-1", "OZ-2", "OZ-3"]), st.sampled_from(["created", "pending", "rejected", "removed"])),
    st.lists(st.sampled_from(SPOILS), max_size=8),
)
async def test_absent_is_never_wrong_and_a_state_is_the_worlds(there: dict[str, str], spoils: list[str]) -> None:
    rows = [{"number": number, "state": state} for number, state in there.items()]
    async with simulated(*rows, wrap=lambda app: _spoiling(app, list(spoils)), rate=None) as (cdek, _):
        answers = await cdek.ask("orders", "number", ["OZ-1", "OZ-2", "OZ-3"], fresh=True)
    for number, found in answers.items():
        assert not (isinstance(found, Absent) and number in there), (number, answers)
        if isinstance(found, Present):
            assert found.records[0]["state"] == there[number]
        if not set(spoils) - {"sound"}:
            assert isinstance(found, Present if number in there else Absent)


def _spoiling(app: web.Application, spoils: list[str]) -> web.Application:
    @web.middleware
    async def spoil(request: web.Request, handler: Any) -> web.StreamResponse:
        sound: web.Response = await handler(request)
        return _spoiled(spoils.pop(0) if spoils else "sound", sound)

    app.middlewares.append(spoil)
    return app


def _spoiled(how: str, sound: web.Response) -> web.Response:
    assert isinstance(sound.body, bytes)
    match how:
        case "500":
            return web.json_response(GONE, status=500)
        case "html":
            return web.Response(text="<html>", content_type="text/html")
        case "empty":
            return web.Response(status=400)
        case "short":
            return web.Response(body=sound.body[: len(sound.body) // 2], status=sound.status, content_type="application/json")
        case "types":
            return web.json_response({"entity": [], "requests": {"errors": 5}, "errors": "no", "access_token": 5}, status=400)
        case "401":
            return web.json_response({"errors": [{"code": "v2_token_expired"}]}, status=401)
        case "another":
            return web.json_response(BODIES["get_200_successful"]["body"])
        case "no token":
            return web.json_response({"error": "invalid_client"}, status=401)
    return sound


def _noting(app: web.Application, seen: list[str], forget_at: int | None = None) -> web.Application:
    """Notes paths; every token that was given before the request of this number has expired from then on."""

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request.path)
        old = request.headers.get("Authorization", "")
        if forget_at is not None and len(seen) > forget_at and old and old in first:
            return web.json_response({"errors": [{"code": "v2_token_expired", "message": "Token is expired"}]}, status=401)
        if len(seen) <= (forget_at or 0):
            first.add(old)
        response: web.StreamResponse = await handler(request)
        return response

    first: set[str] = set()
    app.middlewares.append(note)
    return app


# ── The rest of the port ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_request_is_as_the_official_description_has_it() -> None:
    described = Described(json.loads((DATA / "openapi_v2_subset.json").read_text("utf-8")), "https://api.cdek.ru")
    async with account(TOKEN, EXPIRED, TOKEN, said("orders_im_number_not_found_400")) as (cdek, server, _):
        await cdek.ask("orders", "number", [NUMBER], fresh=True)
        assert len(server.seen) == 4
        for seen in server.seen:
            described.hold(seen)


async def test_secrets_stay_out_of_reasons_and_events() -> None:
    echo = answer(401, "you sent " + " ".join(KEYS.values()))
    async with account(echo) as (cdek, _, world):
        found = await cdek.ask("orders", "number", ["OZ-1"], fresh=True)
        told = repr(found) + repr(world.events) + repr(await cdek.check()) + repr(vars(cdek))
        assert not [value for value in KEYS.values() if value and value in told]


async def test_it_cannot_be_listed_and_changes_nothing() -> None:
    async with account(TOKEN) as (cdek, server, _):
        with pytest.raises(Unreachable, match="cannot be listed"):
            await anext(cdek.list("orders", None, None, None, NOW, 10, False))
        with pytest.raises(ValueError, match="no calls"):
            cdek.prepare("delete", {}, "k")
        request = Request("cdek", "delete", {}, "DELETE", f"{server.address}/v2/orders/1", {}, None, "k")
        assert (await cdek.perform(request)).result is Result.NOT_SENT
        assert await cdek.count("orders", NOW) is None
        assert server.seen == []
        assert KIND.shape(None).calls == {}


async def test_doctor_tells_who_cannot_be_reached_and_that_a_test_system_is_one() -> None:
    async with simulated() as (cdek, _):
        assert await cdek.check() == []
    async with account(TOKEN, url=refused_address()) as (cdek, _, _):
        assert "cannot be used" in (await cdek.check())[0]
        assert {type(found) for found in (await cdek.ask("orders", "number", ["OZ-1"], fresh=False)).values()} == {Unknown}
    async with simulated(client_secret=Secret("another-secret")) as (cdek, _):
        assert "refuses our credentials" in (await cdek.check())[0]


async def test_every_question_takes_a_token_of_the_shared_rate() -> None:
    async with account(TOKEN, said("orders_im_number_not_found_400")) as (cdek, _, world):
        await cdek.ask("orders", "number", ["OZ-1", "OZ-2"], fresh=True)
        assert world.quota.reserved == [("cdek", 1)] * 3
