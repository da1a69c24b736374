"""The demo: a composition root of the sandbox and the real daemon, over real sockets, followed until all has ended.

    embedded PostgreSQL ─▶ sandbox (databases, services, receivers) ─▶ ``orderheal run`` as its own process
            └─▶ store, its rule time made fast (law 12)                       │ plants faults once it has looked round
                                                                              └▶ follows it by the archive ─▶ summary

The daemon gets files and environment and nothing else. Whatever is started here is stopped here, in reverse, however
the demo ends.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from daemon.clock import SystemClock
from daemon.demo.screen import for_programs, live, show_summary
from daemon.demo.setting import CannotDemo, Setting, chats, lay_out, write_environment
from daemon.demo.watch import Log, Picture, Watch, open_log
from daemon.domain.value import Timescale
from daemon.sandbox.faults import faults
from daemon.sandbox.shops import DATABASES, LOGISTIC, SHOPS
from daemon.sandbox.wire.listener import HOST
from daemon.sandbox.wire.sandbox import open_sandbox
from daemon.store.embedded import EmbeddedPostgres, start_embedded
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore

FACTOR: Final = 60.0
"""How much faster rule time runs: a minute is a second, a ladder of three attempts not half a minute."""

_PATIENCE: Final = 100.0  # seconds after which what has not ended yet is said to differ
_QUIET: Final = 6.0  # seconds for which all must have stayed at its end: longer than any settle
_START: Final = 60.0  # seconds for the daemon to have looked round once
_STOP: Final = 15.0  # seconds for the daemon to give back what it holds
_WIDTH: Final = 132  # columns of what is printed where no terminal says how many it has
_LOOK: Final = 0.4  # seconds between two looks


def run_demo(*, keep: bool = False, json: bool = False, config: Path = Path("config.yaml")) -> int:
    """Show the whole system against the sandbox until all has ended as its script says; the exit code.

    ``keep`` stays up afterwards, until interrupted; ``json`` prints nothing on stdout but the summary for programs.
    Interrupted before the end it unwinds and gives 130.
    """
    out = Console(stderr=json, highlight=False)
    if not out.is_terminal:
        out.width = _WIDTH
    try:
        with _interruptible(), tempfile.TemporaryDirectory(prefix="orderheal-") as folder:
            setting = lay_out(Path(folder), config, f"{HOST}:{_free_port()}")
            out.print("starting PostgreSQL and the sandbox …")
            with start_embedded(durable=False) as server:
                picture = asyncio.run(_demo(server, Path(folder), setting, out, keep=keep, json=json))
    except CannotDemo as cannot:
        Console(stderr=True).print(cannot, markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if picture.ok else 1


async def _demo(server: EmbeddedPostgres, folder: Path, setting: Setting, out: Console, *, keep: bool, json: bool) -> Picture:
    """Everything wired up in one straight line; what is opened here is closed in reverse."""
    async with AsyncExitStack() as stack:
        store_dsn = server.create_database("orderheal")
        await asyncio.to_thread(migrate, store_dsn, FACTOR)
        store = await stack.enter_async_context(PostgresStore(store_dsn, size=2))
        timescale = await store.timescale()
        owners = {owner: server.create_database(name) for owner, name in DATABASES.items()}
        contacts = chats(setting.configs[0])
        sandbox = await stack.enter_async_context(open_sandbox(owners, folder, _rule_time(timescale), contacts=contacts))
        stack.enter_context(_running(sandbox.run(SystemClock()), "the world"))
        environment = {**sandbox.environment, "ORDERHEAL_DB_URL": store_dsn}
        log = Log(stack.enter_context(open_log(folder)))
        daemon = await stack.enter_async_context(_daemon(setting, environment, log))
        watch = Watch(store, sandbox, timescale, log)

        await _until(watch.ready, daemon, log, _START)
        await watch.plant(faults())
        picture = await _follow(watch, daemon, log, out)
        show_summary(out, picture)
        if json:
            sys.stdout.write(for_programs(picture) + "\n")
            sys.stdout.flush()
        if keep:
            _addresses(out, setting, environment, sandbox.control, folder / "daemon.log")
            _commands(out, setting, write_environment(folder, environment))
            await _stay(out, setting, daemon)
        return picture


async def _follow(watch: Watch, daemon: Process, log: Log, out: Console) -> Picture:
    """Look and show until all has stayed at its end for a while, or patience is at its end."""
    clock, quiet_since = SystemClock(), None
    view = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else nullcontext()
    with view as screen:
        while True:
            picture = await watch.look()
            _show(screen, picture, log, out)
            _alive(daemon, log)
            now = clock.monotonic()
            quiet_since = (quiet_since or now) if picture.ok else None
            if picture.lasted.total_seconds() > _PATIENCE or (quiet_since and now - quiet_since > _QUIET):
                return picture
            await clock.sleep(_LOOK)


def _show(screen: Live | None, picture: Picture, log: Log, out: Console) -> None:
    if screen is not None:
        screen.update(live(picture), refresh=True)
        return
    while log.fresh:
        out.print(log.fresh.popleft(), markup=False, soft_wrap=True)


@asynccontextmanager
async def _daemon(setting: Setting, environment: Mapping[str, str], log: Log) -> AsyncIterator[Process]:
    """``orderheal run`` as its own process, in a session of its own so that Ctrl-C reaches it through us alone."""
    configs = [word for path in setting.configs for word in ("--config", str(path))]
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "run", *configs,
        env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT,
        start_new_session=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    following = asyncio.create_task(log.follow(daemon.stdout), name="the log")
    try:
        yield daemon
    finally:
        await _stop(daemon)
        await following


async def _stop(daemon: Process) -> None:
    """Ask it to end, and make it when it does not."""
    with suppress(ProcessLookupError):
        daemon.terminate()
        try:
            async with asyncio.timeout(_STOP):
                await daemon.wait()
        except TimeoutError:
            daemon.kill()
            await daemon.wait()


async def _until(done: Callable[[], Awaitable[bool]], daemon: Process, log: Log, seconds: float) -> None:
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while not await done():
        _alive(daemon, log)
        if clock.monotonic() > end:
            raise CannotDemo(_with_log(f"the daemon has not looked round within {seconds:g}s", log))
        await clock.sleep(_LOOK)


def _alive(daemon: Process, log: Log) -> None:
    if daemon.returncode is not None:
        raise CannotDemo(_with_log(f"the daemon has ended with exit code {daemon.returncode}", log))


def _with_log(told: str, log: Log) -> str:
    return "\n".join((f"{told}; its last lines:", *log.raw))


async def _stay(out: Console, setting: Setting, daemon: Process) -> None:
    """Until somebody interrupts. Who kills the daemon to see another one go on finds the shop still there."""
    with suppress(asyncio.CancelledError):
        ended = await daemon.wait()
        how = f"was killed by signal {-ended}" if ended < 0 else f"ended with exit code {ended}"
        out.print(f"\nThe daemon {how}. All else stays up; another one goes on where it was, in the other terminal:")
        out.print(f"  orderheal run {_configs(setting)}", markup=False, soft_wrap=True)
        await asyncio.get_running_loop().create_future()


def _addresses(out: Console, setting: Setting, environment: Mapping[str, str], control: str, log: Path) -> None:
    out.print("\nStaying up until Ctrl-C.")
    named = {
        "metrics": f"http://{setting.listen}/metrics",
        "health": f"http://{setting.listen}/healthz",
        "sandbox": control,
        "store": environment["ORDERHEAL_DB_URL"],
        **{shop.connector: environment[f"{shop.name}_DB_URL".upper()] for shop in SHOPS},
        LOGISTIC: environment["LOGISTIC_V2_URL"],
        "configuration": " ".join(map(str, setting.configs)),
        "log": str(log),
    }
    for name, address in named.items():
        out.print(f"  {name:14} {address}", markup=False, soft_wrap=True)


def _commands(out: Console, setting: Setting, variables: Path) -> None:
    """How to try the commands on the running demo in a second terminal."""
    out.print("\nIn another terminal, in this folder:")
    out.print(f"  set -a; . {shlex.quote(str(variables))}; set +a; orderheal status {_configs(setting)}", markup=False, soft_wrap=True)


def _configs(setting: Setting) -> str:
    return " ".join(f"--config {shlex.quote(str(path))}" for path in setting.configs)


def _rule_time(timescale: Timescale) -> Callable[[], datetime]:
    return lambda: timescale.rule(datetime.now(UTC))


@contextmanager
def _running(work: Any, name: str) -> Iterator[None]:
    """A task beside ours that ends with the block."""
    task = asyncio.ensure_future(work)
    task.set_name(name)
    try:
        yield
    finally:
        task.cancel()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, unwind everything exactly as Ctrl-C does, which asyncio knows about.

    Ctrl-C itself is taken too where a shell that started us in the background had it ignored.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__: Sequence[str] = ["FACTOR", "run_demo"]
