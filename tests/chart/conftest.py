"""The chart, rendered. Charts are rendered by the real helm, which tests/tools.py fetches; without it these tests say so and skip."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.readme import CHART
from tests.tools import tool

Manifest = Mapping[str, Any]
VALUES = Path(__file__).parent / "values"
SETS = tuple(sorted(path.stem for path in VALUES.glob("*.yaml")))


@dataclass(frozen=True)
class Chart:
    """A chart and the helm that renders it."""

    helm: Path
    folder: Path

    def ran(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.helm, *arguments], capture_output=True, text=True, check=False)

    def text(self, values: str, *more: str | Path, kube: str = "1.37") -> str:
        """What helm prints for a set of values."""
        ran = self.ran(
            "template", "shop", self.folder, "--namespace", "apps", "--values", VALUES / f"{values}.yaml", "--kube-version", kube, *more
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def render(self, values: str, *more: str | Path, kube: str = "1.37") -> Rendered:
        """The objects that come of a set of values."""
        return Rendered([found for found in yaml.safe_load_all(self.text(values, *more, kube=kube)) if found])

    def refused(self, values: str, *more: str | Path) -> str:
        """Why helm renders nothing."""
        ran = self.ran("template", "shop", self.folder, "--values", VALUES / f"{values}.yaml", *more)
        assert ran.returncode != 0, "it was rendered"
        return ran.stderr

    def with_files(self, folder: Path, files: Mapping[str, str]) -> Chart:
        """The chart with further files in it."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return Chart(self.helm, folder)


@dataclass(frozen=True)
class Rendered:
    """Objects that go to the cluster."""

    all: Sequence[Manifest] = field(default_factory=list)

    def of(self, kind: str) -> list[Manifest]:
        return [each for each in self.all if each["kind"] == kind]

    def one(self, kind: str, name: str = "shop-orderheal") -> Any:
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def pods(self) -> dict[str, Any]:
        """Every pod's spec, by its component."""
        whole = [each["spec"]["template"] for each in self.all if each["kind"] in ("Deployment", "Job")] + self.of("Pod")
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"] for each in whole}

    def containers(self) -> list[Any]:
        return [each for pod in self.pods().values() for each in (*pod.get("initContainers", ()), *pod["containers"])]


Needed = Callable[[str], Path]


@pytest.fixture(scope="session")
def needed() -> Needed:
    """Where a tool is, or a skip that says how to have it."""

    def find(name: str) -> Path:
        found = tool(name)
        if found is None:
            pytest.skip(f"{name} is not here; make chart fetches it")
        return found

    return find


@pytest.fixture(scope="session")
def chart(needed: Needed) -> Chart:
    return Chart(needed("helm"), CHART)
