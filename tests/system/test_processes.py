"""Real processes: killed at any moment, stopped past their lease, told to stop, cut off from a database.

The moments are the service's, the chat's and the store's own: each hears what a replica is about to do, and the signal goes
out from there. What must hold afterwards is the same for all of them (``check``).
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.system.conftest import Yard, lay_out
from tests.system.harness import Answer, Asked, Proxy, Replica, proxied

ORDERS = {"HEALS": "stuck", "PAYS": "unpaid", "NEVER": "stuck"}
LONG_AFTER = 120
"""Seconds of database time after which neither a lease nor an attempt of a dead process stands."""


@dataclass
class Reaper:
    """Kills the first replica that comes to the chosen moment: what of the service or the store, and when."""

    yard: Yard
    what: str
    when: str
    killed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, what: str, when: str, replica: str) -> bool:
        """Whether this is the moment; the replica is dead then."""
        if (what, when) != (self.what, self.when):
            return False
        with self._lock:
            if self.killed.is_set():
                return False
            self.yard.replicas[replica].kill()
            self.killed.set()
            return True

    def told(self, moment: str, asked: Asked) -> None:
        """Hears the service."""
        self.at(asked.path.split("/")[1], moment, asked.sender)

    def respond(self, asked: Asked) -> Answer:
        """A request whose sender was killed has no effect if it had not been read to its end."""
        if self.what == asked.path.split("/")[1] and self.when == "received" and self.yard.replicas[asked.sender].process.poll() is not None:
            return 500, {}, ""
        answer = self.yard.respond(asked)
        self.at(asked.path.split("/")[1], "effected", asked.sender)
        return answer

    def proxy(self, replica: str) -> Proxy:
        """A way to the store that hears the statements."""

        def watch(data: bytes) -> str:
            return self.when if self.what == "admit" and not self.killed.is_set() and b"INSERT INTO attempt" in data else ""

        proxy = Proxy(self.yard.store.dsn, watch, lambda: self.at(self.what, self.when, replica) and None)
        self.yard.stack.callback(proxy.close)
        return proxy


def check(yard: Yard) -> None:
    """No incident lost, nothing repeated that must not be, every end a true one."""
    ends = yard.ended()
    assert set(ends) == set(ORDERS), "no incident is lost"
    assert ends["HEALS"] == "healed"
    assert ends["NEVER"] == "escalated"
    assert len(yard.calls("/upload", "HEALS")) <= 2, "one more try after our own crash, never more"
    paid = yard.calls("/pay", "PAYS")
    assert len(paid) <= 1, "what must not be repeated is not repeated"
    assert ends["PAYS"] == ("healed" if yard.state("PAYS") == "well" else "escalated"), "an end tells the truth"
    assert yard.store.sql("SELECT * FROM attempt WHERE result IS NULL") == [], "nothing is left in the air"
    told = [one.body for one in yard.service.to("/chat/")]
    assert any("NEVER" in body for body in told), "a person is told"
    assert len({one.headers["idempotency-key"] for one in yard.calls("/upload", "HEALS")}) == 1, "one effect, one key"


def settled(yard: Yard) -> None:
    """Wait until every incident has ended or was told."""
    yard.store.until(
        """SELECT count(*) = 3 AND (SELECT count(*) = 0 FROM dispatch WHERE state = 'pending') AND (SELECT count(*) > 0 FROM dispatch)
           FROM incident WHERE phase IN ('resolved', 'escalated')"""
    )


QUICK = [("notes", "received")]
REST = [
    ("notes", "answered"), ("pay", "received"), ("pay", "effected"), ("pay", "answered"),
    ("upload", "received"), ("upload", "effected"), ("upload", "answered"),
    ("chat", "received"), ("chat", "answered"), ("admit", "before"), ("admit", "after"),
]  # fmt: skip
MOMENTS = [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in REST)]


@pytest.mark.parametrize(("what", "when"), MOMENTS)
def test_a_replica_killed_at_any_moment_is_followed_by_a_new_one(what: str, when: str, yard: Yard) -> None:
    reaper = Reaper(yard, what, when)
    yard.service.respond, yard.service.told = reaper.respond, reaper.told
    yard.plant(**ORDERS)
    yard.start("first", STORE_URL=reaper.proxy("first").dsn)
    assert reaper.killed.wait(60), yard.replicas["first"].output
    yard.store.leap(LONG_AFTER)
    follower = yard.start("second")
    settled(yard)
    check(yard)
    yard.heal("NEVER")
    yard.until_resolved("HEALS", "NEVER")
    assert yard.ended()["NEVER"] == "handled", "it was told before it got well"
    follower.stop()
    assert "Traceback" not in follower.output


@pytest.mark.parametrize(("what", "when"), [("pay", "effected"), *(pytest.param(*one, marks=pytest.mark.slow) for one in [*QUICK, *REST] if one != ("pay", "effected"))])
def test_a_replica_killed_at_any_moment_is_followed_by_the_other(what: str, when: str, yard: Yard) -> None:
    reaper = Reaper(yard, what, when)
    yard.service.respond, yard.service.told = reaper.respond, reaper.told
    replicas = [yard.start(name, STORE_URL=reaper.proxy(name).dsn) for name in ("first", "second")]
    for replica in replicas:
        replica.until("listening")
    yard.plant(**ORDERS)
    assert reaper.killed.wait(60), replicas[0].output + replicas[1].output
    yard.store.leap(LONG_AFTER)
    settled(yard)
    check(yard)
    (left,) = (one for one in replicas if one.process.poll() is None)
    left.stop()
    assert "Traceback" not in left.output


@dataclass
class Gate:
    """Holds the answer to one request, the nth of its kind by one replica, and every later one of that replica until it is let go."""

    yard: Yard
    sender: str
    start: str
    number: int = 1
    held: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.yard.service.respond, self.yard.service.told = self.respond, self.told

    def let_go(self) -> None:
        """Answer what is held; returns when the answer is on its way."""
        self.may_go.set()
        assert self.answered.wait(60)

    def told(self, moment: str, asked: Asked) -> None:
        if moment == "answered" and self.held.is_set() and asked.sender == self.sender:
            self.answered.set()

    def respond(self, asked: Asked) -> Answer:
        mine = [one for one in self.yard.service.to(self.start) if one.sender == self.sender]
        answer = self.yard.respond(asked)
        if asked.sender == self.sender and asked.path.startswith(self.start) and len(mine) >= self.number and not self.may_go.is_set():
            self.held.set()
            assert self.may_go.wait(60)
        return answer


def senders(asked: list[Asked]) -> list[str]:
    return [one.sender for one in asked]


def holders(yard: Yard, id: str) -> list[tuple[Any, ...]]:
    """Who sent the attempts for an order, as pid, and under which epoch."""
    return yard.store.sql("SELECT split_part(reverse(holder), '-', 2), epoch FROM attempt WHERE object = %s ORDER BY begun", f"order/{id}")


def by(replica: Replica) -> str:
    return str(replica.pid)[::-1]


@pytest.mark.parametrize("look", [*(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2)), 3])
def test_a_replica_stopped_in_a_look_past_its_lease_decides_and_sends_nothing(look: int, yard: Yard) -> None:
    """The scan's look, the visit's, and the fresh one before the gate. The lease is a real one: no clock is moved.

    The answer lies ready when the replica goes on, and comes in time: nothing but the fence keeps it from deciding on it.
    """
    lay_out(yard.folder, lease="8s", timeout="2m")
    gate = Gate(yard, "first", "/notes/", look)
    yard.plant(STOPPED="unpaid")
    first = yard.start("first")
    assert gate.held.wait(60), first.output
    first.signal(signal.SIGSTOP)
    second = yard.start("second")
    yard.until_resolved("STOPPED")
    assert senders(yard.calls("/pay", "STOPPED")) == ["second"]
    before = yard.store.sql("SELECT incident, at, phase, why FROM journal WHERE key = 'STOPPED' ORDER BY id")
    gate.let_go()
    first.signal(signal.SIGCONT)
    second.stop()
    goes_on(yard, first)
    assert senders(yard.calls("/pay", "STOPPED")) == ["second"], "it sent nothing"
    assert [pid for pid, _ in holders(yard, "STOPPED")] == [by(second)], "it admitted nothing"
    assert yard.store.sql("SELECT incident, at, phase, why FROM journal WHERE key = 'STOPPED' ORDER BY id") == before, "it decided nothing"
    first.stop()


def goes_on(yard: Yard, replica: Replica) -> None:
    """The replica, left alone, heals another order of the same rule: whatever it had begun before is over by then."""
    yard.plant(AFTERWARDS="unpaid")
    yard.until_resolved("AFTERWARDS")
    assert senders(yard.calls("/pay", "AFTERWARDS")) == [name for name, one in yard.replicas.items() if one is replica]


def test_a_replica_stopped_in_a_call_past_its_lease_sends_nothing_new(yard: Yard) -> None:
    """Its call has its effect; what it still had in its queue is the other's, and its late answer changes nothing."""
    gate = Gate(yard, "first", "/pay")
    waiting = [f"WAITS-{number}" for number in range(1, 4)]
    yard.plant(**dict.fromkeys(waiting, "unpaid"))
    first = yard.start("first")
    assert gate.held.wait(60), first.output
    first.signal(signal.SIGSTOP)
    (begun,) = (one.json["id"] for one in yard.service.to("/pay"))
    yard.store.leap(LONG_AFTER)
    second = yard.start("second")
    yard.until_resolved(*waiting)
    epochs = dict(yard.store.sql("SELECT object, epoch FROM attempt"))
    gate.let_go()
    first.signal(signal.SIGCONT)
    yard.store.until("SELECT result = 'done' FROM attempt WHERE object = %s", f"order/{begun}")
    second.stop()
    goes_on(yard, first)
    for id in waiting:
        assert senders(yard.calls("/pay", id)) == ["first" if id == begun else "second"]
        assert epochs[f"order/{id}"] > epochs[f"order/{begun}"] or id == begun, "what came later came under a later epoch"
        assert yard.store.sql("SELECT resolution FROM incident WHERE key = %s", id) == [("healed",)]
    first.stop()


