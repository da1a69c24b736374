"""Every way to get a rule wrong is one clear line at the right place: a case per key of the language and per trap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pytest

from daemon.domain.shape import Field, FieldType, Role
from daemon.language.document import RuleDocument
from daemon.language.mistake import Mistakes
from daemon.language.ruleset import load_rules
from daemon.settings import Settings
from tests.language.shop import ORDERS, SHAPES, VOCABULARY

RULE = """\
name: stuck
title: Заказ застрял
owner: integration-team
severity: warning
runbook: docs/runbooks/stuck.md
mode: enforce
every: 5m
detect:
  from: ozon-db.orders
  where: bitrix_order_id ~ '^[0-9]+$'
  match:
    - paid
    - order != null && order.state == "new"
  lookup:
    deal: {from: bitrix24.deals, by: id, key: "${bitrix_order_id}"}
    order: {from: ozon.orders, by: number, key: "${market_order_id}", many: false}
  broken: deal == null
  key: ${posting_number}
  object: ozon/order/${market_order_id}
  for: 15m
  since: ${created_at}
  value: {amount: "${amount}", currency: "${currency}"}
  deadline: ${ship_by}
diagnose:
  lookup:
    events: {from: logistic.outbox, by: event, key: "Process:${posting_number}", many: true}
  cause:
    - {cause: no_event, if: size(events) == 0}
    - {cause: address, if: 'events.exists(e, e.error_text != null && cause_of(e.error_text) == "address")'}
  timeout: 30m
remediate:
  - wait: 45m
    if: cause == "temporary"
  - call: ozon-integration.upload_order
    name: upload
    if: has(steps.wait)
    with: {id: "${posting_number}", number_type: posting_number}
    attempts: 3
    backoff: {initial: 1m, factor: 2, max: 30m}
    settle: 5m
    timeout: 6h
    delivery: at_least_once
escalate:
  - to: crm-support
    if: cause == "address"
    message: Исправить адрес.
    line: ${posting_number}, до ${ship_by}
    group_by: cause
    repeat: 2h
    before_deadline: 3h
    delivery: at_least_once
  - to: integration-team
    after: 6h
on_resolved:
  - call: bitrix24.add_comment
    name: comment
    if: resolution == "healed"
    with: {deal_id: "${bitrix_order_id}", text: "Готово."}
    attempts: 1
    backoff: {initial: 1m}
    timeout: 1h
    delivery: at_most_once
