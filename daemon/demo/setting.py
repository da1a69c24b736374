"""What the daemon gets for the demo besides its environment: a second configuration file over the shipped one, and
the shipped rules with a member more. Nothing else tells it where it runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from daemon.sandbox.shops import DRILL_CALLS, SHOPS

CHAT: Final = "-1001000000001"
CONTACT: Final = "integration-team"
FAMILY: Final = "order-not-sent.yaml"
STORM: Final = "- {name: storm-order-not-sent, shop: storm, title: Storm, method: upload_order}"
EVERY: Final = "5m"
"""How often the rules look in the demo, which lasts less than an hour of their time; those below ask the CRM for all
deals of a shop each time, and the CRM's limit counts seconds of real time."""
EVERY_OF: Final[Mapping[str, str]] = {"deal-missing": "8m", "deal-duplicated": "12m", "identifier-mismatch": "12m"}
_MEMBER: Final = re.compile(r"^( *)- \{name: namshi-order-not-sent,.*\}.*\n", re.MULTILINE)


class CannotDemo(Exception):
    """The demo cannot be shown here: one line that says what would be right."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The files of one demo, ``configs`` in the order in which they are laid over one another; where the pages are."""

    configs: tuple[Path, ...]
    listen: str


def lay_out(folder: Path, config: Path, listen: str) -> Setting:
    """Write the demo's files below ``folder``. Raises ``CannotDemo`` when the shipped ones are not as expected."""
    family = config.parent / "rules" / FAMILY
    for needed in (config, family):
        if not needed.is_file():
            raise CannotDemo(f"{needed} is not there: run the demo in the project's own folder, or say --config")
    rules = folder / "rules"
    rules.mkdir()
    shipped = {path.name: path.read_text(encoding="utf-8") for path in sorted(family.parent.glob("*.yaml"))}
    shipped[FAMILY] = with_storm(shipped[FAMILY])
    for name, text in shipped.items():
        (rules / name).write_text(text, encoding="utf-8")
    over = folder / "demo.yaml"
    over.write_text(yaml.safe_dump(overlay(listen, pace(shipped.values())), allow_unicode=True, sort_keys=False), encoding="utf-8")
    return Setting((config, over), listen)


def pace(rules: Iterable[str]) -> Mapping[str, str]:
    """How often each rule looks, by the names of the rules in these files."""
    found: dict[str, str] = {}
    for rule in map(yaml.safe_load, rules):
        names = [member["name"] for member in rule.get("matrix", ())] or [rule["name"]]
        found |= dict.fromkeys(names, EVERY_OF.get(rule["name"], EVERY))
    return found


def chats(config: Path) -> Mapping[str, str]:
    """Whose chat is whose, by the shipped contacts and by what the demo lays over them."""
    shipped = yaml.safe_load(config.read_text(encoding="utf-8")).get("contacts", {})
    channels = [(name, channel) for name, contact in shipped.items() for channel in contact["channels"]]
    return {str(channel["chat"]): name for name, channel in channels if "chat" in channel} | {CHAT: CONTACT}


def with_storm(family: str) -> str:
    """The family with a member for the shop of storms. Raises ``CannotDemo`` when its members are written otherwise."""
    grown, found = _MEMBER.subn(lambda member: f"{member[0]}{member[1]}{STORM}\n", family, count=1)
    if not found:
        raise CannotDemo(f"rules/{FAMILY} has no member namshi-order-not-sent on a line of its own")
    return grown


def overlay(listen: str, every: Mapping[str, str]) -> Mapping[str, Any]:
    """What differs from the shipped configuration: addresses, short timeouts, hours, and the shop of storms."""
    impatient: dict[str, Any] = {shop.service: {"timeout": "1s"} for shop in SHOPS}
    impatient["storm-db"] = {
        "extends": "ozon-db",
        "url": "${env:STORM_DB_URL}",
        "fingerprint": "SELECT current_database() = 'storm_integration'",
    }
    impatient["storm-integration"] |= {
        "extends": "ozon-integration",
        "url": "${env:STORM_INTEGRATION_URL}",
        "headers": {"Authorization": "Bearer ${env:STORM_INTEGRATION_TOKEN}"},
    }
    return {
        "environment": "demo",
        "http": {"listen": listen},
        "engine": {"lease": "10s", "poll": "100ms", "page": 2499},  # as many deals as one request to the CRM asks for
        "logs": {"format": "json"},
        "rules": {"path": "rules/", "overrides": {name: {"every": each} for name, each in every.items()}},
        "connectors": impatient
        | {
            "telegram": {"url": "${env:TELEGRAM_URL}"},
            "kaspi": {"url": "${env:KASPI_URL}"},
            "lamoda": {"url": "${env:LAMODA_URL}", "currency": "KZT", "rate": "5/s"},
            "bitrix24": {"fingerprint": None, "rate": "5/s"},  # as the largest plan of Bitrix24 allows
            "drill": {"type": "http", "url": "${env:DRILL_URL}", "calls": {name: _drill_call(name) for name in DRILL_CALLS}},
            "ozon": {"url": "${env:OZON_URL}"},
            "cdek": {"url": "${env:CDEK_URL}", "lag": "0s"},  # a minute of lag would be an hour of the rules' time
        },
        "drills": {
            "ozon-order-not-sent": {"plant": "drill.plant", "remove": "drill.remove", "within": "2h"},
        },
        "contacts": {
            CONTACT: {"channels": [{"via": "telegram", "chat": CHAT}]},
            # It may be night where the demo is shown.
            "crm-support": {"hours": "24/7"},
            "cdek-support": {"hours": "24/7"},
        },
    }


def _drill_call(name: str) -> Mapping[str, Any]:
    """A call of the sandbox that plants or removes an order for a drill."""
    return {"method": "POST", "path": f"/drill/{name}", "body": {"id": "${id}"}, "idempotent": True, "done": "status == 200"}


def write_environment(folder: Path, environment: Mapping[str, str]) -> Path:
    """A file for a shell that sets what the daemon got; it holds secrets, so only its owner may read it."""
    path = folder / "env.sh"
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items()), encoding="utf-8")
    return path
