"""The whole of observability on real parts: ``python -m tools.observe``, some three minutes.

    orderheal demo --keep ◀─scrape─ Prometheus ─alert─▶ Alertmanager ─▶ a webhook of ours
            │ a drill that the daemon does by itself
            └ store (PostgreSQL)          └ every PromQL target and annotation of helm/dashboards
                    └ every SQL target                        └▶ a picture of each dashboard, drawn in Chromium

It fails when a target errs or stays empty, when an alert that the demo must raise does not arrive with its runbook, or when
promtool finds fault with the demo's own /metrics. ``--pictures`` writes docs/pictures; without it pictures are drawn and dropped.
Needs prometheus, promtool and prometheus-alertmanager on the PATH, and chromium for pictures; says loudly what is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import socket
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import psycopg
from psycopg.rows import dict_row

from daemon.domain.standing import Pause
from daemon.store.postgres import PostgresStore
from tools.picture import WIDTH, Answer, Line, page

ROOT: Final = Path(__file__).parents[1]
DASHBOARDS: Final = ROOT / "helm" / "dashboards"
PICTURES: Final = ROOT / "docs" / "pictures"
EXPECTED: Final = ("OrderhealGuardTripped",)
"""Alerts that the demo's faults must raise: its storm trips a guard and stays."""

_PATIENCE: Final = 240.0  # seconds for the demo to come to its end, and then for an alert to arrive
_LOOK: Final = 0.5  # seconds between two looks at Prometheus, which tells nobody when it has scraped
_DRILL: Final = "drills: {ozon-order-not-sent: {every: 1h}}"
"""What makes the demo's daemon drill by itself, once; how, the demo says."""

