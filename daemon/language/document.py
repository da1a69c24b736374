"""A rule file as written: every key with its meaning, type and default. Feeds validation, the JSON Schema and editors.

Nothing here knows connectors or expressions: texts stay texts until ``compile``. A key that the language has but that
is not built yet is refused with one line, never ignored.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Never, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from daemon.domain.rule import Backoff, Delivery, Diagnose, Guard, Mode, Severity, Step
from daemon.settings import Duration, Settings, at_least, format_duration

Span = Annotated[
    Duration,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?(ms|s|m|h|d)\s*)+$",
            "examples": ["90s", "5m", "2h", "3d"],
        }
    ),
    PlainSerializer(format_duration, when_used="json"),
]
"""A duration as text."""

Interval = Annotated[Span, AfterValidator(at_least("1s"))]
"""A duration within which something happens or is waited for: without length it would be asked for without a pause."""

Condition: TypeAlias = str | bool
"""Bare CEL that gives true or false."""

Conditions: TypeAlias = str | bool | list[Condition]
"""One condition, or a list that means *and*."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
NotEmpty = Annotated[str, Field(min_length=1)]
Source = Annotated[str, Field(min_length=1, examples=["ozon-db.orders"])]
Call = Annotated[str, Field(min_length=1, examples=["ozon-integration.upload_order"])]
Attempts = Annotated[int, Field(ge=1, le=100)]
Text = Annotated[str, Field(min_length=1)]


def _not_built(value: Any) -> Never:
    raise ValueError("is not built yet; leave it out")


def _built_mode(value: str) -> str:
    if value == Mode.APPROVE:
        raise ValueError("approve is not built yet; write observe or enforce")
    return value


NotBuilt = Annotated[Any, BeforeValidator(_not_built)]
ModeName = Annotated[Literal["disabled", "observe", "approve", "enforce"], AfterValidator(_built_mode)]
SeverityName = Literal["critical", "warning", "info"]
DeliveryName = Literal["at_least_once", "at_most_once"]


def _seconds(name: str, owner: Any) -> timedelta:
    """A duration's default where the domain states it, so that it is said once."""
    value = owner.__dataclass_fields__[name].default
    assert isinstance(value, timedelta)
    return value


class LookupDocument(Settings):
    """A question by key to other records."""

    from_: Source = Field(alias="from", description="Which records are asked: `connector.records`.")
    by: NotEmpty = Field(description="By which of their fields.")
    key: Text | list[Text] = Field(description="For which value: a text with ${…} holes, a list of them, or one hole that gives a list.")
    many: bool = Field(
        False,
        description="false: the name is one record or null, two records are unknown. true: it is a list, [] if none.",
    )


Lookups = dict[str, LookupDocument]


class MoneyDocument(Settings):
    """Money at risk."""

    amount: Text = Field(description="One ${…} hole that gives a number.")
    currency: Text = Field(description="ISO 4217 code, a text with ${…} holes.")


class DetectDocument(Settings):
    """Where records come from, which of them are ours, which are broken, and who is who."""

    from_: Source = Field(alias="from", description="What is scanned: `connector.records`.")
    where: str | dict[str, Any] | None = Field(
        None,
        description="Filter in the source, for speed only; it decides nothing, and questions by key ignore it."
        " SQL text for databases (`:now` is the rule time), a map of the source's parameters for APIs.",
    )
    match: Conditions = Field(
        True,
        description="Which records this rule answers for: a CEL condition or a list that means and. May use lookups.",
    )
    lookup: Lookups = Field(
        {},
        description="Questions by key to other records, asked in the order written, each only for records that"
        " no clause has ruled out yet.",
    )
    broken: Conditions = Field(description="The symptom: a CEL condition or a list that means and.")
    key: Text = Field(description="Identity of the subject in this rule: a text with at least one ${…} hole, no number fields.")
    object: Text | None = Field(
        None,
        description="The business object behind the subject: one attempt at a time on it. Default <rule>/<key>.",
    )
    for_: Span = Field(
        timedelta(minutes=15),
        alias="for",
        description="How long it must be broken before anything is done. Default 15m.",
    )
    since: Text | None = Field(None, description="One ${…} hole with a timestamp: what `for` counts from. Default: when first seen broken.")
    value: MoneyDocument | None = Field(None, description="Money at risk.")
    deadline: Text | None = Field(
        None, description="One ${…} hole with a timestamp: the promise at risk. Orders the queue; see before_deadline."
    )


class CauseDocument(Settings):
    """A cause and when it is the one."""

    cause: Text = Field(description="Name of the cause: a word, or a text with ${…} holes.")
    if_: Condition = Field(alias="if", description="CEL condition; the first true one names the cause.")


