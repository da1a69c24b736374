"""The command line: each file parses one group of verbs, calls, prints, and gives an exit code. Nothing is decided here.

Exit codes: 0 fine · 1 found something (broken subjects, failing checks, needs you) · 2 usage or configuration · 3 a system could
not be reached. Whatever goes wrong is one line with the remedy; a traceback is never shown.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from daemon.cli.common import guarded

_VERBS = {
    "demo": "demo",
    "run": "run",
    "status": "status",
    "scan": "cycles",
    "plan": "cycles",
    "heal": "cycles",
    "incidents": "incidents",
    "explain": "explain",
    "pause": "pauses",
    "resume": "pauses",
    "rules": "rules",
    "catalog": "catalog",
    "doctor": "doctor",
    "drill": "drill",
    "db": "db",
}
"""Verb → the file that holds it; a file is imported when its verb is typed, so that help comes at once."""


class _Verbs(click.Group):
    """The verbs, each from its own file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command = getattr(importlib.import_module(f"daemon.cli.{_VERBS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="orderheal")
def cli() -> None:
    """Find business objects stuck between systems, remediate them, prove the healing, call a person when it cannot.

    Exit codes: 0 fine, 1 found something, 2 usage or configuration, 3 a system could not be reached.
    """
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


def main(args: Sequence[str] | None = None) -> None:
    """The entry point of ``orderheal``."""
    sys.exit(guarded(lambda: cli.main(args=args, prog_name="orderheal", standalone_mode=False)))
