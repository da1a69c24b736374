"""The promise that a number which CDEK gives again is no waybill of the posting that comes after."""

from rules.world import Story, shipped

RULE = shipped()["ozon-waybill-missing"]
POSTING = {"posting_number": "0001-1", "created_at": "-3h"}


async def test_an_order_older_than_the_posting_is_not_its_own() -> None:
    story = Story(RULE)
    old = {"number": "OZ-0001-1", "state": "created", "status": "DELIVERED", "created_at": "-90d"}
    story.plant({"ozon.postings": [POSTING], "cdek.orders": [old]})
    await story.begin(1)
    await story.go(hours=3)
    assert (story.incident.key, story.incident.cause) == ("0001-1", "reused")
    story.change(cdek__orders={"number": "OZ-0001-1", "status": "CREATED", "created_at": "-1m"})
    await story.go(hours=3)
    assert story.resolution is not None, "its own waybill is there"


async def test_its_own_order_is_its_waybill_even_when_it_is_delivered() -> None:
    story = Story(RULE)
    story.plant({"ozon.postings": [POSTING], "cdek.orders": [{"number": "OZ-0001-1", "status": "DELIVERED", "created_at": "-1h"}]})
    await story.begin(1)
    await story.go(hours=3)
    assert story.incidents == []