class DiagnoseDocument(Settings):
    """Why it is broken. Asked for broken subjects only, anew before every step, level and follow-up."""

    lookup: Lookups = Field({}, description="Questions by key, as in detect, for broken subjects only.")
    cause: list[CauseDocument] = Field(
        [], description="The first true one names the cause; none: `other`; not knowable in time: `undiagnosed`."
    )
    timeout: Interval = Field(
        _seconds("timeout", Diagnose),
        description="How long an unanswered diagnosis may hold the ladder up. Default 30m.",
    )


class BackoffDocument(Settings):
    """How long to wait after `later`, with full jitter; Retry-After wins."""

    initial: Interval = Field(_seconds("initial", Backoff), description="Ceiling of the first wait. Default 1m.")
    factor: float = Field(Backoff().factor, ge=1, le=100, description="Growth of the ceiling from wait to wait. Default 2.")
    max: Interval = Field(_seconds("max", Backoff), description="The ceiling grows no further than this. Default 30m.")


Arguments = dict[str, Any]


class FollowUpDocument(Settings):
    """What is left to do once healing is proved."""

    call: Call = Field(description="The effect: `connector.call`.")
    name: Identifier | None = Field(None, description="Identity of the step across edits. Default: the call's name.")
    if_: Condition = Field(True, alias="if", description="CEL condition; may use `resolution`.")
    with_: Arguments = Field(
        {},
        alias="with",
        description="Arguments: exactly the call's parameters. Texts with ${…} holes, lists or maps of them.",
    )
    attempts: Attempts = Field(Step("").attempts, description="Most calls that may have arrived. Default 3.")
    backoff: BackoffDocument = Field(BackoffDocument(), description="Waits after `later`.")
    timeout: Interval = Field(_seconds("timeout", Step), description="The whole step, so that `later` ends too. Default 6h.")
    delivery: DeliveryName | None = Field(
        None,
        description="After an unknown outcome with nothing to be seen: again, or never again. Default: by whether the call is idempotent.",
    )


class StepDocument(Settings):
    """A rung of the ladder: a call, or time for the world to heal by itself."""

    call: Call | None = Field(None, description="The effect: `connector.call`. Either this or `wait`.")
    wait: Interval | None = Field(None, description="Time for the world to heal by itself. Either this or `call`.")
    name: Identifier | None = Field(
        None, description="Identity of the step across edits, and `steps.<name>`. Default: the call's name, or `wait`."
    )
    if_: Condition = Field(True, alias="if", description="CEL condition, judged anew each time; a step whose `if` is false is passed over.")
    with_: Arguments = Field(
        {},
        alias="with",
        description="Arguments: exactly the call's parameters. Texts with ${…} holes, lists or maps of them.",
    )
    attempts: Attempts = Field(Step("").attempts, description="Most calls that may have arrived; `later` does not count. Default 3.")
    backoff: BackoffDocument = Field(BackoffDocument(), description="Waits after `later`.")
    settle: Span = Field(
        _seconds("settle", Step),
        description="After `done` or `unknown`: how long until the effect must show; then it is looked at. Default 5m.",
    )
    timeout: Interval = Field(_seconds("timeout", Step), description="The whole step, so that `later` ends too. Default 6h.")
    delivery: DeliveryName | None = Field(
        None,
        description="After an unknown outcome with nothing to be seen: again, or never again. Default: by whether the call is idempotent.",
    )


class CardDocument(Settings):
    """A few labelled rows, drawn as a picture or written out where the channel has no pictures."""

    title: Text = Field(description="What stands above the rows: a text with ${…} holes.")
    rows: dict[NotEmpty, Text] = Field(
        min_length=1, description="Label to text with ${…} holes: exactly these, so that nothing else can slip in."
    )


class AttachmentDocument(Settings):
    """Something beside the message: a card, or a table. Uses the record only with group_by: subject, as the message."""

    card: CardDocument | None = Field(None, description="A card. Either this or `table`.")
    table: Text | None = Field(
        None, description="One ${…} hole that gives a list: a row per item, a column per key of the items. Either this or `card`."
    )
    name: Text | None = Field(None, description="Name of the table's file, with .csv at its end.")


