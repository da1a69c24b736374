"""How values read at a terminal."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.attempt import Attempt, Outcome, Reply, Request, Result
from daemon.domain.value import Money, Unknown
from daemon.views.request import answered, curl
from daemon.views.text import away, columns, moment, plain, shown, span, sums, visible

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_times_carry_their_zone() -> None:
    assert moment(NOW, ZoneInfo("Europe/Moscow")) == "2026-03-02 12:00:00 MSK"
    assert moment(NOW, ZoneInfo("Asia/Almaty")) == "2026-03-02 14:00:00 +05"
    assert moment(None) == "—"


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(hours=2, minutes=15, seconds=9), "2h 15m"),
        (timedelta(days=1, seconds=5), "1d 5s"),
        (timedelta(0), "0s"),
        (timedelta(minutes=-3), "-3m"),
    ],
)
def test_spans_show_their_two_largest_units(length: timedelta, text: str) -> None:
    assert span(length) == text


def test_a_moment_is_so_far_away() -> None:
    assert away(NOW + timedelta(minutes=5), NOW) == "in 5m"
    assert away(NOW - timedelta(hours=2), NOW) == "2h ago"
    assert away(NOW, NOW) == "now"


def test_money_is_never_added_across_currencies() -> None:
    assert sums({"RUB": Decimal("12500.5"), "AED": Decimal(120)}) == "120.00 AED, 12 500.50 RUB"


@given(st.text())
def test_no_text_from_outside_steers_a_terminal(text: str) -> None:
    assert visible(text).isprintable()
    assert all(line.isprintable() for line in columns([(text, "x")]))


def test_columns_are_aligned_and_have_no_trailing_space() -> None:
    assert columns([("a", "bb", ""), ("aaa", "b", "c")], "  ") == ["  a    bb", "  aaa  b   c"]
    assert columns([]) == []


def test_values_of_records_read_plainly() -> None:
    record = {"n": Decimal("12.50"), "at": NOW, "none": None, "list": ["a", True], "odd": Unknown("no answer")}
    assert shown(record) == ("{n: 12.50, at: 2026-03-02 09:00:00 UTC, none: null, list: [a, true], odd: unknown (no answer)}")


def test_answers_for_programs_are_plain_json() -> None:
    assert plain({"m": Money(Decimal("1.10"), "RUB"), "t": NOW, "d": timedelta(minutes=1), "u": Unknown("x")}) == {
        "m": {"amount": "1.10", "currency": "RUB"},
        "t": "2026-03-02T09:00:00+00:00",
        "d": 60.0,
        "u": {"unknown": "x"},
    }


REQUEST = Request(
    "ozon-integration", "upload_order", {"id": "OZ-1"}, "POST", "https://x.example/upload_order",
    {"Content-Type": "application/json"}, '{"id": "it\'s"}', "k-1",
)  # fmt: skip


def test_a_request_can_be_pasted_into_a_shell() -> None:
    assert curl(REQUEST) == (
        "curl -X POST https://x.example/upload_order -H 'Content-Type: application/json' "
        "-H 'Idempotency-Key: k-1' --data-raw '{\"id\": \"it'\"'\"'s\"}'"
    )


def test_an_attempt_shows_what_came_back() -> None:
    attempt = Attempt("a", "i", "r", "o", "s", 1, "d", REQUEST, NOW, NOW, "h", 1)
    assert list(answered(attempt)) == ["no outcome yet"]
    reply = Reply(422, {"date": "today"}, "nope", truncated=True)
    ended = Attempt("a", "i", "r", "o", "s", 1, "d", REQUEST, NOW, NOW, "h", 1, outcome=Outcome(Result.REFUSED, "422", reply=reply))
    assert list(answered(ended)) == ["refused 422", "HTTP 422", "date: today", "nope … (cut)"]
