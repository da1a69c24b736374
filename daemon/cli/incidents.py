"""``orderheal incidents``: lists, one in full, and a person's words about them (directives, obeyed by the rule's next cycle)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

import click

from daemon.app import Loaded, open_store
from daemon.cli.common import DURATION, SPAN, WORDS, Asked, Exit, Fault, author, known_rules, verb, wait_for, zone_of
from daemon.domain.incident import Incident, Phase
from daemon.domain.standing import Directive, DirectiveKind
from daemon.engine.archive import Archive, NotUnique, Wanted
from daemon.engine.ports import Store
from daemon.views.incident import Dossier, dossier, list_lines, meant, show_lines
from daemon.views.text import Line


@click.group()
def incidents() -> None:
    """List incidents, show one, and say what people decide about them."""


def _filtered(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N."),
        click.option("--older", type=DURATION, metavar="2h", help="Opened longer ago than this."),
        click.option("--cause", metavar="CAUSE", help="Of this cause."),
        click.option("--rule", metavar="RULE", help="Of this rule."),
    ):
        command = option(command)
    return command


def _wanted(
    loaded: Loaded, rule: str | None, cause: str | None, older: timedelta | None, limit: int | None, phases: Sequence[str] = ()
) -> Wanted:
    known_rules(loaded, [rule] if rule else [])
    return Wanted(rule=rule, cause=cause, older=older or timedelta(0), limit=limit, phases=tuple(phases))


@incidents.command("list")
@_filtered
@click.option("--phase", "phases", multiple=True, type=click.Choice([phase.value for phase in Phase]), help="Of this phase; repeatable.")
@click.option("--mine", is_flag=True, help="Only those that need a person.")
@verb
def list_(
    asked: Asked, rule: str | None, cause: str | None, older: timedelta | None, limit: int | None,
    phases: tuple[str, ...], mine: bool,
) -> int:  # fmt: skip
    """List live incidents, or those of the phases named."""
    loaded = asked.load()
    wanted = _wanted(loaded, rule, cause, older, limit, phases)

    async def ask() -> tuple[datetime, Sequence[Incident]]:
        async with open_store(loaded, os.environ) as store:
            return await store.now(), await store.incidents(replace(wanted, needs_person=mine))

    now, found = wait_for(ask())
    asked.tell(found, lambda: list_lines(found, now) if found else [Line("no incident", "good")], loaded)
    return Exit.FINE


@incidents.command()
@click.argument("number", type=WORDS)
@click.option("--requests", is_flag=True, help="With each request as curl, credentials left out, and what came back.")
@verb
def show(asked: Asked, number: str, requests: bool) -> int:
    """Show one incident in full, by its id or the beginning of it."""
    loaded = asked.load()

    async def ask() -> Dossier:
        async with open_store(loaded, os.environ) as store:
            return await dossier(store, await one_of(store, number))

    answer = wait_for(ask())
    asked.tell(answer, lambda: show_lines(answer, zone_of(loaded), requests), loaded)
    return Exit.FINE


async def one_of(archive: Archive, number: str) -> Incident:
    """The incident of this id or its beginning, or the only live one that this number finds. Raises ``Fault``."""
    try:
        incident = await archive.incident(number)
    except NotUnique as error:
        raise Fault(str(error)) from None
    if incident is not None:
        return incident
    found = meant(number, await archive.find(number))
    live = [one for one in found if one.live] or list(found)
    if len(live) == 1:
        return live[0]
    if not live:
        raise Fault(f"there is no incident {number}; see: orderheal incidents list")
    raise Fault(f"{number} fits several incidents: {', '.join(one.id for one in live)}")


@dataclass(frozen=True, slots=True)
class Word:
    """A person's word, about to be said."""

    kind: DirectiveKind
    length: timedelta | None
    reason: str
    yes: bool


def _lasting(kind: DirectiveKind) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """``--for``, of the words that last."""
    if kind in (DirectiveKind.RELEASE, DirectiveKind.RETRY):
        return lambda command: command
    return click.option("--for", "length", type=SPAN, metavar="2h", help="For how long, in rule time; left out: until it ends.")


def _spoken(kind: DirectiveKind, doing: str) -> Callable[..., int]:
    """The command of one kind of word: about several incidents, or all that a filter finds."""

    @click.argument("numbers", nargs=-1, type=WORDS, metavar="[ID]…")
    @_filtered
    @click.option("--reason", default="", help="Why; kept with the mark.")
    @_lasting(kind)
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @verb
    def command(
        asked: Asked, numbers: tuple[str, ...], rule: str | None, cause: str | None, older: timedelta | None,
        limit: int | None, reason: str, yes: bool, length: timedelta | None = None,
    ) -> int:  # fmt: skip
        if not numbers and not (rule or cause or older):
            raise Fault(f"say which incidents to {kind}: their ids, or --rule, --cause, --older")
        if numbers and (rule or cause or older):
            raise Fault("name ids or filter, not both")
        loaded = asked.load()
        wanted = _wanted(loaded, rule, cause, older, limit)
        word = Word(kind, length, reason, yes or (bool(numbers) and kind is not DirectiveKind.DISMISS))
        return wait_for(_say(asked, loaded, numbers, wanted, word))

    command.__doc__ = doing
    return command


async def _say(asked: Asked, loaded: Loaded, numbers: Iterable[str], wanted: Wanted, word: Word) -> int:
    async with open_store(loaded, os.environ) as store:
        named = [await one_of(store, number) for number in numbers]
        found = list({one.id: one for one in named}.values()) if numbers else list(await store.incidents(wanted))
        ended = [one for one in found if not one.live]
        if ended:
            raise Fault(f"{ended[0].id} has ended; there is nothing to {word.kind}")
        if not found:
            asked.tell([], lambda: [Line("no incident fits", "good")], loaded)
            return Exit.FINE
        now = await store.now()
        if not word.yes:
            for line in list_lines(found, now):
                click.echo(line.text, err=asked.as_json)
            click.confirm(f"{word.kind} {len(found)} of them?", abort=True, err=True)
        said = [await _direct(store, one, word, now) for one in found]
    asked.tell(said, lambda: [Line(f"{word.kind}: {len(said)}; the rule's next cycle obeys", "good")], loaded)
    return Exit.FINE


async def _direct(store: Store, incident: Incident, word: Word, now: datetime) -> Directive:
    until = now + word.length if word.length else None
    directive = Directive(uuid4().hex, word.kind, incident.rule, incident.id, author(), word.reason, now, until)
    await store.direct(directive)
    return directive


_WORDS = {
    "claim": (DirectiveKind.CLAIM, "Take incidents: orderheal goes on looking, but does not act or tell."),
    "ack": (DirectiveKind.CLAIM, "The same as claim."),
    "release": (DirectiveKind.RELEASE, "Give claimed, dismissed or excluded incidents back."),
    "retry": (DirectiveKind.RETRY, "Make incidents due now; a spent ladder gets one more attempt of its last call."),
    "dismiss": (DirectiveKind.DISMISS, "Hold acts and messages until the subject is seen healthy or gone."),
}
for _name, (_kind, _doing) in _WORDS.items():
    incidents.command(_name, hidden=_name == "ack")(_spoken(_kind, _doing))
