"""Everything the engine awaits: small Protocols, each with a contract that one test suite holds over every implementation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.attempt import Outcome, Request
from daemon.domain.incident import Incident, Why
from daemon.domain.notice import Dispatch
from daemon.domain.shape import Answer, Page, Shape
from daemon.domain.standing import Directive, Pause, Standing
from daemon.domain.value import Timescale, Value
from daemon.engine.change import Change, Conclusion, GiveBack, Intent, RuleVersion, Tenure
from daemon.engine.events import Event


class Unreachable(Exception):
    """A source could not be read: not connected, timed out, refused, or its fingerprint does not hold. Message without secrets."""


class Clock(Protocol):
    """Monotonic seconds that go on while the machine is suspended, and a way to wait. No wall clock: that is the store's."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment (CLOCK_BOOTTIME)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. A hand clock returns when somebody has moved it that far."""
        ...


class Events(Protocol):
    """News for logs and metrics. Synchronous, cannot fail, never read back; emitted after the commit they tell of (rule 7)."""

    def __call__(self, event: Event, /) -> None:
        """Take note of it."""
        ...


class Connector(Protocol):
    """One external system. Implementations never raise anything but ``Unreachable`` from ``list`` and ``count``; ``ask`` and ``perform`` never raise.

    A record is a mapping of *every* declared field to a value of its declared type (``None`` only where nullable); what
    could not be read is ``Unknown`` in its place. Identifiers are strings.
    """

    @property
    def name(self) -> str:
        """Its name in ``config.yaml``."""
        ...

    @property
    def shape(self) -> Shape:
        """What it offers."""
        ...

    @property
    def slots(self) -> int:
        """How many acts may be on their way at once from this replica."""
        ...

    @property
    def lag(self) -> timedelta:
        """How old its answers may be (database time)."""
        ...

    @property
    def rate(self) -> tuple[float, int] | None:
        """Requests per second (database time) shared by all replicas, and the burst; ``None``: no limit."""
        ...

    def list(
        self, records: str, where: str | Mapping[str, Value] | None, since: datetime | None, cursor: str | None, now: datetime, size: int, hold: bool
    ) -> AsyncGenerator[Page, None]:
        """Pages from ``cursor`` on (``None``: the beginning), each with the cursor that goes on after it.

        ``since``: only records whose incremental cursor field is at least this. ``now``: rule time for ``:now``. ``hold``: nothing
        is asked between pages, so one statement may stay open (law 15). Two listings from one cursor may differ; nothing is concluded
        from absence. Raises ``Unreachable``.
        """
        ...

    async def count(self, records: str, now: datetime) -> int | None:
        """How many records a scan could read at all (the percentage's denominator), ``None`` when it cannot be known."""
        ...

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for every key asked: present, absent or unknown. Exactly the asked keys are in the result.

        ``fresh``: from the primary, and an absence confirmed singly where the system needs that (law 14). Never raises: an unreachable
        system answers ``Unknown`` for each key. Several records that fit a key stand in one ``Present``.
        """
        ...

    def timeout(self, call: str) -> timedelta:
        """The bound (database time) on everything from the first byte of such a request to its outcome."""
        ...

    def prepare(self, call: str, args: Mapping[str, Value], idempotency_key: str) -> Request:
        """The request, whole but for credentials. Pure. Raises ValueError when an argument cannot be said on the wire."""
        ...

    async def perform(self, request: Request) -> Outcome:
        """Adds credentials and sends it, once: one request on the wire, no retry, no redirect (law 5). Never raises but when cancelled."""
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong with it, a sentence each with the remedy, for ``doctor``; nothing when all is well."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Channel(Protocol):
    """A connector that can tell a person something."""

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """Tell it, once. ``done`` only on an awaited answer; ``later`` with ``retry_at_db`` when asked to wait. Never raises."""
        ...


class Quota(Protocol):
    """Rates shared by all replicas: one GCRA row per connector, in database time."""

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """Take the tokens and return 0, or take none and return the seconds after which it is worth asking again."""
        ...

    async def push(self, target: str, until_db: datetime) -> None:
        """Nobody gets a token before this moment (``Retry-After``)."""
        ...


class Store(Protocol):
    """The engine's own rows. Every method is one transaction with the store's own time; the times it returns are database time,
    those inside domain values rule time."""

    async def timescale(self) -> Timescale:
        """Origin and factor; one row, written before the first start."""
        ...

    async def now(self) -> datetime:
        """Rule time now."""
        ...

    async def activate(self, rules: Sequence[RuleVersion], revision: int | None) -> Sequence[str]:
        """Make these the active versions if ``revision`` (``None``: database time of this call) is not lower than the stored one (law 11).

        Rules that are no longer there, or disabled, are deactivated: returns the names whose open incidents are now to be parked.
        A lower revision changes nothing: this replica then takes only what it holds in the active version.
        """
        ...

    async def deserted(self, holds: Mapping[str, str], patience: timedelta) -> int | None:
        """The revision by which to activate again, when those who brought the active versions have gone; else ``None``.

        They have gone when a rule that this replica does not hold in the active digest was due for so long (database time), and
        nobody took it.
        """
        ...

    async def take(self, holds: Mapping[str, str], holder: str, lease: timedelta) -> Tenure | None:
        """The most overdue active rule that this replica holds in the active digest, for one cycle, its epoch raised; else ``None``."""
        ...

    async def renew(self, tenures: Sequence[Tenure], lease: timedelta) -> Mapping[str, datetime]:
        """Prolong those still held; rule → new ``until_db``. A rule that is missing in the result is lost."""
        ...

    async def give_back(self, tenure: Tenure, back: GiveBack) -> None:
        """End the tenure. Does nothing when it is no longer ours."""
        ...

    async def standing(self, rule: str, now: datetime) -> Standing:
        """All that is known about the rule; ``now`` (rule time) is put into the value. Takes no locks, needs no tenure."""
        ...

    async def previous(self, rule: str, keys: Collection[str]) -> Mapping[str, Incident]:
        """The newest ended incident per key, whatever its age within ``engine.keep``."""
        ...

    async def commit(self, change: Change, tenure: Tenure) -> None:
        """Write it all or nothing. Raises ``Fenced``, ``Conflict``. The same change committed again does nothing (law 18)."""
        ...

    async def admit(self, intents: Sequence[Intent], tenure: Tenure, room: timedelta) -> Mapping[str, Why]:
        """The gate (laws 3, 16): one transaction. Who was *not* let in, by attempt id, and why: ``paused``, ``object_busy``, ``calls_per_hour``,
        ``unknown`` (the incident was written since), ``lease_short`` (less than ``room`` of the lease is left). The others' attempts are written, open, and
        their incidents replaced. Raises ``Fenced``.
        """
        ...

    async def conclude(self, conclusions: Sequence[Conclusion], tenure: Tenure) -> bool:
        """Record the outcomes. The outcome is accepted from its own sender (holder and epoch of the attempt) even after its tenure ended; the
        incidents only within the tenure and on the version they carry. ``False``: the incidents were not written.
        """
        ...

    async def direct(self, directive: Directive) -> None:
        """A person's word; makes the rule due now."""
        ...

    async def pause(self, pause: Pause) -> None:
        """Write a pause; takes effect at the gate at once."""
        ...

    async def resume(self, rule: str | None, connector: str | None, author: str) -> int:
        """End the pauses of exactly that scope; how many. Makes due again what they held."""
        ...

    async def park(self, rule: str, change: Change) -> None:
        """Park the open incidents of a rule that is gone or disabled (law 11): the one write without a tenure; refused while one is held."""
        ...


class Outbox(Protocol):
    """Notices on their way. Leased by a notifier; a crashed one's leases come back."""

    async def lease(self, holder: str, limit: int, lease: timedelta) -> Sequence[Dispatch]:
        """Pending dispatches whose time has come, oldest first, in the order of their episode; each with the thread of its episode if known."""
        ...

    async def behind(self, dispatch: Dispatch, holder: str, lease: timedelta) -> Sequence[Dispatch]:
        """Lease also what waits behind a leased dispatch and is due: the same episode, contact and channel, in its order."""
        ...

    async def settle(self, dispatch: Dispatch, outcome: Outcome, following: Sequence[Dispatch], now: datetime) -> bool:
        """Record what became of it (``dispatch`` carries its new state) and add what follows (next channel, fallback), in one transaction.

        ``done`` marks the notice's problem as delivered. ``False``: the lease was lost, nothing written.
        """
        ...

    async def sent(self, contact: str, since: datetime) -> int:
        """How many messages this contact was sent since then (its ``rate``)."""
        ...