_VARIABLES: Final = {
    "$__rate_interval": "15s", "$__interval": "1s", "$__range": "5m", "${datasource}": "", "$namespace": ".*", "$rule": ".*",
    "$connector": ".*",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that stays up: where its daemon is scraped, where its rows are."""

    listen: str
    store: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Alertmanager's alerts arrive; ``news`` is told of each."""

    port: int
    told: list[Mapping[str, Any]]
    news: threading.Condition

    def names(self) -> set[str]:
        """The alerts that arrived so far."""
        return {alert["labels"]["alertname"] for alert in self.told}

    def until(self, names: set[str]) -> None:
        """Wait for these. Raises SystemExit when one does not come."""
        with self.news:
            if not self.news.wait_for(lambda: names <= self.names(), _PATIENCE):
                raise SystemExit(f"in vain for {_PATIENCE:g} s: {', '.join(sorted(names - self.names()))} at the webhook")


@contextmanager
def running(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours with its output in a file; asked to end when the block does."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()


class Following:
    """A demo's output, line by line, without losing what came before somebody asked."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-u", "-m", "daemon", "demo", "--keep", "--config", str(config)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)

    def until(self, pattern: str) -> str:
        """The first group of the first line that fits."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                line = self._lines.get(timeout=1)
            except Empty:
                if self.process.poll() is not None:
                    break
                continue
            self._seen.append(line)
            if found := re.search(pattern, line):
                return found[1]
        raise SystemExit(f"the demo never said {pattern!r}:\n" + "".join(self._seen[-30:]))

    def end(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def sink() -> Iterator[Webhook]:
    """A webhook for Alertmanager."""
    told: list[Mapping[str, Any]] = []
    news = threading.Condition()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]
            with news:
                told.extend(alerts)
                news.notify_all()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = HTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Webhook(server.server_port, told, news)
    finally:
        server.shutdown()


class Prometheus:
    """A real one, asked over its API."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: object) -> Any:
        """The data of an answer. Raises ValueError with what Prometheus says is wrong."""
        try:
            with urlopen(f"{self.base}{path}?{urlencode(query)}", timeout=30) as answer:
                return json.load(answer).get("data")
        except OSError as error:
            said = error.read().decode() if hasattr(error, "read") else str(error)  # an HTTPError is an answer
            raise ValueError(said[:400]) from None

    def lines(self, expr: str, legend: str, began: float, ended: float, at_end: bool) -> list[Line]:
        """The series of an expression over the time, or its values at the end."""
        if at_end:
            found = self.get("/api/v1/query", query=expr, time=ended)["result"]
            return [Line(_named(one["metric"], legend), [_point(one["value"])]) for one in found]
        found = self.get("/api/v1/query_range", query=expr, start=began, end=ended, step=1)["result"]
        return [Line(_named(one["metric"], legend), [_point(pair) for pair in one["values"]]) for one in found]

    def rows(self, expr: str, ended: float) -> list[Mapping[str, Any]]:
        """The values at the end, as a table shows them."""
        found = self.get("/api/v1/query", query=expr, time=ended)["result"]
        names = sorted({name for one in found for name in one["metric"]})
        return [{name: one["metric"].get(name) for name in names} | {"Value": _point(one["value"])[1]} for one in found]


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _named(labels: Mapping[str, str], legend: str) -> str:
    if legend == "__auto":
        return ", ".join(value for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)


def filled(text: str) -> str:
    """A PromQL target with its variables in place, as Grafana would send it."""
    for name, value in _VARIABLES.items():
        text = text.replace(name, value)
    return text


def filled_sql(text: str, rules: Sequence[str]) -> str:
    """An SQL target with its macros in place."""
    quoted = ", ".join(f"'{rule}'" for rule in rules)
    text = text.replace("${rule:sqlstring}", quoted)
    return re.sub(r"\$__timeFilter\(([\w.]+)\)", r"\1 BETWEEN '-infinity' AND 'infinity'", text)


class Check:
    """Every target of every dashboard, and what is wrong with any."""

    def __init__(self, prometheus: Prometheus, store: str, began: float, ended: float) -> None:
        self._prometheus, self._store, self._began, self._ended = prometheus, store, began, ended
        self.asked, self.wrong = 0, list[str]()
        with psycopg.connect(store) as connection:
            self._rules = [name for (name,) in connection.execute("SELECT name FROM rule ORDER BY name")]

    def dashboard(self, path: Path) -> tuple[Mapping[str, Any], Mapping[int, Answer]]:
        """A dashboard with the answers to its panels by their ids."""
        whole = json.loads(path.read_text(encoding="utf-8"))
        for mark in whole["annotations"]["list"]:
            self._one(f"{path.stem}: annotation {mark['name']}", partial(self._mark, mark["target"]["expr"]))
        answers: dict[int, Answer] = {}
        for panel in whole["panels"]:
            answers[panel["id"]] = Answer()
            for target in panel.get("targets", ()):
                found = self._one(f"{path.stem}: {panel['title']} {target['refId']}", partial(self._target, panel, target))
                answers[panel["id"]].lines.extend(found.lines)
                answers[panel["id"]].rows.extend(found.rows)
        return whole, answers

    def _one(self, name: str, ask: Callable[[], Answer]) -> Answer:
        self.asked += 1
        try:
            answer = ask()
        except (ValueError, psycopg.Error) as error:
            self.wrong.append(f"{name} ERRS: {error}")
            return Answer()
        if answer.empty:
            self.wrong.append(f"{name} is EMPTY")
        return answer

    def _target(self, panel: Mapping[str, Any], target: Mapping[str, Any]) -> Answer:
        if "rawSql" in target:
            with psycopg.connect(self._store, row_factory=dict_row) as connection:
                return Answer(rows=list(connection.execute(filled_sql(target["rawSql"], self._rules).encode())))
        if panel["type"] == "table":
            return Answer(rows=self._prometheus.rows(filled(target["expr"]), self._ended))
        return Answer(self._lines(target["expr"], target["legendFormat"], bool(target.get("instant"))))

    def _mark(self, expr: str) -> Answer:
        return Answer(self._lines(expr, "", False))

    def _lines(self, expr: str, legend: str, at_end: bool) -> list[Line]:
        return self._prometheus.lines(filled(expr), legend, self._began, self._ended, at_end)


def prometheus_config(scraped: str, alertmanager: int) -> str:
    """A scrape a second, the rules that the chart ships, one Alertmanager."""
    rules = [str(path) for path in sorted((ROOT / "helm" / "alerts").glob("*.yaml"))]
    return json.dumps({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": rules,
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [
            {"job_name": "orderheal", "static_configs": [{"targets": [scraped], "labels": {"namespace": "demo"}}]},
        ],
    })  # fmt: skip


def alertmanager_config(port: int) -> str:
    """Everything to one webhook, at once."""
    return json.dumps({
        "route": {"receiver": "sink", "group_wait": "1s", "group_interval": "1s", "group_by": ["alertname"]},
        "receivers": [{"name": "sink", "webhook_configs": [{"url": f"http://127.0.0.1:{port}/"}]}],
    })  # fmt: skip


async def pause(store: str) -> None:
    """A person pauses a connector: what a dashboard shows of that."""
    async with PostgresStore(store, size=1) as opened:
        now = await opened.now()
        await opened.pause(Pause("observed", "on-call", "the CRM is being updated", now, now + timedelta(days=1), connector="ozon-integration"))


def scraped(prometheus: Prometheus, expr: str, what: str) -> None:
    """Look until Prometheus has it. Raises SystemExit when it does not come."""
    end = time.monotonic() + _PATIENCE
    while not prometheus.rows(expr, time.time()):
        if time.monotonic() > end:
            raise SystemExit(f"in vain for {_PATIENCE:g} s: {what} at Prometheus")
        time.sleep(_LOOK)


def drilled(folder: Path) -> Path:
    """The shipped configuration, with a drill on a schedule."""
    shipped = ROOT / "config.yaml"
    (folder / "rules").symlink_to(shipped.parent / "rules")
    path = folder / shipped.name
    path.write_text(f"{shipped.read_text(encoding='utf-8')}\n{_DRILL}\n", encoding="utf-8")
    return path


def promtool_on(listen: str) -> list[str]:
    """What promtool has to say about the daemon's own page."""
    with urlopen(f"http://{listen}/metrics", timeout=10) as answer:
        body = answer.read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    said = (checked.stdout + checked.stderr).decode().strip()
    return [f"promtool check metrics: {line}" for line in said.splitlines()]


TYPES: Final = """\
import type { Dashboard } from "@grafana/schema";
type Loose<T> = T extends string ? `${T}` : T extends (infer U)[] ? Loose<U>[]
  : T extends { refId: string } | { iconColor: string } ? { [K in keyof T]: Loose<T[K]> } & { [key: string]: unknown }
  : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;
export const dashboard: Loose<Dashboard> =
"""
"""Grafana's own types, with enumerations by their texts and with targets that say more than what every target must say."""


def types_of(folder: Path) -> list[str]:
    """What TypeScript finds wrong in the dashboards, by Grafana's own types."""
    if not shutil.which("npm"):
        print("!!! types of dashboards SKIPPED: no npm here (Debian: npm)")
        return []
    install = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(folder), "@grafana/schema@13", "typescript@5"]
    if subprocess.run(install, capture_output=True, check=False, timeout=300).returncode:
        print("!!! types of dashboards SKIPPED: npm cannot install @grafana/schema")
        return []
    for path in DASHBOARDS.rglob("*.json"):
        name = "-".join(path.relative_to(DASHBOARDS).with_suffix("").parts)
        (folder / f"{name}.ts").write_text(f"{TYPES}{path.read_text(encoding='utf-8')};\n", encoding="utf-8")
    strict = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]
    files = sorted(path.name for path in folder.glob("*.ts"))
    said = subprocess.run(["node_modules/.bin/tsc", *strict, *files], cwd=folder, capture_output=True, text=True, check=False)
    return [f"types: {line}" for line in said.stdout.splitlines()]


