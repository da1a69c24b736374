"""Promises of reading SellerCenter's answers: recorded and documented ones, in XML and in JSON."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.connectors.lamoda import FEED_STATUS, FEEDS, KIND, ORDERS, Refused, feed_status, parsed, understood
from daemon.domain.shape import Absent, Present, Records
from daemon.domain.value import Record, Unknown
from daemon.engine.ports import Unreachable
from daemon.net import Response
from tests.connectors_lamoda.market import KEY, NOW, listed, recorded, settings, told
from tests.net.loopback import answer

FEED = "883bdfe3-950f-4390-9a80-41437b69808c"
LINIO = "aa19d73f-ab3a-48c1-b196-9a1f18e5280e"


def success(body: Any) -> dict[str, Any]:
    """A body as it was recorded, within the answer that it came in."""
    return {"SuccessResponse": {"Head": {"RequestId": "", "RequestAction": "Any"}, "Body": body}}


def body(name: str) -> Any:
    return json.loads(recorded(name))


async def status(feed: str, said: object) -> Record:
    async with told(answer(200, said)) as (lamoda, _, _):
        found = (await lamoda.ask("feed_status", "feed", [feed], True))[feed]
        assert isinstance(found, Present), found
        return found.records[0]


def complete(record: Record, declared: Records) -> bool:
    """Whether it has every declared field, nothing else, and null only where it may be."""
    nulls = {name for name, value in record.items() if value is None}
    return record.keys() == declared.fields.keys() and nulls <= {name for name, each in declared.fields.items() if each.nullable}


async def test_an_import_without_a_failure_is_read() -> None:
    record = await status(FEED, recorded("mobly_FeedStatus.xml"))
    assert complete(record, FEED_STATUS)
    assert record == {
        "feed": FEED,
        "action": "ProductUpdate",
        "source": "csv",
        "status": "Finished",
        "created_at": datetime(2015, 5, 5, 9, 6, 35, tzinfo=UTC),  # Almaty was six hours ahead then
        "updated_at": datetime(2015, 5, 5, 9, 7, 11, tzinfo=UTC),
        "total": 10,
        "processed": 10,
        "failed": 0,
        "errors": [],
    }


async def test_finished_with_failures_says_so_product_by_product() -> None:
    record = await status(LINIO, recorded("linio_FeedProductUpdate.xml"))
    assert (record["status"], record["total"], record["processed"], record["failed"]) == ("Finished", 1232, 1190, 114)
    errors = record["errors"]
    assert isinstance(errors, list)
    assert [error["sku"] for error in errors] == ["9786077351993", "9788441418011", "9788498455984"]
    assert errors[0] == {"sku": "9786077351993", "message": "Negative value is not allowed"}


async def test_an_error_without_a_sku_is_kept() -> None:
    record = await status(LINIO, recorded("linio_FeedProductCreate.xml"))
    assert record["errors"] == [{"sku": "", "message": "SellerSku cannot be empty"}]


async def test_a_sku_that_only_the_message_names_is_found_there() -> None:
    said = recorded("linio_FeedProductUpdate.xml").replace("<SellerSku>9788441418011</SellerSku>", "<SellerSku/>")
    record = await status(LINIO, said)
    assert isinstance(record["errors"], list)
    assert record["errors"][1]["sku"] == "9788441418011"


@pytest.mark.parametrize(
    ("name", "feed", "expected"),
    [
        ("gfg_go_FeedStatus_With_Multiple_Errors.json", "992955e2-af2d-4d23-9b5a-91230a86b50d", ("Finished", 1, 1, 1, 3)),
        ("gfg_go_FeedStatus_With_One_Warning.json", "992955e2-af2d-4d23-9b5a-91230a86b50d", ("Finished", 1, 1, 1, 0)),
        ("gfg_go_FeedStatus_With_Multiple_Warnings.json", "992955e2-af2d-4d23-9b5a-91230a86b50d", ("Finished", 1, 1, 1, 0)),
        ("gfg_go_FeedStatus_Without_Error_Or_Warning.json", "fb407b7a-93a8-42d1-9a58-797f4ccac3d6", ("Queued", 1, 0, 0, 0)),
    ],
)
async def test_json_is_read_like_xml_one_element_or_several(name: str, feed: str, expected: tuple[object, ...]) -> None:
    record = await status(feed, success(body(name)))
    assert complete(record, FEED_STATUS)
    assert isinstance(record["errors"], list)
    assert (record["status"], record["total"], record["processed"], record["failed"], len(record["errors"])) == expected


async def test_an_import_that_ended_in_error_is_read() -> None:
    record = await status("00000000-0000-4000-8000-000000000001", recorded("composed_FeedStatus_Error.xml"))
    assert (record["status"], record["processed"], record["failed"]) == ("Error", 0, 10)


async def test_what_is_not_there_while_queued_is_unknown_and_no_number() -> None:
    bare = {"FeedDetail": {"Feed": "f", "Status": "Queued", "Action": "ProductCreate", "Source": "api", "CreationDate": "2026-01-01 10:00:00"}}
    record = await status("f", success(bare))
    assert isinstance(record["failed"], Unknown)
    assert isinstance(record["total"], Unknown)
    assert record["updated_at"] is None


async def test_another_feed_than_was_asked_for_concludes_nothing() -> None:
    async with told(answer(200, recorded("mobly_FeedStatus.xml"))) as (lamoda, _, _):
        assert isinstance((await lamoda.ask("feed_status", "feed", ["another"], True))["another"], Unknown)


async def test_an_unknown_feed_is_absent_whatever_the_status() -> None:
    for code in (200, 400):
        async with told(answer(code, recorded("linio_ErrorResponse_E012.xml"))) as (lamoda, _, _):
            assert await lamoda.ask("feed_status", "feed", ["f"], True) == {"f": Absent()}
            assert await lamoda.ask("feeds", "feed", ["f"], True) == {"f": Absent()}


@pytest.mark.parametrize("name", ["composed_ErrorResponse_E007.xml", "composed_ErrorResponse_E429.xml", "gfg_go_ErrorResponse_E098.json"])
async def test_any_other_error_under_http_200_is_unknown_with_its_text(name: str) -> None:
    said = body(name) if name.endswith("json") else recorded(name)
    async with told(answer(200, said)) as (lamoda, _, _):
        for records, by in (("feed_status", "feed"), ("orders", "id"), ("orders", "number")):
            found = (await lamoda.ask(records, by, ["1"], True))["1"]
            assert isinstance(found, Unknown)
            assert "E0" in found.reason or "E429" in found.reason
        with pytest.raises(Unreachable):
            await listed(lamoda, "orders")


async def test_throttling_is_told_to_all_replicas() -> None:
    async with told(answer(200, recorded("composed_ErrorResponse_E429.xml"))) as (lamoda, server, world):
        assert isinstance((await lamoda.ask("feed_status", "feed", ["f"], True))["f"], Unknown)
        assert len(server.seen) == 1
        assert [target for target, until in world.quota.pushed if until > NOW] == ["lamoda/FeedStatus"], "only what is throttled waits"
    async with told(answer(200, recorded("composed_ErrorResponse_E429.xml"))) as (lamoda, _, world):
        assert isinstance((await lamoda.ask("orders", "id", ["1"], True))["1"], Unknown)
        assert [target for target, until in world.quota.pushed if until > NOW] == ["lamoda"]


@pytest.mark.parametrize(
    ("message", "sku"),
    [
        ("Product with SellerSku 'ABC-1' does not exist", "ABC-1"),
        ("Seller SKU \\'9788441418011\\' not found", "9788441418011"),
        ("Value '' of Price is wrong for SellerSku 'AB 12/3'", "AB 12/3"),
        ('Seller SKU "LD-7" not found', "LD-7"),
        ("SKU: LD-7 has no price", "LD-7"),
        ("SellerSku cannot be empty", ""),
        ("SellerSku '' is not valid", ""),
        ("Invalid feed", ""),
    ],
)
def test_the_sku_is_taken_from_the_message_where_only_that_names_it(message: str, sku: str) -> None:
    feed = {"Feed": "f", "FeedErrors": {"Error": {"Code": "0", "Message": message, "SellerSku": ""}}}
    assert feed_status({"FeedDetail": feed}, ZoneInfo("Asia/Almaty"))["errors"] == [{"sku": sku, "message": message}]


@pytest.mark.parametrize("said", ["", "Too Many Requests", "<html><body>429</body></html>"])
async def test_throttling_that_the_front_server_says_by_its_status_alone_is_heeded_too(said: str) -> None:
    async with told(answer(429, said)) as (lamoda, server, world):
        assert isinstance((await lamoda.ask("feed_status", "feed", ["f"], True))["f"], Unknown)
        assert len(server.seen) == 1
        assert [target for target, until in world.quota.pushed if until > NOW] == ["lamoda/FeedStatus"]


async def test_feed_status_has_a_rate_of_its_own_and_is_unknown_while_it_is_used_up() -> None:
    async with told(answer(200, recorded("composed_ErrorResponse_E429.xml"))) as (lamoda, server, world):
        world.quota.waits[:] = [90.0]
        found = (await lamoda.ask("feed_status", "feed", ["f"], True))["f"]
        assert found == Unknown("FeedStatus: the next request may go in 90 s")
        assert not server.seen


async def test_the_list_of_feeds_is_read_with_what_is_odd_in_it() -> None:
    async with told(answer(200, success(body("gfg_go_FeedList_With_One_Item.json")))) as (lamoda, _, _):
        one = await listed(lamoda, "feeds", "5000d")
        assert [record["status"] for record in one] == ["Queued"]
        assert complete(one[0], FEEDS)
    async with told(answer(200, success(body("gfg_go_FeedList_With_FailureReports.json")))) as (lamoda, _, _):
        assert [record["failed"] for record in await listed(lamoda, "feeds", "5000d")] == [2, 1]
    async with told(answer(200, recorded("mobly_FeedOffsetList.xml"))) as (lamoda, _, _):
        assert [(record["total"], record["failed"]) for record in await listed(lamoda, "feeds", "9000d")] == [(9999, None)]


async def test_an_entry_without_its_feed_is_counted_and_one_without_status_is_unknown_there() -> None:
    said = recorded("linio_FeedInvalidWithFeedPending.xml").replace("<Status>Processing</Status>", "", 2)
    async with told(answer(200, said)) as (lamoda, _, _):
        pages = [page async for page in lamoda.list("feeds", {"within": NOW - datetime(2000, 1, 1, tzinfo=UTC)}, None, None, NOW, 100, False)]
    assert [len(page.unreadable) for page in pages] == [1]
    assert isinstance(pages[0].records[0]["status"], Unknown)
    assert pages[0].records[0]["failed"] == 10


async def test_an_order_is_read_and_its_least_far_item_says_how_far_it_is() -> None:
    async with told(answer(200, recorded("linio_GetOrder.xml"))) as (lamoda, _, _):
        found = (await lamoda.ask("orders", "id", ["4687503"], True))["4687503"]
        assert isinstance(found, Present)
        record = found.records[0]
        assert complete(record, ORDERS)
        assert (record["id"], record["number"], record["state"]) == ("4687503", "206125233", "new")
        assert record["status"] == "delivered, pending"
        assert record["amount"] == Decimal("61800.00")
        assert record["created_at"] == datetime(2018, 8, 27, 2, 48, 20, tzinfo=UTC)
        assert not any("FirstName" in str(value) for value in record.values())


@pytest.mark.parametrize(("name", "states"), [("gfg_go_OrdersSingle.json", ["ready"]), ("gfg_go_OrdersMultiple.json", ["shipping", "new"])])
async def test_orders_are_read_from_json_one_or_several(name: str, states: list[str]) -> None:
    async with told(answer(200, success(body(name)))) as (lamoda, _, _):
        assert [record["state"] for record in await listed(lamoda, "orders", "5000d")] == states


async def test_no_orders_is_an_empty_list_and_a_body_of_something_else_is_none() -> None:
    for empty in ("", {"Orders": ""}, {"Orders": {"Order": []}}):
        async with told(answer(200, success(empty))) as (lamoda, _, _):
            assert await listed(lamoda, "orders") == []
    for strange in ({"Products": ""}, {"Orders": {"Item": []}}, {"Orders": "none"}, "none"):
        async with told(answer(200, success(strange))) as (lamoda, _, _):
            with pytest.raises(Unreachable):
                await listed(lamoda, "orders")


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<SuccessResponse><Head><RequestId/></Head><Body>&c;</Body></SuccessResponse>"""
FILE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><SuccessResponse><Head><A>&f;</A></Head><Body/></SuccessResponse>'


