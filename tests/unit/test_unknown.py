"""What a machine has and a snapshot does not know: counted in every plan, removed by an exact one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.lab.soak import examples
from tests.unit.model_machine import Tree, View, contents_of
from tests.unit.test_plan_files import LISTS, MACHINE, OWN, ROOT, Deeds, base_tree, changed, saved, steps
from tklb.diff.files import compare
from tklb.diff.rules import Rule, Rules, format_rules, parse_override, parse_rules
from tklb.errors import RestoreRefused
from tklb.model.files import FileChange
from tklb.model.packages import Package
from tklb.model.plan import Plan, Role
from tklb.model.report import Skipped
from tklb.restore.plan.files import unknown
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import CurrentMachine, OwnState, SnapshotContents
from tklb.restore.plan.plan import make_plan

ALL = (Rule(True, b"/"),)
NGINX, KERNEL = Package("nginx", "1", "amd64"), Package("linux-image-6.1", "1", "amd64")
DPKG = Package("dpkg", "1", "amd64")


def changes_of(base: Tree, now: Tree, rules: Rules) -> Iterator[FileChange]:
    def entries(tree: Tree):  # type: ignore[no-untyped-def] # noqa: ANN202
        paths = sorted(path for path in tree.names if rules.decide(path).included)
        return (tree.whole(path)._replace(nlink=None, ino=None) for path in paths)

    return compare(entries(base), entries(now))


def plan_of(
    snapshot: SnapshotContents,
    here: Tree,
    *limits: str,
    base: Tree | None = None,
    exact: bool = False,
    role: Role = Role.REPLACEMENT,
    **own: object,
) -> Plan:
    base = base or base_tree()
    if snapshot.contents.scope is None:
        snapshot = replace(snapshot, contents=replace(snapshot.contents, scope=format_rules(ALL)))
    state = OwnState(lambda rules: changes_of(base, here, rules), **own)
    choice = RestoreFilter(role=role, limit=tuple(map(parse_override, limits)), own=OWN, is_exact=exact)
    machine = CurrentMachine(MACHINE, ROOT, (DPKG, *own.get("packages", ())), View(here), own=state)
    return make_plan(snapshot, machine, choice)


def found(plan: Plan) -> dict[bytes, str]:
    return dict(plan.unknown.listed)


def test_new_edited_and_missing_files_are_unknown_and_what_the_snapshot_has_is_not() -> None:
    there, here = base_tree(), base_tree()
    for tree in (there, here):
        tree.put(b"/srv/known", content=b"x")
    there.remove(b"/srv/www/pics")
    here.put(b"/srv/www/shell.php", content=b"x")
    here.put(b"/srv/new/deep", "dir")
    here.put(b"/etc/conf", content=b"edited")
    here.remove(b"/usr/tool")
    plan = plan_of(saved(base_tree(), there), here)
    assert found(plan) == {
        b"/etc/conf": "edited",
        b"/srv/new": "folder",
        b"/srv/new/deep": "folder",
        b"/srv/www/shell.php": "file",
        b"/usr/tool": "missing",
    }
    assert plan.unknown.counts == {"edited": 1, "folder": 2, "file": 1, "missing": 1}


def test_another_kind_of_object_in_place_of_a_shipped_one_is_an_edit() -> None:
    here = base_tree()
    here.remove(b"/srv/www")
    here.put(b"/srv/www", "link", link=b"/data/www")
    for exact in (True, False):
        plan = plan_of(saved(base_tree(), base_tree()), here, exact=exact)
        assert not plan.steps
        assert found(plan)[b"/srv/www"] == "edited"
        assert found(plan)[b"/srv/www/index"] == "missing"


@pytest.mark.parametrize(
    "path", [b"/etc/fstab", b"/etc/machine-id", b"/etc/passwd", OWN[0] + b"/secret", b"/etc/ssh/ssh_host_new_key",
             b"/etc/apt/keyrings/mine.gpg",
             b"/opt/tklb/lib/x", b"/usr/local/bin/tklb", b"/usr/local/share/man/man1/tklb.1"]
)  # fmt: skip
@pytest.mark.parametrize("exact", [True, False])
def test_what_belongs_to_this_machine_is_neither_counted_nor_removed(path: bytes, exact: bool) -> None:
    here = base_tree()
    here.put(path, content=b"x")
    plan = plan_of(saved(base_tree(), base_tree()), here, exact=exact)
    assert path not in found(plan)
    assert path not in {step.item for step in plan.steps}


def test_a_clone_keeps_its_own_configuration_of_tklb_in_an_exact_restore_too() -> None:
    here = base_tree()
    here.put(b"/etc/tklb/tklb.toml", content=b"x")
    here.put(b"/etc/mailname", content=b"mine")
    plan = plan_of(saved(base_tree(), base_tree()), here, exact=True, role=Role.CLONE)
    assert not {b"/etc/tklb/tklb.toml", b"/etc/mailname"} & {step.item for step in plan.steps}


def test_nothing_outside_the_scope_of_the_snapshot_is_counted_or_removed() -> None:
    here = base_tree()
    here.put(b"/srv/cache/x", content=b"x")
    here.put(b"/data/x", content=b"x")
    snapshot = saved(base_tree(), base_tree())
    scope = format_rules((Rule(True, b"/srv"), Rule(False, b"/srv/cache", is_override=True)))
    snapshot = replace(snapshot, contents=replace(snapshot.contents, scope=scope))
    for exact in (True, False):
        plan = plan_of(snapshot, here, exact=exact)
        assert (plan.steps, plan.unknown.total) == ((), 0)


def test_what_the_backup_skipped_is_neither_counted_nor_removed() -> None:
    here = base_tree()
    here.put(b"/srv/closed/x", content=b"x")
    snapshot = replace(saved(base_tree(), base_tree()), left_out=frozenset((b"/srv/closed",)))
    plan = plan_of(snapshot, here, exact=True)
    assert (plan.steps, plan.unknown.total) == ((), 0)


def test_logs_beside_a_copied_database_are_known() -> None:
    there, here = base_tree(), base_tree()
    for tree in (there, here):
        tree.put(b"/srv/db", content=b"SQLite")
    here.put(b"/srv/db-wal", content=b"x")
    snapshot = saved(base_tree(), there)
    snapshot = replace(snapshot, contents=replace(snapshot.contents, copies=((b"/srv/db", "db"),)))
    assert plan_of(snapshot, here).unknown.total == 0


def test_what_the_profile_of_the_other_machine_has_is_known() -> None:
    here = base_tree()
    here.put(b"/etc/apache2/apache2.conf", content=b"x")
    here.remove(b"/usr/tool")
    lamp = {b"/etc/apache2/apache2.conf": object(), b"/etc/apache2": object()}
    snapshot = replace(saved(base_tree(), base_tree()), base=lamp.get)
    assert found(plan_of(snapshot, here)) == {}


def test_a_limit_holds_for_what_is_unknown_too() -> None:
    here = base_tree()
    here.put(b"/srv/www/shell.php", content=b"x")
    here.put(b"/etc/cron.d/job", content=b"x")
    snapshot = saved(base_tree(), base_tree())
    assert found(plan_of(snapshot, here, "/etc")) == {b"/etc/cron.d": "folder", b"/etc/cron.d/job": "file"}
    assert {step.item for step in plan_of(snapshot, here, "/etc", exact=True).steps} == {
        b"/etc/cron.d",
        b"/etc/cron.d/job",
    }


def test_packages_users_and_groups_are_named_and_kernels_and_what_tklb_needs_are_not() -> None:
    python = Package("python3", "1", "amd64")
    own = {"packages": (NGINX, KERNEL, python), "users": (b"mallory", b"root"), "groups": (b"wheel",)}
    snapshot = saved(base_tree(), base_tree())
    snapshot = replace(snapshot, contents=replace(snapshot.contents, packages=(DPKG,), packages_base=(DPKG,)))
    plan = plan_of(snapshot, base_tree(), **own)
    assert found(plan) == {b"nginx": "package", b"mallory": "user", b"wheel": "group"}
    exact = plan_of(snapshot, base_tree(), exact=True, **own)
    assert steps(exact) == [("remove-package", b"nginx")]
    assert found(exact) == {b"mallory": "user", b"wheel": "group"}


def test_libraries_of_another_release_are_not_unknown() -> None:
    library = Package("libssl3t64", "1", "amd64", auto=True)
    snapshot = saved(base_tree(), base_tree())
    there = replace(snapshot.contents.machine, release="debian-11")
    snapshot = replace(snapshot, contents=replace(snapshot.contents, packages=(DPKG,), machine=there))
    assert found(plan_of(snapshot, base_tree(), packages=(library, NGINX))) == {b"nginx": "package"}


def test_a_snapshot_without_its_scope_refuses_an_exact_restore_and_counts_by_its_profile() -> None:
    here = base_tree()
    here.put(b"/srv/x", content=b"x")
    snapshot = replace(saved(base_tree(), base_tree()), profile_rules=Rules((Rule(True, b"/srv"),)))
    state = OwnState(lambda rules: changes_of(base_tree(), here, rules))
    machine = CurrentMachine(MACHINE, ROOT, (), View(here), own=state)
    assert found(make_plan(snapshot, machine, RestoreFilter(own=OWN))) == {b"/srv/x": "file"}
    with pytest.raises(RestoreRefused):
        make_plan(snapshot, machine, RestoreFilter(own=OWN, is_exact=True))


def test_files_that_cannot_be_compared_are_named() -> None:
    unseen = (Skipped(b"/srv/x", "permission denied"), Skipped(b"/srv/y", "vanished while tklb read it"))
    plan = plan_of(saved(base_tree(), base_tree()), base_tree(), unseen=unseen)
    assert [(item.item, item.reason) for item in plan.skipped] == [(b"/srv/x", "not compared: permission denied")]


def test_the_list_is_bounded_and_the_count_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MOST_LISTED", 5)
    here = base_tree()
    for number in range(20):
        here.put(b"/srv/www/%02d" % number, content=b"x")
    plan = plan_of(saved(base_tree(), base_tree()), here)
    assert (plan.unknown.total, len(plan.unknown.listed)) == (20, 5)


def test_an_exact_restore_also_removes_what_is_in_the_way() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/app", content=b"a file")
    here.put(b"/srv/app/mine/deep", content=b"later")
    plan = plan_of(saved(base_tree(), there), here, exact=True)
    here.carry_out(plan, contents_of(there, here))
    assert here.names.keys() == there.names.keys()


def test_rules_survive_as_lines() -> None:
    rules = {
        Rule(True, b"/etc"), Rule(False, b"/etc/*.cache", is_override=True), Rule(True, b"/a b\n[x]", is_literal=True)
    }  # fmt: skip
    assert set(parse_rules(format_rules(rules))) == rules
    for line in (b"", b"include /etc", b"perhaps profile glob /etc", b"include profile glob etc", b"a b c /x y"):
        with pytest.raises(ValueError):
            parse_rules((line,))


@settings(max_examples=examples(150))
@given(LISTS, LISTS)
def test_a_machine_that_is_as_its_snapshot_has_nothing_unknown(first: Deeds, second: Deeds) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there = changed(base, second)
    for exact in (True, False):
        plan = plan_of(saved(base, there), there.copy(), base=base, exact=exact)
        assert (plan.steps, plan.skipped, plan.unknown.total) == ((), (), 0)


@settings(max_examples=examples(150))
@given(LISTS, LISTS, LISTS)
def test_after_an_exact_restore_only_edits_and_gaps_of_the_install_state_are_left(
    first: Deeds, second: Deeds, third: Deeds
) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = changed(base, second), changed(base, third)
    snapshot = saved(base, there)
    plan = plan_of(snapshot, here, base=base, exact=True)
    here.carry_out(plan, contents_of(base, there, here))
    again = plan_of(snapshot, here, base=base, exact=True)
    assert again.is_empty, again.steps
    assert {kind for _, kind in again.unknown.listed} <= {"edited", "missing"}
    assert here.names.keys() <= there.names.keys()
