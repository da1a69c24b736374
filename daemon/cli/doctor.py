"""``orderheal doctor``: every part looked at once, each trouble with its remedy."""

from __future__ import annotations

import os

import click

from daemon.app import examine
from daemon.cli.common import Asked, Exit, verb, wait_for
from daemon.views.doctor import doctor_lines


@click.command()
@verb
def doctor(asked: Asked) -> int:
    """Check the store, every connector and the rules' sources. Exit 1 when something is wrong, 3 when a part does not answer."""
    loaded = asked.load()
    findings = wait_for(examine(loaded, os.environ))
    asked.tell(findings, lambda: doctor_lines(findings), loaded)
    if any(one.unreachable for one in findings):
        return Exit.UNREACHABLE
    return Exit.FOUND if any(one.trouble for one in findings) else Exit.FINE