def photograph(html: str, height: int, target: Path, folder: Path) -> None:
    """The page as a PNG, by a real browser."""
    source = folder / f"{target.stem}.html"
    source.write_text(html, encoding="utf-8")
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{height}",
         f"--user-data-dir={folder / 'browser'}", f"--screenshot={target}", source.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def observe(folder: Path, pictures: Path | None) -> list[str]:
    """Everything once; what is wrong."""
    with ExitStack() as stack:
        following = Following(drilled(folder))
        stack.callback(following.end)
        listen = following.until(r"listening address=(\S+)")
        began, ports = time.time(), (free_port(), free_port())
        webhook = stack.enter_context(sink())
        (folder / "am.yml").write_text(alertmanager_config(webhook.port))
        (folder / "prom.yml").write_text(prometheus_config(listen, ports[1]))
        stack.enter_context(running(
            "prometheus-alertmanager", f"--config.file={folder}/am.yml", f"--storage.path={folder}/am", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{ports[1]}", log=folder / "am.log",
        ))  # fmt: skip
        stack.enter_context(running(
            "prometheus", f"--config.file={folder}/prom.yml", f"--storage.tsdb.path={folder}/data", "--enable-feature=exemplar-storage",
            f"--web.listen-address=127.0.0.1:{ports[0]}", log=folder / "prom.log",
        ))  # fmt: skip
        print(f"the demo's daemon is scraped at {listen}; its faults are being healed", flush=True)
        demo = Demo(listen, following.until(r"^\s+store\s+(postgresql://\S+)"))
        asyncio.run(pause(demo.store))
        print("waiting for the alerts to go through Prometheus and Alertmanager", flush=True)
        webhook.until(set(EXPECTED))
        prometheus = Prometheus(ports[0])
        scraped(prometheus, "orderheal_paused", "the pause")
        scraped(prometheus, 'orderheal_drill_timestamp_seconds{result="passed"} > 0', "a drill that passed")
        wrong = promtool_on(demo.listen) + [f"{alert['labels']['alertname']} came without a runbook" for alert in webhook.told
                                            if not alert["annotations"].get("runbook_url")]  # fmt: skip
        check = Check(prometheus, demo.store, began, time.time())
        for path in sorted(DASHBOARDS.glob("*.json")):
            whole, answers = check.dashboard(path)
            if shutil.which("chromium"):
                target = (pictures or folder) / f"dashboard-{path.stem}.png"
                photograph(*page(whole, answers), target, folder)
        print(f"{check.asked} targets asked; alerts received: {', '.join(sorted(webhook.names()))}")
        return wrong + check.wrong


def main(words: Sequence[str]) -> int:
    """0: all is well; 1: something is wrong, a line each; 2: it cannot run here. ``--can``: only say whether it could."""
    missing = [name for name in ("prometheus", "promtool", "prometheus-alertmanager") if not shutil.which(name)]
    if missing:
        print(f"not installed here: {', '.join(missing)} (Debian: prometheus prometheus-alertmanager)")
        return 2
    if "--can" in words:
        return 0
    if not shutil.which("chromium"):
        print("!!! pictures SKIPPED: no chromium here (Debian: chromium fonts-dejavu-core)")
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="orderheal-observe-") as folder, tempfile.TemporaryDirectory(prefix="orderheal-types-") as types:
        wrong = types_of(Path(types)) + observe(Path(folder), PICTURES if "--pictures" in words else None)
    print("\n".join(f"✗ {line}" for line in wrong) or "every target has data, every expected alert arrived")
    print(f"took {(datetime.now(UTC) - began).total_seconds():.0f} s, load {os.getloadavg()[0]:.1f}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
