"""The page for who writes rules is true: its rules load, its mistakes are said in its words, its keys are all there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from daemon.language.document import RuleDocument
from daemon.language.ruleset import load_rules
from tests.language.shop import VOCABULARY
from tests.language.test_broken_rules import keys_of, mistakes_of

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
RULES = re.findall(r"^```yaml rule\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MISTAKES = re.findall(
    r"^- (.*)\n\+ (.*)$", "\n".join(re.findall(r"^```yaml mistake\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)), re.MULTILINE
)

PLAIN = {
    "name": "name: plain",
    "title": "title: Просто",
    "owner": "owner: integration-team",
    "runbook": "runbook: r.md",
    "from": "  from: ozon-db.orders",
    "broken": "  broken: paid",
    "key": "  key: ${posting_number}",
}
BELOW_DETECT = {"from", "broken", "key", "lookup", "value"}


def test_the_page_has_examples_of_both_kinds() -> None:
    assert len(RULES) >= 7
    assert len(MISTAKES) >= 15


@pytest.mark.parametrize("text", RULES, ids=[yaml.safe_load(text)["name"] for text in RULES])
def test_a_rule_of_the_page_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert load_rules([tmp_path / "x.yaml"], VOCABULARY).rules


@pytest.mark.parametrize(("line", "said"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_of_the_page_is_said_in_its_words(line: str, said: str, tmp_path: Path) -> None:
    key = line.partition(":")[0]
    parts = PLAIN | {key: f"  {line}" if key in BELOW_DETECT else line}
    above = [text for name, text in parts.items() if name not in BELOW_DETECT]
    below = [text for name, text in parts.items() if name in BELOW_DETECT]
    lines = mistakes_of("\n".join([*above, "detect:", *below]), tmp_path)
    assert any(said in each for each in lines), lines


def test_every_key_of_a_rule_is_spoken_of() -> None:
    own = {key.rpartition(".")[2] for key in keys_of(RuleDocument)}
    assert {key for key in own if not re.search(rf"\b{key}\b", PAGE)} == set()
