"""What every verb shares: options, loading, one line per mistake, exit codes, and how lines are printed."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from daemon.app import CRASHED, App, Loaded, load
from daemon.config import Config, load_config
from daemon.engine.ports import Unreachable
from daemon.language.mistake import Mistakes
from daemon.settings import parse_duration
from daemon.store.embedded import EmbeddedError
from daemon.store.migrations import StoreError
from daemon.telemetry.health import BadAddress
from daemon.views.text import Line, Tone, plain

INTERRUPTED = 130
"""What a shell makes of Ctrl-C."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_COLOURS: Mapping[Tone, dict[str, Any]] = {
    "head": {"bold": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "warn": {"fg": "yellow"},
    "dim": {"dim": True},
}


class Exit(IntEnum):
    """What a command tells its caller."""

    FINE = 0
    FOUND = 1
    USAGE = 2
    UNREACHABLE = 3


class Fault(click.ClickException):
    """Something is wrong with what was typed or configured: a line each, exit 2."""

    exit_code = Exit.USAGE


class Down(click.ClickException):
    """A system could not be reached: one line with what to do next, exit 3."""

    exit_code = Exit.UNREACHABLE


def guarded(run: Callable[[], object]) -> int:
    """Run it; the exit code. Every way it can fail becomes a line on stderr, none a traceback."""
    try:
        code = run()
    except click.exceptions.Exit as wanted:
        return wanted.exit_code
    except click.UsageError as error:
        return _say(error.format_message() + _hint(error), Exit.USAGE)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except click.Abort as stopped:
        if isinstance(stopped.__cause__, KeyboardInterrupt):
            return _say("interrupted; what was asked for until then stands, see: orderheal status", INTERRUPTED)
        return _say("stopped; nothing was done", Exit.USAGE)
    except Mistakes as mistakes:
        return _say(str(mistakes), Exit.USAGE)
    except BadAddress as error:
        return _say(str(error), Exit.USAGE)
    except (StoreError, EmbeddedError) as error:
        return _say(str(error), Exit.UNREACHABLE if "reached" in str(error) else Exit.USAGE)
    except Unreachable as error:
        return _say(f"{error}; see: orderheal doctor", Exit.UNREACHABLE)
    except (BrokenPipeError, SystemExit):  # the second is what click makes of the first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader had enough; say nothing at exit either
        return Exit.FINE
    except Exception as error:  # its text and its trace may hold anything; its place is enough to find it
        return _say(f"orderheal has a fault of its own: {type(error).__name__} at {_place(error)}; please report it", CRASHED)
    return code if isinstance(code, int) else Exit.FINE


def _place(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _say(text: str, code: int) -> int:
    click.echo(text, err=True)
    return int(code)


def _hint(error: click.UsageError) -> str:
    return f" (see: {error.ctx.command_path} --help)" if error.ctx else ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What every verb may be told."""

    config: tuple[Path, ...]
    as_json: bool

    def load(self, offline: bool = False) -> Loaded:
        """Configuration and rules. Raises ``Mistakes``, or ``Fault`` when there is no file."""
        return load(self._files(), os.environ, offline=offline)

    def load_config(self) -> Config:
        """The configuration alone, whatever the rules are like. Raises ``Mistakes``, ``Fault``."""
        return load_config(self._files(), os.environ)

    def _files(self) -> tuple[Path, ...]:
        paths = self.config or (Path("config.yaml"),)
        missing = [path for path in paths if not path.is_file()]
        if missing:
            what = "this is no file" if missing[0].exists() else "there is no such file"
            raise Fault(f"{missing[0]}: {what}; name the configuration with --config")
        return paths

    def tell(self, answer: object, lines: Callable[[], Iterable[Line]], loaded: Loaded | None = None) -> None:
        """Print the answer: JSON for programs, lines for people; with secrets out."""
        scrub = loaded.redact if loaded else None
        if self.as_json:
            value = plain(answer)
            click.echo(json.dumps(scrub.tree(value) if scrub else value, ensure_ascii=False, indent=2))
            return
        for line in lines():
            click.secho(scrub(line.text) if scrub else line.text, **_COLOURS.get(line.tone, {}))


def verb(command: F) -> F:
    """``--config`` (repeatable), ``--json`` and ``--output json``, handed to the verb as its first argument ``asked``."""

    def handed(*args: Any, config: tuple[Path, ...], as_json: bool, output: str, **kwargs: Any) -> Any:
        return command(Asked(config, as_json or output == "json"), *args, **kwargs)

    handed.__name__, handed.__doc__ = command.__name__, command.__doc__
    handed.__dict__.update(command.__dict__)
    for option in (
        click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Same as --json."),
        click.option("--json", "as_json", is_flag=True, help="Answer for programs."),
        click.option(
            "--config", multiple=True, type=click.Path(path_type=Path), metavar="FILE", envvar="ORDERHEAL_CONFIG",
            help="Configuration; repeat it to lay files over earlier ones. [default: $ORDERHEAL_CONFIG, parted by colons, or config.yaml]",
        ),
    ):  # fmt: skip
        option(handed)
    return handed  # type: ignore[return-value]


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Span(_Duration):
    """A duration that a pause or a mark lasts: none at all would read as one without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        length = super().convert(value, param, ctx)
        if not length:
            self.fail("must be more than 0s; left out, it has no end", param, ctx)
        return length


DURATION = _Duration()
SPAN = _Span()


class _Words(click.ParamType[str]):
    """Something to read: not blank, and characters, which bytes that are no UTF-8 are not."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text:
            self.fail("must not be empty", param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("is not UTF-8", param, ctx)
        return text


WORDS = _Words()


def zone_of(loaded: Loaded) -> tzinfo:
    """The zone that this installation reads times in."""
    return ZoneInfo(loaded.config.document.timezone)


def author() -> str:
    """Who types, for marks and pauses."""
    try:
        return os.environ.get("ORDERHEAL_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb's work in an event loop of its own."""
    return asyncio.run(work)


def known_rules(loaded: Loaded, names: Iterable[str]) -> tuple[str, ...]:
    """The rules that were named, or all; a name that is none is a mistake with the nearest one."""
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        _known("rule", name, loaded.rules)
    return wanted or tuple(loaded.rules)


def known_connector(loaded: Loaded, name: str) -> None:
    """Raises ``Fault`` unless it is declared."""
    _known("connector", name, loaded.config.connectors)


def _known(what: str, name: str, names: Iterable[str]) -> None:
    known = tuple(names)
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise Fault(f'there is no {what} "{name}"' + (f', did you mean "{near[0]}"?' if near else ""))


def complain(loaded: Loaded, found: Mapping[str, object]) -> int:
    """Say which rules could not look (their answer is a text); the exit code then, else 0."""
    troubles = {name: answer for name, answer in found.items() if isinstance(answer, str)}
    for name, trouble in troubles.items():
        click.echo(loaded.redact(f"{name}: {trouble}; see: orderheal doctor"), err=True)
    return Exit.UNREACHABLE if troubles else Exit.FINE


@asynccontextmanager
async def renewing(app: App) -> AsyncIterator[None]:
    """Keep the leases of what runs in the block."""

    async def renew() -> None:
        while True:
            await app.clock.sleep(app.loaded.config.document.engine.lease.total_seconds() / 3)
            with suppress(Unreachable):  # the next one may work; a lease that runs out sends nothing more by itself
                await app.engine.renew()

    task = asyncio.create_task(renew(), name="renew")
    try:
        yield
    finally:
        task.cancel()
