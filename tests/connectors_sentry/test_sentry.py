"""Telling Sentry over real HTTP on loopback: the envelope as Sentry would read it, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from aiohttp import web
from pydantic import ValidationError
from sentry_sdk.envelope import Envelope

from daemon.clock import HandClock
from daemon.connectors.sentry import KIND, ResolveSettings, SentryConnector, SentrySettings, event_of, slug
from daemon.domain.attempt import NOT_CONNECTED, Outcome, Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.value import Timescale
from daemon.engine.events import Event, Requested, Trouble
from daemon.kinds import Tools
from daemon.settings import Redactor, Secret

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
KEY = "canarysentrykey0123456789abcdef"
TOKEN = "canarysntrysapitoken"


LIMITS = "9:error:key, 2700:transaction:key, 30:default;error:key"


@dataclass
class Project:
    """A project that answers from a script, then takes everything; keeps what it got."""

    script: list[tuple[int, object, Mapping[str, str]]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    attachments: list[Any] = field(default_factory=list)
    check_ins: list[Mapping[str, Any]] = field(default_factory=list)
    filed: list[int] = field(default_factory=list)
    resolving: int = 200
    asked: list[str] = field(default_factory=list)

    async def look_up(self, request: web.Request) -> web.StreamResponse:
        """An event by its id: a status of ``filed`` each time, then the issue."""
        status = self.filed.pop(0) if self.filed else 200
        self.asked.append(f"GET {request.match_info['event']} {request.headers['Authorization']}")
        return web.json_response({"groupId": "4711"} if status == 200 else {"detail": f"no, {TOKEN}"}, status=status)

    async def change(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"PUT {request.path} {await request.text()}")
        return web.json_response({}, status=self.resolving)

    async def take(self, request: web.Request) -> web.StreamResponse:
        envelope = Envelope.deserialize(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.attachments += [json.loads(item.payload.get_bytes()) for item in envelope.items if item.type == "attachment"]
        checks = [json.loads(item.payload.get_bytes()) for item in envelope.items if item.type == "check_in"]
        self.check_ins += checks
        event = {"event_id": ""} if checks else envelope.get_event()
        assert event is not None
        self.events += [] if checks else [event]
        status, answer, headers = self.script.pop(0) if self.script else (200, {"id": event["event_id"]}, {})
        if isinstance(answer, str):
            return web.Response(status=status, text=answer, headers=headers)
        return web.json_response(answer, status=status, headers=headers)


class Quota:
    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return 0.0 if rate == 5 else 4.0  # the connector's own rate, unless a test gives it another

    async def push(self, target: str, until_db: datetime) -> None:
        pass


@dataclass
class There:
    project: Project
    connector: SentryConnector
    events: list[Event]
    clock: HandClock

    @property
    def troubles(self) -> list[Trouble]:
        return [event for event in self.events if isinstance(event, Trouble)]

    async def tell(self, **changes: Any) -> Outcome:
        return await self.connector.deliver(letter(**changes))


@asynccontextmanager
async def sentry(
    *script: tuple[int, object, Mapping[str, str]], port: int | None = None, api: bool = False, installed: str = "production", **more: Any
) -> AsyncIterator[There]:
    project, events, clock = Project(list(script)), list[Event](), HandClock()
    app = web.Application()
    app.router.add_get("/api/0/organizations/shop/eventids/{event}/", project.look_up)
    app.router.add_put("/api/0/organizations/shop/issues/{issue}/", project.change)
    app.router.add_post("/api/7/envelope/", project.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    dsn = Secret(f"http://{KEY}@127.0.0.1:{port or runner.addresses[0][1]}/7")
    if api:
        more["resolve"] = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "organization": "shop", "token": Secret(TOKEN)}
    tools = Tools(clock, Quota(), events.append, Timescale(NOW), lambda: NOW, redact=Redactor([dsn, Secret(TOKEN)]), environment=installed)
    connector = SentryConnector("sentry", SentrySettings.model_validate({"dsn": dsn, **more}), tools)
    try:
        yield There(project, connector, events, clock)
    finally:
        await connector.close()
        await runner.cleanup()


EVIDENCE = {
    "kind": "begin",
    "count": 2,
    "value": {"RUB": "100", "AED": "5"},
    "next": "no more attempts",
    "commands": ["orderheal incidents claim i1", "orderheal explain N1"],
    "subjects": [
        {"incident": "i1", "key": "N1", "cause": None, "steps": [{"step": "upload", "attempts": 3, "reason": "404"}]},
        {"incident": "i2", "key": "N2", "steps": []},
    ],
    "last_request": {"call": "api.upload", "body": '{"id": "N1"}'},
    "last_reply": {"status": 404, "body": "x" * 9000},
}


def letter(id: str = "d1", **changes: Any) -> Dispatch:
    notice = Notice(
        "n1", "stuck/team/address", "stuck", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, NOW, "Stuck orders", "Look at N1",
        ours="Runbook: docs/x.md", group="address", count=2, runbook="docs/x.md", context=EVIDENCE,
    )  # fmt: skip
    return Dispatch(id, replace(notice, **changes), "team", "sentry", {}, mirror=True)


async def test_the_event_is_what_sentry_would_show() -> None:
    async with sentry(environment="shop", release="1.2") as there:
        outcome = await there.tell()
    (event,) = there.project.events
    assert (outcome.result, outcome.reference) == (Result.DONE, event["event_id"])
    assert f"sentry_key={KEY}" in there.project.headers[0]["x-sentry-auth"]
    assert event["fingerprint"] == ["stuck", "address"]
    assert (event["level"], event["environment"], event["release"]) == ("warning", "shop", "1.2")
    assert event["message"]["formatted"] == "Stuck orders\nLook at N1\nRunbook: docs/x.md"
    assert event["tags"] == {
        "rule": "stuck", "group": "address", "kind": "begin", "severity": "warning", "contact": "team", "count": "2", "episode": "1",
    }  # fmt: skip
    assert event["timestamp"].startswith("2026-03-02T09:00:00")


async def test_the_evidence_stands_in_contexts_that_nothing_cuts() -> None:
    async with sentry() as there:
        await there.tell()
    contexts = there.project.events[0]["contexts"]
    assert contexts["problem"]["value"] == "RUB: 100, AED: 5"
    assert contexts["problem"]["commands"] == "orderheal incidents claim i1\norderheal explain N1"
    assert contexts["problem"]["next"] == "no more attempts"
    assert contexts["problem"]["runbook"] == "docs/x.md"
    assert contexts["subject 01"] == {"incident": "i1", "key": "N1", "steps": "step: upload, attempts: 3, reason: 404"}
    assert contexts["subject 02"] == {"incident": "i2", "key": "N2"}
    assert contexts["last request"] == {"call": "api.upload", "body": '{"id": "N1"}'}
    assert contexts["last reply"]["status"] == 404
    assert len(contexts["last reply"]["body"]) == 4000
    assert contexts["last reply"]["body"].endswith("…")


async def test_one_problem_is_one_issue_whatever_is_told_of_it() -> None:
    async with sentry() as there:
        await there.tell()
        await there.tell(id="d2", kind=NoticeKind.END, episode=2, text="other words", severity=Severity.CRITICAL)
        await there.tell(id="d3", group="region")
        await there.tell(id="d4", rule="other")
        await there.tell(id="d5", group="")
        await there.tell(id="d6", group="", rule="", problem="connector/ozon")
    assert [event["fingerprint"] for event in there.project.events] == [
        ["stuck", "address"],
        ["stuck", "address"],
        ["stuck", "region"],
        ["other", "address"],
        ["stuck"],
        ["connector/ozon"],
    ]
    assert there.project.events[1]["level"] == "info"


@pytest.mark.parametrize(
    ("installed", "shown"), [("production", "production"), ("staging", "staging"), ("test of a/b", "test-of-a-b"), ("x" * 99, "x" * 64)]
)
async def test_an_event_is_of_the_installation_and_the_version_that_sent_it(installed: str, shown: str) -> None:
    async with sentry(installed=installed, check_ins=True) as there:
        await there.tell()
        await there.connector.check_in("stuck", timedelta(minutes=5), timedelta(minutes=20), True, 1)
    for told in (*there.project.events, *there.project.check_ins):
        assert (told["environment"], told["release"]) == (shown, f"orderheal@{version('orderheal')}")


@pytest.mark.parametrize(("severity", "level"), [(Severity.CRITICAL, "fatal"), (Severity.WARNING, "warning"), (Severity.INFO, "info")])
async def test_the_level_follows_the_severity(severity: Severity, level: str) -> None:
    async with sentry() as there:
        await there.tell(severity=severity)
    assert there.project.events[0]["level"] == level


async def test_tags_are_one_line_within_what_sentry_keeps() -> None:
    async with sentry() as there:
        await there.tell(group="a\nb " + "x" * 300)
    tag = there.project.events[0]["tags"]["group"]
    assert tag.startswith("a b x")
    assert len(tag) == 200
    assert tag.endswith("…")


async def test_a_long_message_is_cut_where_it_is_seen() -> None:
    async with sentry() as there:
        await there.tell(text="x" * 20000)
    message = there.project.events[0]["message"]["formatted"]
    assert len(message) == 8000
    assert message.endswith("…")


async def test_sent_again_it_is_the_same_event() -> None:
    async with sentry((500, "", {})) as there:
        await there.tell()
        await there.tell()
        await there.tell(id="d2")
    first, again, other = (event["event_id"] for event in there.project.events)
    assert first == again != other


@pytest.mark.parametrize(
    ("sentence", "answer", "result", "seconds"),
    [
        ("accepted", (200, {"id": "x"}, {}), "done", None),
        ("limits for the next event do not undo this one", (200, {"id": "x"}, {"X-Sentry-Rate-Limits": "60::key"}), "done", None),
        ("429 with Retry-After", (429, {}, {"Retry-After": "17"}), "later", 17),
        ("429 with a limit for all", (429, {}, {"X-Sentry-Rate-Limits": "60::organization"}), "later", 60),
        ("the longest one for events counts", (429, {}, {"X-Sentry-Rate-Limits": LIMITS}), "later", 30),
        ("a limit for others is none of ours", (429, {}, {"X-Sentry-Rate-Limits": "2700:transaction:key"}), "later", None),
        ("429 alone", (429, {}, {}), "later", None),
        ("a wrong key", (401, {"detail": "bad"}, {}), "refused", None),
        ("a project that is gone", (404, "", {}), "refused", None),
        ("too large", (413, "", {}), "refused", None),
        ("Sentry is ill", (502, "<html>", {}), "unknown", None),
        ("a page of HTML with status 200 is nobody's acceptance", (200, "<html>hello</html>", {}), "unknown", None),
    ],
)  # fmt: skip
async def test_an_undelivered_page_is_known_as_such(
    sentence: str, answer: tuple[int, object, Mapping[str, str]], result: str, seconds: int | None
) -> None:
    async with sentry(answer) as there:
        outcome = await there.tell()
    assert outcome.result == Result(result), sentence
    assert outcome.retry_at_db == (None if seconds is None else NOW + timedelta(seconds=seconds)), sentence
    assert len(there.project.events) == 1, "one dispatch is one request"


async def test_nobody_there_is_later_and_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with sentry((500, f"bad key {KEY}", {}), port=None) as there:
        echoed = await there.tell(text=f"a reply that echoed {KEY}")
    async with sentry(port=1) as nobody:
        missed = await nobody.tell()
    assert (missed.result, missed.reason) == (Result.LATER, NOT_CONNECTED)
    shown = [repr(echoed), repr(missed), caplog.text, repr(there.connector), *map(repr, there.events + nobody.events)]
    assert all("canary" not in text for text in shown)
    assert "canary" not in str(there.project.events)


async def test_the_shared_rate_is_kept() -> None:
    async with sentry(rate="1/s") as there:
        outcome = await there.tell()
    assert (outcome.result, outcome.retry_at_db) == (Result.LATER, NOW + timedelta(seconds=4))
    assert there.project.events == []


async def until(clock: HandClock, done: Callable[[], object]) -> None:
    """Move the clock until it is so; real sockets answer in between. The test's own timeout bounds it."""
    while not done():
        await clock.move(1)
        await asyncio.sleep(0.001)


