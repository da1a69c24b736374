"""docs/laws.md: every law with its sentences, and beside each sentence tests that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
LATER = "comes with "
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def known_in(file: str) -> dict[str, tuple[str, ...]]:
    """The tests of a file, with the sentences that each carries as marks."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name: tuple(marks(node)) for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.law":
            yield ast.literal_eval(mark.args[0])


def rows() -> dict[str, tuple[str, str]]:
    """Number → wording and what stands beside it."""
    found = re.findall(r"^\| (\d+\.\d+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert len({number for number, _, _ in found}) == len(found), "a sentence stands here once"
    return {number: (wording, beside) for number, wording, beside in found}


def test_every_law_is_here_with_its_sentences_in_order() -> None:
    assert re.findall(r"^## (\d+)\. \S", PAGE, re.MULTILINE) == [str(law) for law in range(1, 23)]
    sections = re.split(r"^## (\d+)\. .+$", PAGE, flags=re.MULTILINE)[1:]
    for law, section in zip(sections[::2], sections[1::2], strict=True):
        numbers = re.findall(r"^\| (\d+\.\d+) \|", section, re.MULTILINE)
        assert numbers == [f"{law}.{place}" for place in range(1, len(numbers) + 1)]
        assert numbers, f"law {law} has no sentence"


@pytest.mark.parametrize("number", rows())
def test_a_sentence_names_tests_that_exist_or_says_what_it_comes_with(number: str) -> None:
    wording, beside = rows()[number]
    named = NAMED.findall(beside)
    assert len(wording) > 15
    assert bool(named) is not beside.strip("*").startswith(LATER), beside
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert test in known_in(file), f"{file} has no {test}"
    assert "<br>".join(f"`{file}::{test}`" for file, test in named) == beside or beside.strip("*").startswith(LATER)


def test_a_test_that_carries_a_sentence_stands_beside_it_and_the_other_way_round() -> None:
    carried = {
        (number, f"{file.relative_to(ROOT)}::{test}")
        for file in (ROOT / "tests").rglob("test_*.py")
        if "mark.law(" in file.read_text(encoding="utf-8")
        for test, numbers in known_in(str(file.relative_to(ROOT))).items()
        for number in numbers
    }
    beside = {(number, f"{file}::{test}") for number, (_, cell) in rows().items() for file, test in NAMED.findall(cell)}
    assert carried <= beside, f"not on the page: {sorted(carried - beside)}"
    ours = {(number, name) for number, name in beside if name.startswith("tests/laws/")}
    assert ours <= carried, f"without their mark: {sorted(ours - carried)}"
    assert all(numbers for file in (ROOT / "tests" / "laws").glob("test_law_*.py") for numbers in numbers_in(file))


def numbers_in(file: Path) -> list[tuple[str, ...]]:
    """The marks of each test of a file of laws; every one carries some."""
    return [numbers for name, numbers in known_in(str(file.relative_to(ROOT))).items() if name.startswith("test_")]
