"""The shops' CRM in the world: deals, the comments on them, and what the calls of the connector change.

A deal knows its order by the marketplace's numbers, as the portal keeps them in fields of its own (``FIELDS``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from daemon.domain.shape import Field, FieldType, Records
from daemon.domain.value import Value
from daemon.kinds import discover
from daemon.sandbox.scenario import Patch
from daemon.sandbox.systems import System
from daemon.sandbox.world import Fields, Stock, World

CONNECTOR: Final = "bitrix24"
DEALS: Final = f"{CONNECTOR}.deals"
COMMENTS: Final = f"{CONNECTOR}.comments"

FIELDS: Final[Mapping[str, str]] = {
    "market_order_id": "UF_CRM_MARKET_ORDER_ID",
    "posting_number": "UF_CRM_POSTING_NUMBER",
    "delivery_status": "UF_CRM_DELIVERY_STATUS",
}
"""Our name of a field, and the portal's."""

_KIND: Final = discover()[CONNECTOR]
_SHAPE: Final = _KIND.shape(_KIND.settings.model_validate({"url": "http://localhost/rest/1/secret/", "deal_fields": FIELDS}))
_DEALS: Final = _SHAPE.records["deals"]
_TEXT: Final = Field(FieldType.STRING)
_COMMENTS: Final = Records(
    fields={"id": _TEXT, "deal_id": _TEXT, "text": _TEXT, "created_at": Field(FieldType.TIMESTAMP)}, key="id", by=frozenset({"id"})
)

def is_hidden(deal: Mapping[str, Value]) -> bool:
    """Whether the webhook's user has no right to see the deal, though everything else says that it sees all."""
    return deal.get("hidden") is True


_STOCKS: Final[Mapping[str, Stock]] = {
    DEALS: Stock(
        replace(_DEALS, fields={**_DEALS.fields, "hidden": Field(FieldType.BOOL, nullable=True)}),
        {
            "title": "Заказ, сделка {key}",
            "stage": "NEW",
            "url": "https://portal.example/crm/deal/details/{key}/",
            "created_at": "-1h",
        },
        hidden=is_hidden,
    ),
    COMMENTS: Stock(_COMMENTS, {}),
}


def deal_of(number: str, market_order_id: str, posting_number: str, created_at: datetime) -> Mapping[str, Any]:
    """The deal of an order, as an integration makes it."""
    numbers = {"market_order_id": market_order_id, "posting_number": posting_number}
    return {"id": number, "title": f"Заказ {market_order_id}", "stage": "NEW", "created_at": created_at, **numbers}


def healthy(
    shop: str, deals_from: int, number: int, now: datetime, apart: timedelta = timedelta(minutes=72)
) -> Iterator[tuple[str, Fields]]:
    """The deals of a shop's healthy orders, as its database has them, the youngest first."""
    for n in range(1, number + 1):
        deal = str(deals_from + n)
        created = now - timedelta(hours=1) - n * apart
        yield deal, {"url": "", "delivery_status": None, **deal_of(deal, f"M{shop}-{n}", f"{shop}-{n}", created)}


def _update(world: World, args: Mapping[str, Any]) -> Patch | None:
    """Fields of a deal; what the portal does not know it passes over without a word."""
    known = {"TITLE": "title", "STAGE_ID": "stage"} | {name: own for own, name in FIELDS.items()}
    if not world.find(DEALS, "id", args.get("id")):
        return None
    fields = {known[name]: value for name, value in args.get("fields", {}).items() if name in known}
    return {DEALS: ({"id": args["id"], **fields},)} if fields else {}


def _comment(world: World, args: Mapping[str, Any]) -> Patch | None:
    """A comment on a deal; said twice, it stands there twice."""
    if not world.find(DEALS, "id", args.get("deal_id")):
        return None
    number = str(len(world.rows[COMMENTS]) + 1)
    row = {"id": number, "deal_id": args["deal_id"], "text": args["text"], "created_at": world.now}
    return {COMMENTS: (row,)}


SYSTEM: Final = System(
    CONNECTOR, _SHAPE, _STOCKS, {f"{CONNECTOR}.update_deal": _update, f"{CONNECTOR}.add_comment": _comment}
)
