"""What every settings model is made of: a strict frozen base, durations and rates as text, secrets that cannot print.

A secret enters as ``Secret`` and leaves by ``reveal`` on the wire alone. Should an outside system say it back to us (a
500 that echoes headers, a driver's message that quotes the DSN), ``Redactor`` takes it out of whatever is going to be
stored or shown.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))(?:\s*\d+(?:\.\d+)?(?:ms|s|m|h|d))*")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST = timedelta(days=36500)  # what is longer cannot be added to every time that there is


class Settings(BaseModel):
    """Base of every model of configuration and rules: unknown keys refused, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def parse_duration(text: object) -> timedelta:
    """``90s``, ``5m``, ``2h``, ``3d``, ``1h 30m`` as a timedelta. Raises ValueError with what would be right."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no duration; write a number with a unit, such as 90s, 5m, 2h or 3d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {format_duration(_LONGEST)}")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads back as the same value."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def at_least(least: str) -> Callable[[timedelta], timedelta]:
    """A check for a duration that may be no shorter. It raises ValueError with what would be right."""

    def checked(value: timedelta) -> timedelta:
        if value < parse_duration(least):
            raise ValueError(f"must be at least {least}")
        return value

    return checked


Duration = Annotated[timedelta, BeforeValidator(parse_duration, json_schema_input_type=str)]
"""A field that holds a timedelta and is written as ``5m``."""


def parse_zone(name: str) -> str:
    """A name that the time zone database knows. Raises ValueError with what would be right."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{name!r} is no time zone; write a name such as Europe/Moscow") from None
    return name


Zone = Annotated[str, AfterValidator(parse_zone)]
"""A field that names a time zone."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per so long."""

    count: float
    period: timedelta

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.count / self.period.total_seconds()

    @property
    def burst(self) -> int:
        """How many may go at once after a pause: a second's worth, at least one."""
        return max(1, math.ceil(self.per_second))


def parse_rate(text: object) -> Rate:
    """``2/s``, ``90/m``, ``20/h``. Raises ValueError with what would be right."""
    if isinstance(text, Rate):
        return text
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is no rate; write so many per second, minute or hour, such as 2/s, 90/m or 20/h")
    return Rate(float(match[1]), timedelta(seconds=_UNITS[match[2]]))


RateText = Annotated[Rate, BeforeValidator(parse_rate, json_schema_input_type=str)]
"""A field that holds a ``Rate`` and is written as ``2/s``."""


class ConnectorSettings(Settings):
    """What every connector may be told; a kind's settings model extends this."""

    rate: RateText | None = Field(None, description="Requests per second, minute or hour (2/s), shared by all replicas; none: no limit.")
    timeout: Annotated[Duration, AfterValidator(at_least("10ms"))] = Field(
        timedelta(seconds=10), description="Bound on one request, from its first byte to the whole answer (30s)."
    )
    slots: int = Field(10, ge=1, le=100, description="How many acts may be on their way at once from this replica.")
    lag: Duration = Field(timedelta(0), description="How old its answers may be (a replica behind its primary): 0s.")


class Secret:
    """A value that is never shown: not by ``str``, ``repr``, formatting, JSON, pickling or an error message."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; only the code that puts it on the wire calls this."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: object) -> Secret:
            if isinstance(value, Secret):
                return value
            if isinstance(value, str):
                return cls(value)
            raise ValueError("must be text, best given as ${env:NAME} or ${file:PATH}")

        return core_schema.no_info_plain_validator_function(check, serialization=core_schema.plain_serializer_function_ser_schema(repr))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "description": "A secret: ${env:NAME} or ${file:PATH}."}


_MASK = "[secret]"
_SHORTEST = 4
"""Shorter values are not looked for: masking every "1" would hide the text and prove the secret."""


class Redactor:
    """Takes secrets out of text, in whatever writing they come back: plain, in a URL, in JSON, in HTML, in base64.

    Of a secret that is a URL its password, its token in the path and its query's values count as well.
    """

    __slots__ = ("_pattern",)

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        values = {part for secret in secrets for part in _parts(secret.reveal())}
        writings = {text for value in values for text in _writings(value) if len(text) >= _SHORTEST}
        alternatives = "|".join(re.escape(text) for text in sorted(writings, key=len, reverse=True))
        self._pattern = re.compile(alternatives) if alternatives else None

    def __call__(self, text: str) -> str:
        """The text with ``[secret]`` wherever one stood."""
        return self._pattern.sub(_MASK, text) if self._pattern else text

    def tree(self, value: Any) -> Any:
        """JSON-like values with every text in them redacted, keys too."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self.tree(key): self.tree(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(item) for item in value]
        return value

    def whole(self, value: T) -> T:
        """The same value, of the same types, with every text in it redacted, as deep as dataclasses, mappings and tuples go."""
        match value:
            case str():
                return cast("T", self(value))
            case Mapping():
                return cast("T", {self.whole(key): self.whole(item) for key, item in value.items()})
            case list() | tuple():
                return cast("T", type(value)(self.whole(item) for item in value))
        if is_dataclass(value) and not isinstance(value, type):
            return cast("T", replace(value, **{each.name: self.whole(getattr(value, each.name)) for each in fields(value)}))
        return value

    def __repr__(self) -> str:
        return "Redactor(…)"


def _parts(value: str) -> Iterator[str]:
    """The secret, and of a URL or DSN what is secret in it alone."""
    yield value
    for match in re.finditer(r"\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))", value):
        yield match[1] or match[2] or ""
    if scheme := re.fullmatch(r"[A-Za-z-]+ (\S+)", value):
        yield scheme[1]  # "Bearer <token>"
    if "://" in value:
        for part in _parts_of_url(value):
            yield part
            yield unquote(part)


_TELLING = re.compile(r"pass|token|secret|key|auth|sign", re.IGNORECASE)


def _parts_of_url(value: str) -> Iterator[str]:
    try:
        url = urlsplit(value)
    except ValueError:
        return
    web = url.scheme in ("http", "https")
    yield url.password or (url.username if web else None) or ""
    yield from (item for name, item in parse_qsl(url.query) if _TELLING.search(name))
    if web:  # webhooks carry their token in the path
        yield from (segment for segment in url.path.split("/") if len(segment) >= 12)


def _writings(value: str) -> Iterator[str]:
    """The ways in which others may write it."""
    yield value
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    yield html.escape(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(value).replace("/", "\\/")[1:-1]
    yield repr(value)[1:-1]
    yield from _base64(value)


def _base64(value: str) -> Iterator[str]:
    """What is certain of it in the base64 of any text that holds it: its bytes may begin at three places of a group."""
    data = value.encode()
    if len(data) < 2 * _SHORTEST:
        return
    for skip in range(3):
        text = base64.b64encode(bytes(skip) + data).decode()
        first = (skip * 8 + 5) // 6
        certain = text[first : (skip + len(data)) * 8 // 6]
        yield certain
        yield certain.replace("+", "-").replace("/", "_")
