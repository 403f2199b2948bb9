"""Which databases and tables are wanted: the truth table of tklb-overrides(5), row by row."""

import pytest

from tklb.delta.databases import DatabaseWish, item_of, wish_for
from tklb.delta.rules import parse_override


def wish(*overrides: str, limited: bool = False) -> DatabaseWish:
    return wish_for("mysql", map(parse_override, overrides), limited=limited)


TRUTH = [
    # overrides, is shop taken, rows of shop/orders, rows of shop/cache, is other taken, rows of other/x
    ("", True, True, True, True, True),
    ("mysql:shop", True, True, True, True, True),
    ("-mysql:shop", False, False, False, True, True),
    ("-mysql:shop/cache", True, True, False, True, True),
    ("-mysql:shop/*", True, False, False, True, True),
    ("-mysql:*", False, False, False, False, False),
    ("-mysql:* mysql:shop", True, True, True, False, False),
    ("-mysql:* mysql:shop -mysql:shop/cache", True, True, False, False, False),
    ("-mysql:shop mysql:shop/orders", True, True, False, True, True),
    ("-mysql:* mysql:shop/orders", True, True, False, False, False),
    ("-mysql:shop mysql:shop", False, False, False, True, True),
    ("-mysql:*/cache", True, True, False, True, True),
    ("-mysql:sh?p", False, False, False, True, True),
    ("-pgsql:shop", True, True, True, True, True),
    ("-/shop", True, True, True, True, True),
]


@pytest.mark.parametrize(("said", "shop", "orders", "cache", "other", "rows"), TRUTH)
def test_overrides_choose_databases_and_rows(
    said: str, shop: bool, orders: bool, cache: bool, other: bool, rows: bool
) -> None:
    asked = wish(*said.split())
    assert (asked.database("shop"), asked.database("other")) == (shop, other)
    assert (asked.rows("shop", "orders"), asked.rows("shop", "cache"), asked.rows("other", "x")) == (
        orders,
        cache,
        rows,
    )


LIMITS = [
    ("mysql:shop", True, True, True, False),
    ("mysql:shop/orders", True, True, False, False),
    ("mysql:shop -mysql:shop/cache", True, True, False, False),
    ("mysql:*", True, True, True, True),
    ("pgsql:shop", False, False, False, False),
]


@pytest.mark.parametrize(("said", "shop", "orders", "cache", "other"), LIMITS)
def test_limits_take_in_only_what_they_name(said: str, shop: bool, orders: bool, cache: bool, other: bool) -> None:
    asked = wish(*said.split(), limited=True)
    assert (asked.database("shop"), asked.database("other")) == (shop, other)
    assert (asked.rows("shop", "orders"), asked.rows("shop", "cache")) == (orders, cache)


def test_table_may_be_spelled_with_its_schema_or_without() -> None:
    asked = wish_for("pgsql", [parse_override("-pgsql:shop/cache"), parse_override("-pgsql:shop/archive.orders")])
    assert not asked.rows("shop", "public.cache", "cache")
    assert not asked.rows("shop", "archive.orders", "orders")
    assert asked.rows("shop", "public.orders", "orders")


@pytest.mark.parametrize("name", ["a/b", ".", "..", "a\nb", "a*b[c]?", "%2F", "ü"])
def test_odd_name_can_be_left_out_as_reports_spell_it(name: str) -> None:
    override = b"-" + item_of("mysql", name)
    asked = wish_for("mysql", [parse_override(override)])
    assert not asked.database(name)
    assert asked.database("another")


def test_database_with_a_slash_is_no_table_of_another() -> None:
    assert wish("-mysql:a/b").database("a/b")
    assert wish("-mysql:a/b").rows("a/b", "t")


def test_engine_left_out_as_a_whole_is_not_asked() -> None:
    assert wish("-mysql:*").wants_none()
    assert not wish("-mysql:*", "mysql:shop/orders").wants_none()
    assert not wish("-mysql:shop").wants_none()
    assert not wish("-pgsql:*").wants_none()
