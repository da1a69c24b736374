"""Planted secrets come out nowhere, whatever goes wrong.

One daemon meets every failure at once: names that do not resolve, ports that refuse, TLS that is none or nobody's, redirects
elsewhere, 401, services and a database that echo all they were sent, a server that answers a password with the password, a
chat that quotes its own address, a store that breaks a cycle with a text of its own. Then everything that can be read of
it is searched: log, pages, messages, every row of the store, every command.
"""

from __future__ import annotations

import base64
import html
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from daemon.store.migrations import migrate
from tests.cli.conftest import Orderheal, Said
from tests.system.harness import STORE_TOOLS, Answer, Asked, Database, Replica, Service, as_json

CANARIES = {
    "API_TOKEN": "tk/+&=cAnArYbearer01", "DB_PASSWORD": "p@ss:cAnArYdatabase02", "STORE_PASSWORD": "p%ss/cAnArYstore03",
    "CHAT_TOKEN": "4242:cAnArYchat04", "SENTRY_KEY": "cAnArYsentry05",
}  # fmt: skip
REMARK = " ".join(CANARIES.values())
"""What somebody wrote into a record of the shop's own; the store keeps records as they are, and nobody is told it."""

CORES = ["cAnArY" + value.partition("cAnArY")[2] for value in CANARIES.values()]


def writings(core: str) -> Iterator[str]:
    """A word as it stands in text, and what is certain of it in base64, wherever it begins."""
    yield core
    for skip in range(3):
        text = base64.b64encode(b"." * skip + core.encode()).decode()
        yield text[4 if skip else 0 : len(text) - 4]
    yield core.encode().hex()
    yield core[::-1]


def leaked(text: str) -> list[str]:
    """The canaries in a text, each with its surroundings."""
    return [text[max(0, at - 60) : at + 60] for core in CORES for word in writings(core) if (at := text.find(word)) >= 0]


def echo(asked: Asked) -> str:
    """All that was sent, in every writing."""
    told = json.dumps(dict(asked.headers)) + f" /{asked.sender}{asked.path} {asked.body}"
    secret = asked.headers.get("authorization", "")
    return " ".join([told, html.escape(told), quote(told), secret, quote(secret, safe=""), base64.b64encode(told.encode()).decode()])


def respond(asked: Asked) -> Answer:
    """The first part of the path says how it goes wrong."""
    match asked.sender:
        case "echo":
            return 500, {"content-type": "text/plain", "x-request-id": asked.headers.get("authorization", "")}, echo(asked)
        case "refuse":
            return as_json(422, {"error": echo(asked)})
        case "redirect":
            where = f"http://elsewhere.invalid/{quote(asked.headers['authorization'])}?key={quote(asked.headers['authorization'])}"
            return 302, {"location": where, "content-type": "text/plain"}, echo(asked)
        case "ill":
            return as_json(401, {"error": echo(asked)})
        case "nonsense":
            return 200, {"content-type": "application/json"}, '{"id": ' + echo(asked)
        case "deadchat":
            return as_json(400, {"ok": False, "error_code": 400, "description": f"Bad Request: {echo(asked)}"})
        case "chat":
            return as_json(200, {"ok": True, "result": {"message_id": 1}})
        case "api":  # Sentry's own path
            return as_json(200, {"id": "1" * 32})
    return as_json(404, {"error": echo(asked)})


FAULTS = ("dns", "closed", "notls", "selfsigned", "redirect", "ill", "echo", "refuse", "nonsense")


def connector(url: str) -> dict[str, Any]:
    return {
        "type": "http", "url": url, "timeout": "2s", "headers": {"Authorization": "Bearer ${env:API_TOKEN}"},
        "records": {"notes": {
            "by": {"id": {"request": {"path": "/notes/${key}"}, "present": "status == 200", "absent": "status == 404", "item": "${body}"}},
            "key": "${id}", "fields": {"id": "string"},
        }},
        "calls": {"upload": {"path": "/upload", "body": {"id": "${id}"}, "idempotent": True, "done": "status == 200 && body.success == true"}},
    }  # fmt: skip


def database(url: str) -> dict[str, Any]:
    orders = {"query": "SELECT id, state, remark FROM orders", "key": "${id}", "by": ["id"]}
    orders["fields"] = {"id": "string", "state": "string", "remark": "string"}
    broken = {**orders, "query": "SELECT id, tell_all(state) AS state, remark FROM orders"}
    return {"type": "sql", "url": url, "timeout": "5s", "records": {"orders": orders, "broken": broken}}


