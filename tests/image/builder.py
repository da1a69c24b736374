"""Builds the image as a registry's builder would, and runs it as a kubelet would, with neither at hand.

    lock files ─▶ wheels ┐
    Debian's packages ───┴▶ buildah, no network ─▶ archive, root file system ─▶ unshare, chroot, uid 10001, PID 1

The base is a Debian 12 with its Python 3.11, made from packages: the official `python` images, which the Dockerfile names, are
not among what a package registry has. Isolation is that of chroot and namespaces: no seccomp profile, no memory limit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.harness import PATIENCE
from tests.tools import cache

ROOT = Path(__file__).parents[2]
BASE = "localhost/orderheal-base:test"
CONTEXT = ("Dockerfile", ".dockerignore", "README.md", "config.yaml", "daemon", "pyproject.toml", "requirements", "rules")
IMAGE = "localhost/orderheal:test"
ENV = {"PATH": "/opt/orderheal/bin:/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """A program's output; what it said when it failed is in the error."""
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(map(str, command))}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.strip()


@dataclass(frozen=True)
class Builder:
    """buildah with a store of its own in ``folder``, which holds everything that is made."""

    folder: Path

    def __call__(self, *arguments: str | Path, offline: bool = False) -> str:
        """A command of buildah's."""
        storage = ("--root", self.folder / "storage", "--runroot", self.folder / "run")
        return run(*(("unshare", "--net") if offline else ()), "buildah", *storage, *arguments)

    def prepare(self) -> None:
        """Set the checkout aside, so that every build is of the same files, and make what stands for the Dockerfile's base."""
        run("cp", "-r", *(ROOT / name for name in CONTEXT), _made(self.folder / "context"))
        container = self("from", "scratch")
        self("add", "--quiet", container, _debian(), "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self("commit", "--quiet", "--rm", container, BASE)

    def build(self, tag: str = IMAGE) -> None:
        """Build it. The network is off: what is not locked cannot come in."""
        wheels, pip = _wheels(self.folder / "context" / "requirements"), self.folder / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        revision = run("git", "rev-parse", "HEAD") if (ROOT / ".git").exists() else "0" * 40
        self(
            "bud", "--quiet", "--isolation", "chroot", "--pull-never", "--timestamp", "0", "--format", "docker",
            "--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", f"REVISION={revision}",
            "--volume", f"{wheels}:/wheels:ro", "--volume", f"{pip}:/etc/pip.conf:ro", "--tag", tag, self.folder / "context",
            offline=True,
        )  # fmt: skip

    def archive(self) -> Path:
        """The image as a file, as `docker load` would take it."""
        path = self.folder / "image.tar"
        self("push", "--quiet", IMAGE, f"docker-archive:{path}:{IMAGE}")
        return path

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """The root file system of a container of the image."""
        container = self("from", "--pull-never", IMAGE)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)

    def clear(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _debian() -> Path:
    base = cache() / "debian-12-python.tar"
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        partial = base.with_suffix(".part.tar")
        run(
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=python3-minimal,python3-venv,ca-certificates",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "bookworm", partial,
        )  # fmt: skip
        partial.rename(base)
    return base


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _wheels(locks: Path) -> Path:
    """What the lock files name, for the image's Python; pip looks at the hashes here and again in the build."""
    folder = cache() / "wheels"
    for lock in ("build", "sbom", "run"):
        run(
            sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:", "--python-version", "3.11",
            "--dest", folder, "--requirement", locks / f"{lock}.lock",
        )  # fmt: skip
    return folder


_ENTER = """
mount --make-rprivate /
mount --bind "$ROOTFS" "$ROOTFS"
for given in $GIVEN; do
    inside=$ROOTFS${given#*=}
    mount --bind "${given%%=*}" "$inside"
    [ -O "${given%%=*}" ] && mount -o remount,ro,bind "$inside"
done
mount -t tmpfs -o mode=1777 tmpfs "$ROOTFS/tmp"
mount -t proc proc "$ROOTFS/proc"
mount --rbind /dev "$ROOTFS/dev"
mount -o remount,ro,bind "$ROOTFS"
exec chroot --userspec=10001:10001 "$ROOTFS" /usr/bin/env -i "$@"
"""
"""Mounts as a container's: its own root and read-only, a temporary folder, and what was given: read-only, unless it belongs to somebody else."""


class Container:
    """A command of the image as PID 1 of a namespace, without a right, on a root file system that cannot be written."""

    def __init__(self, rootfs: Path, command: Sequence[str], env: Mapping[str, str], given: Mapping[str, Path]) -> None:
        for place in given:
            (rootfs / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        variables = [f"{name}={value}" for name, value in (ENV | dict(env)).items()]
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _ENTER, "sh", *variables, *command],
            env={"PATH": os.environ["PATH"], "ROOTFS": str(rootfs), "GIVEN": " ".join(f"{path}={place}" for place, path in given.items())},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, message: str) -> dict[str, object]:
        """Read on until a line of its log says this."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if line.startswith("{") and json.loads(line)["message"] == message:
                found: dict[str, object] = json.loads(line)
                return found
        raise AssertionError(f"never said {message!r}:\n{''.join(self.lines)}")

    @property
    def pid(self) -> int:
        """The number by which this machine knows its PID 1."""
        return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0])

    def status(self, field: str) -> str:
        """A line of the kernel's own account of it."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))

    def terminate(self) -> None:
        """What a kubelet does first."""
        os.kill(self.pid, signal.SIGTERM)

    def ended(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and all it has said."""
        rest, _ = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, "".join(self.lines) + rest

    def clear(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
