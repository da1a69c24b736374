"""One rule as written and checked for its form → the frozen ``Rule`` that runs, or all that is wrong with it.

Names are resolved against the vocabulary, every text is compiled, and ``lint`` looks at what CEL cannot know. A mistake
does not stop the reading: a stand-in takes the place of what is wrong, so that one run finds all mistakes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from daemon.domain.rule import (
    Backoff,
    CardForm,
    Cause,
    Clause,
    Delivery,
    Detect,
    Diagnose,
    Expr,
    GroupBy,
    Guard,
    Level,
    Lookup,
    Mode,
    MoneyAt,
    ResolveOn,
    Rule,
    Severity,
    Step,
    TableForm,
    Text,
)
from daemon.domain.shape import Call, Field, FieldType, Records
from daemon.domain.value import Place, Value
from daemon.language import lint
from daemon.language.cel import Computed, Constant, Environment, Kind, Program, Row, Words
from daemon.language.document import (
    AttachmentDocument,
    BackoffDocument,
    Condition,
    Conditions,
    FollowUpDocument,
    LevelDocument,
    LookupDocument,
    Lookups,
    RuleDocument,
    StepDocument,
)
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import Loaded, Path, Tree, near
from daemon.language.sqltext import faults
from daemon.language.vocabulary import OTHER, UNDIAGNOSED, CauseOf, Vocabulary
from daemon.settings import format_duration, parse_duration

FIRST_BEFORE_DEADLINE = timedelta(hours=2)
"""How long before its deadline a person is told by the first level that says nothing else (law 22)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A rule of a file: its name, where that stands, the file with its words filled in, and those words."""

    name: str
    place: Place
    loaded: Loaded
    words: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule that runs, the same as one reads it, and what is doubtful but no mistake."""

    rule: Rule
    expanded: Mapping[str, Any]
    warnings: tuple[Mistake, ...]


def compile_rule(member: Member, document: RuleDocument, vocabulary: Vocabulary, cause_of: CauseOf) -> Compiled:
    """The rule of a file that has the right form. Raises ``Mistakes`` with all that is wrong with it."""
    compiler = _Compiler(member, document, vocabulary, cause_of)
    compiled = compiler.compiled()
    if compiler.mistakes:
        raise Mistakes(compiler.mistakes)
    return compiled


