"""Promises of listings: every posting once, in windows that Ozon takes, and a listing that cannot go on says so."""

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.connectors.ozon import LONGEST, Plan
from daemon.engine.ports import Unreachable
from tests.connectors_ozon.shop import DAY, ERRORS, NOT_FOUND, item, listed, load, page, shop, simulated
from tests.described import Described
from tests.net.loopback import NOW, Write, answer, refused_address, truncated

TOO_LONG = answer(400, ERRORS["period_too_long_400"])


def _posting(number: str, age: timedelta, **changes: object) -> dict[str, object]:
    return {"posting_number": f"{number}-1", "number": number, "order_number": number, "created_at": NOW - age} | changes


async def test_a_listing_has_every_posting_once_over_windows_and_pages() -> None:
    rows = [_posting(f"N{place:03}", place * DAY / 4) for place in range(260)]
    async with simulated({"ozon.postings": rows}) as (connector, _):
        found = await listed(connector, "postings", within=64 * DAY)
        assert [one["posting_number"] for one in found] == [row["posting_number"] for row in reversed(rows[:257])], "oldest first"
        pages = [page async for page in connector.list("postings", {"within": 64 * DAY}, None, None, NOW, 24, False)]
        assert {len(page.records) for page in pages} <= set(range(25))
        resumed = await listed(connector, "postings", 24, cursor=pages[4].cursor)
        assert resumed == [one for page in pages[5:] for one in page.records], "a cursor goes on where its page ended"


async def test_a_posting_on_the_edge_of_two_windows_is_met_once() -> None:
    async with simulated({"ozon.postings": [_posting("EDGE", 30 * DAY)]}) as (connector, _):
        assert len(await listed(connector, "postings", within=60 * DAY)) == 1


async def test_orders_are_listed_as_orders() -> None:
    rows = [_posting("TWO", DAY), _posting("TWO", DAY) | {"posting_number": "TWO-2"}, _posting("ONE", 2 * DAY)]
    async with simulated({"ozon.postings": rows, "ozon.orders": [{"number": "THIRD", "state": "new"}]}) as (connector, _):
        found = {one["number"]: one for one in await listed(connector, "orders", within=7 * DAY)}
        assert {number: one["posting_number"] for number, one in found.items()} == {"ONE": "ONE-1", "TWO": None, "THIRD": "THIRD-1"}
        assert found["THIRD"]["state"] == "new"
        for number, one in found.items():
            assert (await connector.ask("orders", "number", [number], fresh=False))[number].records == (one,)  # type: ignore[union-attr]


async def test_unfulfilled_are_those_to_be_assembled_whatever_their_age() -> None:
    rows = [
        _posting("LATE", 50 * DAY, ship_by=NOW - 40 * DAY),
        _posting("SOON", DAY, ship_by=NOW + 40 * DAY),
        _posting("DONE", DAY, status="delivered", ship_by=NOW),
    ]
    async with simulated({"ozon.postings": rows}) as (connector, _):
        found = await listed(connector, "postings", unfulfilled=True)
        assert sorted(str(one["number"]) for one in found) == ["LATE", "SOON"]


