"""Promises of whoever takes secrets out of texts."""

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.settings import Redactor, Secret

values = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8, max_size=40)


@given(values, st.text(max_size=9), st.text(max_size=9))
def test_a_secret_is_found_in_every_writing(value: str, before: str, after: str) -> None:
    redact = Redactor([Secret(value)])
    for written in (
        value, quote(value, safe=""), re.sub("%..", lambda m: m[0].lower(), quote(value, safe="")), quote_plus(value), html.escape(value),
        json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1],
    ):  # fmt: skip
        assert written not in redact(f"{before} {written} {after}")


@given(values, st.binary(max_size=8), st.binary(max_size=8))
def test_no_certain_part_of_a_secret_is_left_in_base64(value: str, before: bytes, after: bytes) -> None:
    redact = Redactor([Secret(value)])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value.encode() + after).decode()
        left = redact(text)
        assert "[secret]" in left
        assert len(left.replace("[secret]", "")) <= len(text) - len(value.encode())


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("postgresql://app:p%40ssw0rd@db/orders", 'password "p@ssw0rd" is wrong'),
        ("postgresql://app:p%40ssw0rd@db/orders", "p%40ssw0rd"),
        ("host=db password='pa ss' user=app", "pa ss"),
        ("host=db password=hunter2222 user=app", "hunter2222"),
        ("https://0123456789abcdef@sentry.example/3", "key 0123456789abcdef"),
        ("https://portal.example/rest/1/abcdefabcdef123/", "/rest/1/abcdefabcdef123/crm.deal.get"),
        ("https://hook.example/?token=tell-nobody", "tell-nobody"),
        ("Bearer tell-nobody-else", "token tell-nobody-else is expired"),
    ],
)
def test_what_is_secret_inside_of_a_secret_is_one_too(secret: str, said: str) -> None:
    left = Redactor([Secret(secret)])(said)
    assert "[secret]" in left


@pytest.mark.parametrize("said", ["orders", "app", "db", "disable", "Bearer", "offline"])
def test_words_of_an_address_stay_readable(said: str) -> None:
    assert Redactor([Secret("postgresql://app@db/orders?sslmode=disable"), Secret("Bearer abcdefgh")])(said) == said


def test_trees_are_redacted_to_their_leaves() -> None:
    redact = Redactor([Secret("hush-hush")])
    assert redact.tree({"a": ["hush-hush", 1, None], "hush-hush": True}) == {"a": ["[secret]", 1, None], "[secret]": True}


def test_neither_a_secret_nor_its_redactor_prints() -> None:
    secret = Secret("hush-hush")
    assert "hush" not in f"{secret} {secret!r} {Redactor([secret])!r} {[secret]}"
