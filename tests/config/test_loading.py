"""Promises of a configuration that is right."""

import dataclasses
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from daemon.clock import HandClock
from daemon.config import config_schema, load_config
from daemon.domain.rule import ChannelRef
from daemon.domain.shape import Call, Field, FieldType
from daemon.domain.value import Timescale
from daemon.kinds import Tools, discover
from daemon.language import places
from daemon.language.mistake import Mistakes
from tests.config.conftest import BASE, ENV, Load
from tests.net.loopback import NOW, Quota

ROOT = Path(__file__).parents[2]


def test_an_installation_is_one_value(load: Load) -> None:
    config = load(BASE)
    assert config.document.engine.lease == timedelta(seconds=30)
    assert config.shapes["shop-db"].records["orders"].fields["amount"] == Field(FieldType.NUMBER, nullable=True)
    assert config.alerts_via == "telegram"
    assert config.rules_path.name == "rules"
    team = config.contacts["team"]
    assert team.channels == (ChannelRef("telegram", {"chat": "-100", "thread": "7"}),)
    assert (team.timezone, team.rate_per_hour, team.fallback, team.external) == ("Asia/Almaty", 20, "boss", False)
    assert team.hours.is_open(datetime(2026, 11, 23, 5, 0, tzinfo=UTC)), "nine o'clock in Almaty is four in London"
    assert config.contacts["boss"].title == "boss"
    assert config.contacts["boss"].timezone == "Europe/Moscow", "a contact without a zone lives in the installation's"
    assert config.hosts() >= {"db", "shop.example", "other.example"}
    assert dataclasses.is_dataclass(config)


def test_what_is_left_out_has_the_documented_default(load: Load) -> None:
    config = load("environment: test\n")
    document = config.document
    assert (document.timezone, document.language, document.http.listen) == ("UTC", "ru", "0.0.0.0:9464")
    assert (document.engine.poll, document.engine.cycles, document.engine.page) == (timedelta(seconds=1), 8, 1000)
    assert (document.engine.lease, document.engine.keep) == (timedelta(seconds=30), timedelta(days=90))
    assert (config.alerts_via, config.connectors, config.contacts, config.secrets) == (None, {}, {}, ())


def test_extends_takes_maps_merged_and_lists_replaced(load: Load) -> None:
    config = load(BASE + "  third: {fallback: team, channels: [{via: telegram, chat: '9'}]}\n")
    shop, other = config.connectors["shop"].settings, config.connectors["other"].settings
    assert other.rate == shop.rate
    assert other.url == "https://other.example"  # type: ignore[attr-defined]
    assert config.shapes["other"].calls == {
        "upload": Call(frozenset({"id"}), idempotent=True),
        "fetch": Call(frozenset({"id"}), idempotent=True),
    }
    assert other.calls["fetch"].path == "/fetch"  # type: ignore[attr-defined]


def test_later_files_are_laid_over_earlier_ones_and_paths_count_from_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "over").mkdir()
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "over" / "more.yaml").write_text("engine: {poll: 50ms}\nrules: {path: mine}\ncontacts: {team: {hours: 24/7}}\n")
    config = load_config([tmp_path / "base.yaml", tmp_path / "over" / "more.yaml"], ENV)
    assert config.document.engine.poll == timedelta(milliseconds=50)
    assert config.document.engine.cycles == 8
    assert config.contacts["team"].title == "Team"
    assert config.contacts["team"].hours.is_open(datetime(2026, 11, 22, tzinfo=UTC))
    assert config.rules_path == tmp_path / "over" / "mine"
    assert config.data_path == tmp_path / ".orderheal"


def test_defaults_and_overrides_reach_the_rules_as_written_with_their_places(load: Load) -> None:
    vocabulary = load(BASE).vocabulary()
    assert vocabulary.defaults == {"mode": "observe", "every": "5m"}
    assert vocabulary.overrides == {"some-rule": {"mode": "enforce"}}
    assert vocabulary.override_places["some-rule"].line == 12
    assert set(vocabulary.contacts) == {"team", "boss"}
    assert [cause.name for cause in vocabulary.causes] == ["address"]