async def test_the_end_of_a_problem_resolves_its_issue_once_sentry_has_filed_it() -> None:
    async with sentry(api=True) as there:
        there.project.filed = [404, 404]
        outcome = await there.tell(kind=NoticeKind.END)
        assert there.project.asked == [], "delivered is delivered; the rest happens beside it"
        await until(there.clock, lambda: there.project.asked[-1:] and there.project.asked[-1].startswith("PUT"))
    looked = f"GET {outcome.reference} Bearer {TOKEN}"
    assert there.project.asked == [looked] * 3 + ['PUT /api/0/organizations/shop/issues/4711/ {"status": "resolved"}']
    assert there.troubles == []


@pytest.mark.parametrize(("filed", "resolving"), [([404] * 9, 200), ([403], 200), ([], 403), ([502] * 99, 200)])
async def test_an_issue_that_cannot_be_resolved_is_a_line_and_never_an_undelivered_notice(filed: list[int], resolving: int) -> None:
    async with sentry(api=True) as there:
        there.project.filed, there.project.resolving = filed, resolving
        outcome = await there.tell(kind=NoticeKind.END)
        await until(there.clock, lambda: there.troubles)
    assert outcome.result is Result.DONE
    (trouble,) = there.troubles
    assert trouble.fields["problem"] == "stuck/team/address"
    assert "canary" not in repr(trouble)


