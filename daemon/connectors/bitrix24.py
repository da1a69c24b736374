"""A Bitrix24 portal: are the deals there, a comment, a field, a message to a chat; over one incoming webhook.

    ask ─▶ witness ─▶ batches of ``crm.item.list``, 50 keys a command, 50 commands a request ─▶ judged ─▶ Answer each
                      fresh: each absence once more by itself (``crm.item.get``, or a list for that one key)

A batch is HTTP 200 though everything in it failed, a list says nothing of what its user may not see, and an older list
method leaves out a filter that it does not know. So absence is earned (law 14): the command must have been answered,
every row must be one that was asked for, a deal that was seen a moment ago must be found in the very same request, and
the webhook's user must be one from whom no deal is hidden. Fifty rows are a whole page: where several deals may have a
number, 49 are asked for at once, so that a fiftieth row betrays that there may be more.

How much goes into a request adapts to how long the portal takes: it ends a request after 60 s, and blocks a method that
used too much time within ten minutes. The webhook's secret stands in its URL: it is added on the wire and kept nowhere.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from pydantic import Field as Setting
from pydantic import StringConstraints

from daemon.domain.attempt import CONNECTOR_ILL, Outcome, Request, Result
from daemon.domain.notice import Dispatch
from daemon.domain.shape import Absent, Answer, Call, Field, FieldType, Page, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools
from daemon.language.mistake import Mistake
from daemon.net import Client, Failed, Response, not_recognised
from daemon.settings import ConnectorSettings, Duration, Rate, RateText, Secret, Settings

PAGE: Final = 50
"""Rows of a page, always, and keys that one command asks for."""

COMMANDS: Final = 50
"""Commands of a batch at most."""

LONGEST: Final = 20_000
"""Characters of a message; a longer one would be cut by the portal."""

_DEAL: Final = 2  # entityTypeId
_ABREAST: Final = 3  # batches on their way at once: a slow portal then still gets its two requests a second
_RECENTLY: Final = 600.0  # seconds for which a deal that was seen is a witness
_PATIENCE: Final = 3  # failed requests after which a question gives up
_SLOW, _QUICK = 20.0, 5.0  # seconds of a batch above which the next is half as large, below which it may grow
_OPERATING: Final = 250.0  # seconds of a method within ten minutes; documented limit 480, seen in the server's code 420
_BAN: Final = timedelta(minutes=5)
_LEFT_ALONE: Final = frozenset({"OPERATION_TIME_LIMIT", "OVERLOAD_LIMIT"})  # refusals that asking again makes worse


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PortalField = Annotated[str, StringConstraints(pattern=r"^(UF_CRM_[A-Z0-9_]+|ORIGIN_ID)$")]


class Bitrix24Settings(ConnectorSettings):
    """A portal, reached by an incoming webhook with the permissions `crm`, and `im` to write into chats."""

    url: Secret = Setting(description="The webhook's address: https://PORTAL/rest/USER/SECRET/.")
    rate: RateText | None = Setting(
        Rate(2, timedelta(seconds=1)), description="Requests to the portal, shared by all replicas; it allows 2/s, Enterprise 5/s."
    )
    timeout: Duration = Setting(timedelta(seconds=60), description="Bound on one request; the portal itself ends one after 60s.")
    fingerprint: str | None = Setting(None, description="The portal's host, against a wrong environment.")
    deal_fields: dict[str, PortalField] = Setting(
        {},
        description="Our name: the portal's field with a number by which deals are asked for (UF_CRM_…, ORIGIN_ID); single-valued.",
    )
    reads_all_deals: bool = Setting(
        False,
        description="The webhook's user is no administrator, but its role may read every deal. Otherwise no deal of such a user is absent.",
    )


class Bitrix24Address(Settings):
    """Where in the portal's messenger a contact is."""

    chat: str = Setting(description="A chat (chat512), a group's chat (sg7) or a person's number (42).", pattern=r"^(chat|sg)?\d+$")


_WEBHOOK: Final = re.compile(r"(https?://[^/?#@\s]+)/rest/(\d+/[A-Za-z0-9]+)/?")
_OWN: Final = ("id", "title", "stage", "url", "created_at")


