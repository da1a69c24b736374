"""YAML text → plain values that remember where they stood, so that every mistake can name file, line and column.

One reader for rules and ``config.yaml``. PyYAML's events are read with the core schema of YAML 1.2 (no ``off`` for
false, no ``18:00`` for 1080); aliases, tags, duplicate keys and oversized files are refused. Where YAML itself is the
trap (``match: !(x)``, ``a ? b : c``) the mistake carries the mended line. ``validate`` turns pydantic's errors into
mistakes with places.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Final, TypeAlias, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from daemon.domain.value import Place
from daemon.language.mistake import Mistake, Mistakes

Scalar: TypeAlias = bool | int | float | str | None
Tree: TypeAlias = Any
"""``Scalar``, list of ``Tree`` or dict of text to ``Tree``."""
Path: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place. The place of a text is where its first character stands, behind a quote or a ``|``."""

    place: Place
    content: Scalar | tuple[Node, ...] | Mapping[str, tuple[Place, Node]]

    def child(self, part: str | int) -> Node | None:
        """The value under a key or index, if there is one."""
        if isinstance(self.content, Mapping):
            found = self.content.get(part) if isinstance(part, str) else None
            return found[1] if found else None
        if isinstance(self.content, tuple) and isinstance(part, int) and part < len(self.content):
            return self.content[part]
        return None

    def tree(self) -> Tree:
        """As plain values."""
        if isinstance(self.content, Mapping):
            return {key: node.tree() for key, (_, node) in self.content.items()}
        if isinstance(self.content, tuple):
            return [node.tree() for node in self.content]
        return self.content

    def merged(self, over: Node) -> Node:
        """``over`` laid on this: maps merged, everything else replaced, each value with the place it came from."""
        if not (isinstance(self.content, Mapping) and isinstance(over.content, Mapping)):
            return over
        content = dict(self.content)
        for key, (place, node) in over.content.items():
            content[key] = (place, content[key][1].merged(node) if key in content else node)
        return Node(over.place, content)

    def mapped(self, change: Callable[[Scalar, Place], Scalar]) -> Node:
        """The same with every scalar changed; keys stay."""
        if isinstance(self.content, Mapping):
            return Node(self.place, {key: (place, node.mapped(change)) for key, (place, node) in self.content.items()})
        if isinstance(self.content, tuple):
            return Node(self.place, tuple(node.mapped(change) for node in self.content))
        return Node(self.place, change(self.content, self.place))


@dataclass(frozen=True)
class Loaded:
    """A file (or several merged ones) as values with places, and what could not be read."""

    root: Node
    mistakes: tuple[Mistake, ...] = ()
    file: str = field(default="", compare=False)

    @cached_property
    def tree(self) -> Tree:
        """As plain dict, list and scalars; an empty file is an empty map."""
        return self.root.tree()

    def node(self, path: Path) -> Node | None:
        """The value at a path, if it is there."""
        node: Node | None = self.root
        for part in path:
            node = node.child(part) if node else None
        return node

    def place(self, path: Path) -> Place:
        """Where the value at a path stands; of a missing one, where it would have to be added: its nearest parent."""
        node = self.node(path)
        if node:
            return node.place
        return self.key_place(path[:-1]) if path else self.root.place

    def key_place(self, path: Path) -> Place:
        """Where the key of the value at a path stands; of a list's item, the item itself."""
        if not path:
            return self.root.place
        parent = self.node(path[:-1])
        if parent and isinstance(parent.content, Mapping) and path[-1] in parent.content:
            return parent.content[str(path[-1])][0]
        return self.place(path)

    def mistake(self, path: Path, message: str) -> Mistake:
        """A mistake in the value at a path."""
        return Mistake.at(self.place(path), message)

    def mapped(self, change: Callable[[Scalar, Place], Scalar]) -> Loaded:
        """The same with every scalar changed, places kept."""
        return replace(self, root=self.root.mapped(change))

    def raise_for_mistakes(self) -> Loaded:
        """Itself. Raises ``Mistakes`` if it could not be read whole."""
        if self.mistakes:
            raise Mistakes(self.mistakes)
        return self


def merge(first: Loaded, second: Loaded) -> Loaded:
    """``second`` laid over ``first``: maps merged, lists replaced, places kept."""
    return Loaded(first.root.merged(second.root), first.mistakes + second.mistakes, second.file)