resolve_on: proof
guard: {max_broken: 100, max_broken_percent: 20, max_calls_per_hour: 200, max_attempts: 10, relapse: 24h}
"""

# key of the language, what the rule has, what the broken rule has (the mistake is where ¦ stands), what is said
AFTER = "    after: 6h"
ATTACH = f"{AFTER}\n    attach: "
KEYS = [
    ("name", "name: stuck", "name: ¦Stuck Order", "must match"),
    ("name", "name: stuck\n", "¦", 'missing key "name"'),
    ("title", "title: Заказ застрял", "title: ¦Заказ ${posting_number}", "only ${matrix.…} may stand here"),
    ("owner", "owner: integration-team", "owner: ¦integration-tem", 'did you mean "integration-team"?'),
    ("severity", "severity: warning", "severity: ¦high", "must be 'critical', 'warning' or 'info'"),
    ("runbook", "runbook: docs/runbooks/stuck.md", "runbook:¦ ", "must be text, not null"),
    ("mode", "mode: enforce", "mode: ¦off", "must be 'disabled', 'observe', 'approve' or 'enforce'"),
    ("mode", "mode: enforce", "mode: ¦approve", "approve is not built yet; write observe or enforce"),
    ("every", "every: 5m", "every: ¦5 min", "is no duration; write a number with a unit"),
    ("every", "every: 5m", "every: ¦0s", "must be at least 1s"),
    ("matrix", "name: stuck", "name: stuck\nmatrix:\n  - ¦{shop: ozon}", 'missing key "name"'),
    ("matrix", "Заказ застрял", "¦Заказ ${matrix.shop}", "this rule has no matrix"),
    ("detect", "detect:\n", "detekt: {}\n¦x:\n", 'unknown key "x"'),
    ("detect.from", "from: ozon-db.orders", "from: ¦ozon-bd.orders", 'unknown connector "ozon-bd", did you mean "ozon-db"?'),
    ("detect.from", "from: ozon-db.orders", "from: ¦ozon-db.order", 'has no records "order", did you mean "orders"?'),
    ("detect.from", "from: ozon-db.orders", "from: ¦bitrix24.deals", "cannot be listed, only asked for by key"),
    ("detect.where", "where: bitrix_order_id ~ '^[0-9]+$'", "where: ¦{paid: true}", "this source is filtered by SQL text"),
    ("detect.where", "where: bitrix_order_id ~ '^[0-9]+$'", "where: ¦status = '${status}'", "SQL takes no ${…}"),
    ("detect.where", "where: bitrix_order_id ~ '^[0-9]+$'", "where: ¦created_at > :noww", ":noww"),
    ("detect.where", "where: bitrix_order_id ~ '^[0-9]+$'", "where: ¦paid; DELETE FROM orders", ";"),
    ("detect.match", "- paid", "- ¦status", "must be true or false, but this is string"),
    ("detect.match", "- paid", "- ¦paidd", 'unknown name "paidd", did you mean "paid"?'),
    ("detect.match", 'match:\n    - paid\n    - order != null && order.state == "new"', "match: ¦[]", "an empty list"),
    (
        "detect.lookup",
        "deal: {from",
        "¦idle: {from: bitrix24.deals, by: id, key: '${status}'}\n    deal: {from",
        'nothing reads the lookup "idle"',
    ),
    ("detect.lookup", "deal: {from", "¦now: {from", '"now" is what the engine calls something of its own'),
    ("detect.lookup", "deal: {from", "¦status: {from", '"status" is already a field of ozon-db.orders'),
    ("detect.lookup.from", "{from: bitrix24.deals", "{from: ¦bitrix24.deal", 'has no records "deal"'),
    ("detect.lookup.by", "by: id, ", "by: ¦ids, ", 'cannot be asked by "ids", did you mean "id"?'),
    ("detect.lookup.key", 'key: "${bitrix_order_id}"', "key: ¦bitrix_order_id", "a key needs a ${…} hole"),
    ("detect.lookup.key", 'key: "${bitrix_order_id}"', 'key: "${¦amount}"', "amount is a number"),
    ("detect.lookup.key", 'key: "${bitrix_order_id}"', 'key: "${¦order.id}"', '"order" is not known in a lookup\'s key: it is asked later'),
    ("detect.lookup.many", "many: false", "many: ¦maybe", "must be true or false"),
    ("detect.broken", "broken: deal == null", "broken: ¦${deal} == null", "a condition is bare CEL"),
    ("detect.broken", "broken: deal == null", "broken: deal ¦= null", "not a CEL expression"),
    ("detect.broken", "broken: deal == null", "broken: size(¦events) == 0", "it is asked for broken subjects only"),
    ("detect.key", "key: ${posting_number}", "key: ¦posting_number", "a key needs a ${…} hole; write: key: ${posting_number}"),
    ("detect.key", "key: ${posting_number}", "key: ${¦order.number}", "not known in the key"),
    ("detect.key", "key: ${posting_number}", "key: a-${¦amount}", "a key is made of texts, and amount is a number"),
    ("detect.object", "object: ozon/order/${market_order_id}", "object: ¦ozon/order", "a key needs a ${…} hole"),
    ("detect.for", "for: 15m", "for: ¦15", "15 is no duration"),
    ("detect.since", "since: ${created_at}", "since: ¦${status}", "must be one ${…} hole that gives a timestamp"),
    ("detect.since", "since: ${created_at}", "since: ¦am ${created_at}", "must be one ${…} hole that gives a timestamp"),
    ("detect.value", "value: {amount", "value: {¦sum: 1, amount", 'unknown key "sum"'),
    ("detect.value.amount", 'amount: "${amount}"', 'amount: "¦${status}"', "must be one ${…} hole that gives a number"),
    ("detect.value.currency", 'currency: "${currency}"', 'currency: "¦${paid}"', "currency: must be a text"),
    ("detect.deadline", "deadline: ${ship_by}", "deadline: ¦${amount}", "must be one ${…} hole that gives a timestamp"),
    ("diagnose", "diagnose:\n", "diagnose:\n  ¦causes: []\n", 'unknown key "causes", did you mean "cause"?'),
    ("diagnose.lookup", "events: {from", "¦deal: {from", '"deal" is already another lookup'),
    ("diagnose.lookup.from", "logistic.outbox", "¦logistics.outbox", 'unknown connector "logistics", did you mean "logistic"?'),
    ("diagnose.lookup.by", "by: event", "by: ¦status", 'cannot be asked by "status"'),
    ("diagnose.lookup.key", '"Process:${posting_number}"', '"Process:${¦postingnumber}"', 'unknown name "postingnumber"'),
    ("diagnose.lookup.many", "many: true", "many: ¦1", "must be true or false"),
    ("diagnose.cause", "cause:\n    - {cause: no_event", "cause:\n    - ¦no_event\n    - {cause: no_event", "must be a map"),
    ("diagnose.cause.cause", "cause: no_event", "cause: ¦no event", "is no name of a cause"),
    ("diagnose.cause.if", "if: size(events) == 0", "if: size¦(deal) == 0", "it takes a list, and a lookup gives one with `many: true`"),
    ("diagnose.timeout", "timeout: 30m", "timeout: ¦soon", "is no duration"),
    ("remediate", "remediate:\n", "remediate:\n  - ¦call_it\n", "must be a map"),
    ("remediate.call", "call: ozon-integration.upload_order", "call: ¦ozon-integration.upload_ordr", 'has no call "upload_ordr"'),
    ("remediate.call", "call: ozon-integration.upload_order", "call: ¦ozon-intgration.upload_order", "unknown connector"),
    ("remediate.wait", "- wait: 45m", "- ¦wait: 45m\n    call: bitrix24.update_deal", "either a `call` or a `wait`"),
    ("remediate.wait", "- wait: 45m", "- ¦name: nothing", "either a `call` or a `wait`"),
    ("remediate.wait", "- wait: 45m", "- wait: 45m\n    ¦attempts: 2", '"attempts" belongs to a call'),
    ("remediate.name", "name: upload\n", "name: ¦upload-order\n", "must match"),
    ("remediate.wait", "- wait: 45m", "- wait: ¦0s", "must be at least 1s"),
    ("remediate.name", "- wait: 45m", "- wait: 1m\n  - ¦wait: 45m", 'a second step called "wait"'),
    ("remediate.if", 'if: cause == "temporary"', 'if: cause == ¦"temporal"', 'cause is never "temporal", did you mean "temporary"?'),
    ("remediate.if", 'if: cause == "temporary"', 'if: ¦resolution == "healed"', "it is known in on_resolved"),
    ("remediate.if", "if: has(steps.wait)", "if: has¦(steps.waited)", 'has no field "waited"'),
    ("remediate.with", "number_type: posting_number}", "¦numbertype: x}", 'unknown argument "numbertype", did you mean "number_type"?'),
    ("remediate.with", ", number_type: posting_number}", "}", 'missing argument "number_type" in `with`; the call takes id, number_type'),
    ("remediate.with", "number_type: posting_number}", "number_type: ¦null}", "a null argument stops the step"),
    ("remediate.attempts", "attempts: 3", "attempts: ¦0", "attempts: must be at least 1, not 0"),
    ("remediate.attempts", "attempts: 3", "¦atempts: 3", 'unknown key "atempts", did you mean "attempts"?'),
    ("remediate.backoff", "backoff: {initial: 1m, factor", "backoff: {¦first: 1m, factor", 'unknown key "first"'),
    ("remediate.backoff.initial", "{initial: 1m, factor", "{initial: ¦1, factor", "is no duration"),
    ("remediate.backoff.factor", "factor: 2", "factor: ¦0.5", "factor: must be at least 1"),
    ("remediate.backoff.max", "max: 30m}", "max: ¦[]}", "is no duration"),
    ("remediate.settle", "settle: 5m", "settle: ¦five", "is no duration"),
    ("remediate.timeout", "timeout: 6h", "timeout: ¦-6h", "is no duration"),
    (
        "remediate.delivery",
        "    delivery: at_least_once\nescalate",
        "    delivery: ¦once\nescalate",
        "must be 'at_least_once' or 'at_most_once'",
    ),
    ("escalate", "escalate:\n", "escalate:\n  - {¦too: crm-support}\n", 'unknown key "too", did you mean "to"?'),
    ("escalate.to", "to: crm-support", "to: ¦crm-suport", 'unknown contact "crm-suport", did you mean "crm-support"?'),
    ("escalate.if", 'if: cause == "address"\n', 'if: cause == ¦"adress"\n', 'cause is never "adress", did you mean "address"?'),
    ("escalate.after", "after: 6h", "after: ¦18:00", "is no duration"),
    ("escalate.before_deadline", "before_deadline: 3h", "before_deadline: ¦3", "is no duration"),
    ("escalate.before_deadline", "  deadline: ${ship_by}\n", "", "this rule has no detect.deadline"),
    ("escalate.message", "message: Исправить адрес.", "message: Адрес ${¦posting_number}", "it is written once for many subjects"),
    ("escalate.message", "message: Исправить адрес.", "message: Адрес ¦${cause", "never closed"),
    ("escalate.line", "line: ${posting_number}, до", "line: ${¦posting}, до", 'unknown name "posting"'),
    ("escalate.line", "line: ${posting_number}, до", "line: ${¦deal}, до", '"deal" is a record; deal.…'),
    ("escalate.group_by", "group_by: cause", "group_by: ¦region", "must be 'cause', 'rule' or 'subject'"),
    ("escalate.attach", AFTER, f"{ATTACH}¦card", "must be a list"),
    ("escalate.attach", AFTER, f"{ATTACH}[¦{{name: a.csv}}]", "an attachment is either a `card` or a `table`"),
    ("escalate.attach.card", AFTER, f"{ATTACH}[{{card: ¦Заказ}}]", "must be a map"),
    ("escalate.attach.card.title", AFTER, f'{ATTACH}[{{card: {{title: "${{¦status}}", rows: {{a: b}}}}}}]', "written once for many"),
    ("escalate.attach.card.rows", AFTER, f"{ATTACH}[{{card: {{title: a, rows: ¦{{}}}}}}]", "at least 1"),
    ("escalate.attach.card.rows", AFTER, f'{ATTACH}[{{card: {{title: a, rows: {{a: "${{¦statuss}}"}}}}}}]', 'unknown name "statuss"'),
    ("escalate.attach.table", AFTER, f"{ATTACH}[{{table: ¦x, name: x.csv}}]", "must be one ${…} hole that gives a list"),
    ("escalate.attach.table", AFTER, f'{ATTACH}[{{table: "¦${{group.count}}", name: x.csv}}]', "must be one ${…} hole that gives a list"),
    ("escalate.attach.name", AFTER, f'{ATTACH}[{{table: "${{[now]}}", name: ¦x}}]', "a table needs the name of its file"),
    ("escalate.attach.name", AFTER, f"{ATTACH}[{{name: ¦x.csv, card: {{title: a, rows: {{a: b}}}}}}]", "belongs to a table"),
    ("escalate.repeat", "repeat: 2h", "repeat: ¦daily", "is no duration"),
    ("escalate.repeat", "repeat: 2h", "repeat: ¦0s", "must be at least 1s"),
    ("escalate.delivery", "    delivery: at_least_once\n  - to", "    delivery: ¦twice\n  - to", "must be 'at_least_once'"),
    ("on_resolved", "on_resolved:\n", "on_resolved:\n  - {¦wait: 5m, call: bitrix24.add_comment}\n", 'unknown key "wait"'),
    ("on_resolved.call", "call: bitrix24.add_comment", "call: ¦bitrix24.addcomment", 'did you mean "add_comment"?'),
    ("on_resolved.name", "name: comment", "name: upload", 'a second step called "upload"'),
    ("on_resolved.if", 'if: resolution == "healed"', 'if: resolution == ¦"gone"', 'resolution is never "gone"'),
    ("on_resolved.with", 'text: "Готово."', 'text: "¦${deal"', "never closed"),
    ("on_resolved.attempts", "attempts: 1\n", 'attempts: "¦1"\n', "must be a whole number"),
    ("on_resolved.backoff", "backoff: {initial: 1m}\n", "backoff: ¦1m\n", "must be a map"),
    ("on_resolved.backoff.initial", "{initial: 1m}", "{initial: ¦1}", "is no duration"),
    ("on_resolved.backoff.factor", "{initial: 1m}", "{factor: ¦much}", "must be a number"),
    ("on_resolved.backoff.max", "{initial: 1m}", "{max: ¦1}", "is no duration"),
    ("on_resolved.timeout", "timeout: 1h", "timeout: ¦1y", "is no duration"),
    ("on_resolved.delivery", "delivery: at_most_once", "delivery: ¦never", "must be 'at_least_once' or 'at_most_once'"),
    ("resolve_on", "resolve_on: proof", "resolve_on: ¦told", "must be 'proof' or 'delivery'"),
    ("guard", "guard: {", "guard: {¦per_hour: 5, ", 'unknown key "per_hour"'),
    ("guard.max_broken", "max_broken: 100", "max_broken: ¦1.5", "must be a whole number"),
    ("guard.max_broken_percent", "max_broken_percent: 20", "max_broken_percent: ¦120", "must be at most 100"),
    ("guard.max_calls_per_hour", "max_calls_per_hour: 200", "max_calls_per_hour: ¦0", "must be at least 1"),
    ("guard.max_attempts", "max_attempts: 10", "max_attempts: ¦0", "must be at least 1"),
    ("guard.relapse", "relapse: 24h", "relapse: ¦never", "is no duration"),
    ("tests", "resolve_on: proof", "resolve_on: proof\ntests: ¦[]", "tests: is not built yet; leave it out"),
]

# trap of rule-language.md section 8, and the same three as above
TRAPS = [
    (1, "- paid", '- ¦warehouse_location != "Dubai"', '"warehouse_location" may be null: say so in the same conditions'),
    (1, "- paid", "- ¦ship_by < now", '"ship_by" may be null'),
    (1, "- order != null && order.state", "- ¦order.state", '"order" may be absent: say so in the same conditions'),
    (1, "broken: deal == null", 'broken: ¦order.state == "new" || deal == null', '"order" may be absent'),
    (3, "  broken: deal == null\n", "", 'missing key "broken"'),
    (6, "- paid", "- market_order_id ¦== 123", "identifiers are texts, so put the number in quotes"),
    (6, "- paid", '- amount ¦== "123"', 'a number and a string do not fit "=="; identifiers are texts'),
    (6, "- paid", '- status ¦in ["a", 5]', "a text is never a number in a list"),
    (6, "- paid", '- string¦(amount) == "5"', "string() writes numbers as 1.2e+06"),
    (12, "broken: deal == null", 'broken: deal == null || deal¦.idd == "1"', '"deal" has no field "idd", did you mean "id"?'),
    (12, "size(events) == 0", "events ¦== null", "a list is never null, test its size(…)"),
    (12, "- paid", "- amount.exists¦(x, x == 1)", "this runs over a number; it takes a list"),
    (12, "broken: deal == null", "broken: has¦(deal.id)", 'a declared field is always there; compare "id" with null'),
    (13, 'key: "${bitrix_order_id}"', "key: ¦[]", "an empty list"),
    (17, "message: Исправить адрес.", "message: до ${¦ship_by}", "put this into `line`, or set group_by: subject"),
    (25, "{cause: no_event, if: size(events) == 0}", '{cause: no_event, if: cause_of(status) == ¦"adress"}', 'did you mean "address"?'),
    (
        28,
        "from: ozon-db.orders\n  where: bitrix_order_id ~ '^[0-9]+$'",
        "from: ozon.orders\n  where: {¦withn: 7d}",
        'unknown parameter "withn", did you mean "within"?',
    ),
    (
        28,
        "from: ozon-db.orders\n  where: bitrix_order_id ~ '^[0-9]+$'",
        "from: ozon.orders\n  where: {within: ¦7}",
        "within: 7 is no duration",
    ),
    (
        28,
        "from: ozon-db.orders\n  where: bitrix_order_id ~ '^[0-9]+$'",
        "from: ozon.orders\n  where: {unfulfilled: ¦off}",
        "must be a bool",
    ),
    (29, "broken: deal == null", "broken: ¦!(deal != null)", 'write: broken: "!(deal != null)"'),
    (29, "broken: deal == null", "broken: paid ? deal == null ¦: false", 'write: broken: "paid ? deal == null : false"'),
    (29, "title: Заказ застрял", "title: Заказ¦: застрял", 'write: title: "Заказ: застрял"'),
    (
        29,
        'with: {id: "${posting_number}", number_type',
        "with: {id: $¦{posting_number}, number_type",
        'write: with: {id: "${posting_number}", number_type',
    ),
    (29, "broken: deal == null", 'broken: "a" ¦in ["a"]', 'write: broken: \'"a" in ["a"]\''),
    (30, "mode: enforce", "mode: ¦off", 'not "off"'),
    (30, "every: 5m", "every: ¦18:00", "'18:00' is no duration"),
    (31, "key: ${posting_number}", "key: ¦posting_number", "write: key: ${posting_number}"),
    (32, "deal: {from: bitrix24.deals", "deal: {¦in: bitrix24.deals, from: bitrix24.deals", 'unknown key "in"'),
    (35, "max_calls_per_hour: 200", "¦per_hour: 200", 'unknown key "per_hour"'),
    (33, "resolve_on: proof", "resolve_on: proof\n¦healed: []", 'unknown key "healed"'),
    (37, "- paid", "- amount ¦+ 1 > 5", "numbers of records are decimal: calculate with 1.0 rather than 1"),
    (38, "deal: {from", "¦package: {from", 'take another name, such as "parcel"'),
    (38, "- paid", '- now - created_at > duration(¦"3d")', 'its largest unit is the hour: "72h"'),
    (40, "severity: warning", "severity: ¦high", 'not "high"'),
]


def mistakes_of(text: str, folder: Path, vocabulary: Any = VOCABULARY) -> list[str]:
    """The lines that loading this rule gives, warnings too, without the folder."""
    (folder / "x.yaml").write_text(text)
    try:
        found = load_rules([folder / "x.yaml"], vocabulary).warnings
    except Mistakes as error:
        found = error.mistakes
    return [str(each).removeprefix(f"{folder}/") for each in found]


def broken(old: str, new: str) -> tuple[str, str]:
    """The rule with a part replaced, and the place that ¦ marks as ``x.yaml:line:column``, if it marks one."""
    assert old in RULE
    text = RULE.replace(old, new, 1)
    before, mark, _ = text.partition("¦")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return text.replace("¦", ""), f"x.yaml:{line}:{column}: " if mark else "x.yaml:"


def test_the_rule_that_all_cases_break_is_right(tmp_path: Path) -> None:
    assert mistakes_of(RULE, tmp_path) == []


@pytest.mark.parametrize(("key", "old", "new", "said"), KEYS, ids=[f"{case[0]}-{at}" for at, case in enumerate(KEYS)])
def test_a_wrong_key_is_one_line_at_its_place(key: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    text, place = broken(old, new)
    lines = mistakes_of(text, tmp_path)
    assert any(line.startswith(place) and said in line for line in lines), lines


@pytest.mark.parametrize(("trap", "old", "new", "said"), TRAPS, ids=[f"trap{case[0]}-{at}" for at, case in enumerate(TRAPS)])
def test_a_trap_of_the_language_is_sprung_at_load(trap: int, old: str, new: str, said: str, tmp_path: Path) -> None:
    text, place = broken(old, new)
    lines = mistakes_of(text, tmp_path)
    assert any(line.startswith(place) and said in line for line in lines), lines


def test_every_key_of_the_language_has_a_broken_case() -> None:
    assert set(keys_of(RuleDocument)) - {case[0] for case in KEYS} == set()


def keys_of(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """``detect.lookup.by`` and all others."""
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for inner in models_in(info.annotation):
            yield from keys_of(inner, f"{key}.")


def models_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, list, dict):
        for each in get_args(annotation):
            yield from models_in(each) if each is not NoneType else ()


def test_all_mistakes_of_all_files_are_said_at_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RULE.replace("every: 5m", "every: 5").replace("attempts: 3", "atempts: 3"))
    (tmp_path / "b.yaml").write_text("name: [")
    (tmp_path / "c.yaml").write_text(RULE.replace("paid", "payed").replace("crm-support", "crm"))
    with pytest.raises(Mistakes) as caught:
        load_rules([tmp_path], VOCABULARY)
    assert [(Path(each.file).name, each.line) for each in caught.value.mistakes] == [
        ("a.yaml", 7), ("a.yaml", 38), ("b.yaml", 1), ("c.yaml", 12), ("c.yaml", 44),
    ]  # fmt: skip


def test_a_mistake_of_a_whole_family_is_said_once_and_of_some_members_with_their_names(tmp_path: Path) -> None:
    matrix = "name: stuck\nmatrix:\n  - {name: a, shop: ozon}\n  - {name: b, shop: lamoda}\n  - {name: c, shop: wb}"
    text = RULE.replace("name: stuck", matrix).replace("ozon-db", "${matrix.shop}-db").replace("crm-support", "crm")
    lines = mistakes_of(text, tmp_path)
    assert [line.partition(": ")[2] for line in lines if "wb-db" in line] == ['unknown connector "wb-db"; known: ' + known() + " (c)"]
    assert len([line for line in lines if '"crm"' in line and "(" not in line]) == 1
    assert len(lines) == 2


def known() -> str:
    return ", ".join(sorted(SHAPES))


def test_a_word_of_the_matrix_that_an_entry_lacks_is_named_with_the_entry(tmp_path: Path) -> None:
    matrix = "name: stuck\nmatrix:\n  - {name: a, shop: ozon}\n  - {name: b, shp: ozon}"
    lines = mistakes_of(RULE.replace("name: stuck", matrix).replace("from: ozon-db", "from: ${matrix.shop}-db"), tmp_path)
    assert lines == ['x.yaml:12:9: the matrix entry of b has no "shop", did you mean "shp"?']


def test_personal_data_may_be_judged_but_not_told_or_sent(tmp_path: Path) -> None:
    fields = {**ORDERS.fields, "phone": Field(FieldType.STRING, role=Role.PERSONAL)}
    shapes = {**SHAPES, "ozon-db": replace(SHAPES["ozon-db"], records={"orders": replace(ORDERS, fields=fields)})}
    vocabulary = replace(VOCABULARY, shapes=shapes)
    assert mistakes_of(RULE.replace("- paid", '- phone != ""'), tmp_path, vocabulary) == []
    lines = mistakes_of(RULE.replace("line: ${posting_number}", "line: ${phone}"), tmp_path, vocabulary)
    assert lines == ['x.yaml:47:13: "phone" is personal data: it is never kept, told or sent']


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RULE)
    (tmp_path / "b.yaml").write_text(RULE)
    with pytest.raises(Mistakes, match=r'b\.yaml:1:7: a second rule called "stuck"; the first is at .*a\.yaml:1:7'):
        load_rules([tmp_path], VOCABULARY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", 'missing key "name"'),
        (b"\xff\xfe", "is not UTF-8"),
        (b"- a\n- b", "must be a map, not a list"),
        (b"5", "must be a map, not 5"),
        (b"name: a\n---\nname: b", "a second document; a file holds one"),
        (b"name: a\nname: b", 'duplicate key "name", first at line 1'),
        (b"name: &x a", "anchors (&) are not supported"),
        (b"name: *x", "aliases (*) are not supported"),
        (b"name: " + b"[" * 50, "nested deeper than"),
        (b"x" * 1_000_001, "longer than"),
        (b"matrix: 5", "must be a list of maps"),
        (b"matrix: [{name: A}]", "name: must be literal"),
        (b"matrix: [{name: a, x: [1]}]", "x: must be one word"),
    ],
)
def test_a_file_that_is_no_rule_is_one_clear_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(Mistakes) as caught:
        load_rules([tmp_path], VOCABULARY)
    assert said in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match="cannot be read: No such file"):
        load_rules([tmp_path / "none.yaml"], VOCABULARY)
    with pytest.raises(Mistakes, match="there is no rule"):
        load_rules([tmp_path], VOCABULARY)
