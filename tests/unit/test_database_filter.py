"""Which databases and tables are wanted: the tables of tklb-overrides(5), row by row."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.test_shape import manual
from tklb.databases.filter import DatabaseFilter, build_filter, spell_item
from tklb.diff.rules import parse_override


def read_filter(*overrides: str, limited: bool = False) -> DatabaseFilter:
    return build_filter("mysql", map(parse_override, overrides), limited=limited)


def rows(heading: str) -> list[tuple[str, dict[str, bool]]]:
    """The rows below a heading of the manual: overrides, and of each database and table whether it is in."""
    table = manual("tklb-overrides.5").split(f"\n{heading}  ")[1].split("\n\n")[0]
    names, *lines = (re.split(r" {2,}", line.strip()) for line in table.splitlines())
    words = {"in": True, "out": False}
    return [
        (overrides, dict(zip(names, map(words.__getitem__, expected), strict=True))) for overrides, *expected in lines
    ]


def decide(chosen: DatabaseFilter) -> dict[str, bool]:
    return {
        "shop": chosen.has_database("shop"),
        "orders": chosen.has_rows("shop", "orders"),
        "cache": chosen.has_rows("shop", "cache"),
        "other": chosen.has_database("other"),
        "x": chosen.has_rows("other", "x"),
    }


@pytest.mark.parametrize(("overrides", "expected"), rows("overrides"))
def test_overrides_choose_databases_and_rows_as_the_manual_says(overrides: str, expected: dict[str, bool]) -> None:
    assert decide(read_filter(*overrides.replace("none", "").split())) == expected


@pytest.mark.parametrize(("overrides", "expected"), rows("limits"))
def test_limits_take_in_only_what_they_name_as_the_manual_says(overrides: str, expected: dict[str, bool]) -> None:
    limited = decide(read_filter(*overrides.split(), limited=True))
    assert {name: limited[name] for name in expected} == expected


def test_tables_of_the_manual_have_a_yes_and_a_no_for_everything() -> None:
    for heading, count in (("overrides", 5), ("limits", 4)):
        columns = [set(column) for column in zip(*(expected.values() for _, expected in rows(heading)), strict=True)]
        assert columns == [{True, False}] * count


def test_table_may_be_spelled_with_its_schema_or_without() -> None:
    chosen = build_filter("pgsql", [parse_override("-pgsql:shop/cache"), parse_override("-pgsql:shop/archive.orders")])
    assert not chosen.has_rows("shop", "public.cache", "cache")
    assert not chosen.has_rows("shop", "archive.orders", "orders")
    assert chosen.has_rows("shop", "public.orders", "orders")


@pytest.mark.parametrize("name", ["a/b", ".", "..", "a\nb", "a*b[c]?", "%2F", "ü"])
def test_odd_name_can_be_left_out_as_reports_spell_it(name: str) -> None:
    override = b"-" + spell_item("mysql", name)
    chosen = build_filter("mysql", [parse_override(override)])
    assert not chosen.has_database(name)
    assert chosen.has_database("another")


# mostly signs that a spelling could confuse; none of a glob, and what no server takes
NAMES = st.text(
    st.sampled_from("/%.25FEfe:-a") | st.characters(exclude_characters="\0*?[\\", codec="utf-8"), min_size=1
)


@given(NAMES, NAMES)
def test_names_are_told_apart_by_their_spelling(database: str, table: str) -> None:
    engine, _, spelling = spell_item("mysql", database, table).partition(b":")
    assert (engine, spelling.count(b"/")) == (b"mysql", 1)
    assert [unquote_to_bytes(part).decode() for part in spelling.split(b"/")] == [database, table]


@given(NAMES, NAMES)
@example("a/b", "a%2Fb")
@example(".", "%2E")
@example("%", "%25")
def test_override_as_reports_spell_it_is_about_nothing_else(name: str, other: str) -> None:
    chosen = build_filter("mysql", [parse_override(b"-" + spell_item("mysql", name))])
    assert not chosen.has_database(name)
    assert chosen.has_database(other) == (other != name)


def test_database_with_a_slash_is_no_table_of_another() -> None:
    assert read_filter("-mysql:a/b").has_database("a/b")
    assert read_filter("-mysql:a/b").has_rows("a/b", "t")


def test_engine_left_out_as_a_whole_is_not_asked() -> None:
    assert read_filter("-mysql:*").is_empty()
    assert not read_filter("-mysql:*", "mysql:shop/orders").is_empty()
    assert not read_filter("-mysql:shop").is_empty()
    assert not read_filter("-pgsql:*").is_empty()
