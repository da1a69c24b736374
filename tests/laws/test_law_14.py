"""Law 14, what is in force: one normaliser of keys. Unasked keys are held by tests/connectors_sql/test_asking.py."""

from typing import Any

import pytest
from builders import Expression, field, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.rule import Lookup


@pytest.mark.law("14.1")
async def test_keys_of_records_and_of_lookups_pass_the_same_normaliser() -> None:
    class Source(Wrapped):
        async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> Any:
            asked.setdefault(records, set()).update(keys)
            return await self.inner.ask(records, by, keys, fresh)

    asked: dict[str, set[str]] = {}
    deal = Lookup("crm_deal", "crm", "deals", "id", (field("deal"),))
    stage = Stage(rule(lookups=(deal,), key=Expression(lambda s: f" {s['number']}\n")), wrap=wrapping(shop=Source, crm=Source))
    stage.plant("N1", deal="  D1 ")
    await stage.begin(1)
    await stage.run(minutes(10))
    assert asked == {"deals": {"D1"}, "orders": {"N1"}}
    assert stage.incident("N1").key == "N1"
