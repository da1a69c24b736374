"""``orderheal run``: the daemon."""

from __future__ import annotations

import os
import sys

import click

from daemon.app import serve
from daemon.cli.common import Asked, verb, wait_for
from daemon.telemetry.logs import logging_to


@click.command()
@verb
def run(asked: Asked) -> int:
    """Run the daemon until it is told to stop (SIGTERM, SIGINT).

    Its log goes to standard output. A graceful stop records what is in flight, gives the rules back and ends with 0.
    """
    loaded = asked.load()
    form = "json" if asked.as_json else loaded.config.document.logs.format
    with logging_to(sys.stdout, form, loaded.redact) as logger:
        return wait_for(serve(loaded, os.environ, logger))
