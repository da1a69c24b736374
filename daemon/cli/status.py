"""``orderheal status``: one screen, the first thing typed."""

from __future__ import annotations

import os

import click

from daemon.app import open_store
from daemon.cli.common import Asked, Exit, known_rules, verb, wait_for, zone_of
from daemon.views.status import Status, ask_status, lines


@click.command()
@click.option("--rule", metavar="RULE", help="Only this rule.")
@verb
def status(asked: Asked, rule: str | None) -> int:
    """Needs you, we are on it, held, systems down, pauses, rules that have not looked. Exit 1 when it needs you."""
    loaded = asked.load()
    known_rules(loaded, [rule] if rule else [])

    async def ask() -> Status:
        async with open_store(loaded, os.environ) as store:
            return await ask_status(store, rule)

    answer = wait_for(ask())
    asked.tell(answer, lambda: lines(answer, zone_of(loaded)), loaded)
    return Exit.FOUND if answer.calls_you else Exit.FINE
