"""Any HTTP service, by declaration: records that are listed and asked for, calls that change something.

Requests are templates, answers are judged by conditions; both are CEL in ``config.yaml``, compiled once:

    list ─▶ request ─▶ ``items`` ─▶ readers by declared field ─▶ Page, ``next`` ─▶ …
    ask  ─▶ request ─▶ ``present`` | ``absent`` ─▶ records by their own key ─▶ Answer each
    call ─▶ prepare (pure) ─▶ perform ─▶ ``done``, ``refused``, ``later``, in this order; else unknown

A condition that errs is false, so an HTML page with status 200 is neither done nor absent. What comes from a record is
encoded where it stands: it cannot leave its place in the path, nor reach another host. Absence is earned: a bulk answer
never concludes it, the keys it leaves out are asked again one by one (law 14).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import mimetypes
import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, urlencode, urljoin, urlsplit
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from daemon.domain.attempt import Outcome, Request, Result
from daemon.domain.notice import Dispatch
from daemon.domain.shape import Absent, Answer, Call, FieldType, Page, Present, Records, Role, Shape
from daemon.domain.shape import Field as Declared
from daemon.domain.value import Place, Record, Scope, Unknown, Value
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools, parse_field
from daemon.language.cel import Computed, Constant, Environment, Program, Template, argument
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import near
from daemon.net import Client, Failed, Response, not_recognised
from daemon.settings import ConnectorSettings, Duration, Secret, Settings, Zone, parse_duration

# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

Methods = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class RequestSettings(Settings):
    """A request; every value is text with ``${…}``."""

    method: Methods = Field("GET", description="HTTP method.")
    path: str = Field(pattern=r"^/[^?#]*$", description="Path below the connector's url; values in it are encoded.")
    query: dict[str, Any] = Field({}, description="Query parameters; null leaves one out, a list repeats it.")
    headers: dict[str, str] = Field({}, description="Headers besides the connector's own.")
    body: Any = Field(
        None,
        description="Map or list: sent as JSON, or as a form if Content-Type says so; in multipart/form-data a map of `name` and "
        "`content` (base64) is a file. Text: sent as it is.",
    )


class NextSettings(Settings):
    """How the next page is found: exactly one; null, empty or missing ends the listing."""

    cursor: str | None = Field(None, description="Its value is `cursor` in the next request.")
    page: str | None = Field(None, description="Whether there is another page, or its number; `page` in the request, 1 at first.")
    link: str | None = Field(None, description="The next page's address, on the same host.")

    @model_validator(mode="after")
    def _one(self) -> NextSettings:
        if len(self.model_fields_set) != 1:
            raise ValueError("must have exactly one of cursor, page, link")
        return self


class ListSettings(Settings):
    """One page of a listing. The request may use the params, `now`, `limit`, and `cursor` or `page`."""

    params: dict[str, Literal["string", "number", "bool", "timestamp", "duration", "list", "map"]] = Field(
        {}, description="What a rule's `where` may give: name and type."
    )
    request: RequestSettings = Field(description="The request for a page.")
    items: str = Field(description="The list of items in the answer: ${body.orders}.")
    next: NextSettings | None = Field(None, description="How to go on; none: a single page.")


class QuestionSettings(Settings):
    """A question by key. The request uses `key`, or `keys` where `max_keys` is more than 1."""

    request: RequestSettings = Field(description="The request.")
    max_keys: int = Field(1, ge=1, le=10_000, description="How many keys one request may ask for.")
    present: str = Field(description="Condition over `status headers body key`: the answer holds what was asked for.")
    absent: str | None = Field(None, description="Condition: the system says that it has none. Neither true: unknown. None: never absent.")
    item: str | None = Field(None, description="The one item in the answer: ${body}.")
    items: str | None = Field(None, description="The list of items in the answer: ${body.orders}.")

    @model_validator(mode="after")
    def _one(self) -> QuestionSettings:
        if (self.item is None) == (self.items is None):
            raise ValueError("must have exactly one of item, items")
        if self.max_keys > 1 and self.items is None:
            raise ValueError("several keys have several answers; write items instead of item")
        return self


def _parse_field(written: object) -> Declared:
    return written if isinstance(written, Declared) else parse_field(written)


Type = Annotated[Declared, BeforeValidator(_parse_field, json_schema_input_type=str)]


class FieldSettings(Settings):
    """A field with the place its value comes from."""

    type: Type = Field(description="string number bool timestamp duration list map, with |null where it may be missing.")
    value: str | None = Field(None, description="Computed from `item`; its own name in the item if left out.")


def _parse_long(written: object) -> object:
    return {"type": written} if isinstance(written, str) else written


class RecordsSettings(Settings):
    """One kind of records."""

    fields: dict[str, Annotated[FieldSettings, BeforeValidator(_parse_long, json_schema_input_type=str | FieldSettings)]] = Field(
        min_length=1, description="Fields: a type, or {type, value}. Identifiers are strings."
    )
    key: str = Field(description="`${field}` that identifies a record; a string field, one of `by`.")
    list_: ListSettings | None = Field(None, alias="list", description="How they are listed; none: they cannot be scanned.")
    by: dict[str, QuestionSettings] = Field(min_length=1, description="String fields by which they can be asked for.")

    @property
    def key_field(self) -> str:
        """The field that ``key`` names; nothing if it names none."""
        match = re.fullmatch(r"\$\{\s*([A-Za-z_]\w*)\s*\}", self.key.strip())
        return match[1] if match else ""


class CallSettings(RequestSettings):
    """An effect. Its parameters are the names that its templates use."""

    method: Methods = Field("POST", description="HTTP method.")
    timeout: Duration | None = Field(None, description="Bound on this request; the connector's, if left out.")
    idempotent: bool = Field(False, description="Whether a repeated call does no harm.")
    done: str = Field(description="Condition over `status headers body`: it happened.")
    refused: str = Field("status in [400, 404, 409, 410, 422]", description="Condition: it will not happen, asking again is useless.")
    later: str = Field("status in [429, 503]", description="Condition: it did not happen yet, ask again.")


class HttpSettings(ConnectorSettings):
    """An HTTP service."""

    url: str = Field(description="Its address, without credentials; nothing else is ever reached.")
    headers: dict[str, Secret] = Field({}, description="Sent with every request, never shown: Authorization and the like.")
    fingerprint: str | None = Field(None, description="The host that `url` must have, against a wrong environment.")
    timezone: Zone | None = Field(None, description="Zone of timestamps that carry none; without it they are unknown.")
    records: dict[str, RecordsSettings] = Field({}, description="The kinds of records it offers, by name.")
    calls: dict[str, CallSettings] = Field(
        {},
        description="The effects it can perform, by name. One called `tell` over `title text ours kind severity rule count "
        "runbook at` makes it a channel for contacts (a webhook).",
    )


class HttpAddress(Settings):
    """Of a channel: nothing; whom a webhook tells is in its address."""


# ── Compiled ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PlaceOf = Callable[[tuple[str | int, ...]], Place]
_TELL: Final = "tell"
_NOTICE: Final = frozenset({"title", "text", "ours", "kind", "severity", "rule", "count", "runbook", "at"})
_ANSWER: Final = dict.fromkeys(("status", "headers", "body"))
_NOWHERE: Final = Place("config.yaml", 1, 1)


@dataclass(frozen=True, slots=True)
class _Wire:
    """A request's templates, compiled."""

    method: str
    path: tuple[str | Program, ...]
    query: Mapping[str, Computed]
    headers: Mapping[str, Computed]
    body: Computed | None

    @property
    def reads(self) -> frozenset[str]:
        """The names it uses."""
        parts = [part for part in self.path if isinstance(part, Program)]
        values = [*parts, *self.query.values(), *self.headers.values(), *([self.body] if self.body else ())]
        return frozenset[str]().union(*(value.reads for value in values))


