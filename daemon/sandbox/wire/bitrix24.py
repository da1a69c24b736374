"""A Bitrix24 portal over HTTP: one incoming webhook, the methods that deals need, and the limits that the portal sets.

    request ─▶ bucket ─▶ secret in the path ─▶ method, or up to fifty of them in a batch ─▶ rows as this user sees them

Held to the documentation and to what public clients recorded, traps included: a batch is HTTP 200 whatever failed in it,
its empty sections are lists, and so are sections whose names are numbers; ``crm.deal.list`` passes over a condition that
it does not know or that is empty, and lists everything; ``crm.item.list`` refuses one; numbers of deals are text in the
one and numbers in the other; text compares without regard to case and trailing blanks.
"""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from daemon.sandbox.systems.bitrix24 import CONNECTOR, DEALS, FIELDS, is_hidden
from daemon.sandbox.wire.listener import See, respond
from daemon.sandbox.world import Fields, Message, Said, Spoken, World

PAGE: Final = 50
COMMANDS: Final = 50
_WINDOW: Final = 600.0  # seconds over which the time of a method is added up


@dataclass(frozen=True, slots=True)
class Limits:
    """What the portal allows: a bucket that lets ``drain`` requests a second out of ``bucket``, and seconds per method."""

    bucket: int = 50
    drain: float = 2.0
    operating: float = 480.0
    cost: float = 0.002
    """Seconds that one command is said to take."""


@dataclass(frozen=True, slots=True)
class User:
    """Whose webhook it is: administrators see everything, others what ``sees`` says."""

    admin: bool = True
    sees: Callable[[Mapping[str, Any]], bool] = lambda deal: True
    scopes: Sequence[str] = ("crm", "im")


class Refused(Exception):
    """An error of the portal: HTTP status, code (which may be empty) and description."""

    def __init__(self, status: int, code: str, description: str = "") -> None:
        super().__init__(description)
        self.status, self.body = status, {"error": code, "error_description": description}


class Instead(Exception):
    """The world's own answer, in the place of the portal's."""

    def __init__(self, said: Said) -> None:
        super().__init__()
        self.said = said


def environment(url: str, token: str) -> Mapping[str, str]:
    """The webhook's address under the name by which ``config.yaml`` asks for it."""
    return {"BITRIX24_WEBHOOK_URL": f"{url}/rest/1/{token}/"}


def application(see: See, token: str) -> web.Application:
    """The portal behind an administrator's webhook, with the limits of the largest plan."""
    return Portal(token, see, limits=Limits(bucket=250, drain=5.0)).application()


# ── Parameters as PHP reads them ─────────────────────────────────────────────────────────────────────────────────────


def parameters(query: str) -> dict[str, Any]:
    """``filter[@ID][]=1&filter[@ID][]=2`` as nested maps; a list is a map of numbers."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        keys = [name.partition("[")[0], *re.findall(r"\[([^\]]*)\]", name)]
        node = tree
        for key, following in zip(keys, [*keys[1:], None], strict=True):
            key = key or str(len(node))
            if following is None:
                node[key] = value
            else:
                below = node.setdefault(key, {})
                node = below if isinstance(below, dict) else {}
    return tree


def _lower(given: Mapping[str, Any]) -> dict[str, Any]:
    """The names of a method's parameters count in either case."""
    return {str(name).lower(): value for name, value in given.items()}


def _list(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]


def php(section: Mapping[str, Any]) -> Any:
    """A section as PHP writes it: a list when it is empty or its names are 0, 1, 2 …"""
    return list(section.values()) if list(section) == [str(number) for number in range(len(section))] else dict(section)


# ── Deals as a user sees them ────────────────────────────────────────────────────────────────────────────────────────

_OLD: Final = {"ID": "id", "TITLE": "title", "STAGE_ID": "stage", "DATE_CREATE": "created_at", "ORIGIN_ID": "origin"}
_NEW: Final = {"id": "id", "title": "title", "stageId": "stage", "createdTime": "created_at", "originId": "origin"}
_PORTAL: Final = {name: own for own, name in FIELDS.items()}
_CAMEL: Final = {"ufCrm_" + name.removeprefix("UF_CRM_"): own for name, own in _PORTAL.items()}
_CONDITION: Final = re.compile(r"(!=%|!%=|>=|<=|!@|!=|!%|=%|%=|[@!><=%])?(.*)", re.DOTALL)


