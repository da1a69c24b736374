"""How values read to people: no exponents, money with its sign, times with their zone, durations in two units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.incident import Resolution
from daemon.domain.notice import NoticeKind
from daemon.domain.value import Money, Unknown
from daemon.domain.words import _SAYINGS, Words, number

RU, EN = Words("ru", "Europe/Moscow"), Words("en", "Asia/Almaty")
NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "russian", "english"),
    [
        (None, "—", "—"),
        (Unknown("no answer"), "—", "—"),
        (True, "да", "yes"),
        (False, "нет", "no"),
        (1234567.5, "1234567.5", "1234567.5"),
        (1e21, "1000000000000000000000", "1000000000000000000000"),
        (0.00000012, "0.00000012", "0.00000012"),
        (3.0, "3", "3"),
        (0.0, "0", "0"),
        (100, "100", "100"),
        (Decimal("1200.50"), "1200.5", "1200.5"),
        (Decimal("1E+3"), "1000", "1000"),
        ("A <b>", "A <b>", "A <b>"),
        (datetime(2026, 3, 2, 9, tzinfo=UTC), "02.03.2026 12:00 MSK", "2026-03-02 14:00 UTC+05"),
        (timedelta(hours=2, minutes=15), "2 ч 15 мин", "2h 15m"),
        ({"amount": Decimal("1500"), "currency": "KZT"}, f"1{NBSP}500{NBSP}₸", f"1,500{NBSP}₸"),
        ({"amount": 5}, "amount: 5", "amount: 5"),
        ({}, "—", "—"),
        ([], "—", "—"),
        (["a", None, 2], "a\n—\n2", "a\n—\n2"),
        (list("abcdefghijkl"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n… и ещё 2", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n… and 2 more"),
    ],
)
def test_a_value_as_text(value: Any, russian: str, english: str) -> None:
    assert RU.show(value) == russian
    assert EN.show(value) == english


@pytest.mark.parametrize(
    ("span", "russian", "english"),
    [
        (timedelta(0), "0 с", "0s"),
        (timedelta(seconds=59), "59 с", "59s"),
        (timedelta(minutes=1), "1 мин", "1m"),
        (timedelta(minutes=5, seconds=30), "5 мин 30 с", "5m 30s"),
        (timedelta(hours=1, seconds=30), "1 ч", "1h"),
        (timedelta(days=3, hours=2, minutes=59), "3 д 2 ч", "3d 2h"),
        (-timedelta(hours=2), "2 ч", "2h"),
    ],
)
def test_a_duration_has_two_units_at_most(span: timedelta, russian: str, english: str) -> None:
    assert (RU.duration(span), EN.duration(span)) == (russian, english)


@pytest.mark.parametrize(
    ("amount", "currency", "russian", "english"),
    [
        ("1234567.89", "RUB", f"1{NBSP}234{NBSP}567,89{NBSP}₽", f"1,234,567.89{NBSP}₽"),
        ("10.00", "AED", f"10{NBSP}AED", f"10{NBSP}AED"),
        ("0.5", "EUR", f"0,50{NBSP}€", f"0.50{NBSP}€"),
        ("-3", "USD", f"-3{NBSP}$", f"-3{NBSP}$"),
    ],
)
def test_money_has_its_sign_or_code(amount: str, currency: str, russian: str, english: str) -> None:
    money = Money(Decimal(amount), currency)
    assert (RU.money(money), EN.money(money)) == (russian, english)


@pytest.mark.parametrize(
    ("count", "russian"),
    [(1, "объект"), (2, "объекта"), (4, "объекта"), (5, "объектов"), (11, "объектов"), (12, "объектов"), (14, "объектов"),
     (21, "объект"), (22, "объекта"), (111, "объектов"), (112, "объектов"), (0, "объектов")],
)  # fmt: skip
def test_russian_counts_by_its_own_rules(count: int, russian: str) -> None:
    assert RU.subjects(count) == f"{count} {russian}"


def test_english_counts_by_two() -> None:
    assert [EN.subjects(count) for count in (0, 1, 2)] == ["0 subjects", "1 subject", "2 subjects"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_plain_and_the_same(value: float) -> None:
    text = number(value)
    assert "e" not in text.lower()
    assert float(text) == value


@pytest.mark.parametrize("saying", sorted(_SAYINGS))
def test_both_languages_say_the_same_things(saying: str) -> None:
    russian, english = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in _SAYINGS[saying])
    assert russian == english


def test_every_kind_of_message_and_every_end_has_its_words() -> None:
    for kind in NoticeKind:
        assert "title" in RU.say(f"title_{kind}", title="title")
    for resolution in Resolution:
        assert RU.say(f"way_{resolution}")
