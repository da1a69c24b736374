"""What can be said of the chart without rendering it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from jsonschema import Draft7Validator

from tests.chart.readme import CHART, readme, values

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
NOT_READ = {"global"}  # Helm's own, handed down by a parent chart


def known(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, below in schema.get("properties", {}).items():
        yield (*path, name)
        yield from known(below, (*path, name))


def given(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict):
        for name, below in tree.items():
            yield (*path, name)
            yield from given(below, (*path, name))


def test_the_readme_is_made_from_the_values_as_they_are() -> None:
    assert (CHART / "README.md").read_text(encoding="utf-8") == readme(), "make docs"


def test_every_value_is_documented() -> None:
    documented = {tuple(each.path.split(".")) for each in values()}
    leaves = {path for path in given(DEFAULTS) if not any(other[: len(path)] == path and other != path for other in given(DEFAULTS))}
    assert {leaf for leaf in leaves if not any(leaf[: len(path)] == path for path in documented)} == set()
    assert [each.path for each in values() if not each.meaning.endswith((".", "`."))] == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    Draft7Validator.check_schema(SCHEMA)
    top = {path[0] for path in known(SCHEMA)} - NOT_READ
    assert top == set(DEFAULTS)
    assert list(Draft7Validator(SCHEMA).iter_errors(DEFAULTS)) == []


def test_every_level_that_the_chart_reads_is_closed() -> None:
    opened = {"podSecurityContext", "securityContext", "affinity", "global"}  # Kubernetes' own, handed on as they are
    loose = {
        name for name, below in SCHEMA["properties"].items()
        if below.get("type") == "object" and "additionalProperties" not in below and name not in opened
    }  # fmt: skip
    assert loose == set()
    assert SCHEMA["additionalProperties"] is False


def test_the_chart_image_and_package_are_of_one_version() -> None:
    project = tomllib.loads((CHART.parent / "pyproject.toml").read_text())["project"]["version"]
    said = re.search(r"^ARG VERSION=(\S+)$", (CHART.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert said is not None
    assert (yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"], said[1]) == (project, project)


def test_a_stop_has_the_time_it_may_take() -> None:
    least = SCHEMA["properties"]["terminationGracePeriodSeconds"]["minimum"]
    assert DEFAULTS["terminationGracePeriodSeconds"] >= least >= 45