async def test_a_problem_that_begins_again_keeps_its_issue_open() -> None:
    async with sentry(api=True) as there:
        await there.tell(kind=NoticeKind.END)
        await there.tell(id="d2", kind=NoticeKind.BEGIN)
        await there.tell(id="d3", kind=NoticeKind.END, problem="another")
        await until(there.clock, lambda: there.project.asked[-1:] and there.project.asked[-1].startswith("PUT"))
        for _ in range(100):
            await there.clock.move(1)
    assert sum(asked.startswith("PUT") for asked in there.project.asked) == 1


@pytest.mark.parametrize("kind", [NoticeKind.BEGIN, NoticeKind.GROWTH, NoticeKind.REMINDER])
async def test_nothing_is_resolved_before_its_end(kind: NoticeKind) -> None:
    async with sentry(api=True) as there:
        await there.tell(kind=kind)
        await there.clock.move(1000)
    assert there.project.asked == []


async def test_doctor_says_that_the_token_is_refused() -> None:
    async with sentry(api=True) as there:
        there.project.filed = [403, 404]
        (refused,), fine = await there.connector.check(), await there.connector.check()
    assert "resolve.token" in refused
    assert fine == ()


@pytest.mark.parametrize("url", ["http://sentry.example", "ftp://127.0.0.1", "https://u:p@sentry.example", "sentry.io"])
def test_the_api_must_be_https_or_here(url: str) -> None:
    with pytest.raises(ValidationError, match="http"):
        ResolveSettings.model_validate({"url": url, "organization": "shop", "token": "t"})