class _Compiler:
    """Reads one document from top to bottom, collecting mistakes and warnings."""

    def __init__(self, member: Member, document: RuleDocument, vocabulary: Vocabulary, cause_of: CauseOf) -> None:
        self._member, self._document, self._vocabulary = member, document, vocabulary
        self._loaded = member.loaded
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._source = self._records(document.detect.from_, ("detect", "from"))
        kinds = self._kinds()
        self._names = lint.names_of(kinds)
        self._moments = _Moments(document, self._source)
        self._words = self._known_words()
        self._environment = Environment(kinds, cause_of, {"matrix": dict(member.words)} if member.words else None)
        self._ids: dict[str, Path] = {}

    def compiled(self) -> Compiled:
        """The whole rule."""
        document = self._document
        ladder = tuple(self._step(step, ("remediate", at)) for at, step in enumerate(document.remediate))
        follow_ups = tuple(self._follow_up(step, ("on_resolved", at)) for at, step in enumerate(document.on_resolved))
        levels = self._levels()
        detect, diagnose = self._detect(), self._diagnose()
        expanded = _expanded(self._member.name, document, ladder, levels, follow_ups)
        rule = Rule(
            name=self._member.name,
            digest=_digest(expanded, self._vocabulary),
            title=self._title(),
            owner=self._contact(document.owner, ("owner",)),
            runbook=document.runbook,
            detect=detect,
            place=self._member.place,
            severity=Severity(document.severity),
            mode=Mode(document.mode),
            every=document.every,
            diagnose=diagnose,
            ladder=ladder,
            escalate=levels,
            on_resolved=follow_ups,
            resolve_on=ResolveOn(document.resolve_on),
            guard=Guard(**dict(document.guard)),
        )
        self._warn(rule)
        return Compiled(rule, expanded, tuple(self.warnings))

    # --- names ---------------------------------------------------------------------------------------------------

    def _no(self, path: Path, message: str) -> None:
        self.mistakes.append(self._loaded.mistake(path, message))

    def _records(self, text: str, path: Path) -> Records | None:
        connector, _, name = text.partition(".")
        shape = self._vocabulary.shapes.get(connector)
        if shape is None:
            self._no(path, f'unknown connector "{connector}"{near(connector, self._vocabulary.shapes)}')
        elif name not in shape.records:
            self._no(path, f'"{connector}" has no records "{name}"{near(name, shape.records)}')
        return shape.records.get(name) if shape else None

    def _call(self, text: str, path: Path) -> Call | None:
        connector, _, name = text.partition(".")
        shape = self._vocabulary.shapes.get(connector)
        if shape is None:
            self._no(path, f'unknown connector "{connector}"{near(connector, self._vocabulary.shapes)}')
        elif name not in shape.calls:
            self._no(path, f'"{connector}" has no call "{name}"{near(name, shape.calls)}')
        return shape.calls.get(name) if shape else None

    def _contact(self, name: str, path: Path) -> str:
        if name not in self._vocabulary.contacts:
            self._no(path, f'unknown contact "{name}"{near(name, self._vocabulary.contacts)}')
        return name

    def _kinds(self) -> dict[str, Kind]:
        """Everything an expression of this rule may name at some moment, with its type."""
        fields = dict(self._source.fields) if self._source else {}
        kinds: dict[str, Kind] = {name: kind for name, kind in fields.items() if not lint.reserved(name)}
        for path, lookups in _lookups_of(self._document):
            for name, lookup in lookups.items():
                self._lookup_name(name, (*path, name), kinds)
                asked = self._records(lookup.from_, (*path, name, "from"))
                kinds[name] = Row(asked.fields, many=lookup.many) if asked else None
        return kinds | _special(self._document)

    def _lookup_name(self, name: str, path: Path, taken: Mapping[str, Kind]) -> None:
        place = self._loaded.key_place(path)
        if why := lint.reserved(name):
            self.mistakes.append(Mistake.at(place, why))
        elif name in taken:
            field = self._source is not None and name in self._source.fields
            what = f"a field of {self._document.detect.from_}" if field else "another lookup"
            self.mistakes.append(Mistake.at(place, f'"{name}" is already {what}; take another name'))

    def _known_words(self) -> lint.Words:
        dictionary = {cause.name for cause in self._vocabulary.causes} | {OTHER}
        own = self._document.diagnose.cause if self._document.diagnose else []
        literal = {each.cause for each in own if "${" not in each.cause}
        return lint.Words(frozenset(dictionary | literal | {UNDIAGNOSED}), frozenset(dictionary))

    # --- expressions ---------------------------------------------------------------------------------------------

    def _stand_in(self, path: Path) -> Constant:
        return Constant("", self._loaded.place(path), None)

    def _lint(self, programs: Iterable[Program], moment: lint.Moment) -> None:
        for program in programs:
            self.mistakes.extend(moment.check(program))
            self.mistakes.extend(lint.numbers(program, self._names))
            self.mistakes.extend(lint.records(program))
            self.mistakes.extend(lint.words(program, self._words))
            if moment.remembered:
                self.mistakes.extend(lint.personal(program, self._names))

    def _condition(self, text: Condition, path: Path, moment: lint.Moment) -> Program | None:
        if self._source is None:
            return None  # without the fields every name would be a mistake
        written = text if isinstance(text, str) else str(text).lower()
        try:
            program = self._environment.condition(written, self._loaded.place(path))
        except Mistakes as error:
            self.mistakes.extend(error.mistakes)
            return None
        self._lint([program], moment)
        return program

    def _if(self, text: Condition, path: Path, moment: lint.Moment) -> Expr | None:
        """An ``if``; nothing when it is always true."""
        program = self._condition(text, (*path, "if"), moment)
        if program:
            self.mistakes.extend(lint.nulls([program], self._names))
        return None if text is True else program

    def _clauses(self, written: Conditions, path: Path, moment: lint.Moment) -> tuple[Clause, ...]:
        texts = written if isinstance(written, list) else [written]
        paths = [(*path, at) for at in range(len(texts))] if isinstance(written, list) else [path]
        found = [self._condition(text, each, moment) for text, each in zip(texts, paths, strict=True)]
        programs = [program for program in found if program]
        if not texts:
            self._no(path, f"{path[-1]}: an empty list; leave it out or write a condition")
        self.mistakes.extend(lint.nulls(programs, self._names))
        return tuple(Clause(program, self._needs(program)) for program in programs if program.text != "true")

    def _needs(self, expr: Expr) -> frozenset[str]:
        return expr.reads & {name for _, lookups in _lookups_of(self._document) for name in lookups}

    def _computed(self, node: Tree, path: Path, moment: lint.Moment, filled: bool = False) -> Computed:
        if self._source is None:
            return self._stand_in(path)
        try:
            found = self._environment.value(node, lambda below: self._loaded.place((*path, *below)), filled)
        except Mistakes as error:
            self.mistakes.extend(error.mistakes)
            return self._stand_in(path)
        self._lint(found.programs, moment)
        return found

    def _text(self, text: str | None, path: Path, moment: lint.Moment) -> Words | None:
        if text is None or self._source is None:
            return None
        try:
            found = self._environment.text(text, self._loaded.place(path))
        except Mistakes as error:
            self.mistakes.extend(error.mistakes)
            return None
        self._lint(found.programs, moment)
        return found

    def _key(self, text: str, path: Path, moment: lint.Moment) -> Computed:
        """A key: at least one hole, texts only."""
        if "${" not in text.replace("$${", ""):
            self._no(path, f"a key needs a ${{…}} hole; write: {path[-1]}: ${{{text}}}")
        found = self._computed(text, path, moment, filled=True)
        for program in found.programs:
            type = program.type
            if lint.numeric(program.checked.root, self._names) or type in ("int", "double"):
                self.mistakes.append(Mistake.at(program.place, f"a key is made of texts, and {program.text} is a number"))
            elif type in ("bool", "timestamp", "duration", "map"):
                self.mistakes.append(Mistake.at(program.place, f"a key is made of texts, and {program.text} is a {type}"))
        return found

    def _time(self, text: str | None, path: Path, moment: lint.Moment) -> Computed | None:
        """A text that is one hole with a timestamp."""
        if text is None:
            return None
        found = self._computed(text, path, moment)
        if self._source and not (isinstance(found, Program) and self._may_be(found, "timestamp")):
            self._no(path, f"{path[-1]}: must be one ${{…}} hole that gives a timestamp")
        return found

    def _may_be(self, program: Program, type: str) -> bool:
        numeric = lint.numeric(program.checked.root, self._names)
        return numeric if type == "number" and numeric else program.type in (type, "dyn") and not numeric

    # --- detect and diagnose -------------------------------------------------------------------------------------

    def _title(self) -> str:
        title = self._document.title
        if "${" in title.replace("$${", ""):
            self._no(("title",), "title: only ${matrix.…} may stand here: it heads messages about many subjects")
        return title.replace("$${", "${")

    def _detect(self) -> Detect:
        document, moments = self._document.detect, self._moments
        connector, _, records = document.from_.partition(".")
        if self._source and not self._source.listable:
            self._no(("detect", "from"), f'"{document.from_}" cannot be listed, only asked for by key')
        lookups = self._lookups(document.lookup, ("detect", "lookup"), moments.record)
        return Detect(
            connector=connector,
            records=records,
            where=self._where(document.where),
            match=self._clauses(document.match, ("detect", "match"), moments.detect),
            lookups=lookups,
            broken=self._clauses(document.broken, ("detect", "broken"), moments.detect),
            key=self._key(document.key, ("detect", "key"), moments.key),
            object=self._object(document.object),
            grace=document.for_,
            since=self._time(document.since, ("detect", "since"), moments.value),
            value=self._money(),
            deadline=self._time(document.deadline, ("detect", "deadline"), moments.value),
        )

    def _object(self, text: str | None) -> Expr | None:
        return None if text is None else self._key(text, ("detect", "object"), self._moments.value)

    def _money(self) -> MoneyAt | None:
        document, path = self._document.detect.value, ("detect", "value")
        if document is None:
            return None
        amount = self._computed(document.amount, (*path, "amount"), self._moments.value)
        currency = self._computed(document.currency, (*path, "currency"), self._moments.value)
        if self._source and not (isinstance(amount, Program) and self._is_amount(amount)):
            self._no((*path, "amount"), "amount: must be one ${…} hole that gives a number")
        if isinstance(currency, Program) and not self._may_be(currency, "string"):
            self._no((*path, "currency"), "currency: must be a text")
        return MoneyAt(amount, currency)

    def _is_amount(self, program: Program) -> bool:
        return self._may_be(program, "number") or program.type in ("int", "double", "dyn")

    def _where(self, where: str | Mapping[str, Any] | None) -> str | Mapping[str, Value] | None:
        path = ("detect", "where")
        if where is None or self._source is None:
            return None
        takes = self._source.where
        if takes == "none":
            self._no(path, f'"{self._document.detect.from_}" takes no where; filter in match')
        elif takes == "sql" and not isinstance(where, str):
            self._no(path, "where: this source is filtered by SQL text")
        elif takes == "params" and not isinstance(where, Mapping):
            self._no(path, f"where: this source takes a map of parameters: {', '.join(sorted(self._source.params))}")
        elif isinstance(where, str):
            if "${" in where:
                self._no(path, "where: SQL takes no ${…} but ${matrix.…}; its only placeholder is :now")
            for fault in faults(where, (":now",)):
                self._no(path, f"where: {fault}")
            return where
        else:
            return {name: self._param(name, value, (*path, name)) for name, value in where.items()}
        return None

    def _param(self, name: str, value: Any, path: Path) -> Value:
        assert self._source is not None
        wanted = self._source.params.get(name)
        if wanted is None:
            self.mistakes.append(Mistake.at(self._loaded.key_place(path), f'unknown parameter "{name}"{near(name, self._source.params)}'))
            return None
        if wanted is FieldType.DURATION:
            try:
                return parse_duration(value)
            except ValueError as error:
                self._no(path, f"{name}: {error}")
                return None
        expected = _PARAMS.get(wanted)
        if expected and (not isinstance(value, expected) or (isinstance(value, bool) and wanted is not FieldType.BOOL)):
            self._no(path, f"{name}: must be a {wanted}")
        return value if isinstance(value, str | bool | int | float | list | dict) else None

    def _lookups(self, lookups: Lookups, path: Path, moment: lint.Moment) -> tuple[Lookup, ...]:
        found: list[Lookup] = []
        for name, lookup in lookups.items():
            found.append(self._lookup(name, lookup, (*path, name), moment))
            moment = moment.plus([name])
        return tuple(found)

    def _lookup(self, name: str, document: LookupDocument, path: Path, moment: lint.Moment) -> Lookup:
        connector, _, records = document.from_.partition(".")
        shape = self._vocabulary.shapes.get(connector)
        asked = shape.records.get(records) if shape else None
        if asked and document.by not in asked.by:
            self._no((*path, "by"), f'"{document.from_}" cannot be asked by "{document.by}"{near(document.by, asked.by)}')
        texts = document.key if isinstance(document.key, list) else [document.key]
        if not texts:
            self._no((*path, "key"), "key: an empty list; write at least one key")
        below = [(*path, "key", at) for at in range(len(texts))] if isinstance(document.key, list) else [(*path, "key")]
        keys = tuple(self._key(text, each, moment) for text, each in zip(texts, below, strict=True))
        needs = frozenset().union(*(self._needs(key) for key in keys))
        return Lookup(name, connector, records, document.by, keys, document.many, needs)

    def _diagnose(self) -> Diagnose | None:
        document, moments = self._document.diagnose, self._moments
        if document is None:
            return None
        lookups = self._lookups(document.lookup, ("diagnose", "lookup"), moments.value)
        tested: set[str] = set()
        causes = []
        for at, each in enumerate(document.cause):
            path: Path = ("diagnose", "cause", at)
            program = self._condition(each.if_, (*path, "if"), moments.cause)
            if program:
                self.mistakes.extend(lint.nulls([program], self._names, tested))
            when: Expr = program or self._stand_in(path)
            causes.append(Cause(self._cause_name(each.cause, (*path, "cause")), Clause(when, self._needs(when))))
        return Diagnose(lookups, tuple(causes), document.timeout)

    def _cause_name(self, text: str, path: Path) -> Expr:
        found = self._computed(text, path, self._moments.cause)
        if isinstance(found, Constant) and "${" not in text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
            self._no(path, f'"{text}" is no name of a cause; take Latin letters, digits and _, or a ${{…}} hole')
        if isinstance(found, Program) and not self._may_be(found, "string"):
            self._no(path, "cause: must be a text")
        return found

    # --- steps and levels ----------------------------------------------------------------------------------------

    def _id(self, id: str, path: Path) -> str:
        if id in self._ids:
            first = self._loaded.place(self._ids[id]).line
            self._no(path, f'a second step called "{id}" (the first at line {first}); give this one a `name`')
        self._ids.setdefault(id, path)
        return id

    def _step(self, document: StepDocument, path: Path) -> Step:
        moment = self._moments.act
        if document.call is None or document.wait is not None:
            return self._wait(document, path, moment)
        return self._called(document.call, document, path, moment, settle=document.settle)

    def _wait(self, document: StepDocument, path: Path, moment: lint.Moment) -> Step:
        if document.call is not None or document.wait is None:
            self._no(path, "a step is either a `call` or a `wait`")
        aliases = {name: info.alias or name for name, info in type(document).model_fields.items()}
        for name in sorted(document.model_fields_set & {"with_", "attempts", "backoff", "settle", "timeout", "delivery"}):
            place = self._loaded.key_place((*path, aliases[name]))
            self.mistakes.append(Mistake.at(place, f'"{aliases[name]}" belongs to a call, and this step waits'))
        id = self._id(document.name or "wait", path)
        return Step(id=id, wait=document.wait, when=self._if(document.if_, path, moment))

    def _follow_up(self, document: FollowUpDocument, path: Path) -> Step:
        return self._called(document.call, document, path, self._moments.resolved, settle=Step("").settle)

    def _called(self, text: str, document: StepDocument | FollowUpDocument, path: Path, moment: lint.Moment, settle: timedelta) -> Step:
        call = self._call(text, (*path, "call"))
        connector, _, name = text.partition(".")
        by_call = Delivery.AT_LEAST_ONCE if call and call.idempotent else Delivery.AT_MOST_ONCE
        return Step(
            id=self._id(document.name or name, path),
            connector=connector,
            call=name,
            when=self._if(document.if_, path, moment),
            args=self._args(document.with_, call, path, moment),
            attempts=document.attempts,
            backoff=_backoff(document.backoff),
            settle=settle,
            timeout=document.timeout,
            delivery=Delivery(document.delivery) if document.delivery else by_call,
        )

    def _args(self, given: Mapping[str, Tree], call: Call | None, path: Path, moment: lint.Moment) -> dict[str, Expr]:
        below = (*path, "with")
        if call:
            for name in sorted(call.params - given.keys()):
                place = self._loaded.key_place(below if given else path)
                self.mistakes.append(Mistake.at(place, f'missing argument "{name}" in `with`{_params(call)}'))
            for name in sorted(given.keys() - call.params):
                place = self._loaded.key_place((*below, name))
                self.mistakes.append(Mistake.at(place, f'unknown argument "{name}"{near(name, call.params)}'))
        for name, value in given.items():
            if value is None:
                self._no((*below, name), f'"{name}" is null, and a null argument stops the step')
        return {name: self._computed(value, (*below, name), moment) for name, value in given.items()}

    def _levels(self) -> tuple[Level, ...]:
        met: dict[str, int] = {}
        levels = []
        for at, document in enumerate(self._document.escalate):
            to = document.to or self._document.owner
            met[to] = met.get(to, 0) + 1
            id = to if met[to] == 1 else f"{to}#{met[to]}"
            levels.append(self._level(document, id, to, ("escalate", at), first=at == 0))
        return tuple(levels)

    def _level(self, document: LevelDocument, id: str, to: str, path: Path, first: bool) -> Level:
        if document.to is not None:
            self._contact(document.to, (*path, "to"))
        promised = self._document.detect.deadline is not None
        if document.before_deadline is not None and not promised:
            self._no((*path, "before_deadline"), "before_deadline: this rule has no detect.deadline")
        before = document.before_deadline or (FIRST_BEFORE_DEADLINE if first and promised else None)
        group_by = GroupBy(document.group_by)
        return Level(
            id=id,
            to=to,
            when=self._if(document.if_, path, self._moments.act),
            after=document.after,
            before_deadline=before,
            message=self._text(document.message, (*path, "message"), self._moments.message(group_by)),
            line=self._text(document.line, (*path, "line"), self._moments.line),
            group_by=group_by,
            attach=self._attached(document.attach, (*path, "attach"), self._moments.message(group_by)),
            repeat=document.repeat,
            delivery=Delivery(document.delivery),
        )

    def _attached(self, documents: Sequence[AttachmentDocument], path: Path, moment: lint.Moment) -> tuple[CardForm | TableForm, ...]:
        found = [self._attachment(document, (*path, at), moment) for at, document in enumerate(documents)]
        return tuple(form for form in found if form)

    def _attachment(self, document: AttachmentDocument, path: Path, moment: lint.Moment) -> CardForm | TableForm | None:
        if (document.card is None) == (document.table is None):
            self._no(path, "an attachment is either a `card` or a `table`")
        elif document.card is not None:
            if document.name is not None:
                self._no((*path, "name"), "name: belongs to a table; a card has a title")
            below = (*path, "card", "rows")
            title = self._text(document.card.title, (*path, "card", "title"), moment)
            rows = [(label, self._text(text, (*below, label), moment)) for label, text in document.card.rows.items()]
            return CardForm(title, tuple((label, text) for label, text in rows if text)) if title else None
        elif document.table is not None:
            return self._table(document.table, document.name, path, moment)
        return None

    def _table(self, written: str, name: str | None, path: Path, moment: lint.Moment) -> TableForm | None:
        if name is None or not name.endswith(".csv"):
            self._no(path if name is None else (*path, "name"), "a table needs the name of its file, such as `name: errors.csv`")
        rows, file = self._computed(written, (*path, "table"), moment), self._text(name, (*path, "name"), moment)
        if self._source and not (isinstance(rows, Program) and (rows.type.startswith("list") or self._may_be(rows, "dyn"))):
            self._no((*path, "table"), "table: must be one ${…} hole that gives a list")
        return TableForm(rows, file) if file else None

    # --- doubts --------------------------------------------------------------------------------------------------

    def _warn(self, rule: Rule) -> None:
        if self._source and not self._source.population:
            message = "this source cannot say how many records it has, so of the guard only max_broken applies"
            self.warnings.append(self._loaded.mistake(("detect", "from"), message))
        read = _names_read(rule)
        for path, lookups in _lookups_of(self._document):
            for name in lookups:
                if name not in read:
                    place = self._loaded.key_place((*path, name))
                    self.warnings.append(Mistake.at(place, f'nothing reads the lookup "{name}"'))