def test_a_replica_stopped_in_the_middle_of_a_transaction_holds_nobody_up(yard: Yard) -> None:
    """It has its rule's row locked, at the gate; the server ends such a transaction before others lose their patience."""
    stopped = threading.Event()

    def watch(data: bytes) -> str:
        if b"INSERT INTO attempt" in data and not stopped.is_set():
            yard.replicas["first"].signal(signal.SIGSTOP)
            stopped.set()
        return ""

    proxy = Proxy(yard.store.dsn, watch)
    yard.stack.callback(proxy.close)
    yard.plant(STOPPED="unpaid")
    first = yard.start("first", STORE_URL=proxy.dsn)
    assert stopped.wait(60), first.output
    yard.store.leap(LONG_AFTER)
    second = yard.start("second")
    yard.until_resolved("STOPPED")
    first.signal(signal.SIGCONT)
    second.stop()
    goes_on(yard, first)
    assert senders(yard.calls("/pay", "STOPPED")) == ["second"]
    first.stop()


def test_a_replica_told_to_stop_records_what_is_in_flight_and_gives_its_rule_back_at_once(yard: Yard) -> None:
    """The lease is an hour: only a rule that was given back can be taken by the other."""
    lay_out(yard.folder, lease="1h")
    gate = Gate(yard, "first", "/pay")
    yard.plant(FLIES="unpaid")
    first = yard.start("first")
    assert gate.held.wait(60), first.output
    second = yard.start("second")
    second.until("listening")
    first.signal(signal.SIGTERM)
    first.until("stopping")
    gate.let_go()
    assert first.ended() == 0, first.output
    assert yard.store.sql("SELECT result FROM attempt") == [("done",)]
    assert yard.store.sql("SELECT holder, unfinished FROM rule WHERE name = 'unpaid' AND holder LIKE %s", f"%-{first.pid}-%") == []
    yard.plant(NEXT="unpaid")
    yard.until_resolved("FLIES", "NEXT")
    assert senders(yard.calls("/pay", "FLIES")) == ["first"]
    assert senders(yard.calls("/pay", "NEXT")) == ["second"]
    second.stop()


