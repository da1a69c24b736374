"""``orderheal rules``: check, schema, show; offline, with the configuration alone."""

from __future__ import annotations

import json

import click

from daemon.cli.common import Asked, Exit, known_rules, verb
from daemon.config import config_schema
from daemon.language.ruleset import schema as rule_schema
from daemon.views.text import Line


@click.group()
def rules() -> None:
    """Check rules, print their schema, show one as it runs."""


@rules.command()
@verb
def check(asked: Asked) -> int:
    """Check the configuration and all rules, without any system and without secrets: a line per mistake, exit 2."""
    loaded = asked.load(offline=True)
    count = len(loaded.rules)
    answer = {"rules": list(loaded.rules), "warnings": [str(warning) for warning in loaded.ruleset.warnings]}

    def lines() -> list[Line]:
        said = [Line(f"warning: {warning}", "warn") for warning in loaded.ruleset.warnings]
        return [*said, Line("1 rule is well" if count == 1 else f"{count} rules are well", "good")]

    asked.tell(answer, lines, loaded)
    return Exit.FINE


@rules.command()
@click.option("--of", type=click.Choice(["rule", "config"]), default="rule", show_default=True, help="Of what.")
def schema(of: str) -> int:
    """Print the JSON Schema for editors."""
    made = rule_schema() if of == "rule" else config_schema()
    click.echo(json.dumps(made, ensure_ascii=False, indent=2))
    return Exit.FINE


@rules.command()
@click.argument("name")
@verb
def show(asked: Asked, name: str) -> int:
    """Show one rule as it runs: defaults, overrides and matrix filled in, with its place and digest."""
    loaded = asked.load(offline=True)
    known_rules(loaded, [name])
    text = loaded.ruleset.show(name)
    asked.tell({"rule": name, "text": text}, lambda: [Line(line) for line in text.splitlines()], loaded)
    return Exit.FINE