def _lint(name: str, settings: Bitrix24Settings, at: At) -> Sequence[Mistake]:
    """What the model cannot say: the form of the address, and names that are taken."""
    found = []
    match = _WEBHOOK.fullmatch(settings.url.reveal())
    host = urlsplit(match[1]).hostname if match else None
    if match is None:
        found.append(("url", "url: must be a webhook's address such as https://portal.bitrix24.ru/rest/1/SECRET/"))
    elif settings.fingerprint and settings.fingerprint != host:
        found.append(("url", f'url: its host is not "{settings.fingerprint}", as fingerprint says it must be'))
    if match and match[1].startswith("http:") and host not in ("localhost", "127.0.0.1"):
        found.append(("url", "url: holds a secret and goes over plain http; use https"))
    mistakes = [Mistake.at(at((key,)), message) for key, message in found]
    for own in settings.deal_fields:
        if own in _OWN or not re.fullmatch(r"[a-z][a-z0-9_]*", own):
            message = f'deal_fields: "{own}" is the name of a field already or none; use small letters, such as market_order_id'
            mistakes.append(Mistake.at(at(("deal_fields", own)), message))
    return mistakes


def _shape(settings: Bitrix24Settings) -> Shape:
    text, identifier = Field(FieldType.STRING), Field(FieldType.STRING, nullable=True, role=Role.IDENTIFIER)
    fields = {
        "id": Field(FieldType.STRING, role=Role.IDENTIFIER),
        "title": text,
        "stage": text,
        "url": text,
        "created_at": Field(FieldType.TIMESTAMP),
    } | dict.fromkeys(settings.deal_fields, identifier)
    by = frozenset({"id", *settings.deal_fields})
    deals = Records(fields, key="id", by=by, where="params", params={"within": FieldType.DURATION})
    calls = {
        "update_deal": Call(frozenset({"id", "fields"}), idempotent=True),
        "add_comment": Call(frozenset({"deal_id", "text"})),
    }
    return Shape({"deals": deals}, calls, channel=True)


# ── Questions and what is said to them ───────────────────────────────────────────────────────────────────────────────

_PLACES: Final = {"id": "id", "title": "title", "stage": "stageId", "created_at": "createdTime"}
_ITEM_NAMES: Final = {"ORIGIN_ID": "originId"}  # `crm.item.*` has its own names for all but the portal's own fields


def places(deal_fields: Mapping[str, str]) -> Mapping[str, str]:
    """Our fields of a deal, and where they stand in an item of ``crm.item.list``."""
    return _PLACES | {own: _ITEM_NAMES.get(name, name) for own, name in deal_fields.items()}


def listing(select: Iterable[str], conditions: Iterable[tuple[str, str]], order: str = "ASC") -> str:
    """A command of a batch: a page of deals by number, uncounted, with the portal's fields under their own names."""
    return "crm.item.list?" + urlencode(list(_parameters(select, conditions, order)))


def _parameters(select: Iterable[str], conditions: Iterable[tuple[str, str]], order: str) -> Iterator[tuple[str, str]]:
    yield from (("entityTypeId", str(_DEAL)), ("useOriginalUfNames", "Y"), ("start", "-1"), ("order[id]", order))
    yield from (("select[]", name) for name in select)
    yield from ((f"filter[{condition}", value) for condition, value in conditions)


def asking(where: Mapping[str, str], by: str, keys: Iterable[str]) -> str:
    """A command that asks for the deals with these keys; never without any, which would ask for all."""
    conditions = [(f"@{where[by]}][]", key) for key in keys]
    assert conditions, "a list without a filter lists everything"
    return listing(where.values(), conditions)


def _getting(key: str) -> str:
    return "crm.item.get?" + urlencode({"entityTypeId": _DEAL, "id": key, "useOriginalUfNames": "Y"})


@dataclass(frozen=True, slots=True)
class Batch:
    """What a portal said to a batch, by the names of the commands. ``seconds`` and ``operating``: how long it took."""

    results: Mapping[str, Any]
    errors: Mapping[str, Any]
    seconds: float = 0.0
    operating: float = 0.0
    reset_in: float | None = None

    def said(self, name: str) -> Any:
        """The result of a command; ``Unknown`` for an error, for both, and for neither."""
        if name in self.errors:
            return Unknown(_code(self.errors[name]) or "an error without a word")
        return self.results[name] if name in self.results else Unknown("the command was not answered")


def opened(answer: Response | Failed) -> Batch | Unknown:
    """An answer to a batch, or why it is none."""
    if isinstance(answer, Failed):
        return Unknown(answer.reason)
    body = answer.body
    if answer.status != 200 or not isinstance(body, Mapping) or "error" in body:
        code = _code(body)
        return Unknown(f"status {answer.status}" + (f", {code}" if code else ""))
    result = body.get("result")
    sections = [_section(result.get(name)) if isinstance(result, Mapping) else None for name in ("result", "result_error", "result_time")]
    results, errors, times = sections
    if results is None or errors is None:
        return Unknown("the answer is none to a batch")
    took = [_mapping(each) for each in (times or {}).values()]
    operating = max((_seconds(each.get("operating")) for each in took), default=0.0)
    resets = [_seconds(each["operating_reset_at"]) - _seconds(each.get("finish")) for each in took if "operating_reset_at" in each]
    return Batch(results, errors, _seconds(_mapping(body.get("time")).get("duration")), operating, max(resets, default=None))


