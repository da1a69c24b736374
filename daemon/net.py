"""HTTP, once for everybody: the only importer of httpx, behind a client per outside system.

A request goes out to the declared host or not at all, over verified TLS, following no redirect, and what comes back is
read up to a cap. It comes back as a value: a ``Response``, or ``Failed`` that knows whether the first byte may have
left, which is the one thing that decides between *not connected* and *unknown* (law 5). ``perform`` is for effects: one
request on the wire, whatever happens. ``read`` is for questions: it waits for the shared rate and tries three times.
What is kept of an answer goes through the redactor first.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import tenacity

from daemon.domain.attempt import CONNECTOR_ILL, NOT_CONNECTED, Outcome, Reply, Result
from daemon.domain.value import Unknown, Value
from daemon.engine.events import Requested
from daemon.engine.ports import Clock, Events, Quota
from daemon.settings import Rate, Redactor

BEFORE_FIRST_BYTE = timedelta(seconds=5)
"""Bound on everything before the first byte of a request: a free connection, the name, TCP, TLS (law 16)."""

MAX_BODY = 5 * 1024 * 1024
"""Bytes of an answer that are read; a longer one is cut and its body is not to be known."""

MAX_KEPT = 4096
"""Bytes of an answer that the ledger keeps."""

MAX_RETRY_AFTER = timedelta(hours=24)
"""A longer ``Retry-After`` is taken as this: one wrong header must not silence a connector for ever."""

_CONNECTIONS = 10  # of the reads: httpx slows down with each pooled connection (docs/decisions.md)
_PATIENCE = 30.0  # seconds that a read waits for the shared rate
_TRIES = 3
_PASSING = frozenset({502, 503, 504})
_KEPT_HEADERS = frozenset(
    {"content-type", "content-length", "date", "retry-after", "location", "x-request-id", "x-correlation-id"}
)
"""An allow-list: cookies and tokens come back in headers too."""

for _name in ("httpx", "httpcore"):  # they log URLs and headers, which may hold credentials
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Surroundings(Protocol):
    """What a client needs of ``daemon.kinds.Tools``."""

    @property
    def clock(self) -> Clock: ...
    @property
    def quota(self) -> Quota: ...
    @property
    def events(self) -> Events: ...
    @property
    def database_now(self) -> Callable[[], datetime]: ...
    @property
    def redact(self) -> Redactor: ...


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. ``headers`` have lower-case names. ``body`` is what JSON held, else text, else ``Unknown``."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Value = field(repr=False)
    text: str = field(repr=False, default="")
    too_large: bool = False

    @property
    def ill(self) -> bool:
        """Whether the system refuses us, not the order (law 21)."""
        return self.status in (401, 403)

    @property
    def redirected_to(self) -> str | None:
        """The host that a redirect names; nobody goes there."""
        if self.status not in (301, 302, 303, 307, 308):
            return None
        return _host(self.headers.get("location", "")) or "another path"

    def reply(self, redact: Redactor) -> Reply:
        """What the ledger keeps: some headers and the beginning of the body, secrets out."""
        headers = {name: redact(value) for name, value in self.headers.items() if name in _KEPT_HEADERS}
        if "location" in headers:
            headers["location"] = headers["location"].partition("?")[0]
        data = redact(self.text).replace("\0", "�").encode("utf-8", "replace")
        body = data[:MAX_KEPT].decode("utf-8", "ignore")
        return Reply(self.status, headers, body, self.too_large or len(data) > MAX_KEPT)


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. ``sent``: the first byte may have left. ``passing``: a question may be asked again at once."""

    reason: str
    sent: bool = False
    passing: bool = True


