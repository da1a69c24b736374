"""Promises of the sandbox's Ozon: it refuses what Ozon refuses, so that whoever gets by with it gets by there."""

from typing import Any

import pytest

from daemon.connectors.ozon import Method
from daemon.domain.shape import Present
from daemon.domain.value import Unknown
from daemon.net import Response
from daemon.sandbox.wire.ozon import BLOCKED_FOR, PER_SECOND, Blocked, Limit, Refused
from daemon.settings import Secret
from tests.connectors_ozon.shop import DAY, simulated
from tests.net.loopback import NOW

WINDOW = {"since": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}
CUTOFF = {"cutoff_from": "2026-11-01T00:00:00Z", "cutoff_to": "2026-11-02T00:00:00Z"}
DELIVERING = {"delivering_date_from": "2026-11-01T00:00:00Z", "delivering_date_to": "2026-11-02T00:00:00Z"}
REFUSED: list[tuple[str, Method, dict[str, Any], str]] = [
    ("no filter", Method.LIST, {"limit": 1}, "filter is required"),
    ("no period", Method.LIST, {"limit": 1, "filter": {}}, "are required"),
    ("no dates", Method.LIST, {"limit": 1, "filter": {"since": "today", "to": "tomorrow"}}, "RFC 3339"),
    ("a year", Method.LIST, {"limit": 1, "filter": {**WINDOW, "since": "2025-11-02T00:00:00Z"}}, "PERIOD_IS_TOO_LONG"),
    ("no limit", Method.LIST, {"filter": WINDOW}, "limit"),
    ("limit of v3", Method.LIST, {"filter": WINDOW, "limit": 1000}, "limit"),
    ("101 numbers", Method.LIST, {"filter": {**WINDOW, "order_numbers": ["1"] * 101}, "limit": 1}, "order_numbers"),
    ("a cursor of nowhere", Method.LIST, {"filter": WINDOW, "limit": 1, "cursor": "???"}, "cursor"),
    ("both pairs", Method.UNFULFILLED, {"filter": {**CUTOFF, **DELIVERING}, "limit": 1}, "mismatch"),
    ("no pair", Method.UNFULFILLED, {"filter": {}, "limit": 1}, "mismatch"),
    ("no number", Method.GET, {}, "posting_number"),
]


@pytest.mark.parametrize(("method", "body", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_it_refuses_what_ozon_refuses(method: Method, body: dict[str, Any], said: str) -> None:
    async with simulated({}) as (connector, _):
        found = await connector._post(method, body)
        assert isinstance(found, Response)
        assert found.status == 400
        assert said in str(found.body)


async def test_a_wrong_key_is_told_in_ozons_words() -> None:
    async with simulated({}, api_key=Secret("somebody-elses-key")) as (connector, _):
        found = (await connector.ask("postings", "posting_number", ["1-1"], fresh=True))["1-1"]
        assert isinstance(found, Unknown)
        assert found.reason == "status 403: Invalid Api-Key, please check the key and try again"
        assert "check client_id" in (await connector.check())[0]


def test_the_51st_request_of_a_second_is_refused_and_who_goes_on_is_blocked() -> None:
    limit = Limit()
    for _ in range(PER_SECOND):
        limit.take("/a", 10.0)
    for _ in range(PER_SECOND + 1):
        with pytest.raises(Refused, match="rate limit"):
            limit.take("/a", 10.5)
    with pytest.raises(Blocked):
        limit.take("/a", 12.0)
    limit.take("/b", 12.0)
    limit.take("/a", 10.5 + BLOCKED_FOR)


async def test_both_forms_of_a_posting_read_alike() -> None:
    products = [
        {"offer_id": "A", "sku": "1", "name": "Пальто", "quantity": 2},
        {"offer_id": "B", "sku": "2", "name": "Пояс", "quantity": 1},
    ]
    row = {"posting_number": "P-1", "created_at": NOW - DAY, "amount": 5000, "products": products}
    async with simulated({"ozon.postings": [row]}) as (connector, _):
        listed = [one async for page in connector.list("postings", None, None, None, NOW, 10, False) for one in page.records]
        single = (await connector.ask("postings", "posting_number", ["P-1"], fresh=True))["P-1"]
        assert isinstance(single, Present)
        assert list(single.records) == listed
        assert (listed[0]["amount"], listed[0]["products"], listed[0]["carrier"]) == (5000, products, "cdek")


async def test_what_happens_to_a_posting_is_seen() -> None:
    async with simulated({"ozon.postings": [{"posting_number": "P-1"}]}) as (connector, world):
        world.change({"ozon.postings": ({"posting_number": "P-1", "status": "cancelled", "state": "cancelled"},)})
        found = (await connector.ask("postings", "posting_number", ["P-1"], fresh=True))["P-1"]
        assert isinstance(found, Present)
        assert (found.records[0]["status"], found.records[0]["state"]) == ("cancelled", "cancelled")
