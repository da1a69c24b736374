"""What a page shows to be copied is taken by whoever it is for: the loader, the chart's schema, PostgreSQL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import psycopg
import pytest
import yaml
from sqlalchemy import make_url

from daemon.app import load
from daemon.store.migrations import migrate
from tests.conftest import PgServer
from tests.docs.reading import PAGES, ROOT, Block, blocks


def found(*kinds: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, *kinds)]


@pytest.mark.parametrize("block", found("yaml"), ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    yaml.safe_load(block.text)


@pytest.mark.parametrize("block", found("yaml config"), ids=str)
def test_configuration_is_taken_over_the_shipped_one(block: Block, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text(block.text, encoding="utf-8")
    loaded = load([ROOT / "config.yaml", over], {}, offline=True)
    assert loaded.rules


def test_a_mistake_in_a_block_would_be_seen(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("engine: {leese: 20s}", encoding="utf-8")
    with pytest.raises(Exception, match="lease"):
        load([ROOT / "config.yaml", over], {}, offline=True)


@pytest.mark.parametrize("block", found("yaml values"), ids=str)
def test_values_are_values_of_the_chart(block: Block) -> None:
    schema = json.loads((ROOT / "helm" / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROOT / "helm" / "values.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(laid_over(defaults, yaml.safe_load(block.text)) | {"config": "environment: production"}, schema)


def laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return under | {key: laid_over(under.get(key), value) for key, value in over.items()}


@pytest.mark.parametrize("block", found("sql reader"), ids=str)
def test_the_readers_role_reads_the_named_table_and_nothing_more(block: Block, pg_server: PgServer) -> None:
    with pg_server.database() as dsn, psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("CREATE TABLE orders (id int); CREATE TABLE customers (id int)")
        role = f"reader_{uuid4().hex}"  # roles are the whole server's, and another test process may be at the same server
        owner.execute(block.text.replace("orderheal_reader", role).encode())
        try:
            reader = make_url(dsn).set(username=role, password="choose-one")
            with psycopg.connect(reader.render_as_string(hide_password=False), autocommit=True) as connection:
                connection.execute("SELECT * FROM orders")
                for forbidden in (b"SELECT * FROM customers", b"INSERT INTO orders VALUES (1)", b"CREATE TABLE mine (id int)"):
                    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                        connection.execute(forbidden)
        finally:
            owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.parametrize("block", found("sql grafana"), ids=str)
def test_grafanas_role_answers_every_panel_and_may_do_nothing_else(block: Block, pg_server: PgServer) -> None:
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "helm" / "dashboards").glob("*.json")]
    queries = [target["rawSql"] for board in boards for panel in board["panels"] for target in panel.get("targets", ()) if "rawSql" in target]
    assert len(queries) >= 5
    with pg_server.database() as dsn, psycopg.connect(dsn, autocommit=True) as owner:
        migrate(dsn)
        role = f"grafana_{uuid4().hex}"
        owner.execute(block.text.replace("orderheal_grafana", role).encode())
        try:
            grafana = make_url(dsn).set(username=role, password="choose-one")
            with psycopg.connect(grafana.render_as_string(hide_password=False), autocommit=True) as connection:
                for query in queries:
                    text = re.sub(r"\$__timeFilter\(([\w.]+)\)", r"\1 IS NOT NULL", query.replace("${rule:sqlstring}", "'r'"))
                    connection.execute(text.encode())
                for forbidden in (b"SELECT * FROM directive", b"DELETE FROM incident", b"INSERT INTO pause (id) VALUES ('p')"):
                    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                        connection.execute(forbidden)
        finally:
            owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_each_kind_of_block_is_seen() -> None:
    assert found("sql grafana")
    assert all(len(found(kind)) >= 2 for kind in ("yaml config", "yaml values", "sql reader", "sql store", "sh"))