class LevelDocument(Settings):
    """Whom to tell, when and with which words."""

    to: NotEmpty | None = Field(None, description="A contact of config.yaml. Default: the rule's owner.")
    if_: Condition = Field(True, alias="if", description="CEL condition: whether this level concerns this subject; routing by cause.")
    after: Span = Field(
        timedelta(0),
        description="Since the applicable level before was delivered, counted in that contact's hours. Default 0s.",
    )
    before_deadline: Span | None = Field(
        None,
        description="At the latest this long before the deadline, whatever `after` says. Default 2h on the first"
        " level of a rule with a deadline.",
    )
    message: Text | None = Field(
        None,
        description="What a person has to do: plain text, once per message. Uses the record only with group_by: subject.",
    )
    line: Text | None = Field(None, description="Once per subject, the most urgent first, ten at most. Default: key, value, deadline.")
    group_by: Literal["cause", "rule", "subject"] = Field("cause", description="What one message is about. Default cause.")
    attach: list[AttachmentDocument] = Field([], description="Cards and tables beside the message, for external contacts too.")
    repeat: Interval | None = Field(
        None, description="Reminder in the same thread until proof or claim, in the contact's hours. Default: never."
    )
    delivery: DeliveryName = Field(
        Delivery.AT_LEAST_ONCE.value,
        description="A message after an unknown outcome: twice or never. Default at_least_once.",
    )


class GuardDocument(Settings):
    """Ceilings of a rule: what is too much to be true."""

    max_broken: int = Field(
        Guard().max_broken,
        ge=1,
        description="More broken subjects than this hold the rule's acts and messages. Default 100.",
    )
    max_broken_percent: float = Field(
        Guard().max_broken_percent,
        gt=0,
        le=100,
        description="The same as a percentage of the records a scan can read, from 10 broken on. Default 20.",
    )
    max_calls_per_hour: int = Field(Guard().max_calls_per_hour, ge=1, description="Calls of this rule in a rolling hour. Default 200.")
    max_attempts: int = Field(
        Guard().max_attempts,
        ge=1,
        description="Attempts per subject over its life, then quarantine and a page. Default 10.",
    )
    relapse: Span = Field(
        _seconds("relapse", Guard),
        description="Broken again within this after the end: the same incident goes on. Default 24h.",
    )


MatrixValue: TypeAlias = str | bool | int | float


class RuleDocument(Settings):
    """A rule, or with `matrix` a family of rules that differ in words."""

    name: Name = Field(description="Name of the rule; with a matrix, of the family.")
    title: Text = Field(description="One line for people that heads every message. Holes: ${matrix.x} only.")
    owner: NotEmpty = Field(description="The contact that answers for the rule; default of escalate[].to.")
    severity: SeverityName = Field(
        Severity.WARNING.value,
        description="critical reaches internal contacts outside their hours. Default warning.",
    )
    runbook: NotEmpty = Field(description="Path or URL of the page for people; shown in every message.")
    mode: ModeName = Field(
        Mode.OBSERVE.value,
        description="disabled: not looked at. observe: incidents, but no calls and no messages. approve: not built yet."
        " enforce: everything. config.yaml may override it. Default observe.",
    )
    every: Interval = Field(timedelta(minutes=5), description="How often new broken subjects are looked for. Default 5m.")
    matrix: list[dict[str, MatrixValue]] | None = Field(
        None,
        min_length=1,
        description="One rule per entry: `name` is literal and required, the rest is read as ${matrix.x} and replaced at load.",
    )
    detect: DetectDocument = Field(description="What is broken, and how one tells.")
    diagnose: DiagnoseDocument | None = Field(None, description="Why it is broken; for broken subjects only.")
    remediate: list[StepDocument] = Field([], description="The ladder: steps climbed from the top.")
    escalate: list[LevelDocument] = Field(
        [LevelDocument()], description="People, in order. Left out: the owner is told with a generated message."
    )
    on_resolved: list[FollowUpDocument] = Field([], description="Follow-ups after proof, once per incident, if it was healed or handled.")
    resolve_on: Literal["proof", "delivery"] = Field(
        "proof",
        description="proof: a state that must be seen clean. delivery: an event that ends when it has been told.",
    )
    guard: GuardDocument = Field(GuardDocument(), description="Ceilings.")
    tests: NotBuilt = Field(None, description="Scenarios. Not built yet.")


class Override(Settings):
    """What an installation wants otherwise: an entry of `rules.overrides` of config.yaml. Beats the file."""

    mode: ModeName | None = Field(None, description="Mode of this rule here.")
    every: Interval | None = Field(None, description="Scan interval of this rule here.")
    guard: GuardDocument | None = Field(None, description="Ceilings of this rule here, key by key.")


class Defaults(Override):
    """What rule files leave out: `rules.defaults` of config.yaml."""

    severity: SeverityName | None = Field(None, description="Severity of rules that state none.")