async def test_the_sdk_neither_sends_nor_looks_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_RELEASE", "from-the-environment")
    monkeypatch.setenv("SENTRY_DSN", "http://other@127.0.0.1:9/9")
    before = threading.active_count()
    async with sentry() as there:
        await there.tell()
        assert threading.active_count() <= before + 1, "no worker of the SDK's own"
    event = there.project.events[0]
    assert not {"server_name", "modules", "breadcrumbs", "user", "request"} & set(event)
    assert event["release"] == f"orderheal@{version('orderheal')}"


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (f"https://{KEY}@sentry.example/7", None),
        (f"http://{KEY}@127.0.0.1:9000/7", None),
        (f"http://{KEY}@[::1]:9000/7", None),
        (f"http://{KEY}@localhost/7", None),
        (f"http://{KEY}@sentry.example/7", "must be https"),
        (f"http://{KEY}@127.0.0.1.example/7", "must be https"),
        (f"https://{KEY}@sentry.example/", "is no DSN"),
        ("https://sentry.example/7", "is no DSN"),
        (f"ftp://{KEY}@sentry.example/7", "is no DSN"),
        (KEY, "is no DSN"),
        ("", "is no DSN"),
    ],
)
def test_a_bad_dsn_is_refused_without_being_shown(dsn: str, said: str | None) -> None:
    if said is None:
        assert SentrySettings.model_validate({"dsn": dsn})
        return
    with pytest.raises(ValidationError) as caught:
        SentrySettings.model_validate({"dsn": Secret(dsn)})
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_example_of_the_documentation_is_a_setting() -> None:
    written = {key: value for key, value in yaml.safe_load(KIND.example).items() if key != "type"}
    written["dsn"] = "https://key@sentry.example/1"
    assert SentrySettings.model_validate(written).environment == "production"
    assert KIND.shape(None).channel


TRIED = {
    **EVIDENCE,
    "subjects": [
        {"key": "N1", "steps": [
            {"step": "upload", "attempts": 1, "outcome": "refused", "reason": f"no {KEY} here", "at": "2026-03-02T08:30:00+00:00"},
            {"step": "later", "attempts": 0, "outcome": None, "at": None},
        ]},
        {"key": "N2", "steps": [{"step": "upload", "attempts": 2, "outcome": "done", "reason": "", "at": "2026-03-02T08:10:00+00:00"}]},
    ],
}  # fmt: skip


