"""A receiver of Sentry's envelopes: keeps the events it got, for whoever knows the project's key."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from sentry_sdk.envelope import Envelope

from daemon.sandbox.wire.listener import respond
from daemon.sandbox.world import Said, Spoken

Take = Callable[[Mapping[str, Any]], Awaitable[Said]]
"""An event; what the world says to it."""


def application(project: str, key: str, take: Take) -> web.Application:
    """The receiver of one project."""

    async def receive(request: web.Request) -> web.StreamResponse:
        if not re.search(rf"\bsentry_key={re.escape(key)}\b", request.headers.get("X-Sentry-Auth", "")):
            return web.json_response({"detail": "bad sentry authentication header"}, status=401)
        envelope = _envelope(await request.read())
        if envelope is not None and any(item.type == "check_in" for item in envelope.items):
            return web.json_response({})
        event = envelope.get_event() if envelope is not None else None
        if event is None:
            return web.json_response({"detail": "bad envelope"}, status=400)
        said = await take(event)
        if isinstance(said, Spoken) and said.status == 200 and "json" in said.headers.get("Content-Type", ""):
            return web.json_response({"id": event.get("event_id")})
        return await respond(request, said)

    app = web.Application()
    app.router.add_post(f"/api/{project}/envelope/", receive)
    return app


def _envelope(body: bytes) -> Envelope | None:
    """An envelope, unpacked; ``None``: it is none."""
    try:
        plain = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
        return Envelope.deserialize(plain)
    except (ValueError, KeyError, EOFError, gzip.BadGzipFile):
        return None


def text(event: Mapping[str, Any]) -> str:
    """All that an event says, as one text to look for numbers in."""
    return json.dumps(event, ensure_ascii=False, default=str)
