"""The real daemon sends its traces to a collector, and does its work without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.cli.conftest import Orderheal, Shop, listening
from tests.cli.test_run import replica

TOKEN = "canary-91ab-collector"


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """Where it is, and the spans that came."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            if self.headers["X-Key"] == TOKEN:
                spans.extend(span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with listening(Handler) as address:
        yield f"http://{address}/v1/traces", spans


def configure(shop: Shop, url: str) -> None:
    shop.env["TRACE_KEY"] = TOKEN
    added = f'\ntraces: {{otlp: "{url}", headers: {{X-Key: "${{env:TRACE_KEY}}"}}}}\n'
    shop.config.write_text(shop.config.read_text() + added)


def test_the_daemon_s_cycles_arrive_as_traces(shop: Shop) -> None:
    with collector() as (url, spans):
        configure(shop, url)
        with replica(shop) as daemon:
            daemon.until("attempt ended", result="done", key="OZ-1")
            daemon.signal(15)
            assert daemon.ended() == 0
    cycles = {span.span_id: span for span in spans if span.name == "cycle not-sent"}
    call = next(span for span in spans if span.name == "shop-integration upload_order")
    assert call.trace_id == cycles[call.parent_span_id].trace_id, "what is left is sent when it stops"
    assert "canary" not in daemon.output


def test_without_a_collector_it_heals_all_the_same(shop: Shop) -> None:
    configure(shop, "http://127.0.0.1:1/v1/traces")
    with replica(shop) as daemon:
        daemon.until("attempt ended", result="done", key="OZ-1")
        daemon.signal(15)
        assert daemon.ended() == 0
    assert shop.sql("SELECT sent FROM orders WHERE id = 'OZ-1'") == [("78",)]


@pytest.mark.parametrize("url", ["collector:4318/v1/traces", "https://u:p@collector/v1/traces", "ftp://collector"])
def test_an_address_that_is_none_is_a_line_at_its_place(url: str, shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, url)
    said = orderheal("status")
    assert said.code == 2
    assert "must be an http or https URL without user and fragment" in said.err


def test_without_the_extra_a_line_says_how_to_get_it(shop: Shop, orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(shop, "http://127.0.0.1:1/v1/traces")
    monkeypatch.setenv("TRACE_KEY", TOKEN)
    monkeypatch.setattr("daemon.config.find_spec", lambda name: None)
    said = orderheal("status")
    assert said.code == 2
    assert 'pip install "orderheal[otel]"' in said.err
    assert ": traces needs the extra otel" in said.err
