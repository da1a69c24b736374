"""Promises of records over HTTP: unknown is never absent, and a page says what it could not read."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.connectors.http import _compile, _Compiler, judge
from daemon.domain.shape import Absent, FieldType, Page, Present
from daemon.domain.value import Place, Unknown
from daemon.engine.ports import Unreachable
from daemon.net import Response
from tests.connectors_http.service import SERVICE, TYPES, service, settings
from tests.net.loopback import NOW, Write, answer, endless, refused_address, reset, silent, truncated

ORDER = {"order_nr": "N1", "status": "Pending", "total": "12.50"}


async def listed(shop: Any, records: str = "orders", cursor: str | None = None, **where: Any) -> list[Page]:
    return [page async for page in shop.list(records, where or None, None, cursor, NOW, 100, False)]


ABSENT: list[tuple[str, Write, type]] = [
    ("there", answer(200, ORDER), Present),
    ("said to be absent", answer(404, {"error": "order_not_found"}), Absent),
    ("a 404 of somebody else", answer(404, {"error": "no route"}), Unknown),
    ("a 404 in HTML", answer(404, "<html>"), Unknown),
    ("another order", answer(200, ORDER | {"order_nr": "N2"}), Unknown),
    ("a list", answer(200, [ORDER]), Unknown),
    ("HTML with 200", answer(200, "<html>"), Unknown),
    ("empty", answer(200, ""), Unknown),
    ("null", answer(200, "null", {"Content-Type": "application/json"}), Unknown),
    ("redirect", answer(302, "", {"Location": "/login"}), Unknown),
    ("unauthorised", answer(401, {"error": "order_not_found"}), Unknown),
    ("too many", answer(429, {"error": "order_not_found"}), Unknown),
    ("error", answer(500, {"error": "order_not_found"}), Unknown),
    ("10 MB", endless, Unknown),
    ("less than promised", truncated, Unknown),
    ("reset", reset, Unknown),
    ("silence", silent, Unknown),
]


@pytest.mark.parametrize(("behaviour", "kind"), [row[1:] for row in ABSENT], ids=[row[0] for row in ABSENT])
async def test_absence_is_earned(behaviour: Write, kind: type) -> None:
    timeout = timedelta(milliseconds=100) if behaviour is silent else timedelta(seconds=20)
    async with service(behaviour, timeout=timeout) as (shop, server, _):
        answers = await shop.ask("orders", "number", ["N1"], fresh=True)
        assert list(answers) == ["N1"]
        assert isinstance(answers["N1"], kind), answers
        assert server.seen[0].target == "/orders/N1"


async def test_who_cannot_be_reached_knows_nothing() -> None:
    async with service(answer(), url=refused_address()) as (shop, _, _):
        answers = await shop.ask("orders", "number", ["N1", "N2"], fresh=False)
        assert all(isinstance(found, Unknown) for found in answers.values())
        with pytest.raises(Unreachable, match="ConnectError"):
            await listed(shop, within=timedelta(days=1))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
bodies = st.recursive(
    scalars | st.sampled_from([ORDER, ORDER | {"posting_nr": "P1"}, {"error": "order_not_found"}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["orders", "error", "order_nr", "status"]), inner),
    max_leaves=6,
)
ORDERS = settings().records["orders"]
QUESTIONS = _compile(settings(), _Compiler(lambda path: Place("x", 1, 1))).kinds["orders"].by


statuses = st.sampled_from([200, 404]) | st.integers(100, 599)


@given(statuses, bodies, st.booleans())
@example(200, {"orders": []}, False)
def test_whatever_the_body_absent_is_only_what_was_said_to_be(status: int, body: Any, too_large: bool) -> None:
    response = Response(status, {}, Unknown("too large") if too_large else body, too_large=too_large)
    single = judge(QUESTIONS["number"], ["N1"], response)["N1"]
    said = status == 404 and isinstance(body, dict) and body.get("error") == "order_not_found"
    assert isinstance(single, Absent) == (said and not too_large)
    if isinstance(single, Present):
        assert all(record["number"] == "N1" for record in single.records)
    bulk = judge(QUESTIONS["posting"], ["P1", "P2"], response)
    assert set(bulk) == {"P1", "P2"}
    assert not any(isinstance(found, Absent) for found in bulk.values()), "a bulk answer concludes no absence"


CARELESS = (
    SERVICE[: SERVICE.index("  pages:")]
    .replace('status == 404 && body.error == "order_not_found"', "status > 0")
    .replace("present: status == 200 && body.order_nr == key", "present: status == 0")
)


@pytest.mark.parametrize(
    "behaviour",
    [answer(401), answer(403, {}), answer(408), answer(429, {}), answer(500), answer(503, {}), answer(301, "", {"Location": "/"}), endless],
)
async def test_an_answer_about_something_else_is_not_believed_however_careless_the_conditions(behaviour: Write) -> None:
    async with service(answer(404), text=CARELESS) as (shop, _, _):
        assert isinstance((await shop.ask("orders", "number", ["N1"], fresh=True))["N1"], Absent), "it is careless indeed"
    async with service(behaviour, text=CARELESS) as (shop, _, _):
        assert isinstance((await shop.ask("orders", "number", ["N1"], fresh=True))["N1"], Unknown)


async def test_many_keys_go_in_few_requests_and_the_missing_ones_are_asked_singly() -> None:
    orders = [ORDER | {"order_nr": f"N{i}", "posting_nr": f"P{i}"} for i in (1, 2, 4)]
    again = answer(200, {"orders": []})
    async with service(answer(200, {"orders": orders[:2]}), answer(200, {"orders": orders[2:]}), again) as (shop, server, _):
        shop_answers = await shop.ask("orders", "posting", ["P1", "P2", "P3", "P4", "", "P1"], fresh=True)
        asked = [seen.json["postings"] for seen in server.seen]  # type: ignore[index]
    assert asked == [["P1", "P2", "P3"], ["P4"], ["P3"]]
    assert {key: type(found) for key, found in shop_answers.items()} == {
        "P1": Present, "P2": Present, "P3": Absent, "P4": Present, "": Unknown,
    }  # fmt: skip


async def test_one_unasked_key_spoils_its_whole_answer() -> None:
    """Law 14: a filter that was ignored would give us everybody's records."""
    orders = [ORDER | {"posting_nr": "P1"}, ORDER | {"posting_nr": "P9"}]
    async with service(answer(200, {"orders": orders})) as (shop, server, _):
        answers = await shop.ask("orders", "posting", ["P1", "P2"], fresh=True)
    assert all(isinstance(found, Unknown) and "not asked for" in found.reason for found in answers.values())
    assert len(server.seen) == 1