@dataclass(frozen=True, slots=True)
class _Call:
    settings: CallSettings
    wire: _Wire
    done: Program
    refused: Program
    later: Program


@dataclass(frozen=True, slots=True)
class _Listing:
    settings: ListSettings
    wire: _Wire
    items: Computed
    style: str = ""
    next: Computed | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    """A question by key, compiled. ``by`` is the field that tells whose an item is."""

    by: str
    max_keys: int
    wire: _Wire
    present: Program
    absent: Program | None
    items: Computed
    several: bool
    readers: Readers


Readers = Mapping[str, Callable[[Value], Value]]


@dataclass(frozen=True, slots=True)
class _Kind:
    settings: RecordsSettings
    readers: Readers
    listing: _Listing | None
    by: Mapping[str, _Question]


@dataclass(slots=True)
class _Compiler:
    """Compiles a connector's texts, and notes what is wrong with them instead of stopping at the first."""

    at: PlaceOf
    mistakes: list[Mistake] = field(default_factory=list)

    def condition(self, env: Environment, text: str, path: tuple[str | int, ...]) -> Any:
        """A condition; ``None`` and a mistake if it is none."""
        try:
            return env.condition(text, self.at(path))
        except Mistakes as error:
            self.mistakes += error.mistakes
            return None

    def value(self, env: Environment, node: Any, path: tuple[str | int, ...]) -> Any:
        """A value with holes; ``None`` and a mistake if it is none."""
        try:
            return env.value(node, lambda below: self.at((*path, *below)))
        except Mistakes as error:
            self.mistakes += error.mistakes
            return None

    def wrong(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake.at(self.at(path), message))

    def wire(self, env: Environment, request: RequestSettings, path: tuple[str | int, ...]) -> _Wire:
        """A request's templates."""
        whole = self.value(env, request.path, (*path, "path"))
        parts = whole.parts if isinstance(whole, Template) else (str(whole.value),) if isinstance(whole, Constant) else ()
        query = {name: self.value(env, node, (*path, "query", name)) for name, node in request.query.items()}
        headers = {name: self.value(env, node, (*path, "headers", name)) for name, node in request.headers.items()}
        body = None if request.body is None else self.value(env, request.body, (*path, "body"))
        return _Wire(request.method, parts, query, headers, body)

    def call(self, settings: CallSettings, path: tuple[str | int, ...], answers: Environment) -> _Call:
        """A call; the names its templates use are declared, as they are its parameters."""
        env = Environment(dict.fromkeys(_identifiers(settings)))
        return _Call(
            settings,
            self.wire(env, settings, path),
            self.condition(answers, settings.done, (*path, "done")),
            self.condition(answers, settings.refused, (*path, "refused")),
            self.condition(answers, settings.later, (*path, "later")),
        )

    def listing(self, settings: ListSettings, path: tuple[str | int, ...]) -> _Listing:
        """A listing."""
        known = {"now": FieldType.TIMESTAMP, "cursor": None, "page": None, "limit": None}
        params = {name: Declared(FieldType(type_), nullable=True) for name, type_ in settings.params.items()}
        for name in known.keys() & params.keys():
            self.wrong((*path, "params", name), f'params: "{name}" has a meaning of its own here; use another name')
        wire = self.wire(Environment({**params, **known}), settings.request, (*path, "request"))
        env = Environment({**_ANSWER, "cursor": None, "page": None})
        items = self.value(env, settings.items, (*path, "items"))
        if settings.next is None:
            return _Listing(settings, wire, items)
        style = next(iter(settings.next.model_fields_set))
        text = getattr(settings.next, style)
        return _Listing(settings, wire, items, style, self.value(env, text, (*path, "next", style)))

    def question(self, by: str, settings: QuestionSettings, readers: Readers, path: tuple[str | int, ...]) -> _Question:
        """A question by key."""
        key = {"key" if settings.max_keys == 1 else "keys": None}
        answers = Environment({**_ANSWER, **key})
        part = "item" if settings.items is None else "items"
        absent = settings.absent and self.condition(answers, settings.absent, (*path, "absent"))
        wire = self.wire(Environment(key), settings.request, (*path, "request"))
        if not wire.reads & key.keys() and not self.mistakes:
            self.wrong((*path, "request"), f"request: uses no ${{{next(iter(key))}}}, so it cannot ask for one")
        return _Question(
            by,
            settings.max_keys,
            wire,
            self.condition(answers, settings.present, (*path, "present")),
            absent or None,
            self.value(answers, getattr(settings, part), (*path, part)),
            settings.items is not None,
            readers,
        )

    def kind(self, settings: RecordsSettings, path: tuple[str | int, ...], zone: ZoneInfo | None) -> _Kind:
        """A kind of records."""
        self._identity(settings, path)
        env = Environment({"item": None})
        readers = {
            name: _reader(each.type, self._field_value(env, name, each, (*path, "fields", name)), zone)
            for name, each in settings.fields.items()
        }
        listing = self.listing(settings.list_, (*path, "list")) if settings.list_ else None
        by = {name: self.question(name, each, readers, (*path, "by", name)) for name, each in settings.by.items()}
        return _Kind(settings, readers, listing, by)

    def _identity(self, settings: RecordsSettings, path: tuple[str | int, ...]) -> None:
        if not settings.key_field:
            self.wrong((*path, "key"), "key: must be one field, such as ${number}")
        elif settings.key_field not in settings.by:
            message = f'key: "{settings.key_field}" must be one of `by`: what can be scanned can be asked for'
            self.wrong((*path, "key"), message)
        for name in settings.by:
            declared = settings.fields.get(name)
            if declared is None:
                self.wrong((*path, "by", name), f'by: there is no field "{name}"{near(name, settings.fields)}')
            elif declared.type.type is not FieldType.STRING:
                self.wrong((*path, "by", name), f'by: "{name}" must be a string; identifiers are')

    def _field_value(self, env: Environment, name: str, settings: FieldSettings, path: tuple[str | int, ...]) -> Any:
        if settings.value is None:
            return _Missable(("item", name), None)
        compiled = self.value(env, settings.value, (*path, "value"))
        plain = re.fullmatch(r"\$\{\s*(item(?:\.[A-Za-z_]\w*)*)\s*\}", settings.value.strip())
        return _Missable(tuple(plain[1].split(".")), None) if plain and compiled else _Missable((), compiled)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A connector's declarations, ready to be used."""

    calls: Mapping[str, _Call]
    kinds: Mapping[str, _Kind]


