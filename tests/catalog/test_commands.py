"""Promises of ``orderheal catalog``, typed: exit codes, what is asked, what is told, and that Ctrl-C ends only the looking."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.cli import cli
from daemon.cli.common import guarded
from daemon.sandbox.scenario import Answer, Word
from daemon.store.migrations import migrate
from tests.catalog.conftest import KEY, TOKEN, Market, in_background, text
from tests.net.loopback import NOW

CONFIG = """
environment: test
store: {url: "${env:STORE_URL}", data: data/}
rules: {path: rules/}
connectors:
  lamoda:
    type: lamoda
    url: ${env:LAMODA_URL}
    user: integration@shop.example
    api_key: ${env:LAMODA_KEY}
    timezone: Asia/Almaty
    currency: KZT
  lamoda-integration:
    type: http
    url: ${env:SERVICE_URL}
    headers: {Authorization: "Bearer ${env:SERVICE_TOKEN}"}
    calls:
      save_csv:
        path: /save_csv
        headers: {Content-Type: multipart/form-data}
        body: {headers: "${headers}", separator: "${separator}", file: {name: "${file_name}", content: "${file}"}}
        done: status == 200 && body.contains("<SuccessResponse")
        refused: status == 422
  chat: {type: sentry, dsn: "${env:DSN}"}
contacts:
  team: {title: Team, channels: [{via: chat}]}
"""
RULE = """
name: feed-failed
title: Импорт не удался
owner: team
runbook: docs/feed.md
detect: {from: lamoda.feeds, broken: failed == null || failed > 0, key: "${feed}"}
"""


@dataclass
class Said:
    code: int
    out: str
    err: str


@dataclass
class Installation:
    """A configured installation whose Lamoda lives in this process; calling it types a command."""

    market: Market
    folder: Path
    env: Mapping[str, str]
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: str) -> Said:
        command = ["catalog", *args, "--config", str(self.folder / "config.yaml")]
        code = guarded(lambda: cli.main(args=command, prog_name="orderheal", standalone_mode=False))
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        assert KEY not in out + err
        assert TOKEN not in out + err
        return Said(code, out, err)

    def push(self, *args: str) -> Said:
        return self("push", str(self.folder / "kz.csv"), "--headers", "csv", "--separator", ";", "--wait", "50ms", *args)


@pytest.fixture(scope="module")
def migrated(pg_server: Any) -> str:
    dsn: str = pg_server.fresh_database()
    migrate(dsn)
    return dsn


@pytest.fixture
def installed(
    pg_server: Any, migrated: str, market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "feed.yaml").write_text(RULE)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "kz.csv").write_text(text())
    with pg_server.database(template=migrated) as store, in_background(market, lambda: datetime.now(UTC)) as (seller, service):
        env = {"STORE_URL": store, "LAMODA_URL": seller, "LAMODA_KEY": KEY, "SERVICE_URL": service, "SERVICE_TOKEN": TOKEN}
        env["DSN"] = "http://key@127.0.0.1:9/1"
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        yield Installation(market, tmp_path, env, capsys)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What a person types when asked."""
    return lambda typed: monkeypatch.setattr(sys, "stdin", io.StringIO(typed))


def test_a_push_ends_with_a_table_of_what_failed_and_exit_1(installed: Installation) -> None:
    installed.market.step = timedelta(minutes=3)
    said = installed.push()
    assert said.code == 1
    assert "Finished, 3 of 3, 1 failed" in said.out
    assert "A-2  Negative value is not allowed" in said.out
    (feed,) = installed.market.world.rows["lamoda.feeds"]
    assert f"accepted by Lamoda as import {feed}" in said.err
    assert f"orderheal catalog status {feed}" in said.err


def test_a_push_of_sound_products_exits_0_and_speaks_json(installed: Installation) -> None:
    installed.market.step = timedelta(minutes=3)
    (installed.folder / "kz.csv").write_text(text().replace("-1", "1"))
    said = installed.push("--json")
    assert said.code == 0
    assert {name: value for name, value in json.loads(said.out).items() if name != "request_id"} == {
        "status": "Finished",
        "action": "ProductCreate",
        "total": 3,
        "processed": 3,
        "failed": 0,
        "errors": [],
        "verdict": "ok",
    }