class Client:
    """One outside system over HTTP. ``base`` is its declared address; nothing else is ever reached.

    ``timeout`` bounds a request from its first byte on. Acts get a fresh connection each: on a reused one that the
    other side just closed, nobody could say whether the request arrived.
    """

    def __init__(
        self,
        name: str,
        base: str,
        tools: Surroundings,
        *,
        timeout: timedelta,
        rate: Rate | None = None,
        slots: int = 10,
    ) -> None:
        """Opens no connection yet. Raises ValueError for a base that is no plain http(s) URL."""
        parts = urlsplit(base)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError("must be an http or https URL without user, query and fragment")
        self.base = base.rstrip("/")
        self._name, self._tools, self._timeout, self._rate = name, tools, timeout, rate
        self._origin = _origin(base)
        self._reads = _http(httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=5))
        self._acts = _http(httpx.Limits(max_connections=slots, max_keepalive_connections=0))

    async def read(
        self,
        operation: str,
        method: str,
        url: str | Callable[[], str],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        final: Callable[[Response], bool] = lambda answer: False,
    ) -> Response | Failed:
        """Ask, within the shared rate, up to three times if what went wrong may pass; raises only when cancelled.

        A ``url`` that is signed with the time is a function: it is made anew for each try. ``final``: answers by which a
        system asks to be left alone, so that trying again at once makes it worse.
        """
        trying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            retry=tenacity.retry_if_result(lambda said: _may_pass(said) and not (isinstance(said, Response) and final(said))),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
            sleep=self._tools.clock.sleep,
        )
        return await trying(self._read_once, operation, method, url, headers or {}, body)

    async def perform(
        self,
        operation: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        classify: Callable[[Response], Outcome],
        timeout: timedelta | None = None,
    ) -> Outcome:
        """One request on the wire, and what became of it; its token is reserved already. Raises only when cancelled.

        ``classify`` looks at an answer and says result, reason and reference; reply and ``retry_at_db`` are filled in
        here.
        """
        began = self._tools.clock.monotonic()
        answer = await self._exchange(self._acts, method, url, headers, body, timeout or self._timeout)
        outcome = await self._outcome(answer, classify)
        self._emit(operation, outcome.result, began, outcome.reason)
        return outcome

    async def close(self) -> None:
        """Let go of connections."""
        await self._reads.aclose()
        await self._acts.aclose()

    async def _read_once(
        self, operation: str, method: str, url: str | Callable[[], str], headers: Mapping[str, str], body: bytes | None
    ) -> Response | Failed:
        if starved := await self.token():
            return starved
        began = self._tools.clock.monotonic()
        address = url() if callable(url) else url
        answer = await self._exchange(self._reads, method, address, headers, body, self._timeout)
        problem = _problem(answer)
        self._emit(operation, "error" if problem else "ok", began, problem)
        if isinstance(answer, Response):
            await self._heed(answer)
        return answer

    async def _outcome(self, answer: Response | Failed, classify: Callable[[Response], Outcome]) -> Outcome:
        redact = self._tools.redact
        if isinstance(answer, Failed):
            reply = Reply(body=answer.reason)
            if answer.sent:
                return Outcome(Result.UNKNOWN, answer.reason, reply=reply)
            return Outcome(Result.LATER, NOT_CONNECTED, reply=reply)
        outcome = classify(answer)
        retry_at = await self._heed(answer)
        return replace(
            outcome,
            reason=redact(outcome.reason),
            retry_at_db=outcome.retry_at_db or retry_at,
            reply=answer.reply(redact),
        )

    async def token(self) -> Failed | None:
        """Wait for the shared rate; what stands in the way if that takes too long."""
        if self._rate is None:
            return None
        patience = _PATIENCE
        try:
            while wait := await self._tools.quota.reserve(self._name, self._rate.per_second, self._rate.burst, 1):
                if (patience := patience - wait) < 0:
                    return Failed(f"rate: the next request may go in {wait:.0f} s", passing=False)
                await self._tools.clock.sleep(wait)
        except Exception as error:  # whatever the store says: a question has an answer, not an exception
            return Failed(f"rate could not be reserved: {type(error).__name__}", passing=False)
        return None

    async def _heed(self, answer: Response) -> datetime | None:
        """Until when the system asks to be left alone (database time), told to all replicas."""
        until = retry_at(answer, self._tools.database_now())
        if until is not None:
            try:
                await self._tools.quota.push(self._name, until)
            except Exception:  # the outcome must be told whether or not the store could be reached
                logging.getLogger(__name__).warning("Retry-After could not be shared", extra={"connector": self._name})
        return until

    def _emit(self, operation: str, outcome: str, began: float, reason: str) -> None:
        seconds = self._tools.clock.monotonic() - began
        self._tools.events(Requested(self._name, operation, outcome, seconds, self._tools.redact(reason)))

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: timedelta,
    ) -> Response | Failed:
        """The request on the wire, and all that may go wrong with it as a value."""
        if _origin(url) != self._origin:
            return Failed("the address is not on the declared host", passing=False)
        sent = False
        try:
            async with asyncio.timeout(BEFORE_FIRST_BYTE.total_seconds()) as bound:

                async def trace(event: str, info: Mapping[str, Any]) -> None:
                    nonlocal sent
                    if not sent and event.endswith("send_request_headers.started"):
                        sent = True
                        bound.reschedule(asyncio.get_running_loop().time() + timeout.total_seconds())

                request = client.build_request(
                    method, url, headers=dict(headers), content=body, extensions={"trace": trace}
                )
                return await _received(await client.send(request, stream=True))
        except TimeoutError:
            waited = timeout if sent else BEFORE_FIRST_BYTE
            what = "no whole answer" if sent else "no connection"
            return Failed(f"{what} within {waited.total_seconds():g} s", sent, passing=False)
        except Exception as error:  # of whatever library: what counts is whether the first byte may have left
            return Failed(self._said(error), sent)

    def _said(self, error: Exception) -> str:
        text = self._tools.redact(" ".join(str(error).split()))[:200]
        return f"{type(error).__name__}: {text}" if text else type(error).__name__