def _compile(settings: HttpSettings, compiler: _Compiler) -> _Compiled:
    answers = Environment(_ANSWER)
    zone = ZoneInfo(settings.timezone) if settings.timezone else None
    calls = {name: compiler.call(each, ("calls", name), answers) for name, each in settings.calls.items()}
    kinds = {name: compiler.kind(each, ("records", name), zone) for name, each in settings.records.items()}
    return _Compiled(calls, kinds)


def _identifiers(settings: RequestSettings) -> frozenset[str]:
    """Every word in the holes that may be a name; which of them are, the compiled expressions say."""
    texts = _strings([settings.path, settings.query, settings.headers, settings.body])
    holes = " ".join(hole for text in texts for hole in re.findall(r"(?<!\$)\$\{(.*)\}", text, re.DOTALL))
    return frozenset(re.findall(r"[A-Za-z_]\w*", holes))


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _strings(item)


def _lint(name: str, settings: HttpSettings, at: At) -> Sequence[Mistake]:
    compiler = _Compiler(at)
    host = _check_url(settings, compiler)
    if host and settings.fingerprint and settings.fingerprint != host:
        compiler.wrong(("url",), f'url: its host is not "{settings.fingerprint}", as fingerprint says it must be')
    for header, value in settings.headers.items():
        if not _sendable(header, value.reveal()):
            compiler.wrong(("headers", header), f"headers: {header} holds a character that no header may hold")
    _compile(settings, compiler)
    return compiler.mistakes