@pytest.mark.parametrize("text", [BOMB, FILE, "", "<a>", "<html><body>It works!</body></html>", "<a>" * 200_000, "\0", "<?xml version='1.0' encoding='nope'?><a/>"])
def test_xml_that_is_broken_or_holds_entities_is_not_read(text: str) -> None:
    said = understood(Response(200, {}, text, text))
    assert isinstance(said, Unknown)
    assert "root:" not in said.reason


def test_xml_comes_to_what_json_says() -> None:
    assert parsed("<a><b>1</b><c/><d><e>x</e><e><![CDATA[<y>]]></e></d></a>") == {"a": {"b": "1", "c": "", "d": {"e": ["x", "<y>"]}}}


def test_an_error_counts_by_its_root_and_not_by_its_status() -> None:
    assert understood(Response(200, {}, recorded("linio_ErrorResponse_E012.xml"), recorded("linio_ErrorResponse_E012.xml"))) == Refused(
        12, "E012: Invalid Feed ID"
    )


def test_the_currency_follows_from_the_country_or_has_to_be_said() -> None:
    def lint(url: str, currency: str | None) -> list[str]:
        from daemon.domain.value import Place

        found = KIND.lint("lamoda", settings(url, currency=currency), lambda path: Place("config.yaml", 1, 1))
        return [mistake.message for mistake in found]

    assert lint("https://api.sellercenter.lamoda.kz/", None) == []
    assert lint("http://127.0.0.1:1/", "KZT") == []
    assert "currency" in lint("http://127.0.0.1:1/", None)[0]
    assert "url" in lint("ftp://x", "KZT")[0]


async def test_no_secret_is_told_though_lamoda_says_it_back() -> None:
    said = recorded("composed_ErrorResponse_E007.xml").replace("Signature mismatching", f"key {KEY}")
    async with told(answer(200, said)) as (lamoda, _, world):
        found = (await lamoda.ask("feed_status", "feed", ["f"], True))["f"]
        assert isinstance(found, Unknown)
        assert KEY not in found.reason
        assert KEY not in repr(world.events)
        assert KEY not in repr(lamoda._settings)