def multipart(fields: Mapping[str, str], name: str, file: tuple[str, bytes, str]) -> tuple[str, bytes]:
    """A form with one file (its name, bytes and type) in the field ``name``: its content type and its bytes."""
    request = httpx.Request("POST", "http://form", data=dict(fields), files={name: file})
    return request.headers["content-type"], request.read()


def not_recognised(answer: Response) -> Outcome:
    """The outcome of an answer that nothing declared fits: the connector's illness for 401 and 403, else unknown."""
    if answer.ill:
        return Outcome(Result.LATER, CONNECTOR_ILL)
    if answer.too_large:
        return Outcome(Result.UNKNOWN, f"status {answer.status}, longer than {MAX_BODY} bytes")
    if answer.redirected_to:
        return Outcome(Result.UNKNOWN, f"status {answer.status}, a redirect to {answer.redirected_to}, not followed")
    return Outcome(Result.UNKNOWN, f"status {answer.status}, not recognised")


def retry_at(answer: Response, now: datetime) -> datetime | None:
    """The moment that ``Retry-After`` names, seen from ``now``; a date is counted from the answer's own ``Date``."""
    text = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        delay = timedelta(seconds=float(text))
    elif date := _http_date(text):
        delay = date - (_http_date(answer.headers.get("date", "")) or now)
    else:
        return None
    return now + min(max(delay, timedelta(0)), MAX_RETRY_AFTER)


def _http_date(text: str) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _may_pass(answer: Response | Failed) -> bool:
    if isinstance(answer, Failed):
        return answer.passing
    return answer.status in _PASSING and "retry-after" not in answer.headers


def _problem(answer: Response | Failed) -> str:
    """What is wrong with an answer as an answer; a 404 is a good one."""
    if isinstance(answer, Failed):
        return answer.reason
    bad = answer.ill or answer.status == 429 or answer.status >= 500 or answer.redirected_to or answer.too_large
    return f"status {answer.status}" if bad else ""


async def _received(response: httpx.Response) -> Response:
    """Read up to the cap. Bytes are taken as they come: nothing is unpacked, so that a bomb stays small."""
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > MAX_BODY:
                break
    finally:
        await response.aclose()
    headers = {name.lower(): value for name, value in response.headers.items()}
    if len(data) > MAX_BODY:
        text = data[: 2 * MAX_KEPT].decode("utf-8", "replace")
        return Response(response.status_code, headers, Unknown(f"longer than {MAX_BODY} bytes"), text, too_large=True)
    if headers.get("content-encoding", "identity") != "identity":
        return Response(response.status_code, headers, Unknown("packed, though we asked for it plain"))
    text = _decoded(bytes(data), response.charset_encoding)
    return Response(response.status_code, headers, _parsed(text, headers.get("content-type", "")), text)


def _decoded(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8-sig", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _parsed(text: str, content_type: str) -> Value:
    """What JSON holds, else the text. Maps and lists count whatever the type says: many services do not say it."""
    try:
        value: Value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict | list) and "json" not in content_type:
        return text
    return _clean(value) if _SUSPECT.search(text) else value


_SUSPECT = re.compile(r"\\u(?:d[89a-f]|0000)", re.IGNORECASE)


def _refuse(constant: str) -> Value:
    raise ValueError(f"{constant} is no JSON")


def _clean(value: Any) -> Any:
    """Without what no database and no other program takes: half surrogate pairs and NUL."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "�")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _http(limits: httpx.Limits) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=_tls(),
        trust_env=False,  # no proxy, no netrc: what is declared is where it goes
        follow_redirects=False,
        timeout=httpx.Timeout(None),  # bounded as a whole by ``_exchange``
        limits=limits,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "orderheal", "Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity"},
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all clients, as it takes long to make. A private authority comes by ``SSL_CERT_FILE``, as everywhere."""
    return httpx.create_ssl_context()


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, (parts.hostname or "").lower(), port)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
