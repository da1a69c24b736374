"""A shop that is not ours is healed by configuration and rules alone (tests/system/foreign_shop).

Its table and column names are quoted and camel case, its keys bigint, its times naive and of New York, its amounts numeric
or NULL; its service has the key in its paths, answers in its own words and pages by cursor. Nothing of the sandbox is here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.cli.conftest import Orderheal
from tests.system.harness import Answer, Asked, Database, Replica, Service, as_json

NEW_YORK = ZoneInfo("America/New_York")
BIG = 9007199254740993
"""2**53 + 1: a number that no double holds."""

TABLES = """
CREATE SCHEMA vertrieb;
CREATE TABLE vertrieb."Kunde" ("KundeNr" bigint PRIMARY KEY, "E-Mail" text);
CREATE TABLE vertrieb."Auftrag" ("AuftragNr" bigint PRIMARY KEY, "KundeNr" bigint, "Zustand" varchar(20) NOT NULL,
    "BetragBrutto" numeric(14,4), "Währung" char(3) NOT NULL, "Angelegt" timestamp NOT NULL, "VersandBis" timestamp);
CREATE TABLE vertrieb."Rechnung" ("BelegNr" varchar(20) PRIMARY KEY, "AuftragNr" bigint UNIQUE NOT NULL);
"""


class Shop:
    """Its database, and its service as it would be anywhere."""

    def __init__(self, erp: Database, now: datetime) -> None:
        self.erp, self.now = erp, now
        self.busy = True
        erp.sql(TABLES)
        erp.sql("""INSERT INTO vertrieb."Kunde" VALUES (7, 'someone@example.org')""")
        self.order(BIG, "bezahlt", hours=4, amount="1234.5600", customer=7)
        self.order(12, "bezahlt", hours=5)
        self.order(13, "bezahlt", hours=1)
        self.order(14, "bezahlt", hours=4, amount="0.1")
        self.order(15, "offen", hours=9)
        for number in range(100, 130):
            self.order(number, "bezahlt", hours=20, amount="5", invoice=f"R-{number}")
        self.parcels = {
            str(BIG + 2): self.parcel("HAENGT", 4, BIG), "31": self.parcel("UNTERWEGS", 4, 100),
            "32": self.parcel("HAENGT", 9, None), "33": self.parcel("HAENGT", 9, 999), "34": self.parcel("UNTERWEGS", 2, 101),
        }  # fmt: skip

    def local(self, hours: int) -> datetime:
        """So many hours ago, as a clock on a wall in New York shows it."""
        return (self.now - timedelta(hours=hours)).astimezone(NEW_YORK).replace(tzinfo=None)

    def order(self, number: int, state: str, hours: int, amount: str | None = None, customer: int | None = None, invoice: str = "") -> None:
        deadline = self.local(-48) if amount else None
        row = (number, customer, state, amount, "USD", self.local(hours), deadline)
        self.erp.sql('INSERT INTO vertrieb."Auftrag" VALUES (%s, %s, %s, %s, %s, %s, %s)', *row)
        if invoice:
            self.erp.sql('INSERT INTO vertrieb."Rechnung" VALUES (%s, %s)', invoice, number)

    def parcel(self, state: str, hours: int, order: int | None) -> dict[str, Any]:
        return {"status": {"lage": state, "seit": self.local(hours).isoformat()}, "bezug": {"auftrag": order}}

    def respond(self, asked: Asked) -> Answer:
        """The service's own manners; it wants its key, and the chat's token is in the path."""
        path, _, query = f"/{asked.sender}{asked.path}".partition("?")
        if "/bot" in path:
            return as_json(200, {"ok": True, "result": {"message_id": 5, "is_bot": True, "username": "vertrieb_bot"}})
        if asked.headers.get("x-schluessel") != "s3hr-geheim":
            return as_json(401, {"fehler": "schluessel"})
        match path.split("/")[2:], asked.method:
            case ["pakete"], "GET":
                return self.page(query)
            case ["pakete", number], "GET" if number in self.parcels:
                return as_json(200, {"paket": {"nr": int(number), **self.parcels[number]}})
            case ["pakete", _], "GET":
                return as_json(404, {"fehler": "unbekannt"})
            case ["pakete", number, "lauf"], "PUT":
                self.parcels[number]["status"]["lage"] = "UNTERWEGS"
                return 204, {}, ""
            case ["auftraege", number, "rechnung"], "POST":
                return self.invoice(number, asked.body)
        return 404, {"content-type": "text/html"}, "<h1>Not Found</h1>"

    def page(self, query: str) -> Answer:
        """Two parcels after the one that the cursor names."""
        assert "lager=Nord" in query
        numbers = list(self.parcels)
        begin = next((numbers.index(part[5:]) + 1 for part in query.split("&") if part.startswith("nach=") and part[5:]), 0)
        chosen = numbers[begin : begin + 2]
        more = chosen[-1] if begin + 2 < len(numbers) else None
        return as_json(200, {"daten": [{"nr": int(one), **self.parcels[one]} for one in chosen], "weiter": more})

    def invoice(self, number: str, body: str) -> Answer:
        if self.busy:
            self.busy = False
            return as_json(202, {"ergebnis": "SPAETER"})
        if number == "14":
            return as_json(200, {"ergebnis": "ABGELEHNT"})
        self.erp.sql('INSERT INTO vertrieb."Rechnung" VALUES (%s, %s)', f"R-{number}", number)
        return as_json(201, {"ergebnis": "ANGELEGT", "beleg": f"R-{number}"})


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(lambda asked: as_json(500, {})).serving() as serving:
        yield serving


@pytest.fixture
def reader(pg_server: Any, database: str) -> Iterator[str]:
    """The shop's database for a role that may only read, as a shop would give us one."""
    role = f"leser_{uuid4().hex[:12]}"
    server = Database(pg_server.admin)
    server.sql(f"CREATE ROLE {role} LOGIN")
    try:
        facts = {**conninfo_to_dict(database), "user": role}
        host, port = facts["host"], facts.get("port") or 5432
        yield f"postgresql://{role}@/{facts['dbname']}?host={host}&port={port}"
    finally:
        Database(database).sql(f"DROP OWNED BY {role}")
        server.sql(f"DROP ROLE {role}")


