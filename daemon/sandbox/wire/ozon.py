"""Ozon's Seller API on the wire: the two lists of postings, one posting, the delivery methods; nothing that changes.

Held to: both headers, 50 requests a second, 1 to 100 postings a page, a cursor that belongs to its list, a period that is
given and not too long, exactly one pair of dates for the unfulfilled. Errors look as Ozon's do, the blocked method's is
plain text.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from daemon.domain.value import Value
from daemon.sandbox.systems.ozon import ORDERS, POSTINGS
from daemon.sandbox.wire.listener import See
from daemon.sandbox.world import World

PER_SECOND: Final = 50
BLOCKED_FOR: Final = 60.0
"""Seconds for which a method stays blocked: "some minutes", made shorter."""

LONGEST: Final = timedelta(days=90)
"""The longest period that is taken: the documentation says a year, clients met months."""

CDEK: Final = {"id": 1020000123456000, "name": "СДЭК, склад", "tpl_provider": "СДЭК", "tpl_provider_id": 999}
OWN: Final = {"id": 20605650762000, "name": "Доставка Ozon самостоятельно", "tpl_provider": "Доставка Ozon", "tpl_provider_id": 24}

_STATUS: Final[Mapping[Value, str]] = {
    "new": "awaiting_registration",
    "packing": "awaiting_packaging",
    "ready": "awaiting_deliver",
    "shipping": "delivering",
    "done": "delivered",
    "cancelled": "cancelled",
    "returned": "not_accepted",
    "other": "arbitration",
}
_FULFILLED: Final = frozenset({"delivered"})
_CUTOFF: Final = ("cutoff_from", "cutoff_to")
_DELIVERING: Final = ("delivering_date_from", "delivering_date_to")


class Refused(Exception):
    """A request that Ozon would not take, with the HTTP status and the code of its error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Blocked(Exception):
    """The method is blocked after too many requests."""


def environment(url: str, token: str) -> Mapping[str, str]:
    """Address and secrets under the names by which ``config.yaml`` asks for them."""
    return {"OZON_URL": url, "OZON_CLIENT_ID": f"client-{token}", "OZON_API_KEY": f"key-{token}"}


def application(see: See, token: str) -> web.Application:
    """The API for the shop that has this token."""
    own, limit = environment("", token), Limit()
    methods: Mapping[str, Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], Any]] = {
        "/v4/posting/fbs/list": listed,
        "/v4/posting/fbs/unfulfilled/list": unfulfilled,
        "/v3/posting/fbs/get": single,
        "/v2/delivery-method/list": delivery_methods,
    }

    async def method(request: web.Request) -> web.StreamResponse:
        try:
            _let_in(request, own, limit)
            said = await request.json()
            if not isinstance(said, dict):
                raise Refused(400, 3, "the body is no object")
            answer = methods[request.path]
            return web.json_response(await see(lambda world: answer(postings(world), said)))
        except Blocked:
            return web.Response(status=429, text="Circle is open")
        except Refused as refused:
            body = {"code": refused.code, "message": str(refused), "details": []}
            return web.json_response(body, status=refused.status)
        except json.JSONDecodeError:
            return web.json_response({"code": 3, "message": "the body is no JSON", "details": []}, status=400)

    app = web.Application()
    for path in methods:
        app.router.add_post(path, method)
    return app


class Limit:
    """50 requests a second over all methods; whoever goes on regardless finds the method blocked."""

    def __init__(self) -> None:
        self._recent = deque[float](maxlen=PER_SECOND)
        self._refused = Counter[str]()
        self._blocked: dict[str, float] = {}

    def take(self, path: str, now: float) -> None:
        """Count a request. Raises ``Blocked``, ``Refused``."""
        if now < self._blocked.get(path, now):
            raise Blocked
        if len(self._recent) == PER_SECOND and now - self._recent[0] < 1:
            self._refused[path] += 1
            if self._refused[path] > PER_SECOND:
                self._refused[path], self._blocked[path] = 0, now + BLOCKED_FOR
            raise Refused(429, 8, "You have reached request rate limit per second")
        self._recent.append(now)


def _let_in(request: web.Request, own: Mapping[str, str], limit: Limit) -> None:
    """Raises ``Refused`` for a stranger, and what ``Limit`` raises."""
    given = (request.headers.get("Client-Id"), request.headers.get("Api-Key"))
    if given != (own["OZON_CLIENT_ID"], own["OZON_API_KEY"]):
        raise Refused(403, 7, "Invalid Api-Key, please check the key and try again")
    limit.take(request.path, asyncio.get_running_loop().time())


# ── Methods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def listed(every: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``/v4/posting/fbs/list``. Raises ``Refused``."""
    criteria = _filter(body)
    since, to = _period(criteria, "since", "to")
    numbers, statuses, order = criteria.get("order_numbers"), criteria.get("statuses"), criteria.get("order_id")
    if numbers is not None and len(numbers) > 100:
        raise Refused(400, 3, "filter.order_numbers must contain no more than 100 items")
    fitting = [
        one
        for one in every
        if since <= _moment(one["in_process_at"]) <= to
        and (not numbers or one["order_number"] in numbers)
        and (not statuses or one["status"] in statuses)
        and order in (None, one["order_id"])
    ]
    return _paged(fitting, body)


