"""The SQL of the shipped configuration and rules runs on a real PostgreSQL, and finds what the rules are about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from rules.world import ROOT, SHIPPED, environment, shipped

from daemon.clock import HandClock
from daemon.config import load_config
from daemon.domain.rule import Rule
from daemon.domain.shape import Absent, Present
from daemon.domain.value import Record, Timescale
from daemon.engine.ports import Connector
from daemon.kinds import Tools

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TABLES = """
CREATE TABLE orders (id bigserial, market_order_id text, posting_number text PRIMARY KEY, bitrix_order_id text, status text,
    paid boolean, amount numeric(12,2), currency text, warehouse_location text, created_at timestamp, ship_by timestamp);
INSERT INTO orders (market_order_id, posting_number, bitrix_order_id, status, paid, amount, currency, created_at) VALUES
    ('M1', 'P1', 'not_sent', 'paid', true, 10, 'RUB', '2026-03-02 09:00'), ('M1', 'P2', '77', 'paid', true, 10, 'RUB', '2026-03-02 10:00'),
    ('M2', 'P3', '78', 'paid', true, 10, 'RUB', '2026-03-02 09:00'), ('M3', 'P4', 'send_error_bitrix', 'new', false, 1, 'RUB', '2025-01-01');
CREATE TABLE packages (id bigint PRIMARY KEY, number text, status text, created_at timestamp);
CREATE TABLE outbox (id bigint PRIMARY KEY, event text, status text, processed_at timestamp, created_at timestamp);
CREATE TABLE outbox_errors (id bigserial, outbox_id bigint, error text, created_at timestamp);
INSERT INTO packages VALUES (5, 'OZ-1', 'new', '2026-03-02 06:00'), (6, 'OZ-2', 'new', '2026-03-02 06:00');
INSERT INTO outbox VALUES
    (1, 'ProcessDeliveryJob:Package:5', 'failed', NULL, '2026-03-02 06:00'),
    (2, 'GenerateDeliveryDocumentsJob:Package:5', 'done', '2026-03-02 08:00', '2026-03-02 06:00'),
    (3, 'ProcessDeliveryJob:Package:6', 'done', '2026-03-02 08:00', '2026-03-02 06:00'),
    (4, 'ProcessDeliveryJob:Package:404', 'failed', NULL, '2026-03-02 06:00'),
    (5, 'ProcessDeliveryJob', 'new', NULL, '2026-03-02 06:00');
INSERT INTO outbox_errors (outbox_id, error, created_at) VALUES
    (1, 'timeout', '2026-03-02 07:00'), (1, 'адрес', '2026-03-02 07:30'), (3, '502', '2026-03-02 07:00'), (4, 'x', '2026-03-02 07:00');
"""


class NoQuota:
    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        return None


@pytest.fixture
def filled(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute(TABLES)
    return database


@asynccontextmanager
async def opened(name: str, dsn: str) -> AsyncIterator[Connector]:
    over = {f"{name.upper().replace('-', '_')}_URL": dsn, "LOGISTIC_V2_URL": dsn}
    config = load_config([ROOT / "config.yaml"], environment() | over)
    declared = config.connectors[name]
    connector = declared.kind.open(
        name, declared.settings.model_copy(update={"fingerprint": None}), Tools(HandClock(), NoQuota(), lambda event: None, Timescale(NOW), lambda: NOW)
    )
    try:
        yield connector
    finally:
        await connector.close()


async def scanned(connector: Connector, records: str, where: object) -> list[Record]:
    pages = connector.list(records, where, None, None, NOW, 100, False)  # type: ignore[arg-type]
    return [record async for page in pages for record in page.records]


async def test_the_outbox_knows_its_parcels_and_their_errors(filled: str) -> None:
    where = shipped()["outbox-error"].detect.where
    async with opened("logistic", filled) as logistic:
        found = {record["id"]: record for record in await scanned(logistic, "outbox", where)}
        answers = await logistic.ask("outbox", "event", ["ProcessDeliveryJob:Package:5", "GenerateDeliveryDocumentsJob:Package:7"], True)
        parcels = await logistic.ask("packages", "number", ["OZ-1", "OZ-3"], True)
    assert set(found) == {"1", "4"}, "what failed and has not succeeded since"
    assert {name: found["1"][name] for name in ("package_id", "package_number", "error_text", "errors")} == {
        "package_id": "5", "package_number": "OZ-1", "error_text": "адрес", "errors": 2,
    }  # fmt: skip
    assert found["1"]["first_error_at"] == datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert found["1"]["last_error_at"] == datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
    assert found["4"]["package_number"] is None
    assert [type(answer) for answer in answers.values()] == [Present, Absent]
    present = parcels["OZ-1"]
    assert isinstance(present, Present)
    assert present.records[0]["id"] == "5"
    assert parcels["OZ-3"] == Absent()


async def test_an_order_with_two_rows_is_one_record_with_both(filled: str) -> None:
    where = shipped()["kaspi-order-duplicated"].detect.where
    async with opened("kaspi-db", filled) as database:
        (found,) = await scanned(database, "order_copies", where)
        answer = (await database.ask("order_copies", "market_order_id", ["M2"], True))["M2"]
    assert (found["market_order_id"], found["copies"], found["bitrix_order_ids"]) == ("M1", 2, ["not_sent", "77"])
    assert isinstance(answer, Present)
    assert answer.records[0]["copies"] == 1


WANTED = {
    "order-not-sent": {"P1"}, "deal-missing": {"P2", "P3"}, "namshi-deal-missing": {"P2", "P3"}, "identifier-mismatch": {"P2", "P3"},
    "deal-duplicated": {"P2", "P3"},
}  # fmt: skip


FILTERED = [rule for rule in shipped().values() if rule.detect.records == "orders" and rule.detect.connector.endswith("-db")]


@pytest.mark.parametrize("rule", FILTERED, ids=lambda rule: rule.name)
async def test_each_filter_of_a_rule_gives_its_candidates(rule: Rule, filled: str) -> None:
    async with opened(rule.detect.connector, filled) as database:
        found = {record["posting_number"] for record in await scanned(database, "orders", rule.detect.where)}
    assert found == WANTED[Path(rule.place.file).stem]


def test_every_database_has_a_rule_with_a_filter() -> None:
    assert {rule.detect.connector for rule in shipped().values()} >= {shop.connector for shop in SHIPPED} | {"logistic"}
