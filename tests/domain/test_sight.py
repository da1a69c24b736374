"""Judging what was read: verdicts, keys, twins, causes, as tables with a sentence per row."""

from datetime import timedelta
from decimal import Decimal

import pytest
from builders import T0, clause, constant, field, rule, sight
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.rule import Cause, Diagnose, MoneyAt
from daemon.domain.sight import (
    Because,
    Sighting,
    Verdict,
    diagnosed,
    judge,
    normal_key,
    one_record,
    sighting,
    told_apart,
    undecided,
    unreadable_field,
)
from daemon.domain.value import Money, Timescale, Unknown, pack, share, unpack

TRUE, FALSE, DOUBT = constant(True), constant(False), constant(Unknown("no answer"))


def judged(match: object, broken: object, new: bool) -> object:
    checked = rule(match=(clause(lambda s: match),), broken=(clause(lambda s: broken),))
    return judge(checked.detect, {}, new).verdict


@pytest.mark.parametrize(
    ("match", "broken", "scan", "visit"),
    [
        (True, True, Verdict.BROKEN, Verdict.BROKEN),
        (True, False, Verdict.CLEAN, Verdict.CLEAN),
        (False, True, None, Verdict.GONE),
        (False, False, None, Verdict.CLEAN),
        (Unknown("?"), False, Verdict.CLEAN, Verdict.CLEAN),
        (Unknown("?"), True, Verdict.UNKNOWN, Verdict.UNKNOWN),
        (False, Unknown("?"), None, Verdict.UNKNOWN),
        (True, Unknown("?"), Verdict.UNKNOWN, Verdict.UNKNOWN),
        (Unknown("?"), Unknown("?"), Verdict.UNKNOWN, Verdict.UNKNOWN),
        (True, "yes", Verdict.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_the_verdict_in_a_scan_and_by_key(match: object, broken: object, scan: object, visit: object) -> None:
    assert (judged(match, broken, True), judged(match, broken, False)) == (scan, visit)


@pytest.mark.parametrize("order", [0, 1])
def test_a_false_clause_wins_over_an_error_in_another(order: int) -> None:
    clauses = [clause(lambda s: Unknown("?")), clause(lambda s: False)]
    assert judge(rule(broken=tuple(clauses[::-1] if order else clauses), match=()).detect, {}, False).verdict is Verdict.CLEAN


def test_every_clause_is_told_with_its_verdict_and_the_reason_it_could_not_be_judged() -> None:
    checked = rule(match=(clause(lambda s: True, text="paid"),), broken=(clause(lambda s: Unknown("no deal"), text="deal == null"),))
    because = judge(checked.detect, {}, True).because
    assert [(one.text, one.value) for one in because] == [("paid", True), ("deal == null", None)]
    assert because[1].reason == "no deal"


def test_a_record_is_not_asked_about_once_a_clause_has_ruled_it_out() -> None:
    detect = rule(match=(clause(lambda s: False, "order"),), broken=(clause(lambda s: True, "deal"),)).detect
    assert undecided(detect, {}, frozenset(), new=True)
    assert undecided(detect, {}, frozenset({"deal"}), new=True)
    assert not undecided(detect, {}, frozenset({"order"}), new=True)


def test_for_an_open_incident_a_false_match_does_not_spare_the_question_what_is_broken() -> None:
    detect = rule(match=(clause(lambda s: False),), broken=(clause(lambda s: True, "deal"),)).detect
    assert undecided(detect, {}, frozenset(), new=False)
    assert not undecided(rule(broken=(clause(lambda s: False),)).detect, {}, frozenset(), new=False)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("A1", "A1"), (" A1\n", "A1"), ("", Unknown("the key is empty")), ("  ", Unknown("the key is empty")),
        (None, Unknown("the key is null")), (7, Unknown("the key is a int, not text")), (Unknown("x"), Unknown("x")),
    ],
)  # fmt: skip
def test_empty_is_never_a_key(value: object, key: object) -> None:
    assert normal_key(value) == key


def look(record: dict[str, object], new: bool = True, **keys: object) -> object:
    return sighting(rule(**keys), record, record, T0, new)


def test_a_record_with_an_unreadable_field_is_never_called_broken() -> None:
    record = {"number": "N1", "bad": True, "ours": True, "amount": Unknown("null in a field that may not be null")}
    found = look(record)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "amount: null in a field that may not be null")
    assert look({**record, "bad": False}).verdict is Verdict.CLEAN
    assert unreadable_field({"a": 1}) is None


