"""The shops of the world: an integration database and an integration service each, as the instruction describes them.

Four marketplaces, and a fifth shop of its own for storms, so that what is done to thousands at once disturbs no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from daemon.domain.shape import Call, Field, FieldType, Records, Role, Shape
from daemon.domain.value import Value
from daemon.sandbox.scenario import Patch
from daemon.sandbox.systems import systems
from daemon.sandbox.world import Change, Deed, Stock, World

NOT_SENT: Final = ("not_sent", "send_error_bitrix")
WINDOW: Final = timedelta(days=60)
"""How far back a scan of a shop's database reads, as ``config.yaml`` has it."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A marketplace as its integration knows it. ``zone`` is that of the database's naive timestamps."""

    name: str
    method: str
    currency: str
    zone: str
    warehouse: str

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
    def orders(self) -> str:
        """Its kind of records."""
        return f"{self.connector}.orders"


SHOPS: Final = (
    Shop("ozon", "upload_order", "RUB", "Europe/Moscow", "Хоругвино"),
    Shop("lamoda", "upload_order", "RUB", "Europe/Moscow", "Быково"),
    Shop("kaspi", "fetchorder", "KZT", "Asia/Almaty", "Алматы"),
    Shop("namshi", "notifyOrder", "AED", "Asia/Dubai", "Dubai"),
    Shop("storm", "upload_order", "RUB", "Europe/Moscow", "Хоругвино"),
)

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


def _send(shop: Shop, world: World, args: Mapping[str, Any]) -> Patch | None:
    """The instruction's method: the order gets a deal in the CRM, unless it has one already."""
    by = "posting_number" if args.get("number_type") == "posting_number" else "market_order_id"
    found = world.find(shop.orders, by, args.get("id"))
    if not found or found[0]["status"] == "cancelled":
        return None
    stuck = [row for row in found if row["bitrix_order_id"] in NOT_SENT]
    return {shop.orders: tuple({"posting_number": row["posting_number"], "bitrix_order_id": str(next(world.deals))} for row in stuck)}


def shapes() -> Mapping[str, Shape]:
    """What each connector of the shops offers, for those who have no ``config.yaml``."""
    databases = {shop.connector: Shape(records={"orders": ORDERS}) for shop in SHOPS}
    send = Call(frozenset({"id", "number_type"}), idempotent=True)
    services = {shop.service: Shape(calls={shop.method: send}) for shop in SHOPS}
    others = {system.name: system.shape for system in systems().values()}
    return {**databases, **services, **others, "telegram": Shape(channel=True), "sentry": Shape(channel=True)}


def shop_world(start: datetime, on_change: Callable[[Change], None] = lambda change: None) -> World:
    """The world of the five shops and of every system around them, with nothing wrong in it yet."""
    stocks = {shop.orders: Stock(ORDERS, _example(shop), _scanned) for shop in SHOPS}
    deeds: dict[str, Deed] = {f"{shop.service}.{shop.method}": partial(_send, shop) for shop in SHOPS}
    for system in systems().values():
        stocks |= system.stocks
        deeds |= system.deeds
    return World(stocks, deeds, start, on_change)
