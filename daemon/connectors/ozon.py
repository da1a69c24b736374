"""Ozon's Seller API, read only: postings, and the orders that they belong to.

    list ─▶ windows, halved when refused ─▶ pages by cursor ─▶ records ─▶ Page
    ask  ─▶ posting_number: the single-posting method     ─▶ its own number | POSTING_NOT_FOUND ─▶ Answer
         └▶ order numbers: the list's filter, window by window, each beside a control order     ─▶ Answer

Nearly every method of this API is a POST, reads included, so what may be called is an allow-list: ``Method``. An order
is one or several postings, and is answered as one record. Absence is earned (law 14): of a posting by the documented
code alone; of an order only if in every window of ``history`` the same request showed an order known to stand there,
and its first posting numbers, asked singly, do not exist either, for the list may lag behind.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import Field as Setting

from daemon.domain.shape import Absent, Answer, Field, FieldType, Page, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.ports import Unreachable
from daemon.kinds import At, Kind, Tools, WithoutCalls
from daemon.language.mistake import Mistake
from daemon.net import Client, Failed, Response
from daemon.settings import ConnectorSettings, Duration, RateText, Secret, Settings, parse_rate

# ── Settings and shape ───────────────────────────────────────────────────────────────────────────────────────────────


class Method(StrEnum):
    """All that can ever be called here: methods that read. Whatever changes something is the integration service's."""

    LIST = "/v4/posting/fbs/list"
    UNFULFILLED = "/v4/posting/fbs/unfulfilled/list"
    GET = "/v3/posting/fbs/get"
    DELIVERY_METHODS = "/v2/delivery-method/list"


class CarrierSettings(Settings):
    """Which postings a carrier takes: of one of these delivery methods, or of a provider of one of these names."""

    delivery_method_ids: list[str] = Setting([], description="Ids of the shop's delivery methods, as `orderheal doctor` lists them.")
    provider_names: list[str] = Setting([], description="Words of the provider's or the method's name, in any case: [CDEK, СДЭК].")


class OzonSettings(ConnectorSettings):
    """A shop on Ozon."""

    url: str = Setting("https://api-seller.ozon.ru", description="Address of the Seller API; there is no test environment.")
    client_id: Secret = Setting(description="The shop's Client-Id.")
    api_key: Secret = Setting(description="A key with a role that may read postings and delivery methods; no more is needed.")
    rate: RateText | None = Setting(
        default_factory=lambda: parse_rate("40/s"), description="Requests per second; of Ozon's 50, the rest is left to the shop (40/s)."
    )
    carriers: dict[str, CarrierSettings] = Setting(
        {}, description="Carriers by the name that the field `carrier` gives them; all else is `other`."
    )
    history: Duration = Setting(
        timedelta(days=365),
        description="How far back an order is looked for by its number before it counts as absent; more than the age of what rules ask about.",
    )


_S, _T = FieldType.STRING, FieldType.TIMESTAMP
ORDERS: Final = Records(
    fields={
        "id": Field(_S, role=Role.IDENTIFIER),
        "number": Field(_S, role=Role.IDENTIFIER),
        "posting_number": Field(_S, nullable=True, role=Role.IDENTIFIER),
        "status": Field(_S),
        "state": Field(_S),
        "created_at": Field(_T),
        "amount": Field(FieldType.NUMBER),
        "currency": Field(_S),
        "ship_by": Field(_T, nullable=True),
    },
    key="number",
    by=frozenset({"number"}),
    where="params",
    params={"within": FieldType.DURATION, "unfulfilled": FieldType.BOOL},
)
"""``id`` is Ozon's ``order_id``, ``number`` its ``order_number``. Several postings: the state and status of the one that is least far on,
money of all but the cancelled ones, the earliest times, and no ``posting_number``."""

POSTINGS: Final = Records(
    fields={
        **ORDERS.fields,
        "posting_number": Field(_S, role=Role.IDENTIFIER),
        "order_id": Field(_S, role=Role.IDENTIFIER),
        "order_number": Field(_S, role=Role.IDENTIFIER),
        "substatus": Field(_S, nullable=True),
        "status_since": Field(_T, nullable=True),
        "tracking_number": Field(_S, nullable=True, role=Role.IDENTIFIER),
        "carrier": Field(_S),
        "warehouse": Field(_S, nullable=True),
        "products": Field(FieldType.LIST),
    },
    key="posting_number",
    by=frozenset({"posting_number", "order_number"}),
    where="params",
    params=ORDERS.params,
)
"""``status_since`` is null but for the states of which Ozon says when they began."""

