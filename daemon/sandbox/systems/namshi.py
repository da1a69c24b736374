"""Namshi as the world has it: orders by their number."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from daemon.domain.shape import Field, FieldType, Records, Shape
from daemon.domain.value import Value
from daemon.sandbox.systems import System
from daemon.sandbox.world import Stock

ORDERS: Final = "namshi.orders"

_TEXT: Final = Field(FieldType.STRING)
_RECORDS: Final = Records(
    fields={
        "id": _TEXT,
        "number": _TEXT,
        "posting_number": Field(FieldType.STRING, nullable=True),
        "status": _TEXT,
        "state": _TEXT,
        "amount": Field(FieldType.NUMBER),
        "currency": _TEXT,
        "created_at": Field(FieldType.TIMESTAMP),
        "ship_by": Field(FieldType.TIMESTAMP, nullable=True),
    },
    key="number",
    by=frozenset({"number"}),
    where="params",
    params={"within": FieldType.DURATION},
)
"""Its fields are declared in ``config.yaml``, for there is no connector of its own; a test holds the two together."""

_EXAMPLE: Final[Mapping[str, Any]] = {
    "id": "{key}",
    "number": "{key}",
    "posting_number": None,
    "status": "Pending",
    "state": "new",
    "amount": 120,
    "currency": "AED",
    "created_at": "-1h",
    "ship_by": "+8h",
}
"""An order that came an hour ago. Its number is its internal number too."""

WINDOW: Final = timedelta(days=7)


def _listed(row: Mapping[str, Value], now: datetime) -> bool:
    created = row["created_at"]
    return not isinstance(created, datetime) or created > now - WINDOW


SYSTEM: Final = System("namshi", Shape(records={"orders": _RECORDS}), {ORDERS: Stock(_RECORDS, _EXAMPLE, _listed)})
