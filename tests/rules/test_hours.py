"""The instruction's three contacts have hours: who is told when nobody is there, and when it cannot wait."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rules.world import Story, config, family

from daemon.domain.rule import ChannelRef
from daemon.sandbox.scenario import Answer

POSTING = "1234-0001-1"
CDEK, CRM, TEAM = "cdek-support", "crm-support", "integration-team"


async def story_at(day: int, hour: int, *stems: str) -> Story:
    """A story that begins on a day of the week (0: Monday) at an hour, Moscow time; not before Monday, 13:00."""
    story = Story(*family(*stems))
    await story.begin(1)
    await story.run(timedelta(days=day, hours=hour - 12))
    return story


async def without_waybill(day: int, hour: int, ship_by: str) -> Story:
    story = await story_at(day, hour, "ozon-waybill-missing")
    story.plant({"ozon.postings": [{"posting_number": POSTING, "number": "M1", "status_since": "-3h", "ship_by": ship_by}]})
    story.plant({"logistic.packages": [{"id": "5", "number": f"OZ-{POSTING}"}], "logistic.outbox": [{"id": "5"}]})
    return story


async def without_deal(day: int, hour: int, ship_by: str) -> Story:
    story = await story_at(day, hour, "namshi-deal-missing")
    row = {"posting_number": "P1", "market_order_id": "M1", "bitrix_order_id": "77", "ship_by": ship_by}
    story.plant({"namshi-db.orders": [row], "namshi.orders": [{"number": "M1"}]}, {"namshi-integration.change_order_status": "no_effect"})
    return story


def test_the_contacts_are_those_of_the_instruction() -> None:
    contacts = config().contacts
    assert set(contacts) == {TEAM, CRM, CDEK}
    assert [one.name for one in contacts.values() if one.external] == [CDEK]
    assert (contacts[CRM].fallback, contacts[CDEK].fallback) == (TEAM, TEAM)
    assert contacts[CDEK].channels == (ChannelRef("telegram", {"chat": "-1001000000002"}),)
    assert contacts[CRM].channels == (ChannelRef("bitrix24", {"chat": "chat512"}),)


async def test_what_comes_up_in_the_evening_waits_for_cdeks_morning() -> None:
    story = await without_waybill(0, 20, "+2d")
    await story.go(hours=14)
    assert story.told()[0] == (CDEK, "Tue 09:00")
    assert TEAM not in {contact for contact, _ in story.told()}


async def test_a_deadline_before_cdek_opens_is_told_to_who_stands_in_at_once() -> None:
    story = await without_waybill(0, 20, "+12h")  # ship by Tuesday, 08:00
    await story.go(minutes=30)
    assert [contact for contact, _ in story.told()] == [TEAM]
    (text,) = story.texts(TEAM)
    assert "Это для CDEK Support (OZON X Lichi): им сейчас не доставить." in text
    assert f"Просим создать заказ вручную: OZ-{POSTING}" in text
    assert "orderheal incidents claim" in text, "our own people get what they need"


async def test_the_integration_team_is_called_at_night_in_time_before_shipping() -> None:
    story = await without_waybill(0, 20, "+15h")  # ship by Tuesday, 11:00: CDEK opens before, but too late for our lead
    await story.go(hours=14)
    assert story.told()[0] == (TEAM, "Tue 08:00")
    assert (CDEK, "Tue 09:00") in story.told()


async def test_cdek_has_its_weekend_and_its_six_hours_count_without_it() -> None:
    story = await without_waybill(4, 16, "+6d")  # Friday; the scan comes at 16:10
    await story.go(days=3, hours=2)
    assert story.told(CDEK) == [
        (CDEK, "Fri 16:10"),
        (CDEK, "Mon 09:10"),  # two hours of theirs: an hour and fifty minutes before the weekend, ten minutes after it
        (CDEK, "Mon 11:10"),
        (CDEK, "Mon 13:10"),
        (CDEK, "Mon 15:10"),
        (CDEK, "Mon 17:10"),
    ]
    assert story.told(TEAM) == [(TEAM, "Mon 13:10")]


async def test_a_deal_missing_at_night_waits_for_crm_support() -> None:
    story = await without_deal(0, 22, "+20h")
    await story.go(hours=12)
    assert story.told() == [(CRM, "Tue 09:00")]


async def test_a_deal_whose_order_ships_before_they_come_is_told_to_the_integration_team_at_night() -> None:
    story = await without_deal(0, 22, "+8h")  # ship by Tuesday, 06:00
    await story.go(minutes=30)
    assert [contact for contact, _ in story.told()] == [TEAM]
    assert "Это для CRM Support: им сейчас не доставить." in story.texts(TEAM)[0]


@pytest.mark.parametrize("system", ["bitrix24", "telegram"])
async def test_a_channel_that_refuses_hands_over_to_who_stands_in(system: str) -> None:
    story = await without_deal(1, 12, "+2d") if system == "bitrix24" else await without_waybill(1, 12, "+5d")
    story.world.script(f"{system}.deliver", [Answer.model_validate({"answer": "refused"})])
    await story.go(minutes=45)
    assert {contact for contact, _ in story.told()} == {TEAM}
