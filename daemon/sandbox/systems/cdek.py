"""CDEK as the world has it: orders by the shop's number, each in the state that its creation came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from daemon.sandbox.systems import System, shape_of
from daemon.sandbox.world import Stock

ORDERS: Final = "cdek.orders"

_SHAPE: Final = shape_of("cdek")
_EXAMPLE: Final[Mapping[str, Any]] = {
    "number": "{key}",
    "state": "created",
    "cdek_number": "1100000000",
    "status": "CREATED",
    "cause": None,
    "errors": [],
    "created_at": "-30m",
}
"""An order that was made half an hour ago."""

SYSTEM: Final = System("cdek", _SHAPE, {ORDERS: Stock(_SHAPE.records["orders"], _EXAMPLE)})
