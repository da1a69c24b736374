"""A fault that ended otherwise than its scenario says is named with what differs, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.domain.incident import Incident, Phase, Resolution
from daemon.sandbox.judge import Verdict, judge, seen
from daemon.sandbox.scenario import parse
from daemon.sandbox.shops import shop_world
from daemon.sandbox.world import Message

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CALL = "ozon-integration.upload_order"
INCIDENT = Incident("i", "r", "d", "OZ-1", "OZ-1", "ozon/order/1", START, START)
HEALED = replace(INCIDENT, phase=Phase.RESOLVED, resolution=Resolution.HEALED, ended=START + timedelta(minutes=7))


def verdict(
    ends: dict[str, Any], incident: Incident | None = None, calls: int = 0, told: str = "", held: bool = False, pages: int = 0,
    then: tuple[Any, ...] = (),
) -> Verdict:  # fmt: skip
    world = shop_world(START)
    plain = {"name": "f", "rule": "r", "world": {"ozon-db.orders": [{"posting_number": "OZ-1"}]}, "ends": ends, "then": then}
    scenario = parse(plain)
    subjects = world.plant(scenario, START)
    for _ in range(calls):
        world.perform(CALL, {"id": "OZ-1", "number_type": "posting_number"}, "", START)
    if told:
        world.tell(Message("telegram", told, "OZ-1", START))
    incidents = [incident] if incident else []
    return judge(scenario, subjects, seen(world, incidents, frozenset({"r"} if held else ()), {"r": pages}))


@pytest.mark.parametrize(
    ("told", "differs"),
    [
        ({"ends": {"resolution": "healed", "calls": 1}, "incident": HEALED, "calls": 1}, ()),
        ({"ends": {"resolution": "healed", "calls": 1}, "incident": HEALED, "calls": 2}, ("2 calls, not 1",)),
        ({"ends": {"resolution": "healed", "calls": [1, 2]}, "incident": HEALED, "calls": 2}, ()),
        ({"ends": {"resolution": "handled"}, "incident": HEALED}, ("ended healed, not handled",)),
        ({"ends": {"resolution": "healed"}, "incident": INCIDENT}, ("ended open, not healed",)),
        ({"ends": {"resolution": "healed"}}, ("ended not found, not healed",)),
        ({"ends": {"unknown": True, "calls": 0}}, ()),
        ({"ends": {"unknown": True}, "incident": INCIDENT}, ("ended open, not unknown",)),
        ({"ends": {"phase": "open", "told": "team"}, "incident": INCIDENT}, ("team was not told",)),
        ({"ends": {"phase": "open", "told": "team"}, "incident": INCIDENT, "told": "other"}, ("team was not told",)),
        ({"ends": {"phase": "open", "told": "team"}, "incident": INCIDENT, "told": "team"}, ()),
        ({"ends": {"held": True, "pages": 1}, "held": True, "pages": 1}, ()),
        ({"ends": {"held": True, "pages": 1}, "held": True, "pages": 2}, ("2 pages, not 1",)),
        ({"ends": {"held": True}, "incident": INCIDENT}, ("ended open, not held",)),
        (
            {"ends": {"phase": "open"}, "incident": INCIDENT, "then": ({"at": "1m", "set": {"ozon-db": "down"}},)},
            ("1 of its moments did not come",),
        ),
    ],
)
def test_what_differs_is_named(told: dict[str, Any], differs: tuple[str, ...]) -> None:
    assert verdict(**told).differs == differs


def test_time_to_heal_is_that_of_the_incident() -> None:
    assert verdict({"resolution": "healed"}, HEALED).healed_in == timedelta(minutes=7)
