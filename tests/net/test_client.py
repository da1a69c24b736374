"""Promises of the HTTP client: what went wrong is known for what it is, and nobody else is ever reached."""

import asyncio
import gzip
import logging
from datetime import timedelta

import pytest

from daemon.domain.attempt import CONNECTOR_ILL, NOT_CONNECTED, Outcome, Result
from daemon.domain.value import Unknown
from daemon.net import MAX_KEPT, Client, Failed, Response, not_recognised
from daemon.settings import Rate
from tests.net.loopback import (  # fmt: skip
    NOW,
    World,
    Write,
    answer,
    endless,
    flood,
    garbage,
    refused_address,
    reset,
    serving,
    silent,
    truncated,
)

SOON = timedelta(milliseconds=200)
LONG = timedelta(seconds=20)


def done_at_200(response: Response) -> Outcome:
    return Outcome(Result.DONE) if response.status == 200 else not_recognised(response)


async def performed(address: str, world: World, timeout: timedelta = LONG, path: str = "/call") -> Outcome:
    client = Client("shop", address, world.tools, timeout=timeout)
    try:
        return await client.perform("call", "POST", address + path, {}, b"{}", done_at_200)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        pytest.param(reset, "", id="reset after the request"),
        pytest.param(truncated, "", id="less than promised"),
        pytest.param(garbage, "RemoteProtocolError", id="no HTTP"),
        pytest.param(silent, "no whole answer within 0.2 s", id="silence"),
    ],
)
async def test_without_a_whole_answer_to_a_request_that_left_the_outcome_is_unknown(behaviour: Write, reason: str) -> None:
    world = World()
    async with serving(behaviour) as server:
        outcome = await performed(server.address, world, SOON if behaviour is silent else LONG)
    assert outcome.result is Result.UNKNOWN
    assert reason in outcome.reason
    assert len(server.seen) == 1, "law 5: one attempt is one request on the wire"
    assert [event.outcome for event in world.requested] == ["unknown"]


async def test_a_connection_that_never_was_is_later_and_not_connected() -> None:
    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    dropping = await asyncio.start_server(closed, "127.0.0.1", 0)
    port = dropping.sockets[0].getsockname()[1]
    async with dropping, serving(answer(), tls=True) as untrusted:
        for address in (
            refused_address(),
            "http://no-such-host.invalid",
            untrusted.address,
            f"https://127.0.0.1:{port}",
        ):
            outcome = await performed(address, World())
            assert (outcome.result, outcome.reason) == (Result.LATER, NOT_CONNECTED), address
            assert outcome.reply is not None
            assert outcome.reply.body, "why is kept"
    assert untrusted.seen == [], "nothing is said to whom we do not trust"


async def test_no_redirect_is_followed_not_even_to_the_same_host() -> None:
    async with serving(answer(200)) as other:
        for code in (301, 302, 303, 307, 308):
            async with serving(answer(code, "", {"Location": f"{other.address}/elsewhere?token=x"}), answer(200)) as server:
                outcome = await performed(server.address, World())
            assert outcome.result is Result.UNKNOWN
            assert "redirect to 127.0.0.1" in outcome.reason
            assert outcome.reply is not None
            assert outcome.reply.headers["location"] == f"{other.address}/elsewhere"
            assert len(server.seen) == 1
    assert other.seen == []


async def test_another_host_is_never_reached_whatever_the_address_says() -> None:
    async with serving(answer()) as ours, serving(answer()) as theirs:
        client = Client("shop", ours.address, World().tools, timeout=LONG)
        for url in (theirs.address, ours.address.replace("http:", "https:"), "http://[::1", "file:///etc/passwd", "//x/"):
            assert isinstance(await client.read("r", "GET", url), Failed)
        await client.close()
    assert (ours.seen, theirs.seen) == ([], [])


async def test_a_longer_answer_than_anybody_needs_is_cut_and_known_as_too_large() -> None:
    async with serving(endless) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        response = await client.read("r", "GET", server.address)
        await client.close()
    assert isinstance(response, Response)
    assert response.too_large
    assert isinstance(response.body, Unknown)
    assert len(response.text) < 10_000


