"""An integration service: the instruction's method over HTTP, for whoever brings the service's token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from daemon.sandbox.shops import Shop
from daemon.sandbox.wire.listener import respond
from daemon.sandbox.world import Said

Perform = Callable[[str, Mapping[str, Any], str], Awaitable[Said]]
"""A call, its arguments and the idempotency key; what the world says to it."""


def application(shop: Shop, token: str, perform: Perform) -> web.Application:
    """The service of one shop."""

    async def send(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            return web.json_response({"success": False, "error": "unauthorized"}, status=401)
        try:
            args = json.loads(await request.read())
        except ValueError:
            args = None
        if not isinstance(args, dict) or set(args) != {"id", "number_type"}:
            return web.json_response({"success": False, "error": "id and number_type are wanted"}, status=400)
        said = await perform(f"{shop.service}.{shop.method}", args, request.headers.get("Idempotency-Key", ""))
        return await respond(request, said)

    app = web.Application()
    app.router.add_post(f"/{shop.method}", send)
    return app
