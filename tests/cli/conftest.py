"""A small shop of its own for the command line: a store, a shop's database, its service and a chat over loopback sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from daemon.cli import cli
from daemon.cli.common import guarded
from daemon.store.migrations import migrate

TOKEN, CHAT_TOKEN = "canary-5f1e-service", "4242:canary-77aa-chat"

CONFIG = """
environment: test
timezone: Europe/Moscow
store: {url: "${env:STORE_URL}"}
http: {listen: "127.0.0.1:0"}
engine: {poll: 50ms}
rules: {path: rules/}
connectors:
  shop-db:
    type: sql
    url: ${env:SHOP_DB_URL}
    timezone: UTC
    records:
      orders:
        query: SELECT id, sent, paid, amount, currency, created_at FROM orders
        key: ${id}
        by: [id]
        fields: {id: string, sent: string, paid: bool, amount: number, currency: string, created_at: timestamp}
  shop-integration:
    type: http
    url: ${env:SHOP_URL}
    headers: {Authorization: "Bearer ${env:SHOP_TOKEN}"}
    calls:
      upload_order:
        method: POST
        path: /upload_order
        body: {id: "${id}"}
        idempotent: true
        done: status == 200 && body.success == true
  chat: {type: telegram, token: "${env:CHAT_TOKEN}", url: "${env:CHAT_URL}"}
alerts: {via: chat}
contacts:
  team: {title: Team, channels: [{via: chat, chat: "-1"}]}
"""

RULE = """
name: not-sent
title: Заказ не выгружен
owner: team
runbook: docs/not-sent.md
mode: enforce
detect:
  from: shop-db.orders
  where: sent = 'not_sent'
  match: paid
  broken: sent == "not_sent"
  key: ${id}
  for: 15m
  since: ${created_at}
  value: {amount: "${amount}", currency: "${currency}"}
remediate:
  - call: shop-integration.upload_order
    with: {id: "${id}"}
escalate:
  - message: Не помогло.
    line: ${id}
"""

_TABLE = """
CREATE TABLE orders (id text PRIMARY KEY, sent text NOT NULL, paid boolean NOT NULL, amount numeric NOT NULL,
                     currency text NOT NULL, created_at timestamp NOT NULL);
INSERT INTO orders SELECT 'OK-' || n, '77', true, 10, 'RUB', '2026-01-01' FROM generate_series(1, 20) AS n;
INSERT INTO orders VALUES ('OZ-1', 'not_sent', true, 1500.50, 'RUB', '2026-01-01 10:00'),
                          ('OZ-2', 'not_sent', false, 20, 'RUB', '2026-01-01 10:00');
"""


@dataclass
class Shop:
    """Where the shop is, and what its service and chat were asked."""

    folder: Path
    database: str
    env: dict[str, str]
    asked: list[tuple[str, str]] = field(default_factory=list)
    answer: tuple[int, Mapping[str, Any]] = (200, {"success": True})
    heals: bool = True
    meanwhile: Callable[[], object] = bool  # what happens while it is asked

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the shop's database."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def handle(self, path: str, body: str) -> tuple[int, Mapping[str, Any]]:
        """What the service and the chat do."""
        self.asked.append((path, body))
        self.meanwhile()
        if path.endswith("/sendMessage"):
            return 200, {"ok": True, "result": {"message_id": len(self.asked)}}
        if self.heals:
            self.sql(f"UPDATE orders SET sent = '78' WHERE id = '{json.loads(body)['id']}'")
        return self.answer


@contextmanager
def _served(shop: Shop) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            status, answer = shop.handle(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return

    with listening(Handler) as address:
        yield f"http://{address}"


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback for the length of the block; its host and port."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # a client that only connects and goes away is no error of ours

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def migrated_store(pg_server: Any) -> str:
    dsn: str = pg_server.fresh_database()
    migrate(dsn)
    return dsn


@pytest.fixture(scope="session")
def filled_shop(pg_server: Any) -> str:
    dsn: str = pg_server.fresh_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(_TABLE)
    return dsn


@pytest.fixture
def shop(pg_server: Any, migrated_store: str, filled_shop: str, tmp_path: Path) -> Iterator[Shop]:
    """A configured installation with one broken order, and one that is not paid."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "not-sent.yaml").write_text(RULE)
    (tmp_path / "config.yaml").write_text(CONFIG)
    with pg_server.database(template=migrated_store) as store, pg_server.database(template=filled_shop) as database:
        made = Shop(tmp_path, database, {"STORE_URL": store, "SHOP_DB_URL": database})
        with _served(made) as url:
            made.env |= {"SHOP_URL": url, "CHAT_URL": url, "SHOP_TOKEN": TOKEN, "CHAT_TOKEN": CHAT_TOKEN}
            yield made


@dataclass(frozen=True)
class Said:
    """What a command printed and gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Orderheal:
    """Types commands, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], config: Path | None) -> None:
        self._capsys, self._config = capsys, config

    def __call__(self, *args: str) -> Said:
        configured = ("--config", str(self._config)) if self._config and "--config" not in args else ()
        code = guarded(lambda: cli.main(args=[*args, *configured], prog_name="orderheal", standalone_mode=False))
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, err)


@pytest.fixture
def orderheal(shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Orderheal:
    """The command line of the shop."""
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    return Orderheal(capsys, shop.config)
