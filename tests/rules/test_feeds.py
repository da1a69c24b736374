"""Problem 3 of the instruction: imports of the catalogue into Lamoda that fail, or hang."""

from __future__ import annotations

from typing import Any

import pytest
from rules.world import Story, family

ERRORS = [{"sku": "LD-1", "message": "Price is missing"}, {"sku": "LD-2", "message": "=Нет; бренда"}]


async def feeds(**feed: Any) -> Story:
    story = Story(*family("lamoda-feed-failed", "lamoda-feed-stuck"))
    row = {"feed": "cb106552-87f3", "created_at": "-3h", **feed}
    status = {**row, "errors": ERRORS} if row.get("failed") else row
    story.plant({"lamoda.feeds": [row], "lamoda.feed_status": [status]})
    await story.begin(1)
    return story


@pytest.mark.parametrize("feed", [{"failed": 2}, {"failed": 2, "status": "Error"}], ids=str)
async def test_a_failed_import_is_told_once_with_its_errors_by_sku_as_a_table(feed: dict[str, Any]) -> None:
    story = await feeds(total=40, processed=40, updated_at="-1h", **feed)
    await story.go(days=2)
    assert [contact for contact, _ in story.told()] == ["integration-team"]
    (text,) = story.texts("integration-team")
    assert f"Импорт cb106552-87f3, ProductCreate (csv): {feed.get('status', 'Finished')}, с ошибками 2 из 40." in text
    assert "LD-1 — Price is missing\nLD-2 — =Нет; бренда" in text
    assert "Сломано с 02.03.2026 11:00 MSK (1 ч)." in text, "since it ended"
    assert "проверяем дальше" not in text, "it is told and over"
    assert "incidents claim" not in text, "what has ended cannot be claimed"
    ((table,),) = (notice.tables for notice in story.notices())
    assert (table.name, table.columns) == ("lamoda-cb106552-87f3.csv", ("sku", "message"))
    assert table.rows == (("LD-1", "Price is missing"), ("LD-2", "=Нет; бренда"))
    assert story.resolution == "told"


async def test_finished_without_failures_is_success_and_other_feeds_are_not_ours() -> None:
    story = await feeds(failed=0)
    story.plant({"lamoda.feeds": [{"feed": "price", "action": "PriceUpdate", "failed": 3}]})
    await story.go(hours=5)
    assert story.incidents == []


async def test_a_list_that_does_not_say_how_many_failed_is_not_taken_for_success() -> None:
    story = await feeds(failed=None)
    story.change(lamoda__feed_status={"feed": "cb106552-87f3", "failed": 1, "errors": ERRORS[:1]})
    await story.go(minutes=30)
    assert [contact for contact, _ in story.told()] == ["integration-team"]


@pytest.mark.parametrize("status", ["Queued", "Processing"])
async def test_an_import_that_hangs_is_told_after_two_hours_and_well_again_when_it_ends(status: str) -> None:
    story = await feeds(status=status, created_at="-30m", total=40, processed=10, failed=0)
    await story.go(minutes=85)
    assert story.told() == []
    await story.go(minutes=20)
    assert [contact for contact, _ in story.told()] == ["integration-team"]
    assert f"cb106552-87f3: ProductCreate (csv), {status}, обработано 10 из 40" in story.texts("integration-team")[0]
    story.change(lamoda__feeds={"feed": "cb106552-87f3", "status": "Finished", "processed": 40})
    story.change(lamoda__feed_status={"feed": "cb106552-87f3", "status": "Finished", "processed": 40})
    await story.go(hours=1)
    assert story.resolution == "handled"


async def test_an_import_that_hung_and_then_failed_is_told_for_both() -> None:
    story = await feeds(status="Processing", total=40, processed=10, failed=0)
    await story.go(minutes=30)
    story.change(lamoda__feeds={"feed": "cb106552-87f3", "status": "Finished", "failed": 2})
    story.change(lamoda__feed_status={"feed": "cb106552-87f3", "status": "Finished", "failed": 2, "errors": ERRORS})
    await story.go(hours=1)
    titles = [text.partition("\n")[0] for text in story.texts("integration-team")]
    assert titles[0] == "Импорт каталога Lamoda не заканчивается"
    assert set(titles[1:]) == {"Снова в порядке: Импорт каталога Lamoda не заканчивается", "Импорт каталога Lamoda завершился с ошибками"}