def load(text: str, file: str) -> Loaded:
    """Read YAML text. Never raises: what is wrong is in ``mistakes``, and the tree then holds what could be read."""
    start = Place(file, 1, 1)
    if len(text) > MAX_CHARACTERS:
        return Loaded(Node(start, {}), (Mistake.at(start, f"file is longer than {MAX_CHARACTERS} characters"),), file)
    reader = _Reader(text, file)
    try:
        root = reader.document()
    except yaml.MarkedYAMLError as error:
        return Loaded(Node(start, {}), (*reader.mistakes, _syntax(error, text, file)), file)
    except yaml.reader.ReaderError as error:
        place = _place_of_index(text, error.position, file)
        return Loaded(Node(start, {}), (Mistake.at(place, f"character {error.character!r} is not allowed"),), file)
    except _TooMuch as error:
        return Loaded(Node(start, {}), (Mistake.at(error.place, str(error)),), file)
    except (ValueError, OverflowError):  # PyYAML lets a few of Python's own through, such as chr() of "\UFFFFFFFF"
        return Loaded(Node(start, {}), (Mistake.at(start, "this is no YAML that could be read"),), file)
    return Loaded(root, tuple(reader.mistakes), file)


# --- reading -----------------------------------------------------------------------------------------------------


class _TooMuch(Exception):
    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


class _Reader:
    """PyYAML's events into nodes. Events rather than its composer, whose recursion a deep file would overflow."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._lines, self._file = text, text.splitlines(), file
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._nodes = 0
        self.mistakes: list[Mistake] = []

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root:
                    raise _TooMuch(self._at(event), "a second document; a file holds one")
                root = self._node(next(self._events), 0)
        if root is None or root.content is None:
            return Node(Place(self._file, 1, 1), {})
        return root

    def _at(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any, depth: int) -> Node:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise _TooMuch(self._at(event), f"nested deeper than {MAX_DEPTH}")
        if self._nodes > MAX_NODES:
            raise _TooMuch(self._at(event), f"more than {MAX_NODES} values in a file")
        if isinstance(event, yaml.AliasEvent):
            return self._refused(event, "aliases (*) are not supported; write the value out, or quote it if it is text")
        if event.anchor is not None:
            self._refused(event, "anchors (&) are not supported; quote the value if it is text")
        if event.tag is not None:
            self._refused(event, "a value that begins with ! is a tag in YAML; quote it")
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._at(event), tuple(self._items(depth)))
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._at(event), self._pairs(depth))
        return self._scalar(event)

    def _refused(self, event: Any, message: str) -> Node:
        place = self._at(event)
        self.mistakes.append(Mistake.at(place, message + _mended(self._lines, [event.start_mark.line])))
        return Node(place, None)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> dict[str, tuple[Place, Node]]:
        pairs: dict[str, tuple[Place, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            place, key = self._at(event), self._key(event, depth)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key in pairs:
                self.mistakes.append(Mistake.at(place, f'duplicate key "{key}", first at line {pairs[key][0].line}'))
                continue
            pairs[key] = (place, value)
        return pairs

    def _key(self, event: Any, depth: int) -> str | None:
        if isinstance(event, yaml.ScalarEvent) and event.tag is None and event.anchor is None:
            return str(event.value)
        self._node(event, depth + 1)
        self._refused(event, "a key must be plain text; if this is a value with a hole, quote it")
        return None

    def _scalar(self, event: Any) -> Node:
        place = self._at(event)
        if event.style is None:
            return Node(place, resolve(event.value))
        if event.style in "|>":
            return Node(self._first_line(event) or place, event.value)
        return Node(replace(place, column=place.column + 1), event.value)

    def _first_line(self, event: Any) -> Place | None:
        """Where a block text's first character stands: an error inside it is then an offset from there."""
        for number in range(event.start_mark.line + 1, min(event.end_mark.line + 1, len(self._lines))):
            line = self._lines[number]
            if line.strip():
                return Place(self._file, number + 1, len(line) - len(line.lstrip()) + 1)
        return None


