"""Every command that a message offers to paste exists, with those options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from daemon.cli import cli
from daemon.domain.incident import Phase, Why
from daemon.domain.notice import (
    Notice,
    blind_notice,
    fault_notice,
    guard_notice,
    ill_notice,
    parked_notice,
    tell,
)
from daemon.domain.rule import Severity
from daemon.domain.standing import Held, Illness
from daemon.domain.words import RUSSIAN
from tests.builders import T0, at, contacts, incident, rule


def notices() -> Iterator[Notice]:
    """One of each kind that offers commands."""
    for count in (1, 30):
        many = [incident(id=f"i{n}", phase=Phase.ESCALATED, cause="a cause") for n in range(count)]
        yield from tell(rule(), contacts("team"), many, (), (), T0, RUSSIAN).notices
    yield guard_notice(rule(), Held(T0, Why.MAX_BROKEN, 140, 100.0), True, T0)
    yield blind_notice(rule(), "timed out", 7, True, T0)
    yield ill_notice("ozon", Illness("ozon", T0, "status 401", at(5)), True, T0, "team")
    yield fault_notice(rule(), "upload: id is null", T0)
    yield parked_notice("gone", "team", Severity.WARNING, 3, T0)


OFFERED = sorted(
    {line for notice in notices() for line in notice.ours.splitlines() if line.startswith("orderheal ")}
)  # fmt: skip


@pytest.mark.parametrize("command", OFFERED)
def test_a_command_in_a_message_can_be_pasted(command: str) -> None:
    _, *words = shlex.split(command)
    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0, answer.output
    assert "Usage:" in answer.output


def test_every_kind_of_message_offers_some() -> None:
    assert len(OFFERED) >= 10
    assert any("--cause 'a cause'" in command for command in OFFERED)
