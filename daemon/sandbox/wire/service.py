"""An integration service: the instruction's methods over HTTP, for whoever brings the service's token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from daemon.sandbox.shops import Shop
from daemon.sandbox.wire.listener import respond
from daemon.sandbox.world import Said

Perform = Callable[[str, Mapping[str, Any], str], Awaitable[Said]]
"""A call, its arguments and the idempotency key; what the world says to it."""

_WRITTEN: Final[Mapping[str, str]] = {"order_status": "status"}
"""Parameters that are called otherwise in a request."""


def application(shop: Shop, token: str, perform: Perform) -> web.Application:
    """The service of one shop: a path for each of its methods."""
    app = web.Application()
    for method, call in shop.calls.items():
        params = {_WRITTEN.get(name, name): name for name in sorted(call.params)}
        app.router.add_post(f"/{method}", partial(_serve, f"{shop.service}.{method}", params, token, perform))
    return app


async def _serve(call: str, params: Mapping[str, str], token: str, perform: Perform, request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") != f"Bearer {token}":
        return web.json_response({"success": False, "error": "unauthorized"}, status=401)
    try:
        said = json.loads(await request.read())
    except ValueError:
        said = None
    if not isinstance(said, dict) or set(said) != set(params):
        return web.json_response({"success": False, "error": f"{' and '.join(params)} are wanted"}, status=400)
    args = {params[name]: value for name, value in said.items()}
    return await respond(request, await perform(call, args, request.headers.get("Idempotency-Key", "")))
