"""``orderheal demo``: the whole system against the sandbox."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.common import Fault


@click.command()
@click.option("--keep", is_flag=True, help="Stay up afterwards and print the addresses.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary for programs, nothing else.")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True, metavar="FILE",
    help="The configuration that is shown; the demo lays its own addresses over it.",
)  # fmt: skip
def demo(keep: bool, as_json: bool, config: Path) -> int:
    """Plant faults in a simulated shop and watch the real daemon find, remediate, prove or escalate them.

    Exit 0 when each fault ended as its scenario says, else 1 with what differs.
    """
    try:
        from daemon.demo import run_demo
    except ImportError as error:
        raise Fault(f"the demo needs the extras embedded and sandbox ({error.name} is missing): "
                    "pip install 'orderheal[embedded,sandbox]'") from None  # fmt: skip
    return run_demo(keep=keep, json=as_json, config=config)
