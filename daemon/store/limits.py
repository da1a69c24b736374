"""What holds acts back and is shared by all replicas: the gate's question, pauses, and one rate per connector.

``refusals`` is the gate's decision as a pure function over facts that a transaction has just read; both stores ask it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon.domain.guard import pausing
from daemon.domain.incident import Why
from daemon.domain.standing import Pause
from daemon.engine.change import Intent
from daemon.store.codec import dumps, encode
from daemon.store.ownership import nudge
from daemon.store.pool import Pool
from daemon.store.queries import queries

_SQL: Final = queries("limits")
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a gate has read within its transaction. ``now`` is rule time, ``left`` the rest of the lease.

    ``current``: incidents that are on the version they were read in. ``busy``: incidents whose object somebody acts on.
    ``calls``: how many calls of the rule count in the last hour.
    """

    now: datetime
    left: timedelta
    pauses: Sequence[Pause]
    current: Collection[str]
    busy: Collection[str]
    calls: int
    max_calls: int


def refusals(intents: Sequence[Intent], facts: Facts, room: timedelta) -> dict[str, Why]:
    """Who is not let in, by attempt id, and why; in the given order, so that the first get what is left of the hour."""
    refused: dict[str, Why] = {}
    objects: set[str] = set()
    for intent in intents:
        why = _refusal(intent, facts, room, objects, facts.calls + len(objects))
        if why is None:
            objects.add(intent.attempt.object)
        else:
            refused[intent.attempt.id] = why
    return refused


def _refusal(intent: Intent, facts: Facts, room: timedelta, taken: Collection[str], calls: int) -> Why | None:
    attempt = intent.attempt
    if facts.left < room:
        return Why.LEASE_SHORT
    if pausing(facts.pauses, attempt.rule, attempt.request.connector, facts.now):
        return Why.PAUSED
    if attempt.incident not in facts.current:
        return Why.UNKNOWN
    if attempt.incident in facts.busy or attempt.object in taken:
        return Why.OBJECT_BUSY
    return Why.CALLS_PER_HOUR if calls >= facts.max_calls else None


def interval(rate: float, burst: int, tokens: int) -> float:
    """Seconds per token. Raises ValueError for a question that could never be granted."""
    if rate <= 0 or not 0 < tokens <= burst:
        raise ValueError(f"{tokens} tokens at {rate}/s with a burst of {burst} can never be had")
    return 1 / rate


class Limits:
    """Pauses and rates as rows."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def pause(self, pause: Pause) -> None:
        """See ``Store.pause``. Touching the rules' rows puts every gate either before the pause or after it."""
        async with self._pool.transaction() as session:
            await session.run(_SQL["pause"], body=dumps(encode(pause)))
            await nudge(session, pause.rule)

    async def resume(self, rule: str | None, connector: str | None, author: str) -> int:
        """See ``Store.resume``."""
        async with self._pool.transaction() as session:
            ended = await session.run(_SQL["resume"], rule=rule, connector=connector, author=author)
            if ended:
                await nudge(session, rule)
            return ended

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """See ``Quota.reserve``. Raises ValueError when more tokens are asked for than the burst holds."""
        each = interval(rate, burst, tokens)
        asked = {"target": target, "each": each, "depth": burst * each, "tokens": tokens}
        async with self._pool.session() as session:
            while await session.row(_SQL["reserve"], **asked) is None:
                refused = await session.row(_SQL["wait"], **asked)
                if refused is not None:
                    return max(float(refused["seconds"]), 0.001)
                await session.run(_SQL["first"], **asked)
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        """See ``Quota.push``."""
        async with self._pool.session() as session:
            await session.run(_SQL["push"], target=target, until_db=until_db)