def test_secrets_come_from_the_environment_and_from_files_and_do_not_print(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file-1\n")
    config = load(BASE.replace("Bearer ${env:SHOP_TOKEN}", "Bearer ${file:token}"))
    values = {secret.reveal() for secret in config.secrets}
    assert {"from-a-file-1", "Bearer from-a-file-1", ENV["DB"], ENV["SHOP_DB"], ENV["TOKEN"], "other-token-1"} <= values
    said = f"{config!r} {config} {config.document.store} {config.connectors['shop'].settings!r}"
    for secret in ("from-a-file-1", "own-password", "shop-password", ENV["TOKEN"], "other-token-1"):
        assert secret not in said
        assert secret not in config.redactor(f"it said: {secret}!")
    assert json.dumps(config.document.model_dump(mode="json")).count("password") == 0


def test_plain_headers_are_no_secrets(load: Load) -> None:
    text = BASE.replace('Authorization: "Bearer ${env:SHOP_TOKEN}"', "Accept: application/json, X-Api-Key: plain-key-1")
    config = load(text.replace("headers: {Authorization", "headers: {X-Api-Key: plain-key-2, Authorization"))
    assert config.redactor("application/json plain-key-1") == "application/json [secret]"


def test_a_literal_hole_is_written_with_two_dollars(load: Load) -> None:
    assert load(BASE.replace("title: Team", "title: a $${literal}")).contacts["team"].title == "a ${literal}"


def test_offline_what_the_environment_would_give_may_be_missing(load: Load) -> None:
    config = load(BASE, env={}, offline=True)
    assert set(config.shapes) == {"shop-db", "shop", "other", "telegram"}
    with pytest.raises(Mistakes) as refused:
        load(BASE, env={})
    assert len(refused.value.mistakes) == len(ENV), "each missing variable is told once"


@pytest.mark.parametrize("environment", ["production"])
def test_production_refuses_the_embedded_database(load: Load, environment: str) -> None:
    with pytest.raises(Mistakes, match=r"production needs store\.url"):
        load(f"environment: {environment}\n")
    with pytest.raises(Mistakes, match=r"production needs store\.url"):
        load("timezone: UTC\n")
    load("environment: staging\n")


async def test_every_connector_opens_from_its_settings(load: Load) -> None:
    config = load(BASE)
    tools = Tools(HandClock(), Quota(), lambda event: None, Timescale(NOW), lambda: NOW)
    for name in config.connectors:
        connector = config.open(name, tools)
        assert connector.name == name
        assert connector.shape == config.shapes[name]
        await connector.close()


def test_the_example_at_the_top_loads_with_its_variables_set() -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    env = {name: _value(name) for name in re.findall(r"\$\{env:(\w+)\}", text)}
    env["BITRIX24_WEBHOOK_URL"] = env["BITRIX24_WEBHOOK_URL"].replace("portal", "lichi")
    config = load_config([ROOT / "config.yaml"], env)
    assert set(config.shapes["kaspi-integration"].calls) == {"upload_order", "change_order_status", "fetchorder"}
    assert set(config.shapes["namshi-integration"].calls) >= {"notifyOrder", "appendcomment"}
    assert set(config.contacts) == {"integration-team", "crm-support", "cdek-support"}
    assert config.alerts_via == "sentry"


def _value(name: str) -> str:
    if name.endswith("_DB_URL") or name == "LOGISTIC_V2_URL":
        return f"postgresql://reader:password@db.example/{name.lower()}"
    if name == "SENTRY_DSN":
        return "https://0123456789abcdef0123456789abcdef@sentry.example/1"
    if name == "BITRIX24_WEBHOOK_URL":
        return "https://portal.bitrix24.ru/rest/1/0123456789abcdef/"
    if name.endswith("_URL"):
        return f"https://{name.lower().replace('_', '-')}.example"
    return "123456789:ABCdefGHIjklMNOpqrSTUvwxYZ0123456789a"


def test_the_schema_is_fresh_and_describes_every_key() -> None:
    path = ROOT / "docs" / "config.schema.json"
    fresh = json.dumps(config_schema(), ensure_ascii=False, indent=2) + "\n"
    if os.environ.get("ORDERHEAL_WRITE_SCHEMA"):
        path.write_text(fresh, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == fresh, "run ORDERHEAL_WRITE_SCHEMA=1 pytest tests/config -k schema"
    schema = config_schema()
    models = [schema, *schema["$defs"].values()]
    bare = [
        f"{model.get('title')}.{key}"
        for model in models
        for key, value in model.get("properties", {}).items()
        if not {"description", "$ref"} & value.keys()
    ]
    assert bare == []


def test_the_schema_takes_the_example_and_refuses_unknown_keys() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    tree = places.load((ROOT / "config.yaml").read_text(encoding="utf-8"), "config.yaml").tree
    assert [error.message for error in validator.iter_errors(tree)] == []
    assert [error.message for error in validator.iter_errors(places.load(BASE, "base").tree)] == []
    assert not validator.is_valid(tree | {"conectors": {}})
    assert not validator.is_valid(tree | {"engine": {"pol": "1s"}})


@pytest.mark.parametrize("name", sorted(discover()))
def test_the_example_of_every_kind_loads(name: str, load: Load) -> None:
    example = discover()[name].example
    block = "".join(f"    {line}\n" for line in example.splitlines())
    env = {variable: _value(variable) for variable in re.findall(r"\$\{env:(\w+)\}", example)}
    config = load(f"environment: test\nconnectors:\n  it:\n{block}", env=env)
    assert set(config.shapes) == {"it"}