async def test_what_was_tried_stands_in_the_breadcrumbs_oldest_first() -> None:
    async with sentry() as there:
        await there.tell(context=TRIED)
    crumbs = there.project.events[0]["breadcrumbs"]["values"]
    assert [(crumb["category"], crumb["level"], crumb["message"]) for crumb in crumbs] == [
        ("attempt", "info", "N2 upload: done"),
        ("attempt", "error", "N1 upload: refused"),
    ]
    assert crumbs[1]["data"]["attempts"] == 1


async def test_the_whole_evidence_is_attached_and_no_secret_in_it() -> None:
    async with sentry() as there:
        await there.tell(context=TRIED)
    [evidence] = there.project.attachments
    assert evidence["last_reply"]["body"] == "x" * 9000, "contexts cut it, the attachment does not"
    assert (evidence["problem"], evidence["runbook"]) == ("stuck/team/address", "docs/x.md")
    assert KEY not in json.dumps([evidence, there.project.events])


async def test_a_scan_checks_in_at_a_monitor_of_its_rule() -> None:
    async with sentry(check_ins=True, environment="shop", release="1.2") as there:
        assert there.connector.checks_in
        await there.connector.check_in("stuck", timedelta(minutes=5), timedelta(minutes=20), True, 1.25)
        await there.connector.check_in("stuck", timedelta(minutes=5), timedelta(minutes=20), False, 0.5)
    one, other = there.project.check_ins
    assert (one["monitor_slug"], one["status"], one["duration"], other["status"]) == ("orderheal-stuck", "ok", 1.25, "error")
    assert (one["environment"], one["release"]) == ("shop", "1.2")
    assert one["monitor_config"]["schedule"] == {"type": "interval", "value": 5, "unit": "minute"}
    assert one["monitor_config"]["checkin_margin"] == 20
    assert one["check_in_id"] != other["check_in_id"]


async def test_a_check_in_that_fails_is_counted_and_not_repeated() -> None:
    async with sentry((429, "", {}), check_ins=True) as there:
        await there.connector.check_in("stuck", timedelta(minutes=5), timedelta(minutes=20), True, 1)
    [asked] = [event for event in there.events if isinstance(event, Requested)]
    assert (asked.operation, asked.outcome) == ("check_in", "refused")


def test_no_two_rules_share_a_monitor_and_every_slug_is_short_enough() -> None:
    long = "namshi-order-was-sent-to-the-crm-but-has-no-waybill"
    assert slug("stuck") == "orderheal-stuck"
    assert len(slug(long)) == 50
    assert slug(long) != slug(long + "-yet")


LONG = {
    **EVIDENCE,
    "subjects": [
        {
            "key": "N1",
            "steps": [{"step": "up", "attempts": 1, "outcome": "refused", "reason": "ы" * 5000, "at": "2026-03-02T08:30:00+00:00"}],
        }
    ],
    "last_reply": {"status": 422, "body": {f"field{number}": "ы" * 3000 for number in range(20)}},
}


@pytest.mark.parametrize(("context", "group"), [(TRIED, "a\nb " + "x" * 300), (LONG, "g" * 5000), ({}, " \n ")])
def test_sentry_itself_would_take_the_event_as_it_is(context: Mapping[str, Any], group: str) -> None:
    """Judged by the normaliser that Sentry's own intake runs: nothing is dropped, nothing is cut."""
    relay = pytest.importorskip(
        "sentry_relay.processing", reason="sentry-relay is not installed: events are NOT judged by Sentry's own intake"
    )
    judge = relay.StoreNormalizer(project_id=1, key_id="a", protocol_version="7", remove_other=True, enable_trimming=True)
    said = dict(event_of(letter(context=context, group=group, text="y" * 20000, title="т" * 300), NOW))
    said |= {"platform": "other", "environment": "production", "release": "orderheal@1.2.0"}
    taken = judge.normalize_event(json.loads(json.dumps(said)))
    assert not taken.get("errors")
    assert not taken.get("_meta")
    assert dict(taken["tags"]) == said["tags"]
    assert taken["logentry"]["formatted"] == said["message"]["formatted"]
    assert taken["fingerprint"] == said["fingerprint"]
    for name, shown in said["contexts"].items():
        assert {key: taken["contexts"][name].get(key) for key in shown} == shown
    assert told_by_crumbs(taken) == told_by_crumbs(said)


def told_by_crumbs(event: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(crumb["message"], crumb["data"]) for crumb in (event.get("breadcrumbs") or {}).get("values", ())]
