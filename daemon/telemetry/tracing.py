"""Traces for whoever keeps them: a span per cycle, its requests inside, made of the news that everybody gets.

    news ─▶ Spans ─ a cycle has ended ─▶ finished spans, a bounded queue ─▶ Export ─▶ one POST in OTLP per tick

Nobody awaits this and the engine knows nothing of it. News name no cycle, but they are told in the task that runs it or
in one that it started, so what ``cycle`` puts around the work says whose they are; each carries how long it took, and
its beginning follows. The one module that imports opentelemetry, from the extra ``otel``: the SDK makes and encodes the
spans, and they leave through our client, like every request: to the declared host, no redirect followed, no thread of
the SDK's own. What cannot be sent is dropped and told once; a trace is worth nothing that happens for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from daemon.domain.attempt import Outcome, Result
from daemon.engine.events import Attempted, CycleEnded, Event, GuardTripped, Requested, Resolved, Scanned, Trouble
from daemon.net import Client, Response, Surroundings
from daemon.settings import Secret

NAME: Final = "traces"
"""Under which the requests of the sending are counted; they make no spans."""

_MOST: Final = 1000
"""News of one cycle that become part of its trace; what is beyond is counted there. The queue holds twice as many spans."""

_BATCH: Final = 500
_TIMEOUT: Final = timedelta(seconds=10)
_FAILED: Final = frozenset({"error", Result.UNKNOWN.value, Result.REFUSED.value})
T = TypeVar("T")

_Cycle = list[tuple[int, Event]]
_CYCLE: ContextVar[_Cycle | None] = ContextVar("cycle", default=None)


class _Finished(SpanProcessor):
    """Keeps what has ended until it is sent, the newest if there is too much."""

    def __init__(self) -> None:
        self.spans: deque[ReadableSpan] = deque(maxlen=2 * _MOST)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self.spans.append(span)


class Spans:
    """Subscriber that makes spans of news. ``now``: wall clock in nanoseconds, which is what traces are compared by."""

    def __init__(self, version: str, environment: str, now: Callable[[], int] = time.time_ns) -> None:
        resource = Resource({"service.name": "orderheal", "service.version": version, "deployment.environment.name": environment})
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._finished, self._now = _Finished(), now
        provider.add_span_processor(self._finished)
        self._tracer = provider.get_tracer("orderheal", version)

    def cycle(self, work: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """The same work; news that are told within one run of it belong together."""

        async def run() -> T:
            token = _CYCLE.set([])
            try:
                return await work()
            finally:
                _CYCLE.reset(token)

        return run

    def __call__(self, event: Event) -> None:
        """Keep it for its cycle's trace, make the trace when the cycle ends; a request outside of any is one by itself."""
        cycle = _CYCLE.get()
        match event:
            case Requested(connector=connector) if connector == NAME:
                return
            case CycleEnded():
                self._trace(event, cycle or [])
            case Requested() if cycle is None:
                self._request(event, self._now(), Context())
            case Requested() | Scanned() | Attempted() | Resolved() | GuardTripped() | Trouble() if cycle is not None:
                cycle.append((self._now(), event))  # small values, and a cycle is over within minutes

    def take(self, most: int = _BATCH) -> list[ReadableSpan]:
        """Finished spans, oldest first; they are gone from here."""
        spans = self._finished.spans
        return [spans.popleft() for _ in range(min(most, len(spans)))]

    def _trace(self, ended: CycleEnded, news: _Cycle) -> None:
        now = self._now()
        attributes: dict[str, str | int] = {
            "orderheal.rule": ended.rule,
            "orderheal.fate": ended.fate,
            "orderheal.dropped": max(0, len(news) - _MOST),
        }
        start = now - _nanoseconds(ended.seconds)
        root = self._tracer.start_span(f"cycle {ended.rule}", Context(), attributes=attributes, start_time=start)
        inside = set_span_in_context(root, Context())
        for at, event in news[:_MOST]:
            if isinstance(event, Requested):
                self._request(event, at, inside)
            else:
                _mark(root, at, event)
        if ended.fate != "finished":
            root.set_status(Status(StatusCode.ERROR, ended.fate))
        root.end(now)

    def _request(self, event: Requested, at: int, context: Context) -> None:
        attributes = {
            "orderheal.connector": event.connector,
            "orderheal.operation": event.operation,
            "orderheal.outcome": event.outcome,
            "orderheal.reason": event.reason,
        }
        span = self._tracer.start_span(
            f"{event.connector} {event.operation}", context, SpanKind.CLIENT, attributes, start_time=at - _nanoseconds(event.seconds)
        )
        if event.outcome in _FAILED:
            span.set_status(Status(StatusCode.ERROR, event.reason))
        span.end(at)


class Export:
    """Sends finished spans to one address in OTLP over HTTP, as protobuf."""

    def __init__(self, spans: Spans, url: str, headers: Mapping[str, Secret], tools: Surroundings) -> None:
        """Opens no connection. Raises ValueError for a URL that is none."""
        parts = urlsplit(url)
        self._spans, self._url, self._events = spans, url, tools.events
        self._headers = {"content-type": "application/x-protobuf"} | {name: value.reveal() for name, value in headers.items()}
        self._client = Client(NAME, f"{parts.scheme}://{parts.netloc}", tools, timeout=_TIMEOUT)
        self._failing = False

    async def send(self) -> None:
        """All that is finished, once; that it cannot be sent is told at the first failure."""
        while spans := self._spans.take():
            body = encode_spans(spans).SerializeToString()
            outcome = await self._client.perform("spans", "POST", self._url, self._headers, body, _taken)
            failed = outcome.result is not Result.DONE
            if failed and not self._failing:
                self._events(Trouble("traces cannot be sent and are dropped until they can", {"reason": outcome.reason}))
            self._failing = failed

    async def close(self) -> None:
        """Let go of connections; what is not sent by now is lost."""
        await self._client.close()


def _mark(root: Span, at: int, event: Event) -> None:
    """What happened at a moment of the cycle, without the subject's key: the incident leads to it."""
    match event:
        case Attempted():
            root.add_event("attempt", {"incident": event.incident, "step": event.step, "number": event.number, "result": event.result}, at)
        case Resolved():
            root.add_event("resolved", {"incident": event.incident, "resolution": event.resolution}, at)
        case Scanned():
            counts = {"candidates": event.candidates, "broken": event.broken, "unknown": event.unknown}
            root.add_event("scan", {**counts, "complete": event.complete, "failed": event.failed}, at)
        case GuardTripped():
            root.add_event("guard", {"why": event.why, "broken": event.broken, "held": event.held}, at)
        case Trouble():
            root.add_event("trouble", {"sentence": event.sentence}, at)


def _taken(answer: Response) -> Outcome:
    return Outcome(Result.DONE) if answer.status == 200 else Outcome(Result.REFUSED, f"status {answer.status}")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
