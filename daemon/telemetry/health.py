"""``/metrics``, ``/healthz`` and ``/readyz`` over a few lines of HTTP, served by the daemon's own event loop.

That the loop answers is the first half of being alive; the second is that the poll tick still comes. Ready means: the
store answers and rules are loaded. Three fixed pages for a scraper and a kubelet need no web framework.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

_HEAD_LIMIT = 8192  # bytes of a request's head; a scraper needs a few hundred
_PATIENCE = 5.0  # seconds for a client to say what it wants and to take the answer


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: status, content type, body."""

    status: HTTPStatus
    kind: str
    body: bytes


Serve: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Page]]
"""Makes a page from the request's headers (names in lower case)."""

Probe: TypeAlias = Callable[[], Awaitable[Mapping[str, str]]]
"""What is wrong, by part; nothing when all is well."""


def verdict(probe: Probe) -> Serve:
    """A page of a probe: 200 when nothing is wrong, else 503 and what is."""

    async def serve(headers: Mapping[str, str]) -> Page:
        wrong = await probe()
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        said = {"status": "unwell" if wrong else "ok"} | dict(wrong)
        return Page(status, "application/json", json.dumps(said, ensure_ascii=False).encode() + b"\n")

    return serve


def _plain(status: HTTPStatus, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode() + b"\n")


async def _answer(pages: Mapping[str, Serve], head: bytes) -> Page:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, _, target = first.partition(" ")
    if method not in ("GET", "HEAD"):
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET")
    serve = pages.get(target.split(" ")[0].split("?")[0])
    if serve is None:
        return _plain(HTTPStatus.NOT_FOUND, "there are " + " ".join(sorted(pages)))
    pairs = (line.partition(":") for line in rest if ":" in line)
    try:
        return await serve({name.strip().lower(): value.strip() for name, _, value in pairs})
    except Exception:  # the reason may hold an address or worse, and this page is open to whoever reaches the port
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "this page could not be made; the log may say more")


def _encode(page: Page, head_only: bool) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.kind}",
        f"Content-Length: {len(page.body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if head_only else page.body)


async def _converse(pages: Mapping[str, Serve], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_encode(await _answer(pages, head), head.startswith(b"HEAD ")))
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return  # a client that went away or talked nonsense is its own trouble
    finally:
        writer.close()


class BadAddress(ValueError):
    """``http.listen`` cannot be listened on; the message says what would be right."""


def parse_listen(text: str) -> tuple[str, int]:
    """``host:port``, ``:port``, ``[::1]:port`` as a pair. Raises ``BadAddress``."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise BadAddress(f"{text!r} is no address to listen on; write host:port, such as 0.0.0.0:9464")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host means every address, as everywhere


@asynccontextmanager
async def serving(listen: str, pages: Mapping[str, Serve]) -> AsyncIterator[str]:
    """Serve the pages for the length of the block; gives the real address. Raises ``BadAddress``."""
    host, port = parse_listen(listen)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _converse(pages, reader, writer)

    try:
        server = await asyncio.start_server(converse, host, port, limit=_HEAD_LIMIT)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else "the host is not known"
        raise BadAddress(f"http.listen: cannot listen on {listen} ({why}); free it, or name another address") from None
    bound: tuple[str, int] = server.sockets[0].getsockname()[:2]
    try:
        yield f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
    finally:
        server.close()
