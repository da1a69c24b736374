"""Explain answers for any number: why it did, why not, when it will, and that nobody looks."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from daemon.domain.attempt import Result
from daemon.domain.incident import Incident, Phase, Resolution, StepState, Why
from daemon.domain.rule import Clause, Detect, Level, Mode, Rule, Step
from daemon.domain.shape import Absent, Answer, Field, FieldType, Present, Records, Shape
from daemon.domain.value import Place, Scope, Unknown, Value
from daemon.views.explain import _MEANING, Explanation, explain_lines, outlook, probe

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PLACE = Place("r.yaml", 1, 1)


@dataclass(frozen=True)
class Says:
    """An expression that compares a field."""

    text: str
    name: str
    wanted: Value = None

    place = PLACE

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({self.name})

    def __call__(self, scope: Scope) -> Value:
        value = scope.get(self.name, Unknown("missing"))
        return value if self.wanted is None or isinstance(value, Unknown) else value == self.wanted


RULE = Rule(
    "ozon-order-not-sent", "d", "t", "team", "run.md",
    Detect(
        "ozon-db", "orders", (Clause(Says("paid", "paid", True)),),
        (Clause(Says('bitrix_order_id == "not_sent"', "bitrix_order_id", "not_sent")),), Says("${id}", "id"),
    ),
    PLACE, mode=Mode.ENFORCE,
    ladder=(Step("first", "ozon-integration", "upload_order"), Step("second", "ozon-integration", "fetch", attempts=1)),
    escalate=(Level("l1", "integration-team"), Level("l2", "boss")),
)  # fmt: skip
STRING = Field(FieldType.STRING)


class Table:
    """A source with these rows, asked by two fields."""

    name = "ozon-db"
    shape = Shape(
        {"orders": Records({"id": STRING, "market": STRING, "paid": Field(FieldType.BOOL), "bitrix_order_id": STRING},
                           "id", frozenset({"id", "market"}))}
    )  # fmt: skip
    lag = timedelta(0)

    def __init__(self, *rows: Mapping[str, Value], down: str = "") -> None:
        self.rows, self.down = rows, down

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        if self.down:
            return dict.fromkeys(keys, Unknown(self.down))
        found = {key: tuple(row for row in self.rows if row[by] == key) for key in keys}
        return {key: Present(rows) if rows else Absent() for key, rows in found.items()}


def row(paid: bool = True, sent: str = "not_sent") -> Mapping[str, Value]:
    return {"id": "OZ-1", "market": "M-1", "paid": paid, "bitrix_order_id": sent}


async def said(source: Table, number: str) -> list[str]:
    probed = tuple(await probe(RULE, number, {"ozon-db": source}, NOW))  # type: ignore[dict-item]
    return [line.text for line in explain_lines(Explanation(number, NOW, (), probed, True), UTC)]


async def test_seen_but_not_ours_says_which_clause_is_false() -> None:
    text = await said(Table(row(paid=False)), "OZ-1")
    assert text[0] == "ozon-order-not-sent / OZ-1: seen, not ours"
    assert "  `paid` is false" in text


async def test_not_ours_stays_so_whatever_another_clause_could_not_tell() -> None:
    text = await said(Table({**row(paid=False), "bitrix_order_id": Unknown("is no text")}), "OZ-1")
    assert text[0] == "ozon-order-not-sent / OZ-1: seen, not ours"


async def test_a_healthy_one_is_found_by_any_of_its_keys() -> None:
    text = await said(Table(row(sent="77")), "M-1")
    assert text[0] == "ozon-order-not-sent / OZ-1: seen, healthy"
    assert '  `bitrix_order_id == "not_sent"` is false' in text


async def test_a_broken_one_without_an_incident_says_that_the_next_scan_opens_it() -> None:
    text = await said(Table(row()), "OZ-1")
    assert text[0] == "ozon-order-not-sent / OZ-1: broken, no incident yet"
    assert "opened by the rule's next scan" in text[-1]


async def test_a_number_that_nobody_has_says_that_no_rule_looks() -> None:
    assert (await said(Table(row()), "OZ-9"))[0].startswith("no rule looks at OZ-9")


async def test_a_source_that_does_not_answer_is_said_and_not_taken_for_absence() -> None:
    assert await said(Table(down="connection refused"), "OZ-1") == [
        "ozon-order-not-sent: ozon-db.orders could not be asked: connection refused"
    ]


INCIDENT = Incident(
    "i1", RULE.name, "d", "OZ-1", "OZ-1", "o", NOW - timedelta(hours=1), NOW - timedelta(hours=1),
    due=NOW + timedelta(minutes=4), why=Why.SETTLING, steps={"first": StepState(NOW, tries=1, result=Result.DONE)},
)  # fmt: skip


def test_an_open_one_says_what_comes_next_and_when() -> None:
    assert list(outlook(RULE, INCIDENT, NOW)) == [
        "open: the last attempt may still show its effect (`settle`)",
        "it is looked at again in 4m",
        "if it is still broken then: ozon-integration.upload_order, up to 3 attempts, of which 1 used",
        "if it is still broken then: ozon-integration.fetch, up to 1 attempts",
        "after that a person is told: integration-team, then boss",
    ]


def test_under_observe_it_says_that_nothing_is_called() -> None:
    said = list(outlook(replace(RULE, mode=Mode.OBSERVE), replace(INCIDENT, why=Why.MODE_OBSERVE), NOW))
    assert "nothing is called while the rule's mode is observe" in said


def test_an_ended_one_says_how_and_when() -> None:
    ended = replace(INCIDENT, phase=Phase.RESOLVED, resolution=Resolution.HEALED, ended=NOW - timedelta(minutes=2), why=Why.PROVED)
    assert list(outlook(RULE, ended, NOW)) == ["ended as healed 2m ago: it was seen healthy"]


def test_every_reason_has_a_sentence() -> None:
    assert set(_MEANING) == set(Why)
