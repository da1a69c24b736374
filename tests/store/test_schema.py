"""The schema, its versions, and every query against it."""

import asyncio
import re
import time
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files

import psycopg
import pytest

from daemon.engine.change import Change
from daemon.engine.ports import Unreachable
from daemon.store.migrations import CODE, StoreError, head, migrate
from daemon.store.pool import boottime
from daemon.store.postgres import PostgresStore
from daemon.store.queries import queries

FILES = sorted(path.name.removesuffix(".sql") for path in files("daemon.store").joinpath("sql").iterdir())
NAMED = [(file, name) for file in FILES for name in queries(file)]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[f"{file}.{name}" for file, name in NAMED])
def test_every_query_can_be_prepared_against_the_migrated_schema(migrated, file, name):
    sql = queries(file)[name].rstrip(";")
    numbers: dict[str, int] = {}
    sql = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sql)
    if sql.startswith("SET "):
        sql = "SELECT 1"  # a utility statement is not prepared; every standing is run by every standing
    with psycopg.connect(migrated) as connection:
        connection.execute(f"PREPARE q AS {sql}")


@pytest.mark.parametrize("file", FILES)
def test_above_each_query_stands_a_sentence(file):
    text = files("daemon.store").joinpath("sql", f"{file}.sql").read_text()
    heads = re.findall(r"(?:\A|\n\n)((?:-- .*\n)+)-- name: \w+\n", text)
    assert len(heads) == len(queries(file))
    assert all(head.rstrip().endswith((".", ":")) for head in heads)


def test_every_query_is_used():
    code = "".join(path.read_text() for path in files("daemon.store").iterdir() if path.name.endswith(".py"))
    unused = [name for _, name in NAMED if f'"{name}"' not in code and not name.startswith("write_")]
    assert unused == []


def test_migrating_again_changes_nothing_and_keeps_origin_and_factor(database):
    assert migrate(database, factor=60.0) == migrate(database, factor=1.0) == head()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT factor, least_code FROM meta").fetchall() == [(60.0, CODE)]


async def test_replicas_that_start_together_migrate_once(database):
    """Law 17: under an advisory lock."""
    assert await asyncio.gather(*(asyncio.to_thread(migrate, database) for _ in range(4))) == [head()] * 4


def test_a_busy_store_is_refused_rather_than_held_up(database, monkeypatch):
    """Law 17: with a short lock timeout."""
    migrate(database)
    monkeypatch.setattr("daemon.store.migrations._LOCK_TIMEOUT", "50ms")
    with psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE alembic_version")
        with pytest.raises(StoreError, match="the store is busy"):
            migrate(database)


async def test_a_store_without_tables_says_what_to_run(database):
    with pytest.raises(StoreError, match="orderheal db upgrade"):
        await PostgresStore(database).open()


@pytest.mark.parametrize(
    ("change", "said"),
    [(f"UPDATE meta SET least_code = {CODE + 1}", "needs code version 2"),
     ("UPDATE alembic_version SET version_num = '0000'", "older than this program")],
    ids=["newer than we may use", "older than we need"],
)  # fmt: skip
async def test_the_store_says_who_may_use_it(database, change, said):
    """Law 17."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(change)
    with pytest.raises(StoreError, match=said):
        await PostgresStore(database).open()


async def test_rows_and_fields_of_newer_code_are_left_alone(postgres, make):
    """Law 17: what we cannot read is not in the standing, what we do not know stays in the row."""
    tenure = await postgres.running(make.rule())
    await postgres.store.commit(Change("r", (make.incident("k1"), make.incident("k2"))), tenure)
    await postgres.store.admit([make.intent(replace(make.incident("k1"), version=1), tenure)], tenure, timedelta(seconds=1))
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("""UPDATE incident SET body = body || '{"verdict": "haunted"}' WHERE key = 'k1'""")
        connection.execute("""UPDATE incident SET body = body || '{"new_field": 7}' WHERE key = 'k2'""")
    standing = await postgres.store.standing("r", postgres.now)
    [known] = standing.incidents
    assert (known.key, standing.foreign, dict(standing.attempts)) == ("k2", {"k1"}, {})
    await postgres.store.commit(Change("r", (known,)), tenure)
    with psycopg.connect(postgres.dsn) as connection:
        found = connection.execute("SELECT key, version, body ->> 'new_field', body ->> 'verdict' FROM incident")
        assert sorted(found) == [("k1", 2, None, "haunted"), ("k2", 2, "7", "broken")]


@pytest.mark.parametrize("dsn", ["postgresql://u:hunter2@h/db?nonsense=1", "host=h password=hunter2 oops"])
def test_a_bad_address_is_not_quoted(dsn):
    for use in (migrate, PostgresStore):
        with pytest.raises(StoreError) as caught:
            use(dsn)
        assert "hunter2" not in "".join(map(str, (caught.value, caught.value.__cause__)))
        assert caught.value.__suppress_context__


async def test_an_unreachable_server_is_told_in_one_line_without_the_password():
    dsn = "postgresql://user:hunter2@127.0.0.1:1/db"
    with pytest.raises(Unreachable) as caught:
        await PostgresStore(dsn).open()
    with pytest.raises(StoreError) as refused:
        migrate(dsn)
    for said in (str(caught.value), str(refused.value)):
        assert "hunter2" not in said
        assert "\n" not in said


async def test_a_lost_connection_is_unreachable_and_the_next_try_connects_again(postgres, make):
    await postgres.store.activate([make.rule()], None)
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orderheal' AND datname = current_database()"
        )
    with pytest.raises(Unreachable, match="the store"):
        await postgres.store.now()
    assert await postgres.store.take({"r": "d1"}, "alpha", timedelta(seconds=30)) is not None


async def test_after_a_failover_every_epoch_is_raised_and_the_longest_settle_waited_out(store_dsn, make):
    """Law 18: the server's timeline is another one, so rows that were acknowledged may be missing."""
    lease = timedelta(minutes=9)
    async with PostgresStore(store_dsn) as before:
        await before.activate([make.rule()], None)
        tenure = await before.take({"r": "d1"}, "alpha", lease)
    with psycopg.connect(store_dsn, autocommit=True) as connection:
        connection.execute("UPDATE meta SET timeline = timeline + 1")
        async with PostgresStore(store_dsn, settle=timedelta(minutes=2)) as after:
            assert await after.renew([tenure], lease) == {}
            assert await after.take({"r": "d1"}, "beta", lease) is None
            connection.execute("UPDATE hand_clock SET now = now + interval '2 minutes'")
            fresh = await after.take({"r": "d1"}, "beta", lease)
            assert fresh.epoch == tenure.epoch + 2
        async with PostgresStore(store_dsn, settle=timedelta(minutes=2)) as again:
            assert set(await again.renew([fresh], lease)) == {"r"}, "once per failover, not per connection"


async def test_rule_time_is_origin_plus_factor_times_what_has_passed(database):
    """Law 12: computed by the database and by the program alike."""
    migrate(database, factor=60.0)
    async with PostgresStore(database) as store:
        scale = await store.timescale()
        with psycopg.connect(database) as connection:
            moments = [scale.origin + timedelta(seconds=seconds) for seconds in (-3600, 0, 0.25, 86400 * 400)]
            for moment in moments:
                [computed] = connection.execute("SELECT rule_time(%s)", (moment,)).fetchone()
                assert computed == scale.rule(moment)


def test_leases_are_counted_on_a_clock_that_goes_on_while_suspended():
    """Law 12."""
    assert abs(boottime() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
