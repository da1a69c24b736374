"""``config.yaml`` → ``Config``: one frozen value with everything this installation says, or all mistakes at once.

    files ─ load, merge (later over earlier) ─ extends ─ ${env:…}, ${file:…} ─ models ─ cross-checks ─▶ Config

Places survive every step, so a mistake names the line that has to change, whichever file it is in and through whatever
``extends`` it came. Messages are made from what the files say, not from what ``${env:…}`` stood for, and go through the
redactor on top. What a connector may be told is its kind's business: kinds are discovered, none is named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from daemon.catalog import CatalogSettings
from daemon.domain.rule import ChannelRef, Contact
from daemon.domain.shape import Shape
from daemon.domain.value import Place
from daemon.engine.drill import Drill, Hand, Proof
from daemon.engine.ports import Connector
from daemon.kinds import Kind, Tools, discover
from daemon.language import places
from daemon.language.document import Defaults, Override
from daemon.language.hours import parse_hours
from daemon.language.lint import reserved
from daemon.language.mistake import Mistake, Mistakes
from daemon.language.places import Loaded, Node, near
from daemon.language.vocabulary import CauseText, Vocabulary, classifier
from daemon.settings import ConnectorSettings, Duration, Rate, RateText, Redactor, Secret, Settings, Zone, at_least


class StoreSettings(Settings):
    """Where orderheal keeps its own rows."""

    url: Secret | None = Field(
        None,
        description="DSN of its own PostgreSQL database. Without it an embedded server is used, never in production.",
    )
    data: str = Field(".orderheal/", description="Folder of the embedded server.")


class HttpSettings(Settings):
    """Where metrics and health are served."""

    listen: str = Field(
        "0.0.0.0:9464",
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s]+):\d{1,5}$",
        description="host:port of /metrics, /healthz and /readyz; port 0 takes a free one.",
    )


class EngineSettings(Settings):
    """How the loop turns."""

    # Renewed every third of it: two thirds must still outlast engine.act.ROOM, or nothing would ever be sent.
    lease: Annotated[Duration, AfterValidator(at_least("8s"))] = Field(
        timedelta(seconds=30),
        description="How long a replica holds a rule without renewing it, at least 8s: a dead one's rules wait so long.",
    )
    poll: Annotated[Duration, AfterValidator(at_least("10ms"))] = Field(
        timedelta(seconds=1), description="How often a replica asks for rules that are due, at least 10ms."
    )
    cycles: int = Field(8, ge=1, le=64, description="How many rules one replica works on at once.")
    page: int = Field(1000, ge=1, le=100_000, description="Records per page of a scan: the bound on memory.")
    keep: Annotated[Duration, AfterValidator(at_least("1d"))] = Field(
        timedelta(days=90), description="How long ended incidents and their ledger are kept."
    )


class LogSettings(Settings):
    """How logs look."""

    format: Literal["auto", "json", "text"] = Field(
        "auto", description="json: one object per line; text: readable lines; auto: text on a terminal, else json."
    )


class RuleSettings(Settings):
    """Where rules are, and what this installation wants otherwise."""

    path: str = Field("rules/", description="Folder of the rule files, from the folder of this file.")
    defaults: Defaults = Field(default_factory=Defaults, description="What rule files leave out.")
    overrides: dict[str, Override] = Field({}, description="By a rule's name: beats its file.")
    revision: int | None = Field(
        None,
        ge=0,
        description="Only a higher revision activates (the chart passes it). Unset: the moment of process start.",
    )


class DeadmanSettings(Settings):
    """Somebody outside who calls a person when nothing is heard from orderheal any more."""

    url: Secret = Field(description="Gets a GET while every rule scans its whole source in time; silence is the alarm.")
    every: Annotated[Duration, AfterValidator(at_least("100ms"))] = Field(
        timedelta(minutes=5), description="How often it is asked, by the wall clock: 5m."
    )

    @field_validator("url")
    @classmethod
    def _usable(cls, url: Secret) -> Secret:
        parts = urlsplit(url.reveal())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("must be an http or https URL without user and fragment")
        return url


class AlertSettings(Settings):
    """Where every begin and end of a problem goes besides its contact, and who hears that we live."""

    via: str | None = Field(None, description="A connector that can tell; `sentry`, if one of that name is declared.")
    deadman: DeadmanSettings | None = Field(None, description="Who is pinged while all is looked at; nobody, if left out.")


class TraceSettings(Settings):
    """Who keeps traces of cycles and requests; needs the extra ``otel``."""

    otlp: str = Field(description="URL that takes traces in OTLP over HTTP (protobuf), whole: http://otel-collector:4318/v1/traces.")
    headers: dict[str, Secret] = Field({}, description="Headers of each request, such as its credentials.")

    @field_validator("otlp")
    @classmethod
    def _usable(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("must be an http or https URL without user and fragment")
        return url


class DrillSettings(Settings):
    """How a rule is tried on a synthetic object; nothing is planted anywhere but by these calls."""

    plant: str = Field(description="Call that makes a broken object (drill.plant); the object's key is its one argument.")
    remove: str = Field(description="Call that takes the object away, whatever became of it; its key is the one argument.")
    prefix: str = Field("DRILL-", pattern=r"^[A-Za-z][A-Za-z0-9_-]{1,31}$", description="How the keys of planted objects begin.")
    proof: Literal["healed", "told"] = Field(
        "healed", description="healed: the object must be healed by us; told: it cannot be, and a person must be told of it."
    )
    within: Duration = Field(timedelta(hours=1), description="Rule time that it all may take, grace and settling included: 1h.")
    every: Annotated[Duration, AfterValidator(at_least("1m"))] | None = Field(
        None, description="How often the running daemon does it, one replica each time, by the wall clock (24h); never, if left out."
    )


class CurrencySettings(Settings):
    """For ranking and totals only; metrics stay per currency."""

    base: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code that totals are given in.")
    rates: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="Worth of one unit of a currency in the base currency."
    )


class CauseSettings(Settings):
    """A word for technical texts; the first that fits wins, else `other`."""

    cause: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="The word that rules compare `cause` with.")
    condition: str = Field(alias="if", description="Condition over `text`.")


class ChannelSettings(Settings):
    """One way to a contact; every key besides `via` is the address in that connector's own words."""

    model_config = ConfigDict(extra="allow")

    via: str = Field(description="A connector that can tell a person something.")


