"""Sentry as a way to tell people: an event per notice, built by sentry-sdk and sent by us.

The SDK's own transport sends in the background and forgets what fails; a page must be known as undelivered. So the SDK
builds the envelope, and it goes through our client like every other request: sent once, its answer awaited and classified.
The fingerprint is the problem (rule and value of ``group_by``), so begin, growth and end of it stand in one issue. The
event's id follows from the dispatch's, so that one sent again after an unknown outcome is the same event to Sentry. What was
tried stands in its breadcrumbs, the whole evidence, cards and tables in its attachments. On request each rule is also a monitor of Sentry's
Crons, which calls somebody when a scan is missed, even when nobody is left here to say so.

With a token the end of a problem also resolves its issue: the end's event is sent first, then looked for until Sentry has filed
it (an event filed after the resolution would reopen the issue), then the issue it was filed under is resolved. That is a
courtesy beside the delivery: what fails there is a line in the log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from importlib.metadata import version
from ipaddress import ip_address
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import sentry_sdk
from pydantic import Field as Setting
from pydantic import field_validator
from sentry_sdk.attachments import Attachment
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from sentry_sdk.types import Event
from sentry_sdk.utils import BadDsn, Dsn

from daemon.card import picture, sheet
from daemon.domain.attempt import Outcome, Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.shape import Shape
from daemon.engine.events import Trouble
from daemon.kinds import Kind, Tools, WithoutCalls, WithoutListing
from daemon.net import Client, Failed, Response
from daemon.settings import ConnectorSettings, Rate, RateText, Secret, Settings

_TAG: Final = 200
_MESSAGE: Final = 8000
"""Sentry cuts tags at 200 characters and messages at 8192 without a word; we cut where it is to be seen."""

_TEXT: Final = 4000
_CRUMB_TEXT: Final = 300
"""Sentry's intake takes the one of a context's text as it is, but all data of a breadcrumb to 2 KiB; the whole is attached."""

_CRUMBS: Final = 100
_SLUG: Final = 50
_ENVIRONMENT: Final = 64
_CRUMB_LEVELS: Final = {"done": "info", "refused": "error"}
_FILED_AFTER: Final = (2.0, 5.0, 15.0, 60.0)
"""Seconds between the looks whether Sentry has filed an event; it takes them in at once and files them when it gets there."""

_ENDS: Final = frozenset(
    {NoticeKind.END, NoticeKind.GUARD_END, NoticeKind.BLIND_END, NoticeKind.CONNECTOR_WELL},
)
_LEVELS: Final = {Severity.CRITICAL: "fatal", Severity.WARNING: "warning", Severity.INFO: "info"}


class ResolveSettings(Settings):
    """Sentry's API, which resolves issues; the DSN only lets events in."""

    url: str = Setting("https://sentry.io", description="Address of Sentry itself, without /api; https, or http on this machine.")
    organization: str = Setting(description="Slug of the organization.", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    token: Secret = Setting(description="Token of an internal integration with org:read and event:write.")

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.query or parts.fragment or parts.scheme not in ("http", "https"):
            raise ValueError("must be an http or https URL without user, query and fragment")
        if parts.scheme != "https" and not _loopback(parts.hostname):
            raise ValueError("must be https; http is for this machine alone")
        return url


class SentrySettings(ConnectorSettings):
    """A project in Sentry that gets the notices."""

    rate: RateText | None = Setting(
        Rate(5, timedelta(seconds=1)),
        description="Events per second, minute or hour, shared by all replicas, so that a storm spares the project's quota: 5/s.",
    )
    dsn: Secret = Setting(description="The project's DSN; https, or http on this machine.")
    environment: str | None = Setting(
        None, description="Sentry's environment of the events; left out: the installation's.", pattern=r"^[^\s/]{1,64}$"
    )
    release: str | None = Setting(None, description="Sentry's release of the events; left out: the version of orderheal.")
    check_ins: bool = Setting(
        False, description="A monitor per rule in Sentry's Crons: a check-in after each scan, so that a missed one calls somebody."
    )
    resolve: ResolveSettings | None = Setting(
        None, description="Resolves the issue of a problem that has ended, through Sentry's API; left out, a person does."
    )

    @field_validator("dsn")
    @classmethod
    def _usable(cls, dsn: Secret) -> Secret:
        _parsed(dsn)
        return dsn


class SentryAddress(Settings):
    """Sentry needs no address: who is called from there is said in Sentry."""


def _parsed(dsn: Secret) -> Dsn:
    """Raises ValueError without a word of the DSN itself."""
    try:
        parsed = Dsn(dsn.reveal())
    except (BadDsn, ValueError):
        raise ValueError("is no DSN; copy it from Sentry's project settings, Client Keys") from None
    if parsed.scheme != "https" and not _loopback(parsed.host):
        raise ValueError("must be https; http is for this machine alone")
    return parsed


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment(name: str) -> str:
    """The installation's, as Sentry takes it: without blanks and slashes, at most 64 characters."""
    return re.sub(r"[\s/]+", "-", name)[:_ENVIRONMENT]


class _Catcher(Transport):
    """Where the SDK believes to send to: keeps the envelope for us."""

    def __init__(self) -> None:
        super().__init__()
        self.caught: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.caught.append(envelope)


def _without_blanks(event: Event, hint: object) -> Event:
    return {key: value for key, value in event.items() if value != ""}  # type: ignore[return-value]  # as before


class SentryConnector(WithoutListing, WithoutCalls):
    """The ``Connector`` and ``Channel`` of one project."""

    def __init__(self, name: str, settings: SentrySettings, tools: Tools) -> None:
        """Opens no connection. Raises ValueError for a DSN that is none."""
        self.name, self.shape, self.slots = name, Shape(channel=True), settings.slots
        self.lag = settings.lag
        self.rate = (settings.rate.per_second, settings.rate.burst) if settings.rate else None
        dsn = _parsed(settings.dsn)
        self._settings, self._tools = settings, tools
        self.checks_in = settings.check_ins
        self._url = dsn.to_auth().get_api_url()
        self._auth = dsn.to_auth("orderheal").to_header()
        self._http = Client(name, f"{dsn.scheme}://{dsn.netloc}", tools, timeout=settings.timeout, slots=settings.slots)
        self._issues = _Issues(name, settings.resolve, tools, settings.timeout) if settings.resolve else None
        self._catcher = _Catcher()
        self._sdk = sentry_sdk.Client(
            dsn=settings.dsn.reveal(),
            transport=self._catcher,
            environment=settings.environment or _environment(tools.environment),
            release=settings.release or f"orderheal@{version('orderheal')}",
            server_name="",
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            max_breadcrumbs=_CRUMBS,
            before_send=_without_blanks,
            max_value_length=100_000,  # cut already, by characters and visibly
        )

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        """Send the event, once. Its reference is the event's id."""
        if (wait := await self._wait()) > 0:
            return Outcome(Result.LATER, "rate", retry_at_db=self._tools.database_now() + timedelta(seconds=wait))
        event = event_of(dispatch, self._tools.database_now())
        files = [*_files(dispatch.notice)]
        outcome = await self._send("envelope", event, evidence_of(dispatch), self._classified, files)
        if self._issues and outcome.result is Result.DONE:
            self._issues.told(dispatch.notice, str(event["event_id"]))
        return outcome

    async def check_in(self, rule: str, every: timedelta, margin: timedelta, ok: bool, seconds: float) -> None:
        """Say that a scan of the rule ended. What becomes of it is counted like every request; it is not repeated."""
        await self._send("check_in", check_in_of(rule, every, margin, ok, seconds), None, _taken)

    async def _send(
        self,
        operation: str,
        event: Event,
        evidence: Mapping[str, Any] | None,
        classify: Callable[[Response], Outcome],
        files: Sequence[Attachment] = (),
    ) -> Outcome:
        """One envelope, with everything secret taken out of it by value, on the wire once."""
        redact = self._tools.redact
        hint = {"attachments": [*files, *([_attachment(redact.tree(evidence))] if evidence else [])]}
        if self._sdk.capture_event(redact.tree(event), hint=hint) is None or not self._catcher.caught:
            return Outcome(Result.REFUSED, "sentry-sdk made no event of it")
        envelope = self._catcher.caught.pop()
        headers = {"content-type": "application/x-sentry-envelope", "x-sentry-auth": self._auth}
        return await self._http.perform(operation, "POST", self._url, headers, envelope.serialize(), classify)

    async def _wait(self) -> float:
        if self.rate is None:
            return 0.0
        try:
            return await self._tools.quota.reserve(self.name, *self.rate, 1)
        except Exception:  # the store is away: telling somebody that matters more than the rate
            return 0.0

    def _classified(self, answer: Response) -> Outcome:
        if answer.status == 200 and isinstance(answer.body, Mapping) and "id" in answer.body:
            return Outcome(Result.DONE, reference=str(answer.body["id"]))
        reason = f"status {answer.status} {answer.headers.get('x-sentry-error', '')}".strip()
        if answer.status == 429:
            alone = _left_alone(answer.headers)
            until = self._tools.database_now() + alone if alone is not None else None
            return Outcome(Result.LATER, reason, retry_at_db=until)
        if 400 <= answer.status < 500:
            return Outcome(Result.REFUSED, reason)
        return Outcome(Result.UNKNOWN, reason)

    async def check(self) -> Sequence[str]:
        """Whether Sentry is there at all; whether it takes events only an event would show."""
        answer = await self._http.read("check", "GET", self._url)
        if isinstance(answer, Failed):
            return (f"Sentry cannot be reached: {answer.reason}. Check the DSN's host and the way out.",)
        return await self._issues.check() if self._issues else ()

    async def close(self) -> None:
        """Let go of connections; issues that are still waiting to be resolved are left to people."""
        if self._issues:
            await self._issues.close()
        self._sdk.close(timeout=0)
        await self._http.close()


class _Issues:
    """Resolves the issues of problems that have ended, beside the delivery; at most one look-out per problem."""

    def __init__(self, name: str, settings: ResolveSettings, tools: Tools, timeout: timedelta) -> None:
        base = settings.url.rstrip("/")
        self._name, self._tools = name, tools
        self._organization = f"{base}/api/0/organizations/{settings.organization}"
        self._headers = {"authorization": f"Bearer {settings.token.reveal()}", "content-type": "application/json"}
        # Its own name: what the API asks for by Retry-After is not asked of the events.
        self._http = Client(f"{name}-api", base, tools, timeout=timeout)
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def told(self, notice: Notice, event: str) -> None:
        """An event was taken in: an end is waited for and resolves; whatever else it is, the problem is not over."""
        if earlier := self._waiting.pop(notice.problem, None):
            earlier.cancel()
        if notice.kind in _ENDS:
            task = asyncio.create_task(self._resolve(notice, event), name=f"resolve {notice.problem}")
            self._waiting[notice.problem] = task
            task.add_done_callback(lambda done: self._forget(notice.problem, done))

    def _forget(self, problem: str, done: asyncio.Task[None]) -> None:
        if self._waiting.get(problem) is done:
            del self._waiting[problem]

    async def _resolve(self, notice: Notice, event: str) -> None:
        issue, reason = await self._filed(event)
        if issue is not None:
            body = json.dumps({"status": "resolved"}).encode()
            url = f"{self._organization}/issues/{issue}/"
            outcome = await self._http.perform("resolve", "PUT", url, self._headers, body, _resolved)
            reason = "" if outcome.result is Result.DONE else outcome.reason
        if reason:
            fields = {"connector": self._name, "problem": notice.problem, "reason": reason}
            self._tools.events(Trouble("an issue in Sentry was not resolved; a person can do it there", fields))

    async def _filed(self, event: str) -> tuple[str | None, str]:
        """The issue that an event was filed under, or why it is not known."""
        reason = ""
        for wait in _FILED_AFTER:
            await self._tools.clock.sleep(wait)
            answer = await self._http.read("event", "GET", f"{self._organization}/eventids/{event}/", self._headers)
            if isinstance(answer, Response) and answer.status == 200 and isinstance(answer.body, Mapping):
                group = str(answer.body.get("groupId", ""))
                return (group, "") if re.fullmatch(r"\d{1,20}", group) else (None, "the answer names no issue")
            reason = answer.reason if isinstance(answer, Failed) else f"status {answer.status} on looking for the event"
            if isinstance(answer, Response) and answer.status in (401, 403):
                break
        return None, reason

    async def check(self) -> Sequence[str]:
        """Whether the API lets us look for events; that it lets us resolve only a resolution would show."""
        answer = await self._http.read("check", "GET", f"{self._organization}/eventids/{'0' * 32}/", self._headers)
        if isinstance(answer, Failed):
            return (f"Sentry's API cannot be reached: {answer.reason}. Check resolve.url and the way out.",)
        if answer.status in (401, 403):
            return (f"Sentry's API refuses the token (status {answer.status}). Check resolve.token, its scopes and the organization.",)
        return ()

    async def close(self) -> None:
        """Wait for nothing any more."""
        waiting = list(self._waiting.values())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._http.close()


def event_of(dispatch: Dispatch, now: datetime) -> Event:
    """The notice as Sentry's event. ``now``: database time, as Sentry refuses events of another age."""
    notice = dispatch.notice
    level = "info" if notice.kind in _ENDS else _LEVELS[notice.severity]
    tags = {
        "rule": notice.rule,
        "group": notice.group,
        "kind": notice.kind.value,
        "severity": notice.severity.value,
        "contact": notice.contact,
        "count": str(notice.count),
        "episode": str(notice.episode),
    }
    event: dict[str, Any] = {
        "event_id": blake2b(dispatch.id.encode(), digest_size=16).hexdigest(),
        "timestamp": now.isoformat(),
        "level": level,
        "logger": "orderheal",
        "message": {"formatted": _cut(f"{notice.title}\n{notice.text}\n{notice.ours}".strip(), _MESSAGE)},
        "transaction": notice.rule or notice.problem,
        "fingerprint": [part for part in (notice.rule, notice.group) if part] or [notice.problem],
        "tags": {key: tag for key, value in tags.items() if (tag := _tag(value))},
        "contexts": dict(_contexts(dispatch)),
    }
    if crumbs := _breadcrumbs(notice.context):
        event["breadcrumbs"] = {"values": crumbs}
    return event  # type: ignore[return-value]  # a TypedDict by its shape


def evidence_of(dispatch: Dispatch) -> Mapping[str, Any]:
    """The whole evidence, which Sentry's contexts show cut: the event's attachment."""
    notice = dispatch.notice
    said = {"problem": notice.problem, "rule": notice.rule, "at": notice.at.isoformat(), "incidents": list(notice.incidents)}
    return {**said, "runbook": notice.runbook, "title": notice.title, "text": notice.text, "ours": notice.ours, **notice.context}


def _files(notice: Notice) -> Iterator[Attachment]:
    for number, card in enumerate(notice.cards, 1):
        yield Attachment(bytes=picture(card), filename=f"card-{number}.png", content_type="image/png")
    for table in notice.tables:
        yield Attachment(bytes=sheet(table), filename=table.name, content_type="text/csv")


def _attachment(evidence: Any) -> Attachment:
    text = json.dumps(evidence, ensure_ascii=False, indent=2, default=str)
    return Attachment(bytes=text.encode(), filename="evidence.json", content_type="application/json")


def _breadcrumbs(context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was tried, oldest first, the way Sentry shows what led to an event: a crumb per subject and step."""
    crumbs = [
        {
            "timestamp": step["at"],
            "category": "attempt",
            "type": "default" if step.get("outcome") == Result.DONE else "error",
            "level": _CRUMB_LEVELS.get(str(step.get("outcome")), "warning"),
            "message": _cut(f"{subject.get('key')} {step.get('step')}: {step.get('outcome') or 'no answer'}", _TAG),
            "data": {key: _flat(value, _CRUMB_TEXT) for key, value in step.items() if value not in (None, "")},
        }
        for subject in context.get("subjects") or ()
        for step in subject.get("steps") or ()
        if step.get("at")
    ]
    return sorted(crumbs, key=lambda crumb: str(crumb["timestamp"]))[-_CRUMBS:]


def check_in_of(rule: str, every: timedelta, margin: timedelta, ok: bool, seconds: float) -> Event:
    """A check-in that also says what the monitor is to expect, so that a rule needs no click in Sentry."""
    event: dict[str, Any] = {
        "type": "check_in",
        "check_in_id": uuid4().hex,
        "monitor_slug": slug(rule),
        "status": "ok" if ok else "error",
        "duration": round(seconds, 3),
        "monitor_config": {
            "schedule": {"type": "interval", "value": _minutes(every), "unit": "minute"},
            "checkin_margin": _minutes(margin),
            "timezone": "UTC",
            "failure_issue_threshold": 1,
            "recovery_threshold": 1,
        },
    }
    return event  # type: ignore[return-value]  # as above


def slug(rule: str) -> str:
    """The monitor of a rule; Sentry takes at most 50 characters, and two rules must not share one."""
    name = f"orderheal-{rule}"
    return name if len(name) <= _SLUG else f"{name[: _SLUG - 9]}-{blake2b(rule.encode(), digest_size=4).hexdigest()}"


def _minutes(span: timedelta) -> int:
    return max(1, ceil(span.total_seconds() / 60))


def _taken(answer: Response) -> Outcome:
    return Outcome(Result.DONE) if answer.status == 200 else Outcome(Result.REFUSED, f"status {answer.status}")


def _resolved(answer: Response) -> Outcome:
    return Outcome(Result.DONE) if answer.status == 200 else Outcome(Result.REFUSED, f"status {answer.status} on resolving")


def _contexts(dispatch: Dispatch) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The evidence, flat: Sentry shows two levels of a context and cuts the rest."""
    notice, evidence = dispatch.notice, dict(dispatch.notice.context)
    subjects, request, reply = (evidence.pop(name, None) for name in ("subjects", "last_request", "last_reply"))
    about = {"problem": notice.problem, "at": notice.at.isoformat(), "runbook": notice.runbook, **evidence}
    yield "problem", {key: _flat(value) for key, value in about.items() if value not in (None, "", [], {})}
    for number, subject in enumerate(subjects or (), 1):
        yield f"subject {number:02}", {key: _flat(value) for key, value in subject.items() if value not in (None, "", [])}
    for name, exchanged in (("last request", request), ("last reply", reply)):
        if isinstance(exchanged, Mapping):
            yield name, {key: _flat(value) for key, value in exchanged.items()}


def _flat(value: object, longest: int = _TEXT) -> Any:
    match value:
        case str():
            return _cut(value, longest)
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return _cut(", ".join(f"{key}: {_flat(item)}" for key, item in value.items() if item not in (None, "")), longest)
        case list() | tuple():
            return _cut("\n".join(str(_flat(item)) for item in value), longest)
    return str(value)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _tag(value: str) -> str:
    """One line of at most 200 characters."""
    return _cut(" ".join(value.split()), _TAG)


def _left_alone(headers: Mapping[str, str]) -> timedelta | None:
    """The longest limit that concerns events in ``X-Sentry-Rate-Limits``; ``Retry-After`` is the client's to read."""
    limits = [
        float(match[1])
        for quota in headers.get("x-sentry-rate-limits", "").split(",")
        if (match := re.match(r"\s*(\d{1,6}(?:\.\d+)?):([^:]*)", quota))
        and (not match[2].strip() or {"error", "default"} & {name.strip() for name in match[2].split(";")})
    ]
    return timedelta(seconds=max(limits)) if limits else None


_EXAMPLE: Final = """\
type: sentry
dsn: ${env:SENTRY_DSN}
environment: production
"""

KIND: Final = Kind(
    name="sentry",
    settings=SentrySettings,
    shape=lambda settings: Shape(channel=True),
    open=SentryConnector,
    example=_EXAMPLE,
    address=SentryAddress,
)