async def test_a_window_that_is_too_long_is_halved_until_it_is_taken() -> None:
    async with shop(TOO_LONG, TOO_LONG, page(item("0001-1")), page(item("0002-1")), page(item("0003-1"))) as (connector, server, _):
        found = await listed(connector, "postings", within=20 * DAY)
        assert [one["posting_number"] for one in found] == ["0001-1", "0002-1", "0003-1"]
        spans = [_span(json.loads(seen.body)["filter"]) for seen in server.seen]
        assert [span // DAY for span in spans] == [20, 10, 5, 5, 10]


async def test_a_window_that_is_never_short_enough_is_said() -> None:
    async with shop(TOO_LONG) as (connector, server, _):
        with pytest.raises(Unreachable, match="too long"):
            await listed(connector, "postings", within=30 * DAY)
        assert len(server.seen) < 15


def _span(criteria: dict[str, str]) -> timedelta:
    return datetime.fromisoformat(criteria["to"]) - datetime.fromisoformat(criteria["since"])


BROKEN: list[tuple[str, Write]] = [
    ("error", answer(500, ERRORS["internal_500"])),
    ("limit", answer(429, ERRORS["rate_limit_429"])),
    ("circle is open", answer(429, "Circle is open")),
    ("wrong key", answer(403, ERRORS["invalid_api_key_403"])),
    ("HTML", answer(200, "<html>")),
    ("empty", answer(200, "")),
    ("no list", answer(200, {"postings": None, "has_next": False})),
    ("no word of more", answer(200, {"postings": []})),
    ("more, but not where", answer(200, {"postings": [], "has_next": True, "cursor": ""})),
    ("less than promised", truncated),
]


@pytest.mark.parametrize("behaviour", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_listing_that_cannot_be_read_is_unreachable(behaviour: Write) -> None:
    async with shop(behaviour) as (connector, _, _):
        with pytest.raises(Unreachable):
            await listed(connector, "postings", within=DAY)


async def test_a_cursor_that_comes_again_is_a_circle() -> None:
    async with shop(page(item("0001-1"), cursor="same")) as (connector, server, _):
        with pytest.raises(Unreachable, match="circle"):
            await listed(connector, "postings", within=DAY)
        assert len(server.seen) == 2


async def test_pages_that_come_round_again_are_a_circle() -> None:
    there, back = page(item("0001-1"), cursor="b"), page(item("0002-1"), cursor="a")
    async with shop(there, back, there, back, page()) as (connector, server, _):
        with pytest.raises(Unreachable, match="circle"):
            await listed(connector, "postings", within=DAY)
        assert len(server.seen) == 3


async def test_a_page_that_is_repeated_under_ever_new_cursors_is_a_circle() -> None:
    async with shop(*(page(item("0001-1"), cursor=str(number)) for number in range(5)), page()) as (connector, server, _):
        with pytest.raises(Unreachable, match="circle"):
            await listed(connector, "postings", within=DAY)
        assert len(server.seen) == 2


async def test_nobody_there_is_unreachable() -> None:
    async with shop(page(), url=refused_address()) as (connector, _, _):
        with pytest.raises(Unreachable):
            await listed(connector, "orders", within=DAY)


async def test_a_row_without_a_key_is_counted_and_holds_up_nobody() -> None:
    nameless = item() | {"posting_number": None}
    async with shop(answer(200, {"postings": [nameless, 7, item("0001-1")], "has_next": False, "cursor": ""})) as (connector, _, _):
        pages = [one async for one in connector.list("postings", None, None, None, NOW, 100, False)]
        assert [one["posting_number"] for one in pages[0].records] == ["0001-1"]
        assert len(pages[0].unreadable) == 2


ages = st.lists(st.integers(0, 90 * 24), max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages, st.integers(1, 5), st.integers(1, 90))
async def test_whatever_the_pages_and_windows_all_that_lies_within_is_listed_once(hours: list[int], size: int, within: int) -> None:
    rows = [_posting(f"N{place}", timedelta(hours=age)) for place, age in enumerate(hours)]
    async with simulated({"ozon.postings": rows}, rate=None) as (connector, _):
        found = [str(one["number"]) for one in await listed(connector, "postings", size, within=within * DAY)]
    assert sorted(found) == sorted(str(row["number"]) for row, age in zip(rows, hours, strict=True) if age <= within * 24)


def test_no_window_is_longer_than_what_is_taken_in_practice() -> None:
    plan = Plan.of({"within": 100 * DAY}, NOW)
    assert [to - since for since, to in plan.windows] == [LONGEST, LONGEST, LONGEST, 10 * DAY]
    assert Plan.read(plan.text or "") == plan


async def test_every_request_is_as_the_official_description_has_it() -> None:
    described = Described(load("openapi_fbs_subset_2026-06.json"), "https://api-seller.ozon.ru")
    control = page(item("0009-1"))
    async with shop(page(item("0002-1"), cursor="next"), page(), page(), control, control, NOT_FOUND, history=30 * DAY) as (
        connector,
        server,
        _,
    ):
        await listed(connector, "postings", within=DAY)
        await connector.ask("orders", "number", ["0001"], fresh=True)
        await listed_quietly(connector)
        await connector.check()
        assert {seen.target for seen in server.seen} == {
            "/v4/posting/fbs/list",
            "/v4/posting/fbs/unfulfilled/list",
            "/v3/posting/fbs/get",
            "/v2/delivery-method/list",
        }
        for seen in server.seen:
            described.hold(seen)


async def listed_quietly(connector: object) -> None:
    with pytest.raises(Unreachable):
        await listed(connector, "orders", unfulfilled=True)  # type: ignore[arg-type]
