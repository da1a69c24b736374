"""The live composition root: files and environment in, a running replica out. Wiring only, straight down.

    load ─▶ store (own or embedded) ─▶ connectors ─▶ engine ─▶ activate ─▶ workers, notifier, ticks, pages ─▶ signal ─▶ stop

Commands use the upper pieces: ``status`` needs the store alone, ``plan`` and ``heal`` the connectors too, ``run`` all of it.
Each piece is a context whose teardown stands beside its construction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import psycopg
from prometheus_client import CollectorRegistry

from daemon.clock import SystemClock
from daemon.config import Config, load_config
from daemon.domain.rule import Rule
from daemon.domain.value import Timescale
from daemon.engine.archive import Archive
from daemon.engine.change import RuleVersion
from daemon.engine.cycle import Engine, EngineSettings
from daemon.engine.deliver import Notifier
from daemon.engine.drill import Progress, Range, drill
from daemon.engine.events import Drilled, Event, Trouble
from daemon.engine.ports import Channel, Clock, Connector, Events, Store, Unreachable
from daemon.kinds import Tools
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import near
from daemon.language.ruleset import Ruleset, load_rules
from daemon.schedule import Schedule
from daemon.settings import Redactor
from daemon.store.embedded import refuse_embedded, start_embedded
from daemon.store.migrations import StoreError, migrate
from daemon.store.postgres import PostgresStore
from daemon.telemetry.alive import CheckIns, DeadMan, Watcher
from daemon.telemetry.crash import Crew, watch_loop, watch_uncaught
from daemon.telemetry.fanout import Fanout
from daemon.telemetry.health import serving, verdict
from daemon.telemetry.logs import LogEvents
from daemon.telemetry.metrics import Board, CountEvents, page_of, show_process
from daemon.views.doctor import Finding

if TYPE_CHECKING:
    from daemon.telemetry.tracing import Spans

_GAUGES = timedelta(seconds=5)
_HOUSEKEEPING = timedelta(minutes=1)
_CHECK_INS = timedelta(seconds=5)
_DESERTED = timedelta(minutes=15)  # more than law 18 delays a rule that kills its process
_TRACES = timedelta(seconds=5)
_DRILLS = timedelta(seconds=5)
_GRACE = 5.0  # seconds for messages that are being sent when we stop
_DATABASE = "orderheal"
CRASHED = 70
"""Exit code of a replica that ended by a fault of its own (EX_SOFTWARE)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Configuration and rules, checked, with what takes their secrets out of any text."""

    config: Config
    ruleset: Ruleset
    rules: Mapping[str, Rule]
    redact: Redactor


def load(paths: Sequence[Path], env: Mapping[str, str], offline: bool = False) -> Loaded:
    """Read and check the files; ``offline``: variables and secret files may be missing. Raises ``Mistakes``."""
    config = load_config(paths, env, offline=offline)
    ruleset = load_rules([config.rules_path], config.vocabulary())
    names = [rule.name for rule in ruleset.rules]
    strays = [(name, place) for name, place in config.drill_places.items() if name not in names]
    if strays:
        raise Mistakes([Mistake.at(place, f'drills: there is no rule "{name}"{near(name, names)}') for name, place in strays])
    return Loaded(config, ruleset, {rule.name: rule for rule in ruleset.rules}, config.redactor)


@contextmanager
def store_address(config: Config, env: Mapping[str, str]) -> Iterator[str]:
    """The DSN of the store: the configured one as it is, or an embedded server's, migrated. Raises ``StoreError``, ``EmbeddedError``."""
    if config.document.store.url is not None:
        yield config.document.store.url.reveal()
        return
    if (refused := refuse_embedded(config.document.environment, env)) is not None:
        raise StoreError(refused)
    with start_embedded(config.data_path) as server:
        try:
            dsn = server.create_database(_DATABASE)
        except psycopg.errors.DuplicateDatabase:
            dsn = server.dsn(_DATABASE)
        migrate(dsn)
        yield dsn


@asynccontextmanager
async def open_store(loaded: Loaded, env: Mapping[str, str]) -> AsyncIterator[PostgresStore]:
    """The store, ready to work. Raises ``StoreError`` when its schema is behind, ``Unreachable`` when nobody answers."""
    settle = max((step.settle for rule in loaded.rules.values() for step in rule.ladder), default=timedelta(minutes=5))
    with store_address(loaded.config, env) as dsn:
        async with PostgresStore(dsn, size=loaded.config.document.engine.cycles + 4, settle=settle) as store:
            yield store


