"""Kaspi's shop API on the wire: the list of orders by state and window, one order by code.

Held to: the token, both page parameters with pages from 0 and at most 100, a state, a window of creationDate of at most
14 days. What it does not know it refuses, in JSON:API's form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from daemon.domain.value import Value
from daemon.sandbox.wire.listener import See

STATES: Final = frozenset({"NEW", "SIGN_REQUIRED", "PICKUP", "DELIVERY", "KASPI_DELIVERY", "ARCHIVE"})
LONGEST: Final = timedelta(days=14)
PATH: Final = "/shop/api/v2"


class Refused(Exception):
    """A request that Kaspi would not take; the text is its detail."""


def environment(url: str, token: str) -> Mapping[str, str]:
    """Address and secret under the names by which ``config.yaml`` asks for them."""
    return {"KASPI_URL": f"{url}{PATH}", "KASPI_TOKEN": token}


def application(see: See, token: str) -> web.Application:
    """The API for the shop that has this token."""

    async def orders(request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-Auth-Token") != token:
            return _failed(401, "Unauthorized", "X-Auth-Token is invalid")
        try:
            page = await see(lambda world: answer(list(world.rows["kaspi.orders"].values()), request.query))
        except Refused as refused:
            return _failed(400, "Bad Request", str(refused))
        meta = {"pageCount": page.pages, "totalCount": page.total}
        return _said(200, {"data": [resource(row) for row in page.rows], "included": [], "meta": meta})

    app = web.Application()
    app.router.add_get(f"{PATH}/orders", orders)
    return app


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a page, and how many there are in all."""

    rows: Sequence[Mapping[str, Value]]
    pages: int
    total: int


def answer(rows: Sequence[Mapping[str, Value]], query: Mapping[str, str]) -> Page:
    """What fits the query. Raises ``Refused``."""
    if code := query.get("filter[orders][code]"):
        found = [row for row in rows if row["number"] == code]
        return Page(found, min(len(found), 1), len(found))
    number, size = _whole(query, "page[number]"), _whole(query, "page[size]")
    if not 1 <= size <= 100:
        raise Refused("page[size] must be from 1 to 100")
    begin, end = (_moment(_whole(query, f"filter[orders][creationDate][${bound}]")) for bound in ("ge", "le"))
    if end - begin > LONGEST:
        raise Refused("creationDate must not span more than 14 days")
    state = query.get("filter[orders][state]")
    if state is not None and state not in STATES:
        raise Refused(f"unknown state {state}")
    fitting = sorted(
        (row for row in rows if state in (None, row["handled_in"]) and _between(begin, row["created_at"], end)),
        key=lambda row: str(row["number"]),
    )
    return Page(fitting[number * size : (number + 1) * size], -(-len(fitting) // size), len(fitting))


def resource(row: Mapping[str, Value]) -> Mapping[str, Any]:
    """An order in JSON:API's form."""
    attributes: dict[str, Any] = {
        "code": row["number"],
        "totalPrice": float(str(row["amount"])),
        "paymentMode": "PREPAID",
        "creationDate": _ms(row["created_at"]),
        "deliveryMode": "DELIVERY_LOCAL",
        "signatureRequired": False,
        "state": row["handled_in"],
        "status": row["status"],
        "preOrder": False,
        "customer": {"id": "customer", "name": None, "cellPhone": "", "firstName": "", "lastName": ""},
    }
    if row["handled_in"] == "KASPI_DELIVERY":
        attributes["assembled"] = row["state"] in ("ready", "shipping")
        attributes["kaspiDelivery"] = {
            "waybill": None,
            "courierTransmissionDate": _ms(row["created_at"]) if row["state"] == "shipping" else None,
            "courierTransmissionPlanningDate": _ms(row["ship_by"]),
            "express": False,
            "returnedToWarehouse": False,
        }
    elif row["ship_by"] is not None:
        attributes["plannedDeliveryDate"] = _ms(row["ship_by"])
    return {"type": "orders", "id": row["id"], "attributes": attributes, "relationships": {}, "links": {"self": f"{PATH}/orders/{row['id']}"}}


def _whole(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text.isdigit():
        raise Refused(f"{name} is required" if not text else f"{name} is no number")
    return int(text)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


def _ms(value: Value) -> int | None:
    return (value - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1) if isinstance(value, datetime) else None


def _between(begin: datetime, at: Value, end: datetime) -> bool:
    return isinstance(at, datetime) and begin <= at <= end


def _said(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.json_response(body, status=status, content_type="application/vnd.api+json")


def _failed(status: int, title: str, detail: str) -> web.Response:
    return _said(status, {"errors": [{"title": title, "detail": detail}]})
