"""Rules that are right become frozen values with everything filled in, and one can read what runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.domain.rule import Delivery, Mode, Rule, Severity
from daemon.domain.value import Place, Unknown, Value
from daemon.language.mistake import Mistakes
from daemon.language.ruleset import load_rules, schema
from daemon.language.vocabulary import CauseText, Vocabulary
from tests.language.shop import METHODS, VOCABULARY
from tests.language.test_broken_rules import RULE, mistakes_of

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "rules" / "order-not-sent.yaml"
OTHERS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def load_one(text: str, folder: Path, vocabulary: Vocabulary = VOCABULARY) -> Rule:
    (folder / "x.yaml").write_text(text)
    (rule,) = load_rules([folder / "x.yaml"], vocabulary).rules
    return rule


# --- the shipped family ------------------------------------------------------------------------------------------


def test_the_shipped_family_has_a_rule_per_shop_with_its_own_method() -> None:
    ruleset = load_rules([SHIPPED], VOCABULARY)
    assert ruleset.warnings == ()
    assert {rule.name: (rule.detect.connector, rule.ladder[0].call) for rule in ruleset.rules} == {
        f"{shop}-order-not-sent": (f"{shop}-db", method) for shop, method in METHODS.items()
    }
    for rule in ruleset.rules:
        assert (rule.mode, rule.severity, rule.detect.grace) == (Mode.ENFORCE, Severity.WARNING, timedelta(minutes=15))
        assert rule.ladder[0].delivery is Delivery.AT_LEAST_ONCE, "the calls are idempotent"
        assert [level.id for level in rule.escalate] == ["integration-team"]
        assert rule.escalate[0].before_deadline == timedelta(hours=2), "the first level of a rule with a deadline"
        assert (ROOT / rule.runbook).is_file()


def test_a_member_of_a_family_is_placed_at_its_entry_and_has_its_words() -> None:
    rule = load_rules([SHIPPED], VOCABULARY).find("kaspi-order-not-sent")
    assert rule is not None
    assert rule.place == Place(str(SHIPPED), 11, 12)
    assert rule.title == "Заказ Kaspi есть в базе, но не выгружен в CRM"


@pytest.mark.parametrize(
    ("status", "bitrix_order_id", "match", "broken"),
    [
        ("new", "not_sent", True, True),
        ("new", "send_error_bitrix", True, True),
        ("new", "12345", True, False),
        ("cancelled", "not_sent", False, True),
        ("new", "", True, False),
    ],
)
def test_the_shipped_rule_judges_rows(status: str, bitrix_order_id: str, match: bool, broken: bool) -> None:
    rule = load_rules([SHIPPED], VOCABULARY).rules[0]
    row: dict[str, Value] = {"status": status, "bitrix_order_id": bitrix_order_id}
    assert [clause.expr(row) for clause in rule.detect.match] == [match]
    assert [clause.expr(row) for clause in rule.detect.broken] == [broken]


def test_the_shipped_rule_concludes_nothing_from_a_null() -> None:
    rule = load_rules([SHIPPED], VOCABULARY).rules[0]
    row: dict[str, Value] = {"status": None, "bitrix_order_id": None}
    assert all(isinstance(clause.expr(row), Unknown) for clause in (*rule.detect.match, *rule.detect.broken))


def test_the_shipped_rule_reads_key_object_money_and_words_from_a_row() -> None:
    rule = load_rules([SHIPPED], VOCABULARY).find("ozon-order-not-sent")
    assert rule is not None
    assert rule.detect.object
    assert rule.detect.value
    assert rule.detect.since
    assert rule.detect.deadline
    row: dict[str, Value] = {
        "posting_number": "55-1",
        "market_order_id": "55",
        "bitrix_order_id": "not_sent",
        "amount": Decimal("10.10"),
        "currency": "RUB",
        "created_at": NOW,
        "ship_by": None,
    }
    assert (rule.detect.key(row), rule.detect.object(row)) == ("55-1", "ozon/order/55")
    assert (rule.detect.value.amount(row), rule.detect.value.currency(row)) == (Decimal("10.10"), "RUB")
    assert (rule.detect.since(row), rule.detect.deadline(row)) == (NOW, None)
    assert {name: expr(row) for name, expr in rule.ladder[0].args.items()} == {"id": "55-1", "number_type": "posting_number"}
    assert rule.escalate[0].line is not None
    assert rule.escalate[0].line(row, str) == "55-1 (not_sent), создан 2026-11-23 09:00:00+00:00"


# --- the other rules of the instruction --------------------------------------------------------------------------


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_the_rules_of_the_instruction_compile(path: Path) -> None:
    assert load_rules([path], VOCABULARY).rules


def rule_named(name: str) -> Rule:
    rule = load_rules(OTHERS, VOCABULARY).find(name)
    assert rule is not None
    return rule


def test_a_clause_waits_for_the_lookups_it_reads_and_a_lookup_for_its_parents() -> None:
    detect = rule_named("ozon-deal-missing").detect
    assert [clause.needs for clause in detect.match] == [frozenset(), frozenset(), {"order"}]
    assert [clause.needs for clause in detect.broken] == [{"deal"}]
    diagnose = rule_named("ozon-waybill-missing").diagnose
    assert diagnose is not None
    assert {lookup.name: lookup.needs for lookup in diagnose.lookups} == {
        "parcel": frozenset(),
        "events": {"parcel"},
        "deals": frozenset(),
    }


def test_the_first_true_cause_names_it() -> None:
    diagnose = rule_named("ozon-waybill-missing").diagnose
    assert diagnose is not None
    found: dict[str, Value] = {"waybill": None, "parcel": {"id": "1"}, "events": [{"error_text": "Bad Gateway"}]}
    causes = [cause.name({}) for cause in diagnose.causes if cause.when.expr(found) is True]
    assert causes == ["temporary"]


def test_two_levels_to_one_contact_have_ids_of_their_own() -> None:
    levels = rule_named("ozon-waybill-missing").escalate
    assert [level.id for level in levels] == ["crm-support", "integration-team", "cdek-support", "integration-team#2"]
    assert [level.before_deadline for level in levels] == [timedelta(hours=2), None, None, timedelta(hours=3)]


def test_delivery_follows_the_call_unless_it_is_said() -> None:
    update, comment = rule_named("ozon-waybill-missing").on_resolved
    assert (update.delivery, comment.delivery) == (Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE)
    assert update.args["fields"]({}) == {"UF_CRM_DELIVERY_STATUS": "created"}


def test_parameters_of_a_listing_have_their_types() -> None:
    assert rule_named("ozon-order-missing").detect.where == {"within": timedelta(days=7)}
    assert rule_named("ozon-waybill-missing").detect.where == {"unfulfilled": True}


def test_a_source_that_cannot_be_counted_is_warned_of_since_a_percentage_needs_a_population() -> None:
    warnings = load_rules([path for path in OTHERS if path.stem == "order-missing"], VOCABULARY).warnings
    assert [warning.message for warning in warnings] == [
        "this source cannot say how many records it has, so of the guard only max_broken applies"
    ]


# --- what is filled in -------------------------------------------------------------------------------------------


def test_a_short_rule_gets_all_defaults(tmp_path: Path) -> None:
    rule = load_one(
        "name: short\ntitle: Коротко\nowner: crm-support\nrunbook: r.md\n"
        "detect: {from: ozon-db.orders, broken: paid, key: '${posting_number}'}\n",
        tmp_path,
    )
    assert rule == replace(Rule("short", rule.digest, "Коротко", "crm-support", "r.md", rule.detect, rule.place), escalate=rule.escalate)
    assert rule.mode is Mode.OBSERVE
    assert [(level.id, level.to, level.message) for level in rule.escalate] == [("crm-support", "crm-support", None)]
    assert (rule.detect.match, rule.detect.lookups, rule.detect.object) == ((), (), None)


def test_the_installation_fills_in_what_files_leave_out_and_overrides_what_they_say(tmp_path: Path) -> None:
    vocabulary = replace(
        VOCABULARY,
        defaults={"every": "9m", "severity": "info", "guard": {"max_broken": 7, "max_attempts": 3}},
        overrides={"stuck": {"mode": "observe", "guard": {"max_attempts": 4}}},
    )
    text = RULE.replace("every: 5m\n", "").replace("max_broken: 100, ", "")
    rule = load_one(text, tmp_path, vocabulary)
    assert (rule.mode, rule.every, rule.severity) == (Mode.OBSERVE, timedelta(minutes=9), Severity.WARNING)
    assert (rule.guard.max_broken, rule.guard.max_attempts, rule.guard.max_calls_per_hour) == (7, 4, 200)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"overrides": {"stuk": {"mode": "observe"}}}, 'config.yaml:7:3: rules.overrides: no rule is called "stuk", did you mean "stuck"?'),
        ({"overrides": {"stuck": {"mode": "approve"}}}, "rules.overrides.stuck: mode: approve is not built yet"),
        ({"overrides": {"stuck": {"severity": "info"}}}, 'rules.overrides.stuck: unknown key "severity"'),
        ({"defaults": {"mode": "off"}}, "rules.defaults: mode: must be 'disabled'"),
        ({"causes": [CauseText("x", "txt == 'a'", Place("config.yaml", 3, 9))]}, 'config.yaml:3:9: unknown name "txt"'),
    ],
)
def test_mistakes_of_the_installation_are_told_at_their_place(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    vocabulary = replace(VOCABULARY, override_places={"stuk": Place("config.yaml", 7, 3)}, **changed)  # type: ignore[arg-type]
    with pytest.raises(Mistakes) as caught:
        load_one(RULE, tmp_path, vocabulary)
    assert said in str(caught.value)


def test_a_whole_word_of_the_matrix_keeps_its_type(tmp_path: Path) -> None:
    text = RULE.replace("name: stuck", "name: stuck\nmatrix: [{name: one, most: 7, shop: ozon}]")
    rule = load_one(text.replace("max_broken: 100", 'max_broken: "${matrix.most}"').replace("ozon-db", "${matrix.shop}-db"), tmp_path)
    assert (rule.name, rule.guard.max_broken, rule.detect.connector) == ("one", 7, "ozon-db")


def test_a_condition_may_name_a_word_of_the_matrix(tmp_path: Path) -> None:
    text = RULE.replace("name: stuck", "name: stuck\nmatrix: [{name: one, place: Dubai}]")
    rule = load_one(text.replace("- paid", "- status == matrix.place"), tmp_path)
    assert rule.detect.match[0].expr({"status": "Dubai"}) is True


# --- the digest and the reading ----------------------------------------------------------------------------------


def digest(text: str, folder: Path, vocabulary: Vocabulary = VOCABULARY) -> str:
    return load_one(text, folder, vocabulary).digest


def test_the_digest_tells_versions_apart_and_not_layouts(tmp_path: Path) -> None:
    first = digest(RULE, tmp_path)
    assert digest("# a comment\n" + RULE, tmp_path) == first
    assert digest(RULE.replace("every: 5m\n", ""), tmp_path) == first, "a default that is written out is the same rule"
    assert digest(RULE.replace("every: 5m", "every: 6m"), tmp_path) != first
    assert digest(RULE.replace("Исправить", "Поправить"), tmp_path) != first
    assert digest(RULE, tmp_path, replace(VOCABULARY, overrides={"stuck": {"every": "6m"}})) != first
    assert digest(RULE, tmp_path, replace(VOCABULARY, causes=VOCABULARY.causes[::-1])) != first


def test_a_shown_rule_says_file_line_digest_and_everything_filled_in() -> None:
    ruleset = load_rules([SHIPPED], VOCABULARY)
    shown = ruleset.show("kaspi-order-not-sent")
    rule = ruleset.find("kaspi-order-not-sent")
    assert rule is not None
    assert shown.splitlines()[0] == f"# {SHIPPED}:11  digest {rule.digest}"
    tree = yaml.safe_load(shown)
    assert "matrix" not in tree
    assert (tree["name"], tree["every"], tree["escalate"][0]["to"]) == ("kaspi-order-not-sent", "5m", "integration-team")
    assert tree["remediate"][0] | {"backoff": None, "with": None} == {
        "name": "fetchorder", "call": "kaspi-integration.fetchorder", "if": True, "with": None, "attempts": 3,
        "backoff": None, "settle": "5m", "timeout": "6h", "delivery": "at_least_once",
    }  # fmt: skip


def test_a_shown_rule_is_itself_a_rule_with_the_same_digest(tmp_path: Path) -> None:
    ruleset = load_rules([SHIPPED, *OTHERS], VOCABULARY)
    for rule in ruleset.rules:
        assert load_one(ruleset.show(rule.name), tmp_path).digest == rule.digest


def test_an_unknown_rule_is_named_with_the_near_one() -> None:
    with pytest.raises(KeyError, match='did you mean "ozon-order-not-sent"'):
        load_rules([SHIPPED], VOCABULARY).show("ozon-order-not-snt")


# --- the schema --------------------------------------------------------------------------------------------------


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = json.loads((ROOT / "docs" / "rule.schema.json").read_text())
    assert committed == schema(), "write it anew: orderheal rules schema > docs/rule.schema.json"


def test_the_schema_has_a_description_at_every_key_and_takes_the_rules() -> None:
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    for name, model in {"rule": found, **found["$defs"]}.items():
        for key, value in model["properties"].items():
            assert value.get("description"), f"{name}.{key} has no description"
        assert model["additionalProperties"] is False
    for path in (SHIPPED, *OTHERS):
        jsonschema.validate(yaml.safe_load(path.read_text()), found)


# --- whatever a file holds ---------------------------------------------------------------------------------------

LINES = RULE.splitlines()
PIECES = st.sampled_from(
    ["${", "}", "!", ": ", "{", "]", "&x", "*x", "null", "5", "-1", "paid", "deal", "off", '"', "'", "\t", "|", "#", "\\", "matrix.x",
     "${matrix.shop}", "1e999", "0x", "é", "\u2028", "[", "a.b.c", "duration", "now", "== null", "size(", "%", "@", "- "]
)  # fmt: skip


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoiled_rule_gives_a_rule_or_mistakes_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        column = data.draw(st.integers(0, len(lines[at])))
        cut = data.draw(st.integers(0, 6))
        lines[at] = lines[at][:column] + data.draw(PIECES) + lines[at][column + cut :]
    if data.draw(st.booleans()):
        lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from(lines)))
    said = mistakes_of("\n".join(lines), tmp_path)
    assert all(re.match(r"x\.yaml:[1-9]\d*:[1-9]\d*: .+$", each) for each in said), said
