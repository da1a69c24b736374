"""The faults that are planted, and how each must end: data in the scenario language, the same on both faces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import yaml

from daemon.sandbox.scenario import Scenario, parse_all


@cache
def faults() -> Sequence[Scenario]:
    """All of them, in the order of ``faults.yaml``."""
    return parse_all(yaml.safe_load(files(__package__).joinpath("faults.yaml").read_text(encoding="utf-8")))