def _loose(value: Any) -> str:
    """As the portal's database compares text."""
    return str(value).rstrip().casefold()


@dataclass
class View:
    """The deals that a user sees, in the order of their numbers, with the ways in that lists take; ``all`` there are."""

    rows: Mapping[str, Fields]
    all: Mapping[str, Fields]
    now: datetime

    @cached_property
    def numbers(self) -> list[int]:
        return sorted(map(int, self.rows))

    @cached_property
    def _indexes(self) -> dict[str, dict[str, list[int]]]:
        return {}

    def having(self, own: str, values: Iterable[Any]) -> list[int]:
        """The numbers of the deals in which the field has one of the values."""
        if own == "id":
            return sorted({int(text) for value in values if (text := str(value).strip()).isdigit() and str(int(text)) in self.rows})
        if own not in self._indexes:
            index: dict[str, list[int]] = {}
            for number, row in self.rows.items():
                if row.get(own) not in (None, ""):
                    index.setdefault(_loose(row[own]), []).append(int(number))
            self._indexes[own] = index
        return sorted({number for value in values for number in self._indexes[own].get(_loose(value), ())})

    def chosen(self, conditions: Iterable[tuple[str, str, Any]]) -> Sequence[int]:
        """The numbers of the deals that all conditions (operator, our field, value) let through."""
        chosen: Sequence[int] = self.numbers
        for sign, own, value in conditions:
            match sign:
                case "" | "=" | "@":
                    some = set(self.having(own, _list(value)))
                    chosen = sorted(some) if chosen is self.numbers else [number for number in chosen if number in some]
                case ">" | ">=" | "<" | "<=" if own == "id":
                    chosen = _between(chosen, sign, int(value) if str(value).isdigit() else 0)
                case ">" | ">=" | "<" | "<=":
                    chosen = [number for number in chosen if _compares(self.rows[str(number)].get(own), sign, value)]
                case "!" | "!=" | "!@":
                    some = set(self.having(own, _list(value)))
                    empty = value == ""
                    chosen = [n for n in chosen if n not in some and not (empty and self.rows[str(n)].get(own) in (None, ""))]
                case _:
                    raise Refused(400, "INVALID_ARG_VALUE", f"the sandbox does not know the condition {sign!r}")
        return chosen


def _between(numbers: Sequence[int], sign: str, bound: int) -> Sequence[int]:
    match sign:
        case ">":
            return numbers[bisect_right(numbers, bound) :]
        case ">=":
            return numbers[bisect_left(numbers, bound) :]
        case "<":
            return numbers[: bisect_left(numbers, bound)]
    return numbers[: bisect_right(numbers, bound)]


def _compares(value: Any, sign: str, bound: Any) -> bool:
    if isinstance(value, datetime):
        bound = datetime.fromisoformat(str(bound))
    if value is None:
        return False
    less, equal = bool(value < bound), value == bound
    return {"<": less, "<=": less or equal, ">": not less and not equal, ">=": not less}[sign]


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value


def _told(row: Fields, names: Mapping[str, str], select: Sequence[str]) -> dict[str, Any]:
    """A deal in the words of one family of methods; ``select`` without a known name means all."""
    wanted = {name for name in names if name in select or "*" in select or ("UF_*" in select and name.startswith("UF_"))}
    return {name: _plain(row.get(own)) for name, own in names.items() if not select or name in wanted or name in ("ID", "id")}


