"""A chat in Telegram as a way to tell people: ``sendMessage``, ``sendPhoto`` and ``sendDocument`` of the Bot API.

A dispatch becomes lines, the lines become parts of at most 4096 characters as people see them, and only then is a part
written as HTML, so that no tag is ever cut. What Telegram does not take for a reason of form (markup, a topic that is gone,
a group that moved) is sent again in the form that it takes; everything else is classified and left to the engine.
Cards go as photos, tables as documents: the first one carries a short text as its caption, so that a person gets one
message; whatever file Telegram refuses goes as words.
The bot's token is part of every URL: the URL goes to the client and nowhere else.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import Field as Setting

from daemon.card import picture, sheet
from daemon.domain.attempt import Outcome, Result
from daemon.domain.notice import Dispatch, Notice
from daemon.domain.shape import Shape
from daemon.kinds import Kind, Tools, WithoutCalls, WithoutListing
from daemon.net import Client, Failed, Response, multipart
from daemon.settings import ConnectorSettings, Secret, Settings

LONGEST: Final = 4096
"""Characters of a message after its markup is parsed; counted, as Telegram does, in UTF-16 units."""

CAPTION: Final = 1024
"""The same of the text beside a photo or a document."""

_PARTS: Final = 4
"""A message longer than this many parts is cut: the rest is in ``orderheal status``."""

_FORMS: Final = 4
"""How often one part is sent in another form before its refusal stands."""


class TelegramSettings(ConnectorSettings):
    """A bot that may write into the chats of the contacts."""

    token: Secret = Setting(description="The bot's token, as BotFather gave it.")
    url: str = Setting("https://api.telegram.org", description="Address of the Bot API, for an own server or a proxy.")


class TelegramAddress(Settings):
    """Where in Telegram a contact is."""

    chat: str = Setting(description='Id of the chat ("-1001234567890") or name of a channel ("@name").', min_length=1)
    thread: str | None = Setting(None, description="Id of the topic in a group with topics.", pattern=r"^\d+$")


@dataclass(frozen=True, slots=True)
class _File:
    """An attachment as Telegram takes it, and in words where it does not."""

    method: str
    field: str
    file: tuple[str, bytes, str]
    words: str


def _files(notice: Notice) -> Iterator[_File]:
    for card in notice.cards:
        yield _File("sendPhoto", "photo", ("card.png", picture(card), "image/png"), card.text)
    for table in notice.tables:
        yield _File("sendDocument", "document", (table.name, sheet(table), "text/csv"), table.text)


class TelegramConnector(WithoutListing, WithoutCalls):
    """The ``Connector`` and ``Channel`` of one bot."""

    def __init__(self, name: str, settings: TelegramSettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        self.name, self.shape, self.slots = name, Shape(channel=True), settings.slots
        self.lag = settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings, self._tools = settings, tools
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, slots=settings.slots)
        self._moved: dict[str, str] = {}

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """Send it, in as many messages as it takes. ``done`` once the first has arrived: then a person has been told.

        Its reference is ``chat/message``, to which later messages of the episode reply.
        """
        if (wait := await self._wait()) > 0:
            until = self._tools.database_now() + timedelta(seconds=wait)
            return Outcome(Result.LATER, "rate", retry_at_db=until)
        messages = _messages(split(lines(dispatch)), tuple(_files(dispatch.notice)))
        first = await self._say(dispatch, *messages[0], dispatch.thread)
        if first.result is not Result.DONE:
            return first
        for number, (part, file) in enumerate(messages[1:], 2):
            following = await self._say(dispatch, part, file, first.reference)
            if following.result is not Result.DONE:
                cut = f"part {number} of {len(messages)} was not delivered: {following.reason}"
                return Outcome(Result.DONE, cut, reply=first.reply, reference=first.reference)
        return first

    async def _say(self, dispatch: Dispatch, part: Sequence[str], file: _File | None, replies_to: str) -> Outcome:
        """One message; in words where its file is refused, as in chats that take no pictures."""
        outcome = await self._send(dispatch, part, file, replies_to)
        if file is None or outcome.result is not Result.REFUSED:
            return outcome
        return await self._send(dispatch, split([*part, *file.words.split("\n")])[0], None, replies_to)

    async def _wait(self) -> float:
        if self.rate is None:
            return 0.0
        try:
            return await self._tools.quota.reserve(self.name, *self.rate, 1)
        except Exception:  # the store is away: telling somebody that matters more than the rate
            return 0.0

    async def _send(self, dispatch: Dispatch, part: Sequence[str], file: _File | None, replies_to: str) -> Outcome:
        """One message, in the first form that Telegram takes."""
        chat = self._moved.get(dispatch.address["chat"], dispatch.address["chat"])
        form = _form(chat, dispatch.address.get("thread"), part, replies_to)
        outcome, said = await self._post(form, file)
        for _ in range(_FORMS):
            other = _other_form(form, said, part)
            if other is None:
                break
            if other["chat_id"] != form["chat_id"]:
                self._moved[dispatch.address["chat"]] = str(other["chat_id"])
            form = other
            outcome, said = await self._post(form, file)
        return replace(outcome, reason=_elsewhere(form, dispatch.address)) if outcome.result is Result.DONE else outcome

    async def _post(self, form: Mapping[str, Any], file: _File | None) -> tuple[Outcome, Mapping[str, Any]]:
        """One request, its outcome, and what Telegram said."""
        said: dict[str, Any] = {}

        def classify(answer: Response) -> Outcome:
            said.update(answer.body if isinstance(answer.body, Mapping) else {})
            return self._classified(answer, said)

        method, content_type, body = _written(form, file)
        outcome = await self._client.perform(method, "POST", self._url(method), {"content-type": content_type}, body, classify)
        return outcome, said

    def _classified(self, answer: Response, said: Mapping[str, Any]) -> Outcome:
        if answer.status == 200 and said.get("ok") is True:
            return Outcome(Result.DONE, reference=_reference(said.get("result")))
        reason = str(said.get("description") or f"status {answer.status}")[:300]
        if answer.status == 429 or said.get("error_code") == 429:
            return Outcome(Result.LATER, reason, retry_at_db=self._retry_at(said))
        if 400 <= answer.status < 500 and said.get("ok") is False:
            return Outcome(Result.REFUSED, reason)
        return Outcome(Result.UNKNOWN, reason)

    def _retry_at(self, said: Mapping[str, Any]) -> datetime | None:
        seconds = _parameters(said).get("retry_after")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= 86400:
            return None
        return self._tools.database_now() + timedelta(seconds=seconds)

    def _url(self, method: str) -> str:
        return f"{self._client.base}/bot{self._settings.token.reveal()}/{method}"

    async def check(self) -> Sequence[str]:
        """Asks who we are (``getMe``); what is wrong is a sentence."""
        answer = await self._client.read("getMe", "POST", self._url("getMe"))
        if isinstance(answer, Failed):
            return (f"Telegram cannot be reached: {answer.reason}. Check the address and the way out.",)
        if answer.status in (401, 404):
            return ("Telegram does not know this bot: check the token.",)
        return () if answer.status == 200 else (f"Telegram answers getMe with status {answer.status}.",)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()


def lines(dispatch: Dispatch) -> tuple[str, ...]:
    """The message as lines of plain text, the title first: what a person has to do, then what the engine adds."""
    notice = dispatch.notice
    body = "\n\n".join(part for part in (notice.text, notice.ours) if part)
    return (notice.title.replace("\n", " "), *body.split("\n"))


def split(text: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Parts of whole lines, each within ``LONGEST``; a longer line is cut between characters."""
    parts: list[list[str]] = [[]]
    room = LONGEST
    for line in (piece for long in text for piece in _pieces(long)):
        size = _size(line) + 1
        if size > room:
            parts.append([])
            room = LONGEST
        parts[-1].append(line)
        room -= size
    kept = [part for part in parts if any(line.strip() for line in part)]
    if len(kept) > _PARTS:
        kept = kept[:_PARTS]
        kept[-1][-1] = "…"
    return tuple(map(tuple, kept)) or (("—",),)


