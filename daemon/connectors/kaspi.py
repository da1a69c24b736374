"""Kaspi's shop API: its orders, listed state by state and asked for by the number that people see.

    list ─▶ each state × windows of at most 14 days × pages from 0 ─▶ orders, none twice
    ask  ─▶ filter[orders][code], without a window ─▶ exactly that order, none, or unknown

``id`` (opaque, for paths) and ``code`` (shown) are different: ``code`` is our ``number``. An order may move from one state
to another between two questions, so a listing proves nothing; the question by code does. Kaspi answers slowly, and not at
all without a browser's User-Agent. Changes to orders cannot be undone and are not offered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import Field as Setting

from daemon.domain.shape import Absent, Answer, Field, FieldType, Page, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools, WithoutCalls
from daemon.language.mistake import Mistake
from daemon.net import Client, Failed, Response
from daemon.settings import ConnectorSettings, Duration, Secret

# ── Settings and shape ───────────────────────────────────────────────────────────────────────────────────────────────


class KaspiSettings(ConnectorSettings):
    """A shop at Kaspi."""

    token: Secret = Setting(description="The shop's token (X-Auth-Token), from its cabinet.")
    url: str = Setting("https://kaspi.kz/shop/api/v2", description="Address of the API; for a proxy in Kazakhstan, its own.")
    timeout: Duration = Setting(timedelta(seconds=60), description="Bound on one request; Kaspi takes 15 to 90 seconds at times.")
    user_agent: str = Setting(
        "Mozilla/5.0 (X11; Linux x86_64) orderheal",
        pattern=r"^[\x20-\x7e]+$",
        description="Requests that do not look like a browser's fail or hang.",
    )


_IDENTIFIER = Field(FieldType.STRING, role=Role.IDENTIFIER)
_TEXT = Field(FieldType.STRING)

ORDERS: Final = Records(
    fields={
        "id": _IDENTIFIER,
        "number": _IDENTIFIER,
        "posting_number": Field(FieldType.STRING, nullable=True),
        "status": _TEXT,
        "handled_in": _TEXT,
        "state": _TEXT,
        "created_at": Field(FieldType.TIMESTAMP),
        "amount": Field(FieldType.NUMBER),
        "currency": _TEXT,
        "ship_by": Field(FieldType.TIMESTAMP, nullable=True),
    },
    key="number",
    by=frozenset({"number"}),
    where="params",
    params={"within": FieldType.DURATION, "handled_in": FieldType.LIST},
)
"""``number`` is Kaspi's code, ``status`` its status, ``handled_in`` its state, ``state`` the word that all shops share."""

SHAPE: Final = Shape({"orders": ORDERS})
STATES: Final = ("NEW", "SIGN_REQUIRED", "PICKUP", "DELIVERY", "KASPI_DELIVERY", "ARCHIVE")
WINDOW: Final = timedelta(days=14)
"""The longest that creationDate may span."""
_PAGE: Final = 100
_ABREAST: Final = 4


def _lint(name: str, settings: KaspiSettings, at: At) -> Sequence[Mistake]:
    parts = urlsplit(settings.url)
    if parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query or parts.fragment):
        return ()
    return [Mistake.at(at(("url",)), "url: must be an address such as https://kaspi.kz/shop/api/v2")]


# ── Answers to records ───────────────────────────────────────────────────────────────────────────────────────────────

_CLOSED: Final = {
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "CANCELLING": "cancelled",
    "KASPI_DELIVERY_RETURN_REQUESTED": "returned",
    "RETURN_ACCEPTED_BY_MERCHANT": "returned",
    "RETURNED": "returned",
    "APPROVED_BY_BANK": "new",
}


def state_of(attributes: Mapping[str, Value]) -> str:
    """The normalised state: status says how far an order is, state where it is handled, and both are needed."""
    status, where = attributes.get("status"), attributes.get("state")
    if isinstance(status, str) and status in _CLOSED:
        return _CLOSED[status]
    if status != "ACCEPTED_BY_MERCHANT":
        return "other"
    match where:
        case "PICKUP" | "DELIVERY":
            return "ready"
        case "KASPI_DELIVERY":
            return _with_kaspi(attributes)
        case "NEW" | "SIGN_REQUIRED":
            return "packing"
    return "other"


def _with_kaspi(attributes: Mapping[str, Value]) -> str:
    """Of an order that Kaspi delivers: assembled by us, then handed to its courier."""
    if _map(attributes.get("kaspiDelivery")).get("courierTransmissionDate") is not None:
        return "shipping"
    return "ready" if attributes.get("assembled") is True else "packing"


