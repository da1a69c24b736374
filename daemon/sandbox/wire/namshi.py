"""Namshi's API on the wire, as ``config.yaml`` declares it: orders since a moment, page by page, and one by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from daemon.domain.value import Value
from daemon.sandbox.systems.namshi import ORDERS
from daemon.sandbox.wire.listener import See

PAGE: Final = 50


def environment(url: str, token: str) -> Mapping[str, str]:
    """Address and secret under the names by which ``config.yaml`` asks for them."""
    return {"NAMSHI_API_URL": url, "NAMSHI_TOKEN": token}


def application(see: See, token: str) -> web.Application:
    """The API for the shop that has this token."""

    def stranger(request: web.Request) -> web.Response | None:
        known = request.headers.get("Authorization") == f"Bearer {token}"
        return None if known else web.json_response({"error": "unauthorized"}, status=401)

    async def listed(request: web.Request) -> web.StreamResponse:
        if refusal := stranger(request):
            return refusal
        try:
            said = await request.json()
            after = datetime.fromisoformat(str(said["created_after"]))
            offset = int(said.get("next_token") or 0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"error": "created_after is wanted"}, status=400)
        return web.json_response(await see(lambda world: page(list(world.rows[ORDERS].values()), after, offset)))

    async def single(request: web.Request) -> web.StreamResponse:
        if refusal := stranger(request):
            return refusal
        row = await see(lambda world: world.rows[ORDERS].get(request.match_info["number"]))
        return web.json_response(order(row)) if row else web.json_response({"error": "order_not_found"}, status=404)

    app = web.Application()
    app.router.add_post("/orders/list", listed)
    app.router.add_get("/orders/{number}", single)
    return app


def page(rows: Sequence[Mapping[str, Value]], after: datetime, offset: int) -> Mapping[str, Any]:
    """The orders made since then, in the order of their numbers."""
    fitting = sorted((row for row in rows if _since(row, after)), key=lambda row: str(row["number"]))
    more = offset + PAGE < len(fitting)
    return {"orders": [order(row) for row in fitting[offset : offset + PAGE]], "next_token": str(offset + PAGE) if more else None}


def order(row: Mapping[str, Value]) -> Mapping[str, Any]:
    """An order as Namshi shows it; what is missing is left out."""
    shown = {
        "order_nr": row["number"],
        "posting_nr": row["posting_number"],
        "status": row["status"],
        "total": float(str(row["amount"])),
        "currency_code": row["currency"],
        "order_created_at": _written(row["created_at"]),
        "ship_by": _written(row["ship_by"]),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _since(row: Mapping[str, Value], after: datetime) -> bool:
    created = row["created_at"]
    return isinstance(created, datetime) and created >= after


def _written(value: Value) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None
