"""Lamoda's SellerCenter: its orders, its imports (feeds), and what became of an import, product by product.

    action + parameters ─ sign, anew for each try ─▶ GET ─▶ XML or JSON ─ one tree ─▶ Success | Refused | Unknown ─▶ records

Whatever the format, an answer is brought into the one shape that JSON's mechanical translation of the XML has (numbers as
text, one element of a list alone, nothing as ``""``) and read from there. What counts is the root element, not the status:
an ErrorResponse comes with 200 as well. *Finished* says that an import has ended, not that it worked: ``failed`` says that.

SellerCenter has no question by OrderNumber. ``number`` is looked for in the listing, newest first, until ``lookback``; one
that is not there is unknown, never absent. By ``id`` (OrderId) an order is asked for alone, and E016 says that there is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import Element, ParseError
from zoneinfo import ZoneInfo

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import Field as Setting

from daemon.domain.shape import Absent, Answer, Field, FieldType, Page, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools, WithoutCalls
from daemon.language.mistake import Mistake
from daemon.net import Client, Failed, Response
from daemon.settings import ConnectorSettings, Duration, Secret, Zone

# ── Settings and shape ───────────────────────────────────────────────────────────────────────────────────────────────

_CURRENCIES: Final = {"ru": "RUB", "kz": "KZT", "ua": "UAH", "by": "BYN"}


class LamodaSettings(ConnectorSettings):
    """One country's SellerCenter; each country has its own users and keys."""

    url: str = Setting(description="Address of its API: https://api.sellercenter.lamoda.kz/")
    user: Secret = Setting(description="UserID, the e-mail address that SellerCenter knows the user by.")
    api_key: Secret = Setting(description="The user's API key; it signs requests and is never sent.")
    timezone: Zone = Setting(description="Zone of its timestamps, which carry none: Asia/Almaty.")
    currency: str | None = Setting(
        None, pattern=r"^[A-Z]{3}$", description="Currency of its orders, which do not say it (KZT); by the country in url, if left out."
    )
    format: Literal["xml", "json"] = Setting("xml", description="What it is asked to answer in.")
    lookback: Duration = Setting(
        timedelta(days=30), description="How far back an order is looked for by its number; an older one is unknown."
    )


_TEXT, _NUMBER, _TIME = (Field(each) for each in (FieldType.STRING, FieldType.NUMBER, FieldType.TIMESTAMP))
_IDENTIFIER = Field(FieldType.STRING, role=Role.IDENTIFIER)
_MAYBE_NUMBER, _MAYBE_TIME = Field(FieldType.NUMBER, nullable=True), Field(FieldType.TIMESTAMP, nullable=True)
_WITHIN: Final = {"within": FieldType.DURATION}

ORDERS: Final = Records(
    fields={
        "id": _IDENTIFIER,
        "number": _IDENTIFIER,
        "posting_number": Field(FieldType.STRING, nullable=True),
        "status": _TEXT,
        "state": _TEXT,
        "created_at": _TIME,
        "amount": _NUMBER,
        "currency": _TEXT,
        "ship_by": _MAYBE_TIME,
    },
    key="number",
    by=frozenset({"id", "number"}),
    where="params",
    params=_WITHIN,
)
"""``id`` is OrderId (internal), ``number`` OrderNumber (shown); there are no postings. ``status``: all that its items have."""

FEEDS: Final = Records(
    fields={
        "feed": _IDENTIFIER,
        "action": _TEXT,
        "source": _TEXT,
        "status": _TEXT,
        "created_at": _TIME,
        "updated_at": _MAYBE_TIME,
        "total": _MAYBE_NUMBER,
        "processed": _MAYBE_NUMBER,
        "failed": _MAYBE_NUMBER,
    },
    key="feed",
    by=frozenset({"feed"}),
    where="params",
    params=_WITHIN,
)
"""The imports of the last 30 days. ``failed`` is null where the list holds a file instead."""

