"""What the release may do in the cluster that runs it: nothing. Asked of the API server's own RBAC. `make cluster`."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import DAEMON, NAME, Release
from tests.cluster.control_plane import Refused
from tests.cluster.kubelet import Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TEMPTING = [
    "* *", "get secrets", "list secrets", "get configmaps", "watch pods", "create pods", "delete pods", "create pods/exec", "patch deployments.apps",
    "create jobs.batch", "create serviceaccounts/token", "impersonate users", "get nodes", "create rolebindings.rbac.authorization.k8s.io",
]  # fmt: skip
TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_the_service_account_may_do_no_more_than_one_that_nobody_gave_anything(installed: Release) -> None:
    def may(account: str) -> set[str]:
        listed = installed.kubectl("auth", "can-i", "--list", "--no-headers", "--as", f"system:serviceaccount:{installed.namespace}:{account}")
        return set(listed.splitlines())

    assert may(NAME) == may("default") != set()
    assert installed.get("roles,rolebindings") == []
    bound = [subject.get("name") for each in installed.cluster.get("clusterrolebindings") for subject in each.get("subjects", ())]
    assert "system:masters" in bound
    assert NAME not in bound


def test_the_service_account_may_do_none_of_what_a_cluster_is_taken_with(installed: Release) -> None:
    def allowed(asked: str, *more: str) -> bool:
        try:
            return installed.kubectl("auth", "can-i", *asked.split(), *more).strip() == "yes"
        except Refused:
            return False

    account = f"system:serviceaccount:{installed.namespace}:{NAME}"
    assert [asked for asked in TEMPTING if allowed(asked)] == TEMPTING, "whom it was given may"
    assert [asked for asked in TEMPTING if allowed(asked, "--as", account)] == []


def test_no_token_is_mounted_where_the_api_server_would_mount_one(installed: Release) -> None:
    """The pods as the API server's admission left them; a pod beside them, which says nothing about it, gets a token."""
    installed.helm("test")
    other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": {"containers": [{"name": "other", "image": "other"}]}}
    installed.kubectl("apply", "--filename", "-", given=json.dumps(other))

    def mounts(pod: Manifest) -> set[str]:
        spec = pod["spec"]
        return {mount["mountPath"] for each in (*spec.get("initContainers", ()), *spec["containers"]) for mount in each.get("volumeMounts", ())}

    assert TOKENS in mounts(installed.get("pod", "other"))
    ours = installed.get("pods", "-l", "app.kubernetes.io/instance=shop")
    assert len(ours) == 3
    assert [mounts(each) for each in ours] == [{"/config", "/tmp", "/run/orderheal"}] * 3
    assert {each["spec"]["serviceAccountName"] for each in installed.get("pods", "-l", DAEMON)} == {NAME}
