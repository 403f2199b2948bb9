"""Which databases a restore brings back, where to, and what it says beforehand."""

from collections.abc import Mapping

import pytest

from tklb.diff.rules import parse_override
from tklb.errors import UsageWrong
from tklb.model.databases import Database, SavedDatabase, SavedServer, SavedTable, ServerFeatures
from tklb.model.plan import StepKind
from tklb.restore.plan.databases import RowGaps, list_items, plan_databases
from tklb.restore.plan.filter import Rename, RestoreFilter, parse_rename
from tklb.restore.plan.part import PlanPart

SHOP = SavedDatabase(
    "mysql", "shop", "shop", (SavedTable("cache"), SavedTable("orders", 3, ("o",))), 900, ("engine:InnoDB",)
)
WIKI = SavedDatabase("mysql", "wiki", "wiki", (SavedTable("page", 1, ("p",)),), 100)
MYSQL = SavedServer("mysql", "MariaDB 10.11.14", (SHOP, WIKI), ("'alice'@'%'",))
GIS = SavedDatabase(
    "pgsql",
    "gis",
    "gis",
    (SavedTable("public.roads", 5, ("r",)), SavedTable("old.roads", 5, ("q",))),
    7,
    ("extension:postgis",),
)
PGSQL = SavedServer("pgsql", "PostgreSQL 15.13", (GIS,), ("alice",))
OFFERS = {
    "mysql": ServerFeatures("MariaDB 11.8.3", (11, 8), (Database("mysql", "shop"),), frozenset({"engine:InnoDB"})),
    "pgsql": ServerFeatures("PostgreSQL 17.5", (17,), (), frozenset({"extension:hstore"})),
}

NOTHING: Mapping[bytes, bool] = {}


def plan(
    *limits: str,
    renames: tuple[str, ...] = (),
    broken: frozenset[bytes] = frozenset(),
    here: Mapping[bytes, bool] = NOTHING,
) -> PlanPart:
    choice = RestoreFilter(limit=tuple(map(parse_override, limits)), renames=tuple(map(parse_rename, renames)))
    return plan_databases((MYSQL, PGSQL), OFFERS, choice, broken, RowGaps(here))


def loads(found: PlanPart) -> dict[bytes, tuple[str, tuple[str, ...] | None, tuple[str, ...]]]:
    return {step.item: (step.load.into, step.load.tables, step.load.kept) for step in found.steps if step.load}


def accounts(found: PlanPart) -> list[bytes]:
    return [step.item for step in found.steps if step.kind is StepKind.DATABASE_ACCOUNTS]


def test_everything_comes_back_accounts_first() -> None:
    found = plan()
    assert loads(found) == {
        b"mysql:shop": ("shop", None, ("cache",)),
        b"mysql:wiki": ("wiki", None, ()),
        b"pgsql:gis": ("gis", None, ()),
    }
    assert accounts(found) == [b"mysql", b"pgsql"]
    kinds = [step.kind for step in found.steps if step.item.startswith(b"mysql")]
    assert kinds == [StepKind.DATABASE_ACCOUNTS, StepKind.DATABASE, StepKind.DATABASE]


def test_limit_brings_one_database_and_no_account() -> None:
    found = plan("mysql:shop")
    assert loads(found) == {b"mysql:shop": ("shop", None, ("cache",))}
    assert accounts(found) == []


def test_limit_brings_single_tables() -> None:
    assert loads(plan("mysql:shop/orders")) == {b"mysql:shop": ("shop", ("orders",), ())}
    assert loads(plan("pgsql:gis/roads")) == {b"pgsql:gis": ("gis", ("public.roads", "old.roads"), ())}
    assert loads(plan("pgsql:gis/old.roads")) == {b"pgsql:gis": ("gis", ("old.roads",), ())}


def test_what_is_left_out_stays_as_it_is_here() -> None:
    found = loads(plan("-mysql:shop/orders", "-pgsql:gis/public.roads", "-mysql:wiki"))
    assert found == {b"mysql:shop": ("shop", None, ("cache", "orders")), b"pgsql:gis": ("gis", None, ("public.roads",))}