def test_a_bad_file_is_told_line_by_line_and_nothing_is_sent(installed: Installation) -> None:
    file = installed.folder / "kz.csv"
    file.write_text(text() + "A-1;x;x;x;1\n")
    said = installed.push()
    assert (said.code, said.out) == (2, "")
    assert said.err == f'{file}:5:1: SellerSku "A-1" stands in line 2 already\n'
    assert installed.market.uploads == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--headers", "csv"), "--separator"),
        (("--headers", "xlsx", "--separator", ";"), "--separator"),
        (("--headers", "xls"), "'xls'"),
        (("--headers", "csv", "--separator", ";", "--market", "lamodo"), 'did you mean "lamoda"'),
        (("--headers", "csv", "--separator", ";", "--service", "lamoda"), "save_csv"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_2(installed: Installation, args: tuple[str, ...], words: str) -> None:
    said = installed("push", str(installed.folder / "kz.csv"), *args)
    assert said.code == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert installed.market.uploads == []


def test_a_file_name_of_another_system_does_no_harm(installed: Installation) -> None:
    installed.market.step = timedelta(minutes=3)
    file = installed.folder / os.fsdecode("каталог.csv".encode("cp1251"))
    file.write_bytes((installed.folder / "kz.csv").read_bytes())
    assert installed("push", str(file), "--headers", "csv", "--separator", ";", "--wait", "50ms").code == 1
    file.write_bytes(b"")
    said = installed("push", str(file), "--headers", "csv", "--separator", ";")
    assert said.code == 2
    assert said.err.endswith(".csv:1:1: is empty\n")


def test_the_same_file_is_recognised_and_asked_about(installed: Installation, answers: Callable[[str], None]) -> None:
    installed.market.step = timedelta(minutes=3)
    installed.push()
    (feed,) = installed.market.world.rows["lamoda.feeds"]
    (installed.folder / "kz.csv").rename(installed.folder / "kz-2.csv")
    again = ("push", str(installed.folder / "kz-2.csv"), "--headers", "csv", "--separator", ";", "--wait", "50ms")
    answers("n\n")
    said = installed(*again)
    assert said.code == 2
    assert f"as import {feed}. Push it again?" in said.err
    assert len(installed.market.uploads) == 1
    answers("y\n")
    assert installed(*again).code == 1
    assert len(installed.market.uploads) == 2
    assert installed(*again, "--yes").code == 1
    assert len(installed.market.uploads) == 3


def test_a_push_without_an_answer_is_looked_for_before_anybody_is_asked(installed: Installation, answers: Callable[[str], None]) -> None:
    memory = installed.folder / "data" / "catalog.json"
    memory.parent.mkdir()
    digest = hashlib.sha256((installed.folder / "kz.csv").read_bytes()).hexdigest()
    cut_off = {"digest": digest, "file": "kz.csv", "at": NOW.isoformat(), "number": 1, "request_id": None, "known": ["older"]}
    memory.write_text(json.dumps({digest: cut_off}))
    rows = [{"feed": feed, "created_at": datetime.now(UTC), "total": 3, "processed": 3} for feed in ("older", "ours")]
    installed.market.world.change({"lamoda.feeds": rows, "lamoda.feed_status": [{**row, "errors": []} for row in rows]})
    said = installed.push()
    assert said.code == 0
    assert "accepted by Lamoda as import ours" in said.err
    assert installed.market.uploads == []
    assert json.loads(memory.read_text())[digest]["request_id"] == "ours"


def test_a_refusal_is_told_with_exit_1_and_a_service_that_is_down_with_3(installed: Installation) -> None:
    script = installed.market.world.script
    script("lamoda-integration.save_csv", [Answer(answer=Word.REFUSED)])
    said = installed.push()
    assert said.code == 1
    assert "was not taken" in said.err
    script("lamoda-integration.save_csv", [Answer(answer=Word.LATER)])
    assert installed.push().code == 3
    assert not (installed.folder / "data" / "catalog.json").read_text().count("digest")


def test_patience_that_ends_says_how_to_go_on_and_status_goes_on(installed: Installation) -> None:
    said = installed.push()
    assert said.code == 3
    (feed,) = installed.market.world.rows["lamoda.feeds"]
    assert f"to go on: orderheal catalog status {feed}" in said.err.splitlines()[-1]
    installed.market.step = timedelta(minutes=3)
    said = installed("status", feed)
    assert said.code == 1
    assert "A-2" in said.out
    assert len(installed.market.uploads) == 1


def test_an_unknown_import_is_one_line(installed: Installation) -> None:
    said = installed("status", "nobodys")
    assert said.code == 2
    assert "knows no import nobodys" in said.err


def test_ctrl_c_ends_only_the_looking_and_says_how_to_go_on(installed: Installation) -> None:
    row = {"feed": "f", "status": "Processing", "created_at": datetime.now(UTC), "total": 10, "processed": 4}
    installed.market.world.change({"lamoda.feeds": [row], "lamoda.feed_status": [{**row, "errors": []}]})
    command = [sys.executable, "-m", "daemon", "catalog", "status", "f", "--config", str(installed.folder / "config.yaml")]
    with subprocess.Popen(command, env={**os.environ, **installed.env}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "4 of 10" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert "orderheal catalog status f" in said[0]
    assert said[-1] == "stopped looking; the import goes on\n"


class Heard(list[str]):
    """The keys of uploads, and a signal that one came."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def append(self, key: str) -> None:
        super().append(key)
        self.came.set()


def test_ctrl_c_while_it_is_sent_does_not_say_that_it_has_arrived(installed: Installation) -> None:
    installed.market.uploads = heard = Heard()
    installed.market.world.script("lamoda-integration.save_csv", [Answer(answer=Word.TIMEOUT)])
    file = ["push", str(installed.folder / "kz.csv"), "--headers", "csv", "--separator", ";"]
    command = [sys.executable, "-m", "daemon", "catalog", *file, "--config", str(installed.folder / "config.yaml")]
    with subprocess.Popen(command, env={**os.environ, **installed.env}, stderr=subprocess.PIPE, text=True) as process:
        assert heard.came.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "goes on" not in said
    assert "it may have arrived; pushing the same file again looks for it first" in said.splitlines()[-1]