_SHAPE: Final = Shape(records={"postings": POSTINGS, "orders": ORDERS})


def lint(name: str, settings: OzonSettings, at: At) -> Sequence[Mistake]:
    """A delivery method has one carrier."""
    owners: dict[str, str] = {}
    mistakes = []
    for carrier, each in settings.carriers.items():
        for index, method in enumerate(each.delivery_method_ids):
            if owners.setdefault(method, carrier) != carrier:
                place = at(("carriers", carrier, "delivery_method_ids", index))
                mistakes.append(
                    Mistake.at(place, f"delivery_method_ids: {method} is {owners[method]}'s already; leave it with one carrier")
                )
    return mistakes


# ── Answers to records ───────────────────────────────────────────────────────────────────────────────────────────────

OTHER: Final = "other"
_STATES: Final[Mapping[str, str]] = {
    "awaiting_registration": "new",
    "acceptance_in_progress": "new",
    "awaiting_approve": "new",
    "awaiting_verification": "new",
    "awaiting_packaging": "packing",
    "awaiting_deliver": "ready",
    "delivering": "shipping",
    "driver_pickup": "shipping",
    "sent_by_seller": "shipping",
    "delivered": "done",
    "cancelled": "cancelled",
    "cancelled_from_split_pending": "cancelled",
    "not_accepted": "returned",
}
"""The list of statuses has grown over time: one that is not here is ``other``, data and no error."""

_FURTHEST: Final = ("new", "packing", "ready", "shipping", OTHER, "done", "returned", "cancelled")
_BEGINS: Final[Mapping[str, str]] = {"posting_created": "in_process_at"}
_BEGAN: Final[Mapping[str, str]] = {"delivering": "delivering_date"}


def posting(item: Mapping[str, Any], carriers: Mapping[str, CarrierSettings]) -> Record:
    """A posting as a record, of the flat form of v4 and of the single one of v3; nothing of the customer is kept."""
    amount, currency = _money(item.get("products"))
    method = item.get("delivery_method")
    return {
        "id": _identifier(item, "order_id"),
        "number": _text(item, "order_number"),
        "posting_number": _text(item, "posting_number"),
        "status": _text(item, "status"),
        "state": _state(_text(item, "status")),
        "created_at": _some(_moment(item, "in_process_at"), "in_process_at"),
        "amount": amount,
        "currency": currency,
        "ship_by": _moment(item, "shipment_date"),
        "order_id": _identifier(item, "order_id"),
        "order_number": _text(item, "order_number"),
        "substatus": _optional(item, "substatus"),
        "status_since": _status_since(item),
        "tracking_number": _optional(item, "tracking_number"),
        "carrier": carrier(method, carriers),
        "warehouse": _optional(method, "warehouse") if isinstance(method, Mapping) else None,
        "products": _products(item.get("products")),
    }


def order(postings: Sequence[Record]) -> Record:
    """The order that these postings, of which there is at least one, belong to."""
    first = postings[0]
    live = [one for one in postings if one["state"] != "cancelled"] or postings
    behind = min(live, key=_advance)
    return {
        "id": _one([one["order_id"] for one in postings], "order_id"),
        "number": first["order_number"],
        "posting_number": first["posting_number"] if len(postings) == 1 else None,
        "status": behind["status"],
        "state": behind["state"],
        "created_at": _fold([one["created_at"] for one in live], min),
        "amount": _fold([one["amount"] for one in live], sum),
        "currency": _one([one["currency"] for one in live], "currency"),
        "ship_by": _fold([one["ship_by"] for one in live if one["ship_by"] is not None], min),
    }


def carrier(method: object, carriers: Mapping[str, CarrierSettings]) -> Value:
    """Whose delivery method it is, by the configuration."""
    if not isinstance(method, Mapping):
        return Unknown("delivery_method is missing in the answer")
    own, names = str(method.get("id")), f"{method.get('tpl_provider')} \n {method.get('name')}"
    fits = [
        name
        for name, one in carriers.items()
        if own in one.delivery_method_ids or any(_has_word(names, word) for word in one.provider_names)
    ]
    if len(fits) > 1:
        return Unknown(f"delivery method {own} fits several carriers: {', '.join(fits)}")
    return fits[0] if fits else OTHER


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _state(status: Value) -> Value:
    return _STATES.get(status, OTHER) if isinstance(status, str) else status


