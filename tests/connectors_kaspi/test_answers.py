"""Promises of reading Kaspi's answers, documented and composed ones, and of asking."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from daemon.connectors.kaspi import ORDERS, STATES, KaspiSettings, order, state_of
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.settings import Secret
from tests.connectors_kaspi.shop import TOKEN, listed, recorded, told
from tests.net.loopback import answer, silent

EMPTY = recorded("composed_error_bodies.json")["orders_empty_200"]


async def test_a_documented_order_is_read_and_its_id_is_not_its_number() -> None:
    async with told(answer(200, recorded("doc_orders_list_200.json"))) as (kaspi, _, _):
        found = (await kaspi.ask("orders", "number", ["ordercode"], True))["ordercode"]
        assert isinstance(found, Present)
        assert found.records == (
            {
                "id": "orderID",
                "number": "ordercode",
                "posting_number": None,
                "status": "ACCEPTED_BY_MERCHANT",
                "handled_in": "PICKUP",
                "state": "ready",
                "created_at": datetime(2016, 11, 18, 12, 0, 46, 241000, tzinfo=UTC),
                "amount": 96045,
                "currency": "KZT",
                "ship_by": None,
            },
        )
        assert found.records[0].keys() == ORDERS.fields.keys()
        by_id = (await kaspi.ask("orders", "number", ["orderID"], True))["orderID"]
        assert isinstance(by_id, Unknown)


def test_an_order_of_kaspi_delivery_is_shipped_when_its_courier_comes() -> None:
    record = order(recorded("composed_order_kaspi_delivery.json")["data"][0])
    assert (record["state"], record["amount"]) == ("ready", Decimal("25000.0"))
    assert record["ship_by"] == datetime(2025, 12, 31, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ({"state": "NEW", "status": "APPROVED_BY_BANK"}, "new"),
        ({"state": "SIGN_REQUIRED", "status": "APPROVED_BY_BANK"}, "new"),
        ({"state": "KASPI_DELIVERY", "status": "ACCEPTED_BY_MERCHANT"}, "packing"),
        ({"state": "KASPI_DELIVERY", "status": "ACCEPTED_BY_MERCHANT", "assembled": False}, "packing"),
        ({"state": "KASPI_DELIVERY", "status": "ACCEPTED_BY_MERCHANT", "assembled": True}, "ready"),
        (
            {"state": "KASPI_DELIVERY", "status": "ACCEPTED_BY_MERCHANT", "assembled": True, "kaspiDelivery": {"courierTransmissionDate": 1}},
            "shipping",
        ),
        ({"state": "DELIVERY", "status": "ACCEPTED_BY_MERCHANT"}, "ready"),
        ({"state": "ARCHIVE", "status": "COMPLETED"}, "done"),
        ({"state": "ARCHIVE", "status": "CANCELLED"}, "cancelled"),
        ({"state": "KASPI_DELIVERY", "status": "CANCELLING"}, "cancelled"),
        ({"state": "KASPI_DELIVERY", "status": "KASPI_DELIVERY_RETURN_REQUESTED"}, "returned"),
        ({"state": "ARCHIVE", "status": "RETURNED"}, "returned"),
        ({"state": "ARCHIVE", "status": "ACCEPTED_BY_MERCHANT"}, "other"),
        ({"state": "NEW", "status": "SOMETHING_NEW"}, "other"),
    ],
)
def test_state_and_status_together_say_how_far_an_order_is(attributes: dict[str, Any], state: str) -> None:
    assert state_of(attributes) == state


def test_what_is_missing_or_strange_is_unknown_in_its_place_alone() -> None:
    record = order({"type": "orders", "id": 7, "attributes": {"code": 100000001, "creationDate": "yesterday", "totalPrice": True}})
    assert (record["id"], record["number"]) == ("7", "100000001")
    assert all(isinstance(record[name], Unknown) for name in ("status", "state", "handled_in", "created_at", "amount"))
    assert record["ship_by"] is None


async def test_an_empty_list_is_absent_only_if_it_says_that_there_are_none() -> None:
    async with told(answer(200, EMPTY)) as (kaspi, _, _):
        assert await kaspi.ask("orders", "number", ["1"], True) == {"1": Absent()}
    for strange in ({"data": []}, {"data": [], "meta": {}}, {"data": [], "meta": {"totalCount": 3}}, {**EMPTY, "errors": []}):
        async with told(answer(200, strange)) as (kaspi, _, _):
            assert isinstance((await kaspi.ask("orders", "number", ["1"], True))["1"], Unknown)


@pytest.mark.parametrize(("status", "name"), [(400, "http_400"), (401, "http_401")])
async def test_an_error_is_unknown_with_what_it_says(status: int, name: str) -> None:
    said = recorded("composed_error_bodies.json")[name]
    async with told(answer(status, said)) as (kaspi, _, _):
        found = (await kaspi.ask("orders", "number", ["1"], True))["1"]
        assert isinstance(found, Unknown)
        assert said["errors"][0]["detail"] in found.reason
        with pytest.raises(Unreachable, match=str(status)):
            await listed(kaspi)


async def test_a_question_by_number_has_no_window_and_looks_like_a_browser() -> None:
    async with told(answer(200, EMPTY)) as (kaspi, server, _):
        await kaspi.ask("orders", "number", ["100 000&x=1"], True)
        seen = server.seen[0]
        assert dict(parse_qsl(urlsplit(seen.target).query)) == {"filter[orders][code]": "100 000&x=1"}
        assert seen.headers["user-agent"].startswith("Mozilla/")
        assert seen.headers["accept"] == seen.headers["content-type"] == "application/vnd.api+json"
        assert seen.headers["x-auth-token"] == TOKEN


async def test_a_scan_asks_every_state_from_page_0_in_windows_of_at_most_14_days_without_a_gap() -> None:
    async with told(answer(200, EMPTY)) as (kaspi, server, _):
        assert await listed(kaspi, "30d") == []
    queries = [{name: values[0] for name, values in parse_qs(urlsplit(seen.target).query).items()} for seen in server.seen]
    assert [query["page[number]"] for query in queries] == ["0"] * 18
    for state in STATES:
        bounds = [
            (int(query["filter[orders][creationDate][$ge]"]), int(query["filter[orders][creationDate][$le]"]))
            for query in queries
            if query["filter[orders][state]"] == state
        ]
        assert bounds[-1][1] - bounds[0][0] == timedelta(days=30) // timedelta(milliseconds=1)
        assert all(after[0] == before[1] + 1 for before, after in pairwise(bounds))
        assert all(end - begin <= 14 * 86_400_000 for begin, end in bounds)


async def test_a_state_that_does_not_exist_is_not_asked_for() -> None:
    async with told(answer(200, EMPTY)) as (kaspi, server, _):
        with pytest.raises(Unreachable, match="KASPI_DELIVERY"):
            await listed(kaspi, handled_in=["NEU"])
        assert server.seen == []


def test_slow_answers_are_waited_for() -> None:
    assert KaspiSettings(token=Secret("t")).timeout == timedelta(seconds=60)


async def test_silence_is_unknown_after_the_timeout() -> None:
    async with told(silent, timeout="50ms") as (kaspi, _, _):
        found = (await kaspi.ask("orders", "number", ["1"], True))["1"]
        assert isinstance(found, Unknown)
        assert "within" in found.reason


async def test_no_secret_is_told_though_kaspi_says_it_back() -> None:
    said = {"errors": [{"title": "Bad", "detail": f"token {TOKEN} is revoked"}]}
    async with told(answer(401, said)) as (kaspi, _, world):
        found = (await kaspi.ask("orders", "number", ["1"], True))["1"]
        assert isinstance(found, Unknown)
        assert TOKEN not in found.reason + repr(world.events) + repr(kaspi._settings)
        assert "token" in (await kaspi.check())[0]