async def test_several_records_of_one_key_stand_in_one_answer() -> None:
    orders = [ORDER | {"posting_nr": "P1"}, ORDER | {"order_nr": "N2", "posting_nr": "P1"}]
    async with service(answer(200, {"orders": orders})) as (shop, _, _):
        found = (await shop.ask("orders", "posting", ["P1"], fresh=True))["P1"]
    assert isinstance(found, Present)
    assert [record["number"] for record in found.records] == ["N1", "N2"]


@pytest.mark.parametrize("key", ["", ".", ".."])
async def test_a_key_that_would_ask_for_something_else_is_not_asked(key: str) -> None:
    async with service(answer(404, {"error": "order_not_found"})) as (shop, server, _):
        assert isinstance((await shop.ask("orders", "number", [key], fresh=True))[key], Unknown)
        assert server.seen == []


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"order_nr": 17}, "number", "17"),
    ({"order_nr": 12345678901234567890}, "number", "12345678901234567890"),
    ({"order_nr": 1.5}, "number", Unknown),
    ({"order_nr": True}, "number", Unknown),
    ({"order_nr": None}, "number", Unknown),
    ({}, "posting", None),
    ({"posting_nr": None}, "posting", None),
    ({"posting_nr": []}, "posting", Unknown),
    ({"status": "confirmed"}, "state", "new"),
    ({"status": "x"}, "state", "other"),
    ({"status": None}, "state", "other"),
    ({"total": "12.50"}, "amount", Decimal("12.50")),
    ({"total": 12.1}, "amount", Decimal("12.1")),
    ({"total": 12}, "amount", 12),
    ({"total": "12,50"}, "amount", Unknown),
    ({"total": "1e5"}, "amount", Unknown),
    ({"paid": False}, "paid", False),
    ({"paid": 0}, "paid", Unknown),
    ({"paid": "true"}, "paid", Unknown),
    ({"created_at": "2026-11-23T12:00:00Z"}, "created_at", NOW),
    ({"created_at": "2026-11-23T16:00:00"}, "created_at", NOW),
    ({"created_at": "2026-11-23 16:00:00"}, "created_at", NOW),
    ({"created_at": "yesterday"}, "created_at", Unknown),
    ({"created_at": 1763900000}, "created_at", Unknown),
    ({"created_at": "0001-01-01T00:00:00"}, "created_at", Unknown),
    ({}, "city", None),
    ({"address": None}, "city", None),
    ({"address": {}}, "city", None),
    ({"address": {"city": "Dubai"}}, "city", "Dubai"),
    ({"address": "Dubai"}, "city", Unknown),
    ({"lines": [{"sku": 1}]}, "lines", [{"sku": 1}]),
    ({"lines": {}}, "lines", Unknown),
    ({"extra": {"a": 1}}, "extra", {"a": 1}),
]


@pytest.mark.parametrize(("item", "name", "value"), FIELDS, ids=[f"{row[1]} from {json.dumps(row[0])}" for row in FIELDS])
async def test_a_field_has_its_declared_type_or_is_unknown(item: dict[str, Any], name: str, value: Any) -> None:
    async with service(answer(200, {"orders": [{**ORDER, **item}]})) as (shop, _, _):
        page = (await listed(shop, within=timedelta(days=1)))[0]
        if name == "number" and value is Unknown:
            assert page.records == ()
            assert len(page.unreadable) == 1
            return
        (record,) = page.records
        if value is Unknown:
            assert isinstance(record[name], Unknown)
        else:
            assert record[name] == value
            assert type(record[name]) is type(value)


