"""A rollout that failed leaves rules behind that nobody holds; the replicas that stayed take theirs back."""

import logging

import psycopg
import pytest

from daemon.app import activate, load, open_app, take_back
from tests.cli.conftest import Shop

LOG = logging.getLogger("test")


async def test_rules_are_taken_back_from_a_rollout_that_came_to_nothing(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    async with open_app(load([shop.config], shop.env), shop.env) as old:
        await activate(old)
        (shop.folder / "rules" / "extra.yaml").write_text((next((shop.folder / "rules").glob("*.yaml"))).read_text().replace("not-sent", "extra", 1))
        async with open_app(load([shop.config], shop.env), shop.env) as failed:
            await activate(failed)
        assert await take_back(old, LOG) is None, "they may be starting still"
        with psycopg.connect(shop.env["STORE_URL"], autocommit=True) as connection:
            connection.execute("UPDATE rule SET next_scan_at = next_scan_at - interval '16 minutes'")
        assert await take_back(old, LOG) == []
        active = {row.name: row.active for row in await old.archive.rules()}
        assert active == {"not-sent": True, "extra": False}
        assert "rules taken back" in caplog.text
        assert await take_back(old, LOG) is None
