"""Domain values as JSON and back, driven by their type hints: what the rows' ``body`` columns hold.

Times are ISO text in UTC, durations seconds, decimals text, enums their value; what a record may hold goes through
``pack`` and ``unpack``. Reading is lenient towards other versions of this code (law 17): a key that is missing gets the
field's default, a key that is not known is passed over; only a value that this version has no name for is refused,
with ``Unreadable``, and its row is then left alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from daemon.domain import value
from daemon.domain.value import Unknown, pack, unpack

T = TypeVar("T")
_Step = Callable[[Any], Any]
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_PLAIN: Final = (str, int, bool, float, types.NoneType)


class Unreadable(ValueError):
    """A stored value that this version of the code has no name for."""


def encode(given: Any) -> Any:
    """A dataclass as plain JSON."""
    return _encoder(cast("Hashable", type(given)))(given)


def decode(kind: type[T], stored: Any) -> T:
    """The dataclass that ``encode`` was given. Raises ``Unreadable``."""
    try:
        return cast("T", _decoder(cast("Hashable", kind))(stored))
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"a stored {kind.__name__} cannot be read: {error}") from error


def readable(kind: type[T], rows: Iterable[Any]) -> tuple[T, ...]:
    """Those that can be read; the others are left alone."""
    found = []
    for row in rows:
        try:
            found.append(decode(kind, row))
        except Unreadable:
            continue
    return tuple(found)


def dumps(plain: Any) -> str:
    """JSON text that PostgreSQL takes: without the NULs, lone surrogates and NaNs a foreign system may have sent."""
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(plain), ensure_ascii=False, separators=(",", ":"))
    return _NUL.sub(r"\1" + "\ufffd", text).encode(errors="replace").decode()


def _finite(plain: Any) -> Any:
    match plain:
        case float() if not math.isfinite(plain):
            return str(plain)
        case dict():
            return {key: _finite(item) for key, item in plain.items()}
        case list():
            return [_finite(item) for item in plain]
    return plain


@cache
def _encoder(hint: Any) -> _Step:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        steps = [(name, _encoder(inner)) for name, inner in _fields(hint).items()]
        return lambda given: {name: step(getattr(given, name)) for name, step in steps}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda given: given.value
    if hint is datetime:
        return lambda given: given.astimezone(UTC).isoformat()
    if hint is timedelta:
        return lambda given: given.total_seconds()
    if hint is Decimal:
        return str
    return _composed(hint, _encoder, pack)


@cache
def _decoder(hint: Any) -> _Step:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        steps = [(name, _decoder(inner)) for name, inner in _fields(hint).items()]
        return lambda stored: hint(**{name: step(stored[name]) for name, step in steps if name in stored})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if hint is datetime:
        return datetime.fromisoformat
    if hint is timedelta:
        return lambda stored: timedelta(seconds=stored)
    if hint is Decimal:
        return Decimal
    return _composed(hint, _decoder, unpack)


def _composed(hint: Any, inner: Callable[[Any], _Step], of_record: _Step) -> _Step:
    """What both directions do alike: optionals, mappings, tuples, and what a record may hold."""
    arguments = get_args(hint)
    if hint in _PLAIN:
        return lambda given: given
    if hint is Any or Unknown in arguments:
        return of_record
    if get_origin(hint) in (Union, types.UnionType):
        [step] = [inner(argument) for argument in arguments if argument is not types.NoneType]
        return lambda given: None if given is None else step(given)
    if get_origin(hint) is Mapping:
        of = inner(arguments[1])
        return lambda given: {key: of(item) for key, item in given.items()}
    if get_origin(hint) is tuple:
        each = inner(arguments[0])
        return lambda given: tuple(each(item) for item in given)
    raise TypeError(f"{hint} has no stored form")


def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, localns=vars(value))  # Value names itself, also where it was imported
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
