"""The site builds strictly, in both languages; its links lead somewhere, and a reader's browser asks no other host for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.reading import DOCS, ROOT


class Reader(HTMLParser):
    """What a page loads, what it leads to, what can be led to in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.places |= {said["id"]} if "id" in said else set()
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag == "link" and said.get("rel") not in ("canonical", "alternate", "next", "prev"):
            self.loads.append(said["href"])
        elif "src" in said:
            self.loads.append(said["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "tools.site", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    return {path: Reader(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_each_page_is_there_in_both_languages(site: Path) -> None:
    wanted = {re.sub(r"(\.en|\.ru)?\.md$", ".html", path.relative_to(DOCS).as_posix()) for path in DOCS.rglob("*.md")} | {"chart.html"}
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html", "ru/404.html"}
    assert built == wanted | {f"ru/{name}" for name in wanted}
    assert "<h1" in (site / "index.html").read_text(encoding="utf-8")
    assert "Руководство оператора" in (site / "ru" / "index.html").read_text(encoding="utf-8")


def test_every_page_can_be_come_to_from_the_first(site: Path, pages: dict[Path, Reader]) -> None:
    """By links and the navigation: a page that nobody leads to is a page that nobody reads."""
    seen, ahead = set[Path](), [site / "index.html"]
    while ahead:
        if (path := ahead.pop()) in pages and path not in seen:
            seen.add(path)
            ahead += [(path.parent / unquote(urlsplit(link).path)).resolve() for link in pages[path].links if not urlsplit(link).scheme]
    assert sorted(path.relative_to(site).as_posix() for path in pages.keys() - seen if path.name != "404.html") == []


def test_a_runbook_is_in_the_language_of_its_site(site: Path) -> None:
    name = "runbooks/order-not-sent"
    for folder, source in ((site, DOCS / f"{name}.en.md"), (site / "ru", DOCS / f"{name}.md")):
        title = source.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        assert title in (folder / f"{name}.html").read_text(encoding="utf-8")


def test_blocks_and_tables_are_drawn_as_such(pages: dict[Path, Reader]) -> None:
    """A fence or a row that the generator did not know would stand in the text as it was written."""
    for path in pages:
        drawn = re.sub(r"<(pre|code)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert "```" not in drawn, path.name
        assert not re.search(r"^(<p>)?\|", drawn, re.MULTILINE), path.name


def test_a_link_of_the_site_leads_to_a_page_and_a_place_in_it(pages: dict[Path, Reader]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links if path.name != "404.html" else ():
            said = urlsplit(link)
            if said.scheme:
                continue
            target = (path.parent / unquote(said.path)).resolve() if said.path else path
            if not target.is_file() or (said.fragment and target in pages and unquote(said.fragment) not in pages[target].places):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_a_readers_browser_asks_no_other_host(site: Path, pages: dict[Path, Reader]) -> None:
    assert {load for page in pages.values() for load in page.loads if urlsplit(load).netloc} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", styles)
    # The generator's script would fetch a drawing library for such blocks, and figures for a repository's link.
    whole = "".join(path.read_text(encoding="utf-8") for path in pages)
    assert 'class="mermaid"' not in whole
    assert 'data-md-component="source"' not in whole