def _check_url(settings: HttpSettings, compiler: _Compiler) -> str | None:
    try:
        parts = urlsplit(settings.url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        plain = False
        parts = urlsplit("")
    if not plain:
        compiler.wrong(("url",), "url: must be an address such as https://service.example")
    elif parts.username or parts.password or parts.query or parts.fragment:
        compiler.wrong(("url",), "url: must hold no user, password, query or fragment; credentials go into headers")
    return parts.hostname


def _sendable(name: str, value: str) -> bool:
    return bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) and re.fullmatch(r"[\x20-\x7e\t]*", value))


def _shape(settings: HttpSettings) -> Shape:
    return _offer(settings, _compile(settings, _Compiler(lambda path: _NOWHERE)))


def _offer(settings: HttpSettings, compiled: _Compiled) -> Shape:
    calls = {name: Call(call.wire.reads, call.settings.idempotent) for name, call in compiled.calls.items()}
    channel = _TELL in calls and calls[_TELL].params <= _NOTICE
    return Shape({name: _offered(each) for name, each in settings.records.items()}, calls, channel)


def _offered(settings: RecordsSettings) -> Records:
    fields = {
        name: Declared(each.type.type, each.type.nullable, Role.IDENTIFIER if name in settings.by else Role.PLAIN)
        for name, each in settings.fields.items()
    }
    params = settings.list_.params if settings.list_ else {}
    return Records(
        fields,
        settings.key_field,
        frozenset(settings.by),
        listable=settings.list_ is not None,
        where="params" if params else "none",
        params={name: FieldType(type_) for name, type_ in params.items()},
    )


# ── Items to records ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Absence:
    """Nothing stands there: null in a field that may be missing."""


_NOTHING: Final = _Absence()


@dataclass(frozen=True, slots=True)
class _Missable:
    """A field's value in an item: a plain path, of which any part may be missing, or an expression."""

    path: tuple[str, ...]
    expression: Computed | None

    def __call__(self, item: Value) -> Value | _Absence:
        if self.expression is not None:
            return self.expression({"item": item})
        value = item
        for part in self.path[1:]:
            if value is None:
                return _NOTHING
            if not isinstance(value, Mapping):
                return Unknown(f"{'.'.join(self.path)}: there is no map to look into")
            if part not in value:
                return _NOTHING
            value = value[part]
        return value


def _reader(declared: Declared, read: _Missable, zone: ZoneInfo | None) -> Callable[[Value], Value]:
    """From an item to the field's value, of its declared type or ``Unknown``."""

    def field_of(item: Value) -> Value:
        value = read(item)
        if value is None or isinstance(value, _Absence):
            missing = "is null" if value is None else "is missing in the answer"
            return None if declared.nullable else Unknown(f"{missing}, though it is declared never to be")
        return value if isinstance(value, Unknown) else typed(value, declared.type, zone)

    return field_of