class ContactSettings(Settings):
    """A team or a chat that can be told."""

    title: str = Field("", description="Its name for people; its key, if left out.")
    channels: list[ChannelSettings] = Field(min_length=1, description="Tried in order; all of them for `critical`.")
    hours: str = Field("24/7", description="OpenStreetMap's opening hours; outside of them messages wait.")
    timezone: Zone | None = Field(None, description="Zone of its hours and of times it reads; the installation's, if left out.")
    language: Literal["ru", "en"] | None = Field(None, description="Language of generated text.")
    external: bool = Field(False, description="Gets message, lines and attachments; no evidence, commands, money.")
    rate: RateText = Field(Rate(60, timedelta(hours=1)), description="Most messages to it: 20/h.")
    fallback: str | None = Field(None, description="The contact that is told when delivery fails or would be too late.")
    send_resolved: bool = Field(True, description="Whether it hears of the end, in the same thread.")


class Document(Settings):
    """The whole of ``config.yaml``. What stands under a connector is its kind's model."""

    environment: str = Field("production", min_length=1, description="`production` refuses the embedded database.")
    timezone: Zone = Field("UTC", description="Zone of times in messages, reports and on the command line.")
    language: Literal["ru", "en"] = Field("ru", description="Language of generated text for people.")
    store: StoreSettings = Field(StoreSettings(), description="Where orderheal keeps its own rows.")
    http: HttpSettings = Field(HttpSettings(), description="Where metrics and health are served.")
    engine: EngineSettings = Field(EngineSettings(), description="How the loop turns.")
    logs: LogSettings = Field(LogSettings(), description="How logs look.")
    rules: RuleSettings = Field(RuleSettings(), description="Where rules are, and what is wanted otherwise here.")
    alerts: AlertSettings = Field(AlertSettings(), description="Where every problem is told besides its contact.")
    traces: TraceSettings | None = Field(None, description="Where traces of cycles and requests go; nowhere, if left out.")
    drills: dict[str, DrillSettings] = Field({}, description="By a rule's name: how `orderheal drill` tries it.")
    currencies: CurrencySettings | None = Field(None, description="For ranking and totals only.")
    causes: list[CauseSettings] = Field([], description="Dictionary of technical texts.")
    catalog: CatalogSettings = Field(CatalogSettings(), description="What a file for `orderheal catalog push` must look like.")
    connectors: dict[str, Any] = Field({}, description="The outside systems, by the name that rules use.")
    contacts: dict[str, Any] = Field({}, description="The teams and chats that can be told.")


