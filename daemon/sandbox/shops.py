"""The shops of the world: an integration database and an integration service each, as the instruction describes them.

A service sends an order to the CRM, by its posting number or, when the database does not have it, by the marketplace's
internal number; calls the payment's hook again; comments on a deal (Namshi). What they do shows in the CRM's deals.

Four marketplaces, and a fifth shop of its own for storms, so that what is done to thousands at once disturbs no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from daemon.domain.shape import Call, Field, FieldType, Records, Role, Shape
from daemon.domain.value import Value
from daemon.sandbox.scenario import Patch
from daemon.sandbox.systems import systems
from daemon.sandbox.systems.bitrix24 import COMMENTS, DEALS, deal_of
from daemon.sandbox.world import Change, Deed, Fields, Stock, World

NOT_SENT: Final = ("not_sent", "send_error_bitrix")
WINDOW: Final = timedelta(days=60)
"""How far back a scan of a shop's database reads, as ``config.yaml`` has it."""


_SEND: Final = Call(frozenset({"id", "number_type"}), idempotent=True)
_CHANGE_STATUS: Final = Call(frozenset({"order", "order_status"}), idempotent=True)
_COMMENT: Final = Call(frozenset({"order", "text"}))


@dataclass(frozen=True, slots=True)
class Shop:
    """A marketplace as its integration knows it. ``zone`` is that of the database's naive timestamps.

    ``apart``: the time between two of the orders with which all is well, the youngest of which is an hour older than that.
    """

    name: str
    method: str
    currency: str
    zone: str
    warehouse: str
    apart: timedelta = timedelta(minutes=72)

    @property
    def connector(self) -> str:
        """Its database."""
        return f"{self.name}-db"

    @property
    def service(self) -> str:
        """Its integration service."""
        return f"{self.name}-integration"

    @property
    def database(self) -> str:
        """What the database is called on its server."""
        return f"{self.name}_integration"

    @property
    def deals_from(self) -> int:
        """Where the numbers of its healthy orders' deals begin: one CRM numbers the deals of all shops."""
        return 500_000 + 100_000 * [shop.name for shop in SHOPS].index(self.name)

    @property
    def orders(self) -> str:
        """Its kind of records."""
        return f"{self.connector}.orders"

    @property
    def copies(self) -> str:
        """How many rows an order has."""
        return f"{self.connector}.order_copies"

    @property
    def calls(self) -> Mapping[str, Call]:
        """What its service can do."""
        calls = {self.method: _SEND, "change_order_status": _CHANGE_STATUS}
        return calls | ({"appendcomment": _COMMENT} if self.name == "namshi" else {})


SHOPS: Final = (
    Shop("ozon", "upload_order", "RUB", "Europe/Moscow", "Хоругвино"),
    Shop("lamoda", "upload_order", "RUB", "Europe/Moscow", "Быково"),
    Shop("kaspi", "fetchorder", "KZT", "Asia/Almaty", "Алматы"),
    Shop("namshi", "notifyOrder", "AED", "Asia/Dubai", "Dubai"),
    Shop("storm", "upload_order", "RUB", "Europe/Moscow", "Хоругвино", timedelta(minutes=2)),
)

LOGISTIC: Final = "logistic"
"""The connector of the database in which deliveries are worked off."""

DRILL_CALLS: Final = ("plant", "plant_hopeless", "remove")
"""What drills may ask of the sandbox, each with a key."""

DATABASES: Final[Mapping[str, str]] = {shop.name: shop.database for shop in SHOPS} | {LOGISTIC: "logistic_v2"}
"""Every database of the world by whose it is: what it is called on its server."""

ORDERS: Final = Records(
    fields={
        "market_order_id": Field(FieldType.STRING, role=Role.IDENTIFIER),
        "posting_number": Field(FieldType.STRING, role=Role.IDENTIFIER),
        "bitrix_order_id": Field(FieldType.STRING, role=Role.IDENTIFIER),
        "status": Field(FieldType.STRING),
        "paid": Field(FieldType.BOOL),
        "amount": Field(FieldType.NUMBER),
        "currency": Field(FieldType.STRING),
        "warehouse_location": Field(FieldType.STRING, nullable=True),
        "created_at": Field(FieldType.TIMESTAMP),
        "ship_by": Field(FieldType.TIMESTAMP, nullable=True),
    },
    key="posting_number",
    by=frozenset({"posting_number", "market_order_id", "bitrix_order_id"}),
    where="sql",
    population=True,
    streams=True,
)

COPIES: Final = Records(
    fields={
        "market_order_id": Field(FieldType.STRING),
        "copies": Field(FieldType.NUMBER),
        "posting_numbers": Field(FieldType.LIST),
        "bitrix_order_ids": Field(FieldType.LIST),
        "first_at": Field(FieldType.TIMESTAMP),
    },
    key="market_order_id",
    by=frozenset({"market_order_id"}),
    where="sql",
    population=True,
    streams=True,
)


def _example(shop: Shop) -> Mapping[str, Any]:
    """An order that is stuck: an hour old, paid, not sent to the CRM."""
    return {
        "market_order_id": "M{key}",
        "posting_number": "{key}",
        "bitrix_order_id": "not_sent",
        "status": "awaiting_packaging",
        "paid": True,
        "amount": 4990,
        "currency": shop.currency,
        "warehouse_location": shop.warehouse,
        "created_at": "-1h",
        "ship_by": "+3d",
    }


