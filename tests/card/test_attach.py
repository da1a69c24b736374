"""What a rule attaches: values on the notice, the same for every contact, stored as they are, in words where files do not go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import Always, incident

from daemon.domain import message
from daemon.domain.message import Card, Matter, Table
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Contact, Level, Rule, Severity
from daemon.engine.deliver import addressed
from daemon.language.ruleset import load_rules
from daemon.store.codec import decode, encode
from tests.language.shop import VOCABULARY

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
RULE = """\
name: attached
title: Что-то сломалось
owner: integration-team
runbook: docs/r.md
detect: {from: ozon.postings, broken: status == "bad", key: "${posting_number}"}
escalate:
  - group_by: GROUP
    attach: ATTACH
"""


def rule(tmp_path: Path, attach: str, group: str = "subject") -> Rule:
    (tmp_path / "rule.yaml").write_text(RULE.replace("ATTACH", attach).replace("GROUP", group))
    (found,) = load_rules([tmp_path / "rule.yaml"], VOCABULARY).rules
    return found


def matter(tmp_path: Path, attach: str, facts: Mapping[str, Any], *, external: bool = False, count: int = 1, group: str = "subject") -> Matter:
    found = rule(tmp_path, attach, group)
    level: Level = found.escalate[0]
    contact = Contact("team", "Team", (), Always(), timezone="Europe/Moscow", external=external)
    subjects = tuple(replace(incident(key=f"N{n}"), facts=facts) for n in range(count))
    return Matter(found, level, contact, NOW, subjects)


CARD = '[{card: {title: "Ozon ${posting_number}", rows: {Статус: "${status}", Склад: "${warehouse}", Собрать до: "${ship_by}"}}}]'
TABLE = '[{table: "${products}", name: "товары-${posting_number}.csv"}]'
FACTS = {"posting_number": "1-1", "status": "bad", "warehouse": None, "ship_by": NOW, "customer_name": "Иван", "products": []}


@pytest.mark.parametrize("external", [False, True])
def test_a_card_has_the_named_rows_and_nothing_else(tmp_path: Path, external: bool) -> None:
    (card,) = message.cards("begin", matter(tmp_path, CARD, FACTS, external=external))
    assert card == Card("Ozon 1-1", (("Статус", "bad"), ("Склад", "—"), ("Собрать до", "02.03.2026 12:00 MSK")))
    assert "Иван" not in card.text


def test_a_table_has_a_row_per_item_and_a_column_per_key(tmp_path: Path) -> None:
    products = [{"sku": "A", "quantity": 2}, {"sku": "B", "name": "Пальто", "price": None}]
    (table,) = message.tables("begin", matter(tmp_path, TABLE, {**FACTS, "products": products}))
    assert table == Table("товары-1-1.csv", ("sku", "quantity", "name", "price"), (("A", "2", "", ""), ("B", "", "Пальто", "")))


def test_a_list_of_texts_is_a_table_without_headings(tmp_path: Path) -> None:
    (table,) = message.tables("begin", matter(tmp_path, TABLE, {**FACTS, "products": ["a", "b"]}))
    assert (table.columns, table.rows) == ((), (("a",), ("b",)))


@pytest.mark.parametrize("products", [[], None, "text", {"a": 1}])
def test_what_is_no_list_makes_no_file_and_hinders_no_message(tmp_path: Path, products: Any) -> None:
    assert message.tables("begin", matter(tmp_path, TABLE, {**FACTS, "products": products})) == ()
    assert message.tables("begin", matter(tmp_path, TABLE, {})) == ()


@pytest.mark.parametrize("number", ["../../etc/passwd", "a/b\\c", "\0\n", "..", "x" * 500])
def test_a_files_name_is_no_path(tmp_path: Path, number: str) -> None:
    (table,) = message.tables("begin", matter(tmp_path, TABLE.replace("товары-", ""), {**FACTS, "posting_number": number, "products": ["a"]}))
    assert not set(table.name) & set("/\\\0\n")
    assert 0 < len(table.name) <= 100
    assert not table.name.startswith(".")


def test_an_end_attaches_nothing(tmp_path: Path) -> None:
    ended = matter(tmp_path, CARD, FACTS)
    assert (message.cards("end", ended), message.tables("end", ended)) == ((), ())


@pytest.mark.parametrize(("count", "attached"), [(10, 0), (11, 1)])
def test_lines_that_have_no_room_in_the_message_are_attached(tmp_path: Path, count: int, attached: int) -> None:
    found = message.tables("begin", matter(tmp_path, "[]", FACTS, count=count, group="rule"))
    assert len(found) == attached
    assert all(len(table.rows) == count and table.name == "attached.csv" for table in found)


NOTICE = Notice(
    "n", "p", "r", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, NOW, "Title", "Text", ours="Ours",
    cards=(Card("Ozon 1-1", (("Статус", "bad"), ("Товары", "a\nb"))),), tables=(Table("a.csv", ("sku",), tuple((str(n),) for n in range(12))),),
)  # fmt: skip


def test_attachments_survive_the_outbox() -> None:
    assert decode(Notice, encode(NOTICE)) == NOTICE
    before = {key: value for key, value in encode(NOTICE).items() if key not in ("cards", "tables")}
    assert decode(Notice, before).cards == (), "a row of an older version has none"


def test_a_channel_without_files_says_them_in_words() -> None:
    assert NOTICE.in_words.startswith("Text\n\nOzon 1-1\nСтатус: bad\nТовары: a\nb\n\n0\n1\n")
    assert NOTICE.in_words.endswith("9\n… + 2")


def test_an_external_contact_gets_the_attachments_and_nothing_of_ours() -> None:
    contact = Contact("team", "Team", (), Always(), external=True)
    seen = addressed(Dispatch("d", NOTICE, "team", "telegram", {}), contact, {}).notice
    assert (seen.ours, seen.context) == ("", {})
    assert (seen.cards, seen.tables) == (NOTICE.cards, NOTICE.tables)
