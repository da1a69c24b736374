"""The sandbox on the wire, one for each module of tests, its time moved by hand."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.sandbox.shops import DATABASES
from daemon.sandbox.wire.sandbox import Sandbox, open_sandbox

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEALTHY = 40
CONTACTS = {"-1001": "integration-team"}


class Now:
    """The time of the world, moved by hand."""

    at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture(scope="module")
def now() -> Now:
    return Now()


@pytest.fixture(scope="module")
async def sandbox(pg_server: Any, now: Now) -> AsyncIterator[Sandbox]:
    owners = {owner: pg_server.fresh_database() for owner in DATABASES}
    try:
        with tempfile.TemporaryDirectory(prefix="orderheal-") as folder:
            async with open_sandbox(owners, Path(folder), now, healthy=HEALTHY, contacts=CONTACTS) as sandbox:
                yield sandbox
    finally:
        for dsn in owners.values():
            pg_server.drop(dsn)