class DatabaseTime:
    """An estimate of the database's time between two questions for it: no wall clock of ours decides anything (law 12)."""

    def __init__(self, store: Store, clock: Clock, timescale: Timescale) -> None:
        self._store, self._clock, self._timescale = store, clock, timescale
        self._base, self._at = timescale.origin, clock.monotonic()

    async def refresh(self) -> None:
        """Ask. Raises ``Unreachable``."""
        before = self._clock.monotonic()
        self._base, self._at = self._timescale.database(await self._store.now()), before

    def __call__(self) -> datetime:
        """The moment, by the last answer and the seconds since."""
        return self._base + timedelta(seconds=self._clock.monotonic() - self._at)


@dataclass(frozen=True, slots=True)
class App:
    """Everything a replica or a command works with."""

    loaded: Loaded
    store: PostgresStore
    archive: Archive
    connectors: Mapping[str, Connector]
    engine: Engine
    notifier: Notifier
    events: Fanout
    clock: Clock
    time: DatabaseTime
    holder: str
    tools: Tools


@asynccontextmanager
async def open_app(loaded: Loaded, env: Mapping[str, str], subscribers: Sequence[Callable[[Event], None]] = ()) -> AsyncIterator[App]:
    """Store, connectors and engine, wired; nothing runs yet. Raises ``StoreError``, ``Unreachable``."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(loaded, env))
        events, clock, timescale = Fanout(subscribers), SystemClock(), await store.timescale()
        refuse_timescale(timescale, loaded.config)
        time = DatabaseTime(store, clock, timescale)
        await time.refresh()
        config = loaded.config
        tools = Tools(clock, store, events, timescale, time, config.document.timezone, loaded.redact, config.document.environment)
        connectors = {name: config.open(name, tools) for name in config.connectors}
        for connector in connectors.values():
            stack.push_async_callback(connector.close)
        holder = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        engine_settings = config.document.engine
        settings = EngineSettings(holder, engine_settings.lease, engine_settings.page, alerts_via=config.alerts_via)
        engine = Engine(store, store, connectors, loaded.rules, config.contacts, clock, events, settings)
        channels = {name: cast("Channel", one) for name, one in connectors.items() if one.shape.channel}
        notifier = Notifier(store, channels, config.contacts, clock, events, holder, redact=loaded.redact)
        yield App(loaded, store, store, connectors, engine, notifier, events, clock, time, holder, tools)


def refuse_timescale(timescale: Timescale, config: Config) -> None:
    """Law 12: rule time that runs faster is for a system that is simulated, whole, on this machine. Raises ``StoreError``."""
    if timescale.factor == 1:
        return
    abroad = sorted(host for host in config.hosts() if not _is_here(host))
    if abroad:
        raise StoreError(
            f"the store's rule time runs {timescale.factor:g} times as fast, which is for simulated systems on this machine; "
            f"{abroad[0]} is not one: use a store of its own for it"
        )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def activate(app: App, revision: int | None = None) -> Sequence[str]:
    """Make the loaded rules the active ones, unless a higher revision is; gives the names of rules to be parked (law 11).

    Without a ``revision`` the configuration's counts.
    """
    versions = [
        RuleVersion(name, rule.digest, rule.every, rule.guard.max_calls_per_hour, rule.severity.rank, rule.owner, rule.mode.value)
        for name, rule in app.loaded.rules.items()
    ]
    return await app.store.activate(versions, app.loaded.config.document.rules.revision if revision is None else revision)


async def take_back(app: App, logger: logging.Logger) -> Sequence[str] | None:
    """Activate the loaded rules again where newer ones were left alone: a rollout that failed after its first pod had begun.

    Gives the names of rules to be parked; ``None`` when nothing was left alone.
    """
    held = {name: rule.digest for name, rule in app.loaded.rules.items()}
    revision = await app.store.deserted(held, _DESERTED)
    if revision is None:
        return None
    logger.warning("rules taken back", extra={"fields": {"reason": f"nobody took the newer ones for {_DESERTED}", "revision": revision}})
    return await activate(app, revision)


async def examine(loaded: Loaded, env: Mapping[str, str]) -> list[Finding]:
    """What is wrong, part by part, for ``doctor``. Never raises for what it looks at."""
    try:
        async with open_app(loaded, env) as app:
            archived = [Finding(f"rule {row.name}", row.state.failed) for row in await app.archive.rules() if row.active]
            return [Finding("store"), *await _check_all(app), *archived]
    except StoreError as error:
        return [Finding("store", str(error))]
    except Unreachable as error:
        return [Finding("store", f"{error}; check store.url and that the server runs", unreachable=True)]


async def _check_all(app: App) -> list[Finding]:
    found = await asyncio.gather(*(_check(name, connector) for name, connector in app.connectors.items()))
    return [finding for findings in found for finding in findings]


async def _check(name: str, connector: Connector) -> list[Finding]:
    try:
        wrong = await connector.check()
    except Unreachable as error:
        return [Finding(f"connector {name}", str(error), unreachable=True)]
    return [Finding(f"connector {name}", sentence) for sentence in wrong] or [Finding(f"connector {name}")]


class Outage:
    """Says once that the store is away, and once that it is back, however many ask it meanwhile."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._away = False

    def began(self, error: BaseException) -> None:
        """It could not be reached."""
        if not self._away:
            self._events(Trouble("the store cannot be reached; nothing is decided until it is", {"reason": str(error)}))
        self._away = True

    def ended(self) -> None:
        """It answered."""
        if self._away:
            self._events(Trouble("the store is reached again"))
        self._away = False


