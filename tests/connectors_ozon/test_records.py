"""Promises of what is read from a posting: documented examples, money, carriers, and what is missing stays unknown."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.connectors.ozon import KIND, ORDERS, POSTINGS, CarrierSettings, OzonSettings, carrier, lint, order, posting
from daemon.domain.shape import FieldType
from daemon.domain.value import Place, Unknown
from daemon.settings import Secret
from tests.connectors_ozon.shop import CARRIERS, item, load


def test_the_documented_list_reads_as_it_says() -> None:
    one = posting(load("doc_v4_posting_fbs_list_200.json")["postings"][0], CARRIERS)
    assert one == {
        "id": "33301885134",
        "number": "0208245774-0029",
        "posting_number": "0208245774-0029-1",
        "status": "awaiting_packaging",
        "state": "packing",
        "created_at": datetime(2026, 5, 14, 8, tzinfo=UTC),
        "amount": Decimal("19970.00"),  # 12990 + 2 * 3490
        "currency": "RUB",
        "ship_by": datetime(2026, 5, 18, 12, tzinfo=UTC),
        "order_id": "33301885134",
        "order_number": "0208245774-0029",
        "substatus": "posting_created",
        "status_since": datetime(2026, 5, 14, 8, tzinfo=UTC),
        "tracking_number": "TRK1234567890",
        "carrier": "other",
        "warehouse": "17023",
        "products": [
            {"offer_id": "b4408110", "sku": "1904686181", "name": "Смартфон Xiaomi Note 12", "quantity": 1},
            {"offer_id": "h667722", "sku": "1904686182", "name": "Наушники Bluetooth", "quantity": 2},
        ],
    }


@pytest.mark.parametrize("name", ["doc_v3_posting_fbs_get_200.json", "doc_v3_posting_fbs_get_200_2026-06.json"])
def test_the_documented_single_posting_reads_though_its_prices_are_text(name: str) -> None:
    one = posting(load(name)["result"], CARRIERS)
    assert not [field for field, value in one.items() if isinstance(value, Unknown)], one
    assert isinstance(one["amount"], Decimal)
    assert one["currency"] == "RUB"
    assert one.keys() == POSTINGS.fields.keys()


def test_a_posting_of_cdek_is_known_by_its_provider_or_its_delivery_method() -> None:
    first, second = load("composed_v4_list_rfbs_cdek_200.json")["postings"]
    assert [posting(one, CARRIERS)["carrier"] for one in (first, second)] == ["cdek", "cdek"]
    assert posting(first, CARRIERS)["state"] == "new"
    assert posting(first, CARRIERS)["tracking_number"] is None
    assert carrier({"id": 1020000123456000, "name": "Курьер", "tpl_provider": "Иное"}, CARRIERS) == "cdek"
    assert carrier({"id": 5, "name": "сдэк экспресс", "tpl_provider": None}, CARRIERS) == "cdek"
    assert carrier({"id": 5, "name": "СДЭКспресс", "tpl_provider": "Ozon"}, CARRIERS) == "other"


def test_what_fits_two_carriers_is_nobodys() -> None:
    both = {**CARRIERS, "post": CarrierSettings(provider_names=["СДЭК"])}
    assert isinstance(carrier({"id": 5, "name": "СДЭК", "tpl_provider": "СДЭК"}, both), Unknown)
    assert isinstance(carrier(None, CARRIERS), Unknown)


def test_a_delivery_method_has_one_carrier() -> None:
    both = {"a": CarrierSettings(delivery_method_ids=["7"]), "b": CarrierSettings(delivery_method_ids=["7"])}
    own = OzonSettings(client_id=Secret("x"), api_key=Secret("y"), carriers=both)
    assert ["7 is a's already" in str(mistake) for mistake in lint("ozon", own, lambda path: Place("config.yaml", 3, 5))] == [True]


def test_an_order_of_several_postings_is_one_record() -> None:
    done = item("0001-1", status="delivered", in_process_at="2026-11-01T09:00:00Z")
    behind = item("0001-2", status="awaiting_packaging", in_process_at="2026-11-01T10:00:00Z", shipment_date="2026-11-01T12:00:00Z")
    dropped = item("0001-3", status="cancelled", in_process_at="2026-10-01T10:00:00Z")
    one = order([posting(each, CARRIERS) for each in (done, behind, dropped)])
    assert one.keys() == ORDERS.fields.keys()
    assert (one["number"], one["id"], one["posting_number"]) == ("0001", "2", None)
    assert (one["status"], one["state"]) == ("awaiting_packaging", "packing"), "the one that is least far on"
    assert one["amount"] == Decimal("4000.00"), "what is cancelled is not at risk"
    assert one["created_at"] == datetime(2026, 11, 1, 9, tzinfo=UTC)
    assert one["ship_by"] == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert order([posting(dropped, CARRIERS)])["state"] == "cancelled"
    assert order([posting(dropped, CARRIERS)])["posting_number"] == "0001-3"


def test_a_status_that_is_new_to_us_is_data() -> None:
    one = posting(item(status="on_the_moon"), CARRIERS)
    assert (one["status"], one["state"]) == ("on_the_moon", "other")


def test_money_of_two_currencies_has_no_sum_to_tell() -> None:
    prices = [{"quantity": 1, "price": {"amount": "1", "currency": currency}} for currency in ("RUB", "KZT")]
    assert isinstance(posting(item(products=prices), CARRIERS)["currency"], Unknown)


TYPES = {
    FieldType.STRING: str,
    FieldType.NUMBER: Decimal,
    FieldType.TIMESTAMP: datetime,
    FieldType.LIST: list,
}
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "amount", "name", "price"]), inner, max_size=3),
    max_leaves=5,
)
spoilt = st.dictionaries(st.sampled_from(sorted(item())), junk, max_size=6)


@given(spoilt, st.lists(st.sampled_from(sorted(item())), max_size=4))
def test_every_field_is_of_its_type_or_unknown_whatever_the_item_holds(changes: dict[str, Any], dropped: list[str]) -> None:
    spoiled = {name: value for name, value in (item() | changes).items() if name not in dropped}
    one = posting(spoiled, CARRIERS)
    for record, kind in ((one, POSTINGS), (order([one, posting(item(), CARRIERS)]), ORDERS)):
        assert record.keys() == kind.fields.keys()
        for name, field in kind.fields.items():
            value = record[name]
            assert isinstance(value, Unknown | TYPES[field.type]) or (value is None and field.nullable), (name, value)


def test_nothing_of_the_customer_is_kept() -> None:
    named = item(customer={"name": "Иванова", "phone": "+7"}, addressee={"name": "Иванова"})
    assert "Иванова" not in repr(posting(named, CARRIERS))


def test_the_kind_has_no_calls_and_its_settings_do_not_print_the_key() -> None:
    assert KIND.shape(None).calls == {}
    assert "s3cret-key" not in repr(OzonSettings(client_id=Secret("client"), api_key=Secret("s3cret-key")))
