"""Law 3: the gate. The rows themselves are held by tests/store; here, that the engine goes through it and obeys it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from builders import attempt, incident, minutes, rule
from laws.stage import Stage, Wrapped

from daemon.domain.incident import Why
from daemon.domain.rule import Guard, Mode
from daemon.engine.change import Change, GiveBack, Intent, RuleVersion, Tenure
from daemon.rehearsal import version_of
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore

LEASE = timedelta(seconds=30)


@pytest.fixture
def store_dsn(database: str) -> Iterator[str]:
    migrate(database)
    return database


async def running(store: PostgresStore) -> Tenure:
    version = RuleVersion("stuck", "d1", minutes(5), 200, 1, "team", "enforce")
    await store.activate([version], 1)
    tenure = await store.take({"stuck": "d1"}, "me", LEASE)
    assert tenure is not None
    return tenure


def stopped(tenure: Tenure) -> dict[str, object]:
    """Each deciding transaction, as a call that should not come to its end."""
    fresh, acted = incident(), attempt(holder=tenure.holder, epoch=tenure.epoch)
    return {
        "commit": lambda store: store.commit(Change("stuck", incidents=(fresh,)), tenure),
        "admit": lambda store: store.admit([Intent(acted, fresh)], tenure, timedelta(0)),
        "conclude": lambda store: store.conclude([], tenure),
    }


@pytest.mark.law("3.1")
@pytest.mark.parametrize("name", ["commit", "admit", "conclude"])
async def test_each_deciding_transaction_begins_with_its_rules_row(store_dsn: str, name: str) -> None:
    async with PostgresStore(store_dsn, size=3) as store, await psycopg.AsyncConnection.connect(store_dsn) as other:
        deciding = stopped(await running(store))[name]
        await other.execute("SELECT FROM rule WHERE name = 'stuck' FOR UPDATE")
        decided = asyncio.ensure_future(deciding(store))
        async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as watching:
            waits = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            while not (found := await (await watching.execute(waits)).fetchall()):
                assert not decided.done(), "it did not ask for the row"
            written = await (await watching.execute("SELECT (SELECT count(*) FROM incident) + (SELECT count(*) FROM attempt)")).fetchone()
        assert "FROM rule" in found[0][0]
        assert written == (0,), "nothing was written before"
        await other.rollback()
        await asyncio.gather(decided, return_exceptions=True)


async def stage_with(checked: object = None, **more: object) -> Stage:
    stage = Stage(checked or rule(), **more)
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(14)
    return stage


class Meddling(Wrapped):
    """A store before whose gate somebody changes something."""

    def __init__(self, inner: object, meddle: object) -> None:
        super().__init__(inner)
        self.meddle, self.refused = meddle, []

    async def admit(self, intents: object, tenure: Tenure, room: timedelta) -> object:
        await self.meddle(self.inner, tenure)
        refused = await self.inner.admit(intents, tenure, room)
        self.refused += refused.values()
        return refused


@pytest.mark.law("3.2")
async def test_a_pause_between_the_decision_and_the_gate_stops_the_act() -> None:
    stage = await stage_with()

    async def paused(store: object, tenure: Tenure) -> None:
        await stage.pause()

    store = Meddling(stage.store, paused)
    stage.engines = [stage.engine("one", store)]
    await stage.wait(10)
    assert (stage.calls(), store.refused, stage.incident().why) == (0, [Why.PAUSED], Why.PAUSED)


@pytest.mark.law("3.2")
async def test_a_version_that_was_written_meanwhile_keeps_its_intent_out() -> None:
    stage = await stage_with()

    async def written(store: object, tenure: Tenure) -> None:
        if not stage.engines[0]._store.refused:
            await store.commit(Change("stuck", incidents=(stage.incident(),)), tenure)

    store = Meddling(stage.store, written)
    stage.engines = [stage.engine("one", store)]
    await stage.wait(1.5)
    assert store.refused == [Why.UNKNOWN]
    assert stage.calls() == 1, "it was decided anew, on what is stored now"


@pytest.mark.law("3.2")
async def test_a_mode_that_changed_meanwhile_stops_the_act() -> None:
    stage = await stage_with()

    async def observed(store: object, tenure: Tenure) -> None:
        await store.activate([version_of(replace(rule(), digest="d2", mode=Mode.OBSERVE))], 2)

    stage.engines = [stage.engine("one", Meddling(stage.store, observed))]
    await stage.wait(30)
    assert stage.calls() == 0
    assert not stage.attempts()


@pytest.mark.law("3.3")
async def test_two_rules_worth_of_calls_never_exceed_the_hour() -> None:
    stage = Stage(rule(guard=Guard(max_calls_per_hour=3, max_broken=100, max_broken_percent=100)))
    stage.plant(*(f"N{n}" for n in range(8)), calls={"api.upload": "no_effect"})
    await stage.begin(1)
    for _ in range(24):
        await stage.wait(5)
        hour = [one for one in stage.attempts() if one.begun > stage.now - timedelta(hours=1)]
        assert len(hour) <= 3
    assert len(stage.attempts()) >= 6, "the hour rolls on"
    assert Why.CALLS_PER_HOUR in {one.why for one in stage.store.tables.incidents.values()}


@pytest.mark.law("3.3")
async def test_the_gate_counts_the_hour_itself() -> None:
    """Two replicas whose standing was read before either acted: the rows decide, not what was read."""
    stage = Stage(rule(guard=Guard(max_calls_per_hour=1)))
    await stage.begin(1)
    tenure = await stage.store.take({"stuck": "d1"}, "me", LEASE)
    fresh = [incident(id=f"i{n}", key=f"N{n}", object=f"o{n}") for n in (1, 2)]
    await stage.store.commit(Change("stuck", incidents=tuple(fresh)), tenure)
    intents = [
        Intent(attempt(id=one.id, incident=one.id, object=one.object, begun=stage.now, holder="me", epoch=tenure.epoch), replace(one, version=1))
        for one in fresh
    ]
    assert await stage.store.admit(intents[:1], tenure, timedelta(0)) == {}
    assert await stage.store.admit(intents[1:], tenure, timedelta(0)) == {"i2": Why.CALLS_PER_HOUR}
    await stage.store.give_back(tenure, GiveBack())


@pytest.mark.law("3.4")
async def test_an_object_has_one_open_attempt_by_its_index(store_dsn: str) -> None:
    async with PostgresStore(store_dsn, size=2) as store:
        tenure = await running(store)
        fresh = incident()
        await store.commit(Change("stuck", incidents=(fresh,)), tenure)
        first = attempt(holder="me", epoch=tenure.epoch)
        assert await store.admit([Intent(first, replace(fresh, version=1))], tenure, timedelta(0)) == {}
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation, match="attempt_open"):
            await connection.execute(
                "INSERT INTO attempt SELECT 'twin', incident, rule, object, begun, ends_by, NULL, NULL, holder, epoch, NULL, NULL, body FROM attempt"
            )
