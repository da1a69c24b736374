"""Problems 1 and 2 of the instruction: orders that are missing, not sent, without a deal, doubled or crossed."""

from __future__ import annotations

import pytest
from rules.world import SHIPPED, Story, config, family, shipped

from daemon.domain.incident import Phase
from daemon.domain.notice import NoticeKind
from daemon.sandbox.shops import Shop

by_shop = pytest.mark.parametrize("shop", SHIPPED, ids=lambda shop: shop.name)


@by_shop
async def test_an_order_missing_in_the_database_is_uploaded_by_its_internal_number(shop: Shop) -> None:
    story = Story(*family("order-missing"))
    story.plant({f"{shop.name}.orders": [{"number": "M1", "id": "INTERNAL-1", "state": "new", "created_at": "-2h"}]})
    await story.begin(1)
    await story.go(minutes=45)
    assert story.args(f"{shop.service}.{shop.method}") == [{"id": "INTERNAL-1", "number_type": "internal"}]
    assert (story.resolution, story.told()) == ("healed", [])


@by_shop
async def test_an_order_missing_that_no_upload_brings_is_told_to_the_integration_team(shop: Shop) -> None:
    story = Story(*family("order-missing"))
    call = f"{shop.service}.{shop.method}"
    story.plant({f"{shop.name}.orders": [{"number": "M1", "id": "INTERNAL-1", "created_at": "-2h"}]}, {call: "no_effect"})
    await story.begin(1)
    await story.go(hours=2)
    assert len(story.calls(call)) == 3
    assert story.incident.phase is Phase.ESCALATED
    assert {contact for contact, _ in story.told()} == {"integration-team"}
    assert "M1 (внутренний номер INTERNAL-1)" in story.texts("integration-team")[0]


async def test_an_order_that_is_shipped_or_cancelled_is_nobodys_business() -> None:
    story = Story(*family("order-missing"))
    story.plant({"kaspi.orders": [{"number": f"M-{state}", "state": state} for state in ("shipping", "done", "cancelled", "returned", "other")]})
    await story.begin(1)
    await story.go(hours=2)
    assert (story.incidents, story.calls()) == ([], [])


@by_shop
async def test_a_row_that_was_not_sent_is_uploaded_by_its_posting_number(shop: Shop) -> None:
    story = Story(*family("order-not-sent", "order-missing"))
    story.plant({shop.orders: [{"posting_number": "P1", "market_order_id": "M1"}], f"{shop.name}.orders": [{"number": "M1"}]})
    await story.begin(1)
    await story.go(minutes=30)
    assert story.args(f"{shop.service}.{shop.method}") == [{"id": "P1", "number_type": "posting_number"}]
    assert story.resolution == "healed"


def paid(shop: Shop, **row: object) -> dict[str, list[dict[str, object]]]:
    """A paid order whose deal is not in the CRM."""
    order = {"posting_number": "P1", "market_order_id": "M1", "bitrix_order_id": "77", "status": "paid", **row}
    return {shop.orders: [order], f"{shop.name}.orders": [{"number": "M1", "state": "new"}]}


@pytest.mark.parametrize("shop", [shop for shop in SHIPPED if shop.name != "namshi"], ids=lambda shop: shop.name)
async def test_a_paid_order_without_a_deal_gets_its_status_sent_again(shop: Shop) -> None:
    story = Story(*family("deal-missing", "namshi-deal-missing"))
    story.plant(paid(shop))
    await story.begin(1)
    await story.go(minutes=15)
    assert story.args(f"{shop.service}.change_order_status") == [{"order": "M1", "order_status": "paid"}]
    assert (story.resolution, story.told()) == ("healed", [])


@by_shop
@pytest.mark.parametrize(
    "row", [{"paid": False}, {"bitrix_order_id": "not_sent"}, {"bitrix_order_id": ""}, {"bitrix_order_id": None}], ids=str
)
async def test_an_order_without_payment_or_crm_number_is_left_alone(shop: Shop, row: dict[str, object]) -> None:
    story = Story(*family("deal-missing", "namshi-deal-missing"))
    story.plant(paid(shop, **row))
    await story.begin(1)
    await story.go(hours=1)
    assert (story.incidents, story.calls()) == ([], [])


async def test_an_order_cancelled_at_the_marketplace_gets_no_deal_and_ends_without_credit() -> None:
    story = Story(*family("deal-missing"))
    story.plant(paid(SHIPPED[0]), {"ozon-integration.change_order_status": "no_effect"})
    await story.begin(1)
    await story.go(minutes=7)
    story.change(ozon__orders={"number": "M1", "state": "cancelled"})
    await story.go(hours=1)
    assert len(story.calls()) <= 2
    assert (story.resolution, story.told()) == ("gone", [])


async def test_a_deal_that_cannot_be_looked_up_is_not_taken_for_missing() -> None:
    story = Story(*family("deal-missing"))
    story.plant(paid(SHIPPED[0]))
    story.world.switch("bitrix24", up=False)
    await story.begin(1)
    await story.go(minutes=50)
    assert (story.incidents, story.calls()) == ([], [])


NAMSHI = next(shop for shop in SHIPPED if shop.name == "namshi")
STATUS, COMMENT = "namshi-integration.change_order_status", "namshi-integration.appendcomment"


async def namshi(answer: str, **row: object) -> Story:
    story = Story(*family("namshi-deal-missing"))
    story.plant(paid(NAMSHI, warehouse_location="Dubai", **row), {STATUS: answer})
    await story.begin(1)
    return story