_INT = re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def resolve(text: str) -> Scalar:
    """A plain scalar's value by the core schema of YAML 1.2 (section 10.3.2 of its specification)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


# --- syntax errors, and the line that would be right -------------------------------------------------------------


_IN_WORDS: Final = {
    "character '\\t' that cannot start": "a tab; YAML wants spaces here",
    "expected <block end>": "this does not fit here; look at its indentation and at the quotes before it",
}
"""What the parser says of its own states → what the writer has to look for."""


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Mistake:
    marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
    place = Place(file, marks[0].line + 1, marks[0].column + 1) if marks else Place(file, 1, 1)
    numbers = dict.fromkeys(line for mark in marks for line in (mark.line, mark.line - 1))
    problem = " ".join((error.problem or error.context or "this is no YAML").split())
    problem = next((words for said, words in _IN_WORDS.items() if said in problem), problem)
    return Mistake.at(place, problem + _mended(text.splitlines(), numbers))


def _mended(lines: Sequence[str], numbers: Iterable[int]) -> str:
    """`` — write: match: "!(x)"`` for the first of these lines that quotes would mend, else nothing."""
    for number in numbers:
        if 0 <= number < len(lines) and (mended := mend(lines[number])):
            return f" — write: {mended}"
    return ""


_LINE = re.compile(r"""\s*((?:-\s+)*)((?:[\w.$-]+|"[^"]*"|'[^']*')\s*:\s+)?(.*?)\s*""")


def mend(line: str) -> str | None:
    """The line with quotes where they were missing; ``None`` if it is right as it is or quotes do not help."""
    match = _LINE.fullmatch(line)
    if not match or not (match[1] or match[2]) or _stands(line.strip()):
        return None
    start, value = match[1] + (match[2] or ""), match[3]
    bare = re.sub(r"\s+#.*", "", value)
    candidates = [_flow_quoted(value)] if value[:1] in "{[" else []
    if value[:1] not in "{[" or (set(bare) & {"}", "]"} and bare[-1:] not in "}]"):
        candidates += [quote(bare), quote(value)]
    return next((start + each for each in candidates if each != value and _stands(start + each)), None)


def quote(text: str) -> str:
    """A text as a YAML scalar in quotes, double ones where that needs no escapes."""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


_FLOW_VALUE = re.compile(
    r"""'[^']*'|"[^"]*"                                 # what has quotes keeps them
    |(?<=[:,\[{])(?P<space>\s*)(?P<bare>(?:
        (?:(?!:\s)[^"'{}\[\],])*\$\{[^{}]*\}(?:\$\{[^{}]*\}|(?!:\s)[^"'{}\[\],])*     # a text with holes
        |(?:(?!:\s)[^"'{}\[\],])+\?(?:\s[^"'{}\[\],]*)?                               # string?  or  a ? b : c
    ))""",
    re.VERBOSE,
)


def _flow_quoted(text: str) -> str:
    """A flow collection with quotes around the values that have holes or question marks."""
    return _FLOW_VALUE.sub(lambda m: m[0] if m["bare"] is None else m["space"] + quote(m["bare"].rstrip()), text)


def _stands(line: str) -> bool:
    """Whether this line alone is YAML without tags and aliases."""
    try:
        return not any(
            isinstance(event, yaml.AliasEvent)
            or getattr(event, "anchor", None) is not None
            or (isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None) is not None)
            for event in yaml.parse(line, Loader=yaml.SafeLoader)
        )
    except (yaml.YAMLError, ValueError, OverflowError):
        return False


