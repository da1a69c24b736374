"""``orderheal catalog``: a catalogue file checked, handed to Lamoda and followed until its import has ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from daemon import catalog as transfers
from daemon.app import App, Loaded, open_app
from daemon.catalog import CALL, FEED_STATUS, FEEDS, Catalogue, Format, Import, Memory, Pushed, Show, Transfer, Verdict
from daemon.cli.common import DURATION, INTERRUPTED, Asked, Down, Exit, Fault, verb, wait_for
from daemon.engine.ports import Connector
from daemon.views.text import Line, Tone, columns, plain, visible


@click.group()
def catalog() -> None:
    """Transfer a catalogue to Lamoda and see what became of it."""


_MARKET = click.option("--market", metavar="NAME", help="Connector of the SellerCenter; needed if there are several.")
_WAIT = click.option("--wait", type=DURATION, default="6h", show_default=True, metavar="6h", help="For how long to follow the import.")


@catalog.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--headers", "format_", type=click.Choice(["csv", "xlsx"]), required=True, help="Format of the file, which decides its headings.")
@click.option("--separator", metavar='";"', help="What stands between the columns of a CSV file; of no use for a workbook.")
@click.option("--service", metavar="NAME", help=f"Connector with the call {CALL}; needed if there are several.")
@_MARKET
@_WAIT
@click.option("--yes", is_flag=True, help="Do not ask, even if this very file was pushed before.")
@verb
def push(
    asked: Asked, file: Path, format_: str, separator: str | None, service: str | None, market: str | None, wait: timedelta, yes: bool
) -> int:
    """Check FILE, send it with save_csv, and follow its import. Exit 1 when a product failed."""
    if format_ == "xlsx" and separator is not None:
        raise Fault("--separator is for --headers csv only; a workbook has none")
    if format_ == "csv" and separator is None:
        raise Fault('--headers csv needs the separator of the columns: --separator ";"')
    loaded = asked.load()
    catalogue = transfers.read(file, cast("Format", format_), separator or "", loaded.config.document.catalog)

    async def run() -> Import:
        async with open_app(loaded, os.environ) as app:
            transfer = _transfer(app, service, market)
            try:
                pushed = await _pushed(app, transfer, catalogue, yes)
            except asyncio.CancelledError:
                _say(_stopped(transfer.memory.last(catalogue.digest)))
                raise
            return await _followed(app, transfer.market, pushed.request_id or "", wait, at_once=False)

    return _told(asked, loaded, _interruptible(run))


@catalog.command()
@click.argument("request_id")
@_MARKET
@_WAIT
@verb
def status(asked: Asked, request_id: str, market: str | None, wait: timedelta) -> int:
    """Follow the import REQUEST_ID until it has ended. Exit 1 when a product failed."""
    loaded = asked.load()

    async def run() -> Import:
        async with open_app(loaded, os.environ) as app:
            return await _followed(app, _market(app, market), request_id, wait, at_once=True)

    return _told(asked, loaded, _interruptible(run))


async def _pushed(app: App, transfer: Transfer, catalogue: Catalogue, yes: bool) -> Pushed:
    """The push of this file: a new one, or the earlier one if it turns out to have arrived."""
    before = transfer.memory.last(catalogue.digest)
    if before is not None and before.request_id is None:
        _say(f"{before.file} was being pushed on {before.at}, and no answer was kept; looking whether it has arrived …")
        try:
            return _accepted(await transfer.arrived(before))
        except transfers.NotKnown as error:
            _confirm(f"{error}. Push it now?", yes)
    elif before is not None:
        _confirm(f"this very file was pushed on {before.at} as import {before.request_id}. Push it again?", yes)
    _say(f"{catalogue.name}: {len(catalogue.skus)} products, nothing wrong; sending …")
    try:
        return _accepted(await transfer.push(catalogue, await app.store.now()))
    except transfers.NotPushed as error:
        if error.refused:
            raise _Refused(f"the catalogue was not taken: {visible(str(error))}") from None
        raise Down(f"the catalogue was not taken ({visible(str(error))}), nothing has begun; see: orderheal doctor") from None
    except transfers.NotKnown as error:
        raise Down(f"{error}; pushing the same file again looks for it first and then asks") from None


def _stopped(last: Pushed | None) -> str:
    if last is None or last.request_id is not None:
        return "stopped before anything was sent"
    return "stopped while sending, it may have arrived; pushing the same file again looks for it first and then asks"


class _Refused(click.ClickException):
    """Somebody looked at it and said no."""

    exit_code = Exit.FOUND


def _accepted(pushed: Pushed) -> Pushed:
    _say(f"accepted by Lamoda as import {pushed.request_id}; not imported yet")
    return pushed


async def _followed(app: App, market: Connector, request_id: str, wait: timedelta, at_once: bool) -> Import:
    on = f"to go on: orderheal catalog status {request_id}"
    try:
        with _progress(on) as show:
            return await transfers.follow(market, request_id, app.clock, wait, show, at_once=at_once)
    except transfers.NoSuchImport:
        raise Fault(f"{market.name} knows no import {visible(request_id)}; it keeps them for 30 days, each country its own") from None
    except asyncio.CancelledError:
        _say("stopped looking; the import goes on")
        raise
    except transfers.NotEnded as error:
        raise Down(f"the import has not ended yet (last seen: {visible(str(error))}); {on}") from None


@contextmanager
def _progress(on: str) -> Iterator[Show]:
    """A bar on a terminal, a line for each change elsewhere; both on stderr."""
    console = Console(stderr=True)
    _say(f"following the import; Ctrl-C ends only the looking, {on}")
    if not console.is_terminal:
        yield _Lines()
        return
    parts = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=console) as progress:
        task = progress.add_task("Queued", total=None)

        def show(found: Import | str) -> None:
            if isinstance(found, str):
                progress.update(task, description=f"waiting ({visible(found)[:60]})")
                return
            progress.update(task, description=visible(found.status), total=found.total or None, completed=found.processed or 0)

        yield show


class _Lines:
    """What is new, once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, found: Import | str) -> None:
        text = visible(found) if isinstance(found, str) else f"{visible(found.status)}: {_of(found.processed, found.total)}"
        if text != self._last:
            _say(text)
        self._last = text


