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


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.name)
def test_what_to_do_begins_with_a_command_to_paste(path: Path) -> None:
    first = re.search(r"^1\. .*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert re.search(r"`(orderheal|kubectl) ", first[0]), first[0]


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.name)
def test_a_persons_word_says_about_what(path: Path) -> None:
    """A command that wants to know about which incidents is refused without."""
    assert (
        re.findall(
            r"`(orderheal incidents (?:claim|retry|dismiss|release|show)|orderheal (?:explain|pause|resume|scan))`", path.read_text()
        )
        == []
    )


def expanded(values: str) -> list[str]:
    """promtool's `3x2 1 0+60x2` as single samples."""
    samples: list[str] = []
    for part in values.split():
        if found := re.fullmatch(r"(-?[\d.]+)([+-][\d.]+)?x(\d+)", part):
            samples += [str(float(found[1]) + float(found[2] or 0) * number) for number in range(int(found[3]) + 1)]
        else:
            samples.append(part)
    return samples


def test_one_failed_scrape_starts_no_alert_anew(tmp_path: Path) -> None:
    """A failed scrape takes every series away for a moment; what has been true for long is none the less true."""
    document = yaml.safe_load(TESTS.read_text(encoding="utf-8"))
    document["rule_files"] = [str((TESTS.parent / path).resolve()) for path in document["rule_files"]]
    cases = {}
    for test in document["tests"]:
        fires = next((case for case in test["alert_rule_test"] if case["exp_alerts"]), None)
        if fires and test["input_series"] and "stale" not in str(test["input_series"]):
            cases[fires["alertname"]] = test | {"alert_rule_test": [fires]}
    assert cases.keys() == ALL.keys() - {"OrderhealAbsent", "OrderhealDrillFailing"}, "their own cases have a gap"
    for test in cases.values():
        at = int(test["alert_rule_test"][0]["eval_time"].removesuffix("m")) - 1
        for series in test["input_series"]:
            samples = expanded(series["values"])
            series["values"] = " ".join([*samples[:at], "stale", *samples[at + 1 :]])
    (tmp_path / "gap.yaml").write_text(yaml.safe_dump(document | {"tests": list(cases.values())}), encoding="utf-8")
    promtool("test", "rules", str(tmp_path / "gap.yaml"))
