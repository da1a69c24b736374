"""A server on loopback that answers byte by byte as it is told, and tools to work with it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from daemon.clock import SystemClock
from daemon.domain.value import Timescale
from daemon.engine.events import Event, Requested
from daemon.kinds import Tools
from daemon.settings import Redactor, Secret

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Quota:
    """Grants what is in `waits` (0: at once) and keeps what it was told."""

    waits: list[float] = field(default_factory=list)
    reserved: list[tuple[str, int]] = field(default_factory=list)
    pushed: list[tuple[str, datetime]] = field(default_factory=list)

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        wait = self.waits.pop(0) if self.waits else 0.0
        if not wait:
            self.reserved.append((target, tokens))
        return wait

    async def push(self, target: str, until_db: datetime) -> None:
        self.pushed.append((target, until_db))


class Impatient(SystemClock):
    """Does not wait; remembers for how long it should have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class World:
    """What a client is given, and what it did with it."""

    def __init__(self, *secrets: str) -> None:
        self.quota, self.clock = Quota(), Impatient()
        self.events: list[Event] = []
        self.tools = Tools(self.clock, self.quota, self.events.append, Timescale(NOW), lambda: NOW, redact=Redactor(map(Secret, secrets)))

    @property
    def requested(self) -> list[Requested]:
        return [event for event in self.events if isinstance(event, Requested)]


@dataclass
class Server:
    """`answers` are used up in order, the last one again and again; `seen` are the requests."""

    address: str = ""
    answers: list[Write] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (seen := await _request(reader)) is not None:
                self.seen.append(seen)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    method, target, _ = first.split(" ")
    return Seen(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@asynccontextmanager
async def serving(*answers: Write, tls: bool = False) -> AsyncIterator[Server]:
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(__file__).with_name("nobodys.pem"))
    server = Server(answers=list(answers))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    host, port = listener.sockets[0].getsockname()
    server.address = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield server
    finally:
        listener.close()


def answer(status: int = 200, body: object = "", headers: dict[str, str] | None = None) -> Write:
    """JSON of whatever is no text."""
    plain = isinstance(body, str | bytes)
    data = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"Content-Type": "text/html" if plain else "application/json", **(headers or {})}

    async def write(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in said.items())]
        writer.write("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)

    return write


async def reset(writer: asyncio.StreamWriter) -> None:
    """The request arrived; then the connection is gone."""
    writer.transport.abort()


async def truncated(writer: asyncio.StreamWriter) -> None:
    """Less than was promised."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"success": tr')
    await writer.drain()
    writer.close()


async def silent(writer: asyncio.StreamWriter) -> None:
    """Nothing, until the other side has had enough."""
    await asyncio.get_running_loop().create_future()


async def garbage(writer: asyncio.StreamWriter) -> None:
    """Something that is no HTTP."""
    writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")


async def endless(writer: asyncio.StreamWriter) -> None:
    """10 MB of JSON."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000002\r\n\r\n")
    writer.write(b'"' + b"x" * 10_000_000 + b'"')


async def flood(writer: asyncio.StreamWriter) -> None:
    """Without end, until the other side hangs up."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


def refused_address() -> str:
    """An address that nobody listens on."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
