"""The adapter to CEL: texts of rules and templates → values with one method that never raises and never lies.

The only importer of ``cel_expr_python``. Two environments stand behind each ``Environment``. In the *checking* one
every name has its declared type, records being message types built on the spot, so that CEL's own checker finds typos
and wrong types with their column; it also gives the tree that ``lint`` looks at. In the *running* one every name is
dynamic and values go in as they are. CEL answers an error as a truthy value: here it becomes ``Unknown`` with the
reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeAlias

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

from daemon.domain.rule import Show
from daemon.domain.shape import Field, FieldType
from daemon.domain.value import Place, Scope, Unknown, Value
from daemon.language import tree
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import Path, Tree, near, quote
from daemon.settings import format_duration, parse_duration


@dataclass(frozen=True, slots=True)
class Row:
    """A name that is a record (``many``: a list of records), with the fields it has."""

    fields: Mapping[str, Kind]
    many: bool = False
    nullable: bool = True


Kind: TypeAlias = Field | FieldType | Row | None
"""What is known of a name: its field type, the fields of a record, or nothing (``None``: anything goes)."""


def _field(kind: Kind) -> Field | None:
    """The declared field, a bare type being one that is never null."""
    return Field(kind) if isinstance(kind, FieldType) else kind if isinstance(kind, Field) else None


_WORDS = """
    as break const continue else false for function if import in let loop namespace null package return true var void
    while bool bytes double duration dyn google int list map null_type string timestamp type uint