class _Moments:
    """Which names are known where: the further a subject has come, the more is known of it."""

    def __init__(self, document: RuleDocument, source: Records | None) -> None:
        fields = [name for name in (source.fields if source else ()) if not lint.reserved(name)]
        detect = [*document.detect.lookup]
        diagnose = [*document.diagnose.lookup] if document.diagnose else []
        whys = {
            "now": "a key must not change from look to look",
            "cause": "it is known after diagnosis" if document.diagnose else "this rule has no `diagnose`",
            "resolution": "it is known in on_resolved",
            "group": "it is known where a message is written",
            "incident": "there is none yet",
            "steps": "none was tried yet",
            **dict.fromkeys(detect, "it is asked later"),
            **dict.fromkeys(diagnose, "it is asked for broken subjects only; move it to detect.lookup"),
        }
        self._whys, self._fields = whys, fields
        self._lookups, self._diagnosed = [*detect, *diagnose], document.diagnose is not None
        self.record = lint.Moment(frozenset(fields), "a lookup's key", whys)
        self.key = lint.Moment(frozenset(fields), "the key", whys)
        self.detect = self.record.plus([*detect, "now"], "detect")
        self.value = self.record.plus(detect, "detect")
        self.cause = self.detect.plus([*diagnose, "incident"], "diagnose")
        known_later = ["steps", *(["cause"] if self._diagnosed else [])]
        self.act = replace(self.cause.plus(known_later, "remediate and escalate"), remembered=True)
        self.line = self.act.plus(["group"], "a line")
        self.resolved = self.act.plus(["resolution"], "on_resolved")

    def message(self, group_by: GroupBy) -> lint.Moment:
        """A message about several subjects knows none of their records."""
        if group_by is GroupBy.SUBJECT:
            return self.act.plus(["group"], "a message")
        once = "it is written once for many subjects; put this into `line`, or set group_by: subject"
        cause = ["cause"] if self._diagnosed and group_by is GroupBy.CAUSE else []
        hidden = dict.fromkeys([*self._fields, *self._lookups, "incident", "steps"], once)
        return lint.Moment(frozenset(["now", "group", *cause]), "message", {**self._whys, **hidden})


