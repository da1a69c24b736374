"""Ozon as the world has it: postings on their way to a carrier, and orders, each of which stands for one posting more.

Of a posting its ``status`` decides, of an order its ``state``; a scenario that changes one of them changes the other too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from daemon.sandbox.systems import System, shape_of
from daemon.sandbox.world import Stock

POSTINGS: Final = "ozon.postings"
ORDERS: Final = "ozon.orders"

_SHAPE: Final = shape_of("ozon")
_POSTING: Final[Mapping[str, Any]] = {
    "id": "ID-{key}",
    "number": "M{key}",
    "posting_number": "{key}",
    "status": "awaiting_deliver",
    "state": "ready",
    "created_at": "-3h",
    "amount": 4990,
    "currency": "RUB",
    "ship_by": "+2d",
    "order_id": "ID-{key}",
    "order_number": "M{key}",
    "substatus": "posting_in_carriage",
    "carrier": "cdek",
    "warehouse": "Хоругвино",
    "products": [{"offer_id": "LD-1", "sku": "1904686181", "name": "Платье миди", "quantity": 1}],
}
"""A posting that was packed for CDEK and waits for its waybill."""

_ORDER: Final[Mapping[str, Any]] = {
    "id": "ID-{key}",
    "number": "{key}",
    "posting_number": "{key}-1",
    "status": "awaiting_packaging",
    "state": "packing",
    "created_at": "-1h",
    "amount": 4990,
    "currency": "RUB",
    "ship_by": "+3d",
}
"""An order that came an hour ago and is being packed."""

SYSTEM: Final = System(
    "ozon", _SHAPE, {POSTINGS: Stock(_SHAPE.records["postings"], _POSTING), ORDERS: Stock(_SHAPE.records["orders"], _ORDER)}
)
