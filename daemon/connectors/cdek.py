"""CDEK's API v2, read only: orders (what people call waybills) by the number that the shop gave them.

    ask ─▶ token, cached ─▶ GET /v2/orders?im_number=… for each number, some abreast ─▶ judge ─▶ Answer
                └ refused once: a new token, once more; refused again: CDEK refuses us, whatever the number

There is no list and no question for many. An answer counts only if it is about the very number that was asked; absent
is only what CDEK says with the one documented code, everything that is not understood is unknown. A number may be given
again once its order is finished, so ``created_at`` tells a rule whether an order can be its subject's own. Seen are the
orders made since the first login with these keys, those made by hand included, for a year (their documentation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pydantic import Field as Setting

from daemon.domain.shape import Absent, Answer, Field, FieldType, Present, Records, Role, Shape
from daemon.domain.value import Record, Unknown, Value
from daemon.kinds import Kind, Tools, WithoutCalls, WithoutListing
from daemon.net import Client, Failed, Response
from daemon.settings import ConnectorSettings, Duration, RateText, Secret, parse_rate

# ── Settings and shape ───────────────────────────────────────────────────────────────────────────────────────────────


class CdekSettings(ConnectorSettings):
    """An account of CDEK's integration."""

    url: str = Setting("https://api.cdek.ru", description="Address of the API; https://api.edu.cdek.ru is CDEK's shared test system.")
    client_id: Secret = Setting(description="The integration's account.")
    client_secret: Secret = Setting(description="Its password.")
    rate: RateText | None = Setting(
        default_factory=lambda: parse_rate("20/s"), description="Requests per second (20/s); CDEK guarantees 200 for all programs together."
    )
    lag: Duration = Setting(
        timedelta(seconds=60), description="How old its answers may be: an order that was just made may not be seen yet (60s)."
    )


_S: Final = FieldType.STRING
ORDERS: Final = Records(
    fields={
        "number": Field(_S, role=Role.IDENTIFIER),
        "state": Field(_S),
        "cdek_number": Field(_S, nullable=True, role=Role.IDENTIFIER),
        "status": Field(_S, nullable=True),
        "cause": Field(_S, nullable=True),
        "errors": Field(FieldType.LIST),
        "created_at": Field(FieldType.TIMESTAMP),
    },
    key="number",
    by=frozenset({"number"}),
    listable=False,
)
"""``state`` is one of ``created pending rejected removed``; ``status`` CDEK's last one; ``cause`` why there is no waybill (null if there is);
``errors`` CDEK's own, each with ``code`` and ``message``."""

_SHAPE: Final = Shape(records={"orders": ORDERS})

# ── Causes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ADDRESS: Final = "address"
REGION: Final = "region"
TEMPORARY: Final = "temporary"
DUPLICATE: Final = "duplicate"
DATA: Final = "data"
OTHER: Final = "other"
REMOVED: Final = "removed"

_CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    DUPLICATE: (
        "error_validate_im_dep_number_has_already_had_integration",
        "error_validate_online_shop_number_departure_is_not_unique",
    ),
    ADDRESS: (
        "v2_recipient_location_not_recognized",
        "v2_sender_location_not_recognized",
        "shipment_location_is_not_recognized",
        "delivery_location_is_not_recognized",
        "v2_order_location_",
        "v2_shipment_address_multivalued",
        "v2_delivery_address_multivalued",
    ),
    REGION: (
        "error_validate_tariff_not_supported_for_this_direction",
        "err_result_service",
        "err_pvz_with_tariff_mistake",
        "err_invalid_tariff_",
        "v2_outdated_tariff",
        "error_validate_receiver_delivery_point_",
        "error_validate_postamat_",
    ),
    TEMPORARY: (
        "v2_internal_error",
        "v2_similar_request_still_processed",
        "v2_entity_not_ready",
        "v2_bad_gateway",
        "error_calculator_calculate",
    ),
    DATA: (
        "v2_bad_request",
        "v2_invalid_",
        "v2_field_is_empty",
        "v2_parameters_empty",
        "v2_required_param_empty",
        "error_validate_",
    ),
}
"""Beginnings of codes by what they mean; the first that fits any code names the cause, so the most general stand last."""


def cause_of(codes: Collection[str]) -> str:
    """Why an order was rejected; ``other`` if no code is known."""
    fits = (cause for cause, beginnings in _CAUSES.items() if any(code.startswith(beginnings) for code in codes))
    return next(fits, OTHER)


# ── Answers, judged ──────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_FOUND: Final = frozenset({"v2_entity_not_found_im_number"})
_TOKEN_REFUSED: Final = frozenset({"v2_token_expired", "v2_authorization_incorrect", "unauthorized"})
_UNDER_WAY: Final = ("ACCEPTED", "WAITING")