class Pulse:
    """A tick that wakes one of those who wait, the longest waiting first, and the moment of the last one.

    One question per tick is enough while nothing is due; when there is, whoever found it goes on without waiting, and the
    next tick wakes another beside it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[asyncio.Event] = deque()
        self._over = False
        self.last = clock.monotonic()

    async def tick(self) -> None:
        """Wake one."""
        self.last = self._clock.monotonic()
        if self._waiting:
            self._waiting.popleft().set()

    def end(self) -> None:
        """Wake all; nobody waits from now on."""
        self._over = True
        while self._waiting:
            self._waiting.popleft().set()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    async def wait(self) -> None:
        """Until it is one's turn."""
        if not self._over:
            turn = asyncio.Event()
            self._waiting.append(turn)
            await turn.wait()


async def serve(loaded: Loaded, env: Mapping[str, str], logger: logging.Logger) -> int:
    """Be a replica until SIGTERM or SIGINT; the exit code. Raises what keeps it from starting."""
    registry, stop = CollectorRegistry(), asyncio.Event()
    loop = asyncio.get_running_loop()
    watch_uncaught(logger)
    watch_loop(loop, logger)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    rates = {name: rate.per_second for name, one in loaded.config.connectors.items() if (rate := one.settings.rate)}
    counting = CountEvents(registry, loaded.rules, loaded.config.connectors, rates, loaded.config.drills)
    check_ins = CheckIns({name: rule.every for name, rule in loaded.rules.items()})
    spans = _spans(loaded.config)
    async with open_app(loaded, env, (LogEvents(logger), counting, check_ins, *([spans] if spans else []))) as app:
        show_process(registry, version("orderheal"), lambda: app.events.failures)
        parked = await activate(app)
        logger.info("rules active", extra={"fields": {"rules": len(loaded.rules), "holder": app.holder}})
        await app.engine.park_removed(parked)
        board = Board(app.archive, registry, loaded.config.connectors)
        return await _live(app, board, check_ins, spans, registry, parked, stop, logger)


async def _live(
    app: App, board: Board, check_ins: CheckIns, spans: Spans | None, registry: CollectorRegistry, parked: Sequence[str],
    stop: asyncio.Event, logger: logging.Logger,
) -> int:  # fmt: skip
    settings = app.loaded.config.document
    cycles, post, outage, crew = Pulse(app.clock), Pulse(app.clock), Outage(app.events), Crew(logger)
    watchers = [one for one in app.connectors.values() if isinstance(one, Watcher) and one.checks_in]
    overdue = max(10 * settings.engine.poll.total_seconds(), 30.0)

    async def alive() -> Mapping[str, str]:
        late = app.clock.monotonic() - cycles.last
        return {"tick": f"the last one was {late:.0f}s ago"} if late > overdue else {}

    async def poll() -> None:
        await cycles.tick()
        await post.tick()

    async def ready() -> Mapping[str, str]:
        try:
            async with asyncio.timeout(3):
                await app.store.now()
        except (Unreachable, TimeoutError):
            return {"store": "cannot be reached"}
        return {}

    async def housekeeping() -> None:
        nonlocal parked
        await app.time.refresh()
        if (left := await take_back(app, logger)) is not None:
            parked = left
        await app.engine.park_removed(parked)
        await app.store.prune(settings.engine.keep)

    async def send_check_ins() -> None:
        await check_ins.send(watchers)

    schedule = Schedule(_ticks_fail(outage, logger))
    schedule.every(settings.engine.poll, "poll", poll)
    schedule.every(settings.engine.lease / 3, "renew", app.engine.renew)
    schedule.every(_GAUGES, "gauges", board.refresh)
    schedule.every(_HOUSEKEEPING, "housekeeping", housekeeping)
    schedule.every(_CHECK_INS, "check-ins", send_check_ins)
    pages = {"/metrics": page_of(registry), "/healthz": verdict(alive), "/readyz": verdict(ready)}
    run_cycle = spans.cycle(app.engine.run_cycle) if spans else app.engine.run_cycle
    async with deadman(app, schedule), traces(app, schedule, spans), drills(app, schedule, logger), serving(settings.http.listen, pages) as address, schedule:
        logger.info("listening", extra={"fields": {"address": address}})
        for number in range(settings.engine.cycles):
            crew.start(f"cycle-{number + 1}", keep_on(run_cycle, cycles, outage, logger))
        crew.start("notifier", keep_on(app.notifier.run_once, post, outage, logger))
        await _first(stop, crew.fallen)
        logger.info("stopping")
        crew.may_end()
        cycles.end()
        post.end()
        await app.engine.stop()
        await crew.leave(_GRACE)
    logger.info("stopped")
    return CRASHED if crew.fallen.is_set() else 0


