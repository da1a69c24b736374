"""``orderheal explain``: any number of an order, pasted from wherever."""

from __future__ import annotations

import os

import click

from daemon.app import open_app, open_store
from daemon.cli.common import WORDS, Asked, Exit, verb, wait_for, zone_of
from daemon.domain.rule import Mode
from daemon.views.explain import Explanation, explain_lines
from daemon.views.explain import explain as ask


@click.command()
@click.argument("number", type=WORDS)
@click.option("--stored", is_flag=True, help="Only what is stored; ask no system.")
@verb
def explain(asked: Asked, number: str, stored: bool) -> int:
    """Why it did, why it does not, when it will: by incident, key, posting, order number or object.

    Exit 1 when nobody knows the number, 3 when a system that may know it could not be asked.
    """
    loaded = asked.load()
    rules = {name: rule for name, rule in loaded.rules.items() if rule.mode is not Mode.DISABLED}

    async def look() -> Explanation:
        if stored:
            async with open_store(loaded, os.environ) as store:
                return await ask(number, store, rules, None)
        async with open_app(loaded, os.environ) as app:
            return await ask(number, app.archive, rules, app.connectors)

    answer = wait_for(look())
    asked.tell(answer, lambda: explain_lines(answer, zone_of(loaded)), loaded)
    if answer.known:
        return Exit.FINE
    return Exit.UNREACHABLE if any(one.trouble for one in answer.probed) else Exit.FOUND