def typed(value: Value, type_: FieldType, zone: ZoneInfo | None) -> Value:
    """A value of JSON as a value of the declared type; ``Unknown`` if it is none."""
    match type_, value:
        case _, bool():
            return value if type_ is FieldType.BOOL else Unknown(f"is {str(value).lower()}, not a {type_}")
        case FieldType.STRING, str():
            return value
        case FieldType.STRING, int():
            return str(value)
        case FieldType.NUMBER, int() | Decimal():
            return value
        case FieldType.NUMBER, float():
            return Decimal(repr(value))
        case FieldType.NUMBER, str() if re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", value.strip()):
            return Decimal(value.strip())
        case FieldType.TIMESTAMP, datetime():
            return value
        case FieldType.TIMESTAMP, str():
            return _timestamp(value, zone)
        case FieldType.DURATION, timedelta():
            return value
        case FieldType.DURATION, str():
            return _duration(value)
        case FieldType.LIST, list():
            return value
        case FieldType.MAP, dict():
            return value
    return Unknown(f"is no {type_}")


def _timestamp(text: str, zone: ZoneInfo | None) -> Value:
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None and zone is None:
            return Unknown("is a time without a zone; give the connector its timezone")
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return Unknown("is no timestamp of ISO 8601")


def _duration(text: str) -> Value:
    try:
        return parse_duration(text)
    except (ValueError, OverflowError):
        return Unknown("is no duration")


def _record(readers: Readers, item: Value) -> Record:
    return {name: read(item) for name, read in readers.items()}


# ── Answers, judged ──────────────────────────────────────────────────────────────────────────────────────────────────


def _scope(response: Response) -> dict[str, Value]:
    return {"status": response.status, "headers": dict(response.headers), "body": response.body}


def _doubtful(response: Response | Failed) -> str:
    """Why an answer says nothing about a record, whatever the conditions make of it."""
    if isinstance(response, Failed):
        return response.reason
    if response.ill or response.status in (408, 429) or response.status >= 500:
        return f"status {response.status}"
    if response.redirected_to:
        return f"status {response.status}, a redirect to {response.redirected_to}, not followed"
    return response.body.reason if isinstance(response.body, Unknown) else ""


_LEFT_OUT: Final = Unknown("not in the answer, and not said to be absent either")


def judge(question: _Question, keys: Sequence[str], response: Response | Failed) -> Mapping[str, Answer]:
    """What an answer says about each key. Of several keys none is ever absent, only not known."""
    if doubt := _doubtful(response):
        return dict.fromkeys(keys, Unknown(doubt))
    assert isinstance(response, Response)
    scope = _scope(response) | ({"key": keys[0]} if question.max_keys == 1 else {"keys": list(keys)})
    present = question.present(scope) is True
    absent = question.absent is not None and question.absent(scope) is True
    if present and absent and not (question.several and question.items(scope) == []):
        return dict.fromkeys(keys, Unknown("the answer reads as present and absent at once"))
    if absent:
        return {keys[0]: Absent()} if len(keys) == 1 else dict.fromkeys(keys, _LEFT_OUT)
    if not present:
        return dict.fromkeys(keys, Unknown(f"status {response.status}: neither present nor absent"))
    return _found(question, keys, question.items(scope))


def _found(question: _Question, keys: Sequence[str], value: Value) -> Mapping[str, Answer]:
    """The items by whose they are. One that nobody asked for, or nobody's, spoils the whole answer (law 14)."""
    items: Value = value if question.several else [value]
    if not isinstance(items, list):
        reason = items.reason if isinstance(items, Unknown) else "is no list"
        return dict.fromkeys(keys, Unknown(f"the items of the answer: {reason}"))
    records: dict[str, list[Record]] = {key: [] for key in keys}
    for item in items:
        record = _record(question.readers, item)
        owner = record[question.by]
        if not isinstance(owner, str) or owner not in records:
            return dict.fromkeys(keys, Unknown(f"the answer holds a record that was not asked for ({question.by})"))
        records[owner].append(record)
    return {key: Present(tuple(found)) if found else _LEFT_OUT for key, found in records.items()}