def unfulfilled(every: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``/v4/posting/fbs/unfulfilled/list``. Raises ``Refused``."""
    criteria = _filter(body)
    pairs = [pair for pair in (_CUTOFF, _DELIVERING) if any(criteria.get(name) for name in pair)]
    if len(pairs) != 1:
        raise Refused(400, 3, "cutoff and delivery date mismatch: exactly one of the periods is required")
    since, to = _period(criteria, *pairs[0])
    dated = "shipment_date" if pairs[0] == _CUTOFF else "delivering_date"
    statuses = criteria.get("statuses")
    fitting = [
        one
        for one in every
        if one["status"] not in _FULFILLED
        and one[dated]
        and since <= _moment(one[dated]) <= to
        and (not statuses or one["status"] in statuses)
    ]
    return {**_paged(fitting, body), "count": len(fitting)}


def single(every: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``/v3/posting/fbs/get``: wrapped, its prices as text. Raises ``Refused``."""
    number = body.get("posting_number")
    if not isinstance(number, str) or not number:
        raise Refused(400, 3, "posting_number is required")
    for one in every:
        if one["posting_number"] == number:
            products = [
                {**product, "price": product["price"]["amount"], "currency_code": product["price"]["currency"]}
                for product in one["products"]
            ]
            return {"result": {**one, "products": products}}
    raise Refused(404, 5, "POSTING_NOT_FOUND")


def delivery_methods(every: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``/v2/delivery-method/list``. Raises ``Refused``."""
    _limit(body)
    methods = [{"id": one["id"], "name": one["name"], "provider_id": one["tpl_provider_id"], "status": "ACTIVE"} for one in (CDEK, OWN)]
    return {"delivery_methods": methods, "has_next": False, "cursor": ""}


def _filter(body: Mapping[str, Any]) -> Mapping[str, Any]:
    criteria = body.get("filter")
    if not isinstance(criteria, dict):
        raise Refused(400, 3, "filter is required")
    return criteria


def _period(criteria: Mapping[str, Any], begin: str, end: str) -> tuple[datetime, datetime]:
    if not criteria.get(begin) or not criteria.get(end):
        raise Refused(400, 3, f"filter.{begin} and filter.{end} are required")
    try:
        since, to = _moment(criteria[begin]), _moment(criteria[end])
    except (TypeError, ValueError):
        raise Refused(400, 3, f"filter.{begin} and filter.{end} must be dates of RFC 3339") from None
    if to - since > LONGEST:
        raise Refused(400, 3, "PERIOD_IS_TOO_LONG")
    return since, to


def _limit(body: Mapping[str, Any]) -> int:
    limit = body.get("limit")
    if not isinstance(limit, int) or not 1 <= limit <= 100:
        raise Refused(400, 3, "limit must be inside range [1, 100]")
    return limit


def _paged(fitting: Iterable[Mapping[str, Any]], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page behind the cursor, which is the place of the last posting that was given: nothing shifts between pages."""
    limit, descending = _limit(body), str(body.get("sort_dir")).upper() == "DESC"
    ordered = sorted(fitting, key=_place, reverse=descending)
    if cursor := body.get("cursor"):
        try:
            last = tuple(json.loads(base64.b64decode(cursor)))
        except ValueError:
            raise Refused(400, 3, "cursor is invalid") from None
        ordered = [one for one in ordered if (_place(one) < last if descending else _place(one) > last)]
    page, more = ordered[:limit], len(ordered) > limit
    following = base64.b64encode(json.dumps(_place(page[-1])).encode()).decode() if more else ""
    return {"postings": page, "has_next": more, "cursor": following}


def _place(one: Mapping[str, Any]) -> tuple[str, str]:
    return str(one["in_process_at"]), str(one["posting_number"])


# ── Rows as postings ─────────────────────────────────────────────────────────────────────────────────────────────────


def postings(world: World) -> Sequence[Mapping[str, Any]]:
    """Every posting, flat as in v4: the planted ones, and one for each planted order."""
    of_orders = {str(row["posting_number"] or f"{row['number']}-1"): row for row in world.rows[ORDERS].values()}
    shown = {number: _posting(row, number, _STATUS.get(row["state"], str(row["status"]))) for number, row in of_orders.items()}
    shown |= {number: _posting(row, number, str(row["status"])) for number, row in world.rows[POSTINGS].items()}
    return list(shown.values())


def _posting(row: Mapping[str, Value], number: str, status: str) -> Mapping[str, Any]:
    method = CDEK if row.get("carrier") == "cdek" else OWN
    return {
        "posting_number": number,
        "order_id": _number(row["id"]),
        "order_number": row["number"],
        "parent_posting_number": "",
        "status": status,
        "substatus": row.get("substatus") or "posting_created",
        "delivery_method": {**method, "warehouse_id": 2001, "warehouse": row.get("warehouse") or "Хоругвино"},
        "tracking_number": row.get("tracking_number") or "",
        "tpl_integration_type": "aggregator" if method is CDEK else "ozon",
        "delivery_schema": "fbs",
        "in_process_at": _written(row["created_at"]),
        "shipment_date": _written(row["ship_by"]),
        "delivering_date": _written(row.get("status_since")) if status == "delivering" else None,
        "customer": None,
        "addressee": None,
        "products": _products(row),
    }


def _products(row: Mapping[str, Value]) -> list[Mapping[str, Any]]:
    """The row's products, or one; the first of them costs what all cost together."""
    given = row.get("products")
    products = [dict(one) for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    products = products or [{"offer_id": "LD-1", "sku": "1904686181", "name": "Платье миди", "quantity": 1}]
    whole, first = Decimal(str(row["amount"])), int(products[0].get("quantity") or 1)
    prices = [whole / first, *(Decimal(0) for _ in products[1:])]
    return [
        {**product, "sku": _number(product.get("sku")), "price": {"amount": f"{price:.2f}", "currency": row["currency"]}}
        for product, price in zip(products, prices, strict=True)
    ]


def _number(value: Value) -> Value:
    """An identifier as Ozon has them, a number; what a scenario calls otherwise stays as it is called."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _written(value: Value) -> str | None:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