AWAY, BACK = "the store cannot be reached; nothing is decided until it is", "the store is reached again"


def test_the_store_may_go_away_and_come_back(yard: Yard) -> None:
    """What it held when the store went away is taken again when that lease is over: the clock is moved there."""
    with proxied(yard.store.dsn) as proxy:
        daemon = yard.start("first", STORE_URL=proxy.dsn)
        assert daemon.get("/readyz")[0] == 200
        proxy.cut()
        yard.plant(MEANWHILE="stuck")
        daemon.until(AWAY)
        assert (daemon.get("/readyz")[0], daemon.get("/healthz")[0]) == (503, 200)
        assert daemon.get("/metrics")[0] == 200
        proxy.mend()
        yard.store.leap(LONG_AFTER)
        yard.until_resolved("MEANWHILE")
        daemon.until(BACK)
        assert daemon.get("/readyz")[0] == 200
        daemon.stop()
    assert "Traceback" not in daemon.output
    assert (len(daemon.said(AWAY)), len(daemon.said(BACK))) == (1, 1), daemon.output
    unwell = [entry["message"] for entry in daemon.said_at("warning", "error", "critical")]
    assert unwell == [AWAY, BACK], "one line when it goes, one when it comes"


def test_the_shops_database_may_go_away_and_come_back(yard: Yard) -> None:
    with proxied(yard.shop.dsn) as proxy:
        daemon = yard.start("first", SHOP_DB_URL=proxy.dsn)
        yard.plant(BEFORE="stuck")
        yard.until_resolved("BEFORE")
        proxy.cut()
        daemon.until("scan failed", rule="stuck")
        assert daemon.get("/readyz")[0] == 200, "the shop's illness is not ours"
        yard.plant(MEANWHILE="stuck")
        proxy.mend()
        yard.until_resolved("MEANWHILE")
        daemon.stop()
    assert "Traceback" not in daemon.output
    assert yard.ended() == {"BEFORE": "healed", "MEANWHILE": "healed"}, "an outage ends nothing"


def test_every_connection_may_be_ended_by_the_server(yard: Yard) -> None:
    daemon = yard.start("first")
    yard.plant(BEFORE="stuck")
    yard.until_resolved("BEFORE")
    for database in (yard.store, yard.shop):
        database.terminate()
    yard.plant(AFTER="stuck")
    yard.until_resolved("AFTER")
    daemon.stop()
    assert "Traceback" not in daemon.output
