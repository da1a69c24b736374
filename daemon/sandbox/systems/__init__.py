"""The systems of the world besides the shops' own: a file each, found by its ``SYSTEM``; nothing else names them.

A system says what rows it has and what calls change. How it looks on the wire is in ``daemon/sandbox/wire`` under the
same name, and only imported where sockets are opened.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from daemon.domain.shape import Shape
from daemon.kinds import discover
from daemon.sandbox.world import Deed, Stock


@dataclass(frozen=True, slots=True)
class System:
    """One outside system. ``stocks`` are its kinds of records as ``connector.records``, ``deeds`` what calls change, as ``connector.call``."""

    name: str
    shape: Shape
    stocks: Mapping[str, Stock]
    deeds: Mapping[str, Deed] = field(default_factory=dict)


@cache
def systems() -> Mapping[str, System]:
    """Every system, by its connector's name."""
    found = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    every = [each.SYSTEM for each in found if isinstance(getattr(each, "SYSTEM", None), System)]
    return {system.name: system for system in sorted(every, key=lambda system: system.name)}


def shape_of(kind: str) -> Shape:
    """What a kind offers whatever its settings are: fields are said once, in the connector's file."""
    return discover()[kind].shape(None)
