"""A Kubernetes control plane of one's own: etcd, kube-apiserver and kube-controller-manager, on loopback, in a folder.

    with control_plane(folder) as cluster: ─▶ cluster.helm("install", …), cluster.kubectl(…), cluster.get("deployment", …)

It is 1.20, the only one that packages give (tests/cluster/build.sh). There are no nodes: who plays the kubelet is kubelet.py.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools import tool

NEEDED = ("etcd", "openssl", "helm", "kubectl", "kube-apiserver", "kube-controller-manager")
PATIENCE = 90  # seconds, for a control plane to answer on a busy machine; it needs some 6
TOKEN = "loopback"
KUBECONFIG = """apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]
clusters: [{{name: test, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: certs/apiserver.crt}}}}]
users: [{{name: admin, user: {{token: {token}}}}}]
"""


class Refused(AssertionError):
    """A command ended with an error; the message is what it said."""


@dataclass(frozen=True)
class Cluster:
    """A control plane and the programs that talk to it, as its administrator."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the user's own: neither another cluster, nor caches."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(self.folder / "kubeconfig")}

    def helm(self, *arguments: str | Path) -> str:
        """Run helm and give what it prints. Raises ``Refused``."""
        return self._ran("helm", arguments)

    def kubectl(self, *arguments: str | Path, given: str | None = None) -> str:
        """Run kubectl, with a text as its input. Raises ``Refused``."""
        return self._ran("kubectl", arguments, given)

    def get(self, kind: str, *arguments: str) -> Any:
        """An object by its name, or the list of those that a selector finds."""
        found = json.loads(self.kubectl("get", kind, *arguments, "--output", "json"))
        return found["items"] if found["kind"] == "List" else found

    def follow(self, path: str) -> subprocess.Popen[str]:
        """A process that prints the events of a watch, one a line, until it is ended."""
        command: list[str | Path] = [found("kubectl"), "get", "--raw", path]
        return subprocess.Popen(command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _ran(self, program: str, arguments: Sequence[str | Path], given: str | None = None) -> str:
        command = [found(program), *arguments]
        ran = subprocess.run(command, env=self.environment, input=given, capture_output=True, text=True, check=False, timeout=240)
        if ran.returncode:
            raise Refused(ran.stderr.strip() or ran.stdout.strip())
        return ran.stdout


def found(program: str) -> Path:
    """Where a program is that is here."""
    path = tool(program)
    assert path is not None, program
    return path


@contextmanager
def control_plane(folder: Path) -> Iterator[Cluster]:
    """Start one in an empty folder, and end what was started."""
    store, peers, api, manager = _free_ports(4)
    cluster = Cluster(folder)
    (folder / "kubeconfig").write_text(KUBECONFIG.format(port=api, token=TOKEN), encoding="utf-8")
    (folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n", encoding="utf-8")
    subprocess.run([found("openssl"), "genrsa", "-out", folder / "sa.key", "2048"], capture_output=True, check=True)
    with ExitStack() as started:
        started.enter_context(_process(folder, "etcd", _etcd(folder, store, peers)))
        server = started.enter_context(_process(folder, "kube-apiserver", _api_server(store, api)))
        _until(lambda: _answers(cluster, "/readyz"), server, folder / "kube-apiserver.log")
        controllers = started.enter_context(_process(folder, "kube-controller-manager", _controllers(manager)))
        _until(lambda: _answers(cluster, "/api/v1/namespaces/default/serviceaccounts/default"), controllers, folder / "kube-controller-manager.log")
        yield cluster


def _etcd(folder: Path, store: int, peers: int) -> list[str]:
    clients = f"http://127.0.0.1:{store}"
    return [
        f"--data-dir={folder}/etcd", "--unsafe-no-fsync", f"--listen-peer-urls=http://127.0.0.1:{peers}",
        f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
    ]  # fmt: skip


def _api_server(store: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{store}", "--cert-dir=certs", "--bind-address=127.0.0.1", f"--secure-port={port}", "--insecure-port=0",
        "--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key", "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC", "--token-auth-file=tokens.csv",
    ]  # fmt: skip


def _controllers(port: int) -> list[str]:
    return [
        "--kubeconfig=kubeconfig", "--service-account-private-key-file=sa.key", "--root-ca-file=certs/apiserver.crt", "--leader-elect=false",
        "--bind-address=127.0.0.1", "--port=0", f"--secure-port={port}", "--cert-dir=manager",
    ]  # fmt: skip


@contextmanager
def _process(folder: Path, program: str, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([found(program), *arguments], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(cluster: Cluster, path: str) -> bool:
    try:
        cluster.kubectl("get", "--raw", path)
    except Refused:
        return False
    return True


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a process of others, which has no signal to give but its answers."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"it does not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def absent() -> str:
    """Why there can be no control plane here; nothing if there can."""
    lacking = [name for name in NEEDED if tool(name) is None]
    return f"not here: {', '.join(lacking)}; make cluster fetches and builds what it can" if lacking else ""