def _advance(one: Record) -> int:
    """How far a posting is; what is not known comes first, so that it is not passed over."""
    state = one["state"]
    return _FURTHEST.index(state) if isinstance(state, str) else -1


def _status_since(item: Mapping[str, Any]) -> Value:
    """Ozon does not say since when a status holds, but where the status begins with a moment that it does tell."""
    name = _BEGINS.get(str(item.get("substatus"))) or _BEGAN.get(str(item.get("status")))
    return _moment(item, name) if name else None


def _text(item: Mapping[str, Any], name: str) -> Value:
    value = item.get(name)
    return value if isinstance(value, str) and value else Unknown(f"{name} is missing in the answer")


def _optional(item: Mapping[str, Any], name: str) -> Value:
    value = item.get(name)
    return (value or None) if isinstance(value, str | None) else Unknown(f"{name} is no text")


def _identifier(item: Mapping[str, Any], name: str) -> Value:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str) or value in ("", 0):
        return Unknown(f"{name} is missing in the answer")
    return str(value)


def _moment(item: Mapping[str, Any], name: str) -> Value:
    text = item.get(name)
    if text is None or text == "":
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return Unknown(f"{name} is no timestamp")


def _some(value: Value, name: str) -> Value:
    return Unknown(f"{name} is empty in the answer") if value is None else value


def _money(products: object) -> tuple[Value, Value]:
    """The sum of prices times quantities, and its currency. In v4 a price is an object, in v3 text beside its currency."""
    if not isinstance(products, list) or not products:
        return (Unknown("products are missing in the answer"),) * 2
    prices = [_price(product) for product in products]
    amount = _fold([_times(product, price) for product, (price, _) in zip(products, prices, strict=True)], sum)
    return amount, _one([currency for _, currency in prices], "currency")


def _price(product: object) -> tuple[Value, Value]:
    if not isinstance(product, Mapping):
        return (Unknown("a product is no map"),) * 2
    price = product.get("price")
    if isinstance(price, Mapping):
        return _decimal(price.get("amount"), "price"), _text(price, "currency")
    return _decimal(price, "price"), _text(product, "currency_code")


def _times(product: object, price: Value) -> Value:
    quantity = _decimal(product.get("quantity") if isinstance(product, Mapping) else None, "quantity")
    return _fold([price, quantity], lambda both: both[0] * both[1])


def _decimal(value: object, name: str) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}(\.\d{1,10})?", value):
        return Decimal(value)
    return Unknown(f"{name} is no number")


def _products(products: object) -> Value:
    if not isinstance(products, list) or not all(isinstance(product, Mapping) for product in products):
        return Unknown("products are missing in the answer")
    return [
        {
            "offer_id": str(product.get("offer_id") or ""),
            "sku": str(product.get("sku") or ""),
            "name": str(product.get("name") or ""),
            "quantity": product["quantity"] if isinstance(product.get("quantity"), int) else None,
        }
        for product in products
    ]


def _fold(values: Sequence[Value], fold: Callable[[Any], Value]) -> Value:
    """The fold of values that are all known; null of none; the first that is unknown if one is."""
    doubts = [value for value in values if isinstance(value, Unknown)]
    return doubts[0] if doubts else fold(values) if values else None


def _one(values: Sequence[Value], name: str) -> Value:
    return _fold(values, lambda known: known[0] if len(set(known)) == 1 else Unknown(f"several values of {name} in one order"))


# ── Answers, judged ──────────────────────────────────────────────────────────────────────────────────────────────────

_TOO_LONG: Final = re.compile(r"period[_ ]is[_ ]too[_ ]long", re.IGNORECASE)
_NO_POSTING: Final = "POSTING_NOT_FOUND"
_CIRCLE: Final = "Circle is open"
_CIRCLE_LASTS: Final = 120.0
"""Seconds for which a method is left alone after ``Circle is open``; Ozon says "some minutes"."""

_NO_HURRY: Final = timedelta(seconds=1)
"""How long all leave Ozon alone after a 429 that says nothing else: its limit is one per second."""


