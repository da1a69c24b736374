"""SQL as text: rule time is written into it and mistakes are found in it without a database.

The few things that matter are known by their form alone: strings (also ``E''`` and dollar quotes), quoted names,
comments, casts. What stands between them is code, and only there a placeholder is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\* )
    | (?P<quoted> (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?<![\w$])(?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<open> ['"] )
    | (?P<cast> :: )
    | (?<![\w:\])])(?P<placeholder> :[A-Za-z_]\w* )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """SQL in pieces: ``code``, ``quoted``, ``comment``, ``placeholder``, and ``open``, a quote or comment without end.

    Joined they give the text again. A colon after a name, a number or a bracket is an array's slice (``a[1:n]``).
    """
    at = 0
    while match := _TOKEN.search(sql, at):
        kind, end = str(match.lastgroup), match.end()
        if match[0] == "/*":
            end = _end_of_comment(sql, end)
        elif kind == "dollar":
            kind, end = "quoted", _end_of_dollar(sql, match[0], end)
        if end < 0 or kind == "open":
            kind, end = "open", len(sql)
        yield "code", sql[at : match.start()]
        yield "code" if kind == "cast" else kind, sql[match.start() : end]
        at = end
    yield "code", sql[at:]


def _end_of_comment(sql: str, at: int) -> int:
    """Where a block comment ends that began before ``at``; they nest. -1: it does not."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _end_of_dollar(sql: str, tag: str, at: int) -> int:
    closing = sql.find(tag, at)
    return -1 if closing < 0 else closing + len(tag)


def at_rule_time(sql: str, now: datetime) -> str:
    """The text with each ``:now`` as a ``timestamptz`` literal; strings, quoted names, comments and casts stay."""
    literal = moment_literal(now)
    return "".join(literal if (kind, text) == ("placeholder", ":now") else text for kind, text in tokens(sql))


def moment_literal(moment: datetime) -> str:
    """An aware moment as SQL."""
    return f"TIMESTAMPTZ '{moment.astimezone(UTC).isoformat()}'"


def begins_as_select(sql: str) -> bool:
    """Whether it is a SELECT, with or without a WITH before it."""
    code = "".join(text for kind, text in tokens(sql) if kind != "comment")
    return re.match(r"[\s(]*(select|with)\b", code, re.IGNORECASE) is not None


def faults(sql: str, placeholders: Collection[str]) -> Iterator[str]:
    """What is wrong with a piece of SQL that is going to stand within another, a sentence each."""
    pieces = list(tokens(sql))
    for wrong in dict.fromkeys(text for kind, text in pieces if kind == "placeholder" and text not in placeholders):
        if wrong == ":now":
            yield ":now stands in `where` alone: a question by key knows no time"
        else:
            yield f"{wrong} is no placeholder, only :now is one; an array's slice is written a[1:n]"
    code = "".join(text for kind, text in pieces if kind == "code")
    if not code.strip():
        yield "there is no SQL in it"
    if any(kind == "open" for kind, _ in pieces):
        yield "a quote or a comment is opened and never closed"
    if ";" in code:
        yield "one statement without `;` is wanted: it is going to stand inside another one"
    if not _balanced(code):
        yield "its brackets do not match"


def _balanced(code: str) -> bool:
    depth = 0
    for bracket in re.findall(r"[()]", code):
        depth += 1 if bracket == "(" else -1
        if depth < 0:
            return False
    return depth == 0
