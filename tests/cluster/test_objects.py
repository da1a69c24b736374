"""Every object that the chart makes is one that a real API server takes, field by field. `make cluster`."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.chart.conftest import SETS, VALUES
from tests.chart.readme import CHART
from tests.cluster.control_plane import Cluster, Refused
from tests.cluster.kubelet import Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OPERATORS = {"monitoring.coreos.com/v1": ("ServiceMonitor", "PrometheusRule"), "external-secrets.io/v1": ("ExternalSecret",)}
GIVEN = [{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "apps"}, "value": 1}]


@pytest.fixture(scope="module")
def operators(cluster: Cluster) -> Cluster:
    """The cluster, with kinds of operators by name only, whose fields tests/chart judges, and what the values of a set refer to."""
    kinds = [definition(version, kind) for version, kinds in OPERATORS.items() for kind in kinds]
    cluster.kubectl("apply", "--filename", "-", given=yaml.safe_dump_all([*kinds, *GIVEN]))
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{each['metadata']['name']}" for each in kinds))
    return cluster


def definition(api: str, kind: str) -> Manifest:
    group, version = api.split("/")
    plural = f"{kind.lower()}s"
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
        "versions": [{"name": version, "served": True, "storage": True, "schema": anything}],
    }  # fmt: skip
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"}, "spec": spec}


def rendered(cluster: Cluster, namespace: str, values: str) -> list[Manifest]:
    """The objects of a set of values, hooks too, as helm renders them for what this API server serves."""
    text = cluster.helm("template", "shop", CHART, "--dry-run=server", "--namespace", namespace, "--values", VALUES / f"{values}.yaml")
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.parametrize("values", SETS)
def test_the_api_server_takes_every_object(operators: Cluster, namespace: str, values: str) -> None:
    objects = rendered(operators, namespace, values)
    operators.kubectl("create", "serviceaccount", "shop-orderheal", "--namespace", namespace)  # the doctor's pod asks for it
    taken = operators.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename", "-", given=yaml.safe_dump_all(objects)
    )
    assert len(taken.splitlines()) == taken.count("(server dry run)") == len(objects)
    if values == "all":
        assert {each["kind"] for each in objects} > {kind for kinds in OPERATORS.values() for kind in kinds}


def test_a_disruption_budget_has_the_version_that_is_served(operators: Cluster, namespace: str) -> None:
    (budget,) = [each for each in rendered(operators, namespace, "least") if each["kind"] == "PodDisruptionBudget"]
    assert budget["apiVersion"] == "policy/v1beta1"
    assert "policy/v1beta1" in operators.kubectl("api-versions").split()
    assert "policy/v1" not in operators.kubectl("api-versions").split()


@pytest.mark.parametrize(("old", "new"), [("replicas", "replicsa"), ("revisionHistoryLimit", "revisionHistory")])
def test_a_mistyped_field_would_be_refused(operators: Cluster, namespace: str, old: str, new: str) -> None:
    (deployment,) = [each for each in rendered(operators, namespace, "least") if each["kind"] == "Deployment"]
    mistyped = json.dumps(deployment).replace(f'"{old}"', f'"{new}"')
    with pytest.raises(Refused, match=new):
        operators.kubectl("apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename", "-", given=mistyped)
