"""Telling a chat over real HTTP on loopback: what Telegram gets, and what becomes of what it answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from daemon.clock import HandClock
from daemon.connectors.telegram import KIND, LONGEST, TelegramAddress, TelegramConnector, TelegramSettings, split
from daemon.domain.attempt import NOT_CONNECTED, Outcome, Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.value import Timescale
from daemon.engine.events import Event, Requested
from daemon.engine.ports import Unreachable
from daemon.kinds import Tools
from daemon.settings import Redactor, Secret

TOKEN = "123456:canary-telegram-token"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def sent(chat: int | str, message: int) -> tuple[int, object]:
    return 200, {"ok": True, "result": {"message_id": message, "date": 1, "chat": {"id": chat, "type": "supergroup"}}}


def refusal(status: int, description: str, **parameters: Any) -> tuple[int, object]:
    return status, {"ok": False, "error_code": status, "description": description, "parameters": parameters}


@dataclass
class Bot:
    """A Bot API that answers from a script, then takes everything; keeps what it got."""

    script: list[tuple[int, object]] = field(default_factory=list)
    got: list[Mapping[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        body = await request.json() if request.can_read_body else {}
        self.got.append(body)
        status, answer = self.script.pop(0) if self.script else sent(body.get("chat_id", 0), len(self.got))
        if isinstance(answer, str):
            return web.Response(status=status, text=answer, content_type="text/html", headers=self.headers)
        return web.json_response(answer, status=status, headers=self.headers)


class NoQuota:
    """No limit but what the test says."""

    def __init__(self, wait: float = 0.0) -> None:
        self.wait, self.pushed = wait, list[tuple[str, datetime]]()

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return self.wait

    async def push(self, target: str, until_db: datetime) -> None:
        self.pushed.append((target, until_db))


@dataclass
class Chat:
    """A connector, the bot's API behind it, and what was told of the requests."""

    bot: Bot
    connector: TelegramConnector
    events: list[Event]
    quota: NoQuota

    async def tell(self, dispatch: Dispatch | None = None) -> Outcome:
        return await self.connector.deliver(dispatch or letter())


@asynccontextmanager
async def chat(*script: tuple[int, object], wait: float = 0.0, url: str | None = None, **more: Any) -> AsyncIterator[Chat]:
    bot, events, quota = Bot(list(script), headers=more.pop("headers", {})), list[Event](), NoQuota(wait)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", bot.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    secret = Secret(TOKEN)
    tools = Tools(
        HandClock(), quota, events.append, Timescale(NOW), lambda: NOW, redact=Redactor([secret])
    )  # fmt: skip
    settings = TelegramSettings.model_validate({"token": secret, "url": url or f"http://127.0.0.1:{port}", **more})
    connector = TelegramConnector("telegram", settings, tools)
    try:
        yield Chat(bot, connector, events, quota)
    finally:
        await connector.close()
        await runner.cleanup()


def letter(thread: str = "", address: Mapping[str, str] | None = None, **changes: Any) -> Dispatch:
    notice = Notice("n1", "p1", "stuck", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, NOW, "Stuck orders", "Look at N1\nN1, 5 ₽")
    return Dispatch(
        "d1", replace(notice, **changes), "team", "telegram", {"chat": "-100", **(address or {})}, thread=thread
    )  # fmt: skip


