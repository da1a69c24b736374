"""A receiver of the Telegram Bot API: keeps what it got and refuses what Telegram refuses.

Held to: 1 to 4096 characters after the markup is parsed (UTF-16 units), HTML of few tags, properly closed, everything
else escaped; the texts of errors are those that Telegram gives.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from html.parser import HTMLParser
from itertools import count
from typing import Any, Final

from aiohttp import web

from daemon.sandbox.wire.listener import respond
from daemon.sandbox.world import Said, Spoken

LONGEST: Final = 4096
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

    async def get_me(request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "result": {"id": 1, "is_bot": True, "username": "sandbox_bot"}})

    async def stranger(request: web.Request) -> web.StreamResponse:
        return _failed(401, "Unauthorized")

    app = web.Application()
    app.router.add_post(f"/bot{token}/sendMessage", send_message)
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