def order(item: Value) -> Record:
    """A resource of JSON:API as a record. A missing attribute is normal: fields appear only where they apply."""
    resource = _map(item)
    attributes = _map(resource.get("attributes"))
    status, where = _text(attributes.get("status")), _text(attributes.get("state"))
    planned = _map(attributes.get("kaspiDelivery")).get("courierTransmissionPlanningDate")
    ship_by = _moment(attributes.get("plannedDeliveryDate") if planned is None else planned)
    return {
        "id": _text(resource.get("id")),
        "number": _text(attributes.get("code")),
        "posting_number": None,
        "status": status,
        "handled_in": where,
        "state": next((each for each in (status, where) if isinstance(each, Unknown)), None) or state_of(attributes),
        "created_at": _moment(attributes.get("creationDate")) or _MISSING,
        "amount": _amount(attributes.get("totalPrice")),
        "currency": "KZT",
        "ship_by": ship_by,
    }


_MISSING: Final = Unknown("is missing in the answer")


def _map(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Value) -> Value:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else _MISSING


def _amount(value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return _MISSING if value is None else Unknown("is no number")
    return Decimal(repr(value)) if isinstance(value, float) else value


def _moment(value: Value) -> Value:
    """Milliseconds since 1970; null for none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return Unknown("is no number of milliseconds")
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=value)
    except OverflowError:
        return Unknown("is no time")


@dataclass(frozen=True, slots=True)
class Listed:
    """A good answer to a question for orders."""

    records: Sequence[Record]
    pages: int | None
    total: int | None


def understood(answer: Response | Failed) -> Listed | Unknown:
    """The orders of an answer, or why it is none: front servers answer with HTML and with nothing at all, too."""
    if isinstance(answer, Failed):
        return Unknown(answer.reason)
    if isinstance(answer.body, Unknown):
        return answer.body
    body = _map(answer.body)
    if answer.status != 200:
        return Unknown(f"status {answer.status}{_errors(body)}")
    data, meta = body.get("data"), _map(body.get("meta"))
    if "errors" in body or not isinstance(data, list):
        return Unknown(f"status 200, not recognised{_errors(body)}")
    if not all(isinstance(item, Mapping) and item.get("type") == "orders" for item in data):
        return Unknown("the answer holds something that is no order")
    return Listed([order(item) for item in data], _whole(meta.get("pageCount")), _whole(meta.get("totalCount")))


def _errors(body: Mapping[str, Value]) -> str:
    errors = body.get("errors")
    first = _map(errors[0]) if isinstance(errors, list) and errors else {}
    said = ": ".join(str(first[name]) for name in ("title", "detail") if isinstance(first.get(name), str))
    return f" ({said[:200]})" if said else ""


def _whole(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def judged(key: str, listed: Listed | Unknown) -> Answer:
    """What an answer says about one code. An empty list counts only if it also says that there are none in all."""
    if isinstance(listed, Unknown):
        return listed
    if not listed.records:
        return Absent() if listed.total == 0 else Unknown("an empty list that does not say that there are none")
    if any(record["number"] != key for record in listed.records):
        return Unknown("the answer holds an order that was not asked for")
    return Present(tuple(listed.records))


# ── Listing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing is: a state, the beginning of a window, a page; and where all of it began and ends (ms)."""

    state: str
    begin: int
    page: int
    first: int
    end: int

    @property
    def until(self) -> int:
        """The window's last millisecond; both its ends are part of it."""
        return min(self.begin + _ms(WINDOW) - 1, self.end)

    def following(self, states: Sequence[str], more: bool) -> _Place | None:
        """The next page, window or state; ``None`` after the last."""
        if more:
            return _Place(self.state, self.begin, self.page + 1, self.first, self.end)
        if self.until < self.end:
            return _Place(self.state, self.until + 1, 0, self.first, self.end)
        left = states[states.index(self.state) + 1 :]
        return _Place(left[0], self.first, 0, self.first, self.end) if left else None

    def written(self) -> str:
        """As a cursor."""
        return json.dumps([self.state, self.begin, self.page, self.first, self.end])

    def query(self, size: int) -> str:
        """The parameters of its page."""
        return urlencode(
            {
                "page[number]": self.page,
                "page[size]": size,
                "filter[orders][state]": self.state,
                "filter[orders][creationDate][$ge]": self.begin,
                "filter[orders][creationDate][$le]": self.until,
            }
        )


def _ms(value: timedelta | datetime) -> int:
    since = value - datetime.fromtimestamp(0, UTC) if isinstance(value, datetime) else value
    return since // timedelta(milliseconds=1)


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────


class KaspiConnector(WithoutCalls):
    """One shop behind the Connector port."""

    def __init__(self, name: str, settings: KaspiSettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        self.name, self.shape, self.slots, self.lag = name, SHAPE, settings.slots, settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings, self._tools = settings, tools
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)

    async def list(
        self, records: str, where: str | Mapping[str, Value] | None, since: datetime | None,
        cursor: str | None, now: datetime, size: int, hold: bool,
    ) -> AsyncGenerator[Page, None]:  # fmt: skip
        """Every state, the oldest window first; an order that moves meanwhile is given once. Raises ``Unreachable``."""
        params = where if isinstance(where, Mapping) else {}
        states, given = self._states(params.get("handled_in")), params.get("within")
        within = given if isinstance(given, timedelta) else WINDOW
        place: _Place | None = _Place(*json.loads(cursor)) if cursor else _Place(states[0], _ms(now - within), 0, _ms(now - within), _ms(now))
        met: set[str] = set()
        while place is not None:
            listed = await self._page(place, min(size, _PAGE))
            count = len(listed.records)
            more = count > 0 and (place.page + 1 < listed.pages if listed.pages is not None else count >= min(size, _PAGE))
            place = place.following(states, more)
            fresh = list(_unmet(listed.records, met))
            keyed = [record for record in fresh if isinstance(record["number"], str)]
            missing = ["its code is missing in the answer"] * (len(fresh) - len(keyed))
            yield Page(tuple(keyed), place.written() if place else None, tuple(missing[:10]))

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """One request per number, without a window, so that an order of any age is found."""
        asked = [key for key in dict.fromkeys(keys) if key]
        answers: dict[str, Answer] = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        free = asyncio.Semaphore(_ABREAST)

        async def one(key: str) -> Answer:
            async with free:
                return judged(key, await self._read("order", urlencode({"filter[orders][code]": key})))

        answers.update(zip(asked, await asyncio.gather(*map(one, asked)), strict=True))
        return answers

    async def check(self) -> Sequence[str]:
        """Asks for one new order of the last day."""
        now = self._tools.timescale.rule(self._tools.database_now())
        begin = _ms(now - timedelta(days=1))
        place = _Place("NEW", begin, 0, begin, _ms(now))
        answer = await self._client.read("check", "GET", self._url(place.query(1)), self._headers())
        if isinstance(answer, Response) and answer.ill:
            return (f"Kaspi refuses our token (status {answer.status}); check token, it may have been revoked",)
        listed = understood(answer)
        if isinstance(listed, Unknown):
            return (f"Kaspi does not answer as it should ({listed.reason}); from outside Kazakhstan it may need a proxy (url)",)
        return ()

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    def _states(self, given: Value) -> Sequence[str]:
        if given is None:
            return STATES
        states = [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
        if not states or not set(states) <= set(STATES):
            raise Unreachable(f"{self.name}: handled_in must be a list of {', '.join(STATES)}")
        return states

    async def _page(self, place: _Place, size: int) -> Listed:
        listed = await self._read("orders", place.query(size))
        if isinstance(listed, Unknown):
            raise Unreachable(f"{self.name}: {listed.reason}")
        return listed

    async def _read(self, operation: str, query: str) -> Listed | Unknown:
        listed = understood(await self._client.read(operation, "GET", self._url(query), self._headers()))
        return Unknown(self._tools.redact(listed.reason)) if isinstance(listed, Unknown) else listed

    def _url(self, query: str) -> str:
        return f"{self._client.base}/orders?{query}"

    def _headers(self) -> Mapping[str, str]:
        return {
            "X-Auth-Token": self._settings.token.reveal(),
            "Content-Type": "application/vnd.api+json",
            "Accept": "application/vnd.api+json",
            "User-Agent": self._settings.user_agent,
        }


def _unmet(records: Sequence[Record], met: set[str]) -> Iterator[Record]:
    for record in records:
        id_ = record["id"]
        if isinstance(id_, str):
            if id_ in met:
                continue
            met.add(id_)
        yield record


_EXAMPLE: Final = """\
type: kaspi
token: ${env:KASPI_TOKEN}
rate: 5/s
"""

KIND: Final = Kind(
    name="kaspi",
    settings=KaspiSettings,
    shape=lambda settings: SHAPE,
    open=KaspiConnector,
    example=_EXAMPLE,
    lint=_lint,
)
