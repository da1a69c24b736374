"""``orderheal drill``: a rule tried on a synthetic object, from planting to proof, against the daemon that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

import click

from daemon.app import open_app, try_rule
from daemon.cli.common import Asked, Exit, Fault, known_rules, verb, wait_for
from daemon.engine.events import Drilled
from daemon.views.text import Line, span


@click.command()
@click.argument("rule")
@verb
def drill(asked: Asked, rule: str) -> int:
    """Plant a marked synthetic object as `drills` says and measure what the running daemon does with it; then remove it.

    Exit 1 when it does not come to its proof in time, or stays where it was planted; 3 when it cannot be planted at all.
    """
    loaded = asked.load()
    known_rules(loaded, (rule,))
    if rule not in loaded.config.drills:
        raise Fault(f"nothing says how {rule} is drilled; declare it: drills: {{{rule}: {{plant: …, remove: …}}}}")
    planned = loaded.config.drills[rule]

    def progress(stage: str, seconds: float) -> None:
        click.echo(f"  {stage:8} after {span(timedelta(seconds=seconds))}", err=True)

    async def try_it() -> Drilled:
        async with open_app(loaded, os.environ) as app:
            click.echo(f"planting by {planned.plant.connector}.{planned.plant.call}; a running daemon has {span(planned.within)} of rule time", err=True)
            return await try_rule(app, rule, progress)

    drilled = wait_for(try_it())

    def text() -> Iterator[Line]:
        if drilled.ok:
            reached = ", ".join(f"{stage} {span(timedelta(seconds=seconds))}" for stage, seconds in drilled.stages.items())
            yield Line(f"{rule}: proved on {drilled.key}: {reached}", "good")
        else:
            yield Line(f"{rule}: failed on {drilled.key}: {drilled.why}", "bad")

    asked.tell(drilled, text, loaded)
    if drilled.unreachable:
        return Exit.UNREACHABLE
    return Exit.FINE if drilled.ok else Exit.FOUND
