"""CDEK's API on the wire: tokens that expire, one order by the shop's number.

Held to: credentials in the query (or in a form, as of old), a bearer token that still holds, the one documented code for
an order that is not there. How an order was made shows in its CREATE request; those made by hand have none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from daemon.domain.value import Value
from daemon.sandbox.systems.cdek import ORDERS
from daemon.sandbox.wire.listener import See

LASTS: Final = 3599
"""Seconds for which a token holds."""

_CODES: Final[Mapping[Value, tuple[str, str]]] = {
    "address": ("v2_recipient_location_not_recognized", "Recipient location is not recognized"),
    "region": ("error_validate_tariff_not_supported_for_this_direction", "Тариф не поддерживается для этого направления"),
    "temporary": ("v2_internal_error", "Internal error"),
    "duplicate": (
        "error_validate_im_dep_number_has_already_had_integration",
        "Введенный номер отправления ИМ не уникальный. Введите уникальный номер.",
    ),
}
_INPUT: Final = ("v2_field_is_empty", "packages is empty")


def environment(url: str, token: str) -> Mapping[str, str]:
    """Address and secrets under the names by which ``config.yaml`` asks for them."""
    return {"CDEK_URL": url, "CDEK_ID": f"account-{token}", "CDEK_SECRET": f"secure-{token}"}


def application(see: See, token: str, *, lasts: float = LASTS) -> web.Application:
    """The API for the account that has this token; ``lasts``: seconds for which a bearer token really holds."""
    own = environment("", token)
    ends: dict[str, float] = {}

    async def log_in(request: web.Request) -> web.StreamResponse:
        given = {**await request.post(), **request.query}
        wanted = {"grant_type": "client_credentials", "client_id": own["CDEK_ID"], "client_secret": own["CDEK_SECRET"]}
        if given != wanted:
            return web.json_response({"error": "invalid_client", "error_description": "Bad client credentials"}, status=401)
        bearer = secrets.token_urlsafe(24)
        ends[bearer] = asyncio.get_running_loop().time() + lasts
        answer = {"access_token": bearer, "token_type": "bearer", "expires_in": LASTS, "scope": "order:all", "jti": secrets.token_hex(8)}
        return web.json_response(answer)

    async def order(request: web.Request) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in ends:
            return _failed(401, "unauthorized", "Unauthorized")
        if ends[bearer] <= asyncio.get_running_loop().time():
            return _failed(401, "v2_token_expired", "Token is expired")
        number = request.query.get("im_number")
        if not number:
            return _failed(400, "v2_bad_request", "Bad request")
        row = await see(lambda world: world.rows[ORDERS].get(number))
        if row is None:
            errors = [("v2_entity_not_found_im_number", f"Entity is not found by number {number}")]
            return web.json_response({"requests": [_request("GET", "INVALID", datetime.now(UTC), errors)]}, status=400)
        return web.json_response(shown(row))

    app = web.Application()
    app.router.add_post("/v2/oauth/token", log_in)
    app.router.add_get("/v2/orders", order)
    return app


def shown(row: Mapping[str, Value]) -> Mapping[str, Any]:
    """An order as CDEK shows it."""
    state, made = row["state"], row["created_at"]
    entity: dict[str, Any] = {"uuid": "11111111-1111-4111-8111-111111111111", "number": row["number"]}
    if state in ("created", "removed"):
        entity["cdek_number"] = row["cdek_number"] or "1100000000"
    match state:
        case "created":
            request, codes = _request("CREATE", "SUCCESSFUL", made), ["ACCEPTED", "CREATED", str(row["status"] or "CREATED")]
        case "removed":
            request, codes = _request("CREATE", "SUCCESSFUL", made), ["ACCEPTED", "CREATED", "REMOVED"]
        case "rejected":
            request, codes = _request("CREATE", "INVALID", made, _errors(row)), ["ACCEPTED", "INVALID"]
        case _:
            request, codes = _request("CREATE", "ACCEPTED", made), ["ACCEPTED"]
    entity["statuses"] = [{"code": code, "name": code, "date_time": _written(made), "city": "-"} for code in dict.fromkeys(codes)]
    return {"entity": entity, "requests": [request], "related_entities": []}


def _errors(row: Mapping[str, Value]) -> Sequence[tuple[str, str]]:
    given = row["errors"]
    told = [(str(one["code"]), str(one.get("message", ""))) for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    return told or [_CODES.get(row["cause"], _INPUT)]


def _request(type_: str, state: str, at: Value, errors: Sequence[tuple[str, str]] = ()) -> Mapping[str, Any]:
    request = {"request_uuid": "22222222-2222-4222-8222-222222222222", "type": type_, "date_time": _written(at), "state": state}
    return {**request, **({"errors": [{"code": code, "message": message} for code, message in errors]} if errors else {})}


def _written(value: Value) -> str:
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(0, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _failed(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)
