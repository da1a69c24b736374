"""Logs: one sentence and its fields per line, JSON for machines, aligned words for a terminal; no secret in either.

    events ─▶ LogEvents ─┐
    libraries' warnings ─┼▶ standard logging ─▶ scrub ─▶ JSON line | readable line ─▶ stream
    crashes ─────────────┘

Secrets are taken out by their value, in every text that is written: sentences, fields, tracebacks of libraries too. A
line that cannot be made is replaced by one that says so, never by a traceback of logging itself.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

from daemon.engine.events import (
    Attempted,
    CycleEnded,
    Decided,
    Drilled,
    Event,
    GuardTripped,
    Noticed,
    Requested,
    Resolved,
    Scanned,
    Sighted,
    Trouble,
)

LOGGER = "orderheal"
Scrub: TypeAlias = Callable[[str], str]
"""Takes every known secret out of a text."""

Format: TypeAlias = Literal["auto", "json", "text"]
Telling: TypeAlias = tuple[int, str]
_COLOURS = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "1;31"}
_QUIET = {"apscheduler": logging.CRITICAL, "httpx": logging.WARNING, "psycopg": logging.CRITICAL, "sqlalchemy": logging.WARNING}
"""Libraries whose ordinary news would drown ours: what they do, and how their jobs fail, we tell ourselves."""


def telling(event: Event) -> Telling:
    """The level and the sentence of an event; its fields stand beside it."""
    match event:
        case Requested(outcome="ok" | "done"):
            return logging.DEBUG, "request answered"
        case Requested():
            return logging.WARNING, "request failed"
        case Scanned(failed=""):
            return logging.INFO, "scan complete" if event.complete else "scan goes on"
        case Scanned():
            return logging.WARNING, "scan failed"
        case Sighted():
            return logging.DEBUG, "subjects sighted"
        case Decided():
            return logging.INFO, "decision changed"
        case Attempted():
            return logging.INFO, "attempt ended"
        case Resolved():
            return logging.INFO, "incident ended"
        case Noticed(state="failed"):
            return logging.ERROR, "notice undelivered"
        case Noticed():
            return logging.INFO, "notice " + event.state
        case GuardTripped():
            return logging.WARNING, "guard holds the rule" if event.held else "guard lets the rule go on"
        case CycleEnded():
            return logging.DEBUG, "cycle ended"
        case Drilled(ok=True):
            return logging.INFO, "drill passed"
        case Drilled():
            return logging.ERROR, "drill failed"
        case Trouble():
            return logging.WARNING, event.sentence


class LogEvents:
    """Subscriber that writes events to a logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __call__(self, event: Event) -> None:
        """One line, if its level is wanted."""
        level, sentence = telling(event)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", sentence, extra={"fields": _of(event)})


def _of(event: Event) -> dict[str, Any]:
    if isinstance(event, Trouble):
        return dict(event.fields)
    return {field.name: value for field in fields(event) if (value := getattr(event, field.name)) not in ("", {})}


def clean(value: Any, scrub: Scrub) -> Any:
    """A value as plain JSON, every text in it scrubbed, keys too; before encoding, as escaping could hide a secret."""
    match value:
        case bool() | int() | None:
            return value
        case float():
            return round(value, 6)
        case datetime():
            return value.isoformat()
        case Mapping():
            return {scrub(str(key)): clean(item, scrub) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [clean(item, scrub) for item in value]
    return scrub(str(value))


class _Lines(logging.Formatter):
    """What both forms share: the parts of a line, scrubbed."""

    def __init__(self, scrub: Scrub) -> None:
        super().__init__()
        self.scrub = scrub

    def parts(self, record: logging.LogRecord) -> tuple[datetime, str, str, dict[str, Any]]:
        """Moment (UTC), level, sentence, fields."""
        extra = dict(getattr(record, "fields", {}))
        if record.name != LOGGER:
            extra["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            extra["error"] = record.exc_info[0].__name__
            extra["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        at = datetime.fromtimestamp(record.created, UTC)
        return at, record.levelname.lower(), self.scrub(record.getMessage()), clean(extra, self.scrub)


class JsonLines(_Lines):
    """A JSON object per line: ``at`` (UTC), ``level``, ``message``, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        at, level, sentence, extra = self.parts(record)
        moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json.dumps({"at": moment, "level": level, "message": sentence} | extra, ensure_ascii=False)


class TextLines(_Lines):
    """A line for people: moment with its zone, level, sentence, fields; aligned, coloured if wanted."""

    def __init__(self, scrub: Scrub, colour: bool) -> None:
        super().__init__(scrub)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        at, level, sentence, extra = self.parts(record)
        trace = extra.pop("traceback", "")
        pairs = " ".join(f"{self._paint('2', key + '=')}{_word(value)}" for key, value in extra.items())
        line = f"{at:%H:%M:%S}Z {self._paint(_COLOURS.get(level, '0'), f'{level:7}')} {_one_line(sentence):28} {pairs}"
        return line.rstrip() + (f"\n{trace.rstrip()}" if trace else "")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _one_line(text)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _one_line(text: str) -> str:
    """Control characters from outside must neither forge a line nor steer a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class _Handler(logging.StreamHandler[TextIO]):
    """A stream handler whose own failure prints no record: its arguments may hold a secret."""

    def handleError(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write('{"level": "error", "message": "a line of the log could not be written"}\n')
        except Exception:
            return  # the stream itself is gone; there is nowhere left to say it


def formatter(form: Format, stream: TextIO, scrub: Scrub) -> logging.Formatter:
    """The form that was asked for; ``auto``: readable lines on a terminal, JSON elsewhere."""
    terminal = stream.isatty()
    if form == "json" or (form == "auto" and not terminal):
        return JsonLines(scrub)
    return TextLines(scrub, colour=terminal)


@contextmanager
def logging_to(stream: TextIO, form: Format, scrub: Scrub, level: int = logging.INFO) -> Iterator[logging.Logger]:
    """Route the process's logging through one scrubbed handler: ours from ``level``, libraries' from warnings on."""
    root = logging.getLogger()
    ours = logging.getLogger(LOGGER)
    before, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", LOGGER, *_QUIET)}
    handler = _Handler(stream)
    handler.setFormatter(formatter(form, stream, scrub))
    root.handlers[:] = [handler]
    for name, least in {"": logging.WARNING, LOGGER: level, **_QUIET}.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)
    try:
        yield ours
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        for name, least in levels.items():
            logging.getLogger(name).setLevel(least)
