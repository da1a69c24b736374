"""Alerts: each can fire and can stay silent, says what it means, and leads to a page whose commands exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from daemon.cli import cli

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "alerts"
TESTS = Path(__file__).parent / "alerts" / "alerts.test.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts"


def rules() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(ALERTS.glob("*.yaml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


ALL = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*words: str) -> None:
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("promtool is not installed here: alert rules are NOT tried")
    done = subprocess.run([binary, *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_to_say_about_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, sorted(ALERTS.glob("*.yaml"))))


def test_every_alert_fires_when_it_should_and_is_silent_when_it_should() -> None:
    promtool("test", "rules", str(TESTS))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == ALL.keys()


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_alert_says_how_urgent_it_is_what_it_means_and_what_to_do(name: str) -> None:
    rule = ALL[name]
    assert re.fullmatch(r"Orderheal([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["for"] != "0m", "one bad evaluation calls nobody"
    said = rule["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert "{{" not in said["summary"], "a summary is one sentence for all; values stand in the description"
    assert said["summary"].endswith(".")
    kebab = re.sub(r"(?<!^)([A-Z])", r"-\1", name.removeprefix("Orderheal")).lower()
    assert said["runbook_url"] == f"docs/runbooks/alerts/{kebab}.en.md"


def test_every_alert_has_its_runbook_in_both_languages_and_no_runbook_is_left_over() -> None:
    wanted = {Path(rule["annotations"]["runbook_url"]).name for rule in ALL.values()}
    wanted |= {name.replace(".en.md", ".md") for name in wanted}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == wanted
    for rule in ALL.values():
        english = ROOT / rule["annotations"]["runbook_url"]
        russian = english.with_name(english.name.replace(".en.md", ".md"))
        assert f"`{rule['alert']}`" in english.read_text(encoding="utf-8")
        assert f"`{rule['alert']}`" in russian.read_text(encoding="utf-8")
        assert rule["labels"]["severity"] in english.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.name)
def test_every_command_of_a_runbook_exists(path: Path) -> None:
    for words, options in re.findall(r"`orderheal ([a-z]+(?: [a-z]+)*)([^`]*)`", path.read_text(encoding="utf-8")):
        command: click.Command = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"orderheal {words}"
            command = found
        known = {name for parameter in command.params for name in parameter.opts}
        assert set(re.findall(r"--[a-z]+", options)) <= known, f"orderheal {words}{options}"
