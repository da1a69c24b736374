"""What a message says and what goes beside it: files, cards, commands and evidence, as whole values."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from builders import T0, Words, at, constant, contacts, incident, rule, state

from daemon.domain.attempt import Request, Result
from daemon.domain.incident import Incident, Phase, Resolution, Why
from daemon.domain.message import (
    TABLE_LIMIT,
    Card,
    Matter,
    Table,
    by_urgency,
    cards,
    commands,
    evidence,
    first_deadline,
    last_step,
    ours,
    tables,
    text,
    title,
    totals,
    words_of,
)
from daemon.domain.rule import CardForm, GroupBy, Level, ResolveOn, TableForm
from daemon.domain.value import Money, Unknown, Value

TEAM = replace(contacts("team")["team"], language="en")
RULE = rule()
LEVEL = Level(id="team", to="team")
RUB = Money(Decimal("10.50"), "RUB")


def matter(*subjects: Incident, **changes: object) -> Matter:
    """A matter of these subjects, an hour after T0."""
    return replace(Matter(RULE, LEVEL, TEAM, at(60), subjects=subjects), **changes)


def many(number: int, **changes: object) -> tuple[Incident, ...]:
    return tuple(incident(id=f"i{n}", key=f"N{n}", facts={"number": f"N{n}"}, **changes) for n in range(number))


class TestOrder:
    def test_the_earliest_deadline_comes_first_and_then_the_oldest(self) -> None:
        ordered = (
            incident(id="soon", deadline=at(9), since=at(5)), incident(id="late", deadline=at(90), since=at(-90)),
            incident(id="old", since=at(-5)), incident(id="a", since=T0), incident(id="b", since=T0), incident(id="a", key="N2", since=T0),
        )  # fmt: skip
        for given in (ordered, tuple(reversed(ordered))):
            assert by_urgency(given) == ordered

    @pytest.mark.parametrize(("deadlines", "first"), [((90, 70, 10), 70), ((50, 10), 10), ((60,), 60), ((None,), None), ((), None)])
    def test_the_first_deadline_is_the_next_that_can_be_kept(self, deadlines: tuple[int | None, ...], first: int | None) -> None:
        subjects = [incident(deadline=None if one is None else at(one)) for one in deadlines]
        assert first_deadline(subjects, at(60)) == (None if first is None else at(first))

    def test_money_is_summed_per_currency(self) -> None:
        subjects = [incident(value=RUB), incident(value=Money(Decimal(3), "AED")), incident(), incident(value=RUB)]
        assert totals(subjects) == (Money(Decimal(3), "AED"), Money(Decimal("21.00"), "RUB"))

    def test_the_last_step_is_the_one_that_was_tried_last(self) -> None:
        first, later, never = state(at=at(1)), state(at=at(2)), state()
        assert last_step(incident(steps={"b": first, "a": later, "c": never})) == ("a", later)
        assert last_step(incident(steps={"c": never})) == (None, None)


def attached(rows: Value, name: str = "file.csv", count: int = 1) -> tuple[Table, ...]:
    level = replace(LEVEL, attach=(TableForm(constant(rows), Words(name)),))
    return tables("begin", matter(*many(count), level=level))


class TestTables:
    def test_rows_share_the_columns_of_all_in_the_order_met(self) -> None:
        (table,) = attached([{"sku": "A", "price": Decimal("1.5")}, {"sku": None, "stock": True}])
        assert table == Table("file.csv", ("sku", "price", "stock"), (("A", "1.5", ""), ("", "", "yes")))

    def test_a_plain_list_has_no_headings(self) -> None:
        assert attached(["A", "B"]) == (Table("file.csv", (), (("A",), ("B",))),)

    @pytest.mark.parametrize("rows", [[], "text", {"a": 1}, 7, None, Unknown("not asked")])
    def test_what_is_no_list_makes_no_file(self, rows: Value) -> None:
        assert attached(rows) == ()

    def test_a_table_is_cut(self) -> None:
        (table,) = attached([str(n) for n in range(TABLE_LIMIT + 1)])
        assert (len(table.rows), table.rows[-1]) == (TABLE_LIMIT, ("999",))

    @pytest.mark.parametrize(
        ("name", "file"),
        [("../../etc/passwd", "etc_passwd"), ("лист 1.csv", "лист_1.csv"), ("...", "table.csv"), ("", "table.csv"), ("x" * 200, "x" * 100), ("a-b_c.d", "a-b_c.d")],
    )  # fmt: skip
    def test_a_name_is_no_path(self, name: str, file: str) -> None:
        assert [table.name for table in attached(["A"], name)] == [file]

    def test_lines_that_have_no_room_in_the_message_go_into_a_file(self) -> None:
        assert tables("begin", matter(*many(10))) == ()
        (table,) = tables("begin", matter(*many(11)))
        assert table == Table("stuck.csv", (), tuple((f"N{n}",) for n in range(11)))
        assert tables("end", matter(*many(11))) == ()
        (cut,) = tables("begin", matter(*many(TABLE_LIMIT + 1)))
        assert len(cut.rows) == TABLE_LIMIT

    def test_its_text_shows_ten_rows_and_counts_the_rest(self) -> None:
        full = Table("t", (), tuple((str(n), "", "x") for n in range(10)))
        assert full.text.splitlines() == [f"{n} — x" for n in range(10)]
        assert replace(full, rows=(*full.rows, ("10",))).text.splitlines()[-1] == "… + 1"


class TestCards:
    FORM = CardForm(Words(" Order ${number} "), (("Number", Words(" ${number} ")), ("Now", Words("${now}"))))

    def test_a_card_shows_the_named_rows_only(self) -> None:
        level = replace(LEVEL, attach=(self.FORM, TableForm(constant(["A"]), Words("t"))), group_by=GroupBy.SUBJECT)
        (card,) = cards("begin", matter(incident(), level=level))
        assert card == Card("Order N1", (("Number", "N1"), ("Now", words_of(TEAM).show(at(60)))))
        assert card.text.splitlines()[:2] == ["Order N1", "Number: N1"]
        assert cards("end", matter(incident(), level=level)) == ()


class TestCommands:
    def test_few_are_named_one_by_one(self) -> None:
        odd = incident(id="i 2", key="N 2")
        assert list(commands(RULE, (odd, incident()))) == [
            "orderheal incidents claim 'i 2' i1", "orderheal incidents retry 'i 2' i1",
            "orderheal incidents show 'i 2' --requests", "orderheal explain 'N 2'",
        ]  # fmt: skip

    @pytest.mark.parametrize(("causes", "chosen"), [({"address"}, "--rule stuck --cause address"), ({None}, "--rule stuck"), ({"a", "b"}, "--rule stuck")])
    def test_many_are_named_by_what_they_share(self, causes: set[str | None], chosen: str) -> None:
        subjects = tuple(replace(one, cause=cause) for cause in sorted(causes, key=str) for one in many(11))
        assert next(commands(RULE, subjects)) == f"orderheal incidents claim {chosen}"


class TestText:
    def test_a_message_about_one_subject_sees_its_record_and_of_several_their_common_cause(self) -> None:
        about = replace(LEVEL, message=Words("${number}/${cause}"), group_by=GroupBy.SUBJECT)
        assert text("begin", matter(incident(cause="address"), level=about)) == "N1/address"
        shared = replace(about, group_by=GroupBy.RULE)
        two = many(2, cause="address")
        assert text("begin", matter(*two, level=shared)).splitlines() == ["${number}/address", "N0", "N1"]
        assert text("begin", matter(two[0], incident(cause="region"), level=shared)).startswith(f"${{number}}/{words_of(TEAM).show(None)}")

    def test_a_line_names_money_to_our_own_people_only(self) -> None:
        subject = incident(value=RUB, deadline=at(90))
        words = words_of(TEAM)
        line = f"N1, {words.money(RUB)}, {words.say('until', time=words.time(at(90)))}"
        assert text("begin", matter(subject)).splitlines()[-1] == line
        outside = text("begin", matter(subject, contact=replace(TEAM, external=True)))
        assert words.money(RUB) not in outside
        assert outside.splitlines()[-1].startswith("N1, until")

    @pytest.mark.parametrize(("phase", "says"), [(Phase.OPEN, "deadline is near"), (Phase.ESCALATED, "could not mend")])
    def test_without_words_of_the_rule_it_says_what_is_the_matter_and_the_runbook(self, phase: Phase, says: str) -> None:
        said = text("deadline", matter(incident(phase=phase)))
        assert says in said
        assert RULE.runbook in said

    def test_an_end_says_how_each_ended(self) -> None:
        left = (
            incident(resolution=Resolution.HEALED, phase=Phase.RESOLVED), incident(resolution=Resolution.GONE, phase=Phase.RESOLVED),
            incident(resolution=Resolution.HEALED, phase=Phase.RESOLVED),
        )  # fmt: skip
        said = text("end", matter(left=left, before=3, begun=T0))
        assert "How it ended: gone out of scope 1, healed by us 2." in said
        assert "for 1h" in said
        assert title("end", matter(left=left)) == "Well again: Stuck orders"
        gone_on = matter(left=(incident(),))
        assert title("end", gone_on) == "No longer with you: Stuck orders"

    def test_the_engines_part_says_how_much_how_long_what_was_tried_and_what_comes(self) -> None:
        steps = {"upload": state(tries=2, result=Result.REFUSED, reason="status 422", at=at(5))}
        subject = incident(value=RUB, deadline=at(30), since=at(-60), cause="address", phase=Phase.ESCALATED, steps=steps)
        words = words_of(TEAM)
        assert ours("begin", matter(subject, before=3, ahead=(at(90), "boss"), others=("twin",))).splitlines() == [
            "Now 1 subject, before 3: falling.", f"At risk: {words.money(RUB)}.", f"Deadline passed: {words.time(at(30))}, 30m ago.",
            f"Broken since {words.time(at(-60))} (2h).", "Cause: address.", "It looks like api: all failed there last.",
            "Tried: upload × 2, refused (status 422).", "Without you: no more attempts, we keep looking every 5m.",
            f"If that does not help, boss is called {words.time(at(90))}.", "Other rules see the same object: twin.",
            "Runbook: docs/runbooks/stuck.md", "Commands:", *commands(RULE, (subject,)),
        ]  # fmt: skip
        assert ours("end", matter(subject)) == ""

    def test_of_an_event_that_ends_by_being_told_nothing_more_is_promised_and_nothing_offered_that_would_fail(self) -> None:
        event = replace(RULE, resolve_on=ResolveOn.DELIVERY)
        said = ours("begin", matter(incident(phase=Phase.ESCALATED), rule=event)).splitlines()
        assert "Without you: nothing. This is an event and told once; a new one gets a new message." in said
        assert said[said.index("Commands:") + 1 :] == ["orderheal incidents show i1 --requests", "orderheal explain N1"]
        tried_on = ours("deadline", matter(incident(phase=Phase.OPEN), rule=event))
        assert "orderheal incidents claim i1" in tried_on


class TestEvidence:
    SUBJECT = incident(
        value=RUB, deadline=at(90), cause="address", phase=Phase.ESCALATED, why=Why.REFUSED,
        steps={"upload": state(tries=2, result=Result.REFUSED, reason="status 422", at=at(5), response={"status": 422, "body": "x" * 2001})},
    )  # fmt: skip

    def test_it_is_the_message_as_data(self) -> None:
        request = Request("api", "upload", {}, "POST", "http://api/upload", body="y" * 2000, idempotency_key="k")
        told = evidence("begin", matter(self.SUBJECT, before=3, requests={"i1": request}), words_of(TEAM))
        subject = {
            "incident": "i1", "key": "N1", "object": "order/N1", "phase": "escalated", "why": "refused", "cause": "address", "since": T0.isoformat(),
            "deadline": at(90).isoformat(), "value": "10.50 RUB", "resolution": None,
            "steps": [{"step": "upload", "attempts": 2, "outcome": "refused", "reason": "status 422", "at": at(5).isoformat()}],
        }  # fmt: skip
        assert told == {
            "kind": "begin", "count": 1, "before": 3, "value": {"RUB": "10.50"}, "deadline": at(90).isoformat(), "since": T0.isoformat(),
            "subjects": [subject], "runbook": "docs/runbooks/stuck.md", "next": "Without you: no more attempts, we keep looking every 5m.",
            "commands": list(commands(RULE, (self.SUBJECT,))),
            "last_request": {"call": "api.upload", "at": at(5).isoformat(), "method": "POST", "url": "http://api/upload", "body": "y" * 2000},
            "last_reply": {"status": 422, "body": "x" * 2000 + "…"},
        }  # fmt: skip
        json.dumps(told)

    def test_the_newest_exchange_of_all_subjects_is_told_and_ten_subjects(self) -> None:
        older = tuple(replace(one, steps={"upload": state(at=at(1))}) for one in many(11))
        told = evidence("begin", matter(*older, self.SUBJECT), words_of(TEAM))
        assert (told["count"], len(told["subjects"])) == (12, 10)
        assert told["last_request"] == {"call": "api.upload", "at": at(5).isoformat()}

    def test_an_end_tells_of_those_that_left_and_asks_nothing(self) -> None:
        ended = replace(self.SUBJECT, resolution=Resolution.HANDLED, steps={})
        told = evidence("end", matter(left=(ended,)), words_of(TEAM))
        assert (told["count"], told["subjects"][0]["resolution"], told["next"], told["commands"]) == (1, "handled", "", [])
        assert "last_request" not in told

    def test_an_answer_that_is_unknown_is_none_and_a_rung_without_a_call_is_named(self) -> None:
        waited = incident(steps={"pause": state(at=at(5), response=Unknown("no answer"))})
        told = evidence("begin", matter(waited), words_of(TEAM))
        assert (told["last_request"]["call"], told["last_reply"]) == ("pause", None)


def test_what_a_step_was_tried_with_is_summed_over_all_subjects() -> None:
    one = incident(phase=Phase.OPEN, due=at(70), steps={"upload": state(tries=1, result=Result.DONE)})
    other = incident(id="i2", phase=Phase.OPEN, due=at(65), steps={"upload": state(tries=2, result=Result.DONE)})
    said = ours("begin", matter(one, other, before=1)).splitlines()
    assert said[0] == "Now 2 subjects, before 1: rising."
    assert "Tried: upload × 3, accepted, but did not help." in said
    assert f"Without you: next move {words_of(TEAM).time(at(65))}." in said
    assert "Nothing was tried." in ours("begin", matter(incident()))
    held = ours("begin", matter(one, held=True))
    assert "guard holds attempts" in held