def _special(document: RuleDocument) -> dict[str, Kind]:
    """What the engine fills in, with its types."""
    time, number, text = FieldType.TIMESTAMP, FieldType.NUMBER, FieldType.STRING
    incident: dict[str, Kind] = {
        "opened_at": time,
        "since": Field(time, nullable=True),
        "attempts": number,
        "value": Field(number, nullable=True),
        "deadline": Field(time, nullable=True),
        "last_error": Field(text, nullable=True),
    }
    group: dict[str, Kind] = {
        "count": number,
        "value": Field(text, nullable=True),
        "deadline": Field(time, nullable=True),
    }
    step: dict[str, Kind] = {"outcome": text, "at": time, "attempts": number, "response": None}
    steps: list[StepDocument | FollowUpDocument] = [*document.remediate, *document.on_resolved]
    ids = [_id_of(each) for each in steps]
    return {
        "now": time,
        "cause": text,
        "resolution": text,
        "incident": Row(incident, nullable=False),
        "steps": Row(dict.fromkeys(ids, Row(step, nullable=False)), nullable=False),
        "group": Row(group, nullable=False),
    }


def _id_of(document: StepDocument | FollowUpDocument) -> str:
    return document.name or (document.call or "wait").rpartition(".")[2]


def _lookups_of(document: RuleDocument) -> list[tuple[Path, Lookups]]:
    found: list[tuple[Path, Lookups]] = [(("detect", "lookup"), document.detect.lookup)]
    if document.diagnose:
        found.append((("diagnose", "lookup"), document.diagnose.lookup))
    return found


