"""The daemon's pages over a real socket."""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus

import pytest

from daemon.telemetry.health import BadAddress, Page, parse_listen, serving, verdict


async def ask(address: str, raw: bytes) -> tuple[int, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body.decode()


async def get(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    return await ask(address, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def well() -> Mapping[str, str]:
    return {}


async def unwell() -> Mapping[str, str]:
    return {"store": "not reachable"}


async def broken(headers: Mapping[str, str]) -> Page:
    raise RuntimeError("postgresql://u:hunter2@db")


async def echo(headers: Mapping[str, str]) -> Page:
    return Page(HTTPStatus.OK, "text/plain", headers["host"].encode())


PAGES = {"/healthz": verdict(well), "/readyz": verdict(unwell), "/broken": broken, "/metrics": echo}


async def test_pages_say_well_unwell_and_what_there_is() -> None:
    async with serving("127.0.0.1:0", PAGES) as address:
        assert await get(address, "/healthz") == (200, '{"status": "ok"}\n')
        assert await get(address, "/readyz") == (503, '{"status": "unwell", "store": "not reachable"}\n')
        assert await get(address, "/metrics?x=1") == (200, "x")
        assert (await get(address, "/metrics", "HEAD")) == (200, "")
        assert (await get(address, "/"))[0] == 404
        assert (await get(address, "/metrics", "POST"))[0] == 405


async def test_a_page_that_fails_tells_nothing_of_why() -> None:
    async with serving("127.0.0.1:0", PAGES) as address:
        status, body = await get(address, "/broken")
    assert status == 500
    assert "hunter2" not in body


NONSENSE = {"bytes": b"\x00\xff\r\n\r\n", "no path": b"GET\r\n\r\n", "endless": b"G" * 20_000}


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_takes_no_page_down(raw: bytes) -> None:
    async with serving("127.0.0.1:0", PAGES) as address:
        with contextlib.suppress(ConnectionError):
            await ask(address, raw)
        assert (await get(address, "/healthz"))[0] == 200


def test_an_address_is_understood_or_refused_with_what_would_be_right() -> None:
    assert parse_listen("0.0.0.0:9464") == ("0.0.0.0", 9464)
    assert parse_listen(":0") == ("0.0.0.0", 0)
    assert parse_listen("[::1]:9464") == ("::1", 9464)
    for wrong in ("9464", "host:", "host:port", "h:70000"):
        with pytest.raises(BadAddress, match=r"such as 0\.0\.0\.0:9464"):
            parse_listen(wrong)