async def test_an_answer_without_end_is_not_waited_for() -> None:
    async with serving(flood) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        response = await client.read("r", "GET", server.address)
        await client.close()
    assert isinstance(response, Response), response
    assert response.too_large


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = answer(200, gzip.compress(b'{"a": 1}'), {"Content-Encoding": "gzip", "Content-Type": "application/json"})
    async with serving(packed) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        response = await client.read("r", "GET", server.address)
        await client.close()
    assert isinstance(response, Response)
    assert isinstance(response.body, Unknown)
    assert server.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("text", "type_", "body"),
    [
        ('{"a": [1, 2.5, null]}', "application/json", {"a": [1, 2.5, None]}),
        ('{"a": 1}', "text/html", {"a": 1}),
        ("7", "application/json", 7),
        ("7", "text/plain", "7"),
        ("<html>7</html>", "application/json", "<html>7</html>"),
        ('{"a": NaN}', "application/json", '{"a": NaN}'),
        ("", "application/json", ""),
        ("[" * 100_000, "application/json", "[" * 100_000),
        (r'{"a": "\ud800b\u0000"}', "application/json", {"a": "?b\N{REPLACEMENT CHARACTER}"}),
        ("\ufeff[]", "application/json", []),
    ],
)
async def test_json_becomes_values_and_everything_else_is_text(text: str, type_: str, body: object) -> None:
    async with serving(answer(200, text, {"Content-Type": type_})) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        response = await client.read("r", "GET", server.address)
        await client.close()
    assert isinstance(response, Response)
    assert response.body == body


async def test_questions_are_asked_up_to_three_times_and_effects_once() -> None:
    world = World()
    async with serving(answer(503), reset, answer(200, {"ok": True})) as server:
        client = Client("shop", server.address, world.tools, timeout=LONG, rate=Rate(10, timedelta(seconds=1)))
        response = await client.read("orders", "GET", server.address)
        assert isinstance(response, Response)
        assert response.body == {"ok": True}
        assert [event.outcome for event in world.requested] == ["error", "error", "ok"]
        assert world.quota.reserved == [("shop", 1)] * 3, "each request has its token"
        assert len(world.clock.slept) == 2
        assert all(seconds <= 2 for seconds in world.clock.slept)
        server.answers[:] = [answer(503)]
        assert (await client.perform("call", "POST", server.address, {}, None, done_at_200)).result is Result.UNKNOWN
        assert len(server.seen) == 4
        last = await client.read("orders", "GET", server.address)
        assert isinstance(last, Response)
        assert last.status == 503
        assert len(server.seen) == 7
        await client.close()


async def test_a_question_waits_for_its_token_but_not_for_ever() -> None:
    world = World()
    world.quota.waits = [1.5, 0.25, 0]
    async with serving(answer()) as server:
        client = Client("shop", server.address, world.tools, timeout=LONG, rate=Rate(1, timedelta(seconds=1)))
        assert isinstance(await client.read("r", "GET", server.address), Response)
        assert world.clock.slept == [1.5, 0.25]
        world.quota.waits = [3600]
        starved = await client.read("r", "GET", server.address)
        await client.close()
    assert isinstance(starved, Failed)
    assert "3600 s" in starved.reason
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "Mon, 23 Nov 2026 15:01:30 GMT", "Date": "Mon, 23 Nov 2026 15:00:00 GMT"}, 90),
        ({"Retry-After": "Mon, 23 Nov 2026 12:05:00 GMT"}, 300),
        ({"Retry-After": "Mon, 23 Nov 2020 12:05:00 GMT"}, 0),
        ({"Retry-After": "999999999"}, 86400),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_database_time_and_pushes_the_shared_row(headers: dict[str, str], seconds: int | None) -> None:
    world = World()
    async with serving(answer(429, "", headers)) as server:
        outcome = await performed(server.address, world)
        client = Client("shop", server.address, world.tools, timeout=LONG)
        await client.read("r", "GET", server.address)
        await client.close()
    until = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert outcome.retry_at_db == until
    assert world.quota.pushed == ([] if until is None else [("shop", until)] * 2), "acts and questions alike"


