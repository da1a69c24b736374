"""The kubelet of a cluster without nodes: what pods do is played here, and told to the API server as their status.

    pods, watched ─▶ its files, from ConfigMaps as they are now ─▶ its init container, really run ─▶ status ─▶ ReplicaSet, Job, helm

The migration's pod really runs `orderheal rules check` on the files it was given, so that a mistake in a rule ends the Job as it
would in a cluster; `db upgrade` is left to the tests of the image. A daemon's pod really takes its revision, and gets ready without
running: whether it does, a test may say otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.cluster.control_plane import Cluster, Refused

Manifest = Mapping[str, Any]
Outcome = Literal["ready", "unready", "succeeded", "failed"]
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Started:
    """A pod that was started: what it found in /config, and the revision that it took for the rules."""

    namespace: str
    name: str
    component: str
    files: Mapping[str, str]
    revision: int | None

    @property
    def rules(self) -> dict[str, str]:
        """Its rule files, by name."""
        return {path.removeprefix("rules/"): text for path, text in self.files.items() if path.startswith("rules/")}


@dataclass
class Kubelet:
    """Starts every pod of a cluster, once, in a thread of its own."""

    cluster: Cluster
    folder: Path
    started: list[Started] = field(default_factory=list)
    said: dict[tuple[str, str], Outcome] = field(default_factory=dict)  # by namespace and component
    error: BaseException | None = None

    def __enter__(self) -> Kubelet:
        self._watch = self.cluster.follow("/api/v1/pods?watch=true")
        self._thread = threading.Thread(target=self._run, name="kubelet")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.terminate()
        self._thread.join()
        self._watch.wait()
        assert self._watch.stdout is not None
        self._watch.stdout.close()
        if self.error:
            raise self.error

    def of(self, namespace: str, component: str = "daemon") -> list[Started]:
        """The pods of a namespace, in the order in which they were started."""
        return [each for each in self.started if (each.namespace, each.component) == (namespace, component)]

    def _run(self) -> None:
        done = set()
        assert self._watch.stdout is not None
        try:
            for line in self._watch.stdout:
                event = json.loads(line)
                pod = event["object"]
                if event["type"] != "DELETED" and pod["metadata"]["uid"] not in done:
                    done.add(pod["metadata"]["uid"])
                    self._start(pod)
        except BaseException as error:
            self.error = error

    def _start(self, pod: Manifest) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
        folder = self.folder / namespace / name
        files = self._mount(pod, folder / "config")
        revision = _revision(pod, folder) if component == "daemon" else None
        self.started.append(Started(namespace, name, component, files, revision))
        outcome, message = self._play(pod, component, folder)
        self._tell(namespace, name, status(pod, outcome, message))

    def _mount(self, pod: Manifest, folder: Path) -> dict[str, str]:
        """Write the projected volume `config`, as the ConfigMaps are at this moment."""
        files: dict[str, str] = {}
        for source in (source for each in pod["spec"].get("volumes", ()) for source in each.get("projected", {}).get("sources", ())):
            wanted = source.get("configMap", {})
            data = self.cluster.get("configmap", wanted["name"], "--namespace", pod["metadata"]["namespace"])["data"] if wanted else {}
            files |= {item["path"]: data[item["key"]] for item in wanted.get("items", ())}
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return files

    def _play(self, pod: Manifest, component: str, folder: Path) -> tuple[Outcome, str]:
        if told := self.said.get((pod["metadata"]["namespace"], component)):
            return told, ""
        if component == "migration":
            return _check(pod, folder)
        return ("ready" if component == "daemon" else "succeeded"), ""

    def _tell(self, namespace: str, name: str, said: Manifest) -> None:
        patch = json.dumps({"status": said})
        try:
            self.cluster.kubectl("patch", "pod", name, "--namespace", namespace, "--subresource=status", "--type=merge", "--patch", patch)
        except Refused as refused:
            if "NotFound" not in str(refused):
                raise


def status(pod: Manifest, outcome: Outcome, message: str) -> Manifest:
    """What a kubelet would report."""
    ready = outcome == "ready"
    ended = outcome in ("succeeded", "failed")
    state: Manifest = {"running": {}}
    if ended:
        state = {"terminated": {"exitCode": int(outcome == "failed"), "message": message}}
    return {
        "phase": outcome.capitalize() if ended else "Running",
        "conditions": [{"type": kind, "status": str(ready)} for kind in ("Initialized", "ContainersReady", "Ready")],
        "containerStatuses": [
            {"name": each["name"], "image": each["image"], "imageID": "", "ready": ready, "restartCount": 0, "state": state}
            for each in pod["spec"]["containers"]
        ],
    }


def _revision(pod: Manifest, folder: Path) -> int:
    """Run the init container's own command, with a folder in the place of /run/orderheal."""
    (init,) = pod["spec"]["initContainers"]
    folder.mkdir(parents=True, exist_ok=True)
    command = [each.replace("/run/orderheal", str(folder)) for each in (*init["command"], *init["args"])]
    subprocess.run(command, check=True)
    written = (folder / "revision.yaml").read_text()
    return int(written.removeprefix("rules: {revision: ").removesuffix("}\n"))


def _check(pod: Manifest, folder: Path) -> tuple[Outcome, str]:
    """Run the migration's init container, `orderheal rules check`, with a folder in the place of /config."""
    (init,) = pod["spec"]["initContainers"]
    chart = folder / "config" / "chart.yaml"
    chart.write_text(chart.read_text().replace("/config/", f"{folder}/config/"))
    (named,) = [each["value"] for each in init["env"] if each["name"] == "ORDERHEAL_CONFIG"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "ORDERHEAL_CONFIG": named.replace("/config/", f"{folder}/config/")}
    command = [sys.executable, "-m", "daemon", *init["args"]]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ("failed" if ran.returncode else "succeeded"), (ran.stdout + ran.stderr).replace(str(folder), "")[-2048:]