class TooLong(Exception):
    """The period asked for is longer than Ozon likes today: ask for halves."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One page of a list, and where the next begins; ``None``: this was the last."""

    items: tuple[Mapping[str, Any], ...]
    cursor: str | None
    unreadable: int = 0


def problem(answer: Response | Failed) -> str:
    """What stands against an answer, with what Ozon says of it; nothing if it is a good one."""
    if isinstance(answer, Failed):
        return answer.reason
    if answer.redirected_to:
        return f"status {answer.status}, a redirect to {answer.redirected_to}, not followed"
    if isinstance(answer.body, Unknown):
        return answer.body.reason
    if answer.status != 200:
        said = _message(answer)[:200]
        return f"status {answer.status}: {said}" if said else f"status {answer.status}"
    return "" if isinstance(answer.body, Mapping) else "the answer is no JSON object"


def _message(answer: Response) -> str:
    """Ozon's own word, if it is one: never a page of HTML."""
    if isinstance(answer.body, Mapping):
        return str(answer.body.get("message") or "")
    return _CIRCLE if _CIRCLE in answer.text else ""


def judge(number: str, answer: Response | Failed, carriers: Mapping[str, CarrierSettings]) -> Answer:
    """What the single-posting method says about the posting of this number."""
    if isinstance(answer, Response) and answer.status == 404 and _message(answer).strip() == _NO_POSTING:
        return Absent()
    if doubt := problem(answer):
        return Unknown(doubt)
    assert isinstance(answer, Response)
    result = answer.body.get("result") if isinstance(answer.body, Mapping) else None
    if not isinstance(result, Mapping) or result.get("posting_number") != number:
        return Unknown("the answer holds no posting of this number")
    return Present((posting(result, carriers),))


def sliced(answer: Response | Failed) -> Slice:
    """A page of a list, flat as in v4 or wrapped as before. Raises ``TooLong``, ``Unreachable``."""
    if isinstance(answer, Response) and answer.status == 400 and _TOO_LONG.search(_message(answer)):
        raise TooLong
    if doubt := problem(answer):
        raise Unreachable(doubt)
    assert isinstance(answer, Response)
    assert isinstance(answer.body, Mapping)
    wrapped = answer.body.get("result")
    body = wrapped if isinstance(wrapped, Mapping) else answer.body
    items, more, cursor = body.get("postings"), body.get("has_next"), body.get("cursor")
    if not isinstance(items, list) or not isinstance(more, bool):
        raise Unreachable("the answer is no page of postings")
    if more and not (isinstance(cursor, str) and cursor):
        raise Unreachable("the answer says that there is more, but not where")
    postings = tuple(item for item in items if isinstance(item, Mapping))
    return Slice(postings, str(cursor) if more else None, len(items) - len(postings))


# ── Windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Window = tuple[datetime, datetime]
LONGEST: Final = timedelta(days=30)
"""The longest period asked for at once: a year is documented, months are refused in practice."""

_SHORTEST: Final = timedelta(hours=1)
_AROUND: Final = timedelta(days=60)
"""Unfulfilled postings are those to be assembled from this long ago to this far ahead."""

_LIMIT: Final = 100
"""Postings per page and order numbers per filter, at most."""


def windows(since: datetime, to: datetime) -> list[Window]:
    """A period in windows of at most ``LONGEST``, oldest first."""
    found = []
    while since < to:
        found.append((since, min(since + LONGEST, to)))
        since = found[-1][1]
    return found


