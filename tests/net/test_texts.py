"""Promises of the texts that settings are written in."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.settings import format_duration, parse_duration, parse_rate


@pytest.mark.parametrize(("text", "per_second", "burst"), [("2/s", 2, 2), ("90/m", 1.5, 2), ("20/h", 20 / 3600, 1), ("0.5/s", 0.5, 1)])
def test_a_rate_is_so_many_per_so_long(text: str, per_second: float, burst: int) -> None:
    rate = parse_rate(text)
    assert (rate.per_second, rate.burst) == (pytest.approx(per_second), burst)


@pytest.mark.parametrize("text", ["2", "2/d", "/s", "0/s", "-1/s", 2, None, "2/s "[:-1] + "x"])
def test_what_is_no_rate_is_told_what_would_be(text: object) -> None:
    with pytest.raises(ValueError, match="2/s"):
        parse_rate(text)


@given(st.integers(1, 10_000_000))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value