"""
RESERVED: Final = frozenset(_WORDS.split())
"""Words that CEL keeps for itself, and type names that a variable would hide."""


class Environment:
    """The names that expressions may use, and the ways to compile them. All ways raise ``Mistakes`` with places."""

    def __init__(
        self,
        names: Mapping[str, Kind],
        cause_of: Callable[[str], str] | None = None,
        constants: Mapping[str, Value] | None = None,
    ) -> None:
        """``names``: what a scope will hold; ``constants``: names whose values are known now (``matrix``)."""
        self.names = {name: kind for name, kind in names.items() if _usable(name)}
        self.constants = constants or {}
        functions = [_own("cause_of", cause_of)] if cause_of else []
        declared = self.names | dict.fromkeys(self.constants)
        pool, types = _messages(declared)
        self._checking = cel.NewEnv(pool, variables=types, extensions=[ext_strings.ExtStrings()], functions=functions)
        self._running = cel.NewEnv(
            variables=dict.fromkeys(declared, cel.Type.DYN), extensions=[ext_strings.ExtStrings()], functions=functions
        )

    def condition(self, text: str, place: Place) -> Program:
        """A bare expression that gives true, false or ``Unknown``."""
        if "${" in text:
            mended = re.sub(r"\$\{([^{}]*)\}", r"\1", text)
            raise Mistakes([Mistake.at(place, f"a condition is bare CEL, without ${{…}}; write: {quote(mended)}")])
        program = self._compile(text, _Source(text, place))
        if program.type != "bool":
            raise Mistakes([Mistake.at(place, f"must be true or false, but this is {_spoken(program.type)}")])
        return replace(program, judges=True)

    def value(self, node: Tree, place_of: Callable[[Path], Place], filled: bool = False) -> Computed:
        """A text with ``${…}`` holes, or a list or map of such. A value that is only one hole keeps its type.

        ``filled``: for keys, where an empty text in a hole is ``Unknown`` rather than nothing.
        """
        mistakes: list[Mistake] = []
        found = self._value(node, place_of, (), filled, mistakes)
        if mistakes:
            raise Mistakes(mistakes)
        return found

    def text(self, text: str, place: Place) -> Words:
        """A text for people."""
        return Words(text, place, tuple(self._parts(text, place)))

    def _value(self, node: Tree, place_of: Callable[[Path], Place], path: Path, filled: bool, mistakes: list[Mistake]) -> Computed:
        place = place_of(path)
        if isinstance(node, Mapping):
            items = {key: self._value(each, place_of, (*path, key), filled, mistakes) for key, each in node.items()}
            return Composed(repr(node), place, tuple(items.values()), tuple(items))
        if isinstance(node, list):
            listed = [self._value(each, place_of, (*path, i), filled, mistakes) for i, each in enumerate(node)]
            return Composed(repr(node), place, tuple(listed))
        if not isinstance(node, str):
            return Constant(str(node), place, node)
        try:
            parts = tuple(self._parts(node, place))
        except Mistakes as error:
            mistakes.extend(error.mistakes)
            return Constant(node, place, None)
        if len(parts) == 1 and isinstance(parts[0], Program):
            return parts[0]
        if any(isinstance(part, Program) for part in parts):
            return Template(node, place, parts, filled)
        return Constant(node, place, "".join(map(str, parts)))

    def _parts(self, text: str, place: Place) -> Iterator[str | Program]:
        source = _Source(text, place)
        mistakes: list[Mistake] = []
        for start, part in _split(text, source):
            if start is None:
                yield part
                continue
            try:
                yield self._compile(part, _Source(text, place, start))
            except Mistakes as error:
                mistakes.extend(error.mistakes)
        if mistakes:
            raise Mistakes(mistakes)

    def _compile(self, text: str, source: _Source) -> Program:
        try:
            text.encode()  # YAML's escapes can write halves of characters, which CEL cannot take
            checked = tree.decode(self._checking.compile(text).serialize())
            expression = self._running.compile(text)
        except (RuntimeError, ValueError, TypeError, RecursionError) as error:
            raise Mistakes(list(_compile_errors(str(error), source, self.names))) from None
        program = Program(text, source, checked, expression, self._inward(checked.names), self._constants(checked))
        if mistakes := list(_constant_mistakes(program)):
            raise Mistakes(mistakes)
        return program

    def _inward(self, names: Iterable[str]) -> Mapping[str, Kind]:
        return {name: self.names[name] for name in sorted(names) if name in self.names}

    def _constants(self, checked: tree.Checked) -> Mapping[str, Value]:
        return {name: value for name, value in self.constants.items() if name in checked.names}


@dataclass(frozen=True, slots=True)
class _Source:
    """A text in a file, and from which character of it the expression is taken."""

    text: str
    place: Place
    start: int = 0

    def at(self, index: int) -> Place:
        """The place of a character of the expression."""
        before = self.text[: self.start + index]
        line = before.count("\n")
        column = len(before) - (before.rfind("\n") + 1)
        return Place(self.place.file, self.place.line + line, self.place.column + column)


# --- compiled values ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """One CEL expression. Calling it gives its value, or ``Unknown`` with the reason."""

    text: str
    source: _Source = field(repr=False)
    checked: tree.Checked = field(repr=False)
    _expression: Any = field(repr=False)
    _kinds: Mapping[str, Kind] = field(repr=False)
    _constants: Mapping[str, Value] = field(repr=False)
    judges: bool = False
    """It is a condition: whatever is neither true nor false is ``Unknown``."""

    @property
    def place(self) -> Place:
        """Where the expression begins."""
        return self.source.at(0)

    @property
    def reads(self) -> frozenset[str]:
        """The top-level names it reads."""
        return frozenset(self._kinds)

    @property
    def programs(self) -> tuple[Program, ...]:
        """Itself: what ``lint`` goes through."""
        return (self,)

    @property
    def type(self) -> str:
        """The type the checker found for the whole; ``dyn`` when it is only known at run time."""
        return self.checked.type(self.checked.root)

    def place_of(self, node: tree.Expr) -> Place:
        """Where a node of the tree stands."""
        return self.source.at(self.checked.offset(node))

    def __call__(self, scope: Scope) -> Value:
        """The value in this scope."""
        path = _path(self.checked.root)
        try:
            plain = path and path[0] not in self._constants
            value = self._follow(path, scope) if plain else self._evaluate(scope)
        except Exception as error:  # the promise is a value for every scope; whatever breaks is this subject's doubt
            return Unknown(f"{self.text}: {error}")
        if self.judges and not isinstance(value, bool | Unknown):
            return Unknown(f"{self.text} is neither true nor false")
        return value

    def _follow(self, path: Sequence[str], scope: Scope) -> Value:
        """A plain reference, without the way through CEL: exact numerics stay exact."""
        value = _follow(path, scope)
        declared = _field(self._kinds.get(path[0])) if len(path) == 1 else None
        if value is None and declared and not declared.nullable:
            return Unknown(f"{path[0]}: {_NEVER_NULL}")
        return value

    def _evaluate(self, scope: Scope) -> Value:
        doubts: dict[str, str] = {}
        data = {name: _inward(value, None, name, doubts) for name, value in self._constants.items()}
        for name, kind in self._kinds.items():
            try:
                data[name] = _inward(scope.get(name, Unknown("not known")), kind, name, doubts)
            except _Doubt as doubt:
                doubts[name] = str(doubt)
        result = self._expression.eval(data=data)
        if result.type() in (cel.Type.ERROR, cel.Type.UNKNOWN):
            return Unknown(_reason(str(result.value()), doubts))
        return _outward(result.plain_value())


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value without holes."""

    text: str
    place: Place
    value: Value
    reads: frozenset[str] = frozenset()
    programs: tuple[Program, ...] = ()

    def __call__(self, scope: Scope) -> Value:
        """The value, whatever the scope."""
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A text around holes, as an argument: times in ISO 8601 UTC, numbers plain; a null in a hole is ``Unknown``."""

    text: str
    place: Place
    parts: tuple[str | Program, ...]
    filled: bool = False

    @property
    def programs(self) -> tuple[Program, ...]:
        """The holes."""
        return tuple(part for part in self.parts if isinstance(part, Program))

    @property
    def reads(self) -> frozenset[str]:
        """The top-level names that the holes read."""
        return frozenset().union(*(program.reads for program in self.programs))

    def __call__(self, scope: Scope) -> Value:
        """The text, or the first hole's reason why there is none."""
        texts: list[str] = []
        for part in self.parts:
            value = part if isinstance(part, str) else part(scope)
            text = argument(value)
            if isinstance(text, Unknown) or (self.filled and not text):
                reason = text.reason if isinstance(text, Unknown) else "is empty"
                return Unknown(f"{part if isinstance(part, str) else part.text}: {reason}")
            texts.append(text)
        return "".join(texts)


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """A list, or with ``keys`` a map, of values. One ``Unknown`` inside makes the whole unknown."""

    text: str
    place: Place
    items: tuple[Computed, ...]
    keys: tuple[str, ...] | None = None

    @property
    def programs(self) -> tuple[Program, ...]:
        """All holes."""
        return tuple(program for item in self.items for program in item.programs)

    @property
    def reads(self) -> frozenset[str]:
        """The top-level names that the holes read."""
        return frozenset().union(*(item.reads for item in self.items))

    def __call__(self, scope: Scope) -> Value:
        """The list or map."""
        values = [item(scope) for item in self.items]
        doubt = next((value for value in values if isinstance(value, Unknown)), None)
        if doubt:
            return doubt
        return values if self.keys is None else dict(zip(self.keys, values, strict=True))