def _interruptible(run: Callable[[], Coroutine[Any, Any, Import]]) -> Import | None:
    """Its result; ``None``: ended by Ctrl-C."""
    try:
        return wait_for(run())
    except KeyboardInterrupt:
        return None


def _told(asked: Asked, loaded: Loaded, ended: Import | None) -> int:
    if ended is None:
        return INTERRUPTED
    asked.tell({**plain(ended), "verdict": ended.verdict.value}, lambda: list(_lines(ended)), loaded)
    return Exit.FINE if ended.verdict is Verdict.OK else Exit.FOUND


def _lines(ended: Import) -> Iterator[Line]:
    failed = "how many failed is not known" if ended.failed is None else f"{ended.failed} failed"
    tone: Tone = "good" if ended.verdict is Verdict.OK else "bad"
    yield Line(f"import {visible(ended.request_id)}: {visible(ended.status)}, {_of(ended.processed, ended.total)}, {failed}", tone)
    if not ended.errors:
        return
    yield from map(Line, columns([("SKU", "error"), *sorted((each["sku"] or "—", each["message"]) for each in ended.errors)]))
    named = len({each["sku"] for each in ended.errors})
    if ended.failed is not None and ended.failed > named:
        yield Line(f"{ended.failed - named} more failed without being named by Lamoda", "warn")


def _of(processed: int | None, total: int | None) -> str:
    return f"{'?' if processed is None else processed} of {'?' if total is None else total}"


def _transfer(app: App, service: str | None, market: str | None) -> Transfer:
    try:
        caller = transfers.one_with(app.connectors, service, lambda one: CALL in one.shape.calls, f"call {CALL}", "--service")
    except ValueError as error:
        raise Fault(str(error)) from None
    return Transfer(caller, _market(app, market), app.clock, Memory(app.loaded.config.data_path))


def _market(app: App, named: str | None) -> Connector:
    try:
        return transfers.one_with(
            app.connectors, named, lambda one: {FEEDS, FEED_STATUS} <= one.shape.records.keys(), f"records {FEED_STATUS}", "--market"
        )
    except ValueError as error:
        raise Fault(str(error)) from None


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(visible(question), abort=True, err=True)


def _say(text: str) -> None:
    click.echo(text, err=True)
