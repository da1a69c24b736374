"""A cluster for the whole run, and a release of the chart in a namespace of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.chart.readme import CHART
from tests.cluster.control_plane import Cluster, absent, control_plane
from tests.cluster.kubelet import Kubelet, Started

ROOT = Path(__file__).parents[2]
NAME = "shop-orderheal"
DAEMON = "app.kubernetes.io/component=daemon"
HASH = "pod-template-hash"
VALUES = """existingSecret: orderheal
networkPolicy:
  publicHttps: true
  targets: [{name: databases, to: [{ipBlock: {cidr: 10.1.2.0/24}}], ports: [5432]}]
"""
NUMBERS = count(1)


@dataclass(frozen=True)
class Release:
    """The chart in a namespace, with the shop's configuration and a folder of rules that a test may change."""

    cluster: Cluster
    kubelet: Kubelet
    namespace: str
    folder: Path

    def helm(self, action: str, *more: str | Path) -> str:
        return self.cluster.helm(action, "shop", *more, "--namespace", self.namespace)

    def apply(self, action: str, *more: str | Path) -> str:
        """Install or upgrade as docs/install.md says, and wait until the daemons are ready."""
        rules = (part for path in self.files() for part in ("--set-file", rf"rules.{path.name.replace('.', chr(92) + '.')}={path}"))
        wait = () if any(str(each).startswith("--wait") for each in more) else ("--wait",)
        return self.helm(action, CHART, "--values", self.folder / "values.yaml", "--set-file", f"config={ROOT}/config.yaml", *rules, *wait, *more)

    def files(self) -> list[Path]:
        return sorted((self.folder / "rules").glob("*.yaml"))

    def rules(self) -> dict[str, str]:
        """The rules as they stand in the folder."""
        return {path.name: path.read_text(encoding="utf-8") for path in self.files()}

    def change(self, name: str, old: str, new: str) -> None:
        """Put something else into a rule."""
        path = self.folder / "rules" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def get(self, kind: str, *arguments: str) -> Any:
        return self.cluster.get(kind, *arguments, "--namespace", self.namespace)

    def kubectl(self, *arguments: str | Path, given: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, "--namespace", self.namespace, given=given)

    def mounted(self) -> dict[str, str]:
        """The rules that the release's ConfigMap holds, by file."""
        data: Mapping[str, str] = self.get("configmap", NAME)["data"]
        return {key.removeprefix("rule."): text for key, text in data.items() if key.startswith("rule.")}

    def replica_sets(self) -> dict[str, int]:
        """Replicas by the hash of the pod template."""
        return {each["metadata"]["labels"][HASH]: each["spec"]["replicas"] for each in self.get("replicaset", "-l", DAEMON)}

    def daemons(self) -> list[Started]:
        """What the daemons that are there now read when they were started."""
        there = {each["metadata"]["name"] for each in self.get("pods", "-l", DAEMON)}
        return [each for each in self.kubelet.of(self.namespace) if each.name in there]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane; without the programs for it the tests say so and skip."""
    if why := absent():
        pytest.skip(why)
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="session")
def kubelet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    with Kubelet(cluster, tmp_path_factory.mktemp("kubelet")) as playing:
        yield playing


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """The name of a namespace of the test's own, whose default ServiceAccount is there."""
    name = f"apps-{next(NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name)
    return name


@pytest.fixture
def release(cluster: Cluster, kubelet: Kubelet, namespace: str, tmp_path: Path) -> Release:
    """A release that is not yet installed, with the rules that orderheal ships."""
    (tmp_path / "values.yaml").write_text(VALUES, encoding="utf-8")
    (tmp_path / "rules").mkdir()
    for path in (ROOT / "rules").glob("*.yaml"):
        (tmp_path / "rules" / path.name).write_bytes(path.read_bytes())
    return Release(cluster, kubelet, namespace, tmp_path)


@pytest.fixture
def installed(release: Release) -> Release:
    release.apply("install")
    return release