@dataclass(frozen=True, slots=True)
class Declared:
    """A connector as the configuration has it."""

    kind: Kind
    settings: ConnectorSettings
    shape: Shape


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an installation says. Printing it shows no secret. ``rules_path`` and ``data_path`` are absolute or
    count from the working folder; in the file they count from the folder of the file they stand in.
    """

    document: Document
    connectors: Mapping[str, Declared]
    contacts: Mapping[str, Contact]
    secrets: tuple[Secret, ...] = field(repr=False)
    rules_path: Path
    data_path: Path
    alerts_via: str | None
    causes: tuple[CauseText, ...] = ()
    override_places: Mapping[str, Place] = field(default_factory=dict)
    drill_places: Mapping[str, Place] = field(default_factory=dict)
    drills: Mapping[str, Drill] = field(default_factory=dict)
    rules_tree: Mapping[str, Any] = field(default_factory=dict)
    """``rules`` as written: defaults and overrides become part of the rules' own text."""

    def vocabulary(self) -> Vocabulary:
        """What rules are checked against."""
        return Vocabulary(
            self.shapes,
            tuple(self.contacts),
            self.causes,
            self.rules_tree.get("defaults", {}),
            self.rules_tree.get("overrides", {}),
            self.override_places,
        )

    def open(self, name: str, tools: Tools) -> Connector:
        """The connector of that name, ready to work; it connects when it is first used."""
        declared = self.connectors[name]
        return declared.kind.open(name, declared.settings, tools)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """What every connector offers, by name."""
        return {name: declared.shape for name, declared in self.connectors.items()}

    @property
    def redactor(self) -> Redactor:
        """Knows every secret in force."""
        return Redactor(self.secrets)

    def hosts(self) -> frozenset[str]:
        """Every host that any URL of the configuration names, the store's and the dead-man's included; a socket has none (law 12)."""
        texts = [text for declared in self.connectors.values() for text in _texts(declared.settings)]
        document = self.document
        texts += [text for part in (document.store, document.alerts, document.traces) for text in _texts(part)]
        urls = [urlsplit(text) for text in texts if "://" in text]
        return frozenset(url.hostname for url in urls if url.hostname)


def load_config(paths: Sequence[Path], env: Mapping[str, str], offline: bool = False) -> Config:
    """Read and check configuration files, later ones laid over earlier ones. Raises ``Mistakes``, all at once.

    ``offline``: what ``${env:…}`` and ``${file:…}`` stand for may be missing, as where rules are only checked.
    """
    return _Loading(_read(paths), paths, _Filling(env, offline)).config()