def config(urls: dict[str, str]) -> str:
    """An installation with a connector for each way to fail."""
    connectors = {
        **{name: connector(url) for name, url in urls.items()},
        "shop": database("${env:SHOP_DB_URL}"), "locked": database("${env:LOCKED_DB_URL}"), "away": database("${env:AWAY_DB_URL}"),
        "chat": {"type": "telegram", "token": "${env:CHAT_TOKEN}", "url": "${env:CHAT_URL}/chat"},
        "deadchat": {"type": "telegram", "token": "${env:CHAT_TOKEN}", "url": "${env:CHAT_URL}/deadchat"},
        "lostchat": {"type": "telegram", "token": "${env:CHAT_TOKEN}", "url": "http://telegram.invalid"},
        "sentry": {"type": "sentry", "dsn": "${env:SENTRY_DSN}"},
    }  # fmt: skip
    team = {"title": "Team", "channels": [{"via": "deadchat", "chat": "-1"}, {"via": "chat", "chat": "-2"}]}
    nobody = {"title": "Nobody", "channels": [{"via": "lostchat", "chat": "-3"}], "fallback": "team"}
    return json.dumps(
        {
            "environment": "test", "store": {"url": "${env:STORE_URL}"}, "http": {"listen": "127.0.0.1:0"}, "engine": {"poll": "50ms"},
            "rules": {"path": "rules/"}, "connectors": connectors, "contacts": {"team": team, "nobody": nobody},
        }
    )  # fmt: skip


RULE = """
name: {family}
title: Заказ застрял, ${{matrix.how}}
owner: team
runbook: docs/stuck.md
mode: enforce
every: 1s
matrix:
{members}
detect:
  from: {source}
  match: {match}
  broken: state == "stuck"
  key: {family}-${{id}}
  object: order/${{id}}
  for: 0s
{more}
guard: {{max_broken_percent: 100}}
"""
CALLS = """
remediate:
  - call: ${matrix.how}.upload
    with: {id: "${id}"}
    attempts: 1
    settle: 1s
    timeout: 1s
    backoff: {initial: 1s, factor: 1, max: 1s}
escalate:
  - {message: Не помогло., line: "${id}: ${remark}"}
  - {to: nobody, message: Не помогло и так.}
"""
LOOKUP = """
  lookup:
    note: {from: "${matrix.how}.notes", by: id, key: "${id}"}
"""


def rules(folder: Path) -> None:
    """A rule that calls and one that looks for each fault, and one for each database that fails."""

    def write(family: str, hows: tuple[str, ...], source: str, match: str, more: str) -> None:
        members = "\n".join(f"  - {{name: {family}-{how}, how: {how}}}" for how in hows)
        text = RULE.format(family=family, members=members, source=source, match=match, more=more)
        (folder / f"{family}.yaml").write_text(text, encoding="utf-8")

    write("calls", FAULTS, "shop.orders", 'id == "${matrix.how}"', CALLS)
    write("looks", FAULTS, "shop.orders", '\n    - id == "${matrix.how}"\n    - note != null', LOOKUP)
    write("sources", ("shop", "locked", "away"), "${matrix.how}.broken", 'id != ""', "")