Computed: TypeAlias = Program | Constant | Template | Composed


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A text for people: every hole reads as ``show`` says, an error as ``show`` shows ``Unknown``."""

    text: str
    place: Place
    parts: tuple[str | Program, ...]

    @property
    def programs(self) -> tuple[Program, ...]:
        """The holes."""
        return tuple(part for part in self.parts if isinstance(part, Program))

    @property
    def reads(self) -> frozenset[str]:
        """The top-level names that the holes read."""
        return frozenset().union(*(program.reads for program in self.programs))

    def __call__(self, scope: Scope, show: Show) -> str:
        """The text with its holes filled."""
        return "".join(part if isinstance(part, str) else show(part(scope)) for part in self.parts)


def argument(value: Value) -> str | Unknown:
    """How a value reads inside a longer text that a machine will read."""
    match value:
        case Unknown():
            return value
        case None:
            return Unknown("is null")
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | Decimal():
            return f"{value:f}" if isinstance(value, Decimal) else str(value)
        case float():
            return plain(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return format_duration(value)
        case Mapping():
            return Unknown("is a map, and that is no text")
    texts = [argument(item) for item in value]
    doubt = next((text for text in texts if isinstance(text, Unknown)), None)
    return doubt or "\n".join(text for text in texts if isinstance(text, str))


def plain(number: float) -> str:
    """A float without exponent and without a trailing ``.0``."""
    text = f"{Decimal(repr(number)):f}"
    return text.removesuffix(".0")


# --- holes -------------------------------------------------------------------------------------------------------


def _split(text: str, source: _Source) -> Iterator[tuple[int | None, str]]:
    """The pieces of a text: literal ones with no start, holes with the index where their expression begins."""
    at = 0
    literal = ""
    while (found := text.find("${", at)) >= 0:
        if text[max(at, found - 1) : found] == "$":
            literal, at = literal + text[at : found - 1] + "${", found + 2
            continue
        end = _hole_end(text, found + 2)
        if end < 0:
            raise Mistakes([Mistake.at(source.at(found), "this ${ is never closed with }; a literal one is $${")])
        if not text[found + 2 : end].strip():
            raise Mistakes([Mistake.at(source.at(found), "an empty hole ${}; a literal ${ is written $${")])
        if literal := literal + text[at:found]:
            yield None, literal
        yield found + 2, text[found + 2 : end]
        literal, at = "", end + 1
    if literal + text[at:]:
        yield None, literal + text[at:]


def _hole_end(text: str, at: int) -> int:
    """The index of the brace that closes a hole, past braces of its own and texts in quotes; -1: none."""
    depth, quoted = 0, ""
    while at < len(text):
        character = text[at]
        if quoted:
            if character == "\\":
                at += 1
            elif character == quoted:
                quoted = ""
        elif character in "'\"":
            quoted = character
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    return -1


# --- values in and out -------------------------------------------------------------------------------------------


class _Doubt(Exception):
    """A name has no value that could be handed in."""


_NEVER_NULL = "is null, though it is declared never to be"
_PYTHON: Mapping[FieldType, type | tuple[type, ...]] = {
    FieldType.STRING: str,
    FieldType.NUMBER: (int, float, Decimal),
    FieldType.BOOL: bool,
    FieldType.TIMESTAMP: datetime,
    FieldType.DURATION: timedelta,
    FieldType.LIST: (list, tuple),
    FieldType.MAP: Mapping,
}


def _fits(value: Value, declared: Field) -> None:
    """Raises ``_Doubt`` for a value that is not what its field is declared to hold."""
    if value is None and not declared.nullable:
        raise _Doubt(_NEVER_NULL)
    if value is None or isinstance(value, Unknown):
        return
    boolean = isinstance(value, bool) and declared.type is not FieldType.BOOL
    if boolean or not isinstance(value, _PYTHON[declared.type]):
        raise _Doubt(f"is a {type(value).__name__}, though it is declared a {declared.type}")


def _inward(value: Value, kind: Kind, name: str, doubts: dict[str, str]) -> Any:
    """A value as CEL takes it. What is ``Unknown`` is left out, its reason noted: only who reads it becomes unknown."""
    if declared := _field(kind):
        _fits(value, declared)
    match value:
        case Unknown():
            raise _Doubt(value.reason)
        case None | bool() | str():
            return value
        case int() | float() | Decimal():
            return _number(value, declared)
        case datetime():
            return _stamp(value)
        case timedelta():
            length = duration_pb2.Duration()
            length.FromTimedelta(value)
            return length
        case Mapping():
            fields = kind.fields if isinstance(kind, Row) else {}
            return dict(_items(value, fields, name, doubts))
    inner = Row(kind.fields) if isinstance(kind, Row) and kind.many else None
    return [_inward(item, inner, f"{name}[{at}]", doubts) for at, item in enumerate(value)]


def _stamp(value: datetime) -> Any:
    if value.tzinfo is None:
        raise _Doubt("is a time without a zone")
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(value)
    return stamp


def _items(value: Mapping[str, Value], fields: Mapping[str, Kind], name: str, doubts: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        try:
            yield key, _inward(item, fields.get(key), f"{name}.{key}", doubts)
        except _Doubt as doubt:
            doubts[f"{name}.{key}"] = str(doubt)


def _number(value: float | Decimal, declared: Field | None) -> int | float:
    """Declared numbers are doubles, whatever they came as; others keep being whole so that they read as such."""
    if declared and declared.type is FieldType.NUMBER:
        return float(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else float(value)
    return float(value)


def _outward(value: Any) -> Value:
    match value:
        case None | bool() | int() | float() | str() | timedelta():
            return value
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case dict():
            return {str(key): _outward(item) for key, item in value.items()}
        case list():
            return [_outward(item) for item in value]
    return Unknown(f"a {type(value).__name__} is no value")


def _reason(message: str, doubts: Mapping[str, str]) -> str:
    """Why there is no value: the doubt that CEL stumbled over if it names one, else CEL's own words."""
    text = re.sub(r"^[A-Z_]+: ", "", message)
    for name, doubt in doubts.items():
        if f'"{name}"' in text or f'"{name.rpartition(".")[2]}"' in text:
            return f"{name}: {doubt}"
    return next((f"{name}: {doubt}" for name, doubt in doubts.items() if "." not in name), text)