def judge(number: str, answer: Response | Failed) -> Answer:
    """What an answer says about the order of this number."""
    if isinstance(answer, Failed):
        return Unknown(answer.reason)
    if answer.redirected_to:
        return Unknown(f"status {answer.status}, a redirect to {answer.redirected_to}, not followed")
    if isinstance(answer.body, Unknown):
        return Unknown(answer.body.reason)
    if answer.status == 200:
        return _found(number, answer.body)
    codes = {code for code, _ in errors_of(answer.body)}
    if answer.status in (400, 404) and codes == _NOT_FOUND and not _entity(answer.body):
        return Absent()
    return Unknown(f"status {answer.status}: {', '.join(sorted(codes))}"[:200] if codes else f"status {answer.status}")


def refuses_token(answer: Response | Failed) -> bool:
    """Whether it is the token that CDEK does not like."""
    if isinstance(answer, Failed):
        return False
    return answer.status == 401 or (answer.status >= 400 and bool({code for code, _ in errors_of(answer.body)} & _TOKEN_REFUSED))


def errors_of(body: Value) -> Iterator[tuple[str, str]]:
    """Code and message of every error, at the top and in the requests: the description says the one, answers show the other."""
    if isinstance(body, Mapping):
        for part in (body, *_maps(body.get("requests"))):
            for error in _maps(part.get("errors")):
                if isinstance(error.get("code"), str):
                    yield str(error["code"]), str(error.get("message") or "")


def _found(number: str, body: Value) -> Answer:
    entity = _entity(body)
    if entity.get("number") != number:
        return Unknown("the answer holds no order of this number")
    assert isinstance(body, Mapping)
    requests, statuses = _maps(body.get("requests")), _standing(entity.get("statuses"))
    create = _last(one for one in requests if one.get("type") == "CREATE")
    cdek_number = entity.get("cdek_number")
    read = _Order(
        cdek_number if isinstance(cdek_number, str) and cdek_number else None,
        str(create.get("state")) if create else None,
        frozenset(str(status["code"]) for status in statuses),
        any(one.get("type") == "DELETE" and one.get("state") == "SUCCESSFUL" for one in requests),
    )
    state = read.state
    errors = list(errors_of({"errors": create.get("errors")})) if create else []
    return Present((_record(number, read, state, errors, statuses, create),))


@dataclass(frozen=True, slots=True)
class _Order:
    """What decides about an order's state. ``created``: the state of the request that made it; ``None``: it was made by hand."""

    cdek_number: str | None
    created: str | None
    codes: frozenset[str]
    deleted: bool

    @property
    def state(self) -> Value:
        """Success alone is no order, and the status ACCEPTED no waybill; what contradicts itself is unknown."""
        if self.created == "INVALID" or "INVALID" in self.codes:
            return Unknown("rejected, though it has a number of CDEK's") if self.cdek_number else "rejected"
        if self.deleted or self.codes & {"REMOVED", "NOT_DELIVERED"}:
            return "removed"  # not delivered is final too: it came back, and its number is free again
        if self.created in _UNDER_WAY:
            return "pending"
        if self.created == "SUCCESSFUL" and self.cdek_number:
            return "created"
        if self.created is None and self.cdek_number and self.codes:
            return "created" if self.codes - {"ACCEPTED"} else "pending"
        return Unknown(f"neither created nor rejected: the request is {self.created or 'missing'}")


def _record(
    number: str,
    read: _Order,
    state: Value,
    errors: Sequence[tuple[str, str]],
    statuses: Sequence[Mapping[str, Any]],
    create: Mapping[str, Any] | None,
) -> Record:
    last = _last(statuses)
    begun = [_moment(one.get("date_time")) for one in (*statuses, *([create] if create else []))]
    known = [moment for moment in begun if moment is not None]
    return {
        "number": number,
        "state": state,
        "cdek_number": read.cdek_number,
        "status": str(last["code"]) if last else None,
        "cause": _why(state, read, {code for code, _ in errors}),
        "errors": [{"code": code, "message": message} for code, message in errors],
        "created_at": min(known) if known else Unknown("the answer holds no time"),
    }


def _why(state: Value, read: _Order, codes: Collection[str]) -> Value:
    """Why there is no waybill; null when there is one."""
    match state:
        case "rejected":
            return cause_of(codes)
        case "pending":
            return TEMPORARY
        case "removed":
            return REMOVED
        case Unknown():
            return state
    return None


def _entity(body: Value) -> Mapping[str, Any]:
    entity = body.get("entity") if isinstance(body, Mapping) else None
    return entity if isinstance(entity, Mapping) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _standing(value: object) -> list[Mapping[str, Any]]:
    """Statuses that hold: those with a code that were not taken back."""
    return [one for one in _maps(value) if isinstance(one.get("code"), str) and one.get("deleted") is not True]


