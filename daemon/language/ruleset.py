"""Files of rules → all rules that run, or all mistakes of all files at once; and what ``rules schema`` and ``show`` print.

A file goes through: text → values with places → one per entry of its ``matrix`` → defaults and overrides of this
installation → form (pydantic) → meaning (``compile``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from daemon.domain.rule import Rule
from daemon.domain.value import Place
from daemon.language.compile import Compiled, Member, compile_rule
from daemon.language.document import Defaults, Override, RuleDocument
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import Loaded, Node, Scalar, Tree, load, near, validate
from daemon.language.vocabulary import CauseOf, Vocabulary, classifier
from daemon.settings import Settings, format_duration


@dataclass(frozen=True)
class Ruleset:
    """All rules, sorted by name, and what is doubtful about them."""

    rules: tuple[Rule, ...]
    warnings: tuple[Mistake, ...] = ()
    _expanded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def find(self, name: str) -> Rule | None:
        """The rule of this name."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def show(self, name: str) -> str:
        """The rule as it runs, as YAML: matrix, defaults and overrides filled in. Raises KeyError with the near name."""
        rule = self.find(name)
        if rule is None:
            raise KeyError(f'no rule "{name}"{near(name, (rule.name for rule in self.rules))}')
        text = yaml.dump(self._expanded[name], Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120, default_flow_style=False)
        return f"# {rule.place.file}:{rule.place.line}  digest {rule.digest}\n{text}"


