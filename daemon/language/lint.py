"""What CEL's own checker does not know: nulls, numbers, records, causes, and which names are known at which moment.

Each check looks at the checked tree of one expression (the null check at a whole list of them) and yields mistakes with
the place of the node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from daemon.domain.shape import Field, FieldType, Role
from daemon.language import tree
from daemon.language.cel import RESERVED, Kind, Program, Row
from daemon.language.mistake import Mistake
from daemon.language.places import near

SPECIAL: Final = ("now", "cause", "resolution", "incident", "steps", "group", "matrix")
"""Names that the engine fills in."""

RESOLUTIONS: Final = frozenset({"healed", "handled"})
OUTCOMES: Final = frozenset({"done", "refused", "later", "unknown"})


def reserved(name: str) -> str | None:
    """Why a field or lookup cannot have this name, with a way out; ``None`` if it can."""
    if name in SPECIAL:
        return f'"{name}" is what the engine calls something of its own; take another name, such as "{name}_record"'
    if name in RESERVED:
        way_out = {"package": "parcel"}.get(name, f"{name}_record")
        return f'"{name}" is a word of CEL itself; take another name, such as "{way_out}"'
    if not (name.isascii() and name.isidentifier()):
        return f'"{name}" cannot be read in a condition; take Latin letters, digits and _'
    return None


@dataclass(frozen=True, slots=True)
class Reference:
    """``order.state`` with what is declared of it. In a loop the variable reads as an element of its range."""

    path: str
    kind: Kind

    @property
    def nullable(self) -> bool:
        """Whether it may be null: a nullable field, or a lookup of one record."""
        if isinstance(self.kind, Row):
            return self.kind.nullable and not self.kind.many
        return isinstance(self.kind, Field) and self.kind.nullable

    @property
    def personal(self) -> bool:
        """Whether it is data about a person, which is never kept with an incident."""
        return isinstance(self.kind, Field) and self.kind.role is Role.PERSONAL

    @property
    def number(self) -> bool:
        """Whether it is declared a number."""
        return (self.kind.type if isinstance(self.kind, Field) else self.kind) is FieldType.NUMBER

    def select(self, field: str) -> Reference:
        """A field of it."""
        kind = self.kind.fields.get(field) if isinstance(self.kind, Row) and not self.kind.many else None
        return Reference(f"{self.path}.{field}", kind)

    def element(self) -> Reference:
        """An element of it."""
        kind = self.kind
        element = Row(kind.fields, nullable=False) if isinstance(kind, Row) and kind.many else None
        return Reference(f"{self.path}[]", element)


Names = Mapping[str, Reference]


def names_of(kinds: Mapping[str, Kind]) -> Names:
    """The names of a rule as references."""
    return {name: Reference(name, kind) for name, kind in kinds.items()}


def reference(node: tree.Expr, names: Names) -> Reference | None:
    """What a node refers to, if it is a plain reference."""
    match node:
        case tree.Ident():
            return names.get(node.name)
        case tree.Select():
            parent = reference(node.operand, names)
            return parent.select(node.field) if parent else None
        case tree.Call(function="_[_]"):
            parent = reference(node.args[0], names)
            return parent.element() if parent else None
    return None


def _inner(node: tree.Expr, names: Names) -> Names:
    """The names that hold inside a node: a loop adds its variable."""
    if not isinstance(node, tree.Loop):
        return names
    over = reference(node.range, names) or Reference("…", None)
    return {**names, node.var: over.element(), node.accumulator: Reference("…", None)}


def _children(node: tree.Expr, names: Names) -> Iterator[tuple[tree.Expr, Names]]:
    if isinstance(node, tree.Loop):
        yield node.range, names
        inner = _inner(node, names)
        yield from ((child, inner) for child in node.body)
    else:
        yield from ((child, names) for child in tree.children(node))


def _walk(node: tree.Expr, names: Names) -> Iterator[tuple[tree.Expr, Names]]:
    yield node, names
    for child, inner in _children(node, names):
        yield from _walk(child, inner)


# --- nulls -------------------------------------------------------------------------------------------------------


def nulls(programs: Sequence[Program], names: Names, tested: set[str] | None = None) -> Iterator[Mistake]:
    """What may be null and is used in a list of conditions that nowhere compares it with null (law 2, trap 1).

    ``tested``: what conditions before these have tested already; it grows by what these test.
    """
    tested = set() if tested is None else tested
    for program in programs:
        tested |= {path for node, inner in _walk(program.checked.root, names) for path in _null_tested(node, inner)}
    for program in programs:
        for node, found in _used(program.checked.root, names):
            if found.nullable and found.path not in tested:
                yield Mistake.at(program.place_of(node), _may_be_null(found))


def _may_be_null(found: Reference) -> str:
    what = "may be absent" if isinstance(found.kind, Row) else "may be null"
    path = found.path.replace("[]", "")
    return f'"{path}" {what}: say so in the same conditions, with {path} != null && … or {path} == null || …'


def _null_tested(node: tree.Expr, names: Names) -> Iterator[str]:
    if isinstance(node, tree.Call) and node.function in ("_==_", "_!=_"):
        for one, other in (node.args, node.args[::-1]):
            found = reference(one, names)
            if found and isinstance(other, tree.Literal) and other.value is None:
                yield found.path


def _used(node: tree.Expr, names: Names) -> Iterator[tuple[tree.Expr, Reference]]:
    """The references whose value matters: not those that are only compared with null."""
    only_tested = isinstance(node, tree.Call) and any(True for _ in _null_tested(node, names))
    found = reference(node, names)
    if found:
        yield node, found
    for child, inner in _children(node, names):
        used = list(_used(child, inner))
        yield from used[1:] if only_tested and reference(child, inner) else used


# --- numbers and texts -------------------------------------------------------------------------------------------

_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_ARITHMETIC = frozenset({"_+_", "_-_", "_*_", "_/_", "_%_"})
_TAKE_NUMBERS = _COMPARISONS | _ARITHMETIC | {"-_", "@in", "_?_:_", "_[_]", "double", "int", "uint", "dyn", "type"}
_NO_NUMBER = frozenset({"string", "bool", "timestamp", "duration", "map", "null"})


def numeric(node: tree.Expr, names: Names) -> bool:
    """Whether a node is a declared number, or arithmetic with one."""
    if isinstance(node, tree.Call) and node.function in _ARITHMETIC:
        return any(numeric(child, names) for child in node.args)
    found = reference(node, names)
    return found is not None and found.number


def numbers(program: Program, names: Names) -> Iterator[Mistake]:
    """Declared numbers where they do not fit: CEL sees them as anything, so its checker is silent (traps 6 and 37)."""
    types = program.checked
    for node, inner in _walk(program.checked.root, names):
        place = program.place_of(node)
        if isinstance(node, tree.Loop) and numeric(node.range, inner):
            yield Mistake.at(place, "this runs over a number; it takes a list")
        if not isinstance(node, tree.Call):
            continue
        if node.function == "@in":
            yield from (Mistake.at(place, text) for text in _membership(node, program, inner))
            continue
        are = [numeric(arg, inner) for arg in node.args]
        others = {types.type(arg) for arg, number in zip(node.args, are, strict=True) if not number}
        if not any(are):
            continue
        if node.function == "string":
            yield Mistake.at(place, "string() writes numbers as 1.2e+06; put the number into a ${…} hole of its own")
        elif node.function not in _TAKE_NUMBERS and not node.function.startswith("@"):
            yield Mistake.at(place, f"{_function(node)} does not fit a number")
        elif node.function in _COMPARISONS | _ARITHMETIC and (wrong := others & (_NO_NUMBER - _allowed(node))):
            yield Mistake.at(place, f"a number and a {min(wrong)} do not fit {_function(node)}; identifiers are texts")
        elif node.function in _ARITHMETIC and "int" in others:
            yield Mistake.at(place, "numbers of records are decimal: calculate with 1.0 rather than 1")


def _allowed(node: tree.Call) -> frozenset[str]:
    return frozenset({"null"}) if node.function in ("_==_", "_!=_") else frozenset()


def _membership(node: tree.Call, program: Program, names: Names) -> Iterator[str]:
    element, container = node.args
    if not isinstance(container, tree.Group):
        return
    types = {program.checked.type(part) for part in container.parts}
    if numeric(element, names) and types & _NO_NUMBER:
        yield f"a number is never in a list of {min(types & _NO_NUMBER)}s; identifiers are texts"
    if program.checked.type(element) == "string" and types & {"int", "double", "bool"}:
        yield "a text is never a number in a list; put the numbers in quotes"


def _function(node: tree.Call) -> str:
    return f'"{node.function.strip("_@") or node.function}"'


# --- records -----------------------------------------------------------------------------------------------------


def records(program: Program) -> Iterator[Mistake]:
    """A record has no value of its own: a field of it must be named, so that nothing slips out unnoticed."""
    yield from _records(program, program.checked.root, allowed=False, looping=False)


def _records(program: Program, node: tree.Expr, allowed: bool, looping: bool) -> Iterator[Mistake]:
    type = program.checked.type(node)
    if "record." in type and not allowed:
        many = type.startswith("list(")
        name = type.removeprefix("list(").removeprefix("record.").rstrip(")")
        remedy = f"{name}.map(e, e.…)" if many else f"{name}.…"
        yield Mistake.at(program.place_of(node), f'"{name}" is {"a list of records" if many else "a record"}; {remedy}')
    if isinstance(node, tree.Select) and node.test and _declared(program, node):
        remedy = f'compare "{node.field}" with null instead'
        yield Mistake.at(program.place_of(node), f"a declared field is always there; {remedy}")
    match node:
        case tree.Select():
            yield from _records(program, node.operand, allowed=True, looping=looping)
        case tree.Loop():
            yield from _records(program, node.range, allowed=True, looping=looping)
            for part in node.body:
                yield from _records(program, part, allowed=True, looping=True)
        case _:
            for part in tree.children(node):
                yield from _records(program, part, allowed=_takes_records(node, looping), looping=looping)


def _declared(program: Program, node: tree.Select) -> bool:
    """Whether the field of a ``has(…)`` is one of a record; of ``steps`` one may ask whether a step was tried."""
    return program.checked.type(node.operand).startswith("record.") and node.operand != tree.Ident(
        node.operand.id, "steps"
    )


def _takes_records(node: tree.Expr, looping: bool) -> bool:
    if isinstance(node, tree.Group):
        return looping
    if not isinstance(node, tree.Call):
        return False
    if node.function in ("_==_", "_!=_"):
        return any(isinstance(arg, tree.Literal) and arg.value is None for arg in node.args)
    return node.function in ("size", "_[_]") or (looping and node.function in ("_+_", "_?_:_"))


def personal(program: Program, names: Names) -> Iterator[Mistake]:
    """Data about a person where only what is kept with an incident is known."""
    for node, inner in _walk(program.checked.root, names):
        found = reference(node, inner)
        if found and found.personal:
            yield Mistake.at(program.place_of(node), f'"{found.path}" is personal data: it is never kept, told or sent')


# --- words -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """The closed vocabularies that texts are compared with."""

    causes: frozenset[str]
    dictionary: frozenset[str]

    def of(self, node: tree.Expr) -> tuple[str, frozenset[str]] | None:
        """What a node is called and the words it can be, if they are known."""
        match node:
            case tree.Ident(name="cause"):
                return "cause", self.causes
            case tree.Ident(name="resolution"):
                return "resolution", RESOLUTIONS
            case tree.Call(function="cause_of"):
                return "cause_of", self.dictionary
            case tree.Select(operand=tree.Select(operand=tree.Ident(name="steps")), field="outcome"):
                return "outcome", OUTCOMES
        return None


def words(program: Program, known: Words) -> Iterator[Mistake]:
    """Comparisons with a word that the other side can never be: ``cause == "adress"`` is quietly false (trap 25)."""
    for node in tree.walk(program.checked.root):
        if not isinstance(node, tree.Call) or node.function not in ("_==_", "_!=_", "@in") or len(node.args) != 2:
            continue
        for one, other in (node.args, node.args[::-1]):
            found = known.of(one)
            if not found:
                continue
            for literal, word in _texts(other):
                if word not in found[1]:
                    message = f'{found[0]} is never "{word}"{near(word, found[1])}'
                    yield Mistake.at(program.place_of(literal), message)


def _texts(node: tree.Expr) -> Iterator[tuple[tree.Literal, str]]:
    parts = node.parts if isinstance(node, tree.Group) else (node,)
    for part in parts:
        if isinstance(part, tree.Literal) and isinstance(part.value, str):
            yield part, part.value


# --- moments -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """Which names are known where an expression stands, and what to say of the others."""

    known: frozenset[str]
    where: str
    whys: Mapping[str, str]
    remembered: bool = False
    """Only what is kept with the incident is known, not the record as it was read."""

    def plus(self, names: Collection[str], where: str | None = None) -> Moment:
        """The moment when these are known too."""
        return replace(self, known=self.known | frozenset(names), where=where or self.where)

    def check(self, program: Program) -> Iterator[Mistake]:
        """Names that are not known at this moment."""
        nodes = {
            node.name: node for node in reversed([*tree.walk(program.checked.root)]) if isinstance(node, tree.Ident)
        }
        for name in sorted(program.reads - self.known):
            why = self.whys.get(name, "")
            place = program.place_of(nodes[name]) if name in nodes else program.place
            yield Mistake.at(place, f'"{name}" is not known in {self.where}{why and f": {why}"}')