# ── The portal ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Portal:
    """One portal behind one webhook. ``tick`` gives the monotonic seconds that its limits count by."""

    secret: str
    see: See
    user: User = field(default_factory=User)
    limits: Limits = field(default_factory=Limits)
    tick: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    requests: int = 0
    refused: int = 0
    _level: float = 0.0
    _drained: float = 0.0
    _used: deque[tuple[float, str, float]] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def application(self) -> web.Application:
        """Its HTTP face."""
        app = web.Application(client_max_size=32 * 1024**2)
        app.router.add_route("*", "/rest/{user}/{secret}/{method}", self._answer)
        app.router.add_route("*", "/{path:.*}", _stranger)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        try:
            self._fill_bucket()
            if request.match_info["secret"] != self.secret:
                raise Refused(401, "NO_AUTH_FOUND", "Wrong authorization data")
            given = await _given(request)
            view = await self.see(self._view)
            method = request.match_info["method"].removesuffix(".json").lower()
            body = await (self._batch(given, view) if method == "batch" else self._one(method, given, view))
        except Refused as refused:
            self.refused += refused.status == 503
            return web.json_response(refused.body, status=refused.status)
        except Instead as instead:
            return await respond(request, instead.said)
        return web.json_response(body)

    def _view(self, world: World) -> View:
        rows = world.rows[DEALS]
        hidden = {number for number, row in rows.items() if is_hidden(row) or not (self.user.admin or self.user.sees(row))}
        seen = {number: row for number, row in rows.items() if number not in hidden} if hidden else rows
        return View(seen, rows, world.now)

    def _fill_bucket(self) -> None:
        now = self.tick()
        self._level = max(0.0, self._level - (now - self._drained) * self.limits.drain)
        self._drained = now
        if self._level + 1 > self.limits.bucket:
            raise Refused(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
        self._level += 1

    async def _one(self, method: str, given: Mapping[str, Any], view: View) -> dict[str, Any]:
        """One method: ``result``, perhaps ``total`` and ``next``, and ``time``."""
        handler = _METHODS.get(method)
        if handler is None:
            raise Refused(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
        if (scope := method.partition(".")[0]) in ("crm", "im") and scope not in self.user.scopes:
            raise Refused(403, "insufficient_scope", "The request requires higher privileges than provided by the access token")
        if self._spent(method) >= self.limits.operating:
            raise Refused(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.")
        self._used.append((self.tick(), method, self.limits.cost))
        said = await handler(self, _lower(given), view)
        return {**said, "time": self._time(method, self.limits.cost, view.now)}

    def _spent(self, method: str) -> float:
        while self._used and self._used[0][0] < self.tick() - _WINDOW:
            self._used.popleft()
        return sum(seconds for _, name, seconds in self._used if name == method)

    def _time(self, method: str, took: float, end: datetime) -> dict[str, Any]:
        start = end - timedelta(seconds=took)
        return {
            "start": start.timestamp(),
            "finish": end.timestamp(),
            "duration": took,
            "processing": took,
            "date_start": start.isoformat(timespec="seconds"),
            "date_finish": end.isoformat(timespec="seconds"),
            "operating_reset_at": int(end.timestamp() + _WINDOW),
            "operating": self._spent(method),
        }

    async def _batch(self, given: Mapping[str, Any], view: View) -> dict[str, Any]:
        """Commands one after another; what is no text is passed over, what is too much or goes wrong is an error of its own."""
        commands = _lower(given).get("cmd") or {}
        named = commands if isinstance(commands, dict) else {str(number): command for number, command in enumerate(commands)}
        halt = str(_lower(given).get("halt", 0)).lower() in ("1", "true", "y")
        done: dict[str, dict[str, Any]] = {"result": {}, "result_error": {}, "result_total": {}, "result_next": {}, "result_time": {}}
        for place, (name, command) in enumerate(named.items()):
            if not isinstance(command, str):
                continue
            try:
                said = await self._command(command, view, place, done["result"])
            except Refused as refused:
                done["result_error"][str(name)] = refused.body
                if halt:
                    break
                continue
            for key, section in (("result", "result"), ("total", "result_total"), ("next", "result_next"), ("time", "result_time")):
                if key in said:
                    done[section][str(name)] = said[key]
        seconds = self.limits.cost * len(done["result_time"])
        return {"result": {name: php(section) for name, section in done.items()}, "time": self._time("batch", seconds, view.now)}

    async def _command(self, command: str, view: View, place: int, before: Mapping[str, Any]) -> dict[str, Any]:
        if place >= COMMANDS:
            raise Refused(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
        method, _, query = command.partition("?")
        if method.lower() == "batch":
            raise Refused(405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
        return await self._one(method.strip().lower(), _referred(parameters(query), before), view)

    # Methods

    async def _deal_list(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        names = _OLD | _PORTAL
        conditions = []
        for written, value in _dict(given.get("filter")).items():
            sign, name = _sign(written)
            if name in names and value not in ({}, []):  # a condition that it does not know is none
                conditions.append((sign, names[name], value))
        numbers, more = _page(view.chosen(conditions), given, "ID")
        select = [str(name) for name in _list(given.get("select") or [])]
        rows = [_told(view.rows[str(number)], names, select) for number in numbers]
        return {"result": [{**row, "ID": str(row["ID"])} for row in rows], **more}

    async def _item_list(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        _deals_only(given)
        names = _item_names(given)
        conditions = []
        for written, value in _dict(given.get("filter")).items():
            sign, name = _sign(written)
            if name not in names:
                raise Refused(400, "INVALID_ARG_VALUE", f"Invalid filter: field '{name}' is not allowed in filter")
            if value not in ({}, []):
                conditions.append((sign, names[name], value))
        for name in _dict(given.get("order")):
            if name.lower() not in {known.lower() for known in names}:
                raise Refused(400, "INVALID_ARG_VALUE", f"Invalid order: field '{name}' is not allowed in order")
        numbers, more = _page(view.chosen(conditions), given, "id")
        select = [str(name) for name in _list(given.get("select") or [])]
        return {"result": {"items": [_item(view.rows[str(number)], names, select) for number in numbers]}, **more}

    async def _deal_get(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        row = view.rows.get(_number(given, ""))
        if row is None:
            raise Refused(400, "", "Not found")
        return {"result": {**_told(row, _OLD | _PORTAL, ()), "ID": str(row["id"])}}

    async def _item_get(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        _deals_only(given)
        number = _number(given, "NOT_FOUND")
        row = view.rows.get(number)
        if row is None and number in view.all:
            raise Refused(400, "ACCESS_DENIED", "You do not have permission to view this item")
        if row is None:
            raise Refused(400, "NOT_FOUND", "Item not found")
        return {"result": {"item": _item(row, _item_names(given), ())}}

    async def _item_fields(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        _deals_only(given)
        upper = {new: old for new, own in _NEW.items() for old, same in _OLD.items() if own == same} | {name: name for name in _PORTAL}
        upper |= {camel: "UF_CRM_" + camel.removeprefix("ufCrm_") for camel in _CAMEL}
        fields = {name: {"type": "string", "isMultiple": False, "title": name, "upperName": upper[name]} for name in _item_names(given)}
        return {"result": {"fields": fields}}

    async def _deal_update(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        args = {"id": _number(given, ""), "fields": _dict(given.get("fields"))}
        await self._performed("update_deal", args, Refused(400, "", "Not found"))
        return {"result": True}

    async def _comment_add(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        fields = _dict(given.get("fields"))
        if not {"ENTITY_ID", "ENTITY_TYPE"} <= fields.keys():
            raise Refused(400, "100", "Could not find value for parameter {fields}")
        if not str(fields.get("COMMENT", "")).strip():
            raise Refused(400, "INVALID_ARG_VALUE", "Empty comment message")
        if fields["ENTITY_TYPE"] != "deal":
            raise Refused(400, "OWNER_NOT_FOUND", "Owner was not found")
        args = {"deal_id": str(fields["ENTITY_ID"]), "text": str(fields["COMMENT"])}
        await self._performed("add_comment", args, Refused(400, "OWNER_NOT_FOUND", "Owner was not found"))
        return {"result": next(self._numbers)}

    async def _performed(self, call: str, args: Mapping[str, Any], refusal: Refused) -> None:
        _heard(await self.see(lambda world: world.perform(f"{CONNECTOR}.{call}", args, "", world.now)), refusal)

    async def _message_add(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        chat, text = str(given.get("dialog_id") or ""), str(given.get("message") or "")
        if not re.fullmatch(r"(chat|sg)?\d+", chat):
            raise Refused(400, "CHAT_ID_EMPTY", "Chat ID can't be empty")
        if not text.strip():
            raise Refused(400, "MESSAGE_EMPTY", "Message can't be empty")
        said = await self.see(lambda world: self._told(world, chat, _unmarked(text), given))
        _heard(said, Refused(400, "ACCESS_ERROR", "You do not have access to the specified dialog"))
        return {"result": next(self._numbers)}

    def _told(self, world: World, chat: str, text: str, given: Mapping[str, Any]) -> Said:
        said = world.perform(f"{CONNECTOR}.deliver", {}, "", world.now)
        if isinstance(said, Spoken) and said.status == 200:
            world.tell(Message(CONNECTOR, chat, text, world.now, given))
        return said

    async def _profile(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        return {"result": {"ID": "1", "ADMIN": self.user.admin, "NAME": "orderheal", "LAST_NAME": "", "TIME_ZONE_OFFSET": 10800}}

    async def _scope(self, given: dict[str, Any], view: View) -> dict[str, Any]:
        return {"result": list(self.user.scopes)}


Method = Callable[[Portal, dict[str, Any], View], Awaitable[dict[str, Any]]]
_METHODS: Final[Mapping[str, Method]] = {
    "crm.deal.list": Portal._deal_list,
    "crm.deal.get": Portal._deal_get,
    "crm.deal.update": Portal._deal_update,
    "crm.item.list": Portal._item_list,
    "crm.item.get": Portal._item_get,
    "crm.item.fields": Portal._item_fields,
    "crm.timeline.comment.add": Portal._comment_add,
    "im.message.add": Portal._message_add,
    "profile": Portal._profile,
    "scope": Portal._scope,
}


_REFERENCE: Final = re.compile(r"\$result((?:\[[^\]]*\])+)")


def _referred(given: Any, results: Mapping[str, Any]) -> Any:
    """Parameters with what they take from the results of commands before; nothing stands where there is none."""
    if isinstance(given, dict):
        return {name: _referred(value, results) for name, value in given.items()}
    return _REFERENCE.sub(lambda match: _below(results, re.findall(r"\[([^\]]*)\]", match[1])), given)


def _below(node: Any, path: Sequence[str]) -> str:
    for key in path:
        named = node if isinstance(node, Mapping) else dict(enumerate(node)) if isinstance(node, list) else {}
        node = named.get(int(key) if isinstance(node, list) and key.isdigit() else key, "")
    return str(node)


async def _given(request: web.Request) -> dict[str, Any]:
    """The parameters, from the address and from a body of JSON or of a form."""
    data = await request.read()
    try:
        body = json.loads(data) if data.lstrip().startswith(b"{") else parameters(data.decode())
    except ValueError:
        raise Refused(400, "INVALID_REQUEST", "The request body cannot be read") from None
    return parameters(request.query_string) | body


async def _stranger(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="<html><body>404 Not Found</body></html>", content_type="text/html")


def _heard(said: Said, refusal: Refused) -> None:
    """Go on when the world did it; otherwise its word, in the portal's way."""
    if not isinstance(said, Spoken):
        raise Instead(said)
    match said.status:
        case 422:
            raise refusal
        case 429:
            raise Refused(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
        case 500:
            raise Refused(500, "INTERNAL_SERVER_ERROR", "Internal server error")
    if "json" not in said.headers.get("Content-Type", ""):
        raise Instead(said)


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {str(number): each for number, each in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _sign(written: str) -> tuple[str, str]:
    match = _CONDITION.fullmatch(written)
    assert match is not None  # it takes any text
    return match[1] or "", match[2]


def _page(numbers: Sequence[int], given: Mapping[str, Any], key: str) -> tuple[Sequence[int], dict[str, int]]:
    """A page of fifty. With ``start=-1`` nothing is counted: no total that means anything, no ``next``."""
    order = {name.lower(): str(way).lower() for name, way in _dict(given.get("order")).items()}
    if order.get(key.lower(), "asc") == "desc":
        numbers = numbers[::-1]
    start = int(given.get("start") or 0)
    if start < 0:
        return numbers[:PAGE], {"total": 0}
    more = {"next": start + PAGE} if start + PAGE < len(numbers) else {}
    return numbers[start : start + PAGE], {**more, "total": len(numbers)}


def _deals_only(given: Mapping[str, Any]) -> None:
    if str(given.get("entitytypeid")) != "2":
        raise Refused(400, "NOT_FOUND", "SPA not found")


def _item_names(given: Mapping[str, Any]) -> Mapping[str, str]:
    return _NEW | (_PORTAL if str(given.get("useoriginalufnames", "N")).upper() in ("Y", "TRUE", "1") else _CAMEL)


def _item(row: Fields, names: Mapping[str, str], select: Sequence[str]) -> dict[str, Any]:
    told = _told(row, names, select)
    return {**told, "id": int(str(row["id"]))}


def _number(given: Mapping[str, Any], code: str) -> str:
    number = str(given.get("id", ""))
    if not number.isdigit() or int(number) < 1:
        raise Refused(400, code, "ID is not defined or invalid.")
    return str(int(number))


def _unmarked(text: str) -> str:
    """A message as people read it."""
    return re.sub(r"\[/?(?:B|I|U|S)\]", "", text).replace("\u2060", "")