def classify(call: _Call, response: Response) -> Outcome:
    """What became of a call: done, refused, later, in this order; a condition that errs is false."""
    scope = _scope(response)
    if call.done(scope) is True:
        return Outcome(Result.DONE)
    if response.ill:
        return not_recognised(response)
    if call.refused(scope) is True:
        return Outcome(Result.REFUSED, f"status {response.status}")
    if call.later(scope) is True:
        return Outcome(Result.LATER, f"status {response.status}")
    return not_recognised(response)


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rendered(wire: _Wire, base: str, scope: Scope) -> tuple[str, dict[str, str], str | None]:
    """URL, headers and body. Raises ValueError when a value cannot be said there."""
    query = [pair for name, value in wire.query.items() for pair in _pairs(name, value(scope))]
    url = base + _path(wire.path, scope) + (f"?{urlencode(query)}" if query else "")
    headers = {name: _text(name, value(scope)) for name, value in wire.headers.items()}
    for name, text in headers.items():
        if not _sendable(name, text):
            raise ValueError(f"header {name}: holds a character that no header may hold")
    if wire.body is None:
        return url, headers, None
    declared = _header(headers, "content-type")
    body, type_ = _body(_known("body", wire.body(scope)), declared)
    if declared and not declared.startswith(_MULTIPART):
        return url, headers, body
    return url, {**{name: text for name, text in headers.items() if name.lower() != "content-type"}, "Content-Type": type_}, body


def _path(parts: Sequence[str | Program], scope: Scope) -> str:
    """The path with its values encoded, so that none of them is empty, a step up, or more than its own segment."""
    path = ""
    for part in parts:
        if isinstance(part, str):
            path += quote(part, safe="/%:@!$&'()*+,;=~-._")
        elif text := _text(part.text, part(scope)):
            path += quote(text, safe="")
        else:
            raise ValueError(f"{part.text}: is empty, and so would be its place in the path")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("a value in the path would lead to another place")
    return path


def _known(name: str, value: Value) -> Value:
    if isinstance(value, Unknown):
        raise ValueError(f"{name}: {value.reason}")
    return value


def _text(name: str, value: Value) -> str:
    text = argument(_known(name, value))
    if isinstance(text, Unknown):
        raise ValueError(f"{name}: {text.reason}")
    return text


def _pairs(name: str, value: Value) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        yield name, _text(name, item)


def _body(value: Value, content_type: str) -> tuple[str, str]:
    if isinstance(value, str):
        return value, "text/plain; charset=utf-8"
    if content_type.startswith(_MULTIPART) and isinstance(value, Mapping):
        return _multipart(value)
    if content_type.startswith("application/x-www-form-urlencoded") and isinstance(value, Mapping):
        return urlencode([pair for name, item in value.items() for pair in _pairs(name, item)]), content_type
    return json.dumps(_json(value), ensure_ascii=False, allow_nan=False), "application/json"


_MULTIPART: Final = "multipart/form-data"


def _multipart(value: Mapping[str, Value]) -> tuple[str, str]:
    """A form with its files (RFC 7578). The boundary follows from the whole, so that the request stays a pure value."""
    parts = [_part(name, item) for name, item in value.items() if item is not None]
    boundary = hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    data = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts) + b"--%s--\r\n" % boundary.encode()
    return data.decode("utf-8", "surrogateescape"), f"{_MULTIPART}; boundary={boundary}"


def _part(name: str, value: Value) -> bytes:
    """A field, or a file: a map of its ``name`` and its ``content`` in base64. Raises ValueError for content that is none."""
    if not isinstance(value, Mapping) or set(value) != {"name", "content"}:
        return f'Content-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{_text(name, value)}'.encode()
    file = _text(f"{name}.name", value["name"])
    content = base64.b64decode(_text(f"{name}.content", value["content"]), validate=True)
    type_ = mimetypes.guess_type(file)[0] or "application/octet-stream"
    disposition = f'Content-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(file)}"'
    return f"{disposition}\r\nContent-Type: {type_}\r\n\r\n".encode() + content


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _json(value: Value) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | timedelta():
            return argument(value)
        case Unknown():
            raise ValueError(value.reason)
        case Mapping():
            return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value]


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for header, value in headers.items() if header.lower() == name), "")


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────

_ABREAST: Final = 8
"""Questions that are on their way at once."""