def _scanned(row: Mapping[str, Value], now: datetime) -> bool:
    created = row["created_at"]
    return not isinstance(created, datetime) or created > now - WINDOW


def _copies(shop: Shop, rows: Mapping[str, Mapping[str, Fields]]) -> Mapping[str, Fields]:
    """The orders of a shop, each with its rows from the oldest to the youngest."""
    grouped: dict[str, list[Fields]] = {}
    for row in sorted(rows[shop.orders].values(), key=lambda row: str(row["created_at"])):
        grouped.setdefault(str(row["market_order_id"]), []).append(row)
    return {
        number: {
            "market_order_id": number,
            "copies": len(some),
            "posting_numbers": [row["posting_number"] for row in some],
            "bitrix_order_ids": [row["bitrix_order_id"] for row in some],
            "first_at": some[0]["created_at"],
        }
        for number, some in grouped.items()
    }


def _send(shop: Shop, world: World, args: Mapping[str, Any]) -> Patch | None:
    """The instruction's method: the order gets a deal in the CRM, unless it has one already."""
    if args.get("number_type") == "internal":
        return _fetch(shop, world, args)
    found = world.find(shop.orders, "posting_number", args.get("id"))
    if not found or found[0]["status"] == "cancelled":
        return None
    names = ("posting_number", "market_order_id")
    return _sold(shop, world, [{name: row[name] for name in names} for row in found if row["bitrix_order_id"] in NOT_SENT])


def _fetch(shop: Shop, world: World, args: Mapping[str, Any]) -> Patch | None:
    """The same by the marketplace's internal number: the order comes from there, unless the database has it."""
    kind = f"{shop.name}.orders"
    found = world.find(kind, "id", args.get("id")) if kind in world.stocks else []
    if not found:
        return None
    new = [row for row in found if not world.find(shop.orders, "market_order_id", row["number"])]
    names = ("amount", "currency", "created_at", "ship_by")
    fetched = [
        {"posting_number": row.get("posting_number") or f"P{row['number']}", "market_order_id": row["number"]}
        | {name: row[name] for name in names}
        for row in new
    ]
    return _sold(shop, world, fetched)


def _sold(shop: Shop, world: World, rows: Sequence[Mapping[str, Any]]) -> Patch:
    """These orders with a deal each, which knows them by their numbers; a deal that is there already is taken."""
    if not rows:
        return {}
    before = [world.find(DEALS, "posting_number", row["posting_number"]) for row in rows]
    numbers = [deals[0]["id"] if deals else str(next(world.deals)) for deals in before]
    sold = [{**row, "bitrix_order_id": number} for row, number in zip(rows, numbers, strict=True)]
    return {shop.orders: tuple(sold), DEALS: tuple(_deal(world, row) for row, deals in zip(sold, before, strict=True) if not deals)}


def _deal(world: World, row: Mapping[str, Any]) -> Mapping[str, Any]:
    return deal_of(row["bitrix_order_id"], row["market_order_id"], row["posting_number"], world.now)


def _change_status(shop: Shop, world: World, args: Mapping[str, Any]) -> Patch | None:
    """The payment's hook, called once more: the CRM gets the deals that it does not have."""
    found = [row for row in world.find(shop.orders, "market_order_id", args.get("order")) if str(row["bitrix_order_id"]).isdigit()]
    if not any(row["paid"] for row in found):
        return None
    return {DEALS: tuple(_deal(world, row) for row in found if not world.find(DEALS, "id", row["bitrix_order_id"]))}


def _comment(world: World, args: Mapping[str, Any]) -> Patch | None:
    """A comment on the order's deal; said twice, it stands there twice."""
    deals = world.find(DEALS, "market_order_id", args.get("order"))
    if not deals:
        return None
    number = str(len(world.rows[COMMENTS]) + 1)
    return {COMMENTS: ({"id": number, "deal_id": deals[0]["id"], "text": args["text"], "created_at": world.now},)}


def shapes() -> Mapping[str, Shape]:
    """What each connector of the shops offers, for those who have no ``config.yaml``."""
    databases = {shop.connector: Shape(records={"orders": ORDERS, "order_copies": COPIES}) for shop in SHOPS}
    services = {shop.service: Shape(calls=shop.calls) for shop in SHOPS}
    others = {system.name: system.shape for system in systems().values()}
    drills = Shape(calls={name: Call(frozenset({"id"}), idempotent=True) for name in DRILL_CALLS})
    return {**databases, **services, **others, "drill": drills, "telegram": Shape(channel=True), "sentry": Shape(channel=True)}


def shop_world(start: datetime, on_change: Callable[[Change], None] = lambda change: None) -> World:
    """The world of the five shops and of every system around them, with nothing wrong in it yet."""
    stocks: dict[str, Stock] = {}
    deeds: dict[str, Deed] = {"namshi-integration.appendcomment": _comment}
    for shop in SHOPS:
        stocks[shop.orders] = Stock(ORDERS, _example(shop), _scanned)
        stocks[shop.copies] = Stock(COPIES, {}, derived=partial(_copies, shop))
        deeds[f"{shop.service}.{shop.method}"] = partial(_send, shop)
        deeds[f"{shop.service}.change_order_status"] = partial(_change_status, shop)
    for system in systems().values():
        stocks |= system.stocks
        deeds |= system.deeds
    return World(stocks, deeds, start, on_change)