@given(st.dictionaries(st.sampled_from(["order_nr", "status", "total", "paid", "created_at", "address", "lines"]), bodies))
def test_every_declared_field_is_there_with_its_type_whatever_the_item(item: dict[str, Any]) -> None:
    for name, declared in ORDERS.fields.items():
        value = QUESTIONS["number"].readers[name](item)
        if value is None:
            assert declared.type.nullable
        elif not isinstance(value, Unknown):
            assert isinstance(value, TYPES.get(declared.type.type, (int, Decimal, datetime)))
            assert isinstance(value, bool) == (declared.type.type is FieldType.BOOL)


async def test_a_listing_goes_on_by_cursor_until_there_is_none() -> None:
    pages = [
        answer(200, {"orders": [ORDER], "next_token": "t/2"}),
        answer(200, {"orders": [ORDER, {"order_nr": ""}], "next_token": 3}),
        answer(200, {"orders": []}),
    ]
    async with service(*pages) as (shop, server, _):
        found = await listed(shop, within=timedelta(days=7), state="new&x")
        assert [(len(page.records), page.cursor, len(page.unreadable)) for page in found] == [
            (1, '"t/2"', 0), (1, "3", 1), (0, None, 0),
        ]  # fmt: skip
        assert [seen.target for seen in server.seen] == ["/orders/list?state=new%26x"] * 3
        assert [seen.json for seen in server.seen] == [
            {"created_after": "2026-11-16T12:00:00Z", "next_token": token, "limit": 100} for token in (None, "t/2", 3)
        ]
        server.answers[:] = [answer(200, {"orders": []})]
        await listed(shop, cursor="3", within=timedelta(days=7))
        assert server.seen[-1].json["next_token"] == 3, "a listing goes on where it stopped"  # type: ignore[index]
        assert server.seen[-1].target == "/orders/list", "a parameter that the rule does not give is left out"


async def test_a_listing_goes_on_by_page_number_and_by_link() -> None:
    async with service(answer(200, {"items": [{"id": 1}], "pages": 2}), answer(200, {"items": [{"id": 2}], "pages": 2})) as (
        shop,
        server,
        _,
    ):
        found = await listed(shop, "pages")
        assert [page.records[0]["id"] for page in found] == ["1", "2"]
        assert [seen.target for seen in server.seen] == ["/pages?page=1", "/pages?page=2"]
    async with service(answer(200, {"items": [], "links": {"next": "/links?after=7"}}), answer(200, {"items": [], "links": {}})) as (
        shop,
        server,
        _,
    ):
        await listed(shop, "links")
        assert [seen.target for seen in server.seen] == ["/links", "/links?after=7"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (answer(200, "<html>"), "items"),
        (answer(200, {}), "items"),
        (answer(200, {"orders": {}}), "no list"),
        (answer(404, {"orders": []}), "status 404"),
        (answer(401, {"orders": []}), "status 401"),
        (answer(302, "", {"Location": "https://login.invalid/"}), "login.invalid"),
        (answer(500, {"orders": []}), "status 500"),
        (answer(200, {"orders": [], "next_token": "same"}), "circle"),
        (endless, "longer"),
        (truncated, "RemoteProtocolError"),
    ],
)
async def test_a_listing_that_fails_says_so_rather_than_ending(behaviour: Write, reason: str) -> None:
    async with service(behaviour) as (shop, _, _):
        with pytest.raises(Unreachable, match=reason):
            await listed(shop, within=timedelta(days=1))


async def test_pages_that_come_round_again_are_a_circle() -> None:
    there, back = (answer(200, {"orders": [ORDER], "next_token": token}) for token in ("a", "b"))
    async with service(there, back, there, back, answer(200, {"orders": []})) as (shop, server, _):
        with pytest.raises(Unreachable, match="circle"):
            await listed(shop, within=timedelta(days=1))
        assert len(server.seen) == 3


async def test_a_link_to_another_host_is_not_followed() -> None:
    async with service(answer(200, {"items": [], "links": {"next": "http://evil.invalid/links"}})) as (shop, server, _):
        with pytest.raises(Unreachable, match="declared host"):
            await listed(shop, "links")
        assert len(server.seen) == 1


async def test_a_parameter_that_the_request_needs_and_the_rule_leaves_out_stops_the_listing() -> None:
    async with service(answer()) as (shop, server, _):
        with pytest.raises(Unreachable, match="orders"):
            await listed(shop)
        assert server.seen == []


async def test_doctor_says_what_is_wrong_with_the_remedy() -> None:
    for behaviour, said in ((answer(404), None), (answer(401), "credentials"), (answer(301, "", {"Location": "/x/"}), "redirects")):
        async with service(behaviour) as (shop, _, _):
            found = await shop.check()
            assert (said in found[0]) if said else list(found) == []
    async with service(answer(), url=refused_address()) as (shop, _, _):
        assert "cannot be reached" in (await shop.check())[0]
    assert datetime(2026, 1, 1, tzinfo=UTC) < NOW
