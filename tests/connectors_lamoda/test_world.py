"""The connector and the sandbox's SellerCenter over real sockets: what is planted is what is read."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.sandbox.systems.lamoda import QUEUED, TAKES, imported
from daemon.settings import Secret
from tests.connectors_lamoda.market import NOW, listed, simulated


@pytest.mark.parametrize("format_", ["xml", "json"])
async def test_orders_are_listed_page_by_page_and_asked_for_in_both_formats(format_: str) -> None:
    async with simulated(format=format_) as (lamoda, market):
        market.orders(*({"number": f"N{n}", "created_at": f"-{n}h", "amount": Decimal("12.5") * n} for n in range(1, 8)))
        market.orders({"number": "OLD", "created_at": "-20d"})
        found = await listed(lamoda, "orders", "7d", size=3)
        assert [record["number"] for record in found] == [f"N{n}" for n in range(7, 0, -1)]
        assert found[0] == {**market.world.rows["lamoda.orders"]["N7"]}
        answers = await lamoda.ask("orders", "number", ["N3", "OLD", "NONE"], True)
        assert isinstance(answers["N3"], Present)
        assert isinstance(answers["OLD"], Present)
        assert isinstance(answers["NONE"], Unknown)
        answers = await lamoda.ask("orders", "id", ["ID-N3", "ID-NONE"], True)
        assert isinstance(answers["ID-N3"], Present)
        assert answers["ID-N3"].records[0]["number"] == "N3"
        assert answers["ID-NONE"] == Absent()


async def test_a_listing_goes_on_from_its_cursor_with_the_window_it_began_with() -> None:
    async with simulated() as (lamoda, market):
        market.orders(*({"number": f"N{n}", "created_at": f"-{n}h"} for n in range(1, 6)))
        first = await anext(lamoda.list("orders", {"within": timedelta(days=1)}, None, None, NOW, 2, False))
        rest = [page async for page in lamoda.list("orders", {"within": timedelta(hours=1)}, None, first.cursor, NOW, 2, False)]
        assert [record["number"] for page in (first, *rest) for record in page.records] == ["N5", "N4", "N3", "N2", "N1"]
        assert rest[-1].cursor is None


@pytest.mark.parametrize("format_", ["xml", "json"])
async def test_feeds_are_listed_within_the_window_and_told_in_full(format_: str) -> None:
    errors = [{"sku": "A-1", "message": "Negative value is not allowed"}, {"sku": "", "message": "Категория не найдена"}]
    async with simulated(format=format_) as (lamoda, market):
        market.feeds({"feed": "good", "errors": []}, {"feed": "bad", "failed": 2, "errors": errors})
        market.feeds({"feed": "old", "created_at": "-10d", "errors": []})
        assert sorted(str(record["feed"]) for record in await listed(lamoda, "feeds", "3d")) == ["bad", "good"]
        answers = await lamoda.ask("feed_status", "feed", ["bad", "none"], True)
        assert isinstance(answers["bad"], Present)
        assert (answers["bad"].records[0]["failed"], answers["bad"].records[0]["errors"]) == (2, errors)
        assert answers["none"] == Absent()


async def test_an_import_is_queued_then_under_way_then_ended() -> None:
    async with simulated() as (lamoda, market):
        market.world.change(imported("f", [{"sku": str(n), "price": "10" if n else "-1"} for n in range(100)], NOW))
        seen = []
        for after in (timedelta(0), (QUEUED + TAKES) / 2, TAKES):
            market.world.advance(NOW + after)
            answer = (await lamoda.ask("feed_status", "feed", ["f"], True))["f"]
            assert isinstance(answer, Present)
            seen.append([answer.records[0][name] for name in ("status", "processed", "failed", "errors")])
        assert seen[0] == ["Queued", 0, 0, []]
        assert seen[1] == ["Processing", 50, 0, []]
        assert seen[2] == ["Finished", 100, 1, [{"sku": "0", "message": "Negative value is not allowed"}]]


async def test_a_wrong_key_and_a_wrong_clock_are_refused_and_named() -> None:
    async with simulated() as (lamoda, market):
        assert await lamoda.check() == ()
        market.wall += timedelta(hours=1)
        assert "clock" in (await lamoda.check())[0]
    async with simulated(api_key=Secret("another")) as (lamoda, _):
        assert "api_key" in (await lamoda.check())[0]
        with pytest.raises(Unreachable, match="E007"):
            await listed(lamoda, "orders")
        assert isinstance((await lamoda.ask("orders", "id", ["1"], True))["1"], Unknown)


async def test_feed_status_is_throttled_and_says_so() -> None:
    async with simulated() as (lamoda, market):
        market.feeds({"feed": "f", "errors": []})
        keys = [f"k{n}" for n in range(49)]
        assert set(map(type, (await lamoda.ask("feed_status", "feed", keys, True)).values())) == {Absent}
        first, second = [(await lamoda.ask("feed_status", "feed", ["f"], True))["f"] for _ in range(2)]
        assert isinstance(first, Present)
        assert isinstance(second, Unknown)
        assert "E429" in second.reason
        market.wall += timedelta(minutes=2)
        assert isinstance((await lamoda.ask("feed_status", "feed", ["f"], True))["f"], Present)


async def test_an_import_that_has_ended_is_not_asked_about_again_unless_it_must_be_fresh() -> None:
    async with simulated() as (lamoda, market):
        market.feeds({"feed": "ended", "errors": []}, {"feed": "runs", "status": "Processing", "errors": []})
        await lamoda.ask("feed_status", "feed", ["ended", "runs"], False)
        assert isinstance((await lamoda.ask("feed_status", "feed", ["ended"], True))["ended"], Present)
        market.world.rows["lamoda.feed_status"].clear()
        for fresh, kinds in ((False, (Present, Absent)), (True, (Absent, Absent))):
            found = await lamoda.ask("feed_status", "feed", ["ended", "runs"], fresh)
            assert (type(found["ended"]), type(found["runs"])) == kinds


async def test_the_number_of_an_order_older_than_looked_back_is_unknown() -> None:
    async with simulated(lookback="1d") as (lamoda, market):
        market.orders({"number": "OLD", "created_at": "-2d"})
        found = (await lamoda.ask("orders", "number", ["OLD"], True))["OLD"]
        assert isinstance(found, Unknown)
        assert "1 days" in found.reason


def test_records_of_the_world_are_those_of_the_connector() -> None:
    from daemon.connectors.lamoda import SHAPE
    from daemon.sandbox.systems import systems

    system = systems()["lamoda"]
    assert system.shape == SHAPE
    assert {name: replace(stock.records) for name, stock in system.stocks.items()} == {
        f"lamoda.{name}": records for name, records in SHAPE.records.items()
    }
