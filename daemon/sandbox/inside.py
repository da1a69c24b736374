"""The world behind the Connector port: what the engine sees without a socket, under a clock that is moved by hand.

Answers are classified as the ``http`` kind does by default, so that a scripted answer means the same on both faces.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from daemon.domain.attempt import NOT_CONNECTED, Outcome, Reply, Request, Result
from daemon.domain.notice import Dispatch
from daemon.domain.shape import Absent, Answer, Page, Present, Records, Shape
from daemon.domain.value import Record, Unknown, Value, pack
from daemon.engine.ports import Clock, Unreachable
from daemon.sandbox.world import Message, Mute, Said, Spoken, World


class InsideConnector:
    """One system of the world as a connector and, where its shape says so, as a channel.

    ``now`` gives database time, which inside is rule time too. Nothing waits: a timeout is an unknown outcome at once.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        world: World,
        now: Callable[[], datetime],
        *,
        slots: int = 10,
        rate: tuple[float, int] | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self._name, self._shape, self._world, self._now = name, shape, world, now
        self._slots, self._rate, self._timeout = slots, rate, timeout

    @property
    def name(self) -> str:
        """See the port."""
        return self._name

    @property
    def shape(self) -> Shape:
        """See the port."""
        return self._shape

    @property
    def slots(self) -> int:
        """See the port."""
        return self._slots

    @property
    def lag(self) -> timedelta:
        """The world is never behind itself."""
        return timedelta(0)

    @property
    def rate(self) -> tuple[float, int] | None:
        """See the port."""
        return self._rate

    async def list(
        self,
        records: str,
        where: str | Mapping[str, Value] | None,
        since: datetime | None,
        cursor: str | None,
        now: datetime,
        size: int,
        hold: bool,
    ) -> AsyncGenerator[Page, None]:
        """Pages in the order of the key. ``where`` saves a source work and decides nothing, so it is not looked at."""
        kind, declared = f"{self._name}.{records}", self._shape.records[records]
        while True:
            rows = self._reach(kind)
            keys = sorted(key for key in rows if cursor is None or key > cursor)
            keys = [key for key in keys if self._listed(kind, rows[key], since, now)]
            page, cursor = keys[:size], keys[size - 1] if len(keys) > size else None
            yield Page(tuple(_record(declared, rows[key]) for key in page), cursor)
            if cursor is None:
                return

    def _listed(self, kind: str, row: Mapping[str, Value], since: datetime | None, now: datetime) -> bool:
        stock = self._world.stocks[kind]
        moved = row.get(stock.records.incremental.cursor) if stock.records.incremental else None
        return stock.scanned(row, now) and not stock.hidden(row) and (since is None or not isinstance(moved, datetime) or moved >= since)

    async def count(self, records: str, now: datetime) -> int | None:
        """All rows, where the shape says that they can be counted. Raises ``Unreachable``."""
        rows = self._reach(f"{self._name}.{records}")
        return len(rows) if self._shape.records[records].population else None

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """See the port; unknown for each key while the system is down."""
        try:
            self._reach(f"{self._name}.{records}")
        except Unreachable as down:
            return dict.fromkeys(keys, Unknown(str(down)))
        return {key: self._answer(records, by, key, fresh) for key in keys}

    def _answer(self, records: str, by: str, key: str, fresh: bool) -> Answer:
        kind, declared = f"{self._name}.{records}", self._shape.records[records]
        every = self._world.find(kind, by, key)
        found = [row for row in every if not self._world.stocks[kind].hidden(row)]
        if fresh and every and not found:
            return Unknown("may not be seen")
        return Present(tuple(_record(declared, row) for row in found)) if found else Absent()

    def _reach(self, kind: str) -> Mapping[str, Mapping[str, Value]]:
        self._world.advance(self._now())
        if not self._world.up(self._name):
            raise Unreachable(f"{self._name}: connection refused")
        return self._world.table(kind)

    def timeout(self, call: str) -> timedelta:
        """See the port."""
        return self._timeout

    def prepare(self, call: str, args: Mapping[str, Value], idempotency_key: str) -> Request:
        """See the port. Raises ``ValueError`` for parameters that are missing, too many or have no value."""
        wanted = self._shape.calls[call].params
        if set(args) != wanted:
            raise ValueError(f"{self._name}.{call} takes {', '.join(sorted(wanted))}, not {', '.join(sorted(args))}")
        for name, value in args.items():
            if value is None or isinstance(value, Unknown):
                raise ValueError(f"{self._name}.{call}: {name} has no value")
        said = {name: pack(value) for name, value in args.items()}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        url = f"inside://{self._name}/{call}"
        return Request(self._name, call, said, "POST", url, headers, json.dumps(said, ensure_ascii=False), idempotency_key)

    async def perform(self, request: Request) -> Outcome:
        """See the port."""
        now = self._now()
        said = self._world.perform(f"{self._name}.{request.call}", request.args, request.idempotency_key, now)
        return classify(said, now)

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """A person is told: the message is kept. ``<connector>.deliver`` may be scripted."""
        now, notice = self._now(), dispatch.notice
        said = self._world.perform(f"{self._name}.deliver", {"dispatch": dispatch.id}, "", now)
        outcome = classify(said, now)
        if outcome.result is not Result.DONE:
            return outcome
        text = "\n".join(part for part in (notice.title, notice.text, notice.ours) if part)
        data = {"kind": str(notice.kind), "rule": notice.rule, "mirror": dispatch.mirror}
        self._world.tell(Message(self._name, dispatch.contact, text, now, data))
        return Outcome(Result.DONE, reference=str(len(self._world.messages)))

    async def check(self) -> Sequence[str]:
        """See the port."""
        return () if self._world.up(self._name) else (f"{self._name} is down in the simulated world",)

    async def close(self) -> None:
        """Nothing is held."""


def by_hand(start: datetime, clock: Clock) -> Callable[[], datetime]:
    """The time of a world that began at ``start``, when the clock stood at zero."""
    return lambda: start + timedelta(seconds=clock.monotonic())


def classify(said: Said, now_db: datetime) -> Outcome:
    """What an answer means: ``done``, ``refused`` and ``later`` by their signs, everything else unknown."""
    match said:
        case Mute.DOWN:
            return Outcome(Result.LATER, NOT_CONNECTED)
        case Mute():
            return Outcome(Result.UNKNOWN, str(said))
    reply = Reply(said.status, said.headers, said.body)
    if said.status in (429, 503):
        wait = said.headers.get("Retry-After")
        retry_at = now_db + timedelta(seconds=int(wait)) if wait else None
        return Outcome(Result.LATER, f"status {said.status}", retry_at, reply)
    if said.status == 422:
        return Outcome(Result.REFUSED, f"status {said.status}", None, reply)
    if _success(said):
        return Outcome(Result.DONE, reply=reply)
    return Outcome(Result.UNKNOWN, f"status {said.status}, not recognised", None, reply)


def _success(said: Spoken) -> bool:
    try:
        body = json.loads(said.body)
    except ValueError:
        return False
    return said.status == 200 and isinstance(body, dict) and body.get("success") is True


def _record(declared: Records, row: Mapping[str, Value]) -> Record:
    """A row as the port promises it: every declared field, a null only where one may stand."""
    record: dict[str, Value] = {}
    for name, field in declared.fields.items():
        value = row.get(name)
        record[name] = Unknown(f"{name} is null") if value is None and not field.nullable else value
    return record


__all__: builtins.list[str] = ["InsideConnector", "by_hand", "classify"]