def test_a_null_key_makes_the_subject_unknown() -> None:
    assert look({"number": None, "bad": True, "ours": True}).verdict is Verdict.UNKNOWN


def test_a_record_that_is_not_ours_leaves_no_sighting() -> None:
    assert look({"number": "N1", "bad": True, "ours": False}) is None


RECORD = {"number": "N1", "bad": True, "ours": True, "object": "o", "when": T0, "amount": Decimal("5.50"), "currency": "RUB"}


def test_object_since_deadline_and_value_are_read_from_the_record() -> None:
    money = MoneyAt(field("amount"), field("currency"))
    found = look(RECORD, object=field("object"), since=field("when"), deadline=field("when"), value=money)
    assert (found.object, found.since, found.deadline, found.value) == ("o", T0, T0, Money(Decimal("5.50"), "RUB"))


def test_what_is_null_or_errs_falls_back() -> None:
    record = {**RECORD, "object": None, "when": None, "amount": None}
    found = look(record, object=field("object"), since=field("when"), deadline=field("nothing"), value=MoneyAt(field("amount"), field("currency")))
    assert (found.object, found.since, found.deadline, found.value) == ("stuck/N1", None, None, None)


@pytest.mark.parametrize("amount", ["x", True, [1]])
def test_money_that_is_no_number_is_none(amount: object) -> None:
    assert look({**RECORD, "amount": amount}, value=MoneyAt(field("amount"), field("currency"))).value is None


def cause(name: object, when: object) -> Cause:
    return Cause(constant(name), clause(lambda s: when, text="when"))


@pytest.mark.parametrize(
    ("causes", "found"),
    [
        ([], "other"),
        ([("a", True), ("b", True)], "a"),
        ([("a", False), ("b", True)], "b"),
        ([("a", False)], "other"),
        ([(None, True)], "other"),
        ([("", True)], "other"),
        ([(Unknown("?"), True)], Unknown("?")),
        ([("a", Unknown("?")), ("b", True)], Unknown("?")),
        ([("a", "yes")], Unknown("when: neither true nor false")),
    ],
)
def test_the_first_true_names_the_cause(causes: list[tuple[object, object]], found: object) -> None:
    assert diagnosed(Diagnose(causes=tuple(cause(*one) for one in causes)), {}) == found


def test_where_one_record_is_meant_equal_ones_are_one_and_different_ones_unknown() -> None:
    assert one_record([]) is None
    assert one_record([{"a": 1}, {"a": 1}]) == {"a": 1}
    assert isinstance(one_record([{"a": 1}, {"a": 1}, {"a": 2}]), Unknown)


def test_a_key_met_twice_in_a_scan_is_one_subject_or_unknown() -> None:
    twin = sight(Verdict.BROKEN, T0)
    other = sight(Verdict.BROKEN, T0, facts={"number": "N1", "bad": True, "ours": True, "amount": 2})
    assert told_apart([twin, twin]) == {"N1": twin}
    assert told_apart([twin, other])["N1"].verdict is Verdict.UNKNOWN


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.timedeltas(timedelta(-999), timedelta(999))
    | st.decimals(allow_nan=False, allow_infinity=False) | st.datetimes(timezones=st.timezones()) | st.builds(Unknown, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(values)
def test_what_is_packed_is_unpacked_the_same(value: object) -> None:
    import json

    assert unpack(json.loads(json.dumps(pack(value)))) == value


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError):
        pack(object())
    with pytest.raises(TypeError):
        unpack(object())


