"""The real daemon tells the outside that it lives: pings and check-ins on real sockets, both with their secrets kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue

from sentry_sdk.envelope import Envelope

from tests.cli.conftest import Shop, listening
from tests.cli.test_run import get, replica

UUID, KEY = "canary-6b0c-deadman", "canary5a5bsentrykey"


@contextmanager
def outside() -> Iterator[tuple[str, SimpleQueue[str], SimpleQueue[Envelope]]]:
    """Somebody who is pinged and who keeps monitors; where, and what came."""
    pings: SimpleQueue[str] = SimpleQueue()
    envelopes: SimpleQueue[Envelope] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pings.put(self.path)
            self._answer(b"OK")

        def do_POST(self) -> None:
            envelopes.put(Envelope.deserialize(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(b"{}")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with listening(Handler) as address:
        yield address, pings, envelopes


def test_the_daemon_pings_and_checks_in_after_its_scan(shop: Shop) -> None:
    with outside() as (address, pings, envelopes):
        shop.env |= {"DEADMAN_URL": f"http://{address}/{UUID}", "SENTRY_DSN": f"http://{KEY}@{address}/7"}
        text = shop.config.read_text().replace("alerts: {via: chat}", 'alerts: {via: chat, deadman: {url: "${env:DEADMAN_URL}", every: 200ms}}')
        shop.config.write_text(text.replace("  chat: {type", '  watch: {type: sentry, dsn: "${env:SENTRY_DSN}", check_ins: true}\n  chat: {type'))
        with replica(shop) as daemon:
            page = "http://" + daemon.until("listening")["address"] + "/metrics"
            daemon.until("scan complete")
            assert pings.get(timeout=60) == f"/{UUID}"
            [item] = envelopes.get(timeout=60).items
            metrics = get(page)[1]
            daemon.signal(15)
            assert daemon.ended() == 0
    said = json.loads(item.payload.get_bytes())
    assert (item.type, said["monitor_slug"], said["status"]) == ("check_in", "orderheal-not-sent", "ok")
    assert 'orderheal_requests_total{connector="deadman",operation="ping",outcome="ok"}' in metrics
    assert 'orderheal_build_info{version="' in metrics
    assert "canary" not in daemon.output + metrics
