"""A receiver of the Telegram Bot API: keeps what it got and refuses what Telegram refuses.

Held to: 1 to 4096 characters after the markup is parsed (UTF-16 units), 1024 beside a photo or a document, HTML of few
tags, properly closed, everything else escaped; photos that are pictures, of at most 10 MB, 10,000 pixels of width and
height together and a ratio of 20; the texts of errors are those that Telegram gives.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable, Mapping
from html.parser import HTMLParser
from itertools import count
from typing import Any, Final

from aiohttp import web

from daemon.sandbox.wire.listener import respond
from daemon.sandbox.world import Said, Spoken

LONGEST: Final = 4096
CAPTION: Final = 1024
_MEGABYTE: Final = 1_000_000
_LARGEST: Final = {"photo": 10 * _MEGABYTE, "document": 50 * _MEGABYTE}
_TAGS: Final = frozenset(
    {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "span", "tg-spoiler", "a", "code", "pre", "blockquote"}
)

Take = Callable[[str, str, Mapping[str, Any]], Awaitable[Said]]
"""A message: the chat, its text as people read it, and the request's body; what the world says to it."""


class Refused(Exception):
    """A message that Telegram would not take; the text is its description."""


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _TAGS:
            raise Refused(f'can\'t parse entities: Unsupported start tag "{tag}"')
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            raise Refused(f'can\'t parse entities: Unexpected end tag "{tag}"')

    def handle_data(self, data: str) -> None:
        self.text += data

    def close(self) -> None:
        super().close()
        if self._open:
            raise Refused(f"can't parse entities: Can't find end tag corresponding to start tag \"{self._open[-1]}\"")


def parsed(text: str) -> str:
    """What is left of a text in HTML for people to read. Raises ``Refused``."""
    if "<" in text.replace("&lt;", "") and text.count("<") != text.count(">"):
        raise Refused("can't parse entities: Unclosed start tag")
    markup = _Markup()
    markup.feed(text)
    markup.close()
    return markup.text


def read(body: Mapping[str, Any]) -> tuple[str, str]:
    """The chat and the text of a message as people see it. Raises ``Refused``."""
    chat, text = body.get("chat_id"), body.get("text")
    if not isinstance(chat, int | str) or chat == "":
        raise Refused("chat not found")
    if not isinstance(text, str):
        raise Refused("message text is empty")
    plain = parsed(text) if body.get("parse_mode") == "HTML" else text
    if not plain.strip():
        raise Refused("message text is empty")
    if len(plain.encode("utf-16-le")) // 2 > LONGEST:
        raise Refused("message is too long")
    return str(chat), plain


def read_file(form: Mapping[str, object], kind: str) -> tuple[str, str, bytes]:
    """The chat, the caption as people see it, and the file of a form. Raises ``Refused``."""
    chat, caption, file = form.get("chat_id"), form.get("caption", ""), form.get(kind)
    if not isinstance(chat, str) or not chat:
        raise Refused("chat not found")
    if not isinstance(file, web.FileField):
        raise Refused(f"there is no {kind} in the request")
    plain = parsed(str(caption)) if form.get("parse_mode") == "HTML" else str(caption)
    if len(plain.encode("utf-16-le")) // 2 > CAPTION:
        raise Refused("message caption is too long")
    data = file.file.read()
    if not data or len(data) > _LARGEST[kind]:
        raise Refused("file must be non-empty" if not data else "file is too big")
    if kind == "photo":
        _look_at(data)
    return chat, plain, data


def _look_at(data: bytes) -> None:
    """Only a PNG is a picture here."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        raise Refused("IMAGE_PROCESS_FAILED")
    width, height = struct.unpack(">II", data[16:24])
    if width + height > 10_000 or max(width, height) > 20 * min(width, height):
        raise Refused("PHOTO_INVALID_DIMENSIONS")


def application(token: str, take: Take) -> web.Application:
    """The receiver for one bot."""
    numbers = count(1)

    async def send_message(request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
            chat, text = read(body if isinstance(body, dict) else {})
        except Refused as refused:
            return _failed(400, f"Bad Request: {refused}")
        except ValueError:
            return _failed(400, "Bad Request: can't parse the body as JSON")
        said = await take(chat, text, body)
        if isinstance(said, Spoken) and not _is_html(said):
            return _answered(said, {"message_id": next(numbers), "chat": {"id": chat}, "text": text})
        return await respond(request, said)

    async def send_file(request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/send")[2].lower()
        try:
            form = await request.post()
            chat, caption, data = read_file(form, kind)
        except Refused as refused:
            return _failed(400, f"Bad Request: {refused}")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        said = await take(chat, caption, {**fields, kind: len(data)})
        if isinstance(said, Spoken) and not _is_html(said):
            return _answered(said, {"message_id": next(numbers), "chat": {"id": chat}, "caption": caption})
        return await respond(request, said)

    async def get_me(request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "result": {"id": 1, "is_bot": True, "username": "sandbox_bot"}})

    async def stranger(request: web.Request) -> web.StreamResponse:
        return _failed(401, "Unauthorized")

    app = web.Application()
    app.router.add_post(f"/bot{token}/sendMessage", send_message)
    app.router.add_post(f"/bot{token}/sendPhoto", send_file)
    app.router.add_post(f"/bot{token}/sendDocument", send_file)
    app.router.add_route("*", f"/bot{token}/getMe", get_me)
    app.router.add_route("*", "/{path:.*}", stranger)
    return app


def _is_html(said: Spoken) -> bool:
    return said.headers.get("Content-Type") == "text/html"


def _answered(said: Spoken, message: Mapping[str, Any]) -> web.Response:
    match said.status:
        case 200:
            return web.json_response({"ok": True, "result": message})
        case 429:
            wait = int(said.headers.get("Retry-After", "1"))
            return _failed(429, f"Too Many Requests: retry after {wait}", {"retry_after": wait})
        case 422:
            return _failed(400, "Bad Request: chat not found")
    return _failed(said.status, "Internal Server Error")


def _failed(code: int, description: str, parameters: Mapping[str, Any] | None = None) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return web.json_response(body | ({"parameters": parameters} if parameters else {}), status=code)