FEED_STATUS: Final = Records(
    fields={**FEEDS.fields, "total": _NUMBER, "processed": _NUMBER, "failed": _NUMBER, "errors": Field(FieldType.LIST)},
    key="feed",
    by=frozenset({"feed"}),
    listable=False,
)
"""One import in full; ``errors`` are maps of ``sku`` (may be empty) and ``message``."""

SHAPE: Final = Shape({"orders": ORDERS, "feeds": FEEDS, "feed_status": FEED_STATUS})


def _lint(name: str, settings: LamodaSettings, at: At) -> Sequence[Mistake]:
    parts = urlsplit(settings.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        return [Mistake.at(at(("url",)), "url: must be an address such as https://api.sellercenter.lamoda.kz/")]
    if currency_of(settings) is None:
        return [Mistake.at(at(("url",)), "currency: its country does not follow from url; say it, such as currency: KZT")]
    return ()


def currency_of(settings: LamodaSettings) -> str | None:
    """The currency of its orders; ``None`` if neither said nor to be known by the country."""
    country = (urlsplit(settings.url).hostname or "").rpartition(".")[2]
    return settings.currency or _CURRENCIES.get(country)


# ── Signing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def signed(params: Mapping[str, str], api_key: Secret) -> str:
    """The query: sorted by name, encoded by RFC 3986, with the HMAC-SHA256 of exactly that at its end."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(params.items()))
    signature = hmac.new(api_key.reveal().encode(), query.encode(), hashlib.sha256).hexdigest()
    return f"{query}&Signature={signature}"


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Tree: TypeAlias = Value
"""What both formats come to: maps, lists and texts."""


@dataclass(frozen=True, slots=True)
class Success:
    """A SuccessResponse."""

    head: Mapping[str, Value]
    body: Tree


@dataclass(frozen=True, slots=True)
class Refused:
    """An ErrorResponse, whatever its HTTP status."""

    code: int
    message: str

    def __str__(self) -> str:
        return self.message or f"error {self.code}"


class _Code:
    """SellerCenter's error codes that mean something to us."""

    EXPIRED: Final = 3
    SIGNATURE: Final = 7
    DENIED: Final = 9
    NO_FEED: Final = 12
    NO_ORDER: Final = 16
    THROTTLED: Final = 429
    AGAIN: Final = frozenset({3, 6, 1000})
    """An expired timestamp and internal errors: asked once more, with a new signature."""


_THROTTLED: Final = timedelta(minutes=2)
"""How long to leave it alone after E429, which names no time: what its makers document between two FeedStatus."""

_STATUS_RATE: Final = (1 / _THROTTLED.total_seconds(), 50)
"""FeedStatus a second and at once, for all replicas: its makers document 50, then one in two minutes, apart from all else."""


def understood(answer: Response | Failed) -> Success | Refused | Unknown:
    """What an answer says by its root element."""
    if isinstance(answer, Failed):
        return Unknown(answer.reason)
    if isinstance(answer.body, Unknown):
        return answer.body
    tree = answer.body if isinstance(answer.body, Mapping) else parsed(answer.text)
    if isinstance(tree, Unknown) or not isinstance(tree, Mapping) or len(tree) != 1:
        return Unknown(f"status {answer.status}, " + (tree.reason if isinstance(tree, Unknown) else "not recognised"))
    (root, content), *_ = tree.items()
    head = _map(_map(content).get("Head"))
    if root == "ErrorResponse" and answer.status < 500 and (code := _whole(head.get("ErrorCode"))) is not None:
        return Refused(code, str(head.get("ErrorMessage") or ""))
    if root == "SuccessResponse" and answer.status == 200 and head:
        return Success(head, _map(content).get("Body", ""))
    return Unknown(f"status {answer.status}, not recognised")


def parsed(text: str) -> Tree:
    """XML as JSON would have it; ``Unknown`` if it is none, or holds a document type (entities are refused)."""
    try:
        root = fromstring(text, forbid_dtd=True)
        return {_name(root): _tree(root, _DEEPEST)}
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        return Unknown(f"no readable XML ({type(error).__name__})")


_DEEPEST: Final = 20


def _tree(element: Element, depth: int) -> Tree:
    if len(element) == 0:
        return (element.text or "").strip()
    if depth == 0:
        raise ValueError("nested too deep")
    found: dict[str, Value] = {}
    several: dict[str, list[Value]] = {}
    for child in element:
        name, value = _name(child), _tree(child, depth - 1)
        several.setdefault(name, []).append(value)
        found[name] = value
    return {name: values if len(values) > 1 else found[name] for name, values in several.items()}


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _map(tree: Tree) -> Mapping[str, Value]:
    return tree if isinstance(tree, Mapping) else {}


def _items(tree: Tree, name: str) -> Sequence[Tree] | Unknown:
    """The elements of a list: none, one alone, or several. Anything else is no list."""
    if tree in ("", None) or tree == []:
        return ()
    if not isinstance(tree, Mapping):
        return Unknown(f"holds no list of {name}")
    inner = tree.get(name, "")
    if inner in ("", None):
        return () if not tree or set(tree) == {name} else Unknown(f"holds no list of {name}")
    return inner if isinstance(inner, list) else [inner]


def _whole(value: Value) -> int | None:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None


# ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_STATES: Final = {
    "pending": "new",
    "processing": "packing",
    "ready_to_ship": "ready",
    "shipped": "shipping",
    "delivered": "done",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "returned": "returned",
}
_LEAST_FIRST: Final = ("new", "packing", "ready", "shipping", "other", "done", "returned", "cancelled")
"""An order is as far as the item of it that is least far; a cancelled one only when nothing else is left."""


