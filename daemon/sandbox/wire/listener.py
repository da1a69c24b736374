"""One system's HTTP server on a loopback port that it keeps, though it goes down and comes back."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from daemon.sandbox.world import Mute, Said, World

HOST: Final = "127.0.0.1"
See = Callable[[Callable[[World], Any]], Awaitable[Any]]
"""Look at the world, or act in it, now: one at a time. Gives what the look gives."""


class Listener:
    """A server that can be shut: what is under way breaks, and new connections are refused."""

    def __init__(self, make: Callable[[], web.Application]) -> None:
        self._make = make
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, or will again."""
        return f"http://{HOST}:{self.port}"

    async def open(self) -> None:
        """Listen. Does nothing when it does already."""
        if self._runner is not None:
            return
        self._runner = web.AppRunner(self._make(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def shut(self) -> None:
        """Listen no longer."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def respond(request: web.Request, said: Said) -> web.StreamResponse:
    """Say it: as an answer, by breaking the connection, or by saying nothing until the client has gone."""
    match said:
        case Mute.TIMEOUT:
            await asyncio.Event().wait()
        case Mute():
            _reset(request)
            return web.Response()
        case _:
            return web.Response(status=said.status, body=said.body.encode(), headers=said.headers)
    raise AssertionError("the client has gone")


def _reset(request: web.Request) -> None:
    """Let the client see a reset rather than an orderly end."""
    transport = request.transport
    if transport is not None:
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
