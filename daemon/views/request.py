"""A request as a person can read or repeat it: as ``curl``, with holes where credentials go."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from daemon.domain.attempt import Attempt, Reply, Request


def curl(request: Request) -> str:
    """The request as a command. It never held a credential: those are added when it is sent, and only then."""
    parts = ["curl", "-X", request.method, request.url]
    for name, value in sorted(request.headers.items()):
        parts += ["-H", f"{name}: {value}"]
    if request.idempotency_key and "idempotency-key" not in {name.lower() for name in request.headers}:
        parts += ["-H", f"Idempotency-Key: {request.idempotency_key}"]
    if request.body is not None:
        parts += ["--data-raw", request.body]
    return shlex.join(parts)


def answered(attempt: Attempt) -> Iterator[str]:
    """What came back, a line each."""
    if attempt.outcome is None:
        yield "no outcome yet"
        return
    yield f"{attempt.outcome.result} {attempt.outcome.reason}".rstrip()
    if attempt.outcome.reply:
        yield from _reply(attempt.outcome.reply)


def _reply(reply: Reply) -> Iterator[str]:
    yield f"HTTP {reply.status}" if reply.status else "no status"
    yield from (f"{name}: {value}" for name, value in sorted(reply.headers.items()))
    if reply.body:
        yield reply.body + (" … (cut)" if reply.truncated else "")
