"""The control page: what was planted, what was done to it and what people were told, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from aiohttp import web

from daemon.sandbox.wire import drill
from daemon.sandbox.wire.listener import See
from daemon.sandbox.world import World

_SHOWN = 200
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>orderheal sandbox</title><meta http-equiv="refresh" content="2">
<style>body {{ font: 14px/1.4 sans-serif; margin: 2em }} td, th {{ text-align: left; padding: .2em 1em .2em 0;
vertical-align: top; border-bottom: 1px solid #ddd }} pre {{ white-space: pre-wrap; margin: 0 }}</style></head>
<body><h1>orderheal sandbox</h1><p>World time {now} · <a href="/state">as JSON</a></p>
<h2>Objects</h2><table><tr><th>object<th>fault<th>calls<th>effects<th>told</tr>{objects}</table>
<h2>Messages</h2><table><tr><th>at<th>via<th>to<th>text</tr>{messages}</table></body></html>
"""


def state(world: World) -> Mapping[str, Any]:
    """All that can be seen of the world from outside, as plain values; calls and effects are counted per object."""
    calls = Counter((made.object, made.call) for made in world.calls)
    effects = Counter((effect.object, effect.call) for effect in world.effects)
    repeated = Counter((made.object, made.call) for made in world.calls if made.repeated)
    names = {subject.key: subject.scenario.name for subject in world.subjects}
    return {
        "now": world.now.isoformat(),
        "planted": dict(Counter(names.values())),
        "objects": [
            {
                "object": name,
                "call": call,
                "fault": names.get(name),
                "calls": number,
                "effects": effects[name, call],
                "repeated": repeated[name, call],
            }
            for (name, call), number in sorted(calls.items())
        ],
        "calls": [_plain(made, "call", "object", "at", "word", "effect", "repeated") for made in world.calls],
        "effects": [_plain(effect, "call", "object", "at") for effect in world.effects],
        "messages": [_plain(message, "via", "to", "at", "text") for message in world.messages if message.via != "sentry"],
        "sentry": [dict(message.data) for message in world.messages if message.via == "sentry"],
    }


def _plain(thing: object, *names: str) -> Mapping[str, Any]:
    values = {name: getattr(thing, name) for name in names}
    return {name: value.isoformat() if name == "at" else value for name, value in values.items()}


def page(world: World) -> str:
    """The same for people, the objects that were called for first; what is long is cut."""
    calls = Counter(made.object for made in world.calls)
    effects = Counter(effect.object for effect in world.effects)
    objects = [
        (subject.key, subject.scenario.name, calls[subject.key], effects[subject.key], "yes" if subject.told else "")
        for subject in sorted(world.subjects, key=lambda subject: subject.called is None)[:_SHOWN]
    ]
    messages = [(f"{told.at:%H:%M}", told.via, told.to, told.text) for told in reversed(world.messages[-_SHOWN:])]
    return _PAGE.format(now=f"{world.now:%Y-%m-%d %H:%M}", objects=_rows(objects), messages=_rows(messages))


def _rows(rows: list[tuple[Any, ...]]) -> str:
    return "".join("<tr>" + "".join(f"<td><pre>{escape(str(cell))}</pre>" for cell in row) + "</tr>" for row in rows)


def application(world: World, see: See) -> web.Application:
    """``GET /`` for people, ``GET /state`` for programs, ``POST /drill/…`` for drills."""

    async def people(request: web.Request) -> web.Response:
        return web.Response(text=page(world), content_type="text/html")

    async def programs(request: web.Request) -> web.Response:
        return web.json_response(state(world))

    app = web.Application()
    app.router.add_get("/", people)
    app.router.add_get("/state", programs)
    drill.extend(app, see)
    return app
