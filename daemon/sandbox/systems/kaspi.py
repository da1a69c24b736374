"""Kaspi as the world has it: orders, each in a state (where it is handled) and a status (how far it is)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from daemon.sandbox.systems import System, shape_of
from daemon.sandbox.world import Stock

_SHAPE: Final = shape_of("kaspi")
_EXAMPLE: Final[Mapping[str, Any]] = {
    "id": "ID-{key}",
    "number": "{key}",
    "posting_number": None,
    "status": "ACCEPTED_BY_MERCHANT",
    "handled_in": "KASPI_DELIVERY",
    "state": "packing",
    "created_at": "-1h",
    "amount": 25000,
    "currency": "KZT",
    "ship_by": "+3d",
}
"""An order that was taken over an hour ago and is being packed."""

SYSTEM: Final = System("kaspi", _SHAPE, {"kaspi.orders": Stock(_SHAPE.records["orders"], _EXAMPLE)})