@pytest.mark.parametrize("status", [401, 403])
async def test_who_refuses_us_is_ill_and_it_is_not_the_orders_fault(status: int) -> None:
    async with serving(answer(status)) as server:
        outcome = await performed(server.address, World())
    assert (outcome.result, outcome.reason) == (Result.LATER, CONNECTOR_ILL)


async def test_the_ledger_keeps_4_kib_and_no_cookie() -> None:
    async with serving(answer(500, "é" * 5000 + "\0", {"Set-Cookie": "session=1", "X-Request-Id": "7"})) as server:
        outcome = await performed(server.address, World())
    assert outcome.reply is not None
    assert outcome.reply.truncated
    assert outcome.reply.body == "é" * (MAX_KEPT // 2)
    assert set(outcome.reply.headers) == {"content-type", "content-length", "x-request-id"}


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request() -> None:
    async with serving(answer(200, "", {"Set-Cookie": "session=1; Path=/"})) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        await client.read("r", "GET", server.address)
        await client.read("r", "GET", server.address)
        await client.close()
    assert "cookie" not in server.seen[1].headers


async def test_each_act_has_a_connection_of_its_own() -> None:
    """On one that the other side just closed, nobody could say whether the request arrived."""
    async with serving(answer()) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        for _ in range(3):
            await client.perform("call", "POST", server.address, {}, None, done_at_200)
        assert server.connections == 3
        for _ in range(3):
            await client.read("r", "GET", server.address)
        assert server.connections == 4
        await client.close()


async def test_no_more_than_ten_connections_are_open_to_one_system() -> None:
    async with serving(answer()) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        await asyncio.gather(*(client.read("r", "GET", server.address) for _ in range(40)))
        assert server.connections <= 10
        await client.close()


async def test_being_cancelled_is_not_an_answer() -> None:
    async with serving(silent) as server:
        client = Client("shop", server.address, World().tools, timeout=LONG)
        task = asyncio.create_task(client.perform("call", "POST", server.address, {}, None, done_at_200))
        while not server.seen:  # noqa: ASYNC110 - the signal is in the server's hands
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()


@pytest.mark.parametrize("base", ["ftp://host", "https://user:pw@host", "https://host?token=x", "host", "", "https://", "https://host#a"])
def test_an_address_is_a_plain_http_url(base: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Client("shop", base, World().tools, timeout=LONG)


async def test_secrets_come_back_in_nothing_that_is_kept_or_told(caplog: pytest.LogCaptureFixture) -> None:
    canary = "canary-7f3a9c/+secret"
    path = "/bot" + canary.replace("/", "%2F").replace("+", "%2B")
    caplog.set_level(logging.DEBUG)
    echo = f"we got Authorization: Bearer {canary} at {path}"
    async with (
        serving(answer(500, echo, {"X-Request-Id": canary})) as failing,
        serving(answer(401, {"said": canary})) as ill,
        serving(answer(302, "", {"Location": f"http://x.invalid/{canary}?a={canary}"})) as redirecting,
        serving(answer(), tls=True) as untrusted,
        serving(reset) as resetting,
    ):
        addresses = [failing, ill, redirecting, untrusted, resetting]
        for address in [*(server.address for server in addresses), refused_address(), "http://no-such-host.invalid"]:
            world = World(canary)
            client = Client("shop", address, world.tools, timeout=LONG)
            headers = {"Authorization": f"Bearer {canary}"}
            outcome = await client.perform("call", "POST", address + path, headers, canary.encode(), not_recognised)
            answered = await client.read("r", "GET", address + path, headers)
            told = f"{outcome!r} {world.events!r} {client!r} {answered!r}"
            assert canary not in told, address
            assert canary.replace("/", "%2F").replace("+", "%2B") not in told, address
            await client.close()
    assert canary not in caplog.text
    assert "canary" not in caplog.text