def _names_read(rule: Rule) -> frozenset[str]:
    detect, diagnose = rule.detect, rule.diagnose or Diagnose()
    steps, levels = (*rule.ladder, *rule.on_resolved), rule.escalate
    exprs: list[Expr | Words | None] = [clause.expr for clause in (*detect.match, *detect.broken)]
    exprs += [detect.key, detect.object, detect.since, detect.deadline]
    exprs += [detect.value.amount, detect.value.currency] if detect.value else []
    exprs += [key for lookup in (*detect.lookups, *diagnose.lookups) for key in lookup.keys]
    exprs += [expr for cause in diagnose.causes for expr in (cause.name, cause.when.expr)]
    exprs += [step.when for step in steps] + [arg for step in steps for arg in step.args.values()]
    exprs += [level.when for level in levels]
    exprs += [form.rows for level in levels for form in level.attach if isinstance(form, TableForm)]
    texts = [text for level in levels for text in _texts_of(level) if isinstance(text, Words)]
    return frozenset().union(*(each.reads for each in (*exprs, *texts) if each))


def _texts_of(level: Level) -> Iterator[Text | None]:
    yield from (level.message, level.line)
    for form in level.attach:
        yield from (form.name,) if isinstance(form, TableForm) else (form.title, *(text for _, text in form.rows))


