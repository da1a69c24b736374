"""Both stores behind one handle, with one clock that is moved by hand.

PostgreSQL asks the time in one place, the function ``db_now``; the databases of these tests have one that reads a row.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from daemon.clock import HandClock
from daemon.domain.attempt import Attempt, Outcome, Reply, Request, Result
from daemon.domain.incident import Incident
from daemon.domain.notice import Dispatch, Notice, NoticeKind, Problem
from daemon.domain.rule import Severity
from daemon.domain.standing import Directive, DirectiveKind
from daemon.engine.change import Intent, RuleVersion, Tenure
from daemon.store.memory import MemoryStore
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

HAND_CLOCK = """
CREATE TABLE hand_clock (now timestamptz NOT NULL);
INSERT INTO hand_clock VALUES ('2026-03-02 09:00+00');
CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM hand_clock';
UPDATE meta SET origin = '2026-03-02 09:00+00';
"""


@dataclass
class Bench:
    """A store under test, and its clock."""

    store: Any
    clock: HandClock
    dsn: str | None
    _moved: Callable[[datetime], Awaitable[None]]

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock.monotonic())

    async def running(self, version: RuleVersion, holder: str = "alpha", lease: float = 30) -> Tenure:
        """A tenure of a rule that was just activated."""
        await self.store.activate([version], None)
        tenure = await self.store.take({version.name: version.digest}, holder, timedelta(seconds=lease))
        assert tenure is not None
        return tenure

    async def advance(self, **span: float) -> datetime:
        await self.clock.move(timedelta(**span).total_seconds())
        await self._moved(self.now)
        return self.now


@pytest.fixture(scope="session")
def migrated(pg_server) -> str:
    """A database with the schema and the hand clock, to be copied."""
    dsn = pg_server.fresh_database()
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(HAND_CLOCK)
    return dsn


@pytest.fixture
def store_dsn(pg_server, migrated) -> Iterator[str]:
    with pg_server.database(template=migrated) as dsn:
        yield dsn


@pytest.fixture
async def postgres(store_dsn) -> AsyncIterator[Bench]:
    clock = HandClock()

    async def moved(now: datetime) -> None:
        async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
            await connection.execute("UPDATE hand_clock SET now = %s", (now,))

    async with PostgresStore(store_dsn, size=4, monotonic=clock.monotonic) as store:
        yield Bench(store, clock, store_dsn, moved)


@pytest.fixture
async def memory() -> Bench:
    clock = HandClock()

    async def moved(now: datetime) -> None:
        return None

    return Bench(MemoryStore(clock, START), clock, None, moved)


@pytest.fixture(params=["memory", "postgres"])
def bench(request) -> Bench:
    """The store under the contract: over dicts, and over PostgreSQL."""
    return request.getfixturevalue(request.param)


class Make:
    """Values for the tests, with what does not matter filled in."""

    def rule(self, name: str = "r", digest: str = "d1", calls: int = 200, severity: int = 1, mode: str = "enforce"):
        return RuleVersion(name, digest, timedelta(minutes=5), calls, severity, "crm-team", mode)

    def incident(self, key: str = "k1", **given: Any) -> Incident:
        start = given.get("opened", START)
        known = {"id": f"i-{key}", "rule": "r", "digest": "d1", "record_key": f"row-{key}", "object": f"o-{key}"}
        return Incident(**{**known, "key": key, "opened": start, "since": start, **given})

    def attempt(self, incident: Incident, tenure: Tenure, **given: Any) -> Attempt:
        request = Request("ozon-integration", "upload_order", {"order": incident.key}, "POST", "http://ozon.test/upload")
        begun = tenure.timescale.rule(tenure.now_db)
        known = {
            "id": f"a-{incident.id}", "incident": incident.id, "rule": incident.rule, "object": incident.object,
            "step": "upload", "number": 1, "digest": tenure.digest, "request": request, "begun": begun,
            "ends_by": begun + timedelta(seconds=10), "holder": tenure.holder, "epoch": tenure.epoch,
        }  # fmt: skip
        return Attempt(**{**known, **given})

    def intent(self, incident: Incident, tenure: Tenure, **given: Any) -> Intent:
        return Intent(self.attempt(incident, tenure, **given), replace(incident, total=incident.total + 1))

    def done(self, attempt: Attempt, result: Result = Result.DONE, reason: str = "", settle: float = 0) -> Attempt:
        ended = attempt.begun + timedelta(seconds=1)
        reply = Reply(200, {"content-type": "application/json"}, '{"success": true}')
        outcome = Outcome(result, reason, reply=reply)
        return replace(attempt, outcome=outcome, ended=ended, settled=ended + timedelta(seconds=settle))

    def problem(self, id: str = "p1", **given: Any) -> Problem:
        return Problem(**{"id": id, "rule": "r", "level": "l1", "group": "", "contact": "crm", "episode": 1, **given})

    def notice(self, id: str = "n1", kind: NoticeKind = NoticeKind.BEGIN, **given: Any) -> Notice:
        known = {
            "problem": "p1", "rule": "r", "episode": 1, "sequence": 1, "contact": "crm", "severity": Severity.WARNING,
            "at": START, "title": "Заказы застряли", "text": "Не дошли: 3",
        }  # fmt: skip
        return Notice(**{**known, "id": id, "kind": kind, **given})

    def dispatch(self, notice: Notice, **given: Any) -> Dispatch:
        known = {"id": f"d-{notice.id}", "contact": notice.contact, "via": "telegram", "address": {"chat": "-1001"}}
        return Dispatch(**{**known, "notice": notice, **given})

    def directive(self, incident: str = "i-k1", id: str = "w1", **given: Any) -> Directive:
        known = {"kind": DirectiveKind.CLAIM, "rule": "r", "author": "anna", "reason": "", "at": START}
        return Directive(**{**known, "id": id, "incident": incident, **given})


@pytest.fixture
def make() -> Make:
    return Make()