def _place_of_index(text: str, index: int, file: str) -> Place:
    before = text[:index]
    return Place(file, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


# --- pydantic's errors as mistakes -------------------------------------------------------------------------------


def validate(model: type[M], tree: Tree, loaded: Loaded, path: Path = ()) -> tuple[M | None, list[Mistake]]:
    """The tree at ``path`` as a model, or all that is wrong with it.

    ``tree`` may differ from what ``loaded`` holds there (secrets filled in): messages show only what ``loaded`` holds.
    """
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        found = [_Found.of(details, loaded, path) for details in error.errors(include_url=False)]
        return None, list(dict.fromkeys(_mistakes(model, found, loaded, path)))


@dataclass(frozen=True, slots=True)
class _Found:
    """One of pydantic's errors with the path in the file: ``loc`` without the union tags, which are in no file."""

    path: Path
    details: ErrorDetails

    @classmethod
    def of(cls, details: ErrorDetails, loaded: Loaded, path: Path) -> _Found:
        loc = details["loc"]
        for position, part in enumerate(loc):
            last = position == len(loc) - 1
            if loaded.node((*path, part)) or (last and details["type"] in ("missing", "extra_forbidden")):
                path = (*path, part)
        return cls(path, details)

    @property
    def expects(self) -> str | None:
        """What type would be right, if a wrong type is the error."""
        return _EXPECTS.get(self.details["type"])


def _mistakes(model: type[BaseModel], found: Sequence[_Found], loaded: Loaded, base: Path) -> Iterator[Mistake]:
    paths = [each.path for each in found]
    for each in found:
        deeper = any(len(path) > len(each.path) and path[: len(each.path)] == each.path for path in paths)
        if each.expects and deeper:
            continue  # another arm of the union fits better and has its own errors
        if each.expects:
            arms = dict.fromkeys(other.expects for other in found if other.path == each.path and other.expects)
            wanted = " or ".join(arm for arm in arms if arm)
            yield loaded.mistake(each.path, _must(each.path, f"must be {wanted}") + _got(loaded, each.path))
            continue
        yield _mistake(model, each, loaded, base)


def _mistake(model: type[BaseModel], found: _Found, loaded: Loaded, base: Path) -> Mistake:
    details, path = found.details, found.path
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return Mistake.at(loaded.key_place(path[:-1]), f'missing key "{path[-1]}"{_under(path[:-1])}')
        case "extra_forbidden":
            known = _keys_at(model, path[len(base) : -1])
            return Mistake.at(loaded.key_place(path), f'unknown key "{path[-1]}"{near(str(path[-1]), known)}')
        case "literal_error" | "enum":
            expected = str(context["expected"])
            value = loaded.node(path)
            hint = near(str(value.content), re.findall(r"'([^']*)'", expected), listed=False) if value else ""
            return loaded.mistake(path, _must(path, f"must be {expected}") + _got(loaded, path) + hint)
        case kind if kind in _LIMITS:
            return loaded.mistake(path, _must(path, _LIMITS[kind].format(**context)) + _got(loaded, path))
        case "value_error":
            return loaded.mistake(path, f"{_named(path)}{context['error']}")
    return loaded.mistake(path, f"{_named(path)}{details['msg']}")


_EXPECTS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "mapping_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "none_required": "null",
}
_LIMITS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must match {pattern}",
    "finite_number": "must be a finite number",
}


def _named(path: Path) -> str:
    keys = [part for part in path if isinstance(part, str)]
    return f"{keys[-1]}: " if keys else ""


def _must(path: Path, message: str) -> str:
    return _named(path) + message


def _under(path: Path) -> str:
    keys = [part for part in path if isinstance(part, str)]
    return f' in "{keys[-1]}"' if keys else ""


def _got(loaded: Loaded, path: Path) -> str:
    node = loaded.node(path)
    if node is None:
        return ""
    match node.content:
        case None:
            return ", not null"
        case bool():
            return f", not {str(node.content).lower()}"
        case str():
            return f', not "{node.content[:60]}"'
        case int() | float():
            return f", not {node.content}"
        case tuple():
            return ", not a list"
    return ", not a map"


def near(word: str, known: Iterable[str], listed: bool = True) -> str:
    """``, did you mean "attempts"?``; else, if ``listed``, ``; known: …``, at most thirty."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1) or [name for name in names if name.lower() == word.lower()]
    if close:
        return f', did you mean "{close[0]}"?'
    return f"; known: {', '.join(names[:30])}" if names and listed else ""


def _keys_at(model: type[BaseModel], path: Path) -> set[str]:
    """The keys that any model standing at a path of the file knows."""
    at = list(_arms(model))
    for part in path:
        at = [arm for each in at for arm in _step(each, part)]
    return {
        info.alias or name
        for each in at
        if isinstance(each, type) and issubclass(each, BaseModel)
        for name, info in each.model_fields.items()
    }


def _step(kind: Any, part: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if part == (info.alias or name):
                yield from _arms(info.annotation)
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if not isinstance(origin, type) or not arguments:
        return
    if issubclass(origin, Sequence if isinstance(part, int) else Mapping):
        yield from _arms(arguments[-1] if arguments[-1] is not Ellipsis else arguments[0])


def _arms(kind: Any) -> Iterator[Any]:
    """The alternatives of a type, annotations taken off."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _arms(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for arm in get_args(kind):
            yield from _arms(arm)
    else:
        yield kind
