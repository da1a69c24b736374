"""The lock files install the same everywhere: each file by its hash, from whatever index the machine has."""

import re
import tomllib
from pathlib import Path

import pytest

import daemon

ROOT = Path(__file__).parents[2]
LOCKS = {name: (ROOT / "requirements" / f"{name}.lock").read_text() for name in ("run", "build", "dev", "sbom")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    """Name to version, of a lock's text."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", lock, re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("name", LOCKS)
def test_every_pinned_package_has_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", LOCKS[name], flags=re.MULTILINE).strip())
    # Of one that is pinned twice, for different Pythons, each block must have hashes.
    assert {block.split("==")[0].split("[")[0] for block in blocks} == set(pins(LOCKS[name]))
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_and_no_host(name: str) -> None:
    # Whatever is neither a comment, a pin nor a hash: options and addresses among them.
    pin = r"[a-z0-9-]+(\[[a-z,]+\])?==[^\s/:@]+( ; [^/:@]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|#.*|"
    assert [line for line in LOCKS[name].split("\n") if not re.fullmatch(pin, line)] == []
    assert "://" not in LOCKS[name]


def test_what_runs_in_production_is_what_was_tested() -> None:
    tested = pins(LOCKS["dev"])
    for name in ("run", "build"):
        assert pins(LOCKS[name]).items() <= tested.items()


def test_every_declared_dependency_is_locked() -> None:
    assert names(PROJECT["dependencies"]) <= pins(LOCKS["run"]).keys()
    for extra in PROJECT["optional-dependencies"].values():
        assert names(extra) <= pins(LOCKS["dev"]).keys()


def test_the_image_holds_no_embedded_database_and_no_sandbox() -> None:
    for extra in ("embedded", "sandbox"):
        assert not names(PROJECT["optional-dependencies"][extra]) & pins(LOCKS["run"]).keys()


def test_the_image_can_send_traces() -> None:
    assert names(PROJECT["optional-dependencies"]["otel"]) <= pins(LOCKS["run"]).keys()


def test_the_import_name_is_ours_alone() -> None:
    assert Path(daemon.__file__).is_relative_to(ROOT)
    assert "python-daemon" not in pins(LOCKS["dev"])
