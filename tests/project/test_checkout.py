"""What is committed serves every machine, and what the Makefile and CI promise is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Path to text, of every text file that git keeps."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            texts[name] = content.decode()
    return texts


def places(tracked: dict[str, str], pattern: str) -> list[str]:
    return [
        f"{name}:{number}: {line[:120]}"
        for name, text in tracked.items()
        for number, line in enumerate(text.split("\n"), 1)
        if re.search(pattern, line)
    ]


def test_no_path_of_a_machine_is_committed(tracked: dict[str, str]) -> None:
    homes = r"(?<![\w.])/(root|home/\w+|Users/\w+)/\w"
    assert places(tracked, f"{re.escape(str(ROOT))}/|{homes}") == []


def test_no_package_index_is_committed(tracked: dict[str, str]) -> None:
    options = "--(extra-)?index" + "-url|--find" + "-links"
    assert places(tracked, rf"{options}|https?://\S+\.(whl|tar\.gz)\b") == []


def test_make_help_lists_every_target() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE) == targets
    declared = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert declared is not None
    assert sorted(declared[1].split()) == sorted(targets)


def test_ci_asks_make_for_targets_that_exist() -> None:
    asked = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / ".ci" / "run").read_text()))
    assert asked >= {"test", "demo", "slow", "mutation"}
    assert asked <= set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def test_make_says_in_one_line_that_no_python_is_new_enough() -> None:
    ran = subprocess.run(
        ["make", "--dry-run", "--always-make", "venv", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    check = next(line for line in ran.stdout.split("\n") if line.startswith('test -n ""'))
    said = subprocess.run(["sh", "-c", check], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert re.fullmatch(r"orderheal needs Python 3\.11 or newer.* make PYTHON=\S+ venv\n", said.stderr)


def test_the_image_runs_as_an_ordinary_user() -> None:
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", last_stage, re.MULTILINE) == ["10001:10001"]
