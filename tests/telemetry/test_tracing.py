"""Traces over real HTTP on loopback: what a collector gets, and that nothing depends on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from daemon.clock import HandClock
from daemon.domain.value import Timescale
from daemon.engine.events import Attempted, CycleEnded, Event, Requested, Scanned, Trouble
from daemon.kinds import Tools
from daemon.settings import Redactor, Secret
from daemon.telemetry.tracing import Export, Spans

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
NS = int(NOW.timestamp()) * 10**9
TOKEN = "canary-3c77-collector"


class Quota:
    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        pass


@dataclass
class Collector:
    """Takes traces, or refuses them; keeps what came."""

    status: int = 200
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        self.headers.append(request.headers["Authorization"])
        for resource in sent.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(status=self.status, text=f"no {TOKEN}" if self.status != 200 else "")

    def span(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@dataclass
class There:
    collector: Collector
    spans: Spans
    export: Export
    told: list[Event]

    async def cycle(self, *news: Event) -> None:
        """A cycle that tells this, each from a task of its own, as requests at once do."""

        async def tell(event: Event) -> None:
            self.spans(event)

        async def work() -> None:
            await asyncio.gather(*(tell(event) for event in news[:-1]))
            self.spans(news[-1])

        await self.spans.cycle(work)()


@asynccontextmanager
async def collecting(port: int | None = None) -> AsyncIterator[There]:
    collector, told = Collector(), list[Event]()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    spans = Spans("1.2", "shop", lambda: NS)

    def tell(event: Event) -> None:
        told.append(event)
        spans(event)

    secret = Secret(f"Bearer {TOKEN}")
    tools = Tools(HandClock(), Quota(), tell, Timescale(NOW), lambda: NOW, redact=Redactor([secret]))
    export = Export(spans, f"http://127.0.0.1:{port or runner.addresses[0][1]}/v1/traces", {"authorization": secret}, tools)
    try:
        yield There(collector, spans, export, told)
    finally:
        await export.close()
        await runner.cleanup()


async def test_a_cycle_is_a_trace_with_its_requests_inside() -> None:
    async with collecting() as there:
        await there.cycle(
            Requested("shop-db", "orders", "ok", 0.5),
            Requested("shop-integration", "upload_order", "unknown", 2, "no whole answer"),
            Attempted("not-sent", "i1", "OZ-1", "upload", 1, "unknown"),
            Scanned("not-sent", 10, 1, 9, 0, 0, 3.0, True),
            CycleEnded("not-sent", 4, "finished"),
        )
        await there.export.send()
    cycle, asked, called = map(there.collector.span, ("cycle not-sent", "shop-db orders", "shop-integration upload_order"))
    assert not cycle.parent_span_id
    assert {asked.trace_id, called.trace_id} == {cycle.trace_id}
    assert {asked.parent_span_id, called.parent_span_id} == {cycle.span_id}
    assert (cycle.start_time_unix_nano, cycle.end_time_unix_nano) == (NS - 4 * 10**9, NS)
    assert (asked.start_time_unix_nano, asked.end_time_unix_nano) == (NS - 5 * 10**8, NS)
    assert [event.name for event in cycle.events] == ["attempt", "scan"]
    assert (called.status.code, called.status.message) == (Status.STATUS_CODE_ERROR, "no whole answer")
    assert asked.kind == Span.SPAN_KIND_CLIENT
    assert there.collector.resources[0] == {
        "service.name": "orderheal", "service.version": "1.2", "deployment.environment.name": "shop",
    }  # fmt: skip
    assert there.collector.headers == [f"Bearer {TOKEN}"]
    assert "OZ-1" not in str(there.collector.spans), "an order's key stays here; the incident leads to it"


async def test_cycles_at_once_do_not_mix() -> None:
    async with collecting() as there:
        await asyncio.gather(*(
            there.cycle(Requested(name, "orders", "ok", 1), CycleEnded(name, 2, "finished")) for name in ("a", "b")
        ))  # fmt: skip
        await there.export.send()
    for name in ("a", "b"):
        assert there.collector.span(f"{name} orders").parent_span_id == there.collector.span(f"cycle {name}").span_id


async def test_a_lost_cycle_shows_as_an_error() -> None:
    async with collecting() as there:
        await there.cycle(CycleEnded("not-sent", 1, "fenced"))
        await there.export.send()
    assert there.collector.span("cycle not-sent").status.message == "fenced"


async def test_a_request_outside_of_a_cycle_is_a_trace_by_itself_and_sending_is_none() -> None:
    async with collecting() as there:
        there.spans(Requested("telegram", "send", "done", 0.1))
        await there.export.send()
        await there.export.send()
    assert [span.name for span in there.collector.spans] == ["telegram send"]
    assert len(there.collector.headers) == 1, "with nothing to send nothing is sent"


@pytest.mark.parametrize(("status", "port"), [(503, None), (307, None), (200, 1)])
async def test_what_cannot_be_sent_is_dropped_and_told_once_until_it_can_be(status: int, port: int | None) -> None:
    async with collecting(port) as there:
        there.collector.status = status
        for _ in range(3):
            await there.cycle(Requested("shop-db", "orders", "ok", 1), CycleEnded("not-sent", 1, "finished"))
            await there.export.send()
        assert there.spans.take() == []
    troubles = [event for event in there.told if isinstance(event, Trouble)]
    assert len(troubles) == 1
    assert "canary" not in json.dumps([repr(event) for event in there.told])


async def test_what_nobody_fetches_stays_bounded() -> None:
    spans = Spans("1", "shop", lambda: NS)
    for _ in range(5000):
        spans(Requested("shop-db", "orders", "ok", 0))
    assert len(spans.take(10_000)) == 2000
