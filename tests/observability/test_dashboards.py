"""Dashboards: fresh, complete, in both languages, and over nothing but metrics that the daemon has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from project_tools.dashboards import FOLDER, LANGUAGES, PAGES, files, stale
from project_tools.metrics import exposed, used

BOARDS = {path.relative_to(FOLDER).as_posix(): json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.rglob("*.json"))}
CYRILLIC = re.compile(r"[А-Яа-яЁё]")


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_what_is_committed_is_what_the_code_makes() -> None:
    assert stale() == [], "run make docs"


def test_making_them_twice_gives_the_same() -> None:
    assert files() == files()


def test_there_is_every_dashboard_in_every_language() -> None:
    assert len(BOARDS) == len(PAGES) * len(LANGUAGES)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert not board["editable"], "what is changed in Grafana would be lost at the next roll-out"
    assert {mark["name"] for mark in board["annotations"]["list"]}
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["datasource"]["uid"] in ("${datasource}", "${store}"), "a datasource is chosen, not written down"
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert bool(CYRILLIC.search(panel["title"] + panel["description"])) is name.startswith("ru/")


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_covers_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_can_be_narrowed_and_takes_rates_as_grafana_scrapes(name: str) -> None:
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            expr = target.get("expr", "")
            assert not expr or "$namespace" in expr or "ALERTS" in expr, expr
            for span in re.findall(r"(?:rate|increase)\([^[]+\[([^\]]+)\]", expr):
                assert span in ("$__rate_interval", "$__range", "24h", "5m"), expr


def test_both_languages_ask_the_same() -> None:
    for page in PAGES:
        english, russian = (
            [target for panel in panels(BOARDS[f"{folder}{page.name}.json"]) for target in panel["targets"]] for folder in ("", "ru/")
        )
        assert english == russian


def test_dashboards_and_alerts_name_only_metrics_that_there_are() -> None:
    known = exposed().keys()
    for place, names in used().items():
        assert names <= known, f"{place} names {sorted(names - known)}"
