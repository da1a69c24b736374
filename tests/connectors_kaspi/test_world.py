"""The connector and the sandbox's Kaspi over real sockets: what is planted is what is read."""

from datetime import timedelta

import pytest

from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.settings import Secret
from tests.connectors_kaspi.shop import listed, simulated
from tests.net.loopback import NOW


async def test_every_order_of_the_window_is_listed_once_whatever_its_state_and_page() -> None:
    async with simulated() as (kaspi, shop):
        shop.orders(*({"number": f"{n:03}", "created_at": f"-{n}h"} for n in range(1, 8)))
        shop.orders({"number": "new", "handled_in": "NEW", "status": "APPROVED_BY_BANK", "state": "new"})
        shop.orders({"number": "gone", "handled_in": "ARCHIVE", "status": "CANCELLED", "state": "cancelled", "created_at": "-20d"})
        shop.orders({"number": "old", "created_at": "-40d"})
        found = await listed(kaspi, "30d", size=3)
        assert sorted(str(record["number"]) for record in found) == [*(f"{n:03}" for n in range(1, 8)), "gone", "new"]
        assert {record["number"]: record for record in found}["003"] == shop.world.rows["kaspi.orders"]["003"]


async def test_an_order_that_moves_between_two_questions_is_given_once() -> None:
    async with simulated() as (kaspi, shop):
        shop.orders({"number": "moving", "handled_in": "NEW", "status": "APPROVED_BY_BANK", "state": "new"})

        def move(look: int) -> None:
            if look == 2:
                shop.orders({"number": "moving", "handled_in": "KASPI_DELIVERY", "status": "ACCEPTED_BY_MERCHANT", "state": "packing"})

        shop.meanwhile = move
        assert [record["state"] for record in await listed(kaspi)] == ["new"]


async def test_an_order_of_any_age_is_found_by_its_number_and_one_that_is_not_there_is_absent() -> None:
    async with simulated() as (kaspi, shop):
        shop.orders({"number": "old", "created_at": "-400d"})
        found = await kaspi.ask("orders", "number", ["old", "none"], True)
        assert isinstance(found["old"], Present)
        assert found["none"] == Absent()


async def test_kaspi_refuses_15_days_and_pages_that_are_not_asked_for() -> None:
    async with simulated() as (kaspi, _):
        url = f"{kaspi._client.base}/orders"
        window = "filter[orders][creationDate][$ge]=0&filter[orders][creationDate][$le]="
        for query, status in (
            (f"page[number]=0&page[size]=100&{window}{14 * 86_400_000}", 200),
            (f"page[number]=0&page[size]=100&{window}{15 * 86_400_000}", 400),
            (f"page[size]=100&{window}1", 400),
            (f"page[number]=0&page[size]=101&{window}1", 400),
            ("page[number]=0&page[size]=100", 400),
        ):
            answer = await kaspi._client.read("test", "GET", f"{url}?{query}", kaspi._headers())
            assert getattr(answer, "status", None) == status, query


async def test_a_listing_goes_on_from_its_cursor() -> None:
    async with simulated() as (kaspi, shop):
        shop.orders(*({"number": f"{n}", "created_at": f"-{n}h"} for n in range(1, 6)))
        where = {"within": timedelta(days=20)}
        numbers, cursor, pages = [], None, 0
        while True:
            page = await anext(kaspi.list("orders", where, None, cursor, NOW, 2, False))
            numbers += [record["number"] for record in page.records]
            cursor, pages = page.cursor, pages + 1
            if cursor is None:
                break
        assert sorted(map(str, numbers)) == ["1", "2", "3", "4", "5"]
        assert pages == 2 * 6 + 2  # two windows of six states, and two pages more


async def test_a_revoked_token_is_the_connectors_illness_and_nobodys_absence() -> None:
    async with simulated() as (kaspi, _):
        assert await kaspi.check() == ()
    async with simulated(token=Secret("another")) as (kaspi, _):
        assert "token" in (await kaspi.check())[0]
        assert isinstance((await kaspi.ask("orders", "number", ["1"], True))["1"], Unknown)
        with pytest.raises(Unreachable, match="401"):
            await listed(kaspi)
