"""`:now` is written into SQL where it is code, and nowhere else."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.language.sqltext import at_rule_time, begins_as_select, faults, moment_literal, tokens
from tests.connectors_sql.shop import NOW

LITERAL = moment_literal(NOW)

QUOTED = [
    "':now'", "'it''s :now'", "E'\\':now'", "e'a\\\\'", '":now"', '"a"":now"', "$$:now$$", "$tag$ $$ :now $tag$",
    "-- :now ' \n", "/* :now /* ' */ :now */", "'\\'",
]  # fmt: skip
CODE = [" a::text ", " a[1:now] ", " x ", " (y)", " a.b::timestamptz", "\n", " % ", " $1 ", " 5::now ", " - "]
PIECES = st.lists(st.sampled_from([*QUOTED, *CODE, " :now "]))


@given(PIECES)
def test_only_now_in_code_becomes_a_moment(pieces: list[str]) -> None:
    written = at_rule_time(" ".join(pieces), NOW)
    assert written == " ".join(piece.replace(":now", LITERAL) if piece == " :now " else piece for piece in pieces)


@given(st.text(alphabet="':now\"$-/*E\\\n a[]();", max_size=40))
def test_the_pieces_of_any_text_give_the_text_again(text: str) -> None:
    assert "".join(piece for _, piece in tokens(text)) == text


@given(st.lists(st.sampled_from(["':now'", "'it''s'", "E'\\':now'", "$$:now$$", "$t$a$$:now$t$", "':now'::text"]), min_size=1))
def test_postgresql_reads_the_strings_as_they_were(pieces: list[str]) -> None:
    sql = " || ".join(pieces)
    assert at_rule_time(sql, NOW) == sql


def test_postgresql_agrees_on_what_is_a_string(database: str) -> None:
    """One statement of all traps: PostgreSQL gives back each string whole and the moment where it stood."""
    parts = ["':now'", "'it''s :now'", "E'\\':now'", "$$:now$$", "$tag$ $$ :now $tag$", "(ARRAY[1,2,3])[1:2]::text"]
    sql = f"SELECT {', '.join(parts)}, /* :now /* ' */ */ :now -- :now"
    expected = [":now", "it's :now", "':now", ":now", " $$ :now ", "{1,2}", NOW]
    with psycopg.connect(database) as connection:
        assert list(connection.execute(at_rule_time(sql, NOW)).fetchone() or ()) == expected


def test_the_moment_is_the_same_in_every_zone(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET TimeZone = 'Asia/Dubai'")
        assert connection.execute(f"SELECT {LITERAL}").fetchone() == (NOW,)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("created_at > :today", ":today is no placeholder"),
        ("tags[:n] = '{}'", "a[1:n]"),
        ("SELECT 1; DROP TABLE orders", "without `;`"),
        ("a = 'unfinished", "never closed"),
        ("a = $$unfinished", "never closed"),
        ("a /* unfinished /* */", "never closed"),
        ("a) OR (b", "brackets"),
        ("(a", "brackets"),
        ("-- nothing", "no SQL"),
    ],
)
def test_sql_that_cannot_stand_within_other_sql_is_told(sql: str, fault: str) -> None:
    assert any(fault in told for told in faults(sql, (":now",)))


@pytest.mark.parametrize("sql", ["a = ';' AND b = '('", "a::int > 5 -- ; (", 'note <> ":x" AND a[1:n] IS NULL', "t > :now"])
def test_sql_that_only_looks_wrong_is_let_be(sql: str) -> None:
    assert list(faults(sql, (":now",))) == []


@pytest.mark.parametrize(
    ("sql", "select"),
    [
        ("SELECT 1", True), ("-- a comment\n with x AS (SELECT 1) SELECT 1", True), ("(select 1)", True),
        ("DELETE FROM orders", False), ("selection", False), ("'SELECT'", False),
    ],
)  # fmt: skip
def test_a_select_is_known_by_its_first_word(sql: str, select: bool) -> None:
    assert begins_as_select(sql) is select
