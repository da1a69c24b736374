"""Two replicas at the same moment, on real PostgreSQL: who is too late is told so, and nothing happens twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Why
from daemon.domain.notice import DeliveryState
from daemon.domain.standing import Pause
from daemon.engine.change import Change, Conclusion, Conflict, Fenced, GiveBack
from daemon.store.postgres import PostgresStore

LEASE = timedelta(seconds=30)
ROOM = timedelta(seconds=5)


@pytest.fixture
async def second(postgres):
    """Another replica on the same store."""
    async with PostgresStore(postgres.dsn, size=4, monotonic=postgres.clock.monotonic) as store:
        yield store


def names(count):
    return {f"r{number}": "d1" for number in range(count)}


async def test_many_takers_never_get_the_same_rule(postgres, second, make):
    await postgres.store.activate([make.rule(name) for name in names(6)], None)
    takes = [store.take(names(6), f"{n}", LEASE) for n in range(12) for store in (postgres.store, second)]
    taken = [tenure.rule for tenure in await asyncio.gather(*takes) if tenure is not None]
    assert len(taken) == len(set(taken))
    while (tenure := await second.take(names(6), "last", LEASE)) is not None:
        taken.append(tenure.rule)
    assert sorted(taken) == sorted(names(6))


async def test_a_take_passes_over_a_locked_rule_without_waiting(postgres, make):
    await postgres.store.activate([make.rule("r0", severity=0), make.rule("r1")], None)
    with psycopg.connect(postgres.dsn) as other:
        other.execute("SELECT FROM rule WHERE name = 'r0' FOR UPDATE")
        assert (await postgres.store.take(names(2), "alpha", LEASE)).rule == "r1"
        assert await postgres.store.take(names(2), "alpha", LEASE) is None
    assert (await postgres.store.take(names(2), "alpha", LEASE)).rule == "r0"


async def two_rules(postgres, make, object_of):
    """Two tenures, each with an incident per object, in the order that it wants."""
    await postgres.store.activate([make.rule("r0"), make.rule("r1")], None)
    found = []
    for rule in ("r0", "r1"):
        tenure = await postgres.store.take({rule: "d1"}, rule, LEASE)
        incidents = tuple(make.incident(f"{rule}-{n}", rule=rule, object=object_of(rule, n)) for n in range(20))
        await postgres.store.commit(Change(rule, incidents), tenure)
        found.append((tenure, [make.intent(replace(one, version=1), tenure) for one in incidents]))
    return found


async def test_two_gates_on_the_same_objects_let_each_object_through_once(postgres, second, make):
    """Law 7, in opposite orders, so that a careless gate would also deadlock."""
    (one, ours), (two, theirs) = await two_rules(postgres, make, lambda rule, n: f"o{n if rule == 'r0' else 19 - n}")
    refused = await asyncio.gather(postgres.store.admit(ours, one, ROOM), second.admit(theirs, two, ROOM))
    assert {why for some in refused for why in some.values()} == {Why.OBJECT_BUSY}
    assert len(refused[0]) + len(refused[1]) == 20
    let_in = [intent.attempt.object for intent in (*ours, *theirs) if intent.attempt.id not in {**refused[0], **refused[1]}]
    assert sorted(let_in) == sorted(f"o{n}" for n in range(20))
    for rule in ("r0", "r1"):
        standing = await second.standing(rule, postgres.now)
        assert all((one.version == 2) == (one.id in standing.attempts) for one in standing.incidents)


async def test_two_gates_that_want_the_same_objects_in_opposite_orders_never_wait_for_each_other(postgres, second, make):
    """Both are stopped half way through their objects; gates that took them as given would hold what the other wants."""
    (one, ours), (two, theirs) = await two_rules(postgres, make, lambda rule, n: f"o{10 + (n if rule == 'r0' else 19 - n)}")
    async with await psycopg.AsyncConnection.connect(postgres.dsn) as other:
        await other.execute(
            "INSERT INTO attempt (id, incident, rule, object, begun, ends_by, holder, epoch, body)"
            " VALUES ('x', 'i', 'r', 'o20', now(), now(), 'h', 1, '{}')"
        )
        first = asyncio.create_task(postgres.store.admit(ours, one, ROOM))
        await blocked(other)
        second_gate = asyncio.create_task(second.admit(theirs, two, ROOM))
        await blocked(other, 2)
        await other.rollback()
    refused = {**await first, **await second_gate}
    assert len(refused) == 20


async def test_a_gate_that_waited_for_another_sees_that_its_attempt_is_settling(postgres, second, make):
    """The other attempt began, ended and settles while this gate stood between its look and its write."""
    (one, ours), (two, theirs) = await two_rules(postgres, make, lambda rule, n: f"o{n}")
    first = ours[0]
    async with await psycopg.AsyncConnection.connect(postgres.dsn) as other:
        # Somebody's open attempt that is not committed yet: the second gate has looked, and waits on the unique index.
        await other.execute(
            "INSERT INTO attempt (id, incident, rule, object, begun, ends_by, holder, epoch, body)"
            " VALUES ('x', %s, 'r0', 'o0', now(), now(), 'r0', %s, '{}')",
            (first.attempt.incident, one.epoch),
        )
        waiting = asyncio.create_task(second.admit(theirs[:1], two, ROOM))
        await blocked(other)
        await other.execute("UPDATE attempt SET result = 'done', settled = %s WHERE id = 'x'", (postgres.now + timedelta(minutes=5),))
        await other.commit()
    assert await waiting == {theirs[0].attempt.id: Why.OBJECT_BUSY}
    assert (await second.standing("r1", postgres.now)).attempts == {}


async def blocked(connection, count=1):
    """Return as soon as so many wait for a lock in this database."""
    watch = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    while (await (await connection.execute(watch)).fetchone())[0] < count:
        await connection.execute("SELECT pg_stat_clear_snapshot(), pg_sleep(0.005)")


async def test_a_pause_that_was_answered_stops_every_later_gate(postgres, second, make):
    """A gate that is already open ends first; the pause returns after it."""
    tenure = await postgres.running(make.rule())
    incidents = tuple(make.incident(f"k{n}") for n in range(10))
    await postgres.store.commit(Change("r", incidents), tenure)
    intents = [make.intent(replace(one, version=1), tenure) for one in incidents]
    paused = asyncio.Event()

    async def pause():
        await second.pause(Pause("p", "anna", "", postgres.now))
        paused.set()

    async def gates():
        answers = []
        for intent in intents:
            after = paused.is_set()
            answers.append((after, await postgres.store.admit([intent], tenure, ROOM)))
        return answers

    answers, _ = await asyncio.gather(gates(), pause())
    assert paused.is_set()
    assert all(refused for after, refused in answers if after)
    assert await postgres.store.admit([intents[-1]], tenure, ROOM) != {}


async def test_the_hourly_ceiling_holds_over_gates_at_the_same_moment(postgres, second, make):
    tenure = await postgres.running(make.rule(calls=5))
    incidents = tuple(make.incident(f"k{n}") for n in range(12))
    await postgres.store.commit(Change("r", incidents), tenure)
    intents = [make.intent(replace(one, version=1), tenure) for one in incidents]
    gates = [store.admit([intent], tenure, ROOM) for intent, store in zip(intents, [postgres.store, second] * 6, strict=True)]
    refused = [why for some in await asyncio.gather(*gates) for why in some.values()]
    assert refused == [Why.CALLS_PER_HOUR] * 7


async def test_of_two_commits_on_one_version_one_is_refused(postgres, second, make):
    tenure = await postgres.running(make.rule())
    await postgres.store.commit(Change("r", (make.incident(),)), tenure)
    changes = [Change("r", (make.incident(version=1, why=why),)) for why in (Why.WAITING, Why.PAUSED)]
    commits = [store.commit(change, tenure) for store, change in zip((postgres.store, second), changes, strict=True)]
    answers = await asyncio.gather(*commits, return_exceptions=True)
    assert sorted(type(answer) for answer in answers if answer) == [Conflict]


async def test_the_same_change_at_the_same_moment_is_written_once(postgres, second, make):
    tenure = await postgres.running(make.rule())
    change = Change("r", (make.incident(),))
    await asyncio.gather(*(store.commit(change, tenure) for store in (postgres.store, second) for _ in range(3)))
    [one] = (await second.standing("r", postgres.now)).incidents
    assert one.version == 1
    assert len(await second.journal(one.id)) == 1


async def test_a_replica_that_slept_past_its_lease_decides_and_sends_nothing(postgres, second, make):
    """Laws 3 and 16, the store's part: commit, gate and conclude of the sleeper after the successor's take."""
    sleeper = await postgres.running(make.rule())
    await postgres.store.commit(Change("r", (make.incident("k1"), make.incident("k2"))), sleeper)
    one, two = (await postgres.store.standing("r", postgres.now)).incidents
    sent = make.intent(one, sleeper)
    await postgres.store.admit([sent], sleeper, ROOM)
    await postgres.advance(seconds=31)
    successor = await second.take({"r": "d1"}, "beta", LEASE)
    with pytest.raises(Fenced):
        await postgres.store.commit(Change("r", (replace(two, why=Why.WAITING),)), sleeper)
    with pytest.raises(Fenced):
        await postgres.store.admit([make.intent(two, sleeper)], sleeper, ROOM)
    concluded = Conclusion(make.done(sent.attempt), replace(sent.incident, version=2, credit=True))
    assert not await postgres.store.conclude([concluded], sleeper)
    await postgres.store.give_back(sleeper, GiveBack(postgres.now + timedelta(hours=9)))
    standing = await second.standing("r", postgres.now)
    assert standing.attempts == {}, "the outcome itself is a fact"
    assert [(one.version, one.credit) for one in standing.incidents] == [(2, False), (1, False)]
    assert set(await second.renew([successor], LEASE)) == {"r"}


async def test_a_message_is_leased_by_one_notifier_only(postgres, second, make):
    tenure = await postgres.running(make.rule())
    notices = tuple(make.notice(f"n{n}", problem=f"p{n}") for n in range(30))
    change = Change("r", notices=notices, dispatches=tuple(make.dispatch(notice) for notice in notices))
    await postgres.store.commit(change, tenure)
    leases = [store.lease("n", 4, LEASE) for _ in range(6) for store in (postgres.store, second)]
    leased = [dispatch.id for some in await asyncio.gather(*leases) for dispatch in some]
    assert len(leased) == len(set(leased))
    leased += [dispatch.id for dispatch in await second.lease("n", 30, LEASE)]
    assert sorted(leased) == sorted(f"d-{notice.id}" for notice in notices)


async def test_a_shared_rate_is_exact_over_replicas(postgres, second):
    waits = await asyncio.gather(*(store.reserve("ozon", 1.0, 7, 1) for _ in range(10) for store in (postgres.store, second)))
    assert sum(wait == 0 for wait in waits) == 7


async def test_thousands_of_incidents_take_as_many_statements_as_ten(postgres, make, monkeypatch):
    """A storm is one commit and one standing."""
    tenure = await postgres.running(make.rule())
    statements = []
    execute = psycopg.AsyncConnection.execute

    async def counted(connection, *given, **more):
        statements.append(given[0])
        return await execute(connection, *given, **more)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
    counts = []
    for size in (10, 3000):
        statements.clear()
        incidents = tuple(make.incident(f"{size}-{n}", facts={"n": n, "text": "x" * 100}) for n in range(size))
        await postgres.store.commit(Change("r", incidents), tenure)
        standing = await postgres.store.standing("r", postgres.now)
        counts.append(len(statements))
    assert len(standing.incidents) == 3010
    assert counts[0] == counts[1]


async def test_a_delivery_and_a_commit_about_one_problem_do_not_wait_for_each_other(postgres, make):
    tenure = await postgres.running(make.rule())
    notice = make.notice()
    await postgres.store.commit(Change("r", problems=(make.problem(),), notices=(notice,), dispatches=(make.dispatch(notice),)), tenure)
    [sent] = await postgres.store.lease("n", 1, LEASE)
    async with await psycopg.AsyncConnection.connect(postgres.dsn) as commit, await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as watch:
        await commit.execute("SELECT FROM rule WHERE name = 'r' FOR NO KEY UPDATE")  # as each commit begins
        done = replace(sent, state=DeliveryState.DONE, tries=1)
        settling = asyncio.create_task(postgres.store.settle(done, Outcome(Result.DONE), (), postgres.now))
        while not (await (await watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone())[0]:
            assert not settling.done()
        await commit.execute("UPDATE problem SET body = body || '{\"told\": 2}' WHERE id = 'p1'")
        await commit.commit()
    assert await settling
