"""helm/README.md, made from the comments in helm/values.yaml: what a value means is said once, beside its default.

python -m tests.chart.readme >helm/README.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm"
_MARK = "# -- "

HEAD = """# orderheal's chart

Made from the comments in values.yaml by `make docs`; change it there. How to install, step by step: docs/install.md.

```sh
helm install orderheal helm/ --set-file config=config.yaml --set existingSecret=orderheal --values values.mine.yaml
```

It needs Kubernetes 1.25 or later, a PostgreSQL database of its own, and an image that your nodes can pull. It is tested with
Helm 4; Helm 3 is not tried. Unknown values are refused.

| value | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True)
class Value:
    """A documented value: its dotted path, its default, and what it means."""

    path: str
    default: Any
    meaning: str


def values() -> Iterator[Value]:
    """Every documented value, in the order of the file."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    yield from _walk(yaml.compose(text), (), text.split("\n"), yaml.safe_load(text))


def _walk(node: yaml.Node | None, path: tuple[str, ...], lines: list[str], default: Any) -> Iterator[Value]:
    assert isinstance(node, yaml.MappingNode)
    for key, below in node.value:
        here = (*path, key.value)
        meaning = _comment(lines, key.start_mark.line)
        if meaning:
            yield Value(".".join(here), default[key.value], meaning)
        elif isinstance(below, yaml.MappingNode):
            yield from _walk(below, here, lines, default[key.value])


def _comment(lines: list[str], line: int) -> str:
    """The comment above a line, from its mark on."""
    said: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        said.insert(0, lines[line].strip())
        if said[0].startswith(_MARK):
            return " ".join(part.removeprefix(_MARK).removeprefix("# ") for part in said)
    return ""


def readme() -> str:
    """The whole page."""
    cells = ((f"`{each.path}`", f"`{json.dumps(each.default, ensure_ascii=False)}`", each.meaning) for each in values())
    return HEAD + "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in cells)


if __name__ == "__main__":
    print(readme(), end="")
