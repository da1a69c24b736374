"""Settings of a database: what loads, and what is refused with one line that says what would be right."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from yaml import safe_load

from daemon.connectors.sql import KIND, SqlSettings
from daemon.domain.shape import Field, FieldType, Role
from daemon.domain.value import Place
from daemon.kinds import discover
from tests.connectors_sql.shop import ORDERS, settings

URL = "postgresql://shop:bait-password@db.example/shop"


def test_the_kind_is_discovered_and_its_example_loads() -> None:
    assert discover()["sql"] is KIND
    written = safe_load(KIND.example)
    assert written.pop("type") == "sql"
    loaded = SqlSettings.model_validate(written | {"url": URL})
    assert lint(loaded) == {}


def test_the_shape_says_what_records_are_and_how_they_are_asked() -> None:
    orders = {**ORDERS, "incremental": {"cursor": "created_at", "overlap": "5m", "full_every": "6h"}}
    shape = KIND.shape(settings(URL, {"orders": orders})).records["orders"]
    assert (shape.key, shape.by, shape.where, shape.streams, shape.population) == ("id", {"id", "number"}, "sql", True, True)
    assert shape.fields["number"] == Field(FieldType.STRING, nullable=True, role=Role.IDENTIFIER)
    assert shape.fields["amount"] == Field(FieldType.NUMBER, nullable=True)
    assert shape.incremental is not None
    assert shape.incremental.overlap == timedelta(minutes=5)


def test_the_long_form_of_a_field_is_its_type() -> None:
    orders = {**ORDERS, "fields": {**ORDERS["fields"], "status": {"type": "string"}}}
    assert settings(URL, {"orders": orders}).records["orders"].fields["status"] == Field(FieldType.STRING)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fields": {"id": "int"}}, "no type of a field"),
        ({"fields": {"id": {"type": "string", "value": "${item.x}"}}}, "no type of a field"),
        ({"by": []}, "at least 1"),
        ({"table": "orders"}, "not permitted"),
    ],
)
def test_records_that_say_nonsense_do_not_load(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(URL, {"orders": {**ORDERS, **change}})


@pytest.mark.parametrize("more", [{"timezone": "Europe/Moskau"}, {"timezone": "../etc/passwd"}, {"timeout": "0s"}])
def test_a_zone_and_a_timeout_must_be_some(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(URL, **more)


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        ({"key": "id"}, ("key",), "one declared field"),
        ({"key": "${id}-${number}"}, ("key",), "one declared field"),
        ({"key": "${status}"}, ("key",), "one of `by`"),
        ({"by": ["id", "nummer"]}, ("by", 1), "'nummer' is not among `fields`"),
        ({"by": ["id", "amount"]}, ("fields", "amount"), "declare it string"),
        ({"fields": {**ORDERS["fields"], "id": "string|null"}}, ("fields", "id"), "cannot be NULL"),
        ({"incremental": {"cursor": "status"}}, ("incremental", "cursor"), "timestamp field"),
        ({"query": "DELETE FROM orders"}, ("query",), "SELECT or WITH"),
        ({"query": "SELECT 1; SELECT 2"}, ("query",), "without `;`"),
        ({"query": "SELECT :now AS at"}, ("query",), "`where` alone"),
        ({"where": "created_at > :since"}, ("where",), ":since is no placeholder"),
    ],
)
def test_what_does_not_fit_together_is_told_at_its_place(
    change: dict[str, Any], path: tuple[str | int, ...], told: str
) -> None:
    found = lint(settings(URL, {"orders": {**ORDERS, **change}}))
    assert told in found[("records", "orders", *path)]


@pytest.mark.parametrize(
    "url",
    ["", "bait-password", "mysql://u:bait-password@h/d", "postgresql://u:bait-password@h:port/d",
     "postgresql+asyncpg://u:bait-password@h/d", "postgresql://u:bait-password@h/d?sslmood=verify-full"],
)  # fmt: skip
def test_an_address_that_is_none_is_told_without_quoting_it(url: str) -> None:
    found = lint(settings(url, replica_url=url))
    assert set(found) == {("url",), ("replica_url",)}
    assert "postgresql://user:password@host:5432/database" in found[("url",)]
    assert "bait" not in str(found)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_may_be_written_in_each_of_its_ways(scheme: str) -> None:
    assert lint(settings(f"{scheme}://u:p@h/d?sslmode=verify-full&host=/var/run")) == {}


def lint(loaded: SqlSettings) -> dict[tuple[str | int, ...], str]:
    """What is told, by path; the path travels in the place's file."""
    paths: dict[str, tuple[str | int, ...]] = {}

    def at(path: tuple[str | int, ...]) -> Place:
        paths[str(path)] = path
        return Place(str(path), 1, 1)

    return {paths[mistake.file]: mistake.message for mistake in KIND.lint("shop", loaded, at)}
