"""The rendered chart: what goes to a cluster, over values and versions of Kubernetes. `make chart`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import SETS, VALUES, Chart, Needed, Rendered
from tests.tools import crds

pytestmark = [pytest.mark.chart, pytest.mark.xdist_group("chart")]

ROOT = Path(__file__).parents[2]
VERSIONS = tuple(f"1.{minor}" for minor in range(25, 38))
ALERTS = """groups:
  - name: orderheal.test
    rules:
      - alert: OrderhealTest
        expr: up{job="orderheal"} == 0
        for: 5m
        labels: {severity: warning}
        annotations: {summary: A test., description: "{{ $labels.instance }} is {{ $value | humanizePercentage }}"}
"""
BOARD = '{"title": "Тест", "panels": [{"targets": [{"legendFormat": "{{rule}}"}]}]}'
OTHERS = ("ServiceMonitor", "PrometheusRule", "ExternalSecret")  # of operators; no package has the definitions of the last


@pytest.fixture(scope="module")
def filled(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart with an alert and a dashboard in it, whatever it ships."""
    files = {"alerts/test.yaml": ALERTS, "dashboards/test.json": BOARD}
    return chart.with_files(tmp_path_factory.mktemp("chart") / "orderheal", files)


# --- forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS)
def test_lint_has_nothing_to_say(chart: Chart, values: str) -> None:
    ran = chart.ran("lint", "--strict", "--quiet", chart.folder, "--values", VALUES / f"{values}.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_this_kubernetes_knows(filled: Chart, needed: Needed, tmp_path: Path, version: str) -> None:
    found = [each for values in SETS for each in filled.render(values, kube=version).all]
    ours = [each for each in found if each["kind"] not in OTHERS]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(ours))
    ran = subprocess.run(
        [needed("kubernetes-validate"), "--strict", "-k", f"{version}.0", tmp_path / "all.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert "WARN" not in said
    assert said.count(" passed for resource ") == len(ours)


def test_the_operators_objects_are_what_its_definitions_say(filled: Chart, tmp_path: Path) -> None:
    if (folder := crds()) is None:
        pytest.skip("the validators of Prometheus Operator's kinds are not here; make chart fetches them")
    found = filled.render("all")
    objects = [*found.of("ServiceMonitor"), *found.of("PrometheusRule")]
    assert len(objects) >= 2
    script = folder / "check.mjs"
    script.write_text(
        'import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";\n'
        'import { readFileSync } from "node:fs";\n'
        'for (const each of JSON.parse(readFileSync(process.argv[2], "utf8"))) new kinds[each.kind](each).validate();\n'
    )
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    ran = subprocess.run(["node", script, tmp_path / "objects.json"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    allowed = (
        {"jobLabel", "selector", "namespaceSelector", "endpoints"},
        {"port", "path", "interval", "scrapeTimeout", "relabelings", "metricRelabelings"},
    )
    spec = found.one("ServiceMonitor")["spec"]  # a mistyped key would pass those validators, as it passes the real ones
    assert spec.keys() <= allowed[0]
    assert spec["endpoints"][0].keys() <= allowed[1]


def test_older_clusters_get_what_they_have(chart: Chart) -> None:
    old = chart.render("all", "--api-versions", "external-secrets.io/v1beta1", kube="1.25")
    assert {each["apiVersion"] for each in old.of("ExternalSecret")} == {"external-secrets.io/v1beta1"}
    assert all("matchLabelKeys" not in each for each in old.pods()["daemon"]["topologySpreadConstraints"])
    assert all("matchLabelKeys" in each for each in chart.render("all").pods()["daemon"]["topologySpreadConstraints"])


# --- security -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS)
def test_a_scanner_finds_nothing_but_what_we_chose(chart: Chart, needed: Needed, tmp_path: Path, values: str) -> None:
    chosen = {
        "KSV-0011": "no CPU limit: throttling would only delay what is due; a limit can be given",
        "KSV-0125": "which registry is trusted is for who installs it to say",
    }
    (tmp_path / "all.yaml").write_text(chart.text(values))
    ran = subprocess.run(
        [needed("trivy"), "config", "--quiet", "--skip-check-update", "--format", "json", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)["Results"]
    assert results
    assert {
        (each["ID"], each["Message"]) for result in results for each in result.get("Misconfigurations", ()) if each["ID"] not in chosen
    } == set()


@pytest.mark.parametrize("values", SETS)
def test_every_pod_meets_the_restricted_profile_and_has_no_token(chart: Chart, values: str) -> None:
    found = chart.render(values)
    for pod in found.pods().values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in found.containers():
        security = container["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    assert not [each for each in found.all if "Role" in each["kind"]]
    assert all(each["automountServiceAccountToken"] is False for each in found.of("ServiceAccount"))


def test_pods_reach_what_is_declared_and_dns_alone(chart: Chart) -> None:
    found = chart.render("all", "--set", "networkPolicy.publicHttps=false")
    policies = found.of("NetworkPolicy")
    assert len(policies) == 2
    for policy in policies:
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        ports = [sorted(port["port"] for port in rule["ports"]) for rule in spec["egress"]]
        assert ports == [[53, 53], [5432, 6432], [8000]]
        assert all(rule["to"] for rule in spec["egress"])
        assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == [8080]
    covered = {"migration"} | set(found.one("NetworkPolicy")["spec"]["podSelector"]["matchExpressions"][0]["values"])
    assert covered == set(found.pods())


def test_public_addresses_leave_private_ones_closed(chart: Chart) -> None:
    (_, public, *_) = chart.render("all").one("NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in public["ports"]] == [443]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(public["to"][0]["ipBlock"]["except"])


def test_nothing_of_a_secret_is_rendered(chart: Chart) -> None:
    found = chart.render("all")
    assert found.of("Secret") == []
    assert "${env:ORDERHEAL_DB_URL}" in found.one("ConfigMap")["data"]["config.yaml"]


# --- what it promises ---------------------------------------------------------------------------------------------


def test_configuration_and_rules_arrive_as_they_were_written(chart: Chart, tmp_path: Path) -> None:
    tricky = "name: tricky\r\n# Заказ\t«застрял»\nmode: off\nchat: -1001000000001\nto: 18:00\n{{ not a template }}\n\n\n"
    (tmp_path / "tricky.yaml").write_text(tricky, newline="")
    rule = ROOT / "rules" / "order-not-sent.yaml"
    found = chart.render(
        "least", "--set-file", f"config={ROOT / 'config.yaml'}", "--set-file", rf"rules.order-not-sent\.yaml={rule}",
        "--set-file", rf"rules.tricky\.yaml={tmp_path / 'tricky.yaml'}",
    )  # fmt: skip
    for name in ("shop-orderheal", "shop-orderheal-migration"):
        data = found.one("ConfigMap", name)["data"]
        assert data["config.yaml"] == (ROOT / "config.yaml").read_text()
        assert data["rule.order-not-sent.yaml"] == rule.read_text()
        assert data["rule.tricky.yaml"] == tricky
    (projected,) = [volume["projected"] for volume in found.pods()["daemon"]["volumes"] if volume["name"] == "config"]
    paths = {item["key"]: item["path"] for item in projected["sources"][0]["configMap"]["items"]}
    assert paths["rule.tricky.yaml"] == "rules/tricky.yaml"
    assert paths.keys() == found.one("ConfigMap")["data"].keys()


def test_the_chart_lays_over_only_what_it_decides(chart: Chart) -> None:
    def laid(values: str) -> Any:
        return yaml.safe_load(chart.render(values).one("ConfigMap")["data"]["chart.yaml"])

    assert laid("all") == {"http": {"listen": "0.0.0.0:8080"}, "rules": {"path": "/config/rules/"}}
    assert laid("least") == {"http": {"listen": "0.0.0.0:9464"}, "rules": {"path": "/etc/orderheal/rules/"}}


def checksum(found: Rendered) -> str:
    return str(found.one("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"])


def test_changed_rules_and_configuration_replace_the_pods_and_nothing_else_does(chart: Chart) -> None:
    first = checksum(chart.render("all"))
    assert checksum(chart.render("all", "--set-string", r"rules.one\.yaml=name: other")) != first
    assert checksum(chart.render("all", "--set-string", "config=environment: test")) != first
    assert checksum(chart.render("all", "--set", "replicaCount=7")) == first


def test_the_newest_pod_says_which_rules_are_newest(chart: Chart, tmp_path: Path) -> None:
    """The init container's own line is run: a number like the one that orderheal takes by itself, in its configuration's form."""
    (init,) = chart.render("all").pods()["daemon"]["initContainers"]
    script = init["args"][0].replace("/run/orderheal", str(tmp_path))
    subprocess.run([shutil.which("sh") or "sh", "-c", script], check=True)
    written = (tmp_path / "revision.yaml").read_text()
    assert re.fullmatch(r"rules: \{revision: \d{16}\}\n", written)
    (daemon,) = chart.render("all").pods()["daemon"]["containers"]
    (config,) = [each["value"] for each in daemon["env"] if each["name"] == "ORDERHEAL_CONFIG"]
    assert config.split(":") == ["/config/config.yaml", "/config/chart.yaml", "/run/orderheal/revision.yaml"]
    assert "envFrom" not in init


def test_the_schema_moves_before_anything_else_does(chart: Chart) -> None:
    found = chart.render("all")
    job = found.one("Job", "shop-orderheal-migration")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    spec = job["spec"]["template"]["spec"]
    assert [(each["name"], each["args"]) for each in spec["initContainers"] + spec["containers"]] == [
        ("check", ["rules", "check"]),
        ("migrate", ["db", "upgrade"]),
    ]
    weight = int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    before = {
        (each["kind"], each["metadata"]["name"]) for each in found.all
        if int(each["metadata"].get("annotations", {}).get("helm.sh/hook-weight", weight)) < weight
    }  # fmt: skip
    assert before == {(kind, "shop-orderheal-migration") for kind in ("ConfigMap", "ExternalSecret", "NetworkPolicy")}
    asked = {spec["volumes"][0]["projected"]["sources"][0]["configMap"]["name"], spec["containers"][0]["envFrom"][0]["secretRef"]["name"]}
    assert asked == {"shop-orderheal-migration"}
    assert "serviceAccountName" not in spec


def test_secrets_come_from_where_they_are_said_to(chart: Chart) -> None:
    own = {each["envFrom"][0]["secretRef"]["name"] for each in chart.render("least").containers() if "envFrom" in each}
    assert own == {"orderheal"}
    made = {each["metadata"]["name"]: each["spec"]["target"]["name"] for each in chart.render("all").of("ExternalSecret")}
    assert made == {"shop-orderheal": "shop-orderheal", "shop-orderheal-migration": "shop-orderheal-migration"}


def test_a_rollout_keeps_a_replica_and_a_stop_has_its_time(chart: Chart) -> None:
    deployment = chart.render("least").one("Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = deployment["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 45
    (container,) = pod["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_selectors_find_the_daemons_and_nobody_else(chart: Chart) -> None:
    found = chart.render("all")
    daemon = found.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    others = [
        found.one("Job", "shop-orderheal-migration")["spec"]["template"]["metadata"]["labels"],
        *(each["metadata"]["labels"] for each in found.of("Pod")),
    ]
    selectors = [
        found.one("Service")["spec"]["selector"],
        found.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        found.one("Deployment")["spec"]["selector"]["matchLabels"],
        found.pods()["daemon"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= daemon.items()
        assert not any(selector.items() <= labels.items() for labels in others)
    monitor, service = found.one("ServiceMonitor")["spec"], found.one("Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [each["port"] for each in monitor["endpoints"]] == [each["name"] for each in service["spec"]["ports"]]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "orderheal"


def test_alerts_and_dashboards_are_shipped_as_they_are(filled: Chart) -> None:
    found = filled.render("all")
    assert found.one("PrometheusRule", "shop-orderheal-test")["spec"] == yaml.safe_load(ALERTS)
    board = found.one("ConfigMap", "shop-orderheal-dashboard-test")
    assert json.loads(board["data"]["test.json"]) == json.loads(BOARD)
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    shipped = {f"shop-orderheal-{path.stem}" for path in (filled.folder / "alerts").glob("*.yaml")}
    assert {each["metadata"]["name"] for each in found.of("PrometheusRule")} == shipped
    boards = [each for each in found.of("ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]
    assert len(boards) == len(list((filled.folder / "dashboards").glob("*.json")))


def test_a_runbooks_address_is_one_that_can_be_opened_where_it_is_known(chart: Chart) -> None:
    def runbooks(*more: str) -> set[str]:
        groups = [group for each in chart.render("all", *more).of("PrometheusRule") for group in each["spec"]["groups"]]
        return {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule}

    paths = runbooks()
    assert len(paths) > 20
    assert all((ROOT / path).is_file() for path in paths), "a path from the root of the project, for want of an address"
    for address in ("https://git.example/shop/orderheal/-/blob/main", "https://git.example/shop/orderheal/-/blob/main/"):
        said = runbooks("--set", f"metrics.prometheusRule.runbookUrl={address}")
        assert said == {f"https://git.example/shop/orderheal/-/blob/main/{path}" for path in paths}


def test_a_drain_is_not_held_up_by_daemons_that_are_not_ready(chart: Chart) -> None:
    """While the store is away no daemon is ready; to wait for one would keep every node of theirs from being drained."""
    assert chart.render("least").one("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "unhealthyPodEvictionPolicy" not in chart.render("least", kube="1.26").one("PodDisruptionBudget")["spec"]


def test_an_account_that_is_there_serves_the_migration_too(chart: Chart) -> None:
    """What it is given rights for outside, such as reading a CSI secret store, the Job needs as much as the daemon."""
    pods = chart.render("all", "--set", "serviceAccount.create=false,serviceAccount.name=ours").pods()
    assert {component: pod.get("serviceAccountName") for component, pod in pods.items()} == dict.fromkeys(pods, "ours")
    assert "serviceAccountName" not in chart.render("all", "--set", "serviceAccount.name=ours").pods()["migration"], "it is not made yet"


def test_dashboards_come_in_the_language_that_is_chosen(chart: Chart) -> None:
    found = {
        each["metadata"]["name"]: json.loads(text)
        for each in chart.render("all", "--set", "dashboards.language=ru").of("ConfigMap")
        for name, text in each["data"].items()
        if name.endswith(".json")
    }
    files = (chart.folder / "dashboards" / "ru").glob("*.json")
    assert found == {f"shop-orderheal-dashboard-{path.stem}": json.loads(path.read_text()) for path in files}


def test_doctor_is_the_charts_test(chart: Chart) -> None:
    pod = chart.render("least").one("Pod", "shop-orderheal-doctor")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"] == ["doctor"]


def test_what_is_off_is_not_there(chart: Chart) -> None:
    assert sorted(each["kind"] for each in chart.render("off").all) == ["ConfigMap", "Deployment", "Service"]


def test_names_stay_within_what_kubernetes_takes(chart: Chart) -> None:
    ran = chart.ran("template", "r" * 53, chart.folder, "--values", VALUES / "all.yaml")
    assert ran.returncode == 0, ran.stderr
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(ran.stdout) if each]
    assert max(map(len, names)) <= 63


def test_notes_name_the_variables_that_the_configuration_asks_for(chart: Chart) -> None:
    ran = chart.ran(
        "install", "shop", chart.folder, "--dry-run=client", "--namespace", "apps", "--values", VALUES / "least.yaml",
        "--set-file", f"config={ROOT / 'config.yaml'}",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    notes = ran.stdout.partition("\nNOTES:\n")[2]
    asked = set(re.findall(r"^     ([A-Z][A-Z0-9_]+)$", notes, re.MULTILINE))
    written = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in (ROOT / "config.yaml").read_text().splitlines())
    assert asked == set(re.findall(r"\$\{env:([A-Z0-9_]+)\}", written))
    assert "kubectl -n apps rollout status deployment/shop-orderheal" in notes


@pytest.mark.parametrize("page", ["install.md", "install.ru.md"])
def test_the_values_of_the_guide_render(chart: Chart, tmp_path: Path, page: str) -> None:
    (block,) = re.findall(r"^```yaml values\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "values.mine.yaml").write_text(block)
    found = chart.render("least", "--values", str(tmp_path / "values.mine.yaml"), "--set", "networkPolicy.enabled=true")
    assert found.of("ServiceMonitor")
    assert len(found.one("NetworkPolicy")["spec"]["egress"]) == 4


def test_the_guides_command_installs_every_rule_in_any_shell(chart: Chart, tmp_path: Path) -> None:
    """The command as it stands, but for rendering in place of installing, in the plainest shell there is."""
    text = (ROOT / "docs" / "install.md").read_text()
    (command,) = re.findall(r"^```sh\n(helm [^`]* upgrade --install .*?)^```$", text, re.DOTALL | re.MULTILINE)
    (values,) = re.findall(r"^```yaml values\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "values.mine.yaml").write_text(values)
    for name in ("helm", "rules", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = command.replace("upgrade --install", "template").replace("helm -n", f"{chart.helm} -n", 1)
    ran = subprocess.run([shutil.which("dash") or "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = Rendered([each for each in yaml.safe_load_all(ran.stdout) if each])
    data = found.one("ConfigMap", "orderheal")["data"]
    assert {name for name in data if name.startswith("rule.")} == {f"rule.{path.name}" for path in (ROOT / "rules").glob("*.yaml")}


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "replicaCout=3"], "replicaCout"),
        (["--set", "replicaCount=two"], "/replicaCount"),
        (["--set", "replicaCount=-1"], "/replicaCount"),
        (["--set", "image.tag=a b"], "/image/tag"),
        (["--set", "image.digest=abc"], "/image/digest"),
        (["--set", "image.pullPolicy=Sometimes"], "/image/pullPolicy"),
        (["--set-json", 'config={"environment": "production"}'], "/config"),
        (["--set-string", "rules.notes=x"], "/rules"),
        (["--set-string", "rules.\\.\\./x\\.yaml=x"], "/rules"),
        (["--set", "metrics.serviceMonitor.enable=true"], "enable"),
        (["--set", "metrics.serviceMonitor.interval=often"], "/metrics/serviceMonitor/interval"),
        (["--set", "metrics.prometheusRule.runbookUrl=docs"], "/metrics/prometheusRule/runbookUrl"),
        (["--set", "pdb.maxUnavailable=lots"], "/pdb/maxUnavailable"),
        (["--set", "service.port=80"], "/service/port"),
        (["--set", "terminationGracePeriodSeconds=10"], "/terminationGracePeriodSeconds"),
        (["--set-json", 'networkPolicy.targets=[{"name": "x", "to": [], "ports": [5432]}]'], "/networkPolicy/targets/0/to"),
        (["--set-json", 'networkPolicy.targets=[{"name": "x", "to": [{"cidr": "10.0.0.0/8"}], "ports": [5432]}]'], "/networkPolicy/targets/0/to/0"),
        (["--set-json", 'extraVolumes=[{"name": "tmp", "emptyDir": {}}]'], "/extraVolumes/0/name"),
        (["--set", "resources.limits.memory=lots"], "/resources/limits/memory"),
        (["--set", "livenessProbe.path=/x"], "/livenessProbe"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else given,
)  # fmt: skip
def test_the_schema_refuses(chart: Chart, given: list[str], said: str) -> None:
    assert said in chart.refused("least", *given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "config="], "config is empty: hand over your config.yaml"),
        (["--set", "existingSecret="], "no secrets: name the Secret"),
        (["--set", "externalSecret.enabled=true"], "exclude each other"),
        (["--set", "existingSecret=,externalSecret.enabled=true"], "externalSecret.secretStoreRef.name is empty"),
        (["--set", "existingSecret=,externalSecret.enabled=true,externalSecret.secretStoreRef.name=x"], "neither data nor dataFrom"),
        (["--set", "networkPolicy.enabled=true"], "networkPolicy.targets is empty"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else given,
)  # fmt: skip
def test_what_would_not_work_is_refused_with_the_remedy(chart: Chart, given: list[str], said: str) -> None:
    assert said in chart.refused("least", *given)
