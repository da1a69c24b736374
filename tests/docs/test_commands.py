"""A command that a page names exists, with those options, and so do the targets of make."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from daemon.cli import cli
from tests.docs.reading import PAGES, ROOT, commands, inline, shell_lines

SAID = sorted({tuple(words) for page in PAGES for words in commands(page)})
MAKE = sorted(
    {target for page in PAGES for line in (*shell_lines(page), *inline(page)) for target in re.findall(r"^make ([a-z-]+)", line.strip())}
)
PROGRAMS = {"orderheal", "make", "helm", "kubectl", "docker", "pg_dump", "pg_restore", "$(for"}


@pytest.mark.parametrize("words", SAID, ids=" ".join)
def test_a_command_of_a_page_exists_with_those_options(words: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0, answer.output
    assert "Usage:" in answer.output


@pytest.mark.parametrize("target", MAKE)
def test_a_target_of_a_page_is_one_of_the_makefile(target: str) -> None:
    assert re.search(f"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_blocks_of_shell_use_programs_that_an_operator_has() -> None:
    assert {line.split()[0] for page in PAGES for line in shell_lines(page) if line.strip()} <= PROGRAMS


def test_commands_are_seen_at_all() -> None:
    assert len(SAID) > 40
    assert ("status",) in SAID
    assert {"demo", "chart", "image"} <= set(MAKE)
