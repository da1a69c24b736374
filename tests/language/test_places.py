"""YAML is read as YAML 1.2 says, every value remembers its place, and where YAML is the trap the mended line is given."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from daemon.domain.value import Place
from daemon.language.mistake import Mistakes
from daemon.language.places import load, mend, merge, resolve, validate
from daemon.settings import Duration, Settings


def read(text: str) -> object:
    return load(text, "f.yaml").raise_for_mistakes().tree


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("18:00", "18:00"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("0123", 123),
        ("08", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("-5", -5),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("", None),
        ("null", None),
        ("1" * 31, 1111111111111111111111111111111.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    assert resolve(written) == value
    assert type(resolve(written)) is type(value)


def test_quoted_and_block_texts_stay_texts() -> None:
    assert read("a: 'true'\nb: \"5\"\nc: |\n  1\nd: >\n  a\n  b\n") == {"a": "true", "b": "5", "c": "1\n", "d": "a b\n"}


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert read("on: 1\ntrue: 2\n5: 3") == {"on": 1, "true": 2, "5": 3}


def test_an_empty_file_is_an_empty_map() -> None:
    assert read("") == read("# nothing\n") == {}


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("match: !(x in [1])", 'match: "!(x in [1])"'),
        ('match: !(x in ["a"])', "match: '!(x in [\"a\"])'"),
        ("match: !paid", 'match: "!paid"'),
        ("  - !paid  # not ours", '- "!paid"'),
        ("match: a ? b : c", 'match: "a ? b : c"'),
        ("title: Заказ: просрочен", 'title: "Заказ: просрочен"'),
        ("with: {order: ${x}, text: a}", 'with: {order: "${x}", text: a}'),
        ("key: [${a}, p-${b}-q]", 'key: ["${a}", "p-${b}-q"]'),
        ("- {cause: ${c}, if: c != null}", '- {cause: "${c}", if: c != null}'),
        ("- {cause: x, if: a ? b : c}", '- {cause: x, if: "a ? b : c"}'),
        ("fields: {a: string?, b: number}", 'fields: {a: "string?", b: number}'),
        ('match: "a" in b', "match: '\"a\" in b'"),
        ("key: *x", 'key: "*x"'),
        ("key: @x", 'key: "@x"'),
        ("broken: [1].exists(x, x == 1)", 'broken: "[1].exists(x, x == 1)"'),
    ],
)
def test_a_line_that_yaml_takes_otherwise_is_mended(line: str, mended: str) -> None:
    assert mend(line) == mended
    assert load(line, "f").mistakes[0].message.endswith(f"write: {mended}")
    yaml.safe_load(mended)


@pytest.mark.parametrize("line", ["a: b", "- c", 'a: {b: "${c}"}', "a: {b: {c", "%a", "", "a: ${b}"])
def test_a_right_line_and_a_hopeless_one_get_no_advice(line: str) -> None:
    assert mend(line) is None


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, 'duplicate key "a", first at line 1'),
        ("a: &x 1", 1, 4, "anchors (&) are not supported"),
        ("a: !!str 1", 1, 4, "a tag in YAML"),
        ("a: 1\n---\nb: 1", 2, 1, "a second document"),
        ("a: {b: {c", 1, 10, "expected ',' or '}'"),
        ("a:\n\tb: 1", 2, 1, "a tab; YAML wants spaces here"),
        ("a:\n    b: 1\n  c: 2", 3, 3, "this does not fit here; look at its indentation and at the quotes before it"),
        ("? [a]\n: 1", 1, 3, "a key must be plain text"),
        ("a: \x07", 1, 4, "is not allowed"),
        ("a: " + "[" * 40, 1, 36, "nested deeper than 32"),
    ],
)
def test_what_is_refused_has_its_place(text: str, line: int, column: int, said: str) -> None:
    mistakes = load(text, "f.yaml").mistakes
    assert [(each.file, each.line, each.column) for each in mistakes] == [("f.yaml", line, column)]
    assert said in mistakes[0].message


def test_all_refusals_of_a_file_are_found_at_once() -> None:
    mistakes = load("a: !x 1\nb: 2\nb: 3\nc: !(y)\n", "f").mistakes
    assert [each.line for each in mistakes] == [1, 3, 4]


def test_values_and_keys_know_their_places() -> None:
    loaded = load("a:\n  - b: 1\n    c: 'x'\n  - |\n    text\n", "f")
    assert loaded.place(("a", 0, "b")) == Place("f", 2, 8)
    assert loaded.key_place(("a", 0, "b")) == Place("f", 2, 5)
    assert loaded.place(("a", 0, "c")) == Place("f", 3, 9), "the first character, not the quote"
    assert loaded.place(("a", 1)) == Place("f", 5, 5), "the first character of the block"
    assert loaded.place(("a", 0, "missing")) == Place("f", 2, 5), "a missing key belongs to its parent"


def test_merged_files_keep_the_place_each_value_came_from() -> None:
    merged = merge(load("a: {b: 1, c: [1, 2]}\nd: 1", "one"), load("\na: {c: [3], e: 2}", "two"))
    assert merged.tree == {"a": {"b": 1, "c": [3], "e": 2}, "d": 1}
    assert merged.place(("a", "b")) == Place("one", 1, 8)
    assert merged.place(("a", "c", 0)) == Place("two", 2, 9)
    assert merged.key_place(("a", "e")) == Place("two", 2, 13)


def test_mapped_values_keep_their_places() -> None:
    loaded = load("a: [x, {b: y}]", "f").mapped(lambda value, place: f"{value}@{place.column}")
    assert loaded.tree == {"a": ["x@5", {"b": "y@12"}]}
    assert loaded.place(("a", 1, "b")) == Place("f", 1, 12)


class Inner(Settings):
    attempts: int = Field(3, ge=1)
    cond: str | list[str] = ""
    when: str | None = Field(None, alias="if")
    mode: Literal["observe", "enforce"] = "observe"
    wait: Duration = timedelta(minutes=5)


class Outer(Settings):
    name: str
    steps: list[Inner] = Field([])
    named: dict[str, Inner] = Field({})


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{}", 'f:1:1: missing key "name"'),
        ("name: 5", "f:1:7: name: must be text, not 5"),
        ("name: true", "f:1:7: name: must be text, not true"),
        ("name: a\nsteps: x", 'f:2:8: steps: must be a list, not "x"'),
        ("name: a\nsteps:\n- 5", "f:3:3: steps: must be a map, not 5"),
        ("name: a\nsteps:\n- atempts: 5", 'f:3:3: unknown key "atempts", did you mean "attempts"?'),
        ("name: a\nsteps:\n- zzz: 5", 'f:3:3: unknown key "zzz"; known: attempts, cond, if, mode, wait'),
        ("name: a\nsteps:\n- attempts: 0", "f:3:13: attempts: must be at least 1, not 0"),
        ("name: a\nsteps:\n- attempts: '3'", 'f:3:14: attempts: must be a whole number, not "3"'),
        ("name: a\nsteps:\n- cond: 5", "f:3:9: cond: must be text or a list, not 5"),
        ("name: a\nsteps:\n- cond: [a, 5]", "f:3:13: cond: must be text, not 5"),
        ("name: a\nnamed:\n  x: {iff: y}", 'f:3:7: unknown key "iff", did you mean "if"?'),
        ("name: a\nnamed: {x: {if: 5}}", "f:2:17: if: must be text, not 5"),
        (
            "name: a\nsteps: [{mode: obsrve}]",
            "f:2:16: mode: must be 'observe' or 'enforce', not \"obsrve\", did you mean \"observe\"?",
        ),
        (
            "name: a\nsteps: [{wait: 5}]",
            "f:2:16: wait: 5 is no duration; write a number with a unit, such as 90s, 5m, 2h or 3d",
        ),
        ("[1]", "f:1:1: must be a map, not a list"),
    ],
)
def test_what_does_not_fit_a_model_is_said_in_a_readers_words(text: str, mistake: str) -> None:
    loaded = load(text, "f")
    model, mistakes = validate(Outer, loaded.tree, loaded)
    assert model is None
    assert [str(each) for each in mistakes] == [mistake]


def test_all_that_does_not_fit_is_said_at_once_and_a_fitting_tree_becomes_the_model() -> None:
    loaded = load("nam: a\nsteps: [{attempts: 0}, {wait: 1x}]", "f")
    assert len(validate(Outer, loaded.tree, loaded)[1]) == 4
    loaded = load("below:\n  name: a\n  steps: [{if: x}]", "f")
    assert validate(Outer, loaded.tree["below"], loaded, ("below",)) == (Outer(name="a", steps=[Inner(**{"if": "x"})]), [])


def test_a_message_shows_what_is_written_not_what_it_stands_for() -> None:
    loaded = load("name: a\nsteps:\n- attempts: ${env:SECRET}", "f")
    _, mistakes = validate(Outer, {"name": "a", "steps": [{"attempts": "hunter2"}]}, loaded)
    assert [str(each) for each in mistakes] == ['f:3:13: attempts: must be a whole number, not "${env:SECRET}"']


@given(st.text(alphabet=st.sampled_from("abc:-[]{}!&*#|>'\"%@`,?$ \n\t\\0.\x85\u2028é")))
def test_no_text_gives_anything_but_a_tree_or_mistakes(text: str) -> None:
    loaded = load(text, "f")
    assert all(each.line >= 1 and each.column >= 1 for each in loaded.mistakes)
    if not loaded.mistakes:
        validate(Outer, loaded.tree, loaded)
    else:
        with pytest.raises(Mistakes):
            loaded.raise_for_mistakes()


readable = st.text(st.characters(max_codepoint=0xD7FF, exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | readable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(readable, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(readable, values, max_size=4))
def test_json_is_read_as_what_it_says(value: dict[str, object]) -> None:
    assert read(json.dumps(value, ensure_ascii=False)) == value