def load_rules(paths: Iterable[FilePath | str], vocabulary: Vocabulary) -> Ruleset:
    """The rules of files and folders (``*.yaml``, ``*.yml``). Raises ``Mistakes`` with all mistakes of all files."""
    mistakes = list(_installation_mistakes(vocabulary))
    if mistakes:  # said once, not again for every file
        vocabulary = replace(vocabulary, defaults={}, overrides={})
    try:
        cause_of = classifier(vocabulary.causes)
    except Mistakes as error:
        mistakes.extend(error.mistakes)
        cause_of = classifier(())
    compiled: list[Compiled] = []
    for text, name in _files(paths, mistakes):
        found, wrong = _read(text, name, vocabulary, cause_of)
        compiled.extend(found)
        mistakes.extend(wrong)
    mistakes.extend(_taken_twice(compiled))
    mistakes.extend(_overrides_of_nothing(vocabulary, [each.rule.name for each in compiled], known=not mistakes))
    if mistakes:
        raise Mistakes(mistakes)
    compiled.sort(key=lambda each: each.rule.name)
    return Ruleset(
        tuple(each.rule for each in compiled),
        tuple(sorted({warning for each in compiled for warning in each.warnings})),
        {each.rule.name: each.expanded for each in compiled},
    )


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a rule file, a description at every key, for editors."""
    found = RuleDocument.model_json_schema(schema_generator=_Schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **_without_titles(found), "title": "orderheal rule"}


# --- files -------------------------------------------------------------------------------------------------------


def _files(paths: Iterable[FilePath | str], mistakes: list[Mistake]) -> Iterator[tuple[str, str]]:
    for path in map(FilePath, paths):
        found = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        if not found:
            mistakes.append(Mistake(str(path), 1, 1, "no *.yaml in this folder, so there is no rule"))
        for file in found:
            try:
                if file.exists() and not (file.is_file() or file.is_dir()):  # reading a pipe would wait for ever
                    raise OSError(0, "this is no file")
                yield file.read_text(encoding="utf-8"), str(file)
            except UnicodeDecodeError as error:
                mistakes.append(Mistake(str(file), 1, 1, f"byte {error.start} is not UTF-8"))
            except OSError as error:
                mistakes.append(Mistake(str(file), 1, 1, f"cannot be read: {error.strerror}"))


def _read(text: str, file: str, vocabulary: Vocabulary, cause_of: CauseOf) -> tuple[list[Compiled], list[Mistake]]:
    loaded = load(text, file)
    if loaded.mistakes:
        return [], list(loaded.mistakes)
    members, mistakes = _members(loaded)
    if mistakes:
        return [], mistakes
    compiled: list[Compiled] = []
    wrong: list[tuple[str, Sequence[Mistake]]] = []
    for member in members:
        try:
            compiled.append(_compile(member, vocabulary, cause_of))
        except Mistakes as error:
            wrong.append((member.name, error.mistakes))
    return compiled, list(_folded(wrong, len(members)))


def _compile(member: Member, vocabulary: Vocabulary, cause_of: CauseOf) -> Compiled:
    tree = _effective(member.loaded.tree, member.name, vocabulary)
    document, mistakes = validate(RuleDocument, tree, member.loaded)
    if document is None:
        raise Mistakes(mistakes)
    return compile_rule(member, document, vocabulary, cause_of)


def _folded(wrong: Sequence[tuple[str, Sequence[Mistake]]], members: int) -> Iterator[Mistake]:
    """What is wrong with every member of a family is said once, what is wrong with some names them."""
    whose: dict[Mistake, list[str]] = {}
    for name, mistakes in wrong:
        for mistake in mistakes:
            whose.setdefault(mistake, []).append(name)
    for mistake, names in whose.items():
        suffix = f" ({', '.join(names)})" if len(names) < members else ""
        yield replace(mistake, message=mistake.message + suffix)


def _taken_twice(compiled: Sequence[Compiled]) -> Iterator[Mistake]:
    first: dict[str, Place] = {}
    for rule in (each.rule for each in compiled):
        if rule.name in first:
            yield Mistake.at(rule.place, f'a second rule called "{rule.name}"; the first is at {first[rule.name]}')
        first.setdefault(rule.name, rule.place)


# --- the matrix --------------------------------------------------------------------------------------------------

_WORD = re.compile(r"(?<!\$)\$\{\s*matrix\.([A-Za-z_][A-Za-z0-9_]*)\s*\}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _members(loaded: Loaded) -> tuple[list[Member], list[Mistake]]:
    """The rules of a file: one, or one per entry of the matrix with its words filled in."""
    tree = loaded.tree
    matrix = tree.get("matrix") if isinstance(tree, dict) else None
    if matrix is None:
        name = tree.get("name") if isinstance(tree, dict) else None
        filled, mistakes = _filled(loaded, None)
        return [Member(str(name), loaded.place(("name",)), filled, {})], mistakes
    mistakes = list(_matrix_mistakes(matrix, loaded))
    if mistakes:
        return [], mistakes
    members = []
    for at, words in enumerate(matrix):
        filled, wrong = _filled(loaded, words)
        mistakes.extend(wrong)
        members.append(Member(words["name"], loaded.place(("matrix", at, "name")), filled, words))
    return members, list(dict.fromkeys(mistakes))


def _matrix_mistakes(matrix: Tree, loaded: Loaded) -> Iterator[Mistake]:
    if not isinstance(matrix, list) or not matrix:
        yield loaded.mistake(("matrix",), "matrix: must be a list of maps, one per rule")
        return
    for at, words in enumerate(matrix):
        path = ("matrix", at)
        if not isinstance(words, dict):
            yield loaded.mistake(path, "matrix: must be a map of words, with a `name`")
            continue
        if "name" not in words:
            yield loaded.mistake(path, 'matrix: missing key "name"')
        elif not isinstance(words["name"], str) or not _NAME.fullmatch(words["name"]):
            message = "name: must be literal: small Latin letters, digits and -, at most 63"
            yield loaded.mistake((*path, "name"), message)
        for key, value in words.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                yield Mistake.at(loaded.key_place((*path, key)), f'"{key}" cannot be read as ${{matrix.{key}}}')
            elif value is None or isinstance(value, list | dict):
                yield loaded.mistake((*path, key), f"{key}: must be one word: a text, a number, true or false")


def _filled(loaded: Loaded, words: Mapping[str, Scalar] | None) -> tuple[Loaded, list[Mistake]]:
    """The file with each ``${matrix.x}`` replaced; a value that is only that keeps the word's type."""
    mistakes: list[Mistake] = []

    def word(name: str, place: Place) -> Scalar:
        if words is None:
            mistakes.append(Mistake.at(place, f"${{matrix.{name}}}: this rule has no matrix"))
        elif name not in words:
            whose = f" of {words['name']}"
            mistakes.append(Mistake.at(place, f'the matrix entry{whose} has no "{name}"{near(name, words)}'))
        else:
            return words[name]
        return ""

    def fill(value: Scalar, place: Place) -> Scalar:
        if not isinstance(value, str):
            return value
        if whole := _WORD.fullmatch(value):
            return word(whole[1], place)
        return _WORD.sub(lambda match: _as_text(word(match[1], place)), value)

    return replace(loaded, root=_outside_matrix(loaded.root, fill)), mistakes