class HttpConnector:
    """A declared HTTP service behind the Connector port."""

    def __init__(self, name: str, settings: HttpSettings, tools: Tools) -> None:
        self._name, self._settings, self._tools = name, settings, tools
        self._compiled = _compile(settings, _Compiler(lambda path: _NOWHERE))
        self._shape = _offer(settings, self._compiled)
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)

    @property
    def name(self) -> str:
        """Its name in ``config.yaml``."""
        return self._name

    @property
    def shape(self) -> Shape:
        """What it offers."""
        return self._shape

    @property
    def slots(self) -> int:
        """How many acts may be on their way at once from this replica."""
        return self._settings.slots

    @property
    def lag(self) -> timedelta:
        """How old its answers may be (database time)."""
        return self._settings.lag

    @property
    def rate(self) -> tuple[float, int] | None:
        """Requests per second shared by all replicas, and the burst."""
        rate = self._settings.rate
        return (rate.per_second, rate.burst) if rate else None

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
        """Page after page. Raises ``Unreachable``. The cursor is the system's own, as JSON; a number or an address."""
        kind = self._compiled.kinds[records]
        if kind.listing is None:
            raise Unreachable(f"{records} cannot be listed")
        params = _params(kind.listing.settings, where) | {"now": now, "limit": size}
        came = {cursor}
        while True:
            page = await self._page(records, kind, params, cursor)
            yield page
            if page.cursor is None:
                return
            if page.cursor in came:
                raise Unreachable(f"{records}: the listing goes in a circle")
            cursor = page.cursor
            came.add(cursor)

    async def count(self, records: str, now: datetime) -> int | None:
        """Not to be known over HTTP."""
        return None

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for every key asked. What a bulk answer leaves out is asked again singly."""
        question = self._compiled.kinds[records].by[by]
        asked = [key for key in dict.fromkeys(keys) if key]
        batches = [asked[at : at + question.max_keys] for at in range(0, len(asked), question.max_keys)]
        answers: dict[str, Answer] = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        for found in await self._abreast(records, question, batches):
            answers.update(found)
        if question.max_keys > 1:
            left = [[key] for key in asked if answers[key] == _LEFT_OUT]
            for found in await self._abreast(records, question, left):
                answers.update(found)
        return answers

    def timeout(self, call: str) -> timedelta:
        """The bound on such a request, from its first byte on."""
        return self._settings.calls[call].timeout or self._settings.timeout

    def prepare(self, call: str, args: Mapping[str, Value], idempotency_key: str) -> Request:
        """The request, whole but for credentials. Raises ValueError when an argument cannot be said on the wire."""
        wire = self._compiled.calls[call].wire
        for name in sorted(wire.reads ^ args.keys()):
            raise ValueError(f"{name}: {'is no parameter' if name in args else 'is missing'}")
        for name, value in args.items():
            if value is None or isinstance(value, Unknown):
                raise ValueError(f"{name}: {'is null' if value is None else value.reason}")
        url, headers, body = _rendered(wire, self._client.base, args)
        if idempotency_key:
            headers = {**headers, "Idempotency-Key": idempotency_key}
        said = {name: _json(value) for name, value in args.items()}
        return Request(self._name, call, said, wire.method, url, headers, body, idempotency_key)

    async def perform(self, request: Request) -> Outcome:
        """Adds credentials and sends it, once (law 5)."""
        call = self._compiled.calls.get(request.call)
        if call is None:
            return Outcome(Result.NOT_SENT, f"{self._name} has no call {request.call} any more")
        return await self._client.perform(
            request.call,
            request.method,
            request.url,
            self._signed(request.headers),
            None if request.body is None else request.body.encode("utf-8", "surrogateescape"),  # a file's bytes, as they were
            lambda response: classify(call, response),
            self.timeout(request.call),
        )

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """Tell it by the call ``tell``, once."""
        if starved := await self._client.token():
            return Outcome(Result.LATER, starved.reason)
        said: dict[str, Value] = {name: getattr(dispatch.notice, name) for name in self._shape.calls[_TELL].params}
        if "text" in said:
            said["text"] = dispatch.notice.in_words  # it carries no files
        try:
            return await self.perform(self.prepare(_TELL, said, dispatch.id))
        except ValueError as error:
            return Outcome(Result.REFUSED, str(error))

    async def check(self) -> Sequence[str]:
        """Whether it can be reached and takes our credentials; asks for its address as such, changes nothing."""
        found = []
        if self._settings.headers and self._settings.url.startswith("http:") and not _is_local(self._settings.url):
            found.append("credentials go over plain http; use https")
        answer = await self._client.read("check", "GET", self._client.base + "/", self._signed({}))
        if isinstance(answer, Failed):
            found.append(f"cannot be reached ({answer.reason}); check url, network and certificate")
        elif answer.ill:
            found.append(f"refuses our credentials (status {answer.status}); check headers")
        elif answer.redirected_to:
            found.append(f"redirects to {answer.redirected_to}, which is not followed; put the final address into url")
        return found

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    def _signed(self, headers: Mapping[str, str]) -> dict[str, str]:
        own = {name: value.reveal() for name, value in self._settings.headers.items()}
        taken = {name.lower() for name in headers}
        return {**{name: value for name, value in own.items() if name.lower() not in taken}, **headers}

    async def _page(self, records: str, kind: _Kind, params: Scope, cursor: str | None) -> Page:
        listing = kind.listing
        assert listing is not None
        at = None if cursor is None else json.loads(cursor)
        place: dict[str, Value] = {"cursor": at, "page": at if listing.style == "page" and at else 1}
        try:
            url, headers, body = _rendered(listing.wire, self._client.base, {**params, **place})
        except ValueError as error:
            raise Unreachable(f"{records}: {error}") from None
        if listing.style == "link" and isinstance(at, str):
            url = at
        answer = await self._read(records, listing.wire.method, url, headers, body)
        if isinstance(answer, Failed) or (doubt := _doubtful(answer)):
            raise Unreachable(f"{records}: {answer.reason if isinstance(answer, Failed) else doubt}")
        if answer.status >= 300:
            raise Unreachable(f"{records}: status {answer.status}")
        scope = _scope(answer) | place
        items = listing.items(scope)
        if not isinstance(items, list):
            reason = items.reason if isinstance(items, Unknown) else "are no list"
            raise Unreachable(f"{records}: the items of the answer: {reason}")
        found = [_record(kind.readers, item) for item in items]
        key = kind.settings.key_field
        keyed = [record for record in found if isinstance(record[key], str) and record[key]]
        unreadable = [_why(record[key]) for record in found if not (isinstance(record[key], str) and record[key])]
        return Page(tuple(keyed), self._following(records, listing, scope, url), tuple(unreadable[:10]))

    def _following(self, records: str, listing: _Listing, scope: Scope, url: str) -> str | None:
        """The cursor of the next page, as JSON. Raises ``Unreachable`` if there is one and it is of no use."""
        following = listing.next(scope) if listing.next else None
        if isinstance(following, Unknown) and following.reason.endswith("is not known"):
            return None  # the answer's last page leaves it out
        if isinstance(following, Unknown):
            raise Unreachable(f"{records}: where the next page is: {following.reason}")
        if listing.style == "page" and isinstance(following, bool):
            following = _number(scope["page"]) + 1 if following else None
        if following is None or following == "":
            return None
        if listing.style == "link":
            following = urljoin(url, _text("link", following))
        return json.dumps(_json(following))

    async def _abreast(self, records: str, question: _Question, batches: Sequence[Sequence[str]]) -> Sequence[Mapping[str, Answer]]:
        free = asyncio.Semaphore(_ABREAST)

        async def asked(keys: Sequence[str]) -> Mapping[str, Answer]:
            async with free:
                return await self._asked(records, question, keys)

        return await asyncio.gather(*map(asked, batches))

    async def _asked(self, records: str, question: _Question, keys: Sequence[str]) -> Mapping[str, Answer]:
        scope: Scope = {"key": keys[0], "keys": list(keys)}
        try:
            url, headers, body = _rendered(question.wire, self._client.base, scope)
        except ValueError as error:
            return dict.fromkeys(keys, Unknown(str(error)))
        return judge(question, keys, await self._read(records, question.wire.method, url, headers, body))

    async def _read(self, records: str, method: str, url: str, headers: Mapping[str, str], body: str | None) -> Response | Failed:
        data = None if body is None else body.encode("utf-8", "replace")
        return await self._client.read(records, method, url, self._signed(headers), data)


def _params(settings: ListSettings, where: str | Mapping[str, Value] | None) -> dict[str, Value]:
    """Every parameter of the listing; what the rule does not give is null."""
    given = where if isinstance(where, Mapping) else {}
    return {name: _param(given.get(name), FieldType(type_)) for name, type_ in settings.params.items()}


def _number(page: Value) -> int:
    return page if isinstance(page, int) else 1


def _param(value: Value, type_: FieldType) -> Value:
    return value if value is None else typed(value, type_, None)


def _why(key: Value) -> str:
    return f"its key {key.reason}" if isinstance(key, Unknown) else "its key is empty"


def _is_local(url: str) -> bool:
    return (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1")


_EXAMPLE: Final = """\
type: http
url: ${env:SHOP_API_URL}
headers: {Authorization: "Bearer ${env:SHOP_API_TOKEN}"}
timeout: 30s
rate: 10/s
records:
  orders:
    list:
      params: {within: duration}
      request: {method: POST, path: /orders/list, body: {created_after: "${now - within}", next_token: "${cursor}"}}
      items: ${body.orders}
      next: {cursor: "${body.next_token}"}
    by:
      number:
        request: {path: "/orders/${key}"}
        present: status == 200 && body.order_nr == key
        absent: status == 404 && body.error == "order_not_found"
        item: ${body}
    key: ${number}
    fields:
      number: {type: string, value: "${item.order_nr}"}
      status: string
      created_at: timestamp
calls:
  upload_order:
    path: /upload_order
    body: {id: "${id}", number_type: "${number_type}"}
    idempotent: true
    done: status == 200 && body.success == true
    refused: status == 422 || status == 200 && body.success == false
"""

KIND: Final = Kind(
    name="http",
    settings=HttpSettings,
    shape=_shape,
    open=HttpConnector,
    example=_EXAMPLE,
    lint=_lint,
    address=HttpAddress,
)
