"""What a backup skipped is named again by a restore: in scope, with its status, and in words for this machine."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.model_machine import View
from tests.unit.test_plan import DPKG, HERE, VIM, lived_in, snapshot_of
from tests.unit.test_plan_databases import MYSQL
from tests.unit.test_plan_files import MACHINE, OWN, base_tree
from tklb.backup.result import has_same_gaps
from tklb.databases.filter import parse_item, spell_item
from tklb.diff.rules import parse_override
from tklb.model.databases import Database, ServerFeatures
from tklb.model.plan import Plan
from tklb.model.report import Skipped
from tklb.restore.plan.filter import RestoreFilter, parse_rename
from tklb.restore.plan.inputs import CurrentMachine
from tklb.restore.plan.plan import make_plan

DENIED = "Permission denied"
PATH, HERE_TOO, STORED = b"/srv/www/secret", b"/etc/conf", b"/home/alice/notes"
SKIPPED = (
    Skipped(PATH, DENIED),
    Skipped(b"/srv/deep", "Input/output error (12 files below)"),
    Skipped(STORED, "changed while being read"),
    Skipped(b"package:nosuch", "an override names it, and it is not installed"),
    Skipped(b"mysql:shop/cache", "its rows were not dumped: Lock wait timeout exceeded"),
    Skipped(b"mysql:shop/report", "view: gone"),
    Skipped(b"mysql:blog", "its definitions changed"),
    Skipped(b"pgsql:*", "the cluster 15/main is not running", status=50),
)
EMPTY, SHOP = ServerFeatures("MariaDB", (10,)), ServerFeatures("MariaDB", (10,), (Database("mysql", "shop"),))


def restored(
    *limits: str,
    skipped: tuple[Skipped, ...] = SKIPPED,
    offers: Mapping[str, ServerFeatures] | None = None,
    rows: Mapping[bytes, bool] | None = None,
    renames: tuple[str, ...] = (),
    **choice: object,
) -> Plan:
    """Plan the restore of a snapshot whose backup skipped these items."""
    snapshot = replace(
        snapshot_of(lived_in()), servers=(MYSQL,), skipped=skipped, left_out=frozenset(item.item for item in skipped)
    )
    here = CurrentMachine(
        MACHINE, HERE, (DPKG, VIM), View(base_tree()), offers=offers or {"mysql": EMPTY}, rows_here=rows or {}
    )
    names = tuple(map(parse_rename, renames))
    return make_plan(
        snapshot, here, RestoreFilter(limit=tuple(map(parse_override, limits)), own=OWN, renames=names, **choice)
    )


def named(plan: Plan) -> dict[bytes, str]:
    """The skipped items that the backup had skipped: what becomes of each here."""
    return {
        item.item: item.reason.rpartition("; ")[2]
        for item in plan.skipped
        if item.reason.startswith("the backup skipped it: ")
    }


def test_all_that_the_backup_skipped_is_named_with_its_status_and_its_place_here() -> None:
    plan = restored()
    assert {item.item for item in SKIPPED} == set(named(plan))
    assert {item.item: item.status for item in plan.skipped if item.item in named(plan)} == {
        item.item: item.status for item in SKIPPED
    }
    assert named(plan)[PATH] == "there is none here"
    assert named(plan)[STORED] == "what the snapshot has of it comes back"
    assert named(plan)[b"mysql:shop/cache"] == "the table comes back empty"
    assert named(plan)[b"mysql:shop/report"] == "it does not come back"
    assert named(plan)[b"mysql:blog"] == "there is none here"
    assert named(plan)[b"pgsql:*"].startswith("none of its databases comes back, and no such server answers here")
    assert all(any(DENIED in line for line in plan.warnings) for item in plan.skipped if DENIED in item.reason)


def test_what_this_machine_has_in_its_place_is_said() -> None:
    here = (Skipped(HERE_TOO.replace(b"conf", b"untouched"), DENIED), Skipped(b"/etc", DENIED))
    assert set(named(restored(skipped=here)).values()) <= {"what is here stays as it is", "there is none here"}
    assert named(restored(skipped=(Skipped(b"/etc", DENIED),)))[b"/etc"] == "what is here stays as it is"
    rows = {b"mysql:shop/cache": True}
    assert named(restored(offers={"mysql": SHOP}, rows=rows))[b"mysql:shop/cache"] == "the rows that are here stay"
    rows = {b"mysql:shop/cache": False}
    assert named(restored(offers={"mysql": SHOP}, rows=rows))[b"mysql:shop/cache"] == "the table here is empty"
    renamed = restored(offers={"mysql": SHOP}, rows={b"mysql:shop/cache": True}, renames=("shop=old",))
    assert named(renamed)[b"mysql:shop/cache"] == "the table comes back empty"
    blog = ServerFeatures("MariaDB", (10,), (Database("mysql", "blog"),))
    assert named(restored(offers={"mysql": blog}))[b"mysql:blog"] == "the one here stays as it is"
    server = restored(offers={"pgsql": ServerFeatures("PostgreSQL", (15,), (Database("pgsql", "app"),))})
    assert named(server)[b"pgsql:*"].endswith("the server here keeps its own: app")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (("/srv",), {PATH, b"/srv/deep"}),
        (("/srv/deep/down/there",), {b"/srv/deep"}),
        ((PATH.decode(),), {PATH}),
        (("-/srv",), {item.item for item in SKIPPED} - {PATH, b"/srv/deep"}),
        (("mysql:shop/cache",), {b"mysql:shop/cache"}),
        (("mysql:shop",), {b"mysql:shop/cache", b"mysql:shop/report"}),
        (("mysql:shop/orders",), set()),
        (("mysql:blog",), {b"mysql:blog"}),
        (("pgsql:app",), {b"pgsql:*"}),
        (("-pgsql:*",), {item.item for item in SKIPPED} - {b"pgsql:*"}),
        (("-mysql:shop/cache",), {item.item for item in SKIPPED} - {b"mysql:shop/cache"}),
        (("package:nosuch",), {b"package:nosuch"}),
    ],
)
def test_limits_decide_which_items_are_in_scope(limits: tuple[str, ...], expected: set[bytes]) -> None:
    assert set(named(restored(*limits))) == expected


@pytest.mark.parametrize("item", [PATH, b"mysql:blog", b"pgsql:app", b"package:nosuch", b"/srv/deep/down"])
def test_limit_of_a_skipped_item_gives_the_reason_and_no_other(item: bytes) -> None:
    plan = restored(item.decode())
    assert len(plan.skipped) == 1
    assert plan.skipped[0].status in (3, 50)
    assert "the snapshot has no such item" not in plan.skipped[0].reason
    assert "the snapshot has no such item" in restored("/nowhere").skipped[0].reason


@pytest.mark.parametrize(
    ("part", "prefix"), [("files", b"/"), ("packages", b"package:"), ("databases", b"mysql:"), ("databases", b"pgsql:")]
)
def test_a_part_that_stays_away_names_nothing(part: str, prefix: bytes) -> None:
    assert not any(item.startswith(prefix) for item in named(restored(skip=frozenset({part}))))


def test_many_items_are_few_warnings_and_each_is_an_item() -> None:
    many = tuple(Skipped(b"/srv/many/%d" % number, DENIED) for number in range(500))
    plan = restored(skipped=many)
    assert len(named(plan)) == 500
    assert len([line for line in plan.warnings if DENIED in line]) == 1


@pytest.mark.parametrize(
    "names", [("a", ""), ("a/b", "t"), ("%", "%2F"), (".", "."), ("ü", "a.b"), ("..", "x/y"), ("a:b", "c:d")]
)
def test_item_reads_as_it_was_spelled(names: tuple[str, str]) -> None:
    assert parse_item(spell_item("pgsql", *names)) == ("pgsql", *names)


def test_a_snapshot_that_lacks_something_else_is_another_snapshot() -> None:
    one, other = Skipped(b"/a", DENIED), Skipped(b"/b", DENIED)
    assert has_same_gaps((one, other), (other, Skipped(b"/a", "Input/output error")))
    assert not has_same_gaps((), (one,))
    assert not has_same_gaps((one,), ())
    assert has_same_gaps((), (Skipped(b"/c", "vanished while tklb read it"),))
