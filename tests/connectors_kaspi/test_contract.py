"""Whatever Kaspi answers, a question by key gives present, absent or unknown, and absent is never wrong."""

from hypothesis import HealthCheck, given, settings

from daemon.connectors.kaspi import ORDERS
from daemon.domain.shape import Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Unreachable
from tests.connectors_kaspi.shop import listed, recorded, told
from tests.hostile import answers, run
from tests.net.loopback import Write, answer

ERRORS = recorded("composed_error_bodies.json")
TREES = [
    recorded("doc_orders_list_200.json"),
    recorded("composed_order_kaspi_delivery.json"),
    recorded("doc_order_entries_200.json"),
    recorded("doc_order_accept_200.json"),
    recorded("doc_products_import_result_200.json"),
    ERRORS["http_400"],
    ERRORS["http_401"],
]
QUIET = settings(max_examples=80, suppress_health_check=list(HealthCheck))


@QUIET
@given(answers([], TREES))
def test_nothing_but_a_list_that_says_it_is_empty_makes_absent(said: Write) -> None:
    async def ask() -> None:
        async with told(said) as (kaspi, _, _):
            found = await kaspi.ask("orders", "number", ["ordercode", ""], True)
            assert found.keys() == {"ordercode", ""}
            assert isinstance(found[""], Unknown)
            match found["ordercode"]:
                case Present(records):
                    assert all(record["number"] == "ordercode" and record.keys() == ORDERS.fields.keys() for record in records)
                case other:
                    assert isinstance(other, Unknown), other

    run(ask())


@QUIET
@given(answers([], TREES))
def test_a_listing_gives_records_with_numbers_or_is_unreachable(said: Write) -> None:
    async def ask() -> None:
        async with told(said, answer(200, ERRORS["orders_empty_200"])) as (kaspi, _, _):
            try:
                found = await listed(kaspi)
            except Unreachable:
                return
            assert all(isinstance(record["number"], str) and record["number"] for record in found)

    run(ask())