def _path(node: tree.Expr) -> tuple[str, ...]:
    """``a.b.c`` as its parts; anything else: nothing."""
    match node:
        case tree.Ident():
            return (node.name,)
        case tree.Select(test=False):
            front = _path(node.operand)
            return (*front, node.field) if front else ()
    return ()


def _follow(path: Sequence[str], scope: Scope) -> Value:
    """``a.b.c`` in nested maps, or ``Unknown`` with how far it led."""
    value: Value = scope
    for at, part in enumerate(path):
        if isinstance(value, Unknown):
            return value
        if not isinstance(value, Mapping):
            return Unknown(f"{'.'.join(path[:at])} is {'null' if value is None else 'no map'}")
        if part not in value:
            return Unknown(f"{'.'.join(path[: at + 1])} is not known")
        value = value[part]
    return value


# --- the checking environment ------------------------------------------------------------------------------------


def _usable(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and name not in RESERVED


def _own(name: str, implementation: Callable[[str], str]) -> Any:
    overload = cel.Overload(f"{name}_string", cel.Type.STRING, [cel.Type.STRING], impl=implementation)
    return cel.FunctionDecl(name, [overload])


_WRAPPED = {FieldType.STRING: "StringValue", FieldType.BOOL: "BoolValue"}
_TYPES = {
    FieldType.STRING: cel.Type.STRING,
    FieldType.BOOL: cel.Type.BOOL,
    FieldType.NUMBER: cel.Type.DYN,  # compares with 5 and 5.0 alike
    FieldType.TIMESTAMP: cel.Type.TIMESTAMP,
    FieldType.DURATION: cel.Type.DURATION,
    FieldType.LIST: cel.Type.List(cel.Type.DYN),
    FieldType.MAP: cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}
_FIELD = descriptor_pb2.FieldDescriptorProto
_COMMON = (struct_pb2, wrappers_pb2, timestamp_pb2, duration_pb2)


def _messages(names: Mapping[str, Kind]) -> tuple[Any, dict[str, Any]]:
    """A pool with a message type per record, ``record.<name>``, and the checker's type of every name."""
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="record", syntax="proto2")
    file.dependency.extend(module.DESCRIPTOR.name for module in _COMMON)
    types = {name: _declared(name, kind, file) for name, kind in names.items()}
    pool = descriptor_pool.DescriptorPool()
    for module in _COMMON:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool, types


