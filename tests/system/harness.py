"""What system tests are made of: daemons as real processes, an HTTP service, a TCP proxy, a store with a clock to move.

Nothing here waits for time to pass. A test waits for a line of a daemon's log, for a request at the service, or for a state
of the store, which says by NOTIFY that something was written. The limits on such waits only end a test that would hang.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PATIENCE = 60.0

STORE_TOOLS = """
CREATE TABLE test_clock (ahead interval NOT NULL);
INSERT INTO test_clock VALUES ('0');
CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT clock_timestamp() + ahead FROM test_clock';
CREATE FUNCTION test_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('moved', ''); RETURN NULL; END $$;
CREATE TRIGGER test_moved AFTER INSERT OR UPDATE ON incident FOR EACH STATEMENT EXECUTE FUNCTION test_moved();
CREATE TRIGGER test_moved AFTER INSERT OR UPDATE ON attempt FOR EACH STATEMENT EXECUTE FUNCTION test_moved();
CREATE TRIGGER test_moved AFTER INSERT OR UPDATE ON dispatch FOR EACH STATEMENT EXECUTE FUNCTION test_moved();
CREATE TRIGGER test_moved AFTER INSERT OR UPDATE ON rule FOR EACH STATEMENT EXECUTE FUNCTION test_moved();
"""
"""Laid over a migrated store: its one clock can be moved ahead, and who listens hears of every write."""


@dataclass(frozen=True)
class Database:
    """A database, seen from the test."""

    dsn: str

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def until(self, question: str, *values: object) -> None:
        """Wait until this gives true."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("LISTEN moved")
            for _ in range(2000):
                (true,) = connection.execute(question, values).fetchone() or (False,)  # type: ignore[call-overload]
                if true:
                    return
                if not list(connection.notifies(timeout=PATIENCE / 2, stop_after=1)):
                    break
        seen = {table: self.sql(f"SELECT * FROM {table}") for table in ("rule", "incident", "attempt", "dispatch")}
        raise AssertionError(f"never true: {question}\n" + json.dumps(seen, default=str, indent=1, ensure_ascii=False))

    def leap(self, seconds: float) -> None:
        """Move the store's clock ahead, by database time."""
        self.sql("UPDATE test_clock SET ahead = ahead + make_interval(secs => %s)", seconds)

    def terminate(self) -> None:
        """End every other connection."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")

    def text(self) -> str:
        """All that every table holds."""
        tables = self.sql("SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
        return "\n".join(str(row) for (table,) in tables for row in self.sql(f"SELECT t::text FROM {table} AS t"))


class Replica:
    """``orderheal run`` as its own process. Its log is read by a thread, line by line."""

    def __init__(self, config: Path, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(config)], cwd=config.parent,
            env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def output(self) -> str:
        """All it has said."""
        return "".join(self.lines)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Its log, read."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """The lines with this message and these fields."""
        return [entry for entry in self.entries if entry["message"] == message and fields.items() <= entry.items()]

    def said_at(self, *levels: str) -> list[dict[str, Any]]:
        """The lines of these levels."""
        return [entry for entry in self.entries if entry["level"] in levels]

    def until(self, message: str, **fields: object) -> dict[str, Any]:
        """Wait for a line; the first such one."""
        with self._news:
            if not self._news.wait_for(lambda: self.said(message, **fields) or not self._reader.is_alive(), PATIENCE):
                raise AssertionError(f"never said {message!r} {fields}:\n{self.output}")
            found = self.said(message, **fields)
        assert found, f"the daemon ended without saying {message!r} {fields}:\n{self.output}"
        return found[0]

    @property
    def address(self) -> str:
        return f"http://{self.until('listening')['address']}"

    def get(self, page: str) -> tuple[int, str]:
        """A page of its own, and the status."""
        try:
            with urlopen(self.address + page, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when it is no more."""
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> None:
        """Have it stop as an orchestrator would, and see that it does so in order."""
        self.signal(signal.SIGTERM)
        assert self.ended() == 0, self.output

    def clear(self) -> None:
        """Leave nothing behind; a test that failed shows what was said."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        print(f"--- process {self.pid} said, exit {self.process.returncode}\n{self.output}")
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass(frozen=True)
class Asked:
    """A request as the service got it. ``sender`` is the first part of the path: each replica has an address of its own."""

    sender: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, Mapping[str, str], str]


def as_json(status: int, body: object) -> Answer:
    return status, {"content-type": "application/json"}, json.dumps(body)


@dataclass
class Service:
    """An HTTP server on loopback. ``respond`` makes the answers; ``told`` hears of ``received`` and ``answered``."""

    respond: Callable[[Asked], Answer]
    told: Callable[[str, Asked], None] = lambda moment, asked: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def to(self, start: str) -> list[Asked]:
        """The requests whose path begins so."""
        return [one for one in self.asked if one.path.startswith(start)]

    @contextmanager
    def serving(self, tls: Path | None = None) -> Iterator[Service]:
        """Serve for the length of the block."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                _, sender, path = self.path.split("/", 2) if self.path.count("/") > 1 else ("", "", self.path[1:])
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(sender, self.command, "/" + path, headers, body)
                service.asked.append(asked)
                service.told("received", asked)
                status, answered, text = service.respond(asked)
                data = text.encode()
                with suppress(OSError):
                    self.send_response(status)
                    for name, value in {**answered, "content-length": str(len(data))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                service.told("answered", asked)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                return  # a client that was killed is what these tests are about

        server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


Watch = Callable[[bytes], str]
"""Looks at what a client sends; ``forward`` it, ``before``: end the client instead, ``after``: end it when the answer is there."""


class Proxy:
    """A TCP proxy before a PostgreSQL server: goes away and comes back, or ends its client at a chosen statement."""

    def __init__(self, dsn: str, watch: Watch | None = None, reap: Callable[[], None] | None = None) -> None:
        facts = conninfo_to_dict(dsn)
        host, port = str(facts.get("host", "127.0.0.1")), int(facts.get("port") or 5432)
        self._target: Any = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self._watch, self._reap = watch, reap
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._bound(0)
        self.port = self._listener.getsockname()[1]
        self.mend()
        rest = {name: value for name, value in facts.items() if name not in ("host", "port", "user", "password", "dbname")}
        password = f":{facts['password']}" if facts.get("password") else ""
        more = "?" + "&".join(f"{name}={value}" for name, value in rest.items()) if rest else ""
        self.dsn = f"postgresql://{facts.get('user', 'postgres')}{password}@127.0.0.1:{self.port}/{facts['dbname']}{more}"

    @staticmethod
    def _bound(port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def mend(self) -> None:
        """Take connections."""
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections and refuse new ones: the port stays ours, but nobody listens."""
        self._close_listener()
        self._listener = self._bound(self.port)
        self._drop()

    def close(self) -> None:
        self._close_listener()
        self._drop()

    def _close_listener(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
        self._listener.close()

    def _drop(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for one in pairs:
            with suppress(OSError, ValueError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(self._family, socket.SOCK_STREAM)
            with self._lock:
                self._pairs |= {client, server}
            threading.Thread(target=self._converse, args=(client, server), daemon=True).start()

    def _converse(self, client: socket.socket, server: socket.socket) -> None:
        """Hand on what either side says until one is gone."""
        with client, server, suppress(OSError):
            server.connect(self._target)
            other, reaping = {client: server, server: client}, False
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    found = self._watch(data) if source is client and self._watch else ""
                    if found == "before" or (reaping and source is server):
                        self._end()
                        return
                    if not data:
                        return
                    reaping |= found == "after"
                    other[source].sendall(data)
        with self._lock:
            self._pairs -= {client, server}

    def _end(self) -> None:
        assert self._reap is not None
        self._reap()


@contextmanager
def proxied(dsn: str) -> Iterator[Proxy]:
    proxy = Proxy(dsn)
    try:
        yield proxy
    finally:
        proxy.close()


def with_password(dsn: str, user: str, password: str) -> str:
    """The same database for another role."""
    return make_conninfo(dsn, user=user, password=password)