def test_a_shop_that_is_not_ours_heals_by_configuration_and_rules_alone(
    pg_server: Any, system_store: str, database: str, reader: str, service: Service, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = shutil.copytree(Path(__file__).with_name("foreign_shop"), tmp_path / "shop")
    orderheal = Orderheal(capsys, folder / "config.yaml")
    with pg_server.database(template=system_store) as dsn:
        store, erp = Database(dsn), Database(database)
        shop = Shop(erp, store.sql("SELECT rule_time(db_now())")[0][0])
        role = conninfo_to_dict(reader)["user"]
        erp.sql(f"GRANT USAGE ON SCHEMA vertrieb TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA vertrieb TO {role}")
        service.respond = shop.respond
        env = {"STORE_URL": dsn, "ERP_URL": reader, "SERVICE_URL": service.url, "SERVICE_KEY": "s3hr-geheim", "CHAT_TOKEN": "1:x-x"}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        before(orderheal, service)
        lives(folder, env, store, erp, service)
        capsys.readouterr()
        afterwards(orderheal)


def before(orderheal: Orderheal, service: Service) -> None:
    """What is said of it while nothing has been done."""
    checked = orderheal("rules", "check")
    assert checked.code == 0, checked.err
    examined = orderheal("doctor")
    assert examined.code == 0, examined.out + examined.err
    scanned = orderheal("scan", "--json")
    assert scanned.code == 1, scanned.err
    seen = {rule: {one["key"]: one["verdict"] for one in scan["sightings"]} for rule, scan in scanned.json.items()}
    assert seen["rechnung-fehlt"] == {f"A-{number}": "broken" for number in (12, 13, 14, BIG)}
    assert seen["paket-haengt"] == {str(BIG + 2): "broken", "32": "unknown"}, "a null is no key, an order that is not there none of ours"
    planned = orderheal("plan", "--json").json
    requests = {one["key"]: one["request"] for rule in planned.values() for one in rule["planned"] if one.get("request")}
    assert set(requests) == {"A-14", f"A-{BIG}", str(BIG + 2)}
    invoice, parcel = requests[f"A-{BIG}"], requests[str(BIG + 2)]
    assert (invoice["method"], invoice["url"]) == ("POST", f"{service.url}/v2/auftraege/{BIG}/rechnung")
    assert invoice["body"] == "brutto=1234.5600&art=R", "exact, as the column holds it"
    assert (parcel["method"], parcel["url"]) == ("PUT", f"{service.url}/v2/pakete/{BIG + 2}/lauf?neu=1")
    assert {one.method for one in service.asked if one.sender == "v2"} == {"GET"}, "nothing was sent"


def lives(folder: Path, env: dict[str, str], store: Database, erp: Database, service: Service) -> None:
    """The daemon at work until all that can end has ended."""
    daemon = Replica(folder / "config.yaml", env)
    try:
        store.until(
            """SELECT count(*) FILTER (WHERE resolution = 'healed') = 2 AND count(*) FILTER (WHERE phase = 'escalated' AND key = 'A-14') = 1
                      AND (SELECT count(*) FILTER (WHERE state = 'done') >= 1 AND count(*) FILTER (WHERE state = 'pending') = 0 FROM dispatch)
               FROM incident"""
        )
        daemon.stop()
    finally:
        daemon.clear()
    ends = dict(store.sql("SELECT key, coalesce(resolution, phase) FROM incident"))
    assert ends[f"A-{BIG}"] == ends[str(BIG + 2)] == "healed"
    assert ends["A-14"] == "escalated"
    assert ends["A-13"] == "open", "an hour old by New York's clock, and three are its grace"
    assert not [one for one in service.asked if "/13/" in one.path or "/15/" in one.path]
    assert erp.sql('SELECT "BelegNr" FROM vertrieb."Rechnung" WHERE "AuftragNr" = %s', BIG) == [(f"R-{BIG}",)]
    said = " ".join(json.loads(one.body)["text"] for one in service.asked if one.path.endswith("/sendMessage"))
    assert "The billing service will not have it." in said
    assert "A-14" in said or "14, created" in said


def afterwards(orderheal: Orderheal) -> None:
    """What is said of it when all is done."""
    status = orderheal("status")
    assert status.code == 1, "somebody has to do something"
    assert "A-14" in status.out or "rechnung-fehlt" in status.out
    for number in (str(BIG), f"A-{BIG}", "A-14", "A-13", f"paket/{BIG + 2}"):
        explained = orderheal("explain", number)
        assert explained.code == 0, (number, explained.out, explained.err)
    assert "ABGELEHNT" in orderheal("explain", "A-14", "--json").out or "refused" in orderheal("explain", "A-14").out
    assert "grace" in orderheal("explain", "A-13", "--json").out
    assert "s3hr-geheim" not in orderheal("explain", "A-14", "--json").out