@contextmanager
def telltale() -> Iterator[int]:
    """A PostgreSQL server that asks for the password in the clear and repeats it in its error."""

    def talk(client: socket.socket) -> None:
        def message(kind: bytes, body: bytes) -> None:
            client.sendall(kind + struct.pack("!i", len(body) + 4) + body)

        with client, suppress(OSError, struct.error):
            while True:
                (size,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
                (code,) = struct.unpack("!i", client.recv(size - 4, socket.MSG_WAITALL)[:4])
                if code not in (80877103, 80877104):  # no TLS, no GSSAPI
                    break
                client.sendall(b"N")
            message(b"R", struct.pack("!i", 3))
            client.recv(1, socket.MSG_WAITALL)
            (size,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
            password = client.recv(size - 4, socket.MSG_WAITALL).rstrip(b"\0")
            said = b'password authentication failed for user "shop", password "' + password + b'"'
            message(b"E", b"SFATAL\0VFATAL\0C28P01\0M" + said + b"\0D" + said + b"\0\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def with_password(dsn: str, password: str) -> str:
    """The URL with a password in it, which a server that trusts us never asks for."""
    facts = conninfo_to_dict(dsn)
    host, port = quote(str(facts["host"]), safe=""), facts.get("port") or 5432
    return f"postgresql://{facts.get('user', 'postgres')}:{quote(password, safe='')}@/{facts['dbname']}?host={host}&port={port}"


@pytest.fixture(scope="module")
def plain_store(pg_server: Any) -> str:
    """A migrated store with tools, rule time as it is: not every host of these tests is this machine."""
    dsn: str = pg_server.fresh_database()
    migrate(dsn)
    Database(dsn).sql(STORE_TOOLS)
    return dsn


@pytest.fixture
def ill(pg_server: Any, plain_store: str, tmp_path: Path) -> Iterator[tuple[dict[str, str], Service, Database]]:
    """The environment of an installation in which everything goes wrong, its service and its store."""
    nobodys = Path(__file__).parents[1] / "net" / "nobodys.pem"
    with ExitStack() as stack:
        store = stack.enter_context(pg_server.database(template=plain_store))
        shop = stack.enter_context(pg_server.database())
        service = stack.enter_context(Service(respond).serving())
        selfsigned = stack.enter_context(Service(respond).serving(tls=nobodys))
        port = stack.enter_context(telltale())
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # and never listens
        away = closed.getsockname()[1]
        fill(Database(shop))
        urls = {name: f"{service.url}/{name}" for name in FAULTS} | {
            "dns": "http://nowhere.invalid", "closed": f"http://127.0.0.1:{away}",
            "notls": service.url.replace("http:", "https:"), "selfsigned": selfsigned.url,
        }  # fmt: skip
        (tmp_path / "rules").mkdir()
        rules(tmp_path / "rules")
        (tmp_path / "config.yaml").write_text(config(urls), encoding="utf-8")
        password = quote(CANARIES["DB_PASSWORD"], safe="")
        yield (
            {
                "STORE_URL": with_password(store, CANARIES["STORE_PASSWORD"]),
                "SHOP_DB_URL": with_password(shop, CANARIES["DB_PASSWORD"]),
                "LOCKED_DB_URL": f"postgresql://shop:{password}@127.0.0.1:{port}/shop",
                "AWAY_DB_URL": f"postgresql://shop:{password}@127.0.0.1:{away}/shop",
                "API_TOKEN": CANARIES["API_TOKEN"], "CHAT_TOKEN": CANARIES["CHAT_TOKEN"], "CHAT_URL": service.url,
                "SENTRY_DSN": service.url.replace("http://", f"http://{CANARIES['SENTRY_KEY']}@") + "/7",
            },
            service,
            Database(store),
        )  # fmt: skip


def fill(shop: Database) -> None:
    """An order per fault, and a function that quotes statement and password in its error."""
    shop.sql("CREATE TABLE orders (id text PRIMARY KEY, state text NOT NULL, remark text NOT NULL)")
    shop.sql(f"""CREATE FUNCTION tell_all(text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no: % %', current_query(), '{CANARIES["DB_PASSWORD"]}'; END $$""")
    for fault in FAULTS:
        shop.sql("INSERT INTO orders VALUES (%s, 'stuck', %s)", fault, REMARK)


COMMANDS = [
    ["status"], ["status", "--json"], ["scan", "--json"], ["plan", "--json"], ["plan", "calls-echo", "calls-ill"], ["doctor", "--json"],
    ["incidents", "list", "--json"], ["rules", "show", "calls-echo", "--json"], ["explain", "echo", "--json"], ["explain", "calls-refuse"],
]  # fmt: skip


def test_no_secret_comes_out_whatever_goes_wrong(
    ill: tuple[dict[str, str], Service, Database], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, service, store = ill
    daemon = Replica(tmp_path / "config.yaml", env)
    try:
        all_has_gone_wrong(daemon, store)
        pages = [daemon.get(page)[1] for page in ("/metrics", "/healthz", "/readyz", "/")]
        broken_cycle(daemon, store)
        daemon.stop()
    finally:
        daemon.clear()
        capsys.readouterr()  # what it said is searched below, apart from what the commands say
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    orderheal = Orderheal(capsys, tmp_path / "config.yaml")
    said = [whole(orderheal(*command)) for command in COMMANDS]
    numbers = {one["rule"]: one["id"] for one in orderheal("incidents", "list", "--json").json}
    assert set(numbers) == {f"calls-{fault}" for fault in FAULTS}
    for fault, more in (("echo", ()), ("echo", ("--json",)), ("refuse", ("--json",)), ("redirect", ())):
        said.append(whole(orderheal("incidents", "show", numbers[f"calls-{fault}"], "--requests", *more)))
    messages = [one.body for one in service.asked if one.sender in ("chat", "deadchat", "api")]
    assert [one for one in service.asked if one.sender == "api"], "Sentry was told"
    assert any("calls-echo" in body or "echo" in body for body in messages)
    assert sum("[secret]" in text for text in (store.text(), *said)), "what was echoed was kept, without the secrets"
    kept = store.text()
    assert REMARK in kept
    places = {
        "log": daemon.output, "pages": "\n".join(pages), "messages": "\n".join(messages), "store": kept.replace(REMARK, ""),
        "commands": "\n".join(said),
    }  # fmt: skip
    assert {place: leaked(text) for place, text in places.items() if leaked(text)} == {}
    assert any(leaked(json.dumps(dict(one.headers))) for one in service.asked), "the search finds what was sent"


def all_has_gone_wrong(daemon: Replica, store: Database) -> None:
    """Wait until each call has failed in its way and all were told, each look and each source too."""
    daemon.until("listening")
    store.until("SELECT count(DISTINCT rule) = %s FROM attempt WHERE result IS NOT NULL", len(FAULTS))
    store.until("SELECT count(*) = %s FROM incident WHERE phase = 'escalated' AND rule LIKE 'calls-%%'", len(FAULTS) - 1)
    store.until("SELECT count(DISTINCT via) = 4 AND bool_and(via = 'lostchat' OR state <> 'pending') FROM dispatch WHERE tries > 0")
    for how in ("shop", "locked", "away"):
        daemon.until("scan failed", rule=f"sources-{how}")
    for how in FAULTS:
        daemon.until("scan complete", rule=f"looks-{how}", unknown=1)


def broken_cycle(daemon: Replica, store: Database) -> None:
    """A cycle that meets what nobody thought of: the store refuses a row, and says a secret."""
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute(f"""CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'unheard of: %', '{CANARIES["STORE_PASSWORD"]} {CANARIES["DB_PASSWORD"]}'; END $$""")  # type: ignore[arg-type]
        connection.execute("CREATE TRIGGER break BEFORE UPDATE ON incident EXECUTE FUNCTION break()")
        daemon.until("a cycle failed; its lease will run out and it is taken again later")
        connection.execute("DROP TRIGGER break ON incident; DROP FUNCTION break")


def whole(said: Said) -> str:
    """All that a command printed."""
    return said.out + said.err


WRONG = {
    "nonsense": f"post:gres//{CANARIES['STORE_PASSWORD']}@[no-port/{CANARIES['STORE_PASSWORD']}\x7f",
    "no port": f"postgresql://shop:{quote(CANARIES['STORE_PASSWORD'], safe='')}@127.0.0.1:port/x",
    "unquoted": f"postgresql://shop:{CANARIES['STORE_PASSWORD']}@127.0.0.1/x",
    "nowhere": f"postgresql://shop:{quote(CANARIES['STORE_PASSWORD'], safe='')}@nowhere.invalid/x",
}


@pytest.mark.parametrize(
    ("name", "hows"),
    [
        ("STORE_URL", (*WRONG, "refused", "closed", "unset")), ("SHOP_DB_URL", ("nonsense", "no port", "unquoted")),
        ("SENTRY_DSN", ("nonsense", "nowhere")), ("API_TOKEN", ("nonsense",)), ("CHAT_TOKEN", ("nonsense",)),
    ],
)  # fmt: skip
def test_no_secret_comes_out_of_a_command_that_cannot_begin(
    name: str, hows: tuple[str, ...], ill: tuple[dict[str, str], Service, Database], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A secret written wrongly: no URL at all, a server that refuses it, one that is away, one that is nowhere."""
    env, _, _ = ill
    orderheal = Orderheal(capsys, tmp_path / "config.yaml")
    commands = (["run"], ["status", "--json"], ["doctor", "--json"], ["db", "upgrade"]) if name == "STORE_URL" else (["doctor", "--json"],)
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    for how in hows:
        monkeypatch.setenv(name, {**WRONG, "refused": env["LOCKED_DB_URL"], "closed": env["AWAY_DB_URL"], "unset": ""}[how])
        if how == "unset":
            monkeypatch.delenv(name)
        for command in commands:
            said = orderheal(*command)
            assert said.code in (1, 2, 3), (how, command, said)
            assert leaked(whole(said)) == [], (how, command)
            assert len(said.err.strip().splitlines()) <= (len(FAULTS) if name == "API_TOKEN" else 1), "one line each"
