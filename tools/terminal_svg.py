"""Turns what a terminal shows (ANSI on standard input) into an SVG on standard output: the pictures of the README.

    tmux capture-pane -e -p -t demo | .venv/bin/python tools/terminal_svg.py "make demo" > docs/demo.svg
"""

from __future__ import annotations

import io
import re
import sys

from rich.console import Console
from rich.text import Text


def svg(ansi: str, title: str) -> str:
    """The picture; no font is fetched from anywhere."""
    lines = ansi.rstrip().splitlines()
    width = max((len(Text.from_ansi(line).plain.rstrip()) for line in lines), default=80)
    console = Console(record=True, width=width + 1, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), crop=True, no_wrap=True)
    drawn = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)


if __name__ == "__main__":
    sys.stdout.write(svg(sys.stdin.read(), sys.argv[1] if len(sys.argv) > 1 else "orderheal"))