def _declared(name: str, kind: Kind, file: Any) -> Any:
    if isinstance(kind, Row):
        message = cel.Type(_add_message(name, kind, file))
        return cel.Type.List(message) if kind.many else message
    if kind is None:
        return cel.Type.DYN
    declared = kind if isinstance(kind, Field) else Field(kind)
    if declared.nullable and declared.type in _WRAPPED:
        return cel.Type(f"google.protobuf.{_WRAPPED[declared.type]}")
    if declared.nullable and declared.type in (FieldType.LIST, FieldType.MAP):
        return cel.Type.DYN
    return _TYPES[declared.type]


def _add_message(name: str, row: Row, file: Any) -> str:
    message = descriptor_pb2.DescriptorProto(name=name)
    usable = (item for item in row.fields.items() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", item[0]))
    for number, (field_name, kind) in enumerate(usable, 1):
        added = message.field.add(name=field_name, number=number, label=_FIELD.LABEL_OPTIONAL)
        scalar, type_name = _field_type(f"{name}_{field_name}", kind, file)
        if isinstance(kind, Row) and kind.many:
            added.label = _FIELD.LABEL_REPEATED
        added.json_name = f"f{number}"  # the derived ones of order_id and orderId would collide
        added.type = scalar or _FIELD.TYPE_MESSAGE
        if type_name:
            added.type_name = type_name
    file.message_type.append(message)
    return f"record.{name}"


def _field_type(name: str, kind: Kind, file: Any) -> tuple[Any, str]:
    """A field's protobuf scalar type, or none and the name of its message type."""
    if isinstance(kind, Row):
        return None, "." + _add_message(name, kind, file)
    declared = _field(kind)
    match declared:
        case Field(FieldType.STRING):
            return (None, ".google.protobuf.StringValue") if declared.nullable else (_FIELD.TYPE_STRING, "")
        case Field(FieldType.BOOL):
            return (None, ".google.protobuf.BoolValue") if declared.nullable else (_FIELD.TYPE_BOOL, "")
        case Field(FieldType.TIMESTAMP):
            return None, ".google.protobuf.Timestamp"
        case Field(FieldType.DURATION):
            return None, ".google.protobuf.Duration"
        case Field(FieldType.LIST, nullable=False):
            return None, ".google.protobuf.ListValue"
        case Field(FieldType.MAP, nullable=False):
            return None, ".google.protobuf.Struct"
    return None, ".google.protobuf.Value"


# --- mistakes ----------------------------------------------------------------------------------------------------

_ERROR = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")


def _compile_errors(message: str, source: _Source, names: Mapping[str, Kind]) -> Iterator[Mistake]:
    """CEL's errors with places in the file and in a reader's words; of syntax errors the first alone is true."""
    found = _ERROR.findall(message)
    if not found:
        text = re.sub(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$", "", next(iter(message.splitlines()), "it is empty"))
        yield Mistake.at(source.at(0), f"not an expression: {text}")
    syntax = [error for error in found if "Syntax error" in error[2]]
    first_hand = [error for error in found if "'*error*'" not in error[2]]  # the others follow from these
    for line, column, text in syntax[:1] or first_hand or found:
        index = _index(source, int(line), int(column))
        yield Mistake.at(source.at(index), _worded(text.removesuffix(" [INVALID_ARGUMENT]"), names))


def _index(source: _Source, line: int, column: int) -> int:
    lines = source.text[source.start :].split("\n")
    return sum(len(each) + 1 for each in lines[: max(line, 1) - 1]) + max(column, 1) - 1


def _worded(text: str, names: Mapping[str, Kind]) -> str:
    if match := re.match(r"undeclared reference to '([^']*)'", text):
        hint = near(match[1], names, listed=False) or near(match[1], _FUNCTIONS.split(), listed=False)
        return f'unknown name "{match[1]}"{hint}'
    if match := re.match(r"undefined field '([^']*)' not found in struct 'record\.([^']*)'", text):
        row = names.get(match[2])
        known = row.fields if isinstance(row, Row) else ()
        return f'"{match[2]}" has no field "{match[1]}"{near(match[1], known)}'
    if match := re.match(r"found no matching overload for '([^']*)' applied to '\((.*)\)'", text):
        return _no_overload(match[1], match[2])
    if match := re.match(r"reserved identifier: (\w+)", text):
        return f'"{match[1]}" is a reserved word of CEL; use another name'
    if "Syntax error" in text:
        problem = re.sub(r" expecting .*", "", text.removeprefix("Syntax error: "))
        return f"not a CEL expression: {problem}; CEL writes == != && || ! in, and texts in quotes"
    return text


_FUNCTIONS = """
    size matches startsWith endsWith contains has exists all exists_one map filter duration timestamp string int double
    cause_of join split trim substring replace indexOf lowerAscii upperAscii format charAt reverse
"""


def _no_overload(function: str, types: str) -> str:
    shown = function.strip("_@").replace("_", " ") if function not in ("_[_]", "_?_:_") else function.replace("_", "")
    spoken = ", ".join(map(_spoken, _arguments(types)))
    message = f'"{shown}" does not fit ({spoken})'
    if "string" in types and "int" in types:
        return f"{message}; identifiers are texts, so put the number in quotes"
    if "null_type" in types and "list(" in types:
        return f"{message}; a list is never null, test its size(…)"
    if re.search(r"(^|, )record\.", types) and function in ("size", "@in"):
        return f"{message}; it takes a list, and a lookup gives one with `many: true`"
    if "record." in types or function == "_[_]":
        return f"{message}; name a field of the record"
    return message


def _arguments(types: str) -> list[str]:
    """``list(a, b), c`` split at its outer commas."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _spoken(type: str) -> str:
    if type.startswith("record."):
        return f"the record {type.removeprefix('record.')}"
    if match := re.fullmatch(r"wrapper\((\w+)\)", type):
        return f"{match[1]}|null"
    if match := re.fullmatch(r"list\(record\.(\w+)\)", type):
        return f"the records {match[1]}"
    return _SPOKEN.get(type, type.removeprefix("google.protobuf.").lower())


_SPOKEN = {
    "dyn": "of a type that is not known here; compare it",
    "null_type": "null",
    "int": "number",
    "double": "number",
}


_PROBES = {
    "matches": '"".matches(p)',
    "duration": "duration(p)",
    "timestamp": "timestamp(p)",
}


def _constant_mistakes(program: Program) -> Iterator[Mistake]:
    """Patterns, durations and times that are written out are tried now rather than for the first record at night."""
    for node in tree.walk(program.checked.root):
        if not isinstance(node, tree.Call) or node.function not in _PROBES:
            continue
        last = node.args[-1]
        if node.function == "matches" and not (isinstance(last, tree.Literal) and isinstance(last.value, str)):
            yield Mistake.at(program.place_of(last), "a pattern for matches() must be written out as text in quotes")
        if isinstance(last, tree.Literal) and isinstance(last.value, str):
            error = _probe(node.function, last.value)
            if error:
                yield Mistake.at(program.place_of(last), error)


@cache
def _probe(function: str, text: str) -> str | None:
    environment = cel.NewEnv(variables={"p": cel.Type.STRING})
    result = environment.compile(_PROBES[function]).eval(data={"p": text})
    if result.type() != cel.Type.ERROR:
        return None
    if function == "duration":
        return f'duration("{text}") is none that CEL knows{_in_hours(text)}'
    if function == "timestamp":
        return f'timestamp("{text}") is no time; write it as "2026-11-23T09:00:00Z"'
    return "pattern does not compile: " + re.sub(r"^[A-Z_]+: (invalid regular expression: )?", "", str(result.value()))


def _in_hours(text: str) -> str:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        return '; write it as "90s", "5m" or "72h"'
    return f'; its largest unit is the hour: "{seconds / 3600:g}h"'
