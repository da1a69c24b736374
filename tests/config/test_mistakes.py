"""A mistake in any key is one line with its place, all of them at once, and no secret in it."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.config import load_config
from daemon.language.mistake import Mistakes
from tests.config.conftest import BASE, ENV, Load

# What stands in the file · what is written instead, § where the mistake stands · what is said
ROWS: list[tuple[str, str, str]] = [
    ("environment: production", "environment: §[]", "must be text"),
    ("environment: production", "environment: §prod", 'write "production", or the name of another environment'),
    ("environment: production", "environment: §Production", 'write "production", or the name of another environment'),
    ("environment: production", "§enviroment: production", 'unknown key "enviroment", did you mean "environment"?'),
    ("timezone: Europe/Moscow\nlanguage", "timezone: §Europe/Moskow\nlanguage", "is no time zone"),
    ("language: ru\nstore", "language: §fr\nstore", "must be 'ru' or 'en'"),
    ('{url: "${env:DB}"}', '{url: "§${env:DBB}"}', "environment variable DBB is not set"),
    ('{url: "${env:DB}"}', '{url: "§${file:nowhere}"}', "file nowhere cannot be read: No such file"),
    ('{url: "${env:DB}"}', '{url: "§${env:}"}', '"" is no name of an environment variable'),
    ('{url: "${env:DB}"}', '{url: "§${env:MY-DB}"}', '"MY-DB" is no name of an environment variable'),
    ('{url: "${env:DB}"}', '{url: "§${DB}"}', "${…} stands for ${env:NAME}"),
    ('{url: "${env:DB}"}', "{url: §[]}", "must be text"),
    ('{url: "${env:DB}"}', '{url: "${env:DB}", §dta: x}', 'did you mean "data"?'),
    ('listen: "127.0.0.1:0"', "listen: §9464", "must be text"),
    ('listen: "127.0.0.1:0"', 'listen: "§here"', "must match"),
    ("lease: 30s", "lease: §30", "is no duration; write a number with a unit"),
    ("lease: 30s", "lease: §7s", "must be at least 8s"),
    ("poll: 1s", "poll: §0s", "must be at least 10ms"),
    ("poll: 1s", "poll: §1 sec", "is no duration"),
    ("cycles: 8", "cycles: §0", "must be at least 1"),
    ("page: 1000", "page: §many", "must be a whole number"),
    ("keep: 90d", "keep: §forever", "is no duration"),
    ("keep: 90d", "keep: §0s", "must be at least 1d"),
    ("format: auto", "format: §xml", "must be 'auto', 'json' or 'text'"),
    ("path: rules/", "path: §5", "must be text"),
    ("mode: observe", "mode: §off", "must be"),
    ("mode: observe", "mode: §approve", "not built yet"),
    ("every: 5m", "every: §5", "is no duration"),
    ("every: 5m", "every: §0s", "must be at least 1s"),
    ("{mode: enforce}", "{§owner: x}", 'unknown key "owner"'),
    ("path: rules/", "path: rules/\n  revision: §-1", "must be at least 0"),
    ("alerts: {via: telegram}", "alerts: {via: §telegraf}", 'there is no connector "telegraf", did you mean "telegram"?'),
    ("alerts: {via: telegram}", "alerts: {via: §shop-db}", "cannot tell a person anything"),
    ("base: RUB", "base: §rub", "must match"),
    ("KZT: 0.18", "KZT: §cheap", "must be a number"),
    ("KZT: 0.18", "KZT: §-0.18", "must be more than 0"),
    ("KZT: 0.18", "KZT: §.nan", "must be"),
    ("{number: string,", "{number: string, §package: string,", '"package" is a word of CEL itself; take another name, such as "parcel"'),
    ("{number: string,", "{number: string, §now: string,", '"now" is what the engine calls something of its own'),
    ("cause: address", "cause: §Address!", "must match"),
    ("""'text.matches("address")'""", """'text.match§("address")'""", "match"),
    ("""'text.matches("address")'""", """'§texte == "x"'""", "texte"),
    ("type: sql", "type: §sqll", 'there is no kind "sqll", did you mean "sql"?'),
    ("    type: sql\n    url: ${env:SHOP_DB}", "    url: ${env:SHOP_DB}", 'missing key "type" in "shop-db"'),
    ("url: ${env:SHOP_DB}", "url: §${env:SHOP_URL}", "PostgreSQL"),
    ("url: ${env:SHOP_URL}", "url: §shop.example", "must be an address"),
    ("url: ${env:SHOP_URL}", "url: §https://me:pw@shop.example", "credentials go into headers"),
    ("url: ${env:SHOP_URL}", "url: §ftp://shop.example", "must be an address"),
    ("url: ${env:SHOP_URL}", "url: §${env:SHOP_URL}\n    fingerprint: shop.other", 'its host is not "shop.other"'),
    ("timezone: Europe/Moscow\n    records", "timezone: §Moscow\n    records", "time zone"),
    ("timeout: 30s", "timeout: §30", "is no duration"),
    ("timeout: 30s", "timeout: §0s", "must be at least 10ms"),
    ("rate: 10/s", "rate: §10", "is no rate; write so many per second, minute or hour"),
    ("slots: 4", "slots: §0", "must be at least 1"),
    ("lag: 1s", "lag: §a bit", "is no duration"),
    ("lag: 1s", "§lagg: 1s", 'unknown key "lagg", did you mean "lag"?'),
    ('"Bearer ${env:SHOP_TOKEN}"', '"§Bearer\\n"', "holds a character that no header may hold"),
    ("{extends: upload,", "{extends: §uplod,", 'extends: "uplod" is not there, did you mean "upload"?'),
    ("{extends: upload,", "{extends: §fetch,", '"fetch" extends itself'),
    ("{extends: shop, url", "{extends: §shopp, url", 'extends: "shopp" is not there, did you mean "shop"?'),
    ("{extends: shop, url", "{extends: §other, url", '"other" extends itself'),
    (
        'url: "https://other.example", headers: {Authorization: "Bearer ${env:OTHER_TOKEN}"}', '§url: "https://other.example"',
        "inherits the secret headers.Authorization together with another url",
    ),
    ("number: {type: string", "number: {type: §text", "no type of a field"),
    ("ship_by: timestamp|null", "ship_by: §timestamp?", "no type of a field"),
    ('value: "${item.nr}"', 'value: "${itm§.nr}"', 'unknown name "itm.nr"'),
    ('value: "${item.nr}"', 'value: "§${item.nr"', "never closed"),
    ("key: ${number}\n        fields:\n", "key: §number\n        fields:\n", "must be one field, such as ${number}"),
    ("key: ${number}\n        fields:\n", "key: §${ship_by}\n        fields:\n", "must be one of `by`"),
    ("          number:\n            request", "          nummer:\n            §request", 'there is no field "nummer"'),
    ("{within: duration}", "{within: §days}", "must be"),
    ("{within: duration}", "{within: duration, now: §string}", '"now" has a meaning of its own'),
    ('"${now - within}"', '"${now - §witin}"', 'unknown name "witin"'),
    ('"${now - within}"', '"§${env:DB}"', "are not for requests and records"),
    ("items: ${body.orders}", "items: ${bdy§.orders}", 'unknown name "bdy.orders"'),
    ('next: {cursor: "${body.next}"}', 'next: §{cursor: "${body.next}", page: "${1}"}', "exactly one of cursor, page, link"),
    ('next: {cursor: "${body.next}"}', 'next: {§cursr: "${body.next}"}', 'unknown key "cursr"'),
    ('request: {path: "/orders/${key}"}', 'request: §{path: "/orders/all"}', "uses no ${key}"),
    ('request: {path: "/orders/${key}"}', 'request: {path: "§orders/${key}"}', "must match"),
    ('request: {path: "/orders/${key}"}', 'max_keys: §0\n            request: {path: "/orders/${key}"}', "must be at least 1"),
    ("present: status == 200", "present: §status", "must be true or false"),
    ("present: status == 200", 'present: "§${status == 200}"', "a condition is bare CEL"),
    ('body.error == "none"', "bdy§.error == 1", 'unknown name "bdy.error"'),
    ("item: ${body}\n", "item: ${body}\n            items: ${body}\n", "exactly one of item, items"),
    ("method: POST\n", "method: §PSOT\n", "must be"),
    ("path: /upload", "path: §/upload?a=1", "must match"),
    ('body: {id: "${id}"}', 'body: {id: "${§package}"}', "reserved"),
    ('body: {id: "${id}"}', 'body: {id: "§${}"}', "empty hole"),
    ("idempotent: true", "idempotent: §1", "must be true or false"),
    ("done: status == 200 && body.success == true", "done: status == 200 && body.success §= true", "not a CEL expression"),
    ("        done: status == 200 && body.success == true\n", "", 'missing key "done"'),
    ("refused: status == 422", "refused: §422", "must be text"),
    ("later: status == 503", "later: §state == 503", 'unknown name "state", did you mean "status"?'),
    ("alerts: {via: telegram}", "alerts: {via: telegram, deadman: {url: §nowhere}}", "must be an http or https URL"),
    ("alerts: {via: telegram}", "alerts: {via: telegram, §deadman: {}}", 'missing key "url"'),
    ("alerts: {via: telegram}", "alerts: {via: telegram, deadman: {url: 'https://example.org', every: §5}}", "is no duration"),
    ("title: Team", "title: §[]", "must be text"),
    ("channels: [{via: telegram, chat: \"-100\", thread: \"7\"}]", "channels: §[]", "must have at least 1"),
    ("via: telegram, chat: \"-100\"", "via: §telegran, chat: \"-100\"", 'did you mean "telegram"?'),
    ("via: telegram, chat: \"-100\"", "via: §shop-db, chat: \"-100\"", '"shop-db" cannot tell a person anything'),
    ("via: telegram, chat: \"-100\"", "via: §shop, chat: \"-100\"", '"shop" cannot tell a person anything'),
    ("via: telegram, chat: \"-100\"", "via: telegram, §chatt: \"-100\"", 'unknown key "chatt", did you mean "chat"?'),
    ("via: telegram, chat: \"-100\"", "via: telegram, chat: §-100", "must be text"),
    ("hours: Mo-Fr 09:00-18:00", "hours: §nine to five", "hours:"),
    ("timezone: Asia/Almaty", "timezone: §Almaty", "is no time zone"),
    ("    language: ru", "    language: §fr", "must be 'ru' or 'en'"),
    ("external: false", "external: §no", "must be true or false"),
    ("rate: 20/h", "rate: §20 per hour", "is no rate"),
    ("fallback: boss", "fallback: §bos", 'there is no contact "bos", did you mean "boss"?'),
    ("fallback: boss", "fallback: §team", '"team" would be told in its own place'),
    ("send_resolved: true", "send_resolved: §yes", "must be true or false"),
    ("send_resolved: true", "§sned_resolved: true", 'did you mean "send_resolved"?'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), ROWS, ids=[(row[1].strip() or row[0].strip()).splitlines()[-1][:50] for row in ROWS])
def test_a_mistake_is_one_line_at_its_place(old: str, new: str, said: str, load: Load) -> None:
    assert BASE.count(old) >= 1, "the row is stale"
    marked = BASE.replace(old, new, 1)
    with pytest.raises(Mistakes) as refused:
        load(marked.replace("§", ""))
    lines = [str(mistake) for mistake in refused.value.mistakes]
    found = [mistake for mistake in refused.value.mistakes if said in mistake.message]
    assert found, lines
    assert all("\n" not in line for line in lines)
    if "§" in marked:
        before = marked[: marked.index("§")]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        lineno = {(mistake.line, mistake.column) for mistake in found}
        assert place in lineno, lines


def test_a_secret_that_would_go_to_another_host_is_seen_offline_too(load: Load) -> None:
    inheriting = BASE.replace(
        'url: "https://other.example", headers: {Authorization: "Bearer ${env:OTHER_TOKEN}"}', 'url: "${env:OTHER_URL}"'
    )
    with pytest.raises(Mistakes, match=r"inherits the secret headers\.Authorization together with another url"):
        load(inheriting, env={}, offline=True)


def test_all_mistakes_of_all_sections_are_told_at_once(load: Load) -> None:
    text = BASE
    for old, new in (
        ("lease: 30s", "lease: 30"), ("type: sql", "type: sqll"), ("via: telegram, chat", "via: nobody, chat"),
        ("fallback: boss", "fallback: bos"), ("rate: 10/s", "rate: 10"), ("${env:TOKEN}", "${env:TOKN}"),
        ("Mo-Fr 09:00", "nine"), ("base: RUB", "base: r"),
    ):  # fmt: skip
        text = text.replace(old, new, 1)
    with pytest.raises(Mistakes) as refused:
        load(text)
    said = str(refused.value)
    for part in ("lease", "sqll", "nobody", '"bos"', "no rate", "TOKN", "hours", "base"):
        assert part in said
    assert list(refused.value.mistakes) == sorted(refused.value.mistakes)


def test_a_mistake_in_an_inherited_part_stands_where_it_is_written(load: Load, tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as refused:
        load(BASE, "connectors: {shop: {rate: fast}}\n")
    assert {(Path(mistake.file).name, mistake.line) for mistake in refused.value.mistakes} == {("2.yaml", 1)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lease: 30s", "lease: ${env:CANARY}"),
        ("url: ${env:SHOP_URL}", "url: ${env:CANARY}"),
        ("url: ${env:SHOP_DB}", "url: ${env:CANARY}"),
        ("hours: Mo-Fr 09:00-18:00", "hours: ${env:CANARY}"),
        ("rate: 20/h", "rate: ${env:CANARY}"),
        ("via: telegram, chat", "via: '${env:CANARY}', chat"),
        ("fallback: boss", "fallback: ${env:CANARY}"),
        ("alerts: {via: telegram}", "alerts: {via: '${env:CANARY}'}"),
        ("alerts: {via: telegram}", "alerts: {via: telegram, deadman: {url: '${env:CANARY}'}}"),
        ("type: sql", "type: ${env:CANARY}"),
        ("extends: shop,", "extends: '${env:CANARY}',"),
        ("timezone: Asia/Almaty", "timezone: ${env:CANARY}"),
        ('Bearer ${env:SHOP_TOKEN}"', 'Bearer ${env:CANARY}\\n"'),
        ("cause: address", "cause: '${env:CANARY}'"),
        ("""'text.matches("address")'""", '"${env:CANARY}"'),
        ("base: RUB", "base: '${env:CANARY}'"),
        ("format: auto", "format: '${env:CANARY}'"),
        ("mode: observe", "mode: '${env:CANARY}'"),
    ],
)
def test_no_message_tells_what_came_from_the_environment(old: str, new: str, load: Load) -> None:
    with pytest.raises(Mistakes) as refused:
        load(BASE.replace(old, new, 1), env=ENV | {"CANARY": "mysql://me:canary-9f8e7d@nowhere/x"})
    assert "canary" not in str(refused.value)


def test_an_empty_variable_is_a_missing_one(load: Load) -> None:
    with pytest.raises(Mistakes, match="environment variable TOKEN is empty"):
        load(BASE, env=ENV | {"TOKEN": ""})


def test_files_that_cannot_be_read_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9")
    for path in (tmp_path / "nowhere.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(Mistakes, match="cannot be read"):
            load_config([path], {})
    with pytest.raises(Mistakes, match="no configuration file"):
        load_config([], {})


@pytest.mark.parametrize("text", ["", "[]", "connectors: []", "connectors: {a: 5}", "connectors: {a: }", "contacts: 5", "contacts: {a: }",
                                  "connectors: {a: {type: http, calls: [], records: 7, url: 'http://x'}}", "connectors: {a: {extends: {}}}",
                                  "store: 5", "rules: []", "causes: {}", "connectors: {a: {type: [], extends: a}}"])  # fmt: skip
def test_anything_else_than_what_is_meant_is_refused_without_a_traceback(text: str, load: Load) -> None:
    with pytest.raises(Mistakes):
        load(text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzzed_files_never_give_a_traceback(load: Load, data: st.DataObject) -> None:
    lines = BASE.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        cut = data.draw(st.integers(0, len(lines[at])))
        junk = data.draw(st.sampled_from(["", "null", "[]", "{}", "5", ": ", "${", "}", "'", "x: y", "- ", "true", "${x}", "§", "\t"]))
        lines[at] = lines[at][:cut] + junk + data.draw(st.sampled_from([lines[at][cut:], ""]))
    with contextlib.suppress(Mistakes):
        load("\n".join(lines))
