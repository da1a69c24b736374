"""The daemon as its own process: starts, heals, shows itself, stops on a signal without losing anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest

from daemon.store.migrations import migrate
from tests.cli.conftest import Orderheal, Shop


class Replica:
    """A running daemon: its log, line by line."""

    def __init__(self, shop: Shop, *more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(shop.config), *more],
            env={**os.environ, **shop.env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.output = ""

    def until(self, message: str, **fields: object) -> dict[str, Any]:
        """Read the log until this line."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            entry: dict[str, Any] = json.loads(line)
            if entry["message"] == message and fields.items() <= entry.items():
                return entry
        raise AssertionError(f"the daemon ended without saying {message!r}:\n{self.output}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        rest, _ = self._process.communicate(timeout=60)
        self.output += rest
        if self._process.returncode:
            print(self.output)
        return self._process.returncode


@contextmanager
def replica(shop: Shop) -> Iterator[Replica]:
    running = Replica(shop)
    try:
        yield running
    finally:
        running._process.kill()
        running._process.communicate()


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def attempts(shop: Shop) -> list[tuple[str, str | None]]:
    with psycopg.connect(shop.env["STORE_URL"]) as connection:
        return [(row[0], row[1]) for row in connection.execute("SELECT object, result FROM attempt ORDER BY begun")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_heals_shows_itself_and_stops_with_0(number: int, shop: Shop) -> None:
    with replica(shop) as daemon:
        address = "http://" + daemon.until("listening")["address"]
        daemon.until("attempt ended", result="done", key="OZ-1")
        assert [get(address + page)[0] for page in ("/healthz", "/readyz", "/")] == [200, 200, 404]
        metrics = get(address + "/metrics")[1]
        assert 'orderheal_sightings_total{rule="not-sent",verdict="broken"}' in metrics
        assert 'orderheal_request_seconds_count{connector="shop-integration"' in metrics
        daemon.signal(number)
        assert daemon.ended() == 0
    assert json.loads(daemon.output.splitlines()[-1])["message"] == "stopped"
    assert "canary" not in daemon.output + metrics
    assert shop.sql("SELECT sent FROM orders WHERE id = 'OZ-1'") == [("78",)]


def test_a_signal_lets_what_is_in_flight_be_answered_and_recorded(shop: Shop) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    usual = shop.handle

    def slow(path: str, body: str) -> tuple[int, Mapping[str, Any]]:
        asked.set()
        assert may_answer.wait(60)
        return usual(path, body)

    shop.handle = slow  # type: ignore[method-assign]
    with replica(shop) as daemon:
        try:
            assert asked.wait(60)
            daemon.signal(signal.SIGTERM)
            daemon.until("stopping")
            may_answer.set()
            assert daemon.ended() == 0
        finally:
            may_answer.set()
    assert [result for _, result in attempts(shop)] == ["done"]


def test_two_replicas_share_the_work_and_send_once(shop: Shop) -> None:
    shop.sql("INSERT INTO orders SELECT 'OZ-9' || n, 'not_sent', true, 1, 'RUB', '2026-01-01' FROM generate_series(1, 5) n")
    all_asked, usual = threading.Event(), shop.handle

    def counted(path: str, body: str) -> tuple[int, Mapping[str, Any]]:
        answer = usual(path, body)
        if len(shop.asked) == 6:
            all_asked.set()
        return answer

    shop.handle = counted  # type: ignore[method-assign]
    with replica(shop) as one, replica(shop) as two:
        for daemon in (one, two):
            daemon.until("listening")
        assert all_asked.wait(60)
        for daemon in (one, two):
            daemon.signal(signal.SIGTERM)
            assert daemon.ended() == 0
    bodies = [body for path, body in shop.asked if path == "/upload_order"]
    assert len(bodies) == len(set(bodies)) == 6


def test_a_store_that_is_behind_is_refused_with_the_remedy(orderheal: Orderheal, pg_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pg_server.database() as empty:
        monkeypatch.setenv("STORE_URL", empty)
        said = orderheal("run")
    assert (said.code, said.err.strip()) == (2, "the store has no tables yet; run: orderheal db upgrade")


def test_faster_rule_time_is_refused_while_a_host_is_not_this_machine(
    orderheal: Orderheal, pg_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pg_server.database() as fast:
        migrate(fast, 60.0)
        monkeypatch.setenv("STORE_URL", fast)
        assert orderheal("status").code == 0
        monkeypatch.setenv("SHOP_URL", "https://integration.example")
        said = orderheal("run")
    assert said.code == 2
    assert "60 times as fast" in said.err
    assert "integration.example" in said.err


def test_the_embedded_database_is_refused_in_production(orderheal: Orderheal, shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace("environment: test", "environment: production").replace("store: {url:", "# {"))
    said = orderheal("run")
    assert (said.code, len(said.err.strip().splitlines())) == (2, 1)
    assert "store.url" in said.err


def test_an_address_that_is_taken_is_one_line(orderheal: Orderheal, shop: Shop) -> None:
    port = shop.env["SHOP_URL"].rpartition(":")[2]
    shop.config.write_text(shop.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    said = orderheal("run")
    assert (said.code, len(said.err.strip().splitlines())) == (2, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in said.err


def test_it_starts_its_own_embedded_database_outside_production(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace('store: {url: "${env:STORE_URL}"}', "store: {data: data/}"))
    with replica(shop) as daemon:
        daemon.until("attempt ended", result="done")
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 0
