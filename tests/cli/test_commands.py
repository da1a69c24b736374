"""Commands on a real installation: what they say, what they leave alone, and their exit codes."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys

import psycopg
import pytest

from tests.cli.conftest import CHAT_TOKEN, TOKEN, Orderheal, Shop


def written(shop: Shop) -> int:
    """How many incidents the store holds."""
    with psycopg.connect(shop.env["STORE_URL"]) as connection:
        found = connection.execute("SELECT (SELECT count(*) FROM incident) + (SELECT count(*) FROM attempt)").fetchone()
    assert found is not None
    return int(found[0])


def test_scan_prints_sightings_and_takes_and_writes_nothing(orderheal: Orderheal, shop: Shop) -> None:
    said = orderheal("scan")
    assert said.code == 1
    assert "2 read, 1 broken, 0 unknown, 0 clean, 1 not ours" in said.out
    assert "OZ-1" in said.out
    assert (written(shop), shop.asked) == (0, [])


def test_plan_prints_the_very_request_and_sends_and_writes_nothing(orderheal: Orderheal, shop: Shop) -> None:
    said = orderheal("plan", "not-sent", "--json")
    assert said.code == 1
    (planned,) = said.json["not-sent"]["planned"]
    assert (planned["move"], planned["key"]) == ("call", "OZ-1")
    assert (planned["request"]["method"], planned["request"]["url"]) == ("POST", shop.env["SHOP_URL"] + "/upload_order")
    assert json.loads(planned["request"]["body"]) == {"id": "OZ-1"}
    assert (written(shop), shop.asked) == (0, [])


def test_on_pause_the_list_names_what_would_be_called_and_what_is_claimed_then_is_not(orderheal: Orderheal, shop: Shop) -> None:
    """How a restored backup is gone through: a plan says no more than the pause."""
    orderheal("pause", "--all", "--reason", "restored from a backup")
    orderheal("heal")
    assert [planned["move"] for planned in orderheal("plan", "not-sent", "--json").json["not-sent"]["planned"]] == ["wait"]
    (waiting,) = orderheal("incidents", "list", "--json").json
    assert (waiting["key"], waiting["why"]) == ("OZ-1", "paused")
    assert orderheal("incidents", "claim", waiting["id"]).code == 0
    assert orderheal("resume", "--all").code == 0
    orderheal("heal")
    assert shop.asked == []


def test_a_pause_from_before_the_first_start_shows_in_the_plan(orderheal: Orderheal) -> None:
    orderheal("pause", "--all", "--reason", "an empty store after a loss")
    (planned,) = orderheal("plan", "not-sent", "--json").json["not-sent"]["planned"]
    assert (planned["move"], planned["why"]) == ("wait", "paused")


def test_plan_shows_a_command_without_credentials(orderheal: Orderheal) -> None:
    said = orderheal("plan")
    command = next(line.strip() for line in said.out.splitlines() if line.strip().startswith("curl"))
    assert "canary" not in said.out
    assert shlex.split(command)[:3] == ["curl", "-X", "POST"]


def test_heal_runs_a_whole_cycle_and_the_ledger_tells_it(orderheal: Orderheal, shop: Shop) -> None:
    said = orderheal("heal")
    assert "one cycle of: not-sent" in said.out
    assert [path for path, _ in shop.asked] == ["/upload_order"]
    explained = orderheal("explain", "OZ-1")
    assert explained.code == 0
    assert "shop-integration.upload_order, attempt 1: done" in explained.out
    (incident,) = orderheal("incidents", "list", "--json").json
    shown = orderheal("incidents", "show", incident["id"][:8], "--requests")
    assert "curl -X POST" in shown.out
    assert "HTTP 200" in shown.out
    assert "canary" not in shown.out + explained.out


def test_status_is_the_first_thing_typed(orderheal: Orderheal) -> None:
    fresh = orderheal("status")
    assert (fresh.code, "Nothing needs you." in fresh.out) == (0, True)
    orderheal("heal")
    said = orderheal("status")
    assert said.code == 0
    assert "We are on it" in said.out
    assert "MSK (rule time)" in said.out


def test_explain_says_seen_not_ours_and_nobody_looks(orderheal: Orderheal) -> None:
    ours = orderheal("explain", "OZ-2")
    assert "seen, not ours" in ours.out
    assert "`paid` is false" in ours.out
    nobody = orderheal("explain", "OZ-404")
    assert (nobody.code, "no rule looks at OZ-404" in nobody.out) == (1, True)


def test_a_whole_number_is_not_mistaken_for_a_part_of_another(orderheal: Orderheal, shop: Shop) -> None:
    shop.sql("INSERT INTO orders VALUES ('OZ-10', 'not_sent', true, 1, 'RUB', now())")
    orderheal("heal")
    explained = orderheal("explain", "oz-1").out
    assert "not-sent / OZ-1 (" in explained
    assert "OZ-10" not in explained
    assert orderheal("incidents", "show", "OZ-10", "--json").json["incident"]["key"] == "OZ-10"


def test_a_pause_stops_calls_until_resumed(orderheal: Orderheal, shop: Shop) -> None:
    paused = orderheal("pause", "--connector", "shop-integration", "--for", "2h", "--reason", "deploy")
    assert paused.code == 0
    assert re.fullmatch(r"paused: connector shop-integration, until \d{4}-\d\d-\d\d [\d:]{8} MSK \(rule time\)", paused.out.strip())
    orderheal("heal")
    assert shop.asked == []
    assert "connector shop-integration  ends in 2h" in orderheal("status").out
    assert "paused" in orderheal("explain", "OZ-1").out
    assert orderheal("resume", "--connector", "shop-integration", "--json").json == {"ended": 1}
    orderheal("heal")
    assert [path for path, _ in shop.asked] == ["/upload_order"]


def test_marks_are_said_to_several_and_obeyed_by_the_next_cycle(orderheal: Orderheal, shop: Shop) -> None:
    shop.sql("INSERT INTO orders SELECT 'OZ-9' || n, 'not_sent', true, 1, 'RUB', now() FROM generate_series(1, 3) AS n")
    orderheal("heal")
    ids = [one["id"] for one in orderheal("incidents", "list", "--json").json if one["key"] != "OZ-1"]
    assert orderheal("incidents", "ack", *ids[:2], "--for", "1h").code == 0
    orderheal("heal")
    whys = [one["why"] for one in orderheal("incidents", "list", "--json").json]
    assert whys.count("claimed") == 2


def test_an_incident_named_twice_is_one(orderheal: Orderheal) -> None:
    orderheal("heal")
    (incident,) = orderheal("incidents", "list", "--json").json
    assert len(orderheal("incidents", "claim", incident["id"], incident["id"][:8], "OZ-1", "--json").json) == 1


def test_dismissing_many_shows_the_list_and_asks(orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    orderheal("heal")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: "n")
    refused = orderheal("incidents", "dismiss", "--rule", "not-sent", "--reason", "known")
    assert (refused.code, "OZ-1" in refused.out) == (2, True)
    done = orderheal("incidents", "dismiss", "--rule", "not-sent", "--reason", "known", "--yes", "--json")
    assert [said["kind"] for said in done.json] == ["dismiss"]


def test_doctor_finds_all_well_and_then_a_system_down(orderheal: Orderheal, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {found["part"] for found in orderheal("doctor", "--json").json}
    assert {"store", "connector shop-db", "connector shop-integration", "connector chat"} <= parts
    monkeypatch.setenv("STORE_URL", "postgresql://u:canary-db@127.0.0.1:1/x")
    down = orderheal("doctor")
    assert down.code == 3
    assert "canary" not in down.out + down.err


@pytest.mark.parametrize("command", ["status", "plan", "scan", "heal", "explain OZ-1", "incidents list", "resume --all"])
def test_a_store_that_cannot_be_reached_is_one_line_and_exit_3(command: str, orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", "postgresql://u:canary-db@127.0.0.1:1/x")
    said = orderheal(*command.split())
    assert (said.code, said.out, len(said.err.strip().splitlines())) == (3, "", 1)
    assert "orderheal doctor" in said.err
    assert "canary" not in said.err


def test_a_source_that_cannot_be_reached_is_exit_3_and_names_the_rule(orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_URL", "postgresql://u:canary-db@127.0.0.1:1/x")
    for command in ("scan", "plan"):
        said = orderheal(command)
        assert said.code == 3
        assert said.err.startswith("not-sent: ")
        assert "canary" not in said.err


def test_a_store_without_tables_says_db_upgrade_and_that_mends_it(orderheal: Orderheal, pg_server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pg_server.database() as empty:
        monkeypatch.setenv("STORE_URL", empty)
        said = orderheal("status")
        assert (said.code, "orderheal db upgrade" in said.err) == (2, True)
        assert orderheal("db", "upgrade").code == 0
        assert orderheal("status").code == 0


def test_a_reader_that_had_enough_is_no_finding() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as unread:
        said = subprocess.run([sys.executable, "-m", "daemon", "rules", "schema"], stdout=unread, stderr=subprocess.PIPE, check=False)
    assert (said.returncode, said.stderr) == (0, b"")


@pytest.mark.parametrize(("wish", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(wish: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | wish
    subprocess.run([sys.executable, "-m", "daemon", "rules", "check"], stdout=theirs, env=env, check=True)
    os.close(theirs)
    assert (b"\x1b[" in os.read(ours, 65536)) == coloured
    os.close(ours)


def test_a_folder_given_as_configuration_is_called_one(orderheal: Orderheal, shop: Shop) -> None:
    said = orderheal("status", "--config", str(shop.folder))
    assert (said.code, said.err) == (2, f"{shop.folder}: this is no file; name the configuration with --config\n")


def test_a_pipe_among_the_rules_is_refused_and_not_waited_for(orderheal: Orderheal, shop: Shop) -> None:
    os.mkfifo(shop.folder / "rules" / "pipe.yaml")
    said = orderheal("rules", "check")
    assert (said.code, "pipe.yaml:1:1: cannot be read: this is no file" in said.err) == (2, True)


def test_who_interrupts_a_cycle_is_not_told_that_nothing_was_done(orderheal: Orderheal, shop: Shop) -> None:
    shop.meanwhile = lambda: os.kill(os.getpid(), signal.SIGINT)
    said = orderheal("heal")
    assert [path for path, _ in shop.asked] == ["/upload_order"]
    assert said.code == 130
    assert "nothing was done" not in said.err


MISTAKES = {
    "no such command": ("fly",),
    "no such option": ("status", "--fast"),
    "no such rule": ("plan", "not-snet"),
    "no such rule in a filter": ("incidents", "list", "--rule", "x"),
    "no such connector": ("pause", "--connector", "shop", "--reason", "x"),
    "two scopes": ("pause", "--all", "--rule", "not-sent", "--reason", "x"),
    "no scope": ("resume",),
    "a pause of no length, which is not one without an end": ("pause", "--all", "--for", "0s", "--reason", "x"),
    "a length of what does not last": ("incidents", "retry", "--rule", "not-sent", "--for", "2h"),
    "a claim of no length": ("incidents", "claim", "x", "--for", "0s"),
    "a pause longer than time": ("pause", "--all", "--for", "99999999d", "--reason", "x"),
    "an age longer than time": ("incidents", "list", "--older", "99999999d"),
    "a length that no number holds": ("pause", "--all", "--for", "999999999999999999d", "--reason", "x"),
    "a pause without a word why": ("pause", "--all", "--reason", " "),
    "an empty number": ("explain", " "),
    "an empty id": ("incidents", "show", ""),
    "a number that is no text": ("explain", "\udcff"),
    "no reason": ("pause", "--all"),
    "no duration": ("pause", "--all", "--reason", "x", "--for", "2 hours"),
    "no incidents named": ("incidents", "dismiss"),
    "no such incident": ("incidents", "show", "00000000"),
    "no such file": ("status", "--config", "nope.yaml"),
    "no number": ("plan", "--limit", "0"),
}


@pytest.mark.parametrize("args", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_usage_is_one_line_and_exit_2(args: tuple[str, ...], orderheal: Orderheal) -> None:
    said = orderheal(*args)
    assert (said.code, said.out, len(said.err.strip().splitlines())) == (2, "", 1)


def test_a_name_that_is_nearly_right_is_suggested(orderheal: Orderheal) -> None:
    assert 'did you mean "not-sent"?' in orderheal("plan", "not-snet").err


def test_rules_are_checked_offline_without_any_secret(orderheal: Orderheal, shop: Shop, monkeypatch) -> None:
    for name in shop.env:
        monkeypatch.delenv(name)
    said = orderheal("rules", "check")
    assert (said.code, said.out) == (0, "1 rule is well\n")
    assert orderheal("status").code == 2


def test_mistakes_in_rules_are_a_line_each_with_their_place(orderheal: Orderheal, shop: Shop) -> None:
    rule = shop.folder / "rules" / "not-sent.yaml"
    rule.write_text(rule.read_text().replace("    with:", "    atempts: 2\n    with:").replace("owner: team", "owner: tema"))
    said = orderheal("rules", "check")
    assert said.code == 2
    assert any('unknown key "atempts", did you mean "attempts"?' in line for line in said.err.splitlines())
    assert all(line.startswith(str(rule) + ":") for line in said.err.splitlines())


def test_rules_are_shown_as_they_run_and_have_a_schema(orderheal: Orderheal) -> None:
    shown = orderheal("rules", "show", "not-sent")
    assert "settle: 5m" in shown.out
    assert orderheal("rules", "schema", "--config", "x").code == 2
    for of in ("rule", "config"):
        schema = orderheal.__class__.__call__(Orderheal(orderheal._capsys, None), "rules", "schema", "--of", of)
        assert schema.json["$schema"].startswith("https://json-schema.org/")


def test_output_json_is_another_name_of_json(orderheal: Orderheal) -> None:
    assert orderheal("status", "--output", "json").json["needs_you"] == []


def test_a_fault_of_our_own_shows_its_place_and_neither_text_nor_trace(orderheal: Orderheal, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError(f"Bearer {TOKEN} {CHAT_TOKEN}")

    monkeypatch.setattr("daemon.cli.status.ask_status", broken)
    said = orderheal("status")
    assert said.code == 70
    assert "RuntimeError at test_commands.py" in said.err
    assert "canary" not in said.err


def test_the_module_is_the_command(shop: Shop) -> None:
    said = subprocess.run([__import__("sys").executable, "-m", "daemon", "--version"], capture_output=True, text=True, check=True)
    assert "orderheal" in said.stdout


def test_a_service_that_echoes_our_headers_puts_no_secret_anywhere(orderheal: Orderheal, shop: Shop) -> None:
    shop.answer, shop.heals = (500, {"you sent": f"Bearer {TOKEN}", "token": CHAT_TOKEN}), False
    said = [orderheal("heal", "--json"), orderheal("incidents", "list", "--json"), orderheal("explain", "OZ-1", "--json")]
    (incident,) = said[1].json
    said.append(orderheal("incidents", "show", incident["id"], "--requests"))
    said.append(orderheal("incidents", "show", incident["id"], "--json"))
    assert "HTTP 500" in said[3].out
    assert not [one for one in said if "canary" in one.out + one.err]
    with psycopg.connect(shop.env["STORE_URL"]) as connection:
        (kept,) = connection.execute("SELECT body::text FROM attempt").fetchone() or ("",)
    assert "you sent" in kept
    assert "canary" not in kept