def _backoff(document: BackoffDocument) -> Backoff:
    return Backoff(document.initial, document.factor, document.max)


def _params(call: Call) -> str:
    return f"; the call takes {', '.join(sorted(call.params))}"


_PARAMS: Mapping[FieldType, type | tuple[type, ...]] = {
    FieldType.STRING: str,
    FieldType.NUMBER: (int, float),
    FieldType.BOOL: bool,
    FieldType.LIST: list,
    FieldType.MAP: dict,
    FieldType.TIMESTAMP: str,
}


# --- the rule as one reads it ------------------------------------------------------------------------------------


def _expanded(
    name: str, document: RuleDocument, ladder: Sequence[Step], levels: Sequence[Level], follow_ups: Sequence[Step]
) -> dict[str, Any]:
    """The document with everything filled in that the file left out, as plain values."""
    expanded = document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"matrix"})
    expanded["name"] = name
    for key, steps in (("remediate", ladder), ("on_resolved", follow_ups)):
        expanded[key] = [_step_as_read(each, step) for each, step in zip(expanded[key], steps, strict=True)]
    levelled = zip(expanded["escalate"], levels, strict=True)
    expanded["escalate"] = [{"to": level.to, **each, **_before_deadline(level)} for each, level in levelled]
    return expanded


def _step_as_read(written: Mapping[str, Any], step: Step) -> dict[str, Any]:
    if step.wait is not None:
        return {"name": step.id, "wait": written["wait"], "if": written["if"]}
    return {"name": step.id, **written, "delivery": step.delivery.value}


def _before_deadline(level: Level) -> dict[str, str]:
    return {"before_deadline": format_duration(level.before_deadline)} if level.before_deadline else {}


def _digest(expanded: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """What identifies this version of the rule: its whole text with defaults and overrides, and the causes it speaks of."""
    causes = [[cause.name, cause.condition] for cause in vocabulary.causes]
    text = json.dumps([expanded, causes], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