async def test_a_namshi_order_that_appears_within_five_minutes_gets_its_warehouse_and_no_person() -> None:
    story = await namshi("done")
    await story.go(hours=1)
    assert story.args(STATUS) == [{"order": "M1", "order_status": "paid"}]
    assert story.args(COMMENT) == [{"order": "M1", "text": "Заказ будет отправлен со склада: Dubai"}]
    assert (story.resolution, story.told()) == ("healed", [])


async def test_a_namshi_order_that_does_not_appear_is_a_persons_who_is_told_the_tabs_to_open() -> None:
    story = await namshi("no_effect")
    await story.go(minutes=4)
    assert (len(story.calls(STATUS)), story.told()) == (1, [])
    await story.go(minutes=3)
    assert [contact for contact, _ in story.told()] == ["crm-support"]
    assert "вкладка «Сделки» → вкладка «Проверка наличия»" in story.texts("crm-support")[0]
    assert story.calls(COMMENT) == [], "nothing is proved yet"
    await story.go(minutes=33)
    story.change(bitrix24__deals={"id": "77", "market_order_id": "M1"})
    await story.go(minutes=10)
    assert story.resolution == "handled"
    assert len(story.calls(COMMENT)) == 1
    await story.go(hours=6)
    assert (len(story.calls(STATUS)), len(story.calls(COMMENT))) == (1, 1)


async def test_a_comment_that_may_have_arrived_is_never_written_twice() -> None:
    story = Story(*family("namshi-deal-missing"))
    story.plant(paid(NAMSHI, warehouse_location="Dubai"), {COMMENT: "timeout"})
    await story.begin(1)
    await story.go(hours=8)
    assert len(story.calls(COMMENT)) == 1
    assert story.resolution == "healed"


async def test_an_order_without_a_warehouse_gets_no_comment_about_one() -> None:
    story = await namshi("done", )
    story.change(namshi_db__orders={"posting_number": "P1", "warehouse_location": None})
    await story.go(hours=8)
    assert story.calls(COMMENT) == []
    (notice,) = story.notices("crm-support")
    assert notice.kind is NoticeKind.FAULT
    assert notice.text.startswith("M1: шаг правила не выполнен"), "they read Russian"
    assert "если нужно, сделайте сами" in notice.text
    assert "appendcomment: argument text: warehouse_location" in notice.text


@pytest.mark.parametrize("shop", [shop for shop in SHIPPED if shop.name != "ozon"], ids=lambda shop: shop.name)
async def test_doubled_rows_are_told_and_never_changed(shop: Shop) -> None:
    story = Story(*family("order-duplicated"))
    sent, stuck = {"posting_number": "P1", "bitrix_order_id": "77", "created_at": "-2h"}, {"posting_number": "P2", "created_at": "-1h"}
    story.plant({shop.orders: [{"market_order_id": "M1", **row} for row in (sent, stuck)]})
    await story.begin(1)
    await story.go(hours=2)
    assert (story.calls(), [contact for contact, _ in story.told()]) == ([], ["integration-team"])
    assert "M1 — записей 2, сделки: 77\nnot_sent" in story.texts("integration-team")[0]
    story.world.remove(shop.orders, "P2")
    await story.go(hours=2)
    assert story.resolution == "handled"


@by_shop
async def test_a_number_that_points_at_another_orders_deal_is_told_and_never_changed(shop: Shop) -> None:
    story = Story(*family("identifier-mismatch"))
    story.plant({shop.orders: [{"posting_number": "P1", "market_order_id": "M1", "bitrix_order_id": "77"}]})
    story.plant({"bitrix24.deals": [{"id": "77", "market_order_id": "M2"}]})
    await story.begin(1)
    await story.go(hours=2)
    assert (story.calls(), [contact for contact, _ in story.told()]) == ([], ["integration-team"])
    assert "M1: bitrix_order_id 77, а сделка — заказа M2 (https://" in story.texts("integration-team")[0]


@by_shop
async def test_two_open_deals_of_one_order_are_told_until_one_is_closed_as_lost(shop: Shop) -> None:
    story = Story(*family("deal-duplicated"))
    story.plant({shop.orders: [{"posting_number": "P1", "market_order_id": "M1", "bitrix_order_id": "77"}]})
    twin = {"market_order_id": "M1", "posting_number": "P1"}
    story.plant({"bitrix24.deals": [{"id": "77", **twin}, {"id": "78", "stage": "C2:PREPARATION", **twin}, {"id": "79", "stage": "LOSE", **twin}]})
    await story.begin(1)
    await story.go(hours=2)
    assert (story.calls(), [contact for contact, _ in story.told()]) == ([], ["crm-support"])
    assert "/78/ — C2:PREPARATION" in story.texts("crm-support")[0]
    story.change(bitrix24__deals={"id": "78", "stage": "C2:LOSE"})
    await story.go(hours=2)
    assert story.resolution == "handled"


async def test_two_rules_on_one_order_do_not_act_at_the_same_time() -> None:
    story = Story(*shipped().values())
    story.plant(paid(NAMSHI, warehouse_location="Dubai"), {STATUS: "no_effect"})
    story.plant({"bitrix24.deals": []})
    await story.begin(1)
    await story.go(hours=1)
    assert {one.rule for one in story.incidents} == {"namshi-deal-missing"}
    assert config().contacts["crm-support"].fallback == "integration-team"