async def test_a_message_is_done_when_telegram_says_so() -> None:
    async with chat() as there:
        outcome = await there.tell(letter(address={"thread": "12"}, ours="orderheal incidents claim i1"))
    assert (outcome.result, outcome.reference) == (Result.DONE, "-100/1")
    assert there.bot.paths == [f"/bot{TOKEN}/sendMessage"]
    assert there.bot.got == [
        {
            "chat_id": -100,
            "message_thread_id": 12,
            "text": "<b>Stuck orders</b>\nLook at N1\nN1, 5 ₽\n\n<code>orderheal incidents claim i1</code>",
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
    ]


async def test_text_from_records_is_escaped_and_never_markup() -> None:
    async with chat() as there:
        await there.tell(letter(title="<b>A & B</b>", text="<a href='x'>click</a>"))
    assert there.bot.got[0]["text"] == "<b>&lt;b&gt;A &amp; B&lt;/b&gt;</b>\n&lt;a href='x'&gt;click&lt;/a&gt;"


async def test_well_again_replies_to_the_first_message_of_the_episode() -> None:
    async with chat() as there:
        first = await there.tell()
        await there.tell(letter(thread=first.reference, kind=NoticeKind.END))
        await there.tell(letter(thread="-999/7"))
    assert there.bot.got[1]["reply_parameters"] == {"message_id": 1, "allow_sending_without_reply": True}
    assert "reply_parameters" not in there.bot.got[2]  # a message of another chat


@pytest.mark.parametrize(
    ("sentence", "answer", "result", "reason"),
    [
        ("kicked out is for good", refusal(403, "Forbidden: bot was kicked from the supergroup chat"), "refused", "kicked"),
        ("no such chat is for good", refusal(400, "Bad Request: chat not found"), "refused", "chat not found"),
        ("a wrong token is for good: the next channel is asked", refusal(401, "Unauthorized"), "refused", "Unauthorized"),
        ("a 500 may have had its effect", (500, {"ok": False, "description": "Internal"}), "unknown", "Internal"),
        ("a page of HTML with status 200 is not done", (200, "<html>ok</html>"), "unknown", "status 200"),
        ("ok that is not said is not done", (200, {"result": {}}), "unknown", "status 200"),
        ("a refusal without Telegram's form is somebody else's", (404, "<html>nginx</html>"), "unknown", "status 404"),
    ],
)  # fmt: skip
async def test_answers_are_classified(sentence: str, answer: tuple[int, object], result: str, reason: str) -> None:
    async with chat(answer) as there:
        outcome = await there.tell()
    assert outcome.result == Result(result), sentence
    assert reason in outcome.reason
    assert len(there.bot.got) == 1


async def test_retry_after_is_obeyed() -> None:
    async with chat(refusal(429, "Too Many Requests: retry after 30", retry_after=30)) as there:
        outcome = await there.tell()
    assert (outcome.result, outcome.retry_at_db) == (Result.LATER, NOW + timedelta(seconds=30))


async def test_the_shared_rate_is_kept() -> None:
    async with chat(wait=4.0, rate="1/s") as there:
        outcome = await there.tell()
    assert (outcome.result, outcome.retry_at_db) == (Result.LATER, NOW + timedelta(seconds=4))
    assert there.bot.got == []


async def test_markup_that_telegram_refuses_is_sent_as_plain_text() -> None:
    async with chat(refusal(400, "Bad Request: can't parse entities: Unsupported start tag")) as there:
        outcome = await there.tell(letter(text="a < b"))
    assert outcome.result is Result.DONE
    assert there.bot.got[1]["text"] == "Stuck orders\na < b"
    assert "parse_mode" not in there.bot.got[1]


async def test_a_topic_that_is_gone_is_left_out() -> None:
    async with chat(refusal(400, "Bad Request: message thread not found")) as there:
        outcome = await there.tell(letter(address={"thread": "12"}))
    assert outcome.result is Result.DONE
    assert [body.get("message_thread_id") for body in there.bot.got] == [12, None]
    assert outcome.reason == "topic 12 of the chat is gone, told without it; check the contact's address"


async def test_a_group_that_moved_is_followed_and_remembered() -> None:
    moved = refusal(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-200)
    async with chat(moved) as there:
        assert (await there.tell(letter(thread="-100/5"))).reference == "-200/2"
        again = await there.tell(letter(thread="-200/2"))
        assert (again.result, again.reason) == (Result.DONE, "the group -100 has become -200; put that into the contact's address")
    assert [body["chat_id"] for body in there.bot.got] == [-100, -200, -200]
    assert "reply_parameters" not in there.bot.got[1]
    assert there.bot.got[2]["reply_parameters"]["message_id"] == 2


async def test_what_is_refused_for_its_form_for_ever_ends_refused() -> None:
    async with chat(*[refusal(400, "Bad Request: can't parse entities")] * 9) as there:
        assert (await there.tell()).result is Result.REFUSED
    assert len(there.bot.got) == 2


async def test_a_long_message_goes_in_parts_that_reply_to_the_first() -> None:
    lines = [f"N{number} <{'x' * 90}>" for number in range(100)]
    async with chat() as there:
        outcome = await there.tell(letter(text="\n".join(lines)))
    assert outcome.result is Result.DONE
    assert outcome.reference == "-100/1"
    texts = [body["text"] for body in there.bot.got]
    assert len(texts) == 3
    assert all(text.count("<b>") == text.count("</b>") == 1 for text in texts)
    assert sum(text.count("&lt;") for text in texts) == 100
    assert [body.get("reply_parameters", {}).get("message_id") for body in there.bot.got] == [None, 1, 1]


async def test_a_person_is_told_once_the_first_part_arrived() -> None:
    async with chat(sent(-100, 1), refusal(429, "Too Many Requests", retry_after=3)) as there:
        outcome = await there.tell(letter(text="x" * 6000))
    assert outcome.result is Result.DONE
    assert outcome.reason.startswith("part 2 of 2 was not delivered")


async def test_nobody_there_is_later_and_the_token_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = (500, {"ok": False, "description": f"at /bot{TOKEN}/sendMessage"})
    async with chat(echo) as there:
        echoed = await there.tell()
    async with chat(url="http://127.0.0.1:1") as nobody:
        missed = await nobody.tell()
    assert (missed.result, missed.reason) == (Result.LATER, NOT_CONNECTED)
    assert echoed.result is Result.UNKNOWN
    shown = [repr(echoed), repr(missed), caplog.text, repr(there.connector), *map(repr, there.events + nobody.events)]
    assert all("canary" not in text for text in shown)


async def test_requests_are_counted_by_their_outcome() -> None:
    async with chat() as there:
        await there.tell()
    assert [(one.connector, one.operation, one.outcome) for one in there.events if isinstance(one, Requested)] == [
        ("telegram", "sendMessage", "done")
    ]


async def test_the_doctor_hears_of_a_wrong_token_and_of_a_way_that_is_closed() -> None:
    async with chat(refusal(401, "Unauthorized")) as there:
        assert await there.connector.check() == ("Telegram does not know this bot: check the token.",)
        assert await there.connector.check() == ()
    async with chat(url="http://127.0.0.1:1") as nobody:
        assert "cannot be reached" in (await checked(nobody))[0]


async def checked(there: Chat) -> Sequence[str]:
    """A question is asked again after pauses on the hand clock: move it until there is an answer."""
    asking = asyncio.ensure_future(there.connector.check())
    clock = there.connector._tools.clock
    assert isinstance(clock, HandClock)
    while not asking.done():
        await clock.move(1.0)
    return asking.result()


async def test_it_has_neither_records_nor_calls() -> None:
    async with chat() as there:
        with pytest.raises(Unreachable):
            async for _ in there.connector.list("x", None, None, None, NOW, 1, False):
                pass
        with pytest.raises(ValueError, match="no calls"):
            there.connector.prepare("x", {}, "k")
        assert set(await there.connector.ask("x", "id", ["1"], False)) == {"1"}
    assert KIND.shape(None).channel
    assert not there.connector.shape.records


@pytest.mark.parametrize("address", [{}, {"chat": ""}, {"chat": "-1", "thread": "twelve"}, {"chat": "-1", "topic": "1"}])
def test_an_address_is_a_chat_and_perhaps_a_topic(address: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TelegramAddress.model_validate(address)


LINE = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=200)


@given(st.lists(LINE, min_size=1, max_size=40), st.integers(1, 60))
def test_no_part_is_longer_than_telegram_takes_and_none_is_lost(lines: list[str], times: int) -> None:
    text = ["title", *(line * times for line in lines)]
    parts = split(text)
    assert all(len("\n".join(part).encode("utf-16-le")) // 2 <= LONGEST for part in parts)
    assert all("".join(part).strip() for part in parts)
    if parts[-1][-1] != "…":
        kept = "".join(line for part in parts for line in part)
        assert kept.split() == "".join(text).split() or not any(line.strip() for line in text)


def test_the_example_of_the_documentation_is_a_setting() -> None:
    written = {key: value for key, value in yaml.safe_load(KIND.example).items() if key != "type"}
    assert json.dumps(TelegramSettings.model_validate(written).model_dump(mode="json")).count("Secret")
