"""``scan``, ``plan`` and ``heal``: look only; print the requests; one full cycle. The first two take and write nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from daemon.app import App, Loaded, activate, open_app
from daemon.cli.common import Asked, Exit, complain, known_rules, renewing, verb, wait_for, zone_of
from daemon.domain.rule import Mode
from daemon.domain.sight import Scan
from daemon.engine.ports import Unreachable
from daemon.views.plan import Plan, plan_lines, scan_lines
from daemon.views.plan import plan as flattened
from daemon.views.status import Status, ask_status, lines
from daemon.views.text import Line

_LIMIT = click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N subjects per rule.")
_RULES = click.argument("rules", nargs=-1, metavar="[RULE]…")


def _chosen(loaded: Loaded, names: tuple[str, ...]) -> list[str]:
    return [name for name in known_rules(loaded, names) if names or loaded.rules[name].mode is not Mode.DISABLED]


@click.command()
@_RULES
@_LIMIT
@verb
def scan(asked: Asked, rules: tuple[str, ...], limit: int | None) -> int:
    """Look for broken subjects and print what is seen. Takes no rule, opens no incident. Exit 1 when something is broken."""
    loaded = asked.load()

    async def look() -> dict[str, Scan | str]:
        found: dict[str, Scan | str] = {}
        async with open_app(loaded, os.environ) as app:
            for name in _chosen(loaded, rules):
                try:
                    found[name] = await app.engine.look_once(name, limit)
                except Unreachable as error:
                    found[name] = str(error)
        return found

    found = wait_for(look())

    def text() -> Iterator[Line]:
        for name, seen in found.items():
            if isinstance(seen, Scan):
                yield from scan_lines(name, seen, zone_of(loaded))

    asked.tell(found, text, loaded)
    broken = any(isinstance(seen, Scan) and seen.sightings for seen in found.values())
    return complain(loaded, found) or (Exit.FOUND if broken else Exit.FINE)


@click.command()
@_RULES
@_LIMIT
@verb
def plan(asked: Asked, rules: tuple[str, ...], limit: int | None) -> int:
    """Print what would be done now, each request as it would be sent, credentials left out. Writes and sends nothing.

    Exit 1 when something is broken.
    """
    loaded = asked.load()

    async def look() -> dict[str, Plan | str]:
        found: dict[str, Plan | str] = {}
        async with open_app(loaded, os.environ) as app:
            for name in _chosen(loaded, rules):
                try:
                    found[name] = flattened(await app.engine.propose(name, limit))
                except Unreachable as error:
                    found[name] = str(error)
        return found

    found = wait_for(look())

    def text() -> Iterator[Line]:
        for planned in found.values():
            if isinstance(planned, Plan):
                yield from plan_lines(planned, zone_of(loaded))

    asked.tell(found, text, loaded)
    broken = any(isinstance(planned, Plan) and planned.found for planned in found.values())
    return complain(loaded, found) or (Exit.FOUND if broken else Exit.FINE)


@click.command()
@_RULES
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rules.")
@verb
def heal(asked: Asked, rules: tuple[str, ...], limit: int | None) -> int:
    """Run one full cycle of each rule now, taken as any replica takes it: what another one holds is left.

    Notices are written, and delivered by a running daemon. Exit 1 when something needs a person.
    """
    loaded = asked.load()

    async def work() -> tuple[list[str], Status]:
        async with open_app(loaded, os.environ) as app:
            await app.engine.park_removed(await activate(app))
            done = [name for name in _chosen(loaded, rules)[:limit] if await _cycle(app, name)]
            return done, await ask_status(app.archive)

    done, answer = wait_for(work())

    def text() -> Iterator[Line]:
        yield Line("one cycle of: " + (", ".join(done) or "nothing; no rule was free"), "head")
        yield from lines(answer, zone_of(loaded))

    asked.tell({"cycles": done, "status": answer}, text, loaded)
    return Exit.FOUND if answer.needs_you else Exit.FINE


async def _cycle(app: App, rule: str) -> bool:
    """Look for new ones at once, then act on what is due by that; whether the rule was free at all."""
    await app.store.hasten(rule)
    async with renewing(app):
        return await app.engine.run_cycle([rule]) and (await app.engine.run_cycle([rule]) or True)
