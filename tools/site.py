"""Build docs/ as a site in English and Russian: ``python -m tools.site [FOLDER]``, into .site/ if none is named.

The repository keeps a runbook in Russian as ``NAME.md`` and in English as ``NAME.en.md``, all else in English as ``NAME.md`` and, where
there is one, in Russian as ``NAME.ru.md``. The generator knows nothing of languages, so each gets a folder of its own, in which a
page that has no translation is the English one, and a build of its own.

    docs/**, helm/README.md ─▶ the page of that language ─▶ fences, links ─▶ a temporary folder ─▶ zensical build --strict

Links between the languages of one page go: the site has a switch. What would lead out of the site goes too: the chart's
values become a page, other files of the repository keep their name alone.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
FROM_OUTSIDE: Final = {"../helm/README.md": "chart.md"}
"""What stands elsewhere in the repository and is a page of the site, both as paths from docs/."""

_OTHER_LANGUAGE: Final = re.compile(r"\*\[(?:По-русски|In English)\]\([^)]*\)\*\n|(?:По-русски|In English): \[[^\]]*\]\([^)]*\)\.?")
_FENCE: Final = re.compile(r"^( *```\w+) \w+$", re.MULTILINE)
_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)")
_SUFFIX: Final = re.compile(r"(\.en|\.ru)?\.md$")


def sources(language: str) -> Iterator[tuple[str, Path]]:
    """The site's pages in a language: the path on the site, and the file that it is read from."""
    for name in sorted({_SUFFIX.sub(".md", path.relative_to(DOCS).as_posix()) for path in DOCS.rglob("*.md")}):
        plain, own = DOCS / name, DOCS / _SUFFIX.sub(f".{language}.md", name)
        english = DOCS / _SUFFIX.sub(".en.md", name)
        yield name, own if own.exists() else english if language == "en" and english.exists() else plain
    for outside, name in FROM_OUTSIDE.items():
        yield name, DOCS / outside


def on_site(text: str, name: str) -> str:
    """A page's text, with fences that the generator knows and no link that leads out of the site or to the page's other language."""
    here = posixpath.dirname(name)

    def linked(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        there = posixpath.normpath(posixpath.join(here, target))
        if there in FROM_OUTSIDE:
            return f"[{label}]({posixpath.relpath(FROM_OUTSIDE[there], here or '.')}{anchor})"
        if not there.startswith("..") and (DOCS / there).is_file():
            return f"[{label}]({_SUFFIX.sub('.md', target)}{anchor})"
        return label

    return _LINK.sub(linked, _FENCE.sub(r"\1", _OTHER_LANGUAGE.sub("", text)))


def lay_out(language: str, folder: Path) -> None:
    """Write the pages of a language, and what they show, into the folder."""
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("*.md"))
    for name, source in sources(language):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(on_site(source.read_text(encoding="utf-8"), name), encoding="utf-8")


def translated(nav: list[Any], words: Mapping[str, str]) -> list[Any]:
    """The navigation in the words of a language."""
    return [
        {words.get(title, title): translated(below, words) if isinstance(below, list) else below for title, below in entry.items()}
        for entry in nav
    ]


def configuration(language: str) -> dict[str, Any]:
    """mkdocs.yml for the build of a language."""
    whole: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    languages = whole["extra"].pop("languages")
    first = next(iter(languages))
    up = "./" if language == first else "../"
    links = [
        {"name": words["name"], "lang": code, "link": f"{up}index.html" if code == first else f"{up}{code}/index.html"}
        for code, words in languages.items()
    ]
    return whole | {
        "docs_dir": "docs",
        "site_dir": "site",
        "theme": whole["theme"] | {"language": language},
        "nav": translated(whole["nav"], languages[language]["nav"]),
        "extra": {"alternate": links, "generator": False, "homepage": "index.html"},
    }


def build(target: Path) -> None:
    """Build the site into the folder. Raises CalledProcessError when the generator finds fault with a page."""
    shutil.rmtree(target, ignore_errors=True)
    languages = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["extra"]["languages"]
    for number, language in enumerate(languages):
        with TemporaryDirectory(prefix="orderheal-site.") as work:
            lay_out(language, Path(work, "docs"))
            settings = yaml.safe_dump(configuration(language), allow_unicode=True)
            Path(work, "mkdocs.yml").write_text(settings.replace("slugify: ", "slugify: !!python/name:"), encoding="utf-8")
            zensical = Path(sys.executable).with_name("zensical")
            subprocess.run([zensical, "build", "--strict", "--clean", "-f", "mkdocs.yml"], cwd=work, check=True)
            shutil.copytree(Path(work, "site"), target / language if number else target, dirs_exist_ok=True)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".site").resolve())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
