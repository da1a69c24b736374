"""Values as JSON and back."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.incident import Incident, Phase, StepState
from daemon.domain.standing import RuleState
from daemon.domain.value import Unknown
from daemon.store.codec import Unreadable, decode, dumps, encode, readable

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))  # PostgreSQL keeps no NUL
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS | st.builds(Unknown, TEXTS)
    | st.decimals(allow_nan=False) | MOMENTS | st.integers(-(10**9), 10**9).map(lambda s: timedelta(seconds=s))
)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00$"), min_size=1)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8)


@given(facts=st.dictionaries(NAMES, VALUES, max_size=5), response=VALUES, at=MOMENTS)
def test_an_incident_survives_the_way_through_json(facts, response, at):
    steps = {"s": StepState(at, response=response)}
    incident = Incident("i", "r", "d", "k", "rk", "o", at, at, facts=facts, steps=steps, due=at)
    assert decode(Incident, json.loads(dumps(encode(incident)))) == incident


@given(st.recursive(st.text() | st.floats() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_text_comes_in_postgresql_takes_what_goes_out(plain):
    text = dumps(plain)
    assert "\\u0000" not in text.replace("\\\\", "")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    text.encode()


def test_a_backslash_before_u0000_is_text_and_stays():
    assert json.loads(dumps("\\u0000")) == "\\u0000"
    assert json.loads(dumps("\\\x00")) == "\\\ufffd"


def test_keys_that_are_missing_get_defaults_and_unknown_ones_are_passed_over():
    assert decode(RuleState, {"candidates": 3, "invented_later": {"x": 1}}) == RuleState(candidates=3)


def test_a_word_of_newer_code_is_unreadable_and_left_alone():
    fine = encode(Incident("i", "r", "d", "k", "rk", "o", NOW, NOW))
    with pytest.raises(Unreadable, match="haunted"):
        decode(Incident, fine | {"phase": "haunted"})
    assert [one.phase for one in readable(Incident, [fine | {"phase": "haunted"}, fine])] == [Phase.OPEN]


def test_a_type_without_a_stored_form_is_refused_when_first_used():
    @dataclass(frozen=True)
    class Odd:
        of: frozenset[str] = field(default_factory=frozenset)

    with pytest.raises(TypeError, match="no stored form"):
        encode(Odd())


def test_amounts_stay_exact():
    fine = Incident("i", "r", "d", "k", "rk", "o", NOW, NOW, facts={"amount": Decimal("0.1") + Decimal("0.2")})
    assert decode(Incident, json.loads(dumps(encode(fine)))).facts["amount"] == Decimal("0.3")
