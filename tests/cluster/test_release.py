"""A release on a real API server: installed, upgraded, rolled back, refused. `make cluster`."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from tests.cluster.conftest import DAEMON, NAME, Release
from tests.cluster.control_plane import Refused

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RULE = "deal-missing.yaml"


def checksum(release: Release) -> str:
    """The checksum that the daemons' pod template bears."""
    found: str = release.get("deployment", NAME)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    return found


def test_an_installation_checks_the_rules_and_then_starts_daemons_that_read_them(release: Release) -> None:
    notes = release.apply("install")
    order = [each.component for each in release.kubelet.started if each.namespace == release.namespace]
    assert order == ["migration", "daemon", "daemon"]
    (migration,) = release.kubelet.of(release.namespace, "migration")
    assert [each.rules for each in (migration, *release.daemons())] == [release.rules()] * 3
    assert release.get("deployment", NAME)["status"]["availableReplicas"] == 2
    assert "orderheal 0.1.0 is installed: 2 replicas" in notes
    assert f"kubectl -n {release.namespace} rollout status deployment/{NAME}" in notes
    assert release.get("jobs") == []
    assert [each["metadata"]["name"] for each in release.get("configmaps", "-l", "app.kubernetes.io/instance=shop")] == [NAME]


def test_new_rules_replace_the_pods_and_a_rollback_makes_the_old_rules_the_newest(installed: Release) -> None:
    before, sum_before, pods_before = installed.rules(), checksum(installed), installed.daemons()
    installed.change(RULE, "for: 15m", "for: 20m")
    assert "orderheal 0.1.0 is upgraded" in installed.apply("upgrade")
    after, pods_after = installed.rules(), installed.daemons()
    assert checksum(installed) != sum_before
    assert installed.mounted() == after != before
    assert sorted(installed.replica_sets().values()) == [0, 2]

    installed.helm("rollback", "1", "--wait")
    pods_again = installed.daemons()
    assert checksum(installed) == sum_before
    assert installed.mounted() == before
    assert sorted(installed.replica_sets().values()) == [0, 2]

    told = [[each.rules for each in pods] for pods in (pods_before, pods_after, pods_again)]
    assert told == [[before] * 2, [after] * 2, [before] * 2]
    revisions = [[each.revision or 0 for each in pods] for pods in (pods_before, pods_after, pods_again)]
    assert max(revisions[0]) < min(revisions[1])
    assert max(revisions[1]) < min(revisions[2])
    history = json.loads(installed.helm("history", "--output", "json"))
    assert [(each["revision"], each["status"]) for each in history] == [(1, "superseded"), (2, "superseded"), (3, "deployed")]


def test_an_upgrade_that_changes_neither_rules_nor_configuration_replaces_no_pod(installed: Release) -> None:
    before = {each.name for each in installed.daemons()}
    installed.apply("upgrade", "--set", "replicaCount=3")
    after = {each.name for each in installed.daemons()}
    assert before < after
    assert list(installed.replica_sets().values()) == [3]


def test_a_mistake_in_a_rule_ends_the_upgrade_before_anything_changed(installed: Release) -> None:
    before, pods = installed.rules(), installed.daemons()
    installed.change(RULE, "for: 15m", "for: a while")
    with pytest.raises(Refused, match="pre-upgrade"):
        installed.apply("upgrade", "--set", "migration.backoffLimit=0")
    assert installed.mounted() == before
    assert installed.daemons() == pods
    (job,) = installed.get("pods", "-l", "app.kubernetes.io/component=migration")
    told = job["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    assert f"/config/rules/{RULE}:" in told

    installed.change(RULE, "for: a while", "for: 25m")
    installed.apply("upgrade")
    assert [each.rules for each in installed.daemons()] == [installed.rules()] * 2


def test_daemons_that_do_not_get_ready_leave_the_old_ones_at_work(installed: Release) -> None:
    before, rules = {each.name for each in installed.daemons()}, installed.rules()
    installed.kubelet.said[installed.namespace, "daemon"] = "unready"
    installed.change(RULE, "for: 15m", "for: 30m")
    with pytest.raises(Refused, match=r"deadline|not ready"):
        installed.apply("upgrade", "--wait", "--timeout", "10s")
    assert before < {each.name for each in installed.daemons()}
    status = installed.get("deployment", NAME)["status"]
    assert (status["availableReplicas"], status["updatedReplicas"]) == (2, 1)

    installed.helm("rollback", "1", "--wait")
    assert {each.name for each in installed.daemons()} == before
    assert installed.mounted() == rules


def test_a_drain_takes_one_daemon_at_a_time(installed: Release) -> None:
    installed.kubectl("wait", "--for=jsonpath={.status.disruptionsAllowed}=1", f"poddisruptionbudget/{NAME}")
    installed.kubelet.said[installed.namespace, "daemon"] = "unready"  # whoever comes in the place of the first
    first, second = (each.name for each in installed.daemons())
    evict(installed, first)
    with pytest.raises(Refused, match="disruption budget"):
        evict(installed, second)


def evict(release: Release, pod: str) -> None:
    """What a drain asks of the API server, in the words of 1.20."""
    asked = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": release.namespace}}
    path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}/eviction"
    release.kubectl("create", "--raw", path, "--filename", "-", given=json.dumps(asked))


def test_helm_test_runs_doctor_and_fails_with_it(installed: Release) -> None:
    assert "Phase:          Succeeded" in installed.helm("test")
    (doctor,) = installed.kubelet.of(installed.namespace, "test")
    assert doctor.rules == installed.rules()
    (container,) = installed.get("pod", doctor.name)["spec"]["containers"]
    assert container["args"] == ["doctor"]

    installed.kubelet.said[installed.namespace, "test"] = "failed"
    with pytest.raises(Refused, match=doctor.name):
        installed.helm("test")


def test_removing_a_release_leaves_nothing_of_it(installed: Release) -> None:
    kinds = "deployment,replicaset,job,configmap,service,serviceaccount,networkpolicy,poddisruptionbudget,secret"
    mine = ("-l", "app.kubernetes.io/instance=shop")
    assert {each["kind"] for each in installed.get(kinds, *mine)} >= {"Deployment", "ConfigMap", "Service", "ServiceAccount", "NetworkPolicy"}
    installed.helm("uninstall", "--wait", "--cascade", "foreground")
    with suppress(Refused):  # nothing may be left to wait for: the garbage collector works behind helm's back
        installed.kubectl("wait", "--for=delete", kinds, *mine, "--timeout=60s")
    assert installed.get(kinds, *mine) == []
    assert installed.get("pods", "-l", DAEMON) == []
