"""Every fault comes to the end that its scenario gives: the shipped rules, the engine and the world under a hand clock."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from daemon.config import Config, load_config
from daemon.demo.setting import lay_out
from daemon.demo.watch import CALLING
from daemon.domain.rule import Rule
from daemon.language.ruleset import load_rules
from daemon.rehearsal import Rehearsal
from daemon.sandbox.faults import faults
from daemon.sandbox.judge import judge, seen
from daemon.sandbox.scenario import Scenario
from daemon.sandbox.shops import shapes

ROOT = Path(__file__).parents[2]


@cache
def shipped() -> tuple[Config, Mapping[str, Rule]]:
    """Configuration and rules as the demo gives them to the daemon."""
    with tempfile.TemporaryDirectory() as folder:
        setting = lay_out(Path(folder), ROOT / "config.yaml", "127.0.0.1:1")
        config = load_config(setting.configs, {}, offline=True)
        return config, {rule.name: rule for rule in load_rules([config.rules_path], config.vocabulary()).rules}


async def differences(scenario: Scenario, lasting: timedelta) -> tuple[str, ...]:
    """How a fault ended otherwise than it should, all rules being at work."""
    config, rules = shipped()
    contacts = {name: replace(contact, channels=contact.channels[:1]) for name, contact in config.contacts.items()}
    stage = Rehearsal(list(rules.values()), contacts, systems=config.shapes, alerts_via=None)
    await stage.begin(1)
    await stage.settle()
    subjects = stage.world.plant(scenario, stage.now)
    await stage.run(lasting)
    held = frozenset(one.row.name for one in (await stage.store.gauges()).rules if one.row.state.held)
    pages = Counter(told.notice.rule for told in await stage.store.notices() if told.notice.kind in CALLING)
    incidents = sorted(stage.store.tables.incidents.values(), key=lambda one: one.opened)
    both = {scenario.rule, "outbox-error"} if scenario.rule == "ozon-waybill-missing" else {scenario.rule}
    others = [f"{one.rule} found {one.key} too" for one in incidents if one.rule not in both]
    return *judge(scenario, subjects, seen(stage.world, incidents, held, pages)).differs, *others


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
async def test_a_fault_ends_as_its_scenario_says(fault: Scenario) -> None:
    assert not await differences(fault.model_copy(update={"count": min(fault.count, 150)}), timedelta(minutes=75))


@pytest.mark.parametrize("name", sorted(shipped()[0].shapes))
def test_the_world_has_what_the_configuration_declares(name: str) -> None:
    """The world may know more of a record (comments, a bearing on the wire), never less."""
    declared, there = shipped()[0].shapes[name], shapes()[name]
    assert set(declared.records) <= set(there.records)
    assert there.channel == declared.channel
    for kind, records in declared.records.items():
        own = there.records[kind]
        assert own.key == records.key
        assert own.by >= records.by
        assert {field: own.fields[field].type for field in records.fields} == {field: one.type for field, one in records.fields.items()}
    for call, shape in declared.calls.items():
        if call in there.calls:
            assert there.calls[call].params == shape.params
