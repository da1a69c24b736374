"""Whoever is called has a page: one for each alert and each rule, in both languages, and the guide lists them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from daemon.app import load
from tests.docs.reading import DOCS, ROOT, anchors, links

ALERTS = {
    rule["alert"]: rule["annotations"]["runbook_url"]
    for file in (ROOT / "helm" / "alerts").glob("*.yaml")
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RULES = {name: rule.runbook for name, rule in load([ROOT / "config.yaml"], {}, offline=True).rules.items()}
LISTS = {"": DOCS / "guide" / "runbooks.ru.md", ".en": DOCS / "guide" / "runbooks.md"}


def page_of(runbook: str, suffix: str) -> Path:
    """A runbook in Russian (no suffix) or in English."""
    path = runbook[runbook.index("docs/") :]
    return ROOT / re.sub(r"(\.en)?\.md$", f"{suffix}.md", path)


@pytest.mark.parametrize("suffix", LISTS, ids=["ru", "en"])
@pytest.mark.parametrize("name", [*ALERTS, *RULES])
def test_it_has_a_page_that_names_it_and_that_the_guide_lists(name: str, suffix: str) -> None:
    page = page_of((ALERTS | RULES)[name], suffix)
    assert f"`{name}`" in page.read_text(encoding="utf-8")
    listed = LISTS[suffix]
    assert page in {(listed.parent / target).resolve() for target in links(listed)}
    assert f"`{name}`" in listed.read_text(encoding="utf-8")


@pytest.mark.parametrize("listed", LISTS.values(), ids=["ru", "en"])
def test_the_guide_lists_nothing_that_is_not(listed: Path) -> None:
    rows = [line for line in listed.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "runbooks/" in line]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z-]+)`", row)}
    assert named == ALERTS.keys() | RULES.keys()


def test_pages_are_no_stubs() -> None:
    assert all(len(anchors(page_of(runbook, suffix))) >= 3 for runbook in (ALERTS | RULES).values() for suffix in LISTS)
