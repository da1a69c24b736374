"""The shapes of a shop as its ``config.yaml`` would declare them, made by hand: no connector is needed to check rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from daemon.domain.shape import Call, Field, FieldType, Incremental, Records, Shape
from daemon.domain.value import Place
from daemon.language.vocabulary import CauseText, Vocabulary

S, N, B, T, D, L, M = (
    Field(kind)
    for kind in (
        FieldType.STRING,
        FieldType.NUMBER,
        FieldType.BOOL,
        FieldType.TIMESTAMP,
        FieldType.DURATION,
        FieldType.LIST,
        FieldType.MAP,
    )
)
S_, N_, B_, T_, L_ = (Field(each.type, nullable=True) for each in (S, N, B, T, L))

ORDERS = Records(
    fields={
        "market_order_id": S,
        "posting_number": S,
        "bitrix_order_id": S,
        "status": S,
        "paid": B,
        "amount": N,
        "currency": S,
        "warehouse_location": S_,
        "created_at": T,
        "ship_by": T_,
    },
    key="posting_number",
    by=frozenset({"posting_number", "market_order_id", "bitrix_order_id"}),
    where="sql",
    population=True,
)
COPIES = Records(
    fields={"market_order_id": S, "copies": N, "posting_numbers": L, "bitrix_order_ids": L, "first_at": T},
    key="market_order_id",
    by=frozenset({"market_order_id"}),
    where="sql",
    population=True,
)
MARKET_ORDERS = Records(
    fields={
        "id": S,
        "number": S,
        "posting_number": S_,
        "status": S,
        "state": S,
        "created_at": T,
        "amount": N,
        "currency": S,
        "ship_by": T_,
    },
    key="number",
    by=frozenset({"number"}),
    where="params",
    params={"within": FieldType.DURATION, "unfulfilled": FieldType.BOOL},
)
DEALS = Records(
    fields={
        "id": S,
        "title": S_,
        "stage": S,
        "url": S,
        "created_at": T,
        "market_order_id": S_,
        "posting_number": S_,
        "amount": N,
    },
    key="id",
    by=frozenset({"id", "posting_number", "market_order_id"}),
    listable=False,
)
OUTBOX = Records(
    fields={
        "id": S,
        "event": S,
        "status": S,
        "processed_at": T_,
        "created_at": T,
        "package_id": S_,
        "package_number": S_,
        "first_error_at": T_,
        "last_error_at": T_,
        "errors": N,
        "error_text": S_,
    },
    key="id",
    by=frozenset({"id", "event", "package_id"}),
    where="sql",
    incremental=Incremental("last_error_at", timedelta(minutes=10), timedelta(hours=6)),
    population=True,
)
PACKAGES = Records(
    fields={"id": S, "number": S, "status": S, "created_at": T},
    key="id",
    by=frozenset({"id", "number"}),
    where="sql",
    population=True,
)
POSTINGS = Records(
    fields={
        **MARKET_ORDERS.fields,
        "posting_number": S,
        "status_since": T_,
        "carrier": S,
        "warehouse": S_,
        "products": L,
    },
    key="posting_number",
    by=frozenset({"posting_number"}),
    where="params",
    params={"within": FieldType.DURATION, "unfulfilled": FieldType.BOOL},
)
WAYBILLS = Records(
    fields={"number": S, "state": S, "cdek_number": S_, "status": S_, "cause": S_, "errors": L, "created_at": T},
    key="number",
    by=frozenset({"number"}),
    listable=False,
)
FEEDS = Records(
    fields={"feed": S, "action": S, "source": S, "status": S, "total": N, "processed": N, "failed": N_, "errors": L},
    key="feed",
    by=frozenset({"feed"}),
    where="params",
    params={"within": FieldType.DURATION},
)
FEED_STATUS = replace(FEEDS, fields={**FEEDS.fields, "failed": N})


def _integration(method: str) -> Shape:
    calls: Mapping[str, Call] = {
        method: Call(frozenset({"id", "number_type"}), idempotent=True),
        "change_order_status": Call(frozenset({"order", "order_status"}), idempotent=True),
        "appendcomment": Call(frozenset({"order", "text"})),
    }
    return Shape(calls=calls)


METHODS = {"ozon": "upload_order", "lamoda": "upload_order", "kaspi": "fetchorder", "namshi": "notifyOrder"}
SHAPES: Mapping[str, Shape] = {
    **{f"{shop}-db": Shape({"orders": ORDERS, "order_copies": COPIES}) for shop in METHODS},
    **{f"{shop}-integration": _integration(method) for shop, method in METHODS.items()},
    **{shop: Shape({"orders": MARKET_ORDERS}) for shop in ("kaspi", "namshi")},
    "ozon": Shape({"orders": MARKET_ORDERS, "postings": POSTINGS}),
    "lamoda": Shape({"orders": MARKET_ORDERS, "feeds": FEEDS, "feed_status": FEED_STATUS}),
    "cdek": Shape({"orders": WAYBILLS}),
    "logistic": Shape({"packages": PACKAGES, "outbox": OUTBOX}),
    "bitrix24": Shape(
        {"deals": DEALS},
        {
            "update_deal": Call(frozenset({"id", "fields"}), idempotent=True),
            "add_comment": Call(frozenset({"deal_id", "text"})),
        },
    ),
    "sentry": Shape(channel=True),
    "telegram": Shape(channel=True),
}
CAUSES = tuple(
    CauseText(name, f'text.matches("{pattern}")', Place("config.yaml", line, 20))
    for line, (name, pattern) in enumerate(
        (
            ("address", "(?i)адрес|address|delivery_point"),
            ("region", "(?i)регион|region|direction"),
            ("temporary", "(?i)timeout|bad.?gateway|internal_error"),
        ),
        20,
    )
)
VOCABULARY = Vocabulary(SHAPES, frozenset({"integration-team", "crm-support", "cdek-support"}), CAUSES)
