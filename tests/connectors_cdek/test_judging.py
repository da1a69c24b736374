"""Promises of what CDEK's answers mean: success alone is no waybill, and absent is what one code says."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.connectors.cdek import ORDERS, cause_of, judge
from daemon.domain.shape import Absent, FieldType, Present
from daemon.domain.value import Record, Unknown
from daemon.net import Response
from tests.connectors_cdek.account import BODIES, DATA, NUMBER


def judged(body: Any, status: int = 200, number: str = NUMBER) -> Any:
    return judge(number, Response(status, {}, body))


def order(*codes: str, create: str | None = "SUCCESSFUL", errors: list[Any] | None = None, **entity: Any) -> dict[str, Any]:
    """An answer about the order, with these statuses an hour apart."""
    statuses = [{"code": code, "date_time": f"2026-11-01T{hour:02}:00:00+0000"} for hour, code in enumerate(codes, 1)]
    request = {"type": "CREATE", "state": create, "date_time": "2026-11-01T00:30:00+0000", "errors": errors or []}
    return {"entity": {"number": NUMBER, "cdek_number": "11", "statuses": statuses} | entity, "requests": [request] if create else []}


def record(body: Any) -> Record:
    found = judged(body)
    assert isinstance(found, Present), found
    assert found.records[0].keys() == ORDERS.fields.keys()
    return found.records[0]


STATES: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("created", order("ACCEPTED", "CREATED"), "created", None),
    ("created, and on its way", order("CREATED", "RECEIVED_AT_SHIPMENT_WAREHOUSE"), "created", None),
    ("delivered", order("CREATED", "DELIVERED"), "created", None),
    ("made by hand", order("ACCEPTED", "CREATED", create=None), "created", None),
    ("made by hand, not yet checked", order("ACCEPTED", create=None), "pending", "temporary"),
    ("accepted", order("ACCEPTED", create="ACCEPTED", cdek_number=None), "pending", "temporary"),
    ("waiting", order(create="WAITING", cdek_number=None), "pending", "temporary"),
    ("rejected", order(create="INVALID", cdek_number=None), "rejected", "other"),
    ("rejected by its status", order("INVALID", cdek_number=None), "rejected", "other"),
    ("removed", order("CREATED", "REMOVED"), "removed", "removed"),
    ("came back", order("CREATED", "NOT_DELIVERED"), "removed", "removed"),
]


@pytest.mark.parametrize(("body", "state", "cause"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_the_state_of_an_order(body: dict[str, Any], state: str, cause: str | None) -> None:
    assert (record(body)["state"], record(body)["cause"]) == (state, cause)


CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("successful without a number", order("CREATED", cdek_number=None)),
    ("its number is a number, not text", order("CREATED", cdek_number=11)),
    ("rejected with a number", order("CREATED", create="INVALID")),
    ("a state that is new to us", order("CREATED", create="MAYBE")),
    ("made by hand, without a status", order(create=None)),
    ("only asked for, not made", {"entity": {"number": NUMBER}, "requests": [{"type": "GET", "state": "SUCCESSFUL"}]}),
]


@pytest.mark.parametrize("body", [row[1] for row in CONTRADICTIONS], ids=[row[0] for row in CONTRADICTIONS])
def test_what_contradicts_itself_has_no_known_state(body: dict[str, Any]) -> None:
    assert isinstance(record(body)["state"], Unknown)
    assert isinstance(record(body)["cause"], Unknown)


def test_a_status_that_was_taken_back_does_not_count() -> None:
    body = order("CREATED", "REMOVED")
    body["entity"]["statuses"][1]["deleted"] = True
    assert (record(body)["state"], record(body)["status"]) == ("created", "CREATED")


def test_a_deleted_order_is_removed_before_its_status_says_so() -> None:
    body = order("CREATED")
    body["requests"].append({"type": "DELETE", "state": "SUCCESSFUL", "date_time": "2026-11-02T00:00:00+0000"})
    assert record(body)["state"] == "removed"
    body["requests"][-1]["state"] = "INVALID"
    assert record(body)["state"] == "created"


def test_the_last_request_to_create_decides() -> None:
    body = order("CREATED")
    body["requests"].append({"type": "CREATE", "state": "INVALID", "date_time": "2026-10-01T00:00:00+0000"})
    assert record(body)["state"] == "created"


def test_when_an_order_was_made_lets_a_rule_tell_its_own_from_an_earlier_one() -> None:
    old = order("CREATED", "DELIVERED")
    assert (record(old)["created_at"], record(old)["status"]) == (datetime(2026, 11, 1, 0, 30, tzinfo=UTC), "DELIVERED")
    timeless = order()
    timeless["requests"][0]["date_time"] = "soon"
    assert isinstance(record(timeless)["created_at"], Unknown)


def test_the_composed_answers_read_as_they_are_named() -> None:
    successful = record(BODIES["get_200_successful"]["body"])
    assert (successful["state"], successful["cdek_number"], successful["cause"]) == ("created", "1100000000", None)
    duplicate = record(BODIES["get_200_invalid_duplicate"]["body"])
    assert (duplicate["state"], duplicate["cause"]) == ("rejected", "duplicate")
    city = record(BODIES["get_200_invalid_city"]["body"])
    assert (city["state"], city["cause"]) == ("rejected", "address")
    assert city["errors"] == [{"code": "v2_recipient_location_not_recognized", "message": "Recipient location is not recognized"}]
    assert isinstance(judged(BODIES["orders_im_number_not_found_400"]["body"], 400), Absent)
    assert isinstance(judged(BODIES["orders_uuid_not_found_400"]["body"], 400), Unknown)


CAUSES = {
    "address": ["v2_recipient_location_not_recognized", "v2_sender_location_not_recognized", "delivery_location_is_not_recognized"],
    "region": ["error_validate_tariff_not_supported_for_this_direction", "err_result_service_empty", "err_pvz_with_tariff_mistake"],
    "temporary": ["v2_internal_error", "v2_similar_request_still_processed", "v2_entity_not_ready"],
    "duplicate": ["error_validate_im_dep_number_has_already_had_integration", "error_validate_online_shop_number_departure_is_not_unique"],
    "data": ["v2_field_is_empty", "error_validate_receiver_name_only_digits", "v2_invalid_format"],
    "other": ["v2_order_forbidden", "something_new"],
}


def test_every_error_has_a_cause_and_the_clearest_of_several_wins() -> None:
    assert {cause: {cause_of([code]) for code in codes} for cause, codes in CAUSES.items()} == {cause: {cause} for cause in CAUSES}
    assert cause_of(["v2_field_is_empty", "v2_recipient_location_not_recognized"]) == "address"
    documented = [row["code"] for row in json.loads((DATA / "error_codes.json").read_text("utf-8")) if row["kind"] == "error"]
    assert {cause_of([code]) for code in documented} == set(CAUSES)


NOT_FOUND = {"code": "v2_entity_not_found_im_number", "message": "Entity is not found by number"}


@pytest.mark.parametrize("status", [400, 404])
def test_absent_is_said_at_the_top_or_in_a_request(status: int) -> None:
    assert isinstance(judged({"errors": [NOT_FOUND]}, status), Absent)
    assert isinstance(judged({"requests": [{"state": "INVALID", "errors": [NOT_FOUND]}]}, status), Absent)
    assert isinstance(judged({"requests": [{"errors": [NOT_FOUND, {"code": "v2_internal_error"}]}]}, status), Unknown)
    assert isinstance(judged({"entity": {"number": NUMBER}, "requests": [{"errors": [NOT_FOUND]}]}, status), Unknown)


scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["INVALID", "CREATED", NUMBER, NOT_FOUND["code"]])
)
names = st.sampled_from(["entity", "requests", "errors", "code", "state", "type", "number", "statuses", "date_time", "cdek_number"])
bodies = st.recursive(
    scalars | st.sampled_from([order("CREATED"), NOT_FOUND, {"errors": [NOT_FOUND]}, BODIES["get_200_invalid_city"]["body"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
TYPES = {FieldType.STRING: str, FieldType.TIMESTAMP: datetime, FieldType.LIST: list}


@given(st.sampled_from([200, 201, 202, 400, 401, 403, 404, 409, 429, 500, 503]), bodies)
def test_whatever_the_answer_absent_is_only_the_one_code_and_a_record_is_the_askers_own(status: int, body: Any) -> None:
    found = judged(body, status)
    said = json.dumps(body)
    if isinstance(found, Absent):
        assert status in (400, 404)
        assert NOT_FOUND["code"] in said
    if isinstance(found, Present):
        assert status == 200
        one = found.records[0]
        assert one["number"] == NUMBER == body["entity"]["number"]
        for name, field in ORDERS.fields.items():
            assert isinstance(one[name], Unknown | TYPES[field.type]) or (one[name] is None and field.nullable), (name, one[name])
