"""What the tests of the documentation read out of its pages: links, headings, blocks of code, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "README.ru.md", ROOT / "helm" / "README.md"]

_FENCED = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A block of code: where it begins, what its fence says, its text."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *kinds: str) -> Iterator[Block]:
    """The page's blocks whose fence says one of these."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCED.finditer(text):
        if match[2] in kinds:
            indent = re.compile(f"^{match[1]}", re.MULTILINE)
            yield Block(name_of(page), text.count("\n", 0, match.start()) + 1, match[2], indent.sub("", match[3]))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the page's links to files and places of this repository."""
    text = _CODE.sub("", prose(page))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The places of a page that a link may lead to, as GitHub and the site's generator call them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def inline(page: Path) -> list[str]:
    """What stands between single backticks."""
    return [" ".join(code.split()) for code in _CODE.findall(prose(page))]


def shell_lines(page: Path) -> Iterator[str]:
    """The lines of the page's shell blocks, continued ones joined."""
    for block in blocks(page, "sh"):
        yield from block.text.replace("\\\n", " ").splitlines()


def commands(page: Path) -> Iterator[list[str]]:
    """Each use of orderheal on the page, in words, without the program's own name."""
    for line in (*shell_lines(page), *inline(page)):
        said = re.search(r"(?:^|-- )orderheal (.*)", line.strip())
        words = shlex.split(said[1], comments=True) if said else []
        if words:
            yield words
