"""What the guide says in figures and names is what the code has, and both languages say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from daemon.app import load
from daemon.domain.rule import Mode
from daemon.settings import format_duration, parse_duration
from tests.docs.reading import DOCS, ROOT, blocks, prose

GUIDE = [
    ROOT / "README.md",
    DOCS / "index.md",
    DOCS / "install.md",
    *sorted(page for page in (DOCS / "guide").glob("*.md") if not page.name.endswith(".ru.md")),
]
TUNING = [DOCS / "guide" / "tuning.md", DOCS / "guide" / "tuning.ru.md"]
CONNECT = [DOCS / "guide" / "connect.md", DOCS / "guide" / "connect.ru.md"]


def in_russian(page: Path) -> Path:
    return page.with_suffix(".ru.md")


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_a_page_says_the_same_in_russian(page: Path) -> None:
    """The same headings, rows and blocks in number and level; blocks equal but for comments and texts for people."""
    for pattern in (r"^(#+) ", r"^\|(?!-)", r"^ *(\d+)\. "):
        assert re.findall(pattern, prose(page), re.MULTILINE) == re.findall(pattern, prose(in_russian(page)), re.MULTILINE)
    kinds = ("sh", "yaml config", "sql store", "sql reader")
    ours, theirs = ([bare(block.text) for block in blocks(each, *kinds)] for each in (page, in_russian(page)))
    assert ours == theirs


def bare(code: str) -> str:
    """Code without comments and without texts that people read."""
    return re.sub(r'--reason "[^"]*"', "", re.sub(r"\s+# .*", "", code))


def defaults() -> dict[str, str]:
    """The defaults of the schemas, by the names of the guide's tables."""
    config, rule = (json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8")) for name in ("config", "rule"))
    places = {
        "engine.": config["$defs"]["EngineSettings"],
        "guard.": rule["$defs"]["GuardDocument"],
        "detect.": rule["$defs"]["DetectDocument"],
        "": rule,
        " ": rule["$defs"]["StepDocument"],
        "  ": {"properties": {name: config["$defs"]["http_connector"]["properties"][name] for name in ("slots", "lag")}},
    }
    return {
        (prefix + name).strip(): shown(key["default"])
        for prefix, place in places.items()
        for name, key in place["properties"].items()
        if name != "timeout" and not isinstance(key.get("default"), dict | list | None)  # a step and a connector have one each
    }


def shown(default: object) -> str:
    """A default as the guide writes it; schemas have durations in ISO 8601."""
    iso = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", str(default))
    if iso is None:
        return f"{default:g}" if isinstance(default, float) else str(default)
    return " ".join(f"{number}{unit}" for number, unit in zip(iso.groups(), "dhms", strict=True) if number)


def same(said: str, default: str) -> bool:
    """Whether the figure that a table begins with is the default; 24h is 1d."""
    figure = re.split(r"[ ;,]", said)[0]
    try:
        return format_duration(parse_duration(figure)) == format_duration(parse_duration(default))
    except ValueError:
        return figure == default


@pytest.mark.parametrize("page", TUNING, ids=lambda page: page.name)
def test_a_default_in_a_table_is_the_codes(page: Path) -> None:
    known, checked = defaults(), set()
    for key, said in re.findall(r"^\| `([\w.]+)`[^|]*\| ([^|]*) \|", prose(page), re.MULTILINE):
        if key in known:
            assert same(said, known[key]), f"{key}: {said}, and not {known[key]}"
            checked.add(key)
    assert {
        "every",
        "settle",
        "attempts",
        "detect.for",
        "slots",
        "lag",
        "guard.max_broken",
        "guard.relapse",
        "engine.lease",
        "engine.keep",
    } <= checked


@pytest.mark.parametrize("page", CONNECT, ids=lambda page: page.name)
def test_each_variable_of_the_shipped_configuration_is_told_where_to_get_it(page: Path) -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{env:(\w+)\}", "\n".join(line.split("# ")[0] for line in text.splitlines())))
    said = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", prose(page)))
    assert wanted <= said
    assert said <= wanted | {"UF_CRM_MARKET_ORDER_ID"}


@pytest.mark.parametrize("page", CONNECT, ids=lambda page: page.name)
def test_the_first_block_keeps_every_shipped_rule_from_acting(page: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text(next(blocks(page, "yaml config")).text, encoding="utf-8")
    modes = {rule.mode for rule in load([ROOT / "config.yaml", over], {}, offline=True).rules.values()}
    assert modes == {Mode.OBSERVE}


def test_observe_has_to_be_said_by_an_override_as_the_guide_warns() -> None:
    """Should shipped rules come without a mode, the guide's warning is to go."""
    modes = {yaml.safe_load(file.read_text(encoding="utf-8")).get("mode") for file in (ROOT / "rules").glob("*.yaml")}
    assert modes == {"enforce"}