def order(item: Tree, zone: ZoneInfo, currency: str) -> Record:
    """An ``Order`` element as a record; what could not be read is unknown in its place."""
    found = _map(item)
    statuses = _items(found.get("Statuses", ""), "Status")
    words = [str(word) for word in statuses if isinstance(word, str)] if not isinstance(statuses, Unknown) else []
    states = {_STATES.get(word.lower(), "other") for word in words}
    none = Unknown("has no status")
    return {
        "id": _identifier(found.get("OrderId")),
        "number": _identifier(found.get("OrderNumber")),
        "posting_number": None,
        "status": ", ".join(words) or none,
        "state": next((state for state in _LEAST_FIRST if state in states), none),
        "created_at": _present(moment(found.get("CreatedAt"), zone)),
        "amount": _present(_number(found.get("Price"))),
        "currency": currency,
        "ship_by": moment(found.get("PromisedShippingTime"), zone),
    }


def feed(item: Tree, zone: ZoneInfo) -> Record:
    """An entry of the list of feeds. Where a number should be may be a file: then it is null."""
    found = _map(item)
    return {
        "feed": _identifier(found.get("Feed")),
        **{name: _text(found.get(element)) for name, element in _FEED_TEXTS.items()},
        "created_at": _present(moment(found.get("CreationDate"), zone)),
        "updated_at": moment(found.get("UpdatedDate"), zone),
        **{name: _count(found.get(element)) for name, element in _FEED_COUNTS.items()},
    }


_FEED_TEXTS: Final = {"action": "Action", "source": "Source", "status": "Status"}
_FEED_COUNTS: Final = {"total": "TotalRecords", "processed": "ProcessedRecords", "failed": "FailedRecords"}


def feed_status(body: Tree, zone: ZoneInfo) -> Record:
    """The body of FeedStatus, with or without its FeedDetail; a number that is not there yet is unknown."""
    found = _map(_map(body).get("FeedDetail", body))
    record = feed(found, zone)
    counts = {name: _present(record[name]) for name in _FEED_COUNTS}
    listed = _items(found.get("FeedErrors", ""), "Error")
    errors: Value = listed if isinstance(listed, Unknown) else [_error(each) for each in listed]
    return {**record, **counts, "errors": errors}


