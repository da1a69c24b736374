"""Whatever a system may answer: its own answers cut, changed and under any status, and what was never an answer of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.net.loopback import Write, answer, endless, garbage, reset, truncated

HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
_STATUSES = st.sampled_from([200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(_SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=10), each, max_size=3), max_leaves=8)


def _cut(text: str, at: float) -> str:
    return text[: int(len(text) * at)]


@st.composite
def _swapped(draw: st.DrawFn, bodies: Sequence[Any]) -> Any:
    """A good answer in which one value has become something else."""
    tree = json.loads(json.dumps(draw(st.sampled_from(bodies))))
    at: Any = tree
    while isinstance(at, dict | list) and at:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or draw(st.integers(0, 3)) == 0:
            at[key] = draw(JSON)
            break
        at = at[key]
    return tree


def answers(texts: Sequence[str], trees: Sequence[Any] = ()) -> st.SearchStrategy[Write]:
    """Any answer. ``texts`` and ``trees`` are good ones to start from."""
    whole = st.sampled_from([*texts, *map(json.dumps, trees)])
    cut = st.builds(_cut, whole, st.floats(0, 1))
    odd = st.sampled_from(["", HTML, "null", "[]", "{}", '""', "0", "\ufeff", "\0"])
    bodies = whole | cut | odd | JSON | st.binary(max_size=50) | (_swapped(trees) if trees else st.nothing())
    types = st.sampled_from([{}, {"Content-Type": "application/json"}, {"Content-Type": "text/xml; charset=utf-16"}, {"Content-Encoding": "gzip"}])
    return st.builds(answer, _STATUSES, bodies, types) | st.sampled_from([reset, truncated, garbage, endless])


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own, as a property is no coroutine."""
    return asyncio.run(work)