@asynccontextmanager
async def deadman(app: App, schedule: Schedule) -> AsyncIterator[None]:
    """Have ``alerts.deadman`` pinged, if there is one, for the length of the block."""
    settings = app.loaded.config.document.alerts.deadman
    if settings is None:
        yield
        return
    man = DeadMan(settings.url.reveal(), app.tools)

    async def ping() -> None:
        await man.ping(await app.archive.rules(), await app.archive.now())

    schedule.every(settings.every, "dead-man", ping)
    try:
        yield
    finally:
        await man.close()


async def try_rule(app: App, rule: str, progress: Progress) -> Drilled:
    """Drill a rule that has one, and tell how it ended. Raises ``Unreachable``."""
    drilled = await drill(app.loaded.config.drills[rule], Range(app.connectors, app.archive, app.store, app.clock), progress)
    app.events(drilled)
    return drilled


@asynccontextmanager
async def drills(app: App, schedule: Schedule, logger: logging.Logger) -> AsyncIterator[None]:
    """Have rules drilled that say how often; of all replicas the one whose turn it is. At the end what is planted is removed."""
    running: dict[str, asyncio.Task[None]] = {}

    async def run(rule: str) -> None:
        try:
            await try_rule(app, rule, lambda stage, seconds: None)
        except Unreachable as error:
            app.events(Trouble("a drill was broken off", {"rule": rule, "reason": str(error)}))
        except Exception:
            logger.exception("a drill failed by a fault of ours", extra={"fields": {"rule": rule}})

    async def turn(rule: str, every: timedelta) -> None:
        busy = rule in running and not running[rule].done()
        if not busy and not await app.store.reserve(f"drill/{rule}", 1 / every.total_seconds(), 1, 1):
            running[rule] = asyncio.create_task(run(rule), name=f"drill {rule}")

    for rule, settings in app.loaded.config.document.drills.items():
        if settings.every is not None:
            schedule.every(min(_DRILLS, settings.every), f"drill {rule}", partial(turn, rule, settings.every))
    try:
        yield
    finally:
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)


def _spans(config: Config) -> Spans | None:
    """What makes spans of news, if they are wanted: the extra is imported by nobody else."""
    if config.document.traces is None:
        return None
    from daemon.telemetry.tracing import Spans

    return Spans(version("orderheal"), config.document.environment)


@asynccontextmanager
async def traces(app: App, schedule: Schedule, spans: Spans | None) -> AsyncIterator[None]:
    """Have spans sent to ``traces.otlp`` for the length of the block, and what is left at its end."""
    settings = app.loaded.config.document.traces
    if settings is None or spans is None:
        yield
        return
    from daemon.telemetry.tracing import Export

    export = Export(spans, settings.otlp, settings.headers, app.tools)
    schedule.every(_TRACES, "traces", export.send)
    try:
        yield
        await export.send()
    finally:
        await export.close()


async def keep_on(work: Callable[[], Awaitable[object]], pulse: Pulse, outage: Outage, logger: logging.Logger) -> None:
    """Work as long as there is some, then wait for the next tick. A failed cycle is its rule's matter, not the replica's."""
    while not pulse.over:
        busy: object = False
        try:
            busy = await work()
            outage.ended()
        except Unreachable as error:
            outage.began(error)
        except Exception:
            logger.exception("a cycle failed; its lease will run out and it is taken again later")
        if not busy:
            await pulse.wait()


def _ticks_fail(outage: Outage, logger: logging.Logger) -> Callable[[str, BaseException], None]:
    def failed(name: str, error: BaseException) -> None:
        if isinstance(error, Unreachable):
            outage.began(error)
        else:
            info = (type(error), error, error.__traceback__)
            logger.error("tick failed", exc_info=info, extra={"fields": {"tick": name}})

    return failed


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
