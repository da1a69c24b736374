"""``orderheal db upgrade``: the schema of the store."""

from __future__ import annotations

import os

import click

from daemon.app import store_address
from daemon.cli.common import Asked, Exit, verb
from daemon.store.migrations import migrate
from daemon.views.text import Line


@click.group()
def db() -> None:
    """Look after the store."""


@db.command()
@verb
def upgrade(asked: Asked) -> int:
    """Bring the store's schema to this version. Steps only add, so replicas of the version before go on working."""
    with store_address(asked.load_config(), os.environ) as dsn:
        revision = migrate(dsn)
    asked.tell({"revision": revision}, lambda: [Line(f"the store's schema is {revision}", "good")])
    return Exit.FINE
