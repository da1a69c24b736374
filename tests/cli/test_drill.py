"""A drill against the real daemon: planted through a declared call, healed or told like any order, measured, removed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.cli.conftest import Orderheal, Shop
from tests.cli.test_run import get, replica

CONNECTOR = """
  drill:
    type: http
    url: ${env:SHOP_URL}
    calls:
      plant: {method: POST, path: /drill/plant, body: {id: "${id}"}, done: status == 200, refused: status == 422}
      remove: {method: POST, path: /drill/remove, body: {id: "${id}"}, idempotent: true, done: status == 200}
      swap: {method: POST, path: /drill/swap, body: {id: "${id}", by: "${by}"}, done: status == 200}
  chat: {type"""


def configure(shop: Shop, drill: str, heals: bool = True) -> None:
    """Declare a drill, let the rule look every second, and the service plant and remove."""
    text = shop.config.read_text().replace("\n  chat: {type", CONNECTOR).replace("{path: rules/}", "{path: rules/, overrides: {not-sent: {every: 1s}}}")
    shop.config.write_text(text + f"\ndrills: {{not-sent: {{{drill}}}}}\n")
    rule = shop.folder / "rules" / "not-sent.yaml"
    rule.write_text(rule.read_text().replace('    with: {id: "${id}"}', '    with: {id: "${id}"}\n    settle: 1s\n    attempts: 1'))
    shop.heals = heals
    usual = shop.handle

    def handle(path: str, body: str) -> tuple[int, Mapping[str, Any]]:
        if not path.startswith("/drill/"):
            return usual(path, body)
        shop.asked.append((path, body))
        key = json.loads(body)["id"]
        if path == "/drill/plant":
            shop.sql(f"INSERT INTO orders VALUES ('{key}', 'not_sent', true, 1, 'RUB', '2026-01-01')")
        else:
            shop.sql(f"DELETE FROM orders WHERE id = '{key}'")
        return 200, {}

    shop.handle = handle


def answering(shop: Shop, path: str, status: int) -> None:
    """Let the service refuse one thing."""
    usual: Callable[[str, str], tuple[int, Mapping[str, Any]]] = shop.handle
    shop.handle = lambda asked, body: (status, {}) if asked == path else usual(asked, body)


def heard(shop: Shop, path: str) -> threading.Event:
    """Set once the service has done this."""
    usual, done = shop.handle, threading.Event()

    def handle(asked: str, body: str) -> tuple[int, Mapping[str, Any]]:
        answer = usual(asked, body)
        if asked == path:
            done.set()
        return answer

    shop.handle = handle
    return done


def planted(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.sql("SELECT id FROM orders WHERE id LIKE 'DRILL-%'")


PLAIN = "plant: drill.plant, remove: drill.remove, within: 1m"


def test_a_drill_measures_from_planting_to_proof_and_removes_what_it_planted(shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, PLAIN)
    with replica(shop) as daemon:
        daemon.until("listening")
        said = orderheal("drill", "not-sent", "--json")
    assert said.code == 0, said
    assert (said.json["ok"], said.json["why"]) == (True, "")
    assert list(said.json["stages"]) == ["detect", "act", "prove"]
    assert said.json["stages"]["detect"] <= said.json["stages"]["act"] <= said.json["stages"]["prove"]
    assert [line.split()[0] for line in said.err.splitlines()] == ["planting", "detect", "act", "prove"], "progress is shown as it happens"
    assert planted(shop) == []
    assert ("/upload_order", json.dumps({"id": said.json["key"]}, separators=(",", ":"))) in [
        (path, json.dumps(json.loads(body), separators=(",", ":"))) for path, body in shop.asked
    ]


def test_a_drill_may_prove_that_a_person_is_told(shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, PLAIN + ", proof: told", heals=False)
    with replica(shop) as daemon:
        daemon.until("listening")
        said = orderheal("drill", "not-sent", "--json")
    assert said.code == 0, said
    assert {"detect", "page"} <= set(said.json["stages"])
    assert planted(shop) == []


def test_what_is_handed_to_people_was_not_healed(shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, PLAIN, heals=False)
    with replica(shop) as daemon:
        daemon.until("listening")
        said = orderheal("drill", "not-sent")
    assert said.code == 1
    assert "not healed: escalated" in said.out
    assert planted(shop) == []


def test_without_a_daemon_a_drill_fails_in_time_and_leaves_nothing(shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, "plant: drill.plant, remove: drill.remove, within: 1s")
    said = orderheal("drill", "not-sent")
    assert said.code == 1
    assert "no detect within 0:00:01" in said.out
    assert planted(shop) == []


def test_what_cannot_be_removed_is_a_failure_that_names_it(shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, "plant: drill.plant, remove: drill.remove, within: 1s")
    answering(shop, "/drill/remove", 500)
    said = orderheal("drill", "not-sent", "--json")
    assert said.code == 1
    [(key,)] = planted(shop)
    assert f"{key} could not be removed" in said.json["why"]
    assert "remove it by hand" in said.json["why"]


@pytest.mark.parametrize(("status", "removed"), [(422, True), (500, True), (401, False)])
def test_what_may_have_been_planted_is_removed(status: int, removed: bool, shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, PLAIN)
    answering(shop, "/drill/plant", status)
    said = orderheal("drill", "not-sent", "--json")
    assert said.code == (1 if removed else 3)
    assert "not planted" in said.json["why"]
    assert any(path == "/drill/remove" for path, _ in shop.asked) is removed


def test_nobody_there_to_plant_is_3(shop: Shop, orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(shop, PLAIN)
    monkeypatch.setenv("SHOP_URL", "http://127.0.0.1:1")
    said = orderheal("drill", "not-sent")
    assert said.code == 3
    assert "not planted: not_connected" in said.out


@pytest.mark.parametrize(
    ("drill", "sentence"),
    [
        ("plant: dril.plant, remove: drill.remove", 'plant: there is no connector "dril", did you mean "drill"?'),
        ("plant: drill.plan, remove: drill.remove", 'plant: "drill" has no call "plan", did you mean "plant"?'),
        ("plant: drill.plant, remove: drill.swap", 'remove: "drill.swap" takes by, id; it must take the key alone'),
        ("plant: drill.plant", 'missing key "remove"'),
        (PLAIN + ', prefix: "a b"', "prefix"),
        (PLAIN + ", every: 1s", "must be at least 1m"),
    ],
)
def test_a_mistaken_drill_is_a_line_at_its_place(drill: str, sentence: str, shop: Shop, orderheal: Orderheal) -> None:
    configure(shop, drill)
    said = orderheal("drill", "not-sent")
    assert said.code == 2
    assert sentence in said.err
    assert f"config.yaml:{shop.config.read_text().count(chr(10))}:" in said.err


def test_nothing_is_planted_unless_it_is_declared(shop: Shop, orderheal: Orderheal) -> None:
    said = orderheal("drill", "not-sent")
    assert said.code == 2
    assert "nothing says how not-sent is drilled" in said.err
    configure(shop, PLAIN)
    shop.config.write_text(shop.config.read_text().replace("drills: {not-sent", "drills: {not-snt"))
    assert 'drills: there is no rule "not-snt", did you mean "not-sent"?' in orderheal("drill", "not-sent").err
    assert shop.asked == []


def test_the_daemon_drills_on_a_schedule(shop: Shop) -> None:
    configure(shop, PLAIN + ", every: 1h")
    with replica(shop) as daemon:
        address = daemon.until("listening")["address"]
        passed = daemon.until("drill passed", rule="not-sent")
        page = get(f"http://{address}/metrics")[1]
        daemon.signal(15)
        assert daemon.ended() == 0
    assert list(passed["stages"]) == ["detect", "act", "prove"]
    assert 'orderheal_drill_timestamp_seconds{result="failed",rule="not-sent"} 0.0' in page
    assert 'orderheal_drill_timestamp_seconds{result="passed",rule="not-sent"} 1' in page
    assert 'orderheal_drill_stage_seconds{rule="not-sent",stage="prove"}' in page
    assert planted(shop) == []


def test_of_all_replicas_one_drills(shop: Shop) -> None:
    configure(shop, PLAIN + ", every: 1h")
    removed = heard(shop, "/drill/remove")
    with replica(shop) as one, replica(shop) as other:
        for each in (one, other):
            each.until("listening")
        assert removed.wait(60)
        for each in (one, other):
            each.signal(15)
            assert each.ended() == 0
    assert sum(path == "/drill/plant" for path, _ in shop.asked) == 1


def test_a_daemon_that_stops_removes_what_its_drill_planted(shop: Shop) -> None:
    configure(shop, PLAIN + ", every: 1h", heals=False)
    rule = shop.folder / "rules" / "not-sent.yaml"
    rule.write_text(rule.read_text().replace("settle: 1s", "settle: 1h"))
    asked = heard(shop, "/drill/plant")
    with replica(shop) as daemon:
        daemon.until("listening")
        assert asked.wait(60)
        daemon.signal(15)
        assert daemon.ended() == 0
    assert planted(shop) == []