def _messages(parts: Sequence[Sequence[str]], files: Sequence[_File]) -> Sequence[tuple[Sequence[str], _File | None]]:
    """The texts and files as they are sent, one after the other: a short text as the caption of the first file."""
    if files and len(parts) == 1 and sum(_size(line) + 1 for line in parts[0]) <= CAPTION:
        return [(parts[0], files[0]), *(((), file) for file in files[1:])]
    return [*((part, None) for part in parts), *(((), file) for file in files)]


def _written(form: Mapping[str, Any], file: _File | None) -> tuple[str, str, bytes]:
    """The method, the content type and the body of a form: JSON, or with a file the fields of a form with strings."""
    if file is None:
        return "sendMessage", "application/json", json.dumps(form, ensure_ascii=False).encode()
    renamed = {"caption" if name == "text" else name: value for name, value in form.items() if value and name != "link_preview_options"}
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in renamed.items()}
    return file.method, *multipart(fields, file.field, file.file)


def _size(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _pieces(line: str) -> Sequence[str]:
    """A line in pieces of at most half a message: a character is at most two units."""
    step = LONGEST // 2 - 1
    return [line[start : start + step] for start in range(0, len(line), step)] or [""]


def _form(chat: str, thread: str | None, part: Sequence[str], replies_to: str) -> dict[str, Any]:
    form: dict[str, Any] = {
        "chat_id": _number(chat),
        "text": _html(part),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    if thread is not None:
        form["message_thread_id"] = int(thread)
    where, _, message = replies_to.rpartition("/")
    if message.isdigit() and where == chat:
        form["reply_parameters"] = {"message_id": int(message), "allow_sending_without_reply": True}
    return form


def _html(part: Sequence[str]) -> str:
    """The first line bold, commands to be copied with a tap, everything from records escaped."""
    if not part:
        return ""
    escaped = [html.escape(line, quote=False) for line in part]
    shown = [f"<code>{line}</code>" if line.startswith("orderheal ") else line for line in escaped]
    return "\n".join([f"<b>{shown[0]}</b>" if shown[0].strip() else shown[0], *shown[1:]])


def _other_form(form: Mapping[str, Any], said: Mapping[str, Any], part: Sequence[str]) -> dict[str, Any] | None:
    """The form in which Telegram would take what it just refused, if it is for its form."""
    description = str(said.get("description", "")).lower()
    if said.get("ok") is not False:
        return None
    moved = _parameters(said).get("migrate_to_chat_id")
    if moved is not None and moved != form["chat_id"]:
        # Messages and topics of the old group are not those of the new one.
        left = {key: value for key, value in form.items() if key not in ("reply_parameters", "message_thread_id")}
        return {**left, "chat_id": moved}
    if "parse entities" in description and "parse_mode" in form:
        return {**{key: value for key, value in form.items() if key != "parse_mode"}, "text": "\n".join(part)}
    if "thread not found" in description and "message_thread_id" in form:
        return {key: value for key, value in form.items() if key != "message_thread_id"}
    if "replied" in description and "reply_parameters" in form:
        return {key: value for key, value in form.items() if key != "reply_parameters"}
    return None


def _elsewhere(form: Mapping[str, Any], address: Mapping[str, str]) -> str:
    """What a person should change about an address that Telegram took a message for elsewhere; nothing if it did not."""
    if str(form["chat_id"]) != address["chat"]:
        return f"the group {address['chat']} has become {form['chat_id']}; put that into the contact's address"
    if (thread := address.get("thread")) is not None and "message_thread_id" not in form:
        return f"topic {thread} of the chat is gone, told without it; check the contact's address"
    return ""


def _parameters(said: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = said.get("parameters")
    return parameters if isinstance(parameters, Mapping) else {}


def _reference(message: object) -> str:
    if not isinstance(message, Mapping) or not isinstance(message.get("chat"), Mapping):
        return ""
    return f"{message['chat'].get('id')}/{message.get('message_id')}"


def _number(chat: str) -> int | str:
    return int(chat) if chat.removeprefix("-").isdigit() else chat


_EXAMPLE: Final = """\
type: telegram
token: ${env:TELEGRAM_TOKEN}
"""

KIND: Final = Kind(
    name="telegram",
    settings=TelegramSettings,
    shape=lambda settings: Shape(channel=True),
    open=TelegramConnector,
    example=_EXAMPLE,
    address=TelegramAddress,
)