def halved(window: Window) -> list[Window]:
    """Both halves. Raises ``Unreachable`` when it is short already."""
    since, to = window
    if to - since < 2 * _SHORTEST:
        raise Unreachable("even a window of an hour or two is said to be too long a period")
    middle = since + (to - since) / 2
    return [(since, middle), (middle, to)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a listing still has to ask for: windows, the oldest first, and where in the first of them it is."""

    unfulfilled: bool
    windows: tuple[Window, ...]
    cursor: str = ""

    @classmethod
    def of(cls, where: str | Mapping[str, Value] | None, now: datetime) -> Plan:
        """The whole listing, by a rule's ``where``."""
        given = where if isinstance(where, Mapping) else {}
        within, unfulfilled = given.get("within"), given.get("unfulfilled") is True
        since = now - (within if isinstance(within, timedelta) else _AROUND if unfulfilled else LONGEST)
        return cls(unfulfilled, tuple(windows(since, now + _AROUND if unfulfilled else now)))

    @classmethod
    def read(cls, text: str) -> Plan:
        """What ``text`` wrote."""
        plain = json.loads(text)
        pairs = (tuple(map(datetime.fromisoformat, pair)) for pair in plain["windows"])
        return cls(plain["unfulfilled"], tuple((since, to) for since, to in pairs), plain["cursor"])

    @property
    def text(self) -> str | None:
        """As the cursor of a page; ``None``: nothing is left."""
        if not self.windows:
            return None
        pairs = [[since.isoformat(), to.isoformat()] for since, to in self.windows]
        return json.dumps({"unfulfilled": self.unfulfilled, "windows": pairs, "cursor": self.cursor})

    def halved(self) -> Plan:
        """The first window in halves. Raises ``Unreachable``."""
        return replace(self, windows=(*halved(self.windows[0]), *self.windows[1:]), cursor="")

    def after(self, page: Slice) -> Plan:
        """What is left after a page. Raises ``Unreachable`` when the list goes in a circle."""
        if page.cursor is None:
            return replace(self, windows=self.windows[1:], cursor="")
        if page.cursor == self.cursor:
            raise Unreachable("the list goes in a circle")
        return replace(self, cursor=page.cursor)

    def request(self, size: int) -> tuple[Method, Mapping[str, Any]]:
        """The method and its body for the next page."""
        since, to = self.windows[0]
        if self.unfulfilled:
            said = {"cutoff_from": _written(since), "cutoff_to": _written(to)}
            return Method.UNFULFILLED, _body(said, size, self.cursor)
        return Method.LIST, _body({"since": _written(since), "to": _written(to)}, size, self.cursor)


def _body(criteria: Mapping[str, Any], size: int, cursor: str) -> Mapping[str, Any]:
    return {"filter": criteria, "limit": max(1, min(size, _LIMIT)), "cursor": cursor, "sort_dir": "ASC"}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────

_ABREAST: Final = 8
"""Single questions that are on their way at once."""

_FIRST_POSTINGS: Final = 3
"""Posting numbers of an order (number-1, number-2, …) that are asked singly before it is absent."""

_MOST_PAGES: Final = 50
"""Pages that the postings of a hundred orders may take within one window."""

Found = dict[str, Answer]


class OzonConnector(WithoutCalls):
    """One shop on Ozon behind the Connector port."""

    def __init__(self, name: str, settings: OzonSettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        self.name, self.shape, self.slots, self.lag = name, _SHAPE, settings.slots, settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings, self._tools = settings, tools
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)
        self._free = asyncio.Semaphore(_ABREAST)
        self._shut_until: dict[Method, float] = {}

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
        """Window after window, page after page; each posting once. Raises ``Unreachable``.

        An order whose postings stand on two pages is met on both, each time with those that stand there.
        """
        plan = Plan.read(cursor) if cursor else Plan.of(where, now)
        seen: set[str] = set()
        given: set[object] = set()  # in the window that is asked for
        while plan.windows:
            try:
                page = sliced(await self._post(*plan.request(size)))
            except TooLong:
                plan = plan.halved()
                continue
            plan = plan.after(page)
            given = _given(page, given)
            yield self._page(records, page, seen, plan.text)

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for every key asked; every absence is confirmed singly."""
        asked = [key for key in dict.fromkeys(keys) if key]
        answers: Found = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        if by == "posting_number":
            return answers | await self._postings(asked)
        for at in range(0, len(asked), _LIMIT - 1):  # one place is the control's
            found = await self._of_orders(asked[at : at + _LIMIT - 1])
            answers |= {number: _as_order(answer) for number, answer in found.items()} if records == "orders" else found
        return answers

    async def check(self) -> Sequence[str]:
        """Whether the key is taken, and whether the configured delivery methods are the shop's."""
        answer = await self._post(Method.DELIVERY_METHODS, {"limit": _LIMIT})
        if isinstance(answer, Response) and answer.ill:
            return [f"refuses our key ({problem(answer)}); check client_id, api_key, its roles and the addresses it is limited to"]
        if doubt := problem(answer):
            return [f"cannot be asked ({doubt}); check url and network"]
        assert isinstance(answer, Response)
        return self._strangers(answer.body)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    # One request

    async def _post(self, method: Method, body: Mapping[str, Any]) -> Response | Failed:
        """Ask one of the methods that are allowed, unless it asked to be left alone."""
        path = Method(method).value
        if self._shut_until.get(method, 0.0) > self._tools.clock.monotonic():
            return Failed(f"{_CIRCLE}: {path} is left alone for a while", passing=False)
        headers = {
            "Client-Id": self._settings.client_id.reveal(),
            "Api-Key": self._settings.api_key.reveal(),
            "Content-Type": "application/json",
        }
        answer = await self._client.read(method.name.lower(), "POST", self._client.base + path, headers, json.dumps(body).encode())
        if isinstance(answer, Response) and (answer.status == 429 or _CIRCLE in _message(answer)):
            await self._hold(method, answer)
        return answer

    async def _hold(self, method: Method, answer: Response) -> None:
        """Leave the method alone that is blocked, or everything for as long as the limit is counted."""
        if _CIRCLE in answer.text:
            self._shut_until[method] = self._tools.clock.monotonic() + _CIRCLE_LASTS
        elif "retry-after" not in answer.headers:
            try:
                await self._tools.quota.push(self.name, self._tools.database_now() + _NO_HURRY)
            except Exception:  # the store is away: the answer counts all the same
                return

    # Listing

    def _page(self, records: str, page: Slice, seen: set[str], cursor: str | None) -> Page:
        found = [posting(item, self._settings.carriers) for item in page.items]
        new = [one for one in found if one["posting_number"] not in seen]
        seen |= {number for one in new if isinstance(number := one["posting_number"], str)}
        own = "posting_number" if records == "postings" else "order_number"
        keyed = [one for one in new if isinstance(one[own], str)]
        doubts = [f"its key: {value.reason}" for one in new if isinstance(value := one[own], Unknown)]
        doubts += ["a posting is no map"] * page.unreadable
        made = keyed if records == "postings" else [order(some) for some in _grouped(keyed).values()]
        return Page(tuple(made), cursor, tuple(doubts[:10]))

    # Asking

    async def _postings(self, numbers: Iterable[str]) -> Found:
        async def one(number: str) -> tuple[str, Answer]:
            async with self._free:
                answer = await self._post(Method.GET, {"posting_number": number})
            return number, judge(number, answer, self._settings.carriers)

        return dict(await asyncio.gather(*map(one, numbers)))

    async def _of_orders(self, numbers: builtins.list[str]) -> Found:
        """The postings of each order. Most orders are young: the newest window alone is asked first."""
        now = self._tools.timescale.rule(self._tools.database_now())
        try:
            found = await self._listed((now - LONGEST, now), numbers)
        except TooLong:
            found = {}
        except Unreachable as error:
            return dict.fromkeys(numbers, Unknown(str(error)))
        left = [number for number in numbers if number not in found]
        return found | await self._sought(left, windows(now - self._settings.history, now)) if left else found

    async def _sought(self, numbers: builtins.list[str], all_windows: builtins.list[Window]) -> Found:
        """Look through the whole history, each window with a control; what is not there is asked for singly."""
        found: Found = {}
        left, ahead, proven = list(numbers), list(all_windows), False
        try:
            while ahead and left:
                window = ahead.pop()
                try:
                    control = await self._control(window)
                except TooLong:
                    ahead += halved(window)
                    continue
                if control is None:
                    continue
                proven = True
                found |= await self._listed(window, left, control)
                left = [number for number in left if number not in found]
        except (Unreachable, TooLong) as error:
            return found | dict.fromkeys(left, Unknown(str(error) or "a window that was taken before is too long now"))
        if left and not proven:
            return found | dict.fromkeys(left, Unknown("the shop shows no posting at all, so nothing can be missing in it"))
        return found | await self._confirmed(left)

    async def _control(self, window: Window) -> str | None:
        """The number of an order that stands in this window; ``None``: none does. Raises ``TooLong``, ``Unreachable``."""
        page = sliced(await self._post(*Plan(False, (window,)).request(1)))
        numbers = [item.get("order_number") for item in page.items]
        if not numbers and (page.cursor or page.unreadable):
            raise Unreachable("a page without postings says that there is more")
        if numbers and not (isinstance(numbers[0], str) and numbers[0]):
            raise Unreachable("a posting has no order_number")
        return str(numbers[0]) if numbers else None

    async def _listed(self, window: Window, numbers: Sequence[str], control: str | None = None) -> Found:
        """Those of the orders that the list has in this window. Raises ``TooLong``, ``Unreachable``.

        A posting of an order that nobody asked for says that the filter is not heeded, a control that is missing that
        not all is shown: neither answer counts (law 14).
        """
        asked = list(dict.fromkeys([*numbers, control] if control else numbers))
        criteria = {"since": _written(window[0]), "to": _written(window[1]), "order_numbers": asked}
        items: list[Mapping[str, Any]] = []
        cursor = ""
        for _ in range(_MOST_PAGES):
            page = sliced(await self._post(Method.LIST, _body(criteria, _LIMIT, cursor)))
            items += page.items
            if page.unreadable or any(item.get("order_number") not in asked for item in page.items):
                raise Unreachable("the list holds a posting of an order that was not asked for")
            if page.cursor is None:
                break
            if page.cursor == cursor:
                raise Unreachable("the list goes in a circle")
            cursor = page.cursor
        else:
            raise Unreachable("the list has no end")
        found = {number: Present(tuple(some)) for number, some in _grouped(self._distinct(items)).items()}
        if control and control not in found:
            raise Unreachable("an order that was just seen is not in the list")
        return {number: answer for number, answer in found.items() if number in numbers}

    def _distinct(self, items: Sequence[Mapping[str, Any]]) -> Iterable[Record]:
        """Each posting once, as a record; one that changed between two pages as it was last."""
        return {str(item.get("posting_number")): posting(item, self._settings.carriers) for item in items}.values()

    async def _confirmed(self, numbers: Sequence[str]) -> Found:
        """Absent, but for orders of which a posting exists or may exist after all."""
        answers = await self._postings(f"{number}-{place}" for number in numbers for place in range(1, _FIRST_POSTINGS + 1))
        found: Found = {}
        for number in numbers:
            own = [answers[f"{number}-{place}"] for place in range(1, _FIRST_POSTINGS + 1)]
            there = [record for answer in own if isinstance(answer, Present) for record in answer.records]
            doubts = [answer for answer in own if isinstance(answer, Unknown)]
            found[number] = Present(tuple(there)) if there and not doubts else doubts[0] if doubts else Absent()
        return found

    # Checking

    def _strangers(self, body: Value) -> Sequence[str]:
        """Configured delivery methods that the shop does not have; nothing when one page does not tell them all."""
        listed = body.get("delivery_methods") if isinstance(body, Mapping) else None
        if not isinstance(body, Mapping) or not isinstance(listed, list):
            return ["the answer of the delivery methods is not as documented; the API may have changed"]
        methods = [one for one in listed if isinstance(one, Mapping)]
        names = {str(one.get("id")): f"{one.get('id')} ({one.get('name')})" for one in methods}
        known = "" if body.get("has_next") is True else ", ".join(names.values()) or "none"
        return [
            f"carriers.{carrier}: the shop has no delivery method {id}; it has {known}"
            for carrier, one in self._settings.carriers.items()
            for id in one.delivery_method_ids
            if known and id not in names
        ]


def _given(page: Slice, before: Set[object]) -> set[object]:
    """The postings that a window has given by now. Raises ``Unreachable`` when it says that there is more and gives nothing new."""
    if page.cursor is None:
        return set()
    numbers = {item.get("posting_number") for item in page.items}
    if numbers <= before and not page.unreadable:
        raise Unreachable("the list goes in a circle")
    return {*before, *numbers} - {None}


def _grouped(postings: Iterable[Record]) -> dict[str, builtins.list[Record]]:
    groups: dict[str, list[Record]] = {}
    for one in postings:
        groups.setdefault(str(one["order_number"]), []).append(one)
    return groups


def _as_order(answer: Answer) -> Answer:
    return Present((order(answer.records),)) if isinstance(answer, Present) else answer


_EXAMPLE: Final = """\
type: ozon
client_id: ${env:OZON_CLIENT_ID}
api_key: ${env:OZON_API_KEY}
rate: 40/s
carriers: {cdek: {delivery_method_ids: ["1020000123456000"], provider_names: [CDEK, СДЭК]}}
"""

KIND: Final = Kind(
    name="ozon",
    settings=OzonSettings,
    shape=lambda settings: _SHAPE,
    open=OzonConnector,
    example=_EXAMPLE,
    lint=lint,
)