def test_engine_left_out_keeps_its_accounts() -> None:
    found = plan("-mysql:*")
    assert list(loads(found)) == [b"pgsql:gis"]
    assert accounts(found) == [b"pgsql"]


def test_database_comes_back_under_another_name() -> None:
    assert loads(plan(renames=("shop=shop_old",)))[b"mysql:shop"][0] == "shop_old"
    assert loads(plan(renames=("pgsql:shop=x",)))[b"mysql:shop"][0] == "shop"
    assert "as shop_old" in plan(renames=("mysql:shop=shop_old",)).steps[1].detail


@pytest.mark.parametrize("text", ["shop", "=x", "shop=", "a=b=c", "shop=a/b", "mysql:=x"])
def test_rename_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageWrong):
        parse_rename(text)


def test_rename_may_say_whose() -> None:
    assert parse_rename("pgsql:a=b") == Rename("pgsql", "a", "b")
    assert parse_rename("web:a=b") == Rename("", "web:a", "b")


def test_broken_dump_is_named_and_not_loaded() -> None:
    found = plan(broken=frozenset({b"mysql:shop"}))
    assert [item.item for item in found.skipped] == [b"mysql:shop"]
    assert b"mysql:shop" not in loads(found)


def test_what_this_server_will_not_take_is_named_beforehand() -> None:
    warnings = plan().warnings
    assert "pgsql:gis needs extension:postgis, which this server has not" in warnings
    assert not any("InnoDB" in warning for warning in warnings)
    assert "the databases are of PostgreSQL 15.13; this server is PostgreSQL 17.5" in warnings


def test_older_server_here_is_named() -> None:
    offers = {"mysql": ServerFeatures("MariaDB 10.6.1", (10, 6))}
    warnings = plan_databases((MYSQL,), offers, RestoreFilter(), frozenset()).warnings
    assert warnings == ("the databases are of MariaDB 10.11.14, newer than MariaDB 10.6.1 here",)


def test_server_that_does_not_answer_is_named() -> None:
    found = plan_databases((MYSQL,), {}, RestoreFilter(), frozenset())
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("no mysql server answers here")
    assert len(loads(found)) == 2


def test_every_way_to_spell_an_item_is_known() -> None:
    assert {b"mysql:shop", b"mysql:shop/orders", b"pgsql:gis/roads", b"pgsql:gis/old.roads"} <= set(
        list_items((MYSQL, PGSQL))
    )


def test_plan_says_what_is_replaced() -> None:
    details = {step.item: step.detail for step in plan(here={b"mysql:shop/cache": True}).steps}
    assert (
        details[b"mysql:shop"] == "2 tables, 900 bytes, replaces the one here, the rows of cache stay as they are here"
    )
    assert details[b"mysql:wiki"] == "1 table, 100 bytes"


def test_only_a_table_that_is_here_keeps_rows() -> None:
    """On a fresh machine there is nothing that could stay as it is."""
    for here in ({}, {b"mysql:shop/cache": False}):
        (detail,) = [step.detail for step in plan(here=here).steps if step.item == b"mysql:shop"]
        assert detail == "2 tables, 900 bytes, replaces the one here, without the rows of cache"
    left_out = plan("-mysql:wiki/page").steps
    assert [step.detail for step in left_out if step.item == b"mysql:wiki"] == [
        "1 table, 100 bytes, without the rows of page"
    ]


def test_limit_of_a_table_without_rows_is_no_step_but_named() -> None:
    found = plan("mysql:shop/cache")
    assert found.steps == ()
    assert [(item.item, item.status) for item in found.skipped] == [(b"mysql:shop/cache", 3)]
    both = plan("mysql:shop/cache", "mysql:shop/orders")
    assert loads(both) == {b"mysql:shop": ("shop", ("orders",), ())}
    assert [item.item for item in both.skipped] == [b"mysql:shop/cache"]
