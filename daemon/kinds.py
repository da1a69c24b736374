"""Kinds of connectors, discovered: a file in ``daemon/connectors`` that ends in ``KIND = Kind(…)`` is all it takes."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from daemon.domain.attempt import Outcome, Request, Result
from daemon.domain.shape import Answer, Field, FieldType, Page, Shape
from daemon.domain.value import Place, Timescale, Unknown, Value
from daemon.engine.ports import Clock, Connector, Events, Quota, Unreachable
from daemon.language.mistake import Mistake
from daemon.settings import Redactor, Settings


@dataclass(frozen=True, slots=True)
class Tools:
    """What a connector is given to work with; it takes nothing else from its surroundings.

    ``database_now`` is an estimate of the database's time (law 12: no wall clock of ours), for ``Retry-After``.
    ``redact`` knows all secrets in force; it goes over whatever an outside system said before it is kept or shown.
    ``environment`` is the installation's, for those outside who keep several apart.
    """

    clock: Clock
    quota: Quota
    events: Events
    timescale: Timescale
    database_now: Callable[[], datetime]
    timezone: str = "UTC"
    redact: Redactor = field(default_factory=Redactor)
    environment: str = "production"


_FIELD = re.compile(rf"({'|'.join(FieldType)})(\|null)?")


def parse_field(written: object) -> Field:
    """``string``, ``number|null`` … as a field. Raises ValueError with what would be right."""
    match = _FIELD.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise ValueError(f"no type of a field; write one of {', '.join(FieldType)}, with |null where it may be missing")
    return Field(FieldType(match[1]), nullable=match[2] is not None)


class WithoutCalls:
    """The half of the Connector port that a system without effects leaves empty: rules that call it do not load."""

    name: str
    _settings: Any

    async def count(self, records: str, now: datetime) -> int | None:
        """Not known (see the port); a source that can count says so itself."""
        return None

    def timeout(self, call: str) -> timedelta:
        """Of every request."""
        return cast(timedelta, self._settings.timeout)

    def prepare(self, call: str, args: Mapping[str, Value], idempotency_key: str) -> Request:
        """There is no call to prepare. Raises ValueError."""
        raise ValueError(f"{self.name} has no calls")

    async def perform(self, request: Request) -> Outcome:
        """There is no call to perform."""
        return Outcome(Result.NOT_SENT, f"{self.name} has no calls")


class WithoutListing:
    """What a system that can only be asked by key, or not at all, leaves empty: rules that scan it do not load."""

    name: str

    async def list(
        self, records: str, where: str | Mapping[str, Value] | None, since: datetime | None,
        cursor: str | None, now: datetime, size: int, hold: bool,
    ) -> AsyncGenerator[Page, None]:  # fmt: skip
        """There is nothing to list. Raises ``Unreachable``."""
        raise Unreachable(f"{self.name} cannot be listed")
        yield  # type: ignore[unreachable]  # what makes it a listing

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """There is nothing to ask for."""
        return dict.fromkeys(keys, Unknown(f"{self.name} has no records"))


At = Callable[[tuple[str | int, ...]], Place]
"""Where the value at a path below the connector's own settings stands in the configuration."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A connector file's whole: its settings' model, what its settings offer, and how it is opened.

    ``shape`` and ``lint`` are offline and pure. ``lint`` says what the model cannot (expressions, SQL, zones), each
    mistake with its place. ``address`` is the model of a channel's address in ``contacts`` (``None``: tells nobody).
    ``example`` is a block of YAML for the documentation that loads as it stands.
    """

    name: str
    settings: type[Settings]
    shape: Callable[[Any], Shape]
    open: Callable[[str, Any, Tools], Connector]
    example: str
    lint: Callable[[str, Any, At], Sequence[Mistake]] = lambda name, settings, at: ()
    address: type[Settings] | None = None


class KindTaken(Exception):
    """Two connector files declare one kind; rename one of them."""


@cache
def discover() -> Mapping[str, Kind]:
    """Every kind, by name. Raises ``KindTaken``."""
    from daemon import connectors

    kinds: dict[str, Kind] = {}
    for module in sorted(pkgutil.iter_modules(connectors.__path__), key=lambda found: found.name):
        kind = getattr(importlib.import_module(f"daemon.connectors.{module.name}"), "KIND", None)
        if not isinstance(kind, Kind):
            continue
        if kind.name in kinds:
            raise KindTaken(f"the kind {kind.name!r} is declared twice, the second time in connectors/{module.name}.py")
        kinds[kind.name] = kind
    return kinds