@given(st.floats(0.5, 5000), st.integers(0, 10**6))
def test_rule_time_and_database_time_are_one_line(factor: float, seconds: int) -> None:
    scale = Timescale(T0, factor)
    moment = T0 + timedelta(seconds=seconds)
    assert abs(scale.database(scale.rule(moment)) - moment) < timedelta(milliseconds=1)
    assert scale.rule(T0) == T0


@given(st.text())
def test_jitter_depends_on_the_text_alone(text: str) -> None:
    assert 0 <= share(text) < 1
    assert share(text) == share(text)


def test_a_sighting_carries_everything_that_was_read() -> None:
    checked = rule(match=(clause(lambda s: s["ours"], text="ours"),), broken=(clause(lambda s: s["bad"], text="bad"),))
    record = {"number": " N1 ", "bad": True, "ours": True}
    assert sighting(checked, record, {**record, "deal": None}, T0, True) == Sighting(
        key="N1", record_key="", verdict=Verdict.BROKEN, at=T0, object="stuck/N1", facts={**record, "deal": None},
        because=(Because("ours", True), Because("bad", True)),
    )  # fmt: skip
    gone = sighting(checked, {**record, "ours": False}, {**record, "ours": False}, T0, False, key="own")
    assert (gone.verdict, gone.reason, gone.key) == (Verdict.GONE, "out_of_scope", "own")
    keyless = sighting(checked, {**record, "number": ""}, {**record, "number": ""}, T0, True)
    assert (keyless.verdict, keyless.reason, keyless.key) == (Verdict.UNKNOWN, "the key is empty", "")


@pytest.mark.parametrize(
    ("scope", "new", "verdict", "reason"),
    [
        ({"ours": False, "bad": True}, True, None, "out_of_scope"),
        ({"ours": True, "bad": False}, True, Verdict.CLEAN, ""),
        ({"ours": True, "bad": True}, True, Verdict.BROKEN, ""),
        ({"ours": True}, True, Verdict.UNKNOWN, "bad: no such name: 'bad'"),
        ({"bad": True}, True, Verdict.UNKNOWN, "ours: no such name: 'ours'"),
        ({"ours": True, "bad": "yes"}, True, Verdict.UNKNOWN, "bad: gave neither true nor false"),
        ({"ours": False, "bad": True}, False, Verdict.GONE, "out_of_scope"),
    ],
)
def test_a_verdict_has_its_reason(scope: dict[str, object], new: bool, verdict: object, reason: str) -> None:
    detect = rule(match=(clause(lambda s: s["ours"], text="ours"),), broken=(clause(lambda s: s["bad"], text="bad"),)).detect
    judged_now = judge(detect, scope, new)
    assert (judged_now.verdict, judged_now.reason) == (verdict, reason)
    assert [one.text for one in judged_now.because] == ["ours", "bad"]
    assert undecided(detect, scope, frozenset(), True) is (False not in scope.values())


def test_a_cause_is_judged_and_named_in_the_subject_s_own_scope() -> None:
    region = Cause(field("named"), clause(lambda s: s["text"] == "region"))
    assert diagnosed(Diagnose(causes=(region,)), {"text": "region", "named": "far"}) == "far"
    assert diagnosed(Diagnose(causes=(region,)), {"text": "else"}) == "other"


def test_several_different_records_are_counted_in_the_reason() -> None:
    assert one_record([{"a": 1}, {"a": 2}]) == Unknown("2 different records fit where one is meant")
    assert one_record([{"a": 1}, {"a": 1}, {"a": 1}]) == {"a": 1}


def test_twins_that_differ_are_one_unknown_subject() -> None:
    twin, other = sight(Verdict.BROKEN, T0), sight(Verdict.BROKEN, T0, record_key="N2")
    assert told_apart([twin, other]) == {
        "N1": Sighting("N1", "N2", Verdict.UNKNOWN, T0, reason="met twice in a scan with different records")
    }
    assert list(told_apart([twin, sight(Verdict.BROKEN, T0, key="N9")])) == ["N1", "N9"]
