"""Promises of calls: exact before they go, sent once, and known for what became of them."""

import dataclasses
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from daemon.connectors.http import KIND
from daemon.domain.attempt import CONNECTOR_ILL, NOT_CONNECTED, Result
from daemon.domain.shape import Call
from daemon.domain.value import Unknown
from tests.connectors_http.service import ARGS, service, settings
from tests.net.loopback import NOW, Write, answer, endless, refused_address, reset, serving, silent, truncated

D, R, L, U = Result.DONE, Result.REFUSED, Result.LATER, Result.UNKNOWN
ANSWERS: list[tuple[str, Write, Result, str]] = [
    ("success", answer(200, {"success": True}), D, ""),
    ("success, with more", answer(200, {"success": True, "id": 7}), D, ""),
    ("no success", answer(200, {"success": False}), R, "status 200"),
    ("success as text", answer(200, {"success": "true"}), U, "status 200, not recognised"),
    ("success as number", answer(200, {"success": 1}), U, "status 200, not recognised"),
    ("null", answer(200, {"success": None}), U, "status 200, not recognised"),
    ("nothing said", answer(200, {}), U, "status 200, not recognised"),
    ("a list", answer(200, [True]), U, "status 200, not recognised"),
    ("no body", answer(200, ""), U, "status 200, not recognised"),
    ("HTML with 200", answer(200, "<html>success: true</html>"), U, "status 200, not recognised"),
    ("broken JSON", answer(200, '{"success": true', {"Content-Type": "application/json"}), U, "status 200, not recognised"),
    ("created", answer(201, {"success": True}), U, "status 201, not recognised"),
    ("accepted", answer(202, {"success": True}), U, "status 202, not recognised"),
    ("no content", answer(204), U, "status 204, not recognised"),
    ("redirect", answer(302, "", {"Location": "https://login.invalid/"}), U, "redirect to login.invalid, not followed"),
    ("bad request, not declared here", answer(400, {}), U, "status 400, not recognised"),
    ("unauthorised", answer(401, {"success": False}), L, CONNECTOR_ILL),
    ("forbidden", answer(403, "<html>"), L, CONNECTOR_ILL),
    ("unprocessable", answer(422, {"success": False}), R, "status 422"),
    ("unprocessable, in HTML", answer(422, "<html>"), R, "status 422"),
    ("too many", answer(429, "", {"Retry-After": "30"}), L, "status 429"),
    ("error", answer(500, {"success": False}), U, "status 500, not recognised"),
    ("bad gateway", answer(502, "<html>"), U, "status 502, not recognised"),
    ("unavailable", answer(503, ""), L, "status 503"),
    ("gateway timeout", answer(504, ""), U, "status 504, not recognised"),
    ("10 MB", endless, U, "longer than"),
    ("less than promised", truncated, U, ""),
    ("reset after the request", reset, U, ""),
    ("silence", silent, U, "no whole answer within"),
]


