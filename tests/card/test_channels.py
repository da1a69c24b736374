"""Pictures and files on the wire: what the simulated Telegram and a receiver of Sentry's envelopes get over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from sentry_sdk.envelope import Envelope

from daemon.card import picture, sheet
from daemon.clock import HandClock
from daemon.connectors.sentry import SentryConnector, SentrySettings
from daemon.connectors.telegram import TelegramConnector, TelegramSettings
from daemon.domain.attempt import Outcome, Result
from daemon.domain.message import Card, Table
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.value import Timescale
from daemon.kinds import Tools
from daemon.sandbox.wire import telegram
from daemon.sandbox.world import Said, Spoken
from daemon.settings import Secret

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TOKEN = "1:token"
CARD = Card("Ozon 1-1", (("Статус", "awaiting_deliver"), ("Товары", "Платье «Ёлка» × 2")))
TABLE = Table("lamoda-7.csv", ("sku", "message"), (("LD-1", "Нет цены"),))
NOTICE = Notice("n", "p", "stuck", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, NOW, "Нет накладной", "Просим создать OZ-1-1")


class NoQuota:
    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        return None


TOOLS = Tools(HandClock(), NoQuota(), lambda event: None, Timescale(NOW), lambda: NOW)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Chat:
    """What came through, as (caption or text, fields); `refuses` says which messages Telegram does not take."""

    refuses: Callable[[Mapping[str, Any]], bool] = lambda body: False
    got: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def take(self, chat: str, text: str, body: Mapping[str, Any]) -> Said:
        if self.refuses(body):
            return Spoken(422, "")
        self.got.append((text, body))
        return Spoken(200, "{}", {"Content-Type": "application/json"})

    @property
    def kinds(self) -> list[str]:
        return [next((kind for kind in ("photo", "document") if kind in body), "text") for _, body in self.got]


async def tell(chat: Chat, **changes: Any) -> Outcome:
    async with served(telegram.application(TOKEN, chat.take)) as url:
        settings = TelegramSettings.model_validate({"token": Secret(TOKEN), "url": url})
        connector = TelegramConnector("telegram", settings, TOOLS)
        try:
            address = {"chat": "-100", "thread": "12"}
            return await connector.deliver(Dispatch("d", replace(NOTICE, **changes), "team", "telegram", address, thread="-100/5"))
        finally:
            await connector.close()


async def test_a_short_text_and_its_card_are_one_message() -> None:
    chat = Chat()
    outcome = await tell(chat, cards=(CARD,))
    assert (outcome.result, outcome.reference) == (Result.DONE, "-100/1")
    ((caption, body),) = chat.got
    assert caption == "Нет накладной\nПросим создать OZ-1-1"
    assert body["photo"] == len(picture(CARD))
    assert (body["message_thread_id"], body["parse_mode"]) == ("12", "HTML")
    assert body["reply_parameters"] == '{"message_id": 5, "allow_sending_without_reply": true}'


async def test_a_long_text_goes_first_and_the_card_in_reply_to_it() -> None:
    chat = Chat()
    outcome = await tell(chat, text="слово " * 200, cards=(CARD,))
    assert (outcome.result, outcome.reference, chat.kinds) == (Result.DONE, "-100/1", ["text", "photo"])
    assert chat.got[1][0] == ""
    assert '"message_id": 1' in chat.got[1][1]["reply_parameters"]


@pytest.mark.parametrize(("length", "kinds"), [(1024, ["photo"]), (1025, ["text", "photo"])])
async def test_a_caption_is_counted_as_telegram_counts_it(length: int, kinds: list[str]) -> None:
    chat = Chat()
    await tell(chat, text="😀" * ((length - len("Нет накладной\n") - 1) // 2) + "a" * ((length - len("Нет накладной\n") - 1) % 2), cards=(CARD,))
    assert chat.kinds == kinds


async def test_a_table_is_a_document_and_everything_arrives() -> None:
    chat = Chat()
    await tell(chat, cards=(CARD,), tables=(TABLE, TABLE))
    assert chat.kinds == ["photo", "document", "document"]
    assert chat.got[1][1]["document"] == len(sheet(TABLE))


async def test_a_chat_that_takes_no_pictures_gets_the_card_in_words() -> None:
    chat = Chat(refuses=lambda body: "photo" in body)
    outcome = await tell(chat, cards=(CARD,))
    assert outcome.result is Result.DONE
    ((text, _),) = chat.got
    assert text == "Нет накладной\nПросим создать OZ-1-1\nOzon 1-1\nСтатус: awaiting_deliver\nТовары: Платье «Ёлка» × 2"


async def test_a_chat_that_takes_nothing_is_refused() -> None:
    assert (await tell(Chat(refuses=lambda body: True), cards=(CARD,))).result is Result.REFUSED


async def test_a_file_that_does_not_arrive_does_not_undo_the_message() -> None:
    chat = Chat(refuses=lambda body: "document" in body or "lamoda" in str(body) or "LD-1" in str(body))
    outcome = await tell(chat, cards=(CARD,), tables=(TABLE,))
    assert outcome.result is Result.DONE
    assert "was not delivered" in outcome.reason


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "non-empty"), (b"GIF89a", "IMAGE_PROCESS_FAILED"), (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\x20\0", "DIMENSIONS")]
)
def test_the_simulated_telegram_takes_no_bad_picture(data: bytes, said: str) -> None:
    class File:
        def read(self) -> bytes:
            return data

    form = {"chat_id": "1", "photo": web.FileField("photo", "a.png", File(), "image/png", {})}  # type: ignore[arg-type]
    with pytest.raises(telegram.Refused, match=said):
        telegram.read_file(form, "photo")


async def test_sentrys_event_carries_the_picture_and_the_table() -> None:
    got: list[bytes] = []

    async def take(request: web.Request) -> web.StreamResponse:
        got.append(await request.read())
        return web.json_response({"id": "1"})

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    async with served(app) as url:
        dsn = url.replace("://", "://0123456789abcdef0123456789abcdef@") + "/1"
        connector = SentryConnector("sentry", SentrySettings.model_validate({"dsn": Secret(dsn)}), TOOLS)
        outcome = await connector.deliver(Dispatch("d", replace(NOTICE, cards=(CARD,), tables=(TABLE,)), "team", "sentry", {}))
        await connector.close()
    assert outcome.result is Result.DONE
    items = {item.headers.get("filename"): item for item in Envelope.deserialize(got[0]).items if item.type == "attachment"}
    assert items["card-1.png"].get_bytes() == picture(CARD)
    assert items["lamoda-7.csv"].get_bytes() == sheet(TABLE)
