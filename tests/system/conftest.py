"""A small shop for system tests: its database, its service and chat on loopback, a store, and replicas to start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from daemon.store.migrations import migrate
from tests.system.harness import STORE_TOOLS, Answer, Asked, Database, Replica, Service, as_json

CONFIG = """
environment: test
timezone: Europe/Moscow
store: {url: "${env:STORE_URL}"}
http: {listen: "127.0.0.1:0"}
engine: {poll: 50ms, lease: LEASE}
rules: {path: rules/}
connectors:
  shop:
    type: sql
    url: ${env:SHOP_DB_URL}
    timeout: 5s
    records:
      orders:
        query: SELECT id, state FROM orders
        key: ${id}
        by: [id]
        fields: {id: string, state: string}
  api:
    type: http
    url: ${env:API_URL}
    timeout: TIMEOUT
    slots: 1
    records:
      notes:
        by:
          id:
            request: {path: "/notes/${key}"}
            present: status == 200
            absent: status == 404
            item: ${body}
        key: ${id}
        fields: {id: string}
    calls:
      upload: {path: /upload, body: {id: "${id}"}, idempotent: true, done: status == 200, refused: status == 422}
      pay: {path: /pay, body: {id: "${id}"}, done: status == 200, refused: status == 422}
  chat: {type: telegram, token: "4242:not-a-secret", url: "${env:CHAT_URL}"}
contacts:
  team: {title: Team, channels: [{via: chat, chat: "-1"}]}
"""

RULE = """
name: NAME
title: Заказ застрял
owner: team
runbook: docs/stuck.md
mode: enforce
every: 1m
detect:
  from: shop.orders
  lookup:
    note: {from: api.notes, by: id, key: "${id}"}
  match:
    - state in ["STATE", "well"]
    - note != null
  broken: state == "STATE"
  key: ${id}
  object: order/${id}
  for: 0s
remediate:
  - call: api.CALL
    with: {id: "${id}"}
    settle: 1m
    attempts: 3
    backoff: {initial: 1m, factor: 1, max: 1m}
guard: {max_broken_percent: 100}
"""

FACTOR = 60.0
"""Rule time in these tests: a minute of it is a second."""

TABLE = "CREATE TABLE orders (id text PRIMARY KEY, state text NOT NULL)"


@dataclass
class Yard:
    """The shop, and the replicas at work on it."""

    folder: Path
    store: Database
    shop: Database
    service: Service
    stack: ExitStack
    replicas: dict[str, Replica] = field(default_factory=dict)

    def start(self, name: str, **env: str) -> Replica:
        """One more replica; the service knows its requests by the name."""
        here = {
            "STORE_URL": self.store.dsn, "SHOP_DB_URL": self.shop.dsn,
            "API_URL": f"{self.service.url}/{name}", "CHAT_URL": f"{self.service.url}/{name}/chat",
        }  # fmt: skip
        replica = Replica(self.folder / "config.yaml", here | env)
        self.stack.callback(replica.clear)
        self.replicas[name] = replica
        return replica

    def plant(self, **orders: str) -> None:
        """Orders by their id, each in its state."""
        for id, state in orders.items():
            self.shop.sql("INSERT INTO orders VALUES (%s, %s)", id, state)

    def state(self, id: str) -> str:
        return str(self.shop.sql("SELECT state FROM orders WHERE id = %s", id)[0][0])

    def heal(self, id: str) -> None:
        self.shop.sql("UPDATE orders SET state = 'well' WHERE id = %s", id)

    def calls(self, path: str, id: str) -> list[Asked]:
        """The requests of this call for this order."""
        return [one for one in self.service.to(path) if one.json["id"] == id]

    def ended(self) -> dict[str, str]:
        """How each incident stands: its resolution, or its phase."""
        return dict(self.store.sql("SELECT key, coalesce(resolution, phase) FROM incident"))

    def until_resolved(self, *ids: str) -> None:
        """Wait until the incidents of these orders are resolved."""
        self.store.until("SELECT count(DISTINCT key) = %s FROM incident WHERE phase = 'resolved' AND key = ANY(%s)", len(ids), list(ids))

    def respond(self, asked: Asked) -> Answer:
        """What the service does when nothing is wrong with it: an upload and a payment make an order well."""
        if asked.path.startswith("/notes/"):
            return as_json(200, {"id": asked.path.rpartition("/")[2]})
        if asked.path.startswith("/chat/"):
            return as_json(200, {"ok": True, "result": {"message_id": len(self.service.asked)}})
        id = json.loads(asked.body)["id"]
        if id.startswith("NEVER"):
            return as_json(422, {"error": "no"})
        self.heal(id)
        return as_json(200, {})


@pytest.fixture(scope="session")
def system_store(pg_server: Any) -> str:
    """A migrated store whose rule time is fast and whose clock can be moved, to be copied."""
    dsn: str = pg_server.fresh_database()
    migrate(dsn, FACTOR)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(STORE_TOOLS)
    return dsn


def lay_out(folder: Path, lease: str = "30s", timeout: str = "5s") -> None:
    """Configuration and rules."""
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG.replace("LEASE", lease).replace("TIMEOUT", timeout), encoding="utf-8")
    for name, state, call in (("stuck", "stuck", "upload"), ("unpaid", "unpaid", "pay")):
        text = RULE.replace("NAME", name).replace("STATE", state).replace("CALL", call)
        (folder / "rules" / f"{name}.yaml").write_text(text, encoding="utf-8")


@contextmanager
def a_yard(pg_server: Any, system_store: str, folder: Path) -> Iterator[Yard]:
    lay_out(folder)
    with pg_server.database(template=system_store) as store, pg_server.database() as shop, ExitStack() as stack:
        service = Service(lambda asked: as_json(500, {}))
        yard = Yard(folder, Database(store), Database(shop), service, stack)
        yard.shop.sql(TABLE)
        service.respond = yard.respond
        stack.enter_context(service.serving())
        yield yard


@pytest.fixture
def yard(pg_server: Any, system_store: str, tmp_path: Path) -> Iterator[Yard]:
    """A shop without an order yet, and no replica."""
    with a_yard(pg_server, system_store, tmp_path) as made:
        yield made