@pytest.mark.parametrize(("behaviour", "result", "reason"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
async def test_every_answer_has_its_outcome(behaviour: Write, result: Result, reason: str) -> None:
    timeout = timedelta(milliseconds=200) if behaviour is silent else timedelta(seconds=20)
    async with service(behaviour, timeout=timeout) as (shop, server, world):
        outcome = await shop.perform(shop.prepare("upload_order", ARGS, "key-1"))
        assert outcome.result is result
        assert reason in outcome.reason
        assert outcome.reply is not None
        assert len(server.seen) == 1, "law 5"
        assert [(event.operation, event.outcome) for event in world.requested] == [("upload_order", result)]
        assert (outcome.retry_at_db == NOW + timedelta(seconds=30)) is (behaviour is ANSWERS[20][1])


@pytest.mark.parametrize(("status", "result"), [(400, R), (404, R), (409, R), (410, R), (422, R), (429, L), (503, L), (405, U)])
async def test_what_a_call_does_not_declare_has_defaults(status: int, result: Result) -> None:
    async with service(answer(status)) as (shop, _, _):
        assert (await shop.perform(shop.prepare("plain", {}, "k"))).result is result


@pytest.mark.parametrize(("status", "body", "result"), [(409, "busy now", L), (409, "gone", U), (418, "", R), (204, "", D), (503, "", U)])
async def test_what_a_call_declares_replaces_the_defaults(status: int, body: str, result: Result) -> None:
    args = {"order": "1", "lang": "ru", "kind": "n", "tags": [], "at": NOW, "author": "we", "text": "x"}
    async with service(answer(status, body)) as (shop, _, _):
        assert (await shop.perform(shop.prepare("comment", args, "k"))).result is result


async def test_not_connected_is_later_and_says_why_in_the_ledger() -> None:
    async with service(answer()) as (shop, _, _):
        shop._client.base  # noqa: B018 - it is there
        request = shop.prepare("plain", {}, "k")
    async with service(answer(), url=refused_address()) as (shop, _, world):
        outcome = await shop.perform(shop.prepare("plain", {}, "k"))
        assert (outcome.result, outcome.reason) == (L, NOT_CONNECTED)
        assert outcome.reply is not None
        assert "ConnectError" in outcome.reply.body
        elsewhere = await shop.perform(request)
        assert elsewhere.reply is not None
        assert "not on the declared host" in elsewhere.reply.body, "an address from before is not reached any more"
        assert [event.reason for event in world.requested] == [NOT_CONNECTED] * 2


def test_parameters_are_the_names_that_templates_use() -> None:
    assert KIND.shape(settings()).calls == {
        "upload_order": Call(frozenset({"id", "number_type"}), idempotent=True),
        "plain": Call(frozenset()),
        "comment": Call(frozenset({"order", "lang", "kind", "tags", "at", "author", "text"})),
        "form": Call(frozenset({"a"})),
    }


async def test_what_is_prepared_is_what_goes_over_the_wire_but_for_credentials() -> None:
    args = {
        "order": "№ 1/2?#", "lang": "ru", "kind": 7, "tags": ["a&b", "c"], "text": "три ${author}",
        "at": datetime(2026, 11, 23, 15, 0, tzinfo=UTC), "author": "we",
    }  # fmt: skip
    async with service(answer(204)) as (shop, server, _):
        request = shop.prepare("comment", args, "incident-1:step-2:1")
        assert "tell-nobody" not in repr(request)
        await shop.perform(request)
        seen = server.seen[0]
        assert seen.method == request.method == "PUT"
        assert request.url == server.address + seen.target
        assert seen.target == ("/orders/%E2%84%96%201%2F2%3F%23/comments/ru-7?tag=a%26b&tag=c&at=2026-11-23T15%3A00%3A00Z")
        assert seen.body.decode() == request.body == "text: три ${author}"
        assert request.headers.items() <= {
            "X-Author": "we", "Content-Type": "text/plain; charset=utf-8", "Idempotency-Key": "incident-1:step-2:1",
        }.items()  # fmt: skip
        assert {name.lower(): value for name, value in request.headers.items()}.items() <= seen.headers.items()
        assert seen.headers["authorization"] == "Bearer tell-nobody-this"
        assert shop.timeout("comment") == timedelta(seconds=2)
        assert shop.timeout("plain") == timedelta(seconds=10)


async def test_the_same_request_is_prepared_each_time() -> None:
    async with service(answer()) as (shop, _, _):
        assert shop.prepare("upload_order", ARGS, "k") == shop.prepare("upload_order", dict(reversed(ARGS.items())), "k")


async def test_arguments_keep_their_types_in_json() -> None:
    async with service(answer(200, {"success": True})) as (shop, server, _):
        values: list[Any] = [
            (Decimal("12.50"), 12.5), (Decimal(7), 7), (3, 3), (True, True), ("0012", "0012"),
            (NOW, "2026-11-23T12:00:00Z"), ({"a": [Decimal(1), None]}, {"a": [1, None]}),
        ]  # fmt: skip
        for value, said in values:
            await shop.perform(shop.prepare("upload_order", {"id": value, "number_type": "x"}, "k"))
            assert server.seen[-1].json == {"id": said, "number_type": "x"}


async def test_a_form_is_sent_where_its_content_type_says_so() -> None:
    async with service(answer()) as (shop, server, _):
        await shop.perform(shop.prepare("form", {"a": "б&"}, "k"))
        assert server.seen[0].body == b"a=%D0%B1%26&fixed=1"
        assert server.seen[0].headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("order", ["", ".", "..", None, Unknown("is not known"), {"a": 1}])
async def test_an_argument_that_cannot_be_said_on_the_wire_stops_before_the_intent(order: Any) -> None:
    args = {"order": order, "lang": "ru", "kind": "n", "tags": [], "at": NOW, "author": "we", "text": "x"}
    async with service(answer()) as (shop, server, _):
        if order in (".", ".."):
            with pytest.raises(ValueError, match="another place"):
                shop.prepare("comment", args, "k")
        else:
            with pytest.raises(ValueError, match="order"):
                shop.prepare("comment", args, "k")
        with pytest.raises(ValueError, match="header"):
            shop.prepare("comment", args | {"order": "1", "author": "we\r\nX-Admin: 1"}, "k")
        with pytest.raises(ValueError, match="id: is missing"):
            shop.prepare("upload_order", {"number_type": "x"}, "k")
        with pytest.raises(ValueError, match="more: is no parameter"):
            shop.prepare("upload_order", {**ARGS, "more": 1}, "k")
        assert server.seen == []


@pytest.mark.parametrize("order", ["../../admin", "http://evil.invalid/", "//evil.invalid", "a/../b", "%2e%2e", "x\0y", "a\\b"])
async def test_what_comes_from_a_record_cannot_leave_its_place(order: str) -> None:
    args = {"order": order, "lang": "ru", "kind": "n", "tags": [], "at": NOW, "author": "we", "text": "x"}
    async with service(answer()) as (shop, server, _):
        await shop.perform(shop.prepare("comment", args, "k"))
        path = server.seen[0].target.partition("?")[0]
        assert path.startswith("/orders/")
        assert path.count("/") == 4
        assert path.endswith("/comments/ru-n")


async def test_a_call_that_is_declared_no_more_is_not_sent() -> None:
    async with service(answer()) as (shop, server, _):
        request = dataclasses.replace(shop.prepare("plain", {}, "k"), call="gone")
        assert (await shop.perform(request)).result is Result.NOT_SENT
        assert server.seen == []


async def test_credentials_are_kept_nowhere_whatever_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "Authorization: Bearer tell-nobody-this"
    async with serving(answer(), tls=True) as untrusted:
        addresses = [untrusted.address, refused_address(), "http://no-such-host.invalid"]
        behaviours = [answer(500, echo), answer(401, {"said": echo}), answer(302, echo, {"Location": "http://x.invalid/"})]
        for address, behaviour in [*((address, answer()) for address in addresses), *((None, each) for each in behaviours)]:
            changes = {"url": address} if address else {}
            async with service(behaviour, **changes) as (shop, _, world):
                request = shop.prepare("plain", {}, "k")
                outcome = await shop.perform(request)
                asked = await shop.ask("orders", "number", ["1"], fresh=True)
                checked = await shop.check()
                told = f"{request!r} {outcome!r} {world.events!r} {asked!r} {checked!r} {shop!r} {vars(shop)!r}"
                assert "tell-nobody" not in told
    assert "tell-nobody" not in caplog.text
