"""What the daemon gets for the demo besides its environment: a second configuration file over the shipped one, and
the rules with a fifth member. Nothing else tells it where it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from daemon.sandbox.shops import SHOPS

NOBODY: Final = "http://127.0.0.1:9"
CHAT: Final = "-1001000000001"
CONTACT: Final = "integration-team"
FAMILY: Final = "order-not-sent.yaml"
STORM: Final = "- {name: storm-order-not-sent, shop: storm, title: Storm, method: upload_order}"
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
    (rules / FAMILY).write_text(with_storm(family.read_text(encoding="utf-8")), encoding="utf-8")
    over = folder / "demo.yaml"
    over.write_text(yaml.safe_dump(overlay(listen), allow_unicode=True, sort_keys=False), encoding="utf-8")
    return Setting((config, over), listen)


def with_storm(family: str) -> str:
    """The family with a member for the shop of storms. Raises ``CannotDemo`` when its members are written otherwise."""
    grown, found = _MEMBER.subn(lambda member: f"{member[0]}{member[1]}{STORM}\n", family, count=1)
    if not found:
        raise CannotDemo(f"rules/{FAMILY} has no member namshi-order-not-sent on a line of its own")
    return grown


def overlay(listen: str) -> Mapping[str, Any]:
    """What differs from the shipped configuration: addresses, short timeouts, and the shop of storms."""
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
        "engine": {"lease": "10s", "poll": "100ms"},
        "logs": {"format": "json"},
        "rules": {"path": "rules/"},
        "connectors": impatient
        | {
            "telegram": {"url": "${env:TELEGRAM_URL}"},
            "kaspi": {"url": "${env:KASPI_URL}"},
            "lamoda": {"url": "${env:LAMODA_URL}", "currency": "KZT"},
            "bitrix24": {"fingerprint": None},
            "ozon": {"url": "${env:OZON_URL}"},
            "cdek": {"url": "${env:CDEK_URL}"},
            # No rule of the demo asks these two yet; nobody listens there.
            "namshi": {"url": NOBODY, "headers": {"Authorization": "nobody"}},
            "logistic": {"url": "postgresql://nobody@127.0.0.1:9/nobody"},
        },
        "contacts": {CONTACT: {"channels": [{"via": "telegram", "chat": CHAT}]}},
    }
