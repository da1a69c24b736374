"""An expression gives its value or ``Unknown`` with the reason; it never raises and an error is never true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.shape import Field, FieldType
from daemon.domain.value import Place, Unknown, Value
from daemon.language.cel import Environment, Row
from daemon.language.mistake import Mistake, Mistakes

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
TEXT, NUMBER, TIME = FieldType.STRING, FieldType.NUMBER, FieldType.TIMESTAMP
DEAL = {"id": TEXT, "title": Field(TEXT, nullable=True), "amount": NUMBER, "at": TIME, "errors": FieldType.LIST}
NAMES: dict[str, Any] = {
    "status": TEXT,
    "paid": FieldType.BOOL,
    "amount": NUMBER,
    "created_at": TIME,
    "ship_by": Field(TIME, nullable=True),
    "place": Field(TEXT, nullable=True),
    "lasted": FieldType.DURATION,
    "numbers": FieldType.LIST,
    "extra": FieldType.MAP,
    "anything": None,
    "now": TIME,
    "deal": Row(DEAL),
    "deals": Row(DEAL, many=True),
}
ONE = {"id": "7", "title": None, "amount": Decimal("10.50"), "at": NOW, "errors": [{"count": 2}]}
SCOPE: dict[str, Value] = {
    "status": "new",
    "paid": True,
    "amount": Decimal("1234567.50"),
    "created_at": NOW - timedelta(hours=1),
    "ship_by": None,
    "place": Unknown("database down"),
    "lasted": timedelta(minutes=90),
    "numbers": ["a", "b"],
    "extra": {"at": NOW, "list": [Decimal("2"), Decimal("2.5")]},
    "anything": {"count": 5, "at": NOW},
    "now": NOW,
    "deal": ONE,
    "deals": [ONE, {**ONE, "id": "8", "title": "big"}],
}
PLACE = Place("rules/x.yaml", 10, 12)


def cause_of(text: str) -> str:
    if text == "new":
        return "fresh"
    raise ValueError("no such text")


ENVIRONMENT = Environment(NAMES, cause_of, {"matrix": {"shop": "ozon"}})


def judge(text: str, **changed: Value) -> Value:
    return ENVIRONMENT.condition(text, PLACE)({**SCOPE, **changed})


def compute(node: Any, **changed: Value) -> Value:
    return ENVIRONMENT.value(node, lambda path: PLACE)({**SCOPE, **changed})


def refusal(text: str, environment: Environment = ENVIRONMENT) -> str:
    with pytest.raises(Mistakes) as caught:
        environment.condition(text, PLACE)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "paid",
        'status == "new"',
        'status in ["new", "old"]',
        "amount > 5",
        "amount > 5.0 && amount < 1e9",
        "ship_by == null",
        "created_at < now",
        'now - created_at >= duration("1h")',
        'lasted > duration("1h")',
        "size(numbers) == 2",
        'numbers.exists(n, n == "b")',
        'deal != null && deal.id == "7"',
        "deal.amount == 10.5",
        "deal.at == now",
        "deal.title == null",
        'deals.exists(d, d.title == "big")',
        "deals.filter(d, d.amount > 5).size() == 2",
        'deals[1].id == "8"',
        "extra.at == now",
        "anything.count == 5",
        "anything.at <= now",
        'matrix.shop == "ozon"',
        'cause_of(status) == "fresh"',
        'status.matches("(?i)NEW")',
        '"Москва".matches("(?i)москва")',
        '["a", "b"].join("-") == "a-b"',
    ],
)
def test_a_condition_that_holds_is_true(text: str) -> None:
    assert judge(text) is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('place == "x"', "place: database down"),
        ('place in ["x"]', "place: database down"),
        ('place != "x"', "place: database down"),
        ('ship_by != null && ship_by < now && place == "x" || place == "y"', "place: database down"),
        ("ship_by < now", "No matching overloads found"),
        ("1 / 0 == 1", "divide by zero"),
        ("extra.missing == 1", "Key not found"),
        ('cause_of(deal.id) == "x"', "no such text"),
        ('deal.title.startsWith("x")', "No matching overload"),
        ("deals[5].amount > 1", "ndex"),
        ("timestamp(status) < now", "conversion failed"),
    ],
)
def test_what_cannot_be_known_is_unknown_with_the_reason_and_never_true(text: str, reason: str) -> None:
    value = judge(text)
    assert isinstance(value, Unknown)
    assert reason in value.reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('place == "x" || paid', True),
        ('paid || place == "x"', True),
        ('place == "x" && !paid', False),
        ('paid ? status == "new" : place == "x"', True),
    ],
)
def test_an_unknown_that_the_result_does_not_depend_on_does_no_harm(text: str, value: bool) -> None:
    assert judge(text) is value


@pytest.mark.parametrize("gone", ["status", "deal", "numbers"])
def test_a_name_that_the_scope_lacks_is_unknown(gone: str) -> None:
    scope = {name: value for name, value in SCOPE.items() if name != gone}
    for text in ('status == "new"', 'deal.id == "7"', "size(numbers) == 2"):
        value = ENVIRONMENT.condition(text, PLACE)(scope)
        assert isinstance(value, Unknown) == (gone in text)


def test_a_null_where_none_was_declared_is_unknown_even_in_a_negative_test() -> None:
    assert judge('status != "cancelled"', status=None) == Unknown("status: is null, though it is declared never to be")
    assert isinstance(judge("!paid", paid=None), Unknown)
    assert isinstance(judge("!(amount > 5)", amount=None), Unknown)


def test_an_unreadable_field_of_a_record_harms_only_who_reads_it() -> None:
    deal = {**ONE, "title": Unknown("no such column")}
    assert judge('deal.id == "7"', deal=deal) is True
    assert judge("deal.title == null", deal=deal) == Unknown("deal.title: no such column")
    assert compute("${deal.title}", deal=deal) == Unknown("no such column")


def test_a_value_of_another_type_than_declared_is_unknown() -> None:
    assert isinstance(judge("paid", paid="yes"), Unknown)
    assert isinstance(judge("amount > 5", amount="12"), Unknown)
    assert isinstance(judge("created_at < now", created_at=datetime(2026, 1, 1)), Unknown)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("${amount}", Decimal("1234567.50")),
        ("${deal.amount}", Decimal("10.50")),
        ("${created_at}", NOW - timedelta(hours=1)),
        ("${ship_by}", None),
        ("${paid}", True),
        ("${numbers}", ["a", "b"]),
        ("${size(numbers)}", 2),
        ("${deals.map(d, d.id)}", ["7", "8"]),
        ('${created_at + duration("1h")}', NOW),
        ("${now - created_at}", timedelta(hours=1)),
        ("${anything}", {"count": 5, "at": NOW}),
        ('${{"a": now}}', {"a": NOW}),
        ("OZ-${status}", "OZ-new"),
        ("${matrix.shop}/${status}", "ozon/new"),
        ("sum ${amount}", "sum 1234567.50"),
        ("sum ${extra.list[1]}", "sum 2.5"),
        ("sum ${extra.list[0]}", "sum 2"),
        ("sum ${1234567.5 * 1000000000.0}", "sum 1234567500000000"),
        ("at ${created_at}", "at 2026-11-23T08:30:00Z"),
        ("for ${lasted}", "for 90m"),
        ("is ${paid}", "is true"),
        ("all ${numbers}", "all a\nb"),
        ("$${status} costs $5", "${status} costs $5"),
        ('${{"}": status}["}"]}!', "new!"),
        ({"a": ["${status}", 5], "b": None}, {"a": ["new", 5], "b": None}),
        (5, 5),
        ("plain", "plain"),
    ],
)
def test_a_value_is_computed_and_one_hole_keeps_its_type(node: Any, value: Value) -> None:
    computed = compute(node)
    assert computed == value
    assert type(computed) is type(value)


@pytest.mark.parametrize("node", ["a-${ship_by}", "a-${place}", "a-${deal.title}", "a-${extra}", ["${place}"], {"a": "${place}"}])
def test_a_null_or_unknown_hole_inside_a_text_makes_the_whole_unknown(node: Any) -> None:
    assert isinstance(compute(node), Unknown)


def test_an_empty_hole_of_a_key_is_unknown() -> None:
    key = ENVIRONMENT.value("OZ-${status}", lambda path: PLACE, filled=True)
    assert key({**SCOPE, "status": ""}) == Unknown("status: is empty")
    assert key(SCOPE) == "OZ-new"


def test_times_come_out_aware_and_in_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    assert compute('${now + duration("0s")}', now=east) == NOW
    assert compute('${now + duration("0s")}', now=east).tzinfo is UTC
    assert compute("x ${now}", now=east) == "x 2026-11-23T09:30:00Z"


def test_a_text_for_people_can_always_be_made() -> None:
    text = ENVIRONMENT.text("Заказ ${status}, ${place} до ${ship_by}, ${1 / 0}: $${x}", PLACE)
    assert text(SCOPE, lambda value: "—" if value is None or isinstance(value, Unknown) else str(value)) == ("Заказ new, — до —, —: ${x}")
    assert text.reads == {"status", "place", "ship_by"}


def test_what_an_expression_reads_are_its_top_level_names_and_not_the_variables_of_loops() -> None:
    assert ENVIRONMENT.condition('deals.exists(d, d.id == status) && matrix.shop != ""', PLACE).reads == {"deals", "status"}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("statuz == 'x'", ':10:12: unknown name "statuz", did you mean "status"?'),
        ("sizeof(numbers) == 1", ':10:18: unknown name "sizeof", did you mean "size"?'),
        ("status == 5", ':10:19: "==" does not fit (string, number); identifiers are texts, so put the number in quotes'),
        ("deal.idd == 'x'", ':10:16: "deal" has no field "idd", did you mean "id"?'),
        ("deals.exists(d, d.idd == 'x')", ':10:29: "deals" has no field "idd", did you mean "id"?'),
        ("deals == null", "a list is never null, test its size(…)"),
        ("size(deal) == 0", "it takes a list, and a lookup gives one with `many: true`"),
        ("status", ":10:12: must be true or false, but this is string"),
        ("anything", "must be true or false, but this is of a type that is not known here; compare it"),
        ("${status} == 'x'", """write: "status == 'x'\""""),
        ("status = 'x'", ":10:19: not a CEL expression"),
        ("status ==\n  stat", ':11:14: unknown name "stat", did you mean "status"?'),
        ("package == 'x'", ':10:12: "package" is a reserved word of CEL'),
        ('status.matches("(")', ":10:27: pattern does not compile: missing )"),
        ("status.matches(place)", ":10:27: a pattern for matches() must be written out"),
        ('lasted > duration("3d")', 'its largest unit is the hour: "72h"'),
        ('lasted > duration("soon")', 'write it as "90s", "5m" or "72h"'),
        ('now > timestamp("2026")', 'write it as "2026-11-23T09:00:00Z"'),
        ("", "not a CEL expression"),
        ("(" * 100, "not an expression"),
        ("\ud800 == 'x'", "not an expression"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(text: str, mistake: str) -> None:
    assert mistake in refusal(text)


@pytest.mark.parametrize("text", ["dealz.exists(d, d.id == 'x')", "deal.idd.more == 'x'", "dealz.map(d, d.id).size() == 1"])
def test_a_wrong_name_is_one_mistake_wherever_it_stands(text: str) -> None:
    assert len(refusal(text).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a ${status", ":10:14: this ${ is never closed"),
        ("a ${} b", ":10:14: an empty hole"),
        ("a ${statuz} ${deal.idd}", ':10:16: unknown name "statuz"'),
        ("a ${statuz} ${deal.idd}", ':10:30: "deal" has no field "idd"'),
        ("one\ntwo ${statuz}", ":11:18: unknown name"),
    ],
)
def test_a_wrong_hole_is_refused_with_its_place(text: str, mistake: str) -> None:
    with pytest.raises(Mistakes) as caught:
        ENVIRONMENT.value(text, lambda path: PLACE)
    assert mistake in str(caught.value)
    with pytest.raises(Mistakes):
        ENVIRONMENT.text(text, PLACE)


def test_an_environment_of_unknown_types_takes_whatever_an_answer_holds() -> None:
    answer = Environment({"status": None, "headers": None, "body": None, "key": None})
    success = answer.condition("status == 200 && body.success == true", PLACE)
    assert success({"status": 200, "body": {"success": True}}) is True
    assert success({"status": 200, "body": {"success": False}}) is False
    assert success({"status": 500, "body": "<html>"}) is False
    assert isinstance(success({"status": 200, "body": "<html>"}), Unknown)
    assert isinstance(success({"status": 200, "body": {}}), Unknown)
    pick = answer.value('${body.state in ["a"] ? "new" : "other"}', lambda path: PLACE)
    assert pick({"body": {"state": "a"}}) == "new"


def test_field_names_that_only_differ_in_style_do_not_collide() -> None:
    row = Row({"order_id": TEXT, "orderId": TEXT, "номер": TEXT, "a-b": TEXT})
    assert (
        Environment({"order": row}).condition("order.order_id == order.orderId", PLACE)(
            {"order": {"order_id": "1", "orderId": "1", "номер": "2", "a-b": "3"}}
        )
        is True
    )


def test_a_loop_over_loops_ends_within_its_budget() -> None:
    text = "numbers.all(a, numbers.all(b, numbers.all(c, a + b + c != 'never')))"
    value = judge(text, numbers=[str(number) for number in range(300)])
    assert isinstance(value, Unknown)
    assert "budget" in value.reason


@given(st.text(alphabet=st.sampled_from("adenpsut.,()[]{}\"'?:!=<>&|+-*/%$ \n\\0159é\x00")))
def test_no_text_gives_anything_but_a_program_or_mistakes(text: str) -> None:
    assert all(each.line >= 10 and each.column >= 1 for each in mistakes_of(text))


def mistakes_of(text: str) -> list[Mistake]:
    """What is wrong with a text as a condition, a value and a message; what is right is called, too."""
    found: list[Mistake] = []
    for compiling in (
        lambda: ENVIRONMENT.condition(text, PLACE)(SCOPE),
        lambda: ENVIRONMENT.value("x" + text, lambda path: PLACE)(SCOPE),
        lambda: ENVIRONMENT.text("${" + text + "}", PLACE)(SCOPE, str),
    ):
        try:
            compiling()
        except Mistakes as error:
            found.extend(error.mistakes)
    return found


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.just(Unknown("not read")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PROGRAMS = [
    ENVIRONMENT.condition(text, PLACE)
    for text in (
        'status != "cancelled"',
        "!(amount > 5)",
        "ship_by == null || ship_by < now",
        'deal == null || deal.title != "x"',
        "deals.exists(d, d.amount > 5.0)",
        "anything.count == 5 || !paid",
    )
]
VALUES = [ENVIRONMENT.value(text, lambda path: PLACE) for text in ("${deal.amount}", "x-${amount} ${ship_by}", "${deals.map(d, d.id)}")]


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, anything)))
def test_no_scope_makes_an_expression_raise_or_a_condition_give_anything_but_true_false_unknown(scope: dict[str, Value]) -> None:
    for program in PROGRAMS:
        assert isinstance(program(scope), bool | Unknown)
    for value in VALUES:
        value(scope)
