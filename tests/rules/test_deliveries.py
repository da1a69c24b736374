"""Problem 4 of the instruction: Ozon's postings without a waybill of CDEK's, and the errors of the delivery pipeline."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from rules.world import ROOT, Story, config, family

from daemon.connectors import cdek
from daemon.domain.incident import Phase, Why
from daemon.domain.notice import NoticeKind
from daemon.language.vocabulary import classifier

POSTING = "1234-0001-1"
PARCEL = f"OZ-{POSTING}"
UPDATE, COMMENT = "bitrix24.update_deal", "bitrix24.add_comment"
DEAL = {"id": "77", "market_order_id": "M1", "posting_number": POSTING}
ADDRESS, REGION, TEMPORARY = "Не распознан адрес получателя", "err_result_service_empty", "502 Bad Gateway"


def parcel(error: str | None, **event: Any) -> dict[str, Any]:
    """The parcel in `logistic_v2`, with an event that failed by this error."""
    failed = {"first_error_at": "-2h", "last_error_at": "-2h", "errors": 1, "error_text": error} if error else {}
    return {"logistic.packages": [{"id": "5", "number": PARCEL}], "logistic.outbox": [{"id": "5", "package_number": PARCEL, **failed, **event}]}


async def waybill(*rows: dict[str, Any], ship_by: str = "+2d", deals: tuple[dict[str, Any], ...] = (DEAL,), **posting: Any) -> Story:
    story = Story(*family("ozon-waybill-missing"))
    story.plant({"ozon.postings": [{"posting_number": POSTING, "number": "M1", "status_since": "-3h", "ship_by": ship_by, **posting}]})
    for kinds in rows:
        story.plant(kinds)
    story.plant({"bitrix24.deals": list(deals)})
    await story.begin(1)
    return story


def made(story: Story) -> None:
    """CDEK makes the order."""
    story.change(cdek__orders={"number": PARCEL, "state": "created", "cdek_number": "1105550001"})


async def test_a_posting_with_a_waybill_or_of_another_carrier_is_left_alone() -> None:
    story = await waybill({"cdek.orders": [{"number": PARCEL}]})
    story.plant({"ozon.postings": [{"posting_number": "other", "carrier": "ozon"}, {"posting_number": "early", "status": "awaiting_packaging"}]})
    await story.go(hours=3)
    assert story.incidents == []


async def test_a_young_posting_is_given_its_hour() -> None:
    story = await waybill(parcel(None), status_since="-10m")
    await story.go(minutes=45)
    assert (story.incident.phase, story.told()) == (Phase.OPEN, [])
    made(story)
    await story.go(minutes=30)
    assert (story.resolution, story.calls()) == ("self_healed", [])


async def test_a_temporary_error_is_given_the_pipelines_own_time() -> None:
    story = await waybill(parcel(TEMPORARY))
    await story.go(minutes=40)
    assert (story.incident.cause, story.incident.why, story.told()) == ("temporary", Why.WAITING, [])
    made(story)
    await story.go(minutes=30)
    assert (story.resolution, story.told()) == ("self_healed", [])


async def test_a_temporary_error_that_stays_becomes_cdeks() -> None:
    story = await waybill(parcel(TEMPORARY))
    await story.go(minutes=70)
    assert [contact for contact, _ in story.told()] == ["cdek-support"]


async def test_a_wrong_address_goes_to_those_who_can_mend_it_and_not_to_cdek() -> None:
    story = await waybill(parcel(ADDRESS))
    await story.go(hours=3)
    assert {contact for contact, _ in story.told()} == {"crm-support"}
    (text,) = story.texts("crm-support")
    assert "Исправить адрес доставки" in text
    assert f"{PARCEL}, сделка https://portal.example/crm/deal/details/77/, ошибка {ADDRESS}" in text


def rejected(cause: str, said: str) -> dict[str, Any]:
    """CDEK took the request and rejected it, with this word."""
    return {"cdek.orders": [{"number": PARCEL, "state": "rejected", "cause": cause, "errors": [{"code": "code", "message": said}]}]}


async def test_what_cdek_said_of_the_address_is_told_too() -> None:
    story = await waybill(rejected("address", "Recipient location is not recognized: Урюпинск"))
    await story.go(hours=1)
    (text,) = story.texts("crm-support")
    assert "ответ СДЭК Recipient location is not recognized: Урюпинск" in text


async def test_an_event_that_went_well_does_not_hide_the_error_of_the_other() -> None:
    story = await waybill(parcel(REGION))
    story.plant({"logistic.outbox": [{"id": "6", "event": "GenerateDeliveryDocumentsJob:Package:5", "processed_at": "-1h"}]})
    await story.go(minutes=30)
    assert f"ProcessDeliveryJob:Package:5 — {REGION}" in story.texts("integration-team")[0]


async def test_nobody_is_asked_to_make_an_order_that_cdek_says_it_has() -> None:
    story = await waybill(parcel(None), rejected("duplicate", "Номер отправления не уникальный"), ship_by="+5d")
    await story.go(days=1)
    assert {contact for contact, _ in story.told()} == {"integration-team"}
    first, *_ = story.texts("integration-team")
    assert "заявка с этим номером у него уже есть" in first
    assert "ответ СДЭК Номер отправления не уникальный" in first


async def test_data_that_cdek_rejects_reaches_those_who_send_them() -> None:
    story = await waybill(parcel(None), rejected("data", "[packages.weight] is empty"))
    await story.go(hours=1)
    assert sorted(contact for contact, _ in story.told()) == ["cdek-support", "integration-team"]
    assert "[packages.weight] is empty" in story.texts("integration-team")[0]


CAUSES = sorted({*cdek._CAUSES, cdek.OTHER, cdek.REMOVED, "reused", "no_parcel", "no_event", "undiagnosed"})


@pytest.mark.parametrize("cause", CAUSES)
def test_the_page_says_what_each_cause_means_and_who_was_told(cause: str) -> None:
    for page in ("ozon-waybill-missing.md", "ozon-waybill-missing.en.md"):
        text = (ROOT / "docs/runbooks" / page).read_text(encoding="utf-8")
        assert any(f"`{cause}`" in line for line in text.splitlines() if line.startswith("| `")), page


@pytest.mark.parametrize(
    ("rows", "cause"), [((parcel(REGION),), "region"), ((), "no_parcel"), (({"logistic.packages": [{"id": "5", "number": PARCEL}]},), "no_event")]
)
async def test_what_will_not_go_by_itself_is_told_to_the_integration_team_and_asked_of_cdek(rows: Any, cause: str) -> None:
    story = await waybill(*rows)
    await story.go(minutes=30)
    assert story.incident.cause == cause
    assert sorted(contact for contact, _ in story.told()) == ["cdek-support", "integration-team"]
    text = story.texts("integration-team")[0]
    assert f"{PARCEL}, причина {cause}, сделка https://portal.example/crm/deal/details/77/" in text
    assert re.search(r"сама не создастся: [а-яё][^:]+\.$", text, re.MULTILINE), "what the cause means stands in words"


@pytest.mark.parametrize("state", ["rejected", "removed", "pending"])
async def test_an_order_that_cdek_did_not_make_is_no_waybill(state: str) -> None:
    story = await waybill(parcel(None), {"cdek.orders": [{"number": PARCEL, "state": state, "cause": "address" if state == "rejected" else None}]})
    await story.go(minutes=30)
    assert story.incident.phase is Phase.ESCALATED
    assert [contact for contact, _ in story.told()] == (["crm-support"] if state == "rejected" else ["cdek-support"])


async def test_cdek_is_asked_for_manual_creation_with_everything_it_needs_and_nothing_of_ours() -> None:
    story = await waybill(parcel(None), products=[{"name": "Платье «Ёлка»", "quantity": 2}, {"name": "Пальто", "quantity": 1}])
    await story.go(minutes=30)
    (text,) = story.texts("cdek-support")
    assert text == (
        "Нет накладной СДЭК для отправления Ozon\n"
        f"Добрый день! Просим создать заказ вручную: {PARCEL}.\n"
        "Заказ в CRM: https://portal.example/crm/deal/details/77/\n"
        "Причина: не установлена"
    )
    (notice,) = story.notices("cdek-support")
    (card,) = notice.cards
    assert card.title == f"Ozon {POSTING}"
    assert card.rows == (
        ("Статус", "ожидает отгрузки"),
        ("Собрать до", "04.03.2026 12:00 MSK"),
        ("Склад", "Хоругвино"),
        ("Товары", "Платье «Ёлка» × 2\nПальто × 1"),
    )


async def test_the_card_shows_every_product_of_a_large_order() -> None:
    story = await waybill(parcel(None), products=[{"name": f"Платье {number}", "quantity": 1} for number in range(20)])
    await story.go(minutes=30)
    ((card,),) = (notice.cards for notice in story.notices("cdek-support"))
    assert dict(card.rows)["Товары"].splitlines() == [f"Платье {number} × 1" for number in range(20)]


@pytest.mark.parametrize("rows", [(parcel(REGION),), (), (rejected("data", "x"),), ({"cdek.orders": [{"number": PARCEL, "state": "removed"}]},)])
async def test_cdek_reads_the_reason_in_russian_and_not_a_word_of_ours(rows: Any) -> None:
    story = await waybill(*rows)
    await story.go(minutes=30)
    (text,) = story.texts("cdek-support")
    assert re.fullmatch(r"Причина: [а-яёА-ЯЁ -]+", text.splitlines()[-1])


async def test_cdek_is_reminded_in_its_hours_and_the_integration_team_called_after_six_of_them() -> None:
    story = await waybill(parcel(None), ship_by="+5d")
    await story.go(days=1)
    assert story.told() == [
        ("cdek-support", "Mon 12:00"),
        ("cdek-support", "Mon 14:00"),
        ("cdek-support", "Mon 16:00"),
        ("integration-team", "Mon 18:00"),
        ("cdek-support", "Tue 09:00"),  # at 18:00 they go home
        ("cdek-support", "Tue 11:00"),
    ]
    assert NoticeKind.REMINDER in {notice.kind for notice in story.notices("cdek-support")}


async def test_the_integration_team_is_called_three_hours_before_shipping_whatever_cdek_is_doing() -> None:
    story = await waybill(parcel(None), ship_by="+5h")
    await story.go(minutes=110)
    assert {contact for contact, _ in story.told()} == {"cdek-support"}
    await story.go(minutes=15)
    assert [at for contact, at in story.told() if contact == "integration-team"] == ["Mon 14:00"]
    assert f"{PARCEL}, отгрузить до 02.03.2026 17:00 MSK, сделка https://portal.example/crm/deal/details/77/" in story.texts("integration-team")[0]


async def test_the_delivery_status_and_one_comment_follow_the_waybill_also_when_cdek_made_it_by_hand() -> None:
    story = await waybill(parcel(None))
    await story.go(hours=1)
    made(story)
    await story.go(hours=1)
    assert story.resolution == "handled"
    assert story.args(UPDATE) == [{"id": "77", "fields": {"UF_CRM_DELIVERY_STATUS": "created"}}]
    assert story.args(COMMENT) == [{"deal_id": "77", "text": "Накладная СДЭК 1105550001 создана."}]
    assert story.world.rows["bitrix24.deals"]["77"]["delivery_status"] == "created"
    await story.go(hours=12)
    assert len(story.calls()) == 2
    assert story.texts("cdek-support")[-1].startswith("Снова в порядке")


async def test_two_deals_of_one_posting_are_not_written_to() -> None:
    story = await waybill(parcel(None), deals=(DEAL, {**DEAL, "id": "78"}))
    await story.go(hours=1)
    made(story)
    await story.go(hours=1)
    assert (story.resolution, story.calls()) == ("handled", [])


async def test_a_diagnosis_that_nobody_answers_reaches_people_all_the_same() -> None:
    story = await waybill(parcel(None))
    story.world.switch("logistic", up=False)
    await story.go(minutes=20)
    assert (story.incident.why, story.told()) == (Why.DIAGNOSING, [])
    await story.go(minutes=30)
    assert story.incident.cause == "undiagnosed"
    assert {contact for contact, _ in story.told()} == {"cdek-support"}


# ── What a text means ────────────────────────────────────────────────────────────────────────────────────────────────

CODES = [each["code"] for each in json.loads((ROOT / "tests/data/cdek/error_codes.json").read_text(encoding="utf-8")) if each["kind"] == "error"]
DICTIONARY = classifier(config().causes)


@pytest.mark.parametrize("code", [code for code in CODES if cdek.cause_of([code]) in (cdek.ADDRESS, cdek.REGION, cdek.TEMPORARY)])
def test_a_code_of_cdeks_means_the_same_in_the_outbox(code: str) -> None:
    assert DICTIONARY(f"CDEK refused: {code}") == cdek.cause_of([code])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("502 Bad Gateway", "temporary"),
        ("HTTP 503", "temporary"),
        ("status=500, body is empty", "temporary"),
        ("Package 5512: weight is empty", "other"),
        ("order OZ-1234-0503-1 was rejected", "other"),
    ],
)
def test_a_number_in_an_error_is_not_taken_for_a_status(text: str, cause: str) -> None:
    assert DICTIONARY(text) == cause


# ── The outbox ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def outbox(**event: Any) -> Story:
    story = Story(*family("outbox-error"))
    errors = {"first_error_at": "-1h", "last_error_at": "-1h", "errors": 1}
    story.plant({"logistic.outbox": [{"id": "5", "package_number": PARCEL, **errors, **event}]})
    await story.begin(1)
    return story


async def test_an_error_of_an_address_goes_to_those_who_mend_addresses() -> None:
    story = await outbox(error_text=ADDRESS)
    await story.go(minutes=20)
    assert [contact for contact, _ in story.told()] == ["crm-support"]
    assert f"{PARCEL} — {ADDRESS}" in story.texts("crm-support")[0]


async def test_a_temporary_error_gets_two_hours_and_ends_when_the_same_event_succeeds() -> None:
    story = await outbox(error_text=TEMPORARY)
    await story.go(minutes=90)
    assert (story.incident.why, story.told()) == (Why.WAITING, [])
    story.change(logistic__outbox={"id": "5", "processed_at": story.now})
    await story.go(minutes=30)
    assert (story.resolution, story.told()) == ("self_healed", [])


async def test_an_event_that_succeeded_before_its_last_error_is_still_broken() -> None:
    story = await outbox(error_text=REGION, processed_at="-2h")
    await story.go(minutes=20)
    assert [contact for contact, _ in story.told()] == ["integration-team"]
    story.change(logistic__outbox={"id": "5", "processed_at": story.now})
    await story.go(minutes=20)
    assert story.resolution == "handled"


@pytest.mark.parametrize(("error", "cause"), [(REGION, "region"), (TEMPORARY, "temporary"), ("Unheard of", "other")])
async def test_what_the_cause_of_an_outbox_error_means_stands_in_words(error: str, cause: str) -> None:
    story = await outbox(error_text=error)
    await story.go(hours=3)
    assert re.search(rf"причина: {cause} \([а-яё][а-яё ,]+\)\.$", story.texts("integration-team")[0], re.MULTILINE)


async def test_many_errors_of_one_cause_are_one_message() -> None:
    story = Story(*family("outbox-error"))
    errors = {"first_error_at": "-1h", "last_error_at": "-1h", "errors": 3, "error_text": REGION}
    story.plant({"logistic.outbox": [{"id": str(n), "package_number": f"OZ-{n}", **errors} for n in range(1, 10)]})
    await story.begin(1)
    await story.go(minutes=20)
    (text,) = story.texts("integration-team")
    assert "причина: region" in text
    assert all(f"outbox {n}, ошибок 3" in text for n in range(1, 10))


async def test_events_of_other_jobs_and_without_errors_are_not_looked_at() -> None:
    story = await outbox(event="SendMailJob:Package:5", error_text=REGION)
    story.plant({"logistic.outbox": [{"id": "6"}]})
    await story.go(hours=1)
    assert story.incidents == []


async def test_one_parcel_seen_by_both_rules_is_one_page() -> None:
    story = Story(*family("ozon-waybill-missing", "outbox-error"))
    story.plant({"ozon.postings": [{"posting_number": POSTING, "number": "M1", "status_since": "-3h"}], "bitrix24.deals": [DEAL]})
    story.plant(parcel(ADDRESS))
    await story.begin(1)
    await story.go(hours=2)
    assert {one.rule for one in story.incidents} == {"ozon-waybill-missing", "outbox-error"}
    assert [contact for contact, _ in story.told()] == ["crm-support"]