def _section(value: object) -> Mapping[str, Any] | None:
    """A section by name; an empty one comes as a list, and one whose names are numbers as a list without them."""
    if isinstance(value, Mapping):
        return value
    return {} if value == [] else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _code(body: object) -> str:
    """An error's code, and its description where there is no code."""
    error = _mapping(body)
    return str(error.get("error") or error.get("error_description") or "")[:200]


class Spoilt(Exception):
    """A row that nobody asked for: the filter did not filter, and nothing in the answer counts (law 14)."""


CROWDED: Final = Unknown("more deals may have this number than a page holds")


def found(result: Any, by: str, keys: Sequence[str], where: Mapping[str, str], portal: str) -> Mapping[str, Answer]:
    """What a list says of each key that its command asked for. Raises ``Spoilt``.

    An absence in it is not earned yet: that needs the witness.
    """
    if isinstance(result, Unknown):
        return dict.fromkeys(keys, result)
    items = _mapping(result).get("items")
    if not isinstance(items, list):
        return dict.fromkeys(keys, Unknown("the answer holds no list of deals"))
    deals: dict[str, dict[str, Record]] = {key: {} for key in keys}
    doubts: dict[str, Unknown] = {}
    for item in items:
        deal = record(_mapping(item), where, portal)
        for key in _owners(_mapping(item), by, keys, where, doubts):
            if str(deal["id"]) in deals[key]:
                raise Spoilt(f"the answer holds deal {deal['id']} twice")
            deals[key][str(deal["id"])] = deal
    if len(items) >= PAGE and by != "id":
        return dict.fromkeys(keys, CROWDED)
    answers: dict[str, Answer] = {key: Present(tuple(some.values())) if some else Absent() for key, some in deals.items()}
    return answers | doubts


def _owners(
    item: Mapping[str, Any], by: str, keys: Collection[str], where: Mapping[str, str], doubts: dict[str, Unknown]
) -> Collection[str]:
    """Whose answer a row is. Raises ``Spoilt`` when it is nobody's.

    A database may compare more loosely than we do: a number in another writing is doubtful, not foreign.
    """
    number = identifier(item.get("id"))
    values = item.get(where[by])
    own = {identifier(value) for value in (values if isinstance(values, list) else [values])}
    if mine := [key for key in keys if key in own]:
        if isinstance(number, str) and re.fullmatch(r"\d+", number):
            return mine
        raise Spoilt("the answer holds a deal without a number")
    loose = {value.casefold() for value in own if isinstance(value, str)}
    if near := [key for key in keys if key.casefold() in loose]:
        doubts.update(dict.fromkeys(near, Unknown(f"deal {number} has it in another writing")))
        return ()
    raise Spoilt(f"the answer holds a deal that was not asked for ({where[by]}); if it does so again, check deal_fields")


def record(item: Mapping[str, Any], where: Mapping[str, str], portal: str) -> Record:
    """A deal as a record of ours."""
    number = identifier(item.get("id"))
    deal: dict[str, Value] = {
        "id": number if isinstance(number, str) else Unknown("the deal has no number"),
        "title": _text(item.get("title")),
        "stage": _text(item.get("stageId")),
        "url": f"{portal}/crm/deal/details/{number}/",
        "created_at": _moment(item.get("createdTime")),
    }
    for own, name in where.items():
        if own not in deal:
            deal[own] = identifier(item[name]) if name in item else Unknown(f"the portal gives no field {name}; check deal_fields")
    return deal


def identifier(value: object) -> str | Unknown | None:
    """A number as text, however it came: as text, as a number, in a list; what is empty is null."""
    match value:
        case None | "" | False | []:
            return None
        case str():
            return value.strip() or None
        case int() if not isinstance(value, bool):
            return str(value)
        case [only]:
            return identifier(only)
        case list():
            return Unknown("has several values")
    return Unknown("is no number and no text")


def _text(value: object) -> Value:
    return value if isinstance(value, str) else Unknown("is missing in the answer")


def _moment(value: object) -> Value:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.astimezone(UTC) if moment and moment.tzinfo else Unknown("is no time with a zone")
    except (ValueError, OverflowError):
        return Unknown("is no time with a zone")


@dataclass(frozen=True, slots=True)
class Witness:
    """Deals that were just seen, a key for each way of asking, and until when (monotonic) that counts as just now.

    ``hidden``: why deals may be there that this webhook's user does not see; then nothing is ever absent.
    """

    keys: Mapping[str, str]
    until: float
    hidden: str = ""