def _last(items: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one with the latest time; of equal ones the later in the answer. ``None``: there is none."""
    beginning = datetime.min.replace(tzinfo=UTC)
    latest: Mapping[str, Any] | None = None
    for one in items:
        if latest is None or (_moment(one.get("date_time")) or beginning) >= (_moment(latest.get("date_time")) or beginning):
            latest = one
    return latest


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC) if moment else None
    except (ValueError, OverflowError):
        return None


# ── The connector ────────────────────────────────────────────────────────────────────────────────────────────────────

_ABREAST: Final = 8
"""Questions that are on their way at once."""

_MARGIN: Final = 60.0
"""Seconds before its end at which a token is not used any more."""

_HELD: Final = 60.0
"""Seconds for which nothing is asked after CDEK refused our credentials: repeating them does not make them right."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: Secret
    until: float


class CdekConnector(WithoutListing, WithoutCalls):
    """One account of CDEK behind the Connector port."""

    def __init__(self, name: str, settings: CdekSettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        self.name, self.shape, self.slots, self.lag = name, _SHAPE, settings.slots, settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        self._settings, self._tools = settings, tools
        self._client = Client(name, settings.url, tools, timeout=settings.timeout, rate=settings.rate, slots=settings.slots)
        self._free = asyncio.Semaphore(_ABREAST)
        self._logging_in = asyncio.Lock()
        self._token: _Token | None = None
        self._refused: tuple[str, float] | None = None

    async def ask(self, records: str, by: str, keys: Collection[str], fresh: bool) -> Mapping[str, Answer]:
        """The answer for every number asked, one request each."""
        asked = [key for key in dict.fromkeys(keys) if key]
        answers: dict[str, Answer] = dict.fromkeys(keys, Unknown("an empty key is never asked"))
        return answers | dict(zip(asked, await asyncio.gather(*map(self._asked, asked)), strict=True))

    async def check(self) -> Sequence[str]:
        """Whether our credentials are taken."""
        token = await self._logged_in(None)
        found = [f"cannot be used ({token.reason}); check client_id, client_secret, url and network"] if isinstance(token, Failed) else []
        if (urlsplit(self._settings.url).hostname or "").startswith("api.edu."):
            found.append("url is CDEK's shared test system, whose orders are nobody's; production is https://api.cdek.ru")
        return found

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def _asked(self, number: str) -> Answer:
        async with self._free:
            token = await self._logged_in(None)
            if isinstance(token, Failed):
                return Unknown(token.reason)
            answer = await self._read(number, token)
            if refuses_token(answer):
                token = await self._logged_in(token)
                if isinstance(token, Failed):
                    return Unknown(token.reason)
                answer = await self._read(number, token)
                if refuses_token(answer):
                    self._hold("a token that was just given is refused")
            return judge(number, answer)

    async def _read(self, number: str, token: _Token) -> Response | Failed:
        url = f"{self._client.base}/v2/orders?{urlencode({'im_number': number})}"
        return await self._client.read("orders", "GET", url, {"Authorization": f"Bearer {token.value.reveal()}"})

    async def _logged_in(self, refused: _Token | None) -> _Token | Failed:
        """A token that should be taken; never ``refused``. Whoever comes while one is fetched waits for that one."""
        async with self._logging_in:
            now = self._tools.clock.monotonic()
            if self._refused and self._refused[1] > now:
                return Failed(self._refused[0], passing=False)
            if self._token and self._token is not refused and self._token.until > now:
                return self._token
            self._token = None
            answer = await self._client.read("token", "POST", f"{self._client.base}/v2/oauth/token?{self._credentials()}")
            token = _token(answer, now)
            if isinstance(token, _Token):
                self._token = token
            elif isinstance(answer, Response) and answer.status in (400, 401, 403):
                self._hold(token.reason)
            return token

    def _credentials(self) -> str:
        """As the official description has them, in the query; so the URL goes to the client and nowhere else."""
        own = self._settings
        return urlencode(
            {"grant_type": "client_credentials", "client_id": own.client_id.reveal(), "client_secret": own.client_secret.reveal()}
        )

    def _hold(self, reason: str) -> None:
        self._token, self._refused = None, (reason, self._tools.clock.monotonic() + _HELD)


def _token(answer: Response | Failed, now: float) -> _Token | Failed:
    """The token of an answer; what stands against it."""
    if isinstance(answer, Failed):
        return Failed(f"no token: {answer.reason}", passing=False)
    if answer.status in (400, 401, 403):
        return Failed(f"CDEK refuses our credentials (status {answer.status})", passing=False)
    body = answer.body if isinstance(answer.body, Mapping) else {}
    value, lasts = body.get("access_token"), body.get("expires_in")
    if answer.status != 200 or not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        return Failed(f"no token: status {answer.status}", passing=False)
    seconds = lasts if isinstance(lasts, int) and not isinstance(lasts, bool) else 0
    return _Token(Secret(value), now + max(float(seconds) - _MARGIN, _MARGIN))


_EXAMPLE: Final = """\
type: cdek
client_id: ${env:CDEK_ID}
client_secret: ${env:CDEK_SECRET}
rate: 20/s
"""

KIND: Final = Kind(
    name="cdek",
    settings=CdekSettings,
    shape=lambda settings: _SHAPE,
    open=CdekConnector,
    example=_EXAMPLE,
)
