"""``pause`` and ``resume``: acts of one rule, one connector or all are stopped; looking goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import click

from daemon.app import Loaded, open_store
from daemon.cli.common import SPAN, WORDS, Asked, Exit, Fault, author, known_connector, known_rules, verb, wait_for, zone_of
from daemon.domain.standing import Pause
from daemon.views.text import Line, moment


def _scope(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--all", "everything", is_flag=True, help="Everything."),
        click.option("--connector", metavar="NAME", help="This connector's calls."),
        click.option("--rule", metavar="RULE", help="This rule's calls."),
    ):
        command = option(command)
    return command


def _checked(loaded: Loaded, rule: str | None, connector: str | None, everything: bool) -> str:
    """What the scope is called. Raises ``Fault`` unless exactly one is given and known."""
    if sum((rule is not None, connector is not None, everything)) != 1:
        raise Fault("say what: one of --rule RULE, --connector NAME and --all")
    known_rules(loaded, [rule] if rule else [])
    if connector is not None:
        known_connector(loaded, connector)
    return f"rule {rule}" if rule else f"connector {connector}" if connector else "everything"


@click.command()
@_scope
@click.option("--for", "length", type=SPAN, metavar="2h", help="For how long, in rule time; left out: until resume.")
@click.option("--reason", type=WORDS, required=True, help="Why; shown in status.")
@verb
def pause(asked: Asked, rule: str | None, connector: str | None, everything: bool, length: timedelta | None, reason: str) -> int:
    """Stop acts, at once and everywhere; looking and deadline notices go on."""
    loaded = asked.load()
    scope = _checked(loaded, rule, connector, everything)

    async def write() -> Pause:
        async with open_store(loaded, os.environ) as store:
            now = await store.now()
            made = Pause(uuid4().hex, author(), reason, now, now + length if length else None, rule, connector)
            await store.pause(made)
            return made

    made = wait_for(write())
    end = f"until {moment(made.until, zone_of(loaded))} (rule time)" if made.until else "until somebody says `orderheal resume`"
    asked.tell(made, lambda: [Line(f"paused: {scope}, {end}", "warn")], loaded)
    return Exit.FINE


@click.command()
@_scope
@verb
def resume(asked: Asked, rule: str | None, connector: str | None, everything: bool) -> int:
    """End the pauses of exactly this scope, and make due what they held."""
    loaded = asked.load()
    scope = _checked(loaded, rule, connector, everything)

    async def write() -> int:
        async with open_store(loaded, os.environ) as store:
            return await store.resume(rule, connector, author())

    ended = wait_for(write())
    asked.tell({"ended": ended}, lambda: [Line(f"pauses of {scope} ended: {ended}", "good" if ended else "warn")], loaded)
    return Exit.FINE