def _read(paths: Sequence[Path]) -> Loaded:
    merged: Loaded | None = None
    for path in paths:
        try:
            loaded = places.load(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Mistakes([Mistake(str(path), 1, 1, f"this file cannot be read: {why}")]) from None
        merged = places.merge(merged, loaded) if merged else loaded
    if merged is None:
        raise Mistakes([Mistake("config.yaml", 1, 1, "no configuration file was given")])
    return merged.raise_for_mistakes()


class _Loading:
    """One load: the document on its way, and the mistakes met so far."""

    def __init__(self, loaded: Loaded, paths: Sequence[Path], filling: _Filling) -> None:
        self._paths = paths
        self._mistakes: list[Mistake] = []
        self._own = loaded
        self._loaded = self._extended(loaded)
        self._filled = filling
        self._tree: Any = self._filled.node(self._loaded.root, ()).tree()
        self._secrets: dict[Secret, None] = {}
        self._shapes: Mapping[str, Shape] = {}

    def config(self) -> Config:
        document = self._document()
        connectors = {name: found for name in self._names("connectors") if (found := self._connector(name))}
        self._shapes = {name: declared.shape for name, declared in connectors.items()}
        contacts = {name: told for name in self._names("contacts") if (told := self._contact(name, document))}
        self._check_fallbacks()
        alerts_via = self._alerts(document)
        causes = self._causes(document)
        drills = {name: drill for name, each in (document.drills if document else {}).items() if (drill := self._drill(name, each))}
        if document:
            self._check_document(document)
            self._collect(document, ())
        if (mistakes := self._told()) or document is None:
            raise Mistakes(mistakes)
        rules = ("rules", "overrides")
        return Config(
            document, connectors, contacts, tuple(self._secrets), self._folder("rules", "path", document.rules.path),
            self._folder("store", "data", document.store.data), alerts_via, causes,
            {name: self._loaded.key_place((*rules, name)) for name in document.rules.overrides},
            {name: self._loaded.key_place(("drills", name)) for name in document.drills}, drills,
            self._tree.get("rules", {}),
        )  # fmt: skip

    # --- extends -------------------------------------------------------------------------------------------------

    def _extended(self, loaded: Loaded) -> Loaded:
        """Every connector with what it extends laid under it, and likewise its calls; ``extends`` is gone then."""
        connectors = loaded.node(("connectors",))
        if connectors is None or not isinstance(connectors.content, Mapping):
            return loaded
        content = {
            name: (place, self._calls_extended(self._flat(loaded, ("connectors",), name, ())))
            for name, (place, _) in connectors.content.items()
        }
        return Loaded(_with(loaded.root, "connectors", Node(connectors.place, content)), loaded.mistakes, loaded.file)

    def _flat(self, loaded: Loaded, at: tuple[str, ...], name: str, below: tuple[str, ...]) -> Node:
        """The entry ``name`` of the map at ``at``, over what it extends. ``below`` are those that extend it."""
        node = loaded.node((*at, name))
        assert node is not None
        parent = node.child("extends")
        if parent is None:
            return node
        siblings = loaded.node(at)
        known = siblings.content if siblings and isinstance(siblings.content, Mapping) else {}
        own = _without(node, "extends")
        if parent.content in (*below, name):
            self._mistakes.append(Mistake.at(parent.place, f'"{name}" extends itself through "{parent.content}"'))
        elif not isinstance(parent.content, str) or parent.content not in known:
            message = f'extends: "{parent.content}" is not there{near(str(parent.content), known)}'
            self._mistakes.append(Mistake.at(parent.place, message))
        else:
            return self._flat(loaded, at, parent.content, (*below, name)).merged(own)
        return own

    def _calls_extended(self, connector: Node) -> Node:
        calls = connector.child("calls")
        if calls is None or not isinstance(calls.content, Mapping):
            return connector
        alone = Loaded(connector)
        content = {name: (place, self._flat(alone, ("calls",), name, ())) for name, (place, _) in calls.content.items()}
        return _with(connector, "calls", Node(calls.place, content))

    # --- parts ---------------------------------------------------------------------------------------------------

    def _names(self, section: str) -> tuple[str, ...]:
        found = self._loaded.node((section,))
        return tuple(found.content) if found and isinstance(found.content, Mapping) else ()

    def _model(self, model: type[M], path: places.Path, drop: str = "") -> M | None:
        """The model at a path; what is wrong is noted."""
        tree = self._tree
        for part in path:
            tree = tree[part]
        if isinstance(tree, dict):
            tree = {key: value for key, value in tree.items() if key != drop}
        found, mistakes = places.validate(model, tree, self._loaded, path)
        self._mistakes += mistakes
        return found

    def _document(self) -> Document | None:
        """The document, of whose connectors and contacts it keeps the names: what is in them are models of their own."""
        if not isinstance(self._tree, dict):
            return self._model(Document, ())
        tree = {
            key: dict.fromkeys(value) if key in ("connectors", "contacts") and isinstance(value, dict) else value
            for key, value in self._tree.items()
        }
        found, mistakes = places.validate(Document, tree, self._loaded)
        self._mistakes += mistakes
        return found

    def _connector(self, name: str) -> Declared | None:
        path = ("connectors", name)
        if not _NAME.fullmatch(name):
            self._wrong(path, f'"{name}" is no name for a connector; use lower-case letters, digits and dashes', key=True)
        if not isinstance(self._tree["connectors"][name], dict):
            self._wrong(path, "must be a map of the connector's settings")
            return None
        given, extending = self._loaded.node((*path, "type")), self._own.node((*path, "extends"))
        if given is None and extending:
            return None  # what it extends is not there, which is told already
        if given is None:
            self._wrong(path, f'missing key "type" in "{name}": {", ".join(discover())}', key=True)
            return None
        kind = discover().get(str(given.content))
        if kind is None:
            self._wrong((*path, "type"), f'type: there is no kind "{given.content}"{near(str(given.content), discover())}')
            return None
        settings = self._model(kind.settings, path, drop="type")
        if settings is None:
            return None
        assert isinstance(settings, ConnectorSettings)
        self._collect(settings, path)
        self._check_inherited(settings, name)
        lint = kind.lint(name, settings, lambda below: self._loaded.place((*path, *below)))
        self._mistakes += lint
        if self._counting(lint):
            return None
        shape = kind.shape(settings)
        self._check_fields(shape, path)
        return Declared(kind, settings, shape)

    def _check_fields(self, shape: Shape, path: places.Path) -> None:
        """A field declared here that a condition could not read, or would mistake for something of the engine's own."""
        for records, declared in shape.records.items():
            for name in declared.fields:
                there = (*path, "records", records, "fields", name)
                if self._loaded.node(there) and (why := reserved(name)):
                    self._wrong(there, why, key=True)

    def _contact(self, name: str, document: Document | None) -> Contact | None:
        path = ("contacts", name)
        settings = self._model(ContactSettings, path)
        channels = [self._channel(path, index, each) for index, each in enumerate(settings.channels)] if settings else []
        if settings is None:
            return None
        timezone = settings.timezone or (document.timezone if document else "UTC")
        try:
            hours = parse_hours(settings.hours, timezone)
        except ValueError as error:
            self._wrong((*path, "hours"), f"hours: {error}")
            return None
        return Contact(
            name, settings.title or name, tuple(each for each in channels if each), hours, timezone,
            settings.language or (document.language if document else "ru"), settings.external,
            max(1, round(settings.rate.per_second * 3600)), settings.fallback, settings.send_resolved,
        )  # fmt: skip

    def _channel(self, contact: places.Path, index: int, channel: ChannelSettings) -> ChannelRef | None:
        path = (*contact, "channels", index)
        kind = self._teller(channel.via, (*path, "via"))
        if kind is None or kind.address is None:
            return None
        address = self._model(kind.address, path, drop="via")
        if address is None:
            return None
        return ChannelRef(channel.via, {key: str(value) for key, value in address.model_dump(exclude_none=True).items()})

    def _teller(self, via: str, path: places.Path) -> Kind | None:
        """The kind of a connector that can tell a person something; ``None`` and a mistake if it cannot."""
        if self._loaded.node(("connectors", via)) is None:
            message = f'there is no connector "{via}"'
        elif self._kind(via) is None or self._can_tell(via):
            return self._kind(via)
        else:
            message = f'"{via}" cannot tell a person anything'
        self._wrong(path, f"{path[-1]}: {message}{near(via, filter(self._can_tell, self._names('connectors')))}")
        return None

    def _can_tell(self, connector: str) -> bool:
        """Whether it is a channel; what is wrong in itself gets the benefit of the doubt."""
        kind, shape = self._kind(connector), self._shapes.get(connector)
        return kind is not None and kind.address is not None and (shape is None or shape.channel)

    def _kind(self, connector: str) -> Kind | None:
        type_ = self._loaded.node(("connectors", connector, "type"))
        return discover().get(str(type_.content)) if type_ else None

    # --- cross-checks --------------------------------------------------------------------------------------------

    def _check_document(self, document: Document) -> None:
        name = document.environment
        if name != "production" and name.casefold().startswith("prod"):  # its guard against the embedded database would be off
            self._wrong(
                ("environment",), f'environment: "{name}" is not "production"; write "production", or the name of another environment'
            )
        if document.environment == "production" and document.store.url is None:
            self._wrong(
                ("store", "url"),
                "environment: production needs store.url, the DSN of orderheal's own PostgreSQL database"
                ' (write store: {url: "${env:ORDERHEAL_DB_URL}"}, or environment: development for the embedded one)',
            )

        if document.traces and not self._filled.offline and find_spec("opentelemetry") is None:
            self._wrong(("traces",), 'traces needs the extra otel, which is not installed: pip install "orderheal[otel]"', key=True)

    def _drill(self, rule: str, settings: DrillSettings) -> Drill | None:
        plant, remove = (self._hand(("drills", rule, key), getattr(settings, key)) for key in ("plant", "remove"))
        if plant is None or remove is None:
            return None
        return Drill(rule, plant, remove, settings.prefix, Proof(settings.proof), settings.within)

    def _hand(self, path: places.Path, written: str) -> Hand | None:
        """A call of a connector with one parameter; ``None`` and a mistake, unless the connector itself is wrong, which is told."""
        connector, _, call = written.partition(".")
        if self._loaded.node(("connectors", connector)) is None:
            self._wrong(path, f'{path[-1]}: there is no connector "{connector}"{near(connector, self._names("connectors"))}')
            return None
        shape = self._shapes.get(connector)
        if shape is None:
            return None
        if call not in shape.calls:
            self._wrong(path, f'{path[-1]}: "{connector}" has no call "{call}"{near(call, shape.calls)}')
            return None
        params = sorted(shape.calls[call].params)
        if len(params) != 1:
            self._wrong(path, f'{path[-1]}: "{written}" takes {", ".join(params) or "nothing"}; it must take the key alone')
            return None
        return Hand(connector, call, params[0])

    def _causes(self, document: Document | None) -> tuple[CauseText, ...]:
        causes = tuple(
            CauseText(each.cause, each.condition, self._loaded.place(("causes", index, "if")))
            for index, each in enumerate(document.causes if document else ())
        )
        try:
            classifier(causes)
        except Mistakes as error:
            self._mistakes += error.mistakes
        return causes

    def _check_fallbacks(self) -> None:
        fallbacks = {name: self._loaded.node(("contacts", name, "fallback")) for name in self._names("contacts")}
        told = {name: str(node.content) for name, node in fallbacks.items() if node and node.content is not None}
        for name, fallback in told.items():
            path = ("contacts", name, "fallback")
            if fallback not in fallbacks:
                self._wrong(path, f'fallback: there is no contact "{fallback}"{near(fallback, fallbacks)}')
            elif name in _chain(told, name):
                self._wrong(path, f'fallback: "{name}" would be told in its own place, through "{fallback}"')

    def _alerts(self, document: Document | None) -> str | None:
        given = document.alerts.via if document else None
        if given is not None:
            self._teller(given, ("alerts", "via"))
            return given
        return DEFAULT_ALERTS if self._can_tell(DEFAULT_ALERTS) else None

    def _check_inherited(self, settings: BaseModel, name: str) -> None:
        """A secret inherited by ``extends`` together with another url would go to a host it was not meant for."""
        own = self._own.node(("connectors", name))
        url = own.child("url") if own else None
        if own is None or url is None or own.child("extends") is None:
            return
        for path, _ in _secrets(settings, ()):
            there = ("connectors", name, *path)
            if Loaded(own).node(path) is None and self._loaded.node(there) and self._is_secret(there):
                what = ".".join(map(str, path))
                self._mistakes.append(
                    Mistake.at(
                        self._own.key_place(("connectors", name, "url")),
                        f'"{name}" inherits the secret {what} together with another url; give it its own {what}',
                    )
                )

    # --- small ---------------------------------------------------------------------------------------------------

    def _collect(self, settings: BaseModel, path: places.Path) -> None:
        """Note the secrets of a model: the values, and what ``${env:…}`` put into them.

        A value that stands in the file, under a key that does not sound secret (``Accept: application/json``), is none:
        it would be masked wherever it is met.
        """
        for where, secret in _secrets(settings, path):
            if self._is_secret(where):
                filled = self._filled.values.get(where, ())
                self._secrets.update(dict.fromkeys((secret, *map(Secret, filled))))

    def _is_secret(self, path: places.Path) -> bool:
        return bool(self._filled.values.get(path)) or _SOUNDS_SECRET.search(str(path[-1])) is not None

    def _wrong(self, path: places.Path, message: str, key: bool = False) -> None:
        place = self._loaded.key_place(path) if key else self._loaded.place(path)
        self._mistakes.append(Mistake.at(place, message))

    def _told(self) -> Sequence[Mistake]:
        """The mistakes that count, without what came from the environment: who refuses a value quotes it."""
        redact = Redactor(Secret(value) for values in self._filled.values.values() for value in values)
        counting = [*self._filled.mistakes, *self._counting(self._mistakes)]
        return [Mistake(each.file, each.line, each.column, redact(each.message)) for each in counting]

    def _counting(self, mistakes: Sequence[Mistake]) -> Sequence[Mistake]:
        """All but those about values that are missing: that is told once, or, offline, not at all."""
        return [each for each in mistakes if (each.file, each.line, each.column) not in self._filled.missing]

    def _folder(self, section: str, key: str, value: str) -> Path:
        node = self._loaded.node((section, key))
        return Path(node.place.file if node else self._paths[0]).parent / value


DEFAULT_ALERTS = "sentry"
_SOUNDS_SECRET = re.compile(r"auth|cookie|dsn|key|pass|secret|sign|token|url", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
M = TypeVar("M", bound=BaseModel)


def _chain(told: Mapping[str, str], name: str) -> list[str]:
    """Who is told in whose place, from ``name`` on, until nobody or somebody for the second time."""
    chain: list[str] = []
    at = told.get(name)
    while at is not None and at not in chain:
        chain.append(at)
        at = told.get(at)
    return chain


def _with(node: Node, key: str, value: Node) -> Node:
    assert isinstance(node.content, Mapping)
    return Node(node.place, {**node.content, key: (node.content[key][0], value)})


def _without(node: Node, key: str) -> Node:
    if not isinstance(node.content, Mapping):
        return node
    return Node(node.place, {name: pair for name, pair in node.content.items() if name != key})


def _secrets(value: object, path: places.Path) -> Iterator[tuple[places.Path, Secret]]:
    """Every secret in a model, with its path in the file."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _secrets(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secrets(item, (*path, index))


def _texts(value: object) -> Iterator[str]:
    """Every text in a model, secrets revealed: only for looking at, never to be shown."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


# --- ${env:NAME} and ${file:PATH} --------------------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STAND_IN = "left-out-offline"
"""No word of a message: it is taken for a secret, and those are hidden wherever they occur."""

_HOLE = re.compile(r"\$\$\{|\$\{(env|file):([^}]*)\}|\$\{")
_MAX_FILE = 64 * 1024


class _Missing(ValueError):
    """Nothing is there to be filled in."""


class _Filling:
    """Puts values into ``${env:…}`` and ``${file:…}``, and remembers by path which.

    ``offline``: a missing value is no mistake; ``missing`` are the places where something stands in for one.
    """

    def __init__(self, env: Mapping[str, str], offline: bool = False) -> None:
        self._env, self.offline = env, offline
        self.missing: set[tuple[str, int, int]] = set()
        self.mistakes: list[Mistake] = []
        self.values: dict[places.Path, tuple[str, ...]] = {}

    def node(self, node: Node, path: places.Path) -> Node:
        """The same with every text filled in, places kept."""
        if isinstance(node.content, Mapping):
            content = {key: (place, self.node(each, (*path, key))) for key, (place, each) in node.content.items()}
            return Node(node.place, content)
        if isinstance(node.content, tuple):
            return Node(node.place, tuple(self.node(each, (*path, index)) for index, each in enumerate(node.content)))
        if not isinstance(node.content, str) or "${" not in node.content:
            return node
        if path[:1] == ("connectors",) and path[2:3] in (("records",), ("calls",)):
            return self._template(node)
        return self._text(node, node.content, path)

    def _template(self, node: Node) -> Node:
        """Requests and records keep their holes for records; a secret in one could end in the ledger."""
        if re.search(r"(?<!\$)\$\{(env|file):", str(node.content)):
            message = "${env:…} and ${file:…} are not for requests and records; put credentials into the connector's headers"
            self.mistakes.append(Mistake.at(node.place, message))
        return node

    def _text(self, node: Node, text: str, path: places.Path) -> Node:
        values: list[str] = []

        def fill(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            try:
                values.append(self._value(match[1], match[2], node.place))
            except _Missing as error:
                self.missing.add((node.place.file, node.place.line, node.place.column))
                if not self.offline:
                    self.mistakes.append(Mistake.at(node.place, str(error)))
                return _STAND_IN
            except ValueError as error:
                self.mistakes.append(Mistake.at(node.place, str(error)))
                return _STAND_IN
            return values[-1]

        filled = _HOLE.sub(fill, text)
        self.values[path] = tuple(values)
        return Node(node.place, filled)

    def _value(self, source: str | None, name: str, place: Place) -> str:
        if source == "env":
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f'"{name}" is no name of an environment variable')
            if name not in self._env:
                raise _Missing(f"environment variable {name} is not set")
            value = self._env[name]
        elif source == "file":
            value = self._file(Path(place.file).parent / name, name)
        else:
            raise ValueError("${…} stands for ${env:NAME} or ${file:PATH} here; a literal ${ is written $${")
        if not value:
            raise _Missing(f"{'environment variable' if source == 'env' else 'file'} {name} is empty")
        return value

    def _file(self, path: Path, name: str) -> str:
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(_MAX_FILE).rstrip("\r\n")
        except OSError as error:
            raise _Missing(f"file {name} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"file {name} is not UTF-8") from None


# --- schema ------------------------------------------------------------------------------------------------------


def config_schema() -> dict[str, Any]:
    """JSON Schema of ``config.yaml`` with every discovered kind, a description for every key."""
    schema = Document.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    arms = []
    for name, kind in sorted(discover().items()):
        arms.append(
            _defined(
                definitions,
                kind.settings,
                f"{name}_connector",
                {"type": {"const": name, "description": f"An outside system of kind {name}."}},
            )
        )
    schema["properties"]["connectors"]["additionalProperties"] = {"anyOf": [*arms, _EXTENDING]}
    contact = _defined(definitions, ContactSettings, "contact", {})
    schema["properties"]["contacts"]["additionalProperties"] = contact
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "orderheal config.yaml", **schema}


_EXTENDING: Mapping[str, Any] = {
    "type": "object",
    "required": ["extends"],
    "properties": {"extends": {"type": "string", "description": "Takes another one's settings: maps merged, lists replaced."}},
}


def _defined(definitions: dict[str, Any], model: type[BaseModel], name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{name}.{{model}}")
    for inner, definition in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    if "calls" in schema["properties"]:  # a call that extends another leaves out what it takes from it
        calls = schema["properties"]["calls"]
        calls["additionalProperties"] = {"anyOf": [calls["additionalProperties"], _EXTENDING]}
    schema["properties"] = {**more, **schema["properties"]}
    schema["required"] = [*more, *schema.get("required", [])]
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}"}