def _outside_matrix(root: Node, fill: Any) -> Node:
    if not isinstance(root.content, Mapping):
        return root
    content = {key: (place, node if key == "matrix" else node.mapped(fill)) for key, (place, node) in root.content.items()}
    return Node(root.place, content)


def _as_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- what the installation wants ---------------------------------------------------------------------------------

_NOWHERE = Place("config.yaml", 1, 1)


def _effective(tree: Tree, name: str, vocabulary: Vocabulary) -> Tree:
    """The file with defaults under it and the overrides of this rule over it; the guard key by key."""
    if not isinstance(tree, dict):
        return tree
    defaults, override = _said(vocabulary.defaults), _said(vocabulary.overrides.get(name, {}))
    if not isinstance(tree.get("guard", {}), dict):
        return tree
    guard = _said(defaults.get("guard", {})) | tree.get("guard", {}) | _said(override.get("guard", {}))
    return {**defaults, **tree, **override, "guard": guard}


def _said(partial: Mapping[str, Any]) -> dict[str, Any]:
    """What is said at all: a null in a configuration says nothing."""
    return {key: value for key, value in partial.items() if value is not None}


def _installation_mistakes(vocabulary: Vocabulary) -> Iterator[Mistake]:
    """Defaults and overrides that would be mistakes of every file they touch are mistakes of the configuration."""
    yield from _partial_mistakes(Defaults, "rules.defaults", vocabulary.defaults, _NOWHERE)
    for name, override in vocabulary.overrides.items():
        place = vocabulary.override_places.get(name, _NOWHERE)
        yield from _partial_mistakes(Override, f"rules.overrides.{name}", override, place)


def _partial_mistakes(model: type[Settings], name: str, partial: Mapping[str, Any], place: Place) -> Iterator[Mistake]:
    _, mistakes = validate(model, dict(partial), Loaded(_node(partial, place)))
    yield from (replace(mistake, message=f"{name}: {mistake.message}") for mistake in mistakes)


def _node(value: Any, place: Place) -> Node:
    """A value of the configuration as if it all stood at one place."""
    if isinstance(value, Mapping):
        return Node(place, {key: (place, _node(each, place)) for key, each in value.items()})
    return Node(place, value)


def _overrides_of_nothing(vocabulary: Vocabulary, names: Sequence[str], known: bool) -> Iterator[Mistake]:
    """Overrides of a rule that no file has; not asked while rules are missing because of other mistakes."""
    for name in vocabulary.overrides if known else ():
        if name not in names:
            place = vocabulary.override_places.get(name, _NOWHERE)
            yield Mistake.at(place, f'rules.overrides: no rule is called "{name}"{near(name, names)}')


# --- printing ----------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read best."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


class _Schema(GenerateJsonSchema):
    """Defaults as they would be written."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, Settings):
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if isinstance(dft, list):
            return [self.encode_default(item) for item in dft]
        return super().encode_default(dft)


def _without_titles(schema: Any) -> Any:
    """Generated titles only repeat the keys; a property called ``title`` is no title."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_titles(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