def witnessed(batch: Batch, where: Mapping[str, str], by: Iterable[str], reads_all: bool, until: float) -> Witness | Unknown:
    """The witness out of the answers to ``who`` and ``newest``."""
    newest = _mapping(batch.said("newest")).get("items")
    if not isinstance(newest, list):
        said = batch.said("newest")
        return said if isinstance(said, Unknown) else Unknown("the newest deals were not told")
    keys: dict[str, str] = {}
    for each in by:
        values = [identifier(_mapping(item).get(where[each])) for item in newest]
        if seen := [value for value in values if isinstance(value, str)]:
            keys[each] = seen[0]
    admin = _mapping(batch.said("who")).get("ADMIN") is True
    return Witness(keys, until, "" if admin or reads_all else _HIDDEN)


_CONTROL: Final = "control"
_NO_WITNESS: Final = "no deal with such a number is known that could tell whether deals are found at all"
_HIDDEN: Final = (
    "deals may be hidden from the webhook's user, who is no administrator; if its role reads every deal, say reads_all_deals: true"
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many commands go into a batch, and until when (database time) the portal is not asked for deals."""

    commands: int = COMMANDS
    rests_until: datetime | None = None

    def after(self, batch: Batch | Unknown, sent: int, now: datetime) -> Pace:
        """The pace that an answer asks for: half as much when it failed or was slow, more again when a whole one was quick."""
        slower = replace(self, commands=max(1, self.commands // 2))
        if isinstance(batch, Unknown):
            return slower
        if batch.operating >= _OPERATING or any(_code(error) == "OPERATION_TIME_LIMIT" for error in batch.errors.values()):
            return replace(slower, rests_until=now + _rest(batch))
        if batch.seconds >= _SLOW:
            return slower
        grows = sent >= self.commands and batch.seconds < _QUICK
        return replace(self, commands=min(COMMANDS, self.commands * 2)) if grows else self


def _rest(batch: Batch) -> timedelta:
    """Until the portal forgets the oldest minute of what we used, bounded by its ban."""
    return min(timedelta(seconds=max(batch.reset_in, 1.0)), 2 * _BAN) if batch.reset_in is not None else _BAN


# ── Effects ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_METHODS: Final = {"update_deal": "crm.deal.update", "add_comment": "crm.timeline.comment.add"}
_ILL: Final = frozenset(
    {
        "NO_AUTH_FOUND", "EXPIRED_TOKEN", "INVALID_TOKEN", "INSUFFICIENT_SCOPE", "INVALID_CREDENTIALS", "USER_ACCESS_ERROR",
        "ALLOWED_ONLY_INTRANET_USER", "PAYMENT_REQUIRED", "PORTAL_DELETED", "OVERLOAD_LIMIT",
    }
)  # fmt: skip


def classify(answer: Response, succeeded: Callable[[Any], bool], now: datetime) -> Outcome:
    """What became of an effect: by the error's code first, by the status second. ``now`` is database time."""
    body = _mapping(answer.body)
    if "error" not in body:
        done = answer.status == 200 and succeeded(body.get("result"))
        return Outcome(Result.DONE, reference=_reference(body["result"])) if done else not_recognised(answer)
    code, reason = str(body["error"]).upper(), f"status {answer.status}, {_code(body)}"
    if code == "QUERY_LIMIT_EXCEEDED":
        return Outcome(Result.LATER, reason, now + timedelta(seconds=2))
    if code == "OPERATION_TIME_LIMIT":
        return Outcome(Result.LATER, reason, now + _BAN)
    if code in _ILL or answer.ill:
        return Outcome(Result.LATER, CONNECTOR_ILL, now + _BAN if code == "OVERLOAD_LIMIT" else None)
    if answer.status in (400, 404, 405, 409, 422):
        return Outcome(Result.REFUSED, reason)
    return Outcome(Result.UNKNOWN, reason)


def _reference(result: Any) -> str:
    return "" if isinstance(result, bool) else str(result)


def _is_number(result: Any) -> bool:
    return isinstance(result, int) and not isinstance(result, bool) and result > 0


_SUCCEEDED: Final[Mapping[str, Callable[[Any], bool]]] = {"update_deal": lambda result: result is True, "add_comment": _is_number}


def _update(args: Mapping[str, Value]) -> Mapping[str, Any]:
    fields = args["fields"]
    if not isinstance(fields, Mapping) or not fields:
        raise ValueError("fields: must be a map of the portal's fields to their values")
    for name in fields:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", str(name)):
            raise ValueError(f"fields: {name!r} is no name of a field; the portal writes them as UF_CRM_… or TITLE")
    return {"id": int(_deal(args["id"], "id")), "fields": {name: _json(f"fields.{name}", value) for name, value in fields.items()}}


def _comment(args: Mapping[str, Value]) -> Mapping[str, Any]:
    text = args["text"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("text: must be text and not empty")
    return {"fields": {"ENTITY_ID": int(_deal(args["deal_id"], "deal_id")), "ENTITY_TYPE": "deal", "COMMENT": plain(text)}}


_BODIES: Final[Mapping[str, Callable[[Mapping[str, Value]], Mapping[str, Any]]]] = {"update_deal": _update, "add_comment": _comment}


def _deal(value: Value, name: str) -> str:
    if not isinstance(value, str) or not _DEAL_ID.fullmatch(value):
        raise ValueError(f"{name}: must be the number of a deal, as text")
    return value


_DEAL_ID: Final = re.compile(r"[1-9][0-9]{0,17}")


def _json(name: str, value: Value) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Unknown():
            raise ValueError(f"{name}: {value.reason}")
        case timedelta() | Mapping():
            raise ValueError(f"{name}: a portal's field holds no {type(value).__name__}")
    return [_json(name, item) for item in value]


def plain(text: str) -> str:
    """Text in which nothing is a tag of the portal's: behind a bracket that opens one stands a word joiner, which nobody sees."""
    return re.sub(r"\[(?=[A-Za-z/*])", "[\u2060", text)


def message(dispatch: Dispatch) -> str:
    """What a person reads: the title in bold, then what is to be done, then what the engine adds."""
    notice = dispatch.notice
    body = "\n\n".join(plain(part) for part in (notice.in_words, notice.ours) if part)
    text = f"[B]{plain(notice.title).strip() or '—'}[/B]\n{body}".strip()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Memory:
    """What one replica knows of the portal; lost with it, and found out again."""

    pace: Pace = field(default_factory=Pace)
    witness: Witness | None = None


class Bitrix24Connector:
    """The ``Connector`` and ``Channel`` of one portal."""

    def __init__(self, name: str, settings: Bitrix24Settings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for an address that is no webhook's."""
        match = _WEBHOOK.fullmatch(settings.url.reveal())
        if match is None:
            raise ValueError("url must be a webhook's address such as https://portal.bitrix24.ru/rest/1/SECRET/")
        self.name, self.shape, self.slots, self.lag = name, _shape(settings), settings.slots, settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._portal, self._secret = match[1], Secret(match[2])
        self._settings, self._tools, self._memory = settings, tools, _Memory()
        self._where = places(settings.deal_fields)
        self._client = Client(name, self._portal, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)

    # Questions

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for every key asked; 2,500 deals by number a request."""
        answers: dict[str, Answer] = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        askable = [key for key in answers if key.strip() and (by != "id" or _DEAL_ID.fullmatch(key))]
        if by == "id":
            answers |= {key: Unknown(f'"{key}" is no number of a deal') for key in answers if key.strip()}
        if not askable:
            return answers
        witness = await self._witness()
        if isinstance(witness, Unknown):
            return answers | dict.fromkeys(askable, witness)
        answers |= await self._in_bulk(by, askable, witness)
        if fresh:
            answers |= await self._singly(by, [key for key in askable if isinstance(answers[key], Absent)], witness)
        return answers

    async def _witness(self) -> Witness | Unknown:
        """Deals that were seen a moment ago, and whether this user sees all: asked again when that is too long ago."""
        known, now = self._memory.witness, self._tools.clock.monotonic()
        if known is not None and now < known.until:
            return known
        newest = listing(self._where.values(), (), "DESC")
        batch = await self._send({"who": "profile", "newest": newest})
        if isinstance(batch, Unknown):
            return batch
        seen = witnessed(batch, self._where, self.shape.records["deals"].by, self._settings.reads_all_deals, now + _RECENTLY)
        self._memory.witness = seen if isinstance(seen, Witness) else None
        return seen

    async def _in_bulk(self, by: str, keys: Sequence[str], witness: Witness) -> Mapping[str, Answer]:
        """Every key, as many to a request as go; where a page may have been too short, again with fewer to a page."""
        answers: dict[str, Answer] = {}
        left, size = list(keys), PAGE if by == "id" else PAGE - 1
        while left:
            answers |= await self._pass(by, left, size, witness)
            left = [key for key in left if answers[key] is CROWDED] if size > 1 else []
            size = max(1, size // 7)
        return answers

    async def _pass(self, by: str, keys: Sequence[str], size: int, witness: Witness) -> Mapping[str, Answer]:
        """Every key once, a few requests abreast; what failed goes to the end of the line and into smaller requests."""
        waiting, answers, failures = deque(keys), dict[str, Answer](), list[Unknown]()

        async def work() -> None:
            while waiting and len(failures) < _PATIENCE:
                room = _room(by, self._memory.pace.commands, size)
                some = [waiting.popleft() for _ in range(min(room, len(waiting)))]
                told = await self._asked(by, some, size, witness)
                if isinstance(told, Unknown):
                    failures.append(told)
                    waiting.extend(some)
                else:
                    answers.update(told)

        async with asyncio.TaskGroup() as workers:
            for _ in range(_ABREAST):
                workers.create_task(work())
        return {key: answers.get(key) or failures[-1] for key in keys}

    def _rests(self) -> Unknown | None:
        until = self._memory.pace.rests_until
        if until is None or self._tools.database_now() >= until:
            return None
        return Unknown(f"the portal is left alone until {until:%H:%M:%S} UTC: its time for lists is used up, or it blocks us")

    async def _asked(self, by: str, keys: Sequence[str], size: int, witness: Witness) -> Mapping[str, Answer] | Unknown:
        """One request, the witness among its keys; ``Unknown`` if there was no answer to it at all."""
        groups = self._groups(by, keys, size, witness.keys.get(by))
        batch = await self._send({name: asking(self._where, by, group) for name, group in groups.items()})
        if isinstance(batch, Unknown):
            return batch
        try:
            said = {name: found(batch.said(name), by, group, self._where, self._portal) for name, group in groups.items()}
        except Spoilt as spoilt:
            return dict.fromkeys(keys, Unknown(str(spoilt)))
        answers = {key: answer for name, some in said.items() if name != _CONTROL for key, answer in some.items()}
        return self._earned(answers, keys, said.get(_CONTROL, answers), by, witness)

    @staticmethod
    def _groups(by: str, keys: Sequence[str], size: int, control: str | None) -> Mapping[str, Sequence[str]]:
        """The keys of each command. The control key stands by itself where others could crowd it out of a page."""
        inline = control is not None and by == "id" and control not in keys
        asked = [*keys, control] if inline and control else keys
        groups = {f"c{at // size:02}": asked[at : at + size] for at in range(0, len(asked), size)}
        return groups | ({_CONTROL: [control]} if control and by != "id" else {})

    def _earned(
        self, answers: Mapping[str, Answer], keys: Iterable[str], told: Mapping[str, Answer], by: str, witness: Witness
    ) -> Mapping[str, Answer]:
        """The answers with each absence held to what it takes (law 14); ``told`` holds that to the control key."""
        doubt, control = witness.hidden, witness.keys.get(by)
        if control is None:
            doubt = doubt or _NO_WITNESS
        elif isinstance(told[control], Present) or told[control] is CROWDED:
            self._memory.witness = replace(witness, until=self._tools.clock.monotonic() + _RECENTLY)
        else:
            self._memory.witness = None
            doubt = doubt or f"{control}, which was there a moment ago, was not found in the same request"
        return {key: Unknown(doubt) if doubt and isinstance(answers[key], Absent) else answers[key] for key in keys}

    async def _singly(self, by: str, keys: Sequence[str], witness: Witness) -> Mapping[str, Answer]:
        """Each absence once more by itself, beside the witness."""
        answers: dict[str, Answer] = {}
        for at in range(0, len(keys), COMMANDS - 1):
            answers |= await self._each(by, keys[at : at + COMMANDS - 1], witness)
        return answers

    async def _each(self, by: str, keys: Sequence[str], witness: Witness) -> Mapping[str, Answer]:
        control = witness.keys.get(by)
        if control is None or control in keys:
            return dict.fromkeys(keys, Unknown(_NO_WITNESS))
        names = {f"k{number:02}": key for number, key in enumerate(keys)}
        commands = {name: _getting(key) if by == "id" else asking(self._where, by, [key]) for name, key in names.items()}
        batch = await self._send({**commands, _CONTROL: asking(self._where, by, [control])})
        if isinstance(batch, Unknown):
            return dict.fromkeys(keys, batch)
        try:
            told = found(batch.said(_CONTROL), by, [control], self._where, self._portal)
            answers: dict[str, Answer] = {}
            for name, key in names.items():
                answers |= self._got(batch, name, key) if by == "id" else found(batch.said(name), by, [key], self._where, self._portal)
        except Spoilt as spoilt:
            return dict.fromkeys(keys, Unknown(str(spoilt)))
        return self._earned(answers, keys, told, by, witness)

    def _got(self, batch: Batch, name: str, key: str) -> Mapping[str, Answer]:
        """What ``crm.item.get`` says of one deal; it tells apart what is not there from what may not be seen."""
        if name in batch.errors and name not in batch.results and _mapping(batch.errors[name]).get("error") == "NOT_FOUND":
            return {key: Absent()}
        said = batch.said(name)
        if isinstance(said, Unknown):
            return {key: said}
        deal = record(_mapping(_mapping(said).get("item")), self._where, self._portal)
        return {key: Present((deal,)) if deal["id"] == key else Unknown("the answer holds another deal")}

    async def _send(self, commands: Mapping[str, str]) -> Batch | Unknown:
        """One batch, and the pace that follows from its answer; none while the portal wants to be left alone."""
        if resting := self._rests():
            return resting
        body = _dumped({"halt": 0, "cmd": commands}).encode()
        answer = await self._client.read("deals", "POST", self._url("batch"), _JSON, body, lambda said: _code(said.body) in _LEFT_ALONE)
        batch = opened(answer)
        self._memory.pace = self._memory.pace.after(batch, len(commands), self._tools.database_now())
        if isinstance(answer, Response):
            code = _code(answer.body)
            if code in _LEFT_ALONE:  # the whole batch was refused, and such an answer does not say for how long
                self._memory.pace = replace(self._memory.pace, rests_until=self._tools.database_now() + _BAN)
            await self._heed(code)
        return batch

    async def _heed(self, code: str) -> None:
        """A refusal is told to all replicas: the portal counts what comes from all of them."""
        pause = {"QUERY_LIMIT_EXCEEDED": timedelta(seconds=2), "OVERLOAD_LIMIT": _BAN}.get(code)
        if pause is not None:
            with suppress(Exception):  # the store is away: the answer stands without it
                await self._tools.quota.push(self.name, self._tools.database_now() + pause)

    # Listing

    async def list(
        self,
        records: str,
        where: str | Mapping[str, Value] | None,
        since: datetime | None,
        cursor: str | None,
        now: datetime,
        size: int,
        hold: bool,
    ) -> AsyncGenerator[Page, None]:
        """Deals by number. The parameter ``within`` leaves out those created longer ago. Raises ``Unreachable``."""
        within = where.get("within") if isinstance(where, Mapping) else None
        oldest = [(">=createdTime]", (now - within).astimezone(UTC).isoformat(timespec="seconds"))] if isinstance(within, timedelta) else []
        last: int | None = int(cursor) if cursor else 0
        while last is not None:
            deals, last = await self._page(last, oldest, max(1, size // PAGE))
            yield Page(tuple(deals), None if last is None else str(last))

    async def _page(self, last: int, oldest: Sequence[tuple[str, str]], pages: int) -> tuple[Sequence[Record], int | None]:
        """Several of the portal's pages in one request, each going on where the one before ends; and where to go on."""
        names = [f"p{number:02}" for number in range(min(pages, self._memory.pace.commands))]
        after = [str(last), *(f"$result[{name}][items][{PAGE - 1}][id]" for name in names)]
        commands = {name: listing(self._where.values(), [(">id]", begin), *oldest]) for name, begin in zip(names, after, strict=False)}
        batch = await self._send(commands)
        if isinstance(batch, Unknown):
            raise Unreachable(f"{self.name}: {batch.reason}")
        deals: list[Record] = []
        for name in names:
            said = batch.said(name)
            items = _mapping(said).get("items")
            if not isinstance(items, list):
                if deals:
                    break  # the next request says whether it was a passing failure
                raise Unreachable(f"{self.name}: {said.reason if isinstance(said, Unknown) else 'the answer holds no list of deals'}")
            page = [record(_mapping(item), self._where, self._portal) for item in items]
            last = _last(self.name, page, last)
            deals += page
            if len(page) < PAGE:
                return deals, None
        return deals, last

    async def count(self, records: str, now: datetime) -> int | None:
        """Not counted: that takes a portal longer than everything else."""
        return None

    # Effects

    def timeout(self, call: str) -> timedelta:
        """Of every request."""
        return self._settings.timeout

    def prepare(self, call: str, args: Mapping[str, Value], idempotency_key: str) -> Request:
        """The request, whole but for the webhook's secret. Raises ValueError when an argument cannot be said."""
        for name in sorted(self.shape.calls[call].params ^ args.keys()):
            raise ValueError(f"{name}: {'is no parameter' if name in args else 'is missing'}")
        for name, value in args.items():
            if value is None or isinstance(value, Unknown):
                raise ValueError(f"{name}: {'is null' if value is None else value.reason}")
        body = _BODIES[call](args)
        said = {name: _fields(value) for name, value in args.items()}
        return Request(self.name, call, said, "POST", f"{self._portal}/rest/{_METHODS[call]}.json", _JSON, _dumped(body), idempotency_key)

    async def perform(self, request: Request) -> Outcome:
        """Puts the secret into the address and sends it, once (law 5)."""
        method = _METHODS.get(request.call)
        if method is None or request.url != f"{self._portal}/rest/{method}.json":
            return Outcome(Result.NOT_SENT, f"{self.name} is another portal now, or has no call {request.call} any more")
        return await self._post(request.call, method, request.body or "", _SUCCEEDED[request.call])

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """A message to the chat, in reply to the episode's first. ``done`` when the portal gave it a number."""
        if starved := await self._client.token():
            return Outcome(Result.LATER, starved.reason)
        chat = dispatch.address["chat"]
        said = {"DIALOG_ID": chat, "MESSAGE": message(dispatch), "URL_PREVIEW": "N"}
        where, _, first = dispatch.thread.partition("/")
        reply = {"REPLY_ID": int(first)} if where == chat and first.isdigit() else {}
        outcome = await self._post("im.message.add", "im.message.add", _dumped(said | reply), _is_number)
        if reply and outcome.result is Result.REFUSED:  # the first message may have been deleted
            outcome = await self._post("im.message.add", "im.message.add", _dumped(said), _is_number)
        return replace(outcome, reference=f"{chat}/{outcome.reference}" if outcome.reference else "")

    async def _post(self, operation: str, method: str, body: str, succeeded: Callable[[Any], bool]) -> Outcome:
        code = ""

        def judged(answer: Response) -> Outcome:
            nonlocal code
            code = str(_mapping(answer.body).get("error", ""))
            return classify(answer, succeeded, self._tools.database_now())

        outcome = await self._client.perform(operation, "POST", self._url(method), _JSON, body.encode(), judged)
        await self._heed(code)
        return outcome

    def _url(self, method: str) -> str:
        return f"{self._portal}/rest/{self._secret.reveal()}/{method}.json"

    async def check(self) -> Sequence[str]:
        """Asks who the webhook is, what it may and which fields deals have; changes nothing."""
        fields = "crm.item.fields?" + urlencode({"entityTypeId": _DEAL, "useOriginalUfNames": "Y"})
        batch = await self._send({"who": "profile", "scope": "scope", "fields": fields})
        if isinstance(batch, Unknown):
            return (f"the portal does not answer as one ({batch.reason}); check url, and whether the webhook still stands",)
        return (*self._missing_rights(batch), *self._missing_fields(batch))

    def _missing_rights(self, batch: Batch) -> Iterator[str]:
        scope = batch.said("scope")
        for name, use in (("crm", "read deals"), ("im", "write into chats")):
            if isinstance(scope, Unknown) or name not in scope:
                yield f"the webhook may not {use}; give it the permission {name}"
        if _mapping(batch.said("who")).get("ADMIN") is not True and not self._settings.reads_all_deals:
            yield f"{_HIDDEN}, or let an administrator make the webhook"

    def _missing_fields(self, batch: Batch) -> Iterator[str]:
        known = _mapping(_mapping(batch.said("fields")).get("fields"))
        told = {str(_mapping(each).get("upperName") or name): _mapping(each) for name, each in known.items()}
        for own, name in self._settings.deal_fields.items():
            if name not in told:
                yield f"deal_fields.{own}: deals of this portal have no field {name}"
            elif told[name].get("isMultiple") is True:
                yield f"deal_fields.{own}: {name} holds several values; a number by which deals are asked for must be single"

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()


def _room(by: str, commands: int, size: int) -> int:
    """How many keys go into one request beside the control key, which takes a key's place or a command's."""
    return commands * size - 1 if by == "id" else max(1, commands - 1) * size


_JSON: Final = {"Content-Type": "application/json"}


def _dumped(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False)


def _fields(value: Value) -> Any:
    return {name: _json(str(name), item) for name, item in value.items()} if isinstance(value, Mapping) else _json("", value)


def _last(name: str, deals: Sequence[Record], last: int) -> int:
    """The number of the page's last deal. Raises ``Unreachable`` when the page is not the one that was asked for."""
    for deal in deals:
        number = deal["id"]
        if not isinstance(number, str) or not number.isdigit() or int(number) <= last:
            raise Unreachable(f"{name}: the deals of a page are not in the order of their numbers")
        last = int(number)
    return last


_EXAMPLE: Final = """\
type: bitrix24
url: ${env:BITRIX24_WEBHOOK_URL}
rate: 2/s
fingerprint: portal.bitrix24.ru
deal_fields:
  market_order_id: UF_CRM_MARKET_ORDER_ID
  posting_number: UF_CRM_POSTING_NUMBER
"""

KIND: Final = Kind(
    name="bitrix24",
    settings=Bitrix24Settings,
    shape=_shape,
    open=Bitrix24Connector,
    example=_EXAMPLE,
    lint=_lint,
    address=Bitrix24Address,
)