_SKU: Final = re.compile(r"""(?i)sku[\s:=]{0,3}\\?['"]([^'"\\]+)|sku\s?[:=]\s?([\w./-]+)""")


def _error(item: Tree) -> Mapping[str, Value]:
    """An error with the SKU it is about; where that is left out, the message may name it."""
    found = _map(item)
    message, sku = (str(found.get(name) or "") for name in ("Message", "SellerSku"))
    named = None if sku else _SKU.search(message)
    return {"sku": sku or (named[1] or named[2] if named else ""), "message": message}


def _identifier(value: Value) -> Value:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text or Unknown("is missing in the answer")


def _text(value: Value) -> Value:
    return value if isinstance(value, str) and value else Unknown("is missing in the answer")


def _present(value: Value) -> Value:
    return Unknown("is missing in the answer") if value is None else value


def _number(value: Value) -> Value:
    if value in (None, ""):
        return None
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return Decimal(text) if re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", text) else Unknown("is no number")


def _count(value: Value) -> Value:
    return None if isinstance(value, Mapping | list) else _number(value)


def moment(value: Value, zone: ZoneInfo) -> Value:
    """A time, in the connector's zone unless it says another; null for none."""
    if value in (None, ""):
        return None
    try:
        at = datetime.fromisoformat(str(value))
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return Unknown("is no time")


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────

_PAGE: Final = 100
_WINDOW: Final = timedelta(days=30)
_ABREAST: Final = 4
_ENDED: Final = frozenset({"Finished", "Error", "Canceled"})  # what a feed's status never leaves again
_KEPT: Final = 1000  # ended feeds whose status is remembered


