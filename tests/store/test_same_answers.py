"""Any sequence of events gets the same answers from memory as from PostgreSQL, so what a rehearsal shows is what will be."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from daemon.clock import HandClock
from daemon.domain.attempt import CRASHED, Outcome, Result
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.domain.standing import Illness, Pause, RuleState
from daemon.engine.change import Change, Conclusion, Conflict, Fenced, GiveBack
from daemon.store.memory import MemoryStore
from daemon.store.postgres import PostgresStore

START_OVER = """
TRUNCATE rule, incident, attempt, journal, problem, notice, dispatch, directive, pause, illness, rate, committed, tally
    RESTART IDENTITY;
UPDATE meta SET revision = 0;
UPDATE hand_clock SET now = '2026-03-02 09:00+00';
"""
RULES = st.sampled_from(["r", "s"])
HOLDERS = st.sampled_from(["alpha", "beta"])
SPANS = st.none() | st.integers(-5, 120).map(lambda minutes: timedelta(minutes=minutes))
PHASES = st.sampled_from(list(Phase))
WHYS = st.sampled_from([Why.WAITING, Why.TOLD])
CHOICE = st.integers(0, 10**6)


class Replay(RuleBasedStateMachine):
    """Both stores, one clock, one stream of events."""

    runner: asyncio.Runner
    postgres: PostgresStore
    connection: psycopg.Connection
    make: Any
    start: Any
    clock: HandClock

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute(START_OVER)
        self.clock._now = 0.0
        self.memory = MemoryStore(self.clock, self.start)
        self.number = 0
        self.tenures: list[Any] = []
        self.intents: list[Any] = []
        self.changes: list[Any] = []
        self.leased: list[Any] = []

    @property
    def now(self):
        return self.start + timedelta(seconds=self.clock.monotonic())

    def at(self, span):
        return None if span is None else self.now + span

    def fresh(self) -> str:
        self.number += 1
        return f"x{self.number:03}"

    def both(self, method: str, *given: Any) -> Any:
        """The answer on which both agree; ``None`` when both refuse in the same way."""
        answers = [self.runner.run(answered(getattr(store, method)(*given))) for store in (self.memory, self.postgres)]
        assert plain(answers[0]) == plain(answers[1]), method
        return None if isinstance(answers[0], type) else answers[0]

    def standing(self, name: str):
        return self.both("standing", name, self.now)

    @initialize()
    def begin(self):
        self.both("activate", [self.make.rule("r", calls=4), self.make.rule("s", severity=0)], None)
        for holder in ("alpha", "beta"):
            self.take(holder, "d1")
            tenure = self.tenures[-1]
            incidents = [self.make.incident(f"{tenure.rule}{n}", id=self.fresh(), rule=tenure.rule, object=f"o{n % 4}") for n in range(6)]
            self.commit(Change(tenure.rule, tuple(incidents)), tenure)

    @rule(digest=st.sampled_from(["d1", "d2"]), mode=st.sampled_from(["enforce", "disabled"]), both=st.booleans())
    @precondition(lambda self: self.number % 7 == 0)
    def activate(self, digest, mode, both):
        rules = [self.make.rule("r", digest, calls=4, mode=mode)] + [self.make.rule("s", severity=0)] * both
        self.both("activate", rules, None)

    @rule(seconds=st.sampled_from([1, 7, 20, 61, 400, 4000]))
    def wait(self, seconds):
        self.runner.run(self.clock.move(seconds))
        self.connection.execute("UPDATE hand_clock SET now = %s", (self.now,))

    @rule(holder=HOLDERS, digest=st.sampled_from(["d1", "d1", "d2"]), again=st.booleans())
    def take_another(self, holder, digest, again):
        if again and self.tenures:
            self.both("give_back", self.tenures[-1], GiveBack(self.now, self.now))
        self.take(holder, digest)

    def take(self, holder, digest):
        tenure = self.both("take", {"r": digest, "s": "d1"}, holder, timedelta(seconds=60))
        if tenure is not None:
            self.tenures.append(tenure)

    @precondition(lambda self: self.tenures)
    @rule(choice=CHOICE)
    def renew(self, choice):
        self.both("renew", [self.some(self.tenures, choice)], timedelta(seconds=60))

    @precondition(lambda self: self.number % 5 == 0)
    @rule(choice=CHOICE, scan=SPANS, visit=SPANS, finished=st.booleans())
    def give_back(self, choice, scan, visit, finished):
        back = GiveBack(self.at(scan), self.at(visit), finished)
        self.both("give_back", self.some(self.tenures, choice), back)

    @precondition(lambda self: self.tenures)
    @rule(choice=CHOICE, key=st.sampled_from(["k1", "k2", "r0"]), object=st.sampled_from(["o1", "o5"]), due=SPANS)
    def find(self, choice, key, object, due):
        tenure = self.some(self.tenures, choice)
        incident = self.make.incident(key, id=self.fresh(), rule=tenure.rule, object=object, opened=self.now, due=self.at(due))
        self.commit(Change(tenure.rule, (incident,), state=RuleState(last_complete=self.now)), tenure)

    @precondition(lambda self: self.tenures)
    @rule(choice=CHOICE, which=CHOICE, phase=PHASES, why=WHYS, stale=st.integers(0, 4))
    def go_on(self, choice, which, phase, why, stale):
        tenure = self.some(self.tenures, choice)
        live = self.standing(tenure.rule).incidents
        known = [*live, *self.both("previous", tenure.rule, ["k1", "k2", "r0", "s1"]).values()]
        if known:
            incident = self.some(known, which)
            ended = {"ended": self.now, "resolution": Resolution.GONE} if phase is Phase.RESOLVED else {"ended": None}
            changed = replace(incident, phase=phase, why=why, version=incident.version - (stale == 4), **ended)
            self.commit(Change(tenure.rule, (changed,)), tenure)

    def commit(self, change, tenure):
        self.changes.append((change, tenure))
        self.both("commit", change, tenure)

    @precondition(lambda self: self.changes)
    @rule(choice=CHOICE)
    def commit_again(self, choice):
        self.both("commit", *self.some(self.changes, choice))

    @precondition(lambda self: self.tenures)
    @rule(choice=CHOICE, room=st.sampled_from([5, 5, 50]), skip=st.integers(0, 4))
    def admit(self, choice, room, skip):
        tenure = self.some(self.tenures, choice)
        intents = [
            self.make.intent(one, tenure, id=self.fresh(), begun=self.now, ends_by=self.now + timedelta(seconds=10))
            for one in self.standing(tenure.rule).incidents[skip : skip + 3]
        ]
        intents = [replace(one, incident=replace(one.incident, flight=one.attempt.id)) for one in intents]
        refused = self.both("admit", intents, tenure, timedelta(seconds=room))
        if refused is not None:
            self.intents += [(one, tenure) for one in intents if one.attempt.id not in refused]

    @precondition(lambda self: self.intents)
    @rule(choice=CHOICE, result=st.sampled_from(list(Result)), settle=st.sampled_from([0, 300]), crashed=st.booleans())
    def conclude(self, choice, result, settle, crashed):
        intent, tenure = self.some(self.intents, choice)
        ended = replace(self.make.done(intent.attempt, result, settle=settle), ended=self.now)
        if crashed:
            closed = replace(ended, outcome=Outcome(Result.UNKNOWN, CRASHED))
            self.both("commit", Change(tenure.rule, closed=(closed,)), tenure)
        else:
            incident = replace(intent.incident, version=intent.incident.version + 1, why=Why.SETTLING)
            self.both("conclude", [Conclusion(ended, incident)], tenure)

    @rule(what=st.sampled_from(["pause", "resume", "say", "push", "reserve"]), name=RULES, until=SPANS, n=st.integers(1, 3))
    def aside(self, what, name, until, n):
        connector = "ozon-integration" if n == 3 else None
        match what:
            case "pause":
                self.both("pause", Pause(self.fresh(), "anna", "", self.now, self.at(until), name, connector))
            case "resume":
                self.both("resume", name, connector, "anna")
            case "say":
                self.both("direct", self.make.directive("i", self.fresh(), rule=name, at=self.now))
            case "push":
                self.both("push", "ozon", self.now + timedelta(seconds=n))
            case "reserve":
                self.both("reserve", "ozon", 0.5, 3, n)

    @precondition(lambda self: self.tenures)
    @rule(choice=CHOICE, episode=st.integers(1, 2), sequence=st.integers(1, 3), kind=st.sampled_from(list(NoticeKind)[:2]))
    def tell(self, choice, episode, sequence, kind):
        tenure = self.some(self.tenures, choice)
        id = self.fresh()
        notice = self.make.notice(id, kind, problem=f"p-{tenure.rule}", rule=tenure.rule, episode=episode, sequence=sequence, at=self.now)
        problem = self.make.problem(f"p-{tenure.rule}", rule=tenure.rule, episode=episode)
        ways = self.make.dispatch(notice), self.make.dispatch(notice, id=f"m-{id}", mirror=True, via="sentry")
        heard = tuple(word.id for word in self.standing(tenure.rule).directives[:1])
        ill = (Illness("cdek", self.now, "401", self.now),)
        change = Change(
            tenure.rule, problems=(problem,), notices=(notice,), dispatches=ways, obeyed=heard, ill=ill[: sequence % 2],
            well=("cdek",) if sequence % 2 == 0 else (),
        )  # fmt: skip
        self.commit(change, tenure)

    @rule(limit=st.integers(1, 3))
    def lease(self, limit):
        self.leased += self.both("lease", "n", limit, timedelta(seconds=60))

    @precondition(lambda self: self.leased)
    @rule(choice=CHOICE, state=st.sampled_from(list(DeliveryState)), wait=SPANS, follow=st.booleans())
    def settle(self, choice, state, wait, follow):
        sent = self.some(self.leased, choice)
        settled = replace(sent, state=state, tries=sent.tries + 1, not_before=self.at(wait))
        following = [self.make.dispatch(sent.notice, id=self.fresh(), via="sentry", position=1)] * follow
        self.both("settle", settled, Outcome(Result.DONE, reference=self.fresh()), following, self.now)

    def some(self, of, choice):
        """Mostly one of the latest, now and then any."""
        return of[choice % len(of)] if choice % 4 == 0 else of[-1 - choice % min(len(of), 2)]

    def teardown(self):
        self.standing("r")
        self.standing("s")
        for question in ("rules", "incidents", "notices", "undelivered", "pauses", "illnesses", "gauges", "totals"):
            self.both(question)
        self.both("recent", 1000)
        for one in self.memory.tables.incidents:
            self.both("journal", one)
            self.both("attempts", one)


async def answered(question):
    """The answer, or the kind of refusal."""
    try:
        return await question
    except (Fenced, Conflict) as refusal:
        return type(refusal)


def plain(answer):
    """An answer without what may differ: the kind of sequence, the last microsecond of a wait."""
    match answer:
        case float():
            return round(answer, 3)
        case list() | tuple():
            return [plain(one) for one in answer]
    return answer


def test_memory_and_postgresql_answer_alike(store_dsn, make):
    clock = HandClock()
    with asyncio.Runner() as runner, psycopg.connect(store_dsn, autocommit=True) as connection:
        postgres = PostgresStore(store_dsn, size=1, monotonic=clock.monotonic)
        runner.run(postgres.open())
        given = {"runner": runner, "postgres": postgres, "connection": connection, "make": make, "clock": clock}
        scale = runner.run(postgres.timescale())
        machine = type("Machine", (Replay,), given | {"start": scale.origin})
        try:
            run_state_machine_as_test(machine, settings=settings(
                max_examples=30, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck),
            ))  # fmt: skip
        finally:
            runner.run(postgres.close())
