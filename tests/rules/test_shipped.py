"""The shipped rules as files: they load, name pages that exist, and leave a healthy shop alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from rules.world import ROOT, Story, config, shipped

from daemon.domain.rule import Rule
from daemon.language.ruleset import load_rules

RULES = list(shipped().values())


def test_every_problem_of_the_instruction_has_its_rule() -> None:
    files = {Path(rule.place.file).stem for rule in RULES}
    assert files == {
        "order-missing", "order-not-sent", "deal-missing", "namshi-deal-missing", "lamoda-feed-failed", "lamoda-feed-stuck",
        "ozon-waybill-missing", "outbox-error", "order-duplicated", "deal-duplicated", "identifier-mismatch",
    }  # fmt: skip
    assert len(RULES) == 27


def test_the_shipped_rules_load_without_a_mistake() -> None:
    said = {warning.message for warning in load_rules([ROOT / "rules"], config().vocabulary()).warnings}
    assert said == {"this source cannot say how many records it has, so of the guard only max_broken applies"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_names_a_page_in_two_languages(rule: Rule) -> None:
    russian = ROOT / rule.runbook
    english = russian.with_suffix(".en.md")
    for page, other in ((russian, english), (english, russian)):
        text = page.read_text(encoding="utf-8")
        assert f"`{rule.name}`" in text, f"{page.name} does not say that it is about {rule.name}"
        assert f"rules/{Path(rule.place.file).name}" in text
        assert f"]({other.name})" in text


async def test_a_healthy_shop_is_left_alone() -> None:
    story = Story(*RULES)
    for number, shop in enumerate(("ozon", "lamoda", "kaspi", "namshi")):
        order, deal = {"posting_number": f"{shop}-1", "market_order_id": f"M-{shop}"}, f"7{number}"
        story.plant({
            f"{shop}-db.orders": [{**order, "bitrix_order_id": deal}],
            f"{shop}.orders": [{"number": f"M-{shop}", "id": f"I-{shop}"}],
            "bitrix24.deals": [{**order, "id": deal}],
        })  # fmt: skip
    story.plant({"ozon.postings": [{"posting_number": "ozon-1"}], "cdek.orders": [{"number": "OZ-ozon-1"}]})
    story.plant({"lamoda.feeds": [{"feed": "F1"}], "lamoda.feed_status": [{"feed": "F1"}]})
    story.plant({"logistic.outbox": [{"id": "1", "processed_at": "-1h"}], "logistic.packages": [{"id": "1"}]})
    await story.begin(1)
    await story.go(hours=3)
    assert (story.incidents, story.calls(), story.told()) == ([], [], [])