class LamodaConnector(WithoutCalls):
    """One SellerCenter behind the Connector port. It has no calls: changes are the integration service's."""

    def __init__(self, name: str, settings: LamodaSettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        self.name, self.shape, self.slots, self.lag = name, SHAPE, settings.slots, settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings, self._tools = settings, tools
        self._zone, self._currency = ZoneInfo(settings.timezone), currency_of(settings) or ""
        self._ended: dict[str, Answer] = {}
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)

    async def list(
        self, records: str, where: str | Mapping[str, Value] | None, since: datetime | None,
        cursor: str | None, now: datetime, size: int, hold: bool,
    ) -> AsyncGenerator[Page, None]:  # fmt: skip
        """Pages, the oldest first, so that what comes meanwhile is at the end. Raises ``Unreachable``."""
        within = where.get("within") if isinstance(where, Mapping) else None
        after = now - (within if isinstance(within, timedelta) else _WINDOW)
        offset = 0
        if cursor is not None:
            offset, begun = json.loads(cursor)
            after = datetime.fromisoformat(begun)
        while True:
            page = await self._listed(records, after, offset, min(size, _PAGE))
            yield page
            if page.cursor is None:
                return
            offset = json.loads(page.cursor)[0]

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """Each key alone, but for orders by number: those are looked for in the listing, all at once."""
        asked = [key for key in dict.fromkeys(keys) if key]
        answers: dict[str, Answer] = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        if records == "orders" and by == "number":
            answers.update(await self._by_number(asked))
            return answers
        free = asyncio.Semaphore(_ABREAST)

        async def one(key: str) -> Answer:
            async with free:
                return await (self._order(key) if records == "orders" else self._feed(key, fresh))

        answers.update(zip(asked, await asyncio.gather(*map(one, asked)), strict=True))
        return answers

    async def check(self) -> Sequence[str]:
        """Counts the feeds, which needs address, clock, user and key to be right."""
        said = await self._said("FeedCount", {})
        match said:
            case Success():
                return ()
            case Refused(code=_Code.SIGNATURE | _Code.DENIED):
                return (f"Lamoda refuses our credentials ({said}); check user and api_key, and that they are of this country",)
            case Refused(code=_Code.EXPIRED):
                return (f"Lamoda finds our timestamp expired ({said}); check the clock of the database server",)
            case Refused():
                return (f"Lamoda refuses FeedCount ({said})",)
        return (f"Lamoda cannot be reached ({said.reason}); check url, network and certificate",)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    # Questions

    async def _order(self, key: str) -> Answer:
        said = await self._said("GetOrder", {"OrderId": key})
        if isinstance(said, Refused) and said.code == _Code.NO_ORDER:
            return Absent()
        if not isinstance(said, Success):
            return _doubt(said)
        found = self._orders(said.body)
        if isinstance(found, Unknown):
            return found
        return _own("id", key, found)

    async def _feed(self, key: str, fresh: bool) -> Answer:
        """One that was seen ended stays as it ended, and is not asked about again unless it has to be fresh."""
        if not fresh and key in self._ended:
            return self._ended[key]
        said = await self._status_wait() or await self._said("FeedStatus", {"FeedID": key})
        if isinstance(said, Refused) and said.code == _Code.NO_FEED:
            return Absent()
        if not isinstance(said, Success):
            return _doubt(said)
        answer = _own("feed", key, [feed_status(said.body, self._zone)])
        if isinstance(answer, Present) and answer.records[0]["status"] in _ENDED:
            while len(self._ended) >= _KEPT:
                del self._ended[next(iter(self._ended))]
            self._ended[key] = answer
        return answer

    async def _status_wait(self) -> Unknown | None:
        """Why FeedStatus cannot be asked now, if it cannot; to wait for minutes is the asker's affair."""
        try:
            wait = await self._tools.quota.reserve(self._target("FeedStatus"), *_STATUS_RATE, 1)
        except Exception as error:  # whatever the store says: a question has an answer, not an exception
            return Unknown(f"rate could not be reserved: {type(error).__name__}")
        return Unknown(f"FeedStatus: the next request may go in {wait:.0f} s") if wait else None

    def _target(self, action: str) -> str:
        """Whose rate an action uses up: FeedStatus has one of its own."""
        return f"{self.name}/{action}" if action == "FeedStatus" else self.name

    async def _by_number(self, keys: Sequence[str]) -> Mapping[str, Answer]:
        """The newest first, until all are found. One that is not there may be older: unknown."""
        left = dict.fromkeys(keys)
        found: dict[str, Answer] = {}
        after = self._now() - self._settings.lookback
        reason = f"not among the orders of the last {self._settings.lookback.days} days; Lamoda has no question by number"
        offset: int | None = 0
        while left and offset is not None:
            try:
                page, offset = await self._page("orders", after, offset, _PAGE, newest=True)
            except Unreachable as error:
                reason, offset = str(error), None
                continue
            for record in page:
                number = record["number"]
                if isinstance(number, str) and number in left:
                    del left[number]
                    found[number] = Present((record,))
        return found | dict.fromkeys(left, Unknown(reason))

    def _now(self) -> datetime:
        """Rule time: orders of a simulated system are as old as its time says."""
        return self._tools.timescale.rule(self._tools.database_now())

    async def _listed(self, records: str, after: datetime, offset: int, limit: int) -> Page:
        found, following = await self._page(records, after, offset, limit)
        key = self.shape.records[records].key
        keyed = [record for record in found if isinstance(record[key], str)]
        missing = [f"{key} is missing in the answer" for record in found if not isinstance(record[key], str)]
        if records == "feeds":  # the list knows no reliable window of its own
            keyed = [record for record in keyed if not isinstance(at := record["created_at"], datetime) or at >= after]
        cursor = None if following is None else json.dumps([following, after.isoformat()])
        return Page(tuple(keyed), cursor, tuple(missing[:10]))

    async def _page(
        self, records: str, after: datetime, offset: int, limit: int, newest: bool = False
    ) -> tuple[Sequence[Record], int | None]:
        """One page and where the next begins. Raises ``Unreachable``."""
        if records == "orders":
            direction = "DESC" if newest else "ASC"
            action = "GetOrders"
            params = {"CreatedAfter": _iso(after), "Limit": str(limit), "SortBy": "created_at", "SortDirection": direction}
        elif records == "feeds":
            action, params = "FeedOffsetList", {"PageSize": str(limit)}
        else:
            raise Unreachable(f"{self.name}: {records} cannot be listed")
        said = await self._said(action, {**params, "Offset": str(offset)})
        if not isinstance(said, Success):
            raise Unreachable(f"{self.name}: {action}: {said.reason if isinstance(said, Unknown) else said}")
        found = self._orders(said.body) if records == "orders" else self._feeds(said.body)
        if isinstance(found, Unknown):
            raise Unreachable(f"{self.name}: {action}: the answer {found.reason}")
        total, end = _whole(said.head.get("TotalCount")), offset + len(found)
        more = len(found) > 0 and (end < total if total is not None else len(found) >= limit)
        return found, end if more else None

    def _orders(self, body: Tree) -> Sequence[Record] | Unknown:
        inner = _map(body).get("Orders", "" if body in ("", None) else None)
        listed = Unknown("holds no orders") if inner is None else _items(inner, "Order")
        return listed if isinstance(listed, Unknown) else [order(each, self._zone, self._currency) for each in listed]

    def _feeds(self, body: Tree) -> Sequence[Record] | Unknown:
        listed = _items(body, "Feed")
        return listed if isinstance(listed, Unknown) else [feed(each, self._zone) for each in listed]

    # The wire

    async def _said(self, action: str, params: Mapping[str, str]) -> Success | Refused | Unknown:
        """What it says, asked once more where that helps. Throttling is told to all replicas."""
        said = await self._asked(action, params)
        if isinstance(said, Refused) and said.code in _Code.AGAIN:
            said = await self._asked(action, params)
        if isinstance(said, Refused) and said.code == _Code.THROTTLED:
            await self._throttled(action)
        return said

    async def _asked(self, action: str, params: Mapping[str, str]) -> Success | Refused | Unknown:
        answer = await self._client.read(action, "GET", self._signing(action, params))
        said = understood(answer)
        if isinstance(said, Unknown) and isinstance(answer, Response) and answer.status == _Code.THROTTLED:
            return Refused(_Code.THROTTLED, "status 429")
        if isinstance(said, Refused):
            return Refused(said.code, self._tools.redact(said.message)[:300])
        return said

    def _signing(self, action: str, params: Mapping[str, str]) -> Callable[[], str]:
        """The address, made and signed when it is sent: a retry with the old timestamp would be refused (E003)."""

        def url() -> str:
            common = {
                "Action": action,
                "Timestamp": _iso(self._tools.database_now()),
                "UserID": self._settings.user.reveal(),
                "Version": "1.0",
                "Format": self._settings.format.upper(),
            }
            return f"{self._client.base}/?{signed({**params, **common}, self._settings.api_key)}"

        return url

    async def _throttled(self, action: str) -> None:
        try:
            await self._tools.quota.push(self._target(action), self._tools.database_now() + _THROTTLED)
        except Exception:  # the store is away: the answer stays the same, only others are not warned
            return


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _doubt(said: Refused | Unknown) -> Unknown:
    return said if isinstance(said, Unknown) else Unknown(str(said))


def _own(by: str, key: str, found: Sequence[Record]) -> Answer:
    """Exactly the one that was asked for; anything else concludes nothing (law 14)."""
    if len(found) == 1 and found[0][by] == key:
        return Present((found[0],))
    return Unknown("the answer holds another one than was asked for" if found else "the answer holds none")


_EXAMPLE: Final = """\
type: lamoda
url: https://api.sellercenter.lamoda.kz/
user: ${env:LAMODA_USER}
api_key: ${env:LAMODA_KEY}
timezone: Asia/Almaty
rate: 1/s
"""

KIND: Final = Kind(
    name="lamoda",
    settings=LamodaSettings,
    shape=lambda settings: SHAPE,
    open=LamodaConnector,
    example=_EXAMPLE,
    lint=_lint,
)
