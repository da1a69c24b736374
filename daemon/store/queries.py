"""The SQL of the store by name: the files of ``sql/`` hold queries behind ``-- name:`` lines, a sentence above each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final, LiteralString, cast

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> Mapping[str, LiteralString]:
    """The queries of one file, by name."""
    text = files("daemon.store").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    # The files are part of the program, as literal as the code itself.
    return {name: cast("LiteralString", sql.strip()) for name, sql in zip(parts[::2], parts[1::2], strict=True)}
