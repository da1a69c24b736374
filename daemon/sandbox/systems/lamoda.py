"""Lamoda's SellerCenter as the world has it: orders, and imports that come by its API or by the integration's ``save_csv``.

A feed is planted as it ends. One that came by ``save_csv`` is seen on its way there: ``shown`` says how far it is now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from daemon.domain.value import Value
from daemon.sandbox.scenario import Patch
from daemon.sandbox.systems import System, shape_of
from daemon.sandbox.world import Stock, World

FEEDS: Final = "lamoda.feeds"
FEED_STATUS: Final = "lamoda.feed_status"
KEPT: Final = timedelta(days=30)
"""How long SellerCenter lists a feed."""

_SHAPE: Final = shape_of("lamoda")
_ORDER: Final[Mapping[str, Any]] = {
    "id": "ID-{key}",
    "number": "{key}",
    "posting_number": None,
    "status": "pending",
    "state": "new",
    "created_at": "-1h",
    "amount": 4990,
    "currency": "KZT",
    "ship_by": "+3d",
}
_FEED: Final[Mapping[str, Any]] = {
    "feed": "{key}",
    "action": "ProductCreate",
    "source": "csv",
    "status": "Finished",
    "created_at": "-1h",
    "updated_at": "-50m",
    "total": 2,
    "processed": 2,
    "failed": 0,
}


def _listed(row: Mapping[str, Value], now: datetime) -> bool:
    created = row["created_at"]
    return not isinstance(created, datetime) or created > now - KEPT


# ── Imports by save_csv ──────────────────────────────────────────────────────────────────────────────────────────────

QUEUED: Final = timedelta(seconds=30)
TAKES: Final = timedelta(seconds=150)
"""An import waits for ``QUEUED`` and has ended after ``TAKES``, in the world's time."""


def imported(feed: str, products: Sequence[Mapping[str, str]], now: datetime) -> Patch:
    """What an import of these products will have come to: those without a sound price fail."""
    errors = [
        {"sku": sku, "message": "Negative value is not allowed" if price.startswith("-") else f"Price {price!r} is not valid"}
        for sku, price in ((each.get("sku", ""), each.get("price", "")) for each in products)
        if not re.fullmatch(r"\d+([.,]\d+)?", price)
    ]
    row = {"feed": feed, "created_at": now, "updated_at": now + TAKES, "total": len(products), "processed": len(products)}
    row["failed"] = len({error["sku"] for error in errors})
    return {FEEDS: (row,), FEED_STATUS: ({**row, "errors": errors},)}


def shown(row: Mapping[str, Value], now: datetime) -> Mapping[str, Value]:
    """A feed as it looks now: one that has just come is queued, then under way."""
    created, total, updated = row["created_at"], row["total"], row["updated_at"]
    if not isinstance(created, datetime) or not isinstance(updated, datetime) or updated <= now or not isinstance(total, int):
        return row
    age = now - created
    done = int(total * max(age - QUEUED, timedelta(0)) / (TAKES - QUEUED))
    status = "Queued" if age < QUEUED else "Processing"
    return {**row, "status": status, "updated_at": None, "processed": done, "failed": 0} | ({"errors": []} if "errors" in row else {})


def _save(world: World, args: Mapping[str, Any]) -> Patch:
    return imported(args["feed"], args["products"], world.now)


SYSTEM: Final = System(
    "lamoda",
    _SHAPE,
    {
        "lamoda.orders": Stock(_SHAPE.records["orders"], _ORDER),
        FEEDS: Stock(_SHAPE.records["feeds"], _FEED, _listed),
        FEED_STATUS: Stock(_SHAPE.records["feed_status"], {**_FEED, "errors": []}),
    },
    {"lamoda-integration.save_csv": _save},
)
