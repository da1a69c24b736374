"""What a shop's integration would offer for drills: make a broken order under a given key, and take it away again.

For the first shop alone, at the control page's address. The order is planted like a fault, so that the world treats it
like any other: one heals at the first call, one is refused for good.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web

from daemon.sandbox.scenario import parse_all
from daemon.sandbox.shops import SHOPS, Shop
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.wire.listener import See
from daemon.sandbox.world import World

PREFIX: Final = "DRILL-"
"""How keys must begin: nothing else is planted or removed here."""

_ANSWERS: Final = {"plant": "done", "plant_hopeless": "refused"}


def extend(app: web.Application, see: See) -> None:
    """Add ``POST /drill/plant``, ``/drill/plant_hopeless`` and ``/drill/remove`` to a server."""
    for name, answer in _ANSWERS.items():
        app.router.add_post(f"/drill/{name}", partial(_serve, see, partial(_plant, SHOPS[0], answer)))
    app.router.add_post("/drill/remove", partial(_serve, see, partial(_remove, SHOPS[0])))


async def _serve(see: See, act: Callable[[str, World], None], request: web.Request) -> web.StreamResponse:
    try:
        said = json.loads(await request.read())
    except ValueError:
        said = None
    key = said.get("id") if isinstance(said, dict) else None
    if not isinstance(key, str) or not key.startswith(PREFIX):
        return web.json_response({"success": False, "error": f"id is wanted, and must begin with {PREFIX}"}, status=400)
    await see(partial(act, key))
    return web.json_response({"success": True})


def _plant(shop: Shop, answer: str, key: str, world: World) -> None:
    planted = {
        "name": f"drill {key}",
        "rule": f"{shop.name}-order-not-sent",
        "world": {shop.orders: [{"posting_number": key}]},
        "calls": {f"{shop.service}.{shop.method}": answer},
    }
    for scenario in parse_all([planted]):
        world.plant(scenario, world.now)


def _remove(shop: Shop, key: str, world: World) -> None:
    """The order, and the deals that were made of it."""
    for deal in world.find(DEALS, "posting_number", key):
        world.remove(DEALS, str(deal["id"]))
    world.remove(shop.orders, key)
