"""The shop of the instruction: the sandbox's world, with the shipped rules, contacts and hours as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from daemon.config import Config, load_config
from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident, Phase
from daemon.domain.notice import Notice, NoticeKind
from daemon.domain.rule import Rule
from daemon.language.ruleset import load_rules
from daemon.rehearsal import Rehearsal
from daemon.sandbox.scenario import parse
from daemon.sandbox.shops import SHOPS, shop_world

ROOT = Path(__file__).parents[2]
SHIPPED = [shop for shop in SHOPS if shop.name != "storm"]


@cache
def config() -> Config:
    """The shipped configuration, its secrets made up."""
    return load_config([ROOT / "config.yaml"], environment())


def environment() -> dict[str, str]:
    """A value for every variable that the configuration asks for."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    return {name: _value(name) for name in re.findall(r"\$\{env:(\w+)\}", text)}


def _value(name: str) -> str:
    known = {"SENTRY_DSN": "https://0123456789abcdef@sentry.example/1", "BITRIX24_WEBHOOK_URL": "https://lichi.bitrix24.ru/rest/1/0123456789/"}
    if name.endswith("_DB_URL") or name == "LOGISTIC_V2_URL":
        return f"postgresql://reader:password@db.example/{name.lower()}"
    return known.get(name) or ("https://api.example" if name.endswith("_URL") else f"secret-of-{name.lower()}")


@cache
def shipped() -> Mapping[str, Rule]:
    """The shipped rules by name, compiled against the shipped configuration."""
    return {rule.name: rule for rule in load_rules([ROOT / "rules"], config().vocabulary()).rules}


def family(*stems: str) -> list[Rule]:
    """The rules of these files."""
    return [rule for rule in shipped().values() if Path(rule.place.file).stem in stems]


class Story(Rehearsal):
    """A rehearsal of shipped rules, from a Monday, 12:00 in Moscow, until told otherwise."""

    def __init__(self, *rules: Rule, **more: Any) -> None:
        super().__init__(rules, config().contacts, world=shop_world, systems=config().shapes, alerts_via=None, **more)

    def plant(self, rows: Mapping[str, Any], calls: Mapping[str, Any] | None = None) -> None:
        """Rows of the world, and how services answer about them."""
        self.world.plant(parse({"name": "story", "world": rows, "calls": calls or {}}), self.now)

    def change(self, **kinds: Any) -> None:
        """Somebody changes a row; the kind's dot and dashes are written `__` and `_`."""
        for kind, row in kinds.items():
            self.world.change({kind.replace("__", ".").replace("_db", "-db"): (row,)})

    async def go(self, **length: float) -> None:
        """Let time pass."""
        await self.run(timedelta(**length))

    async def until(self, hour: int, minute: int = 0) -> None:
        """Let time pass until the clock in Moscow (UTC+3) shows this."""
        local = self.now + timedelta(hours=3)
        ahead = local.replace(hour=hour, minute=minute, second=0, microsecond=0) - local
        await self.run(ahead if ahead > timedelta(0) else ahead + timedelta(days=1))

    @property
    def incidents(self) -> list[Incident]:
        """All, the oldest first."""
        return sorted(self.store.tables.incidents.values(), key=lambda one: (one.opened, one.id))

    @property
    def incident(self) -> Incident:
        """The only one."""
        (only,) = self.incidents
        return only

    @property
    def resolution(self) -> str | None:
        """How the only incident ended, if it did."""
        one = self.incident
        return one.resolution.value if one.phase is Phase.RESOLVED and one.resolution else None

    def calls(self, call: str = "") -> list[Attempt]:
        """What was sent, in order; of one call or of any."""
        made = sorted(self.store.tables.attempts.values(), key=lambda one: (one.begun, one.id))
        return [one for one in made if call in ("", f"{one.request.connector}.{one.request.call}")]

    def args(self, call: str) -> list[Mapping[str, Any]]:
        """The arguments of what was sent."""
        return [dict(one.request.args) for one in self.calls(call)]

    def notices(self, contact: str = "", *kinds: NoticeKind) -> list[Notice]:
        """What was decided to be told, in order."""
        every = self.store.tables.notices.values()
        return [one for one in every if contact in ("", one.contact) and (not kinds or one.kind in kinds)]

    def told(self, contact: str = "") -> list[tuple[str, str]]:
        """Who got a message when, Moscow time, in order."""
        return [
            (message.to, (message.at + timedelta(hours=3)).strftime("%a %H:%M"))
            for message in self.world.messages
            if contact in ("", message.to)
        ]

    def texts(self, contact: str) -> list[str]:
        """What a contact was sent, word for word."""
        return [message.text for message in self.world.messages if message.to == contact]
