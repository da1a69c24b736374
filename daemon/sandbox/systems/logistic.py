"""The database ``logistic_v2`` as the world has it: parcels, and the events that send them to carriers, with their errors.

It has no file in ``daemon/sandbox/wire``: it is a real database, and ``tables`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from daemon.domain.shape import Field, FieldType, Records, Shape
from daemon.sandbox.systems import System
from daemon.sandbox.world import Stock

PACKAGES: Final = "logistic.packages"
OUTBOX: Final = "logistic.outbox"

_TEXT: Final = Field(FieldType.STRING)
_MAYBE: Final = Field(FieldType.STRING, nullable=True)
_TIME: Final = Field(FieldType.TIMESTAMP)
_MAYBE_TIME: Final = Field(FieldType.TIMESTAMP, nullable=True)

_PACKAGES: Final = Records(
    fields={"id": _TEXT, "number": _TEXT, "status": _TEXT, "created_at": _TIME},
    key="id", by=frozenset({"id", "number"}), where="sql", population=True, streams=True,
)  # fmt: skip
_OUTBOX: Final = Records(
    fields={
        "id": _TEXT,
        "event": _TEXT,
        "status": _TEXT,
        "processed_at": _MAYBE_TIME,
        "created_at": _TIME,
        "package_id": _MAYBE,
        "package_number": _MAYBE,
        "first_error_at": _MAYBE_TIME,
        "last_error_at": _MAYBE_TIME,
        "errors": Field(FieldType.NUMBER),
        "error_text": _MAYBE,
    },
    key="id", by=frozenset({"id", "event", "package_id"}), where="sql", population=True, streams=True,
)  # fmt: skip
"""Declared in ``config.yaml``, as every database's are; a test holds the two together."""

_PACKAGE: Final[Mapping[str, Any]] = {"id": "{key}", "number": "OZ-{key}", "status": "new", "created_at": "-3h"}
_EVENT: Final[Mapping[str, Any]] = {
    "id": "{key}",
    "event": "ProcessDeliveryJob:Package:{key}",
    "status": "failed",
    "processed_at": None,
    "created_at": "-3h",
    "package_id": "{key}",
    "package_number": "OZ-{key}",
    "first_error_at": None,
    "last_error_at": None,
    "errors": 0,
    "error_text": None,
}

SYSTEM: Final = System(
    "logistic",
    Shape(records={"packages": _PACKAGES, "outbox": _OUTBOX}),
    {PACKAGES: Stock(_PACKAGES, _PACKAGE), OUTBOX: Stock(_OUTBOX, _EVENT)},
)
