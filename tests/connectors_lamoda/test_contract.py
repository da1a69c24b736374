"""Whatever SellerCenter answers, a question by key gives present, absent or unknown, and absent is never wrong."""

import itertools
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.connectors.lamoda import FEED_STATUS, ORDERS, Refused, Success, understood
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from daemon.net import Response
from tests.connectors_lamoda.market import listed, recorded, told
from tests.hostile import answers, run
from tests.net.loopback import Write, answer, silent

FEED = "883bdfe3-950f-4390-9a80-41437b69808c"
ABSENT = recorded("linio_ErrorResponse_E012.xml")
TEXTS = [
    recorded("mobly_FeedStatus.xml"),
    recorded("linio_GetOrder.xml"),
    recorded("composed_ErrorResponse_E007.xml"),
    recorded("composed_ErrorResponse_E429.xml"),
    *(ABSENT.replace("12</ErrorCode>", f"{code}</ErrorCode>") for code in (1, 3, 6, 9, 13, 14, 17, 20, 1000)),
]
TREES = [
    {"SuccessResponse": {"Head": {"RequestId": ""}, "Body": json.loads(recorded(name))}}
    for name in ("gfg_go_OrdersSingle.json", "gfg_go_FeedStatus_With_Multiple_Errors.json", "gfg_go_FeedList_With_One_Item.json")
]
QUIET = settings(max_examples=80, suppress_health_check=list(HealthCheck))


@QUIET
@given(answers(TEXTS, TREES), st.sampled_from([("orders", "id", "4687503"), ("orders", "number", "206125233"), ("feed_status", "feed", FEED)]))
def test_nothing_but_the_documented_code_makes_absent(said: Write, question: tuple[str, str, str]) -> None:
    records, by, key = question

    async def ask() -> None:
        async with told(said, timeout="2s") as (lamoda, _, _):
            found = await lamoda.ask(records, by, [key, ""], True)
            assert found.keys() == {key, ""}
            assert isinstance(found[""], Unknown)
            match found[key]:
                case Present((record,)):
                    assert record[by] == key
                    assert record.keys() == (ORDERS if records == "orders" else FEED_STATUS).fields.keys()
                case other:
                    assert isinstance(other, Unknown), other

    run(ask())


@QUIET
@given(answers(TEXTS, TREES), st.sampled_from(["orders", "feeds"]))
def test_a_listing_gives_records_with_keys_or_is_unreachable(said: Write, records: str) -> None:
    async def ask() -> None:
        async with told(said, answer(200, "<SuccessResponse><Head><A>1</A></Head><Body/></SuccessResponse>")) as (lamoda, _, _):
            try:
                found = await listed(lamoda, records)
            except Unreachable:
                return
            key = lamoda.shape.records[records].key
            assert all(isinstance(record[key], str) and record[key] for record in found)

    run(ask())


def test_no_status_makes_something_else_of_an_answer() -> None:
    for status, text in itertools.product(range(200, 600), [*TEXTS, *map(json.dumps, TREES), "", "<html/>"]):
        said = understood(Response(status, {}, json.loads(text) if text.startswith("{") else text, text))
        assert not (isinstance(said, Refused) and said.code in (12, 16)), (status, text)
        assert not isinstance(said, Success) or status == 200


async def test_absent_by_number_does_not_exist() -> None:
    for said in (ABSENT, ABSENT.replace("12", "16"), "<SuccessResponse><Head><TotalCount>0</TotalCount></Head><Body><Orders/></Body></SuccessResponse>"):
        async with told(answer(200, said)) as (lamoda, _, _):
            assert isinstance((await lamoda.ask("orders", "number", ["1"], True))["1"], Unknown)


async def test_each_code_makes_absent_only_what_it_is_about() -> None:
    async with told(answer(200, ABSENT)) as (lamoda, _, _):
        assert isinstance((await lamoda.ask("orders", "id", ["1"], True))["1"], Unknown)
    no_order = ABSENT.replace("12</ErrorCode>", "16</ErrorCode>")
    async with told(answer(200, no_order)) as (lamoda, _, _):
        assert await lamoda.ask("orders", "id", ["1"], True) == {"1": Absent()}
        assert isinstance((await lamoda.ask("feed_status", "feed", ["1"], True))["1"], Unknown)
    async with told(answer(500, no_order)) as (lamoda, _, _):
        assert isinstance((await lamoda.ask("orders", "id", ["1"], True))["1"], Unknown)


async def test_silence_is_unknown_after_the_timeout() -> None:
    async with told(silent, timeout="50ms") as (lamoda, _, _):
        found = (await lamoda.ask("orders", "id", ["1"], True))["1"]
        assert isinstance(found, Unknown)
        assert "within" in found.reason
