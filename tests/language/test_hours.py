"""Opening hours answer for instants, in the contact's zone, through both nights on which the clock is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.language.hours import OpenHours, parse_hours

OFFICE = "Mo-Fr 09:00-18:00; Sa 10:00-14:00"
TEXTS = (
    "24/7",
    OFFICE,
    "Mo-Su 09:00-21:00",
    "Mo-Fr 22:00-06:00",
    "01:30-02:30",
    "02:15-04:00,04:00-05:00",
    "Sa 09:00-26:00",
)
ZONES = ("Europe/Berlin", "Europe/Moscow", "Asia/Almaty", "Asia/Dubai", "America/New_York", "UTC")


def at(text: str, zone: str = "Europe/Moscow") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("sentence", "text", "moment", "is_open", "opens"),
    [
        ("a weekday at noon is open", OFFICE, "2024-06-05T12:00", True, "2024-06-05T12:00"),
        ("the moment of opening is open", OFFICE, "2024-06-05T09:00", True, "2024-06-05T09:00"),
        ("the moment of closing is closed", OFFICE, "2024-06-05T18:00", False, "2024-06-06T09:00"),
        ("Saturday has its own hours", OFFICE, "2024-06-08T08:00", False, "2024-06-08T10:00"),
        ("Sunday waits for Monday", OFFICE, "2024-06-09T12:00", False, "2024-06-10T09:00"),
        ("24/7 is always open", "24/7", "2024-06-09T03:00", True, "2024-06-09T03:00"),
        ("a night shift goes on after midnight", "Mo-Fr 22:00-06:00", "2024-06-08T05:00", True, "2024-06-08T05:00"),
        ("years that have passed never open again", "2020 10:00-12:00", "2024-06-05T12:00", False, None),
    ],
)
def test_hours_answer_for_a_moment(sentence: str, text: str, moment: str, is_open: bool, opens: str | None) -> None:
    hours = parse_hours(text, "Europe/Moscow")
    assert hours.is_open(at(moment)) is is_open, sentence
    assert hours.opens(at(moment)) == (opens and at(opens)), sentence


@pytest.mark.parametrize(
    ("sentence", "text", "moment", "worked", "until"),
    [
        ("within one day", OFFICE, "2024-06-05T10:00", timedelta(hours=6), "2024-06-05T16:00"),
        (
            "six hours from the afternoon go on next morning",
            OFFICE,
            "2024-06-05T15:00",
            timedelta(hours=6),
            "2024-06-06T12:00",
        ),
        (
            "over the week-end, Saturday counts with its own hours",
            OFFICE,
            "2024-06-07T17:00",
            timedelta(hours=6),
            "2024-06-10T10:00",
        ),
        (
            "asked at night, counting starts in the morning",
            OFFICE,
            "2024-06-05T23:00",
            timedelta(hours=1),
            "2024-06-06T10:00",
        ),
        (
            "exactly to closing is closing, not the next opening",
            OFFICE,
            "2024-06-05T17:00",
            timedelta(hours=1),
            "2024-06-05T18:00",
        ),
        ("nothing is worked at once", OFFICE, "2024-06-09T12:00", timedelta(0), "2024-06-09T12:00"),
        ("24/7 counts every hour", "24/7", "2024-06-08T20:00", timedelta(hours=6), "2024-06-09T02:00"),
        ("never again is never", "2020 10:00-12:00", "2024-06-08T20:00", timedelta(hours=6), None),
    ],
)
def test_working_time_is_counted(sentence: str, text: str, moment: str, worked: timedelta, until: str | None) -> None:
    assert parse_hours(text, "Europe/Moscow").after(at(moment), worked) == (until and at(until)), sentence


@pytest.mark.parametrize(
    ("sentence", "text", "day", "length"),
    [
        ("the lost hour is not worked", "00:00-06:00", "2024-03-31", timedelta(hours=5)),
        ("the hour that comes twice is worked twice", "00:00-06:00", "2024-10-27", timedelta(hours=7)),
        ("an opening that lies in the lost hour happens after it", "02:15-04:00", "2024-03-31", timedelta(minutes=45)),
        (
            "one that begins in the doubled hour begins at its first time",
            "02:15-04:00",
            "2024-10-27",
            timedelta(hours=2, minutes=45),
        ),
    ],
)
def test_a_moved_clock_changes_how_long_is_worked(sentence: str, text: str, day: str, length: timedelta) -> None:
    hours, midnight = parse_hours(text, "Europe/Berlin"), at(f"{day}T00:00", "Europe/Berlin")
    begin = hours.opens(midnight)
    assert begin is not None
    end = hours.after(begin, length)
    assert end is not None
    # Subtracting two times of one zone compares wall clocks; only instants tell what has passed.
    assert end.astimezone(UTC) - begin.astimezone(UTC) == length, sentence
    assert not hours.is_open(end), sentence
    assert hours.is_open(end - timedelta(seconds=1)), sentence


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("Mo-Fr 9-18", "UTC", "not understood at character 7"),
        ("", "UTC", "not understood"),
        ("с девяти", "UTC", "not understood"),
        ("Mo-Fr 09:00-18:00;\n", "UTC", "not understood"),
        ("off", "UTC", "never open"),
        ("Mo-Fr 09:00-18:00; PH off", "UTC", "'PH', which is not known here"),
        ("sunrise-sunset", "UTC", "'sunrise', which is not known here"),
        ("Mo-Fr 09:00-18:00 unknown", "UTC", "'unknown', which is not known here"),
        ("24/7", "Europe/Moskow", "no time zone 'Europe/Moskow'"),
        ("24/7", "../etc/passwd", "no time zone"),
        ("24/7", "Europe", "no time zone"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(text: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        parse_hours(text, zone)
    assert said in str(caught.value)


HOURS = st.builds(parse_hours, st.sampled_from(TEXTS), st.sampled_from(ZONES))
MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2026, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC))
SPANS = st.timedeltas(timedelta(seconds=1), timedelta(days=20))


@given(HOURS, MOMENTS)
def test_it_is_open_exactly_when_it_opens_now(hours: OpenHours, now: datetime) -> None:
    opens = hours.opens(now)
    assert opens is not None
    assert hours.is_open(opens)
    assert hours.is_open(now) == (opens == now)


@given(HOURS, MOMENTS, SPANS, SPANS)
def test_working_time_adds_up(hours: OpenHours, now: datetime, first: timedelta, second: timedelta) -> None:
    middle, end = hours.after(now, first), hours.after(now, first + second)
    assert middle is not None
    assert end is not None
    assert hours.after(middle, second) == end
    assert middle.astimezone(UTC) - now >= first


@given(HOURS, MOMENTS, SPANS)
def test_working_time_ends_while_open(hours: OpenHours, now: datetime, worked: timedelta) -> None:
    end = hours.after(now, worked)
    assert end is not None
    assert hours.is_open(end - timedelta(microseconds=1))


@given(st.text(max_size=30))
def test_any_text_is_hours_or_one_line(text: str) -> None:
    said = ""
    try:
        parse_hours(text, "UTC")
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
