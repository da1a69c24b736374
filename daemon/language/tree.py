"""A checked CEL expression as a tree of values, so that rules can be checked beyond what CEL's own checker knows.

``cel_expr_python`` gives the tree only as serialised ``cel.expr.CheckedExpr`` protobuf and ships no classes for it; the
few messages that matter are decoded here from the wire format, by the field numbers of ``cel/expr/syntax.proto`` and
``cel/expr/checked.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Const: TypeAlias = bool | int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    id: int
    value: Const


@dataclass(frozen=True, slots=True)
class Ident:
    """A name."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.field``; with ``test``: ``has(operand.field)``."""

    id: int
    operand: Expr
    field: str
    test: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator (``_==_``, ``_&&_``, ``@in``, ``matches``), the receiver of a method first in ``args``."""

    id: int
    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A list, map or message literal: its parts."""

    id: int
    parts: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A macro such as ``exists`` or ``map``: ``var`` runs over ``range``, the rest is its body."""

    id: int
    var: str
    accumulator: str
    range: Expr
    body: tuple[Expr, ...]


Expr: TypeAlias = Literal | Ident | Select | Call | Group | Loop


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression with what the checker found: the type of each node, and where in the text it stands.

    Types are ``dyn null bool int double string timestamp duration list map``, a record's message name, ``wrapper``
    texts as the plain type, and ``?`` for what matters to nobody here; of a list also what it holds: ``list(string)``.
    """

    root: Expr
    types: Mapping[int, str]
    offsets: Mapping[int, int]

    def type(self, node: Expr) -> str:
        """The type of a node."""
        return self.types.get(node.id, "dyn")

    def offset(self, node: Expr) -> int:
        """Where in the text the node begins (a call: its operator or bracket), in characters from 0."""
        return self.offsets.get(node.id, 0)

    @property
    def names(self) -> frozenset[str]:
        """The top-level names it reads."""
        return frozenset(name for name in _names(self.root, frozenset()))


def walk(node: Expr) -> Iterator[Expr]:
    """The node and all below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Expr) -> tuple[Expr, ...]:
    """The nodes right below."""
    match node:
        case Select():
            return (node.operand,)
        case Call():
            return node.args
        case Group():
            return node.parts
        case Loop():
            return (node.range, *node.body)
    return ()


def _names(node: Expr, bound: frozenset[str]) -> Iterator[str]:
    if isinstance(node, Ident) and node.name not in bound:
        yield node.name
    if isinstance(node, Loop):
        yield from _names(node.range, bound)
        bound = bound | {node.var, node.accumulator}
    for child in node.body if isinstance(node, Loop) else children(node):
        yield from _names(child, bound)


def decode(serialized: bytes) -> Checked:
    """The tree from ``Expression.serialize()``: an ``Any`` that holds a ``CheckedExpr``."""
    checked = _message(_one(_message(serialized), 2))
    types = {_int(entry, 1): _type(_message(_one(entry, 2))) for entry in map(_message, _all(checked, 3))}
    source = _message(_one(checked, 5))
    offsets = {_int(entry, 1): _int(entry, 2) for entry in map(_message, _all(source, 4))}
    return Checked(_expr(_one(checked, 4)), types, offsets)


# --- the wire format: https://protobuf.dev/programming-guides/encoding/ -------------------------------------------

_Fields: TypeAlias = Mapping[int, list[int | bytes]]


def _message(data: bytes) -> _Fields:
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                length, at = _varint(data, at)
                value, at = data[at : at + length], at + length
            case _:
                value, at = data[at : at + 4], at + 4
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _all(fields: _Fields, number: int) -> list[bytes]:
    return [value for value in fields.get(number, ()) if isinstance(value, bytes)]


def _one(fields: _Fields, number: int) -> bytes:
    return next(iter(_all(fields, number)), b"")


def _int(fields: _Fields, number: int) -> int:
    return next((value for value in fields.get(number, ()) if isinstance(value, int)), 0)


def _str(fields: _Fields, number: int) -> str:
    return _one(fields, number).decode()


def _expr(data: bytes) -> Expr:
    fields = _message(data)
    id = _int(fields, 2)
    for number, build in _BUILD.items():
        if number in fields:
            return build(id, _message(_one(fields, number)))
    return Literal(id, None)


def _literal(id: int, fields: _Fields) -> Expr:
    if 2 in fields:
        return Literal(id, bool(_int(fields, 2)))
    if 3 in fields:
        value = _int(fields, 3)
        return Literal(id, value - (1 << 64) if value >> 63 else value)
    if 4 in fields:
        return Literal(id, _int(fields, 4))
    if 5 in fields:
        return Literal(id, memoryview(_one(fields, 5)).cast("d")[0])
    if 6 in fields:
        return Literal(id, _str(fields, 6))
    return Literal(id, _one(fields, 7) if 7 in fields else None)


def _call(id: int, fields: _Fields) -> Expr:
    return Call(id, _str(fields, 2), tuple(map(_expr, _all(fields, 1) + _all(fields, 3))))


def _struct(id: int, fields: _Fields) -> Expr:
    entries = map(_message, _all(fields, 2))
    return Group(id, tuple(_expr(part) for entry in entries for part in _all(entry, 3) + _all(entry, 4)))


def _loop(id: int, fields: _Fields) -> Expr:
    body = tuple(_expr(_one(fields, number)) for number in (4, 5, 6, 7))
    return Loop(id, _str(fields, 1), _str(fields, 3), _expr(_one(fields, 2)), body)


_BUILD = {
    3: _literal,
    4: lambda id, fields: Ident(id, _str(fields, 1)),
    5: lambda id, fields: Select(id, _expr(_one(fields, 1)), _str(fields, 2), bool(_int(fields, 3))),
    6: _call,
    7: lambda id, fields: Group(id, tuple(map(_expr, _all(fields, 1)))),
    8: _struct,
    9: _loop,
}
_PRIMITIVE = {1: "bool", 2: "int", 3: "int", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN = {1: "dyn", 2: "timestamp", 3: "duration"}


def _type(fields: _Fields) -> str:
    if 2 in fields:
        return "null"
    if 3 in fields or 4 in fields:
        return _PRIMITIVE.get(_int(fields, 3) or _int(fields, 4), "?")
    if 5 in fields:
        return _WELL_KNOWN.get(_int(fields, 5), "?")
    if 6 in fields:
        return f"list({_type(_message(_one(_message(_one(fields, 6)), 1)))})"
    if 7 in fields:
        return "map"
    return _str(fields, 9) if 9 in fields else "dyn" if 1 in fields else "?"
