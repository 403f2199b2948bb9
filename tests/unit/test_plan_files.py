"""File steps of a plan, tried on machines in memory: what a restore brings, keeps, deletes, and does not do twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tests.unit.model_machine import Tree, View, contents_of, delta_of, groups_of
from tklb.diff.rules import parse_override
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.plan import Plan, Role, StepKind
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.restore.plan.files.present import is_at_or_below
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import CurrentMachine, SnapshotContents
from tklb.restore.plan.plan import make_plan

MACHINE = MachineFacts("a", "id", "debian-12", "x86_64", "debian-12-core")
ROOT = Accounts(passwd=(b"root:x:0:0::/root:/bin/sh",), group=(b"root:x:0:",))
OWN = (b"/var/lib/tklb",)


def base_tree() -> Tree:
    tree = Tree()
    tree.put(b"/", "dir")
    tree.put(b"/etc/conf", content=b"default")
    tree.put(b"/srv/www/index", content=b"it works")
    tree.put(b"/srv/www/pics/logo", content=b"png")
    tree.put(b"/usr/tool", content=b"tool")
    return tree


def saved(base: Tree, there: Tree, **more: object) -> SnapshotContents:
    manifest, deleted = delta_of(base, there)
    links = groups_of(there, (entry.path for entry in manifest))
    contents = SnapshotMetadata(MACHINE, deleted=tuple(deleted), hard_links=links, accounts=ROOT)
    return SnapshotContents("20260101T000000Z", contents, lambda: iter(manifest), **more)


def plan_for(snapshot: SnapshotContents, here: Tree, *limits: str, role: Role = Role.REPLACEMENT) -> Plan:
    choice = RestoreFilter(role=role, limit=tuple(map(parse_override, limits)), own=OWN)
    return make_plan(snapshot, CurrentMachine(MACHINE, ROOT, (), View(here)), choice)


def restored(base: Tree, there: Tree, here: Tree) -> Plan:
    """Restore, check that nothing is left to do then, and give the plan that was carried out."""
    snapshot = saved(base, there)
    plan = plan_for(snapshot, here)
    here.carry_out(plan, contents_of(base, there, here))
    again = plan_for(snapshot, here)
    assert again.is_empty, again.steps
    assert not again.folder_times
    return plan


def steps(plan: Plan) -> list[tuple[str, bytes]]:
    return [(step.kind.value, step.item) for step in plan.steps]


# ---------------------------------------------------------------- what comes


def test_an_edited_file_is_written_and_an_equal_one_is_not() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/conf", content=b"edited")
    there.put(b"/etc/other", content=b"same")
    here.put(b"/etc/other", content=b"same")
    assert steps(restored(base_tree(), there, here)) == [("write-file", b"/etc/conf")]
    assert here.whole(b"/etc/conf") == there.whole(b"/etc/conf")._replace(ino=here.entry(b"/etc/conf").ino)


def test_content_is_compared_by_digest_even_where_size_and_time_agree() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/conf", content=b"DEFAULT")
    assert steps(restored(base_tree(), there, here)) == [("write-file", b"/etc/conf")]


def test_a_digest_is_asked_for_only_where_the_size_agrees() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/conf", content=b"longer than before")
    there.put(b"/etc/new", content=b"x")
    snapshot = saved(base_tree(), there)
    plan_for(snapshot, here)
    assert here.asked == 0


def test_only_metadata_is_set_where_the_content_is_the_same() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/conf", content=b"default", mode=0o600, uid=5)
    plan = restored(base_tree(), there, here)
    assert [(step.kind, step.detail) for step in plan.steps] == [(StepKind.METADATA, "owner mode")]


def test_attributes_that_travel_are_compared_and_those_of_the_kernel_are_not() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/a", xattrs=((b"security.selinux", b"label"), (b"user.x", b"1")))
    there.put(b"/srv/b", xattrs=((b"security.selinux", b"label"),))
    for path in (b"/srv/a", b"/srv/b"):
        here.put(path)
    plan = restored(base_tree(), there, here)
    assert [(step.item, step.detail) for step in plan.steps] == [(b"/srv/a", "attributes")]


@pytest.mark.parametrize(
    ("kind", "facts"),
    [("link", {"link": b"elsewhere"}), ("fifo", {}), ("char", {"device": (1, 3)}), ("block", {"device": (7, 0)})],
)
def test_nodes_come_and_come_once(kind: str, facts: dict[str, object]) -> None:
    there = base_tree()
    there.put(b"/srv/node", kind, **facts)
    assert steps(restored(base_tree(), there, base_tree())) == [("write-file", b"/srv/node")]


def test_a_time_that_the_file_system_cuts_to_seconds_is_no_difference() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/conf", content=b"edited", mtime_ns=5_123_456_789)
    here.put(b"/etc/conf", content=b"edited", mtime_ns=5_000_000_000)
    assert plan_for(saved(base_tree(), there), here).is_empty
    here.put(b"/etc/conf", content=b"edited", mtime_ns=4_000_000_000)
    assert steps(plan_for(saved(base_tree(), there), here)) == [("set-metadata", b"/etc/conf")]


def test_steps_come_parents_first_and_deletions_last() -> None:
    there = base_tree()
    there.remove(b"/srv/www")
    there.put(b"/srv/app/bin/run", content=b"x")
    assert steps(restored(base_tree(), there, base_tree())) == [
        ("write-file", b"/srv/app"),
        ("write-file", b"/srv/app/bin"),
        ("write-file", b"/srv/app/bin/run"),
        ("delete-file", b"/srv/www/pics/logo"),
        ("delete-file", b"/srv/www/pics"),
        ("delete-file", b"/srv/www/index"),
        ("delete-file", b"/srv/www"),
    ]


# ---------------------------------------------------------------- times of folders


def test_a_folder_of_the_delta_gets_its_time_back_after_what_is_written_in_it() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/new", "dir", mtime_ns=11)
    there.put(b"/srv/new/file", content=b"x")
    plan = restored(base_tree(), there, here)
    assert plan.folder_times == ((b"/srv/new", 11),)


def test_a_time_that_our_own_writing_disturbs_is_set_again() -> None:
    there, here = base_tree(), base_tree()
    for tree in (there, here):
        tree.put(b"/srv/new", "dir", mtime_ns=11)
    there.put(b"/srv/new/file", content=b"x")
    assert restored(base_tree(), there, here).folder_times == ((b"/srv/new", 11),)


def test_a_link_by_the_hash_of_a_replaced_certificate_goes_and_no_other() -> None:
    there, here = base_tree(), base_tree()
    for tree, hashed, content in ((there, b"11111111.0", b"of a"), (here, b"22222222.0", b"of b")):
        tree.put(b"/etc/ssl/certs/own.pem", content=content)
        tree.put(b"/etc/ssl/certs/same.pem", content=b"same")
        tree.put(b"/etc/ssl/certs/" + hashed, "link", link=b"own.pem")
        tree.put(b"/etc/ssl/certs/33333333.0", "link", link=b"own.pem")
    here.put(b"/etc/ssl/certs/44444444.0", "link", link=b"same.pem")
    here.put(b"/etc/ssl/certs/own", "link", link=b"own.pem")
    plan = restored(base_tree(), there, here)
    assert steps(plan) == [
        ("write-file", b"/etc/ssl/certs/11111111.0"),
        ("write-file", b"/etc/ssl/certs/own.pem"),
        ("delete-file", b"/etc/ssl/certs/22222222.0"),
    ]


def test_the_time_of_a_folder_alone_is_no_step() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/new", "dir", mtime_ns=11)
    here.put(b"/srv/new", "dir", mtime_ns=12)
    plan = plan_for(saved(base_tree(), there), here)
    assert plan.is_empty
    assert plan.folder_times == ((b"/srv/new", 11),)


# ---------------------------------------------------------------- kinds that change


def test_a_folder_that_became_a_file_gives_way_with_what_was_deleted_in_it() -> None:
    there = base_tree()
    there.remove(b"/srv/www")
    there.put(b"/srv/www", content=b"now a file")
    here = base_tree()
    assert steps(restored(base_tree(), there, here)) == [
        ("move-aside", b"/srv/www"),
        ("write-file", b"/srv/www"),
        *(("delete-file", b"/srv/www.tklb-kept" + below) for below in (b"/pics/logo", b"/pics", b"/index", b"")),
    ]
    assert here.names.keys() == there.names.keys()


def test_a_file_that_became_a_folder_is_replaced_and_filled() -> None:
    there, here = base_tree(), base_tree()
    there.remove(b"/etc/conf")
    there.put(b"/etc/conf/part", content=b"x")
    assert steps(restored(base_tree(), there, here)) == [
        ("write-file", b"/etc/conf"),
        ("write-file", b"/etc/conf/part"),
    ]


def test_a_folder_that_became_a_link_takes_what_was_in_it_along() -> None:
    there, here = base_tree(), base_tree()
    there.remove(b"/srv/www")
    there.put(b"/srv/www", "link", link=b"/data/www")
    there.put(b"/data/www/index", content=b"it works")
    restored(base_tree(), there, here)
    assert here.whole(b"/srv/www").link == b"/data/www"


def test_a_linked_parent_is_never_followed_and_all_below_is_named() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/www/new", content=b"x")
    there.remove(b"/srv/www/pics")
    here.remove(b"/srv/www")
    here.put(b"/srv/www", "link", link=b"/data/www")
    plan = plan_for(saved(base_tree(), there), here)
    assert plan.is_empty
    assert {item.item for item in plan.skipped} == {b"/srv/www/new", b"/srv/www/pics", b"/srv/www/pics/logo"}
    assert all("/srv/www is not a folder" in item.reason for item in plan.skipped)


def test_a_linked_parent_that_is_a_folder_in_the_snapshot_becomes_one() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/new/file", content=b"x")
    here.put(b"/srv/new", "link", link=b"/data")
    assert steps(restored(base_tree(), there, here)) == [
        ("move-aside", b"/srv/new"),
        ("write-file", b"/srv/new"),
        ("write-file", b"/srv/new/file"),
    ]
    assert here.whole(b"/srv/new.tklb-kept").link == b"/data"


# ---------------------------------------------------------------- deletions


def test_only_what_is_there_is_deleted() -> None:
    there, here = base_tree(), base_tree()
    for tree in (there, here):
        tree.remove(b"/etc/conf")
    assert restored(base_tree(), there, here).is_empty


def test_a_deleted_folder_that_holds_this_machines_own_stays_and_is_named() -> None:
    there, here = base_tree(), base_tree()
    there.remove(b"/srv/www")
    here.put(b"/srv/www/mine", content=b"precious")
    plan = restored(base_tree(), there, here)
    assert (StepKind.DELETE.value, b"/srv/www/index") in steps(plan)
    assert b"/srv/www/mine" in here.names
    assert any("kept: /srv/www" in line and "mine" in line for line in plan.warnings)


def test_what_packages_may_bring_is_planned_for_deletion_unseen() -> None:
    from tklb.model.packages import Package

    base, there, here = base_tree(), base_tree(), base_tree()
    base.put(b"/etc/site/default", content=b"x")
    snapshot = saved(base, there)
    package = Package("nginx", "1", "amd64")
    snapshot = replace(snapshot, contents=replace(snapshot.contents, packages=(package,)))
    assert (StepKind.DELETE.value, b"/etc/site/default") in steps(plan_for(snapshot, here))


def test_nothing_is_looked_for_below_a_folder_that_is_not_there() -> None:
    there, here = base_tree(), base_tree()
    for number in range(3):
        there.put(b"/srv/new/%d.db" % number, content=bytes(512))
        there.put(b"/srv/new/deep/%d" % number, content=b"x")
    asked: list[bytes] = []

    def asking(look: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *more: (asked.append(path), look(path, *more))[1]

    view = View(here)
    view.entry, view.find_barrier, view.head = asking(view.entry), asking(view.find_barrier), asking(view.head)
    plan = make_plan(saved(base_tree(), there), CurrentMachine(MACHINE, ROOT, (), view), RestoreFilter(own=OWN))
    assert len(plan.steps) == 8
    assert {path for path in asked if path.startswith(b"/srv/new")} == {b"/srv/new"}


# ---------------------------------------------------------------- logs of SQLite databases

WAL = bytes.fromhex("377f0682002de218") + b"frames of another database"
WAL_OF_BIG_ENDIANS = bytes.fromhex("377f0683002de218")
JOURNAL = bytes.fromhex("d9d505f920a163d7") + b"pages of another database"
DATABASE = b"/srv/app/db"


def with_database(content: bytes = b"SQLite format 3", **beside: bytes) -> Tree:
    """A machine with a database; what lies beside it is named by its end."""
    tree = base_tree()
    tree.put(DATABASE, content=content)
    for end, log in beside.items():
        tree.put(DATABASE + b"-" + end.encode(), content=log)
    return tree


def overtaken(**beside: bytes) -> Tree:
    return with_database(b"SQLite format 3, of another", **beside)


@pytest.mark.parametrize(
    ("beside", "gone"),
    [
        ({"wal": WAL}, [b"-wal"]),
        ({"wal": WAL_OF_BIG_ENDIANS, "shm": b"index"}, [b"-shm", b"-wal"]),
        ({"journal": JOURNAL}, [b"-journal"]),
        ({"journal": JOURNAL, "wal": WAL, "shm": b"index"}, [b"-shm", b"-wal", b"-journal"]),
        ({"journal": b"the owner's", "wal": WAL}, [b"-wal"]),
    ],
)
def test_a_log_of_another_database_goes_right_before_the_file_it_would_spoil(
    beside: dict[str, bytes], gone: list[bytes]
) -> None:
    plan = restored(base_tree(), with_database(), overtaken(**beside))
    assert steps(plan) == [*(("delete-file", DATABASE + end) for end in gone), ("write-file", DATABASE)]


@pytest.mark.parametrize(
    "beside",
    [
        {"journal": b"the owner's", "wal": b"walnuts", "shm": b"x"},
        {"journal": b"", "wal": b""},  # as SQLite leaves them when it is done with them
        {"journal": bytes(512)},
        {"journal": JOURNAL[:7], "wal": WAL[:3]},
        {"journal": WAL, "wal": JOURNAL},
        {"shm": WAL},
        {"log": WAL},
    ],
)
def test_what_is_only_called_like_a_log_stays(beside: dict[str, bytes]) -> None:
    plan = restored(base_tree(), with_database(), overtaken(**beside))
    assert steps(plan) == [("write-file", DATABASE)]


@pytest.mark.parametrize("kind", ["dir", "link", "fifo"])
def test_what_is_no_file_is_no_log(kind: str) -> None:
    here = overtaken()
    here.put(DATABASE + b"-wal", kind, content=WAL)
    assert steps(restored(base_tree(), with_database(), here)) == [("write-file", DATABASE)]


@pytest.mark.parametrize("kind", ["dir", "link"])
def test_what_comes_and_is_no_file_has_no_log(kind: str) -> None:
    there, here = base_tree(), base_tree()
    there.put(DATABASE, kind)
    here.put(DATABASE + b"-wal", content=WAL)
    assert ("delete-file", DATABASE + b"-wal") not in steps(restored(base_tree(), there, here))


WHOLE = b"SQLite format 3".ljust(1024, b"\0")


@pytest.mark.parametrize(
    ("beside", "gone"),
    [
        ({"wal": WAL}, [b"-wal"]),
        ({"wal": WAL, "shm": b"index"}, [b"-shm", b"-wal"]),
        ({"journal": JOURNAL}, [b"-journal"]),
    ],
)
def test_a_database_that_only_a_log_makes_newer_comes_back(beside: dict[str, bytes], gone: list[bytes]) -> None:
    here = with_database(WHOLE, **beside)
    plan = restored(base_tree(), with_database(WHOLE), here)
    assert steps(plan) == [*(("delete-file", DATABASE + end) for end in gone), ("write-file", DATABASE)]


@pytest.mark.parametrize(
    "beside", [{}, {"wal": b"", "shm": b"index"}, {"wal": bytes(32)}, {"journal": bytes(512)}, {"wal": b"walnuts"}]
)
def test_a_database_whose_log_holds_nothing_is_left_in_peace(beside: dict[str, bytes]) -> None:
    here = with_database(WHOLE, **beside)
    assert restored(base_tree(), with_database(WHOLE), here).is_empty


def test_a_copied_database_that_is_open_and_unchanged_keeps_what_is_beside_it() -> None:
    here = with_database(WHOLE, wal=b"", shm=b"index")
    snapshot = saved(base_tree(), with_database(WHOLE))
    snapshot = replace(snapshot, contents=replace(snapshot.contents, copies=((DATABASE, "db"),)))
    assert plan_for(snapshot, here).is_empty


def test_a_database_that_came_with_its_log_is_left_in_peace() -> None:
    assert restored(base_tree(), with_database(WHOLE, wal=WAL), with_database(WHOLE, wal=WAL)).is_empty


def test_a_log_that_the_snapshot_has_comes_with_its_database() -> None:
    assert steps(restored(base_tree(), with_database(wal=WAL + b"more"), overtaken(wal=WAL, shm=b"index"))) == [
        ("delete-file", DATABASE + b"-shm"),
        ("write-file", DATABASE),
        ("write-file", DATABASE + b"-wal"),
    ]


def test_a_log_beside_a_database_that_has_the_same_content_stays() -> None:
    here = with_database(wal=WAL)
    assert restored(base_tree(), with_database(), here).is_empty
    here.put(DATABASE, content=b"SQLite format 3", mode=0o600)
    assert steps(restored(base_tree(), with_database(), here)) == [("set-metadata", DATABASE)]


def test_a_log_goes_where_its_database_is_gone() -> None:
    here = overtaken(wal=WAL)
    here.remove(DATABASE)
    assert ("delete-file", DATABASE + b"-wal") in steps(restored(base_tree(), with_database(), here))


def test_a_log_goes_where_its_database_becomes_a_name_of_another_file() -> None:
    there = with_database()
    there.link(b"/srv/app/a", DATABASE)
    assert steps(restored(base_tree(), there, overtaken(wal=WAL))) == [
        ("write-file", b"/srv/app/a"),
        ("delete-file", DATABASE + b"-wal"),
        ("link-file", DATABASE),
    ]


def test_a_log_that_was_deleted_there_goes_once() -> None:
    base = base_tree()
    base.put(DATABASE + b"-wal", content=b"as the package brings it")
    plan = restored(base, with_database(), overtaken(wal=WAL))
    assert steps(plan).count(("delete-file", DATABASE + b"-wal")) == 1


@pytest.mark.parametrize("limit", ["/srv/app/db", "-/srv/app/db-wal"])
def test_a_log_outside_the_limits_stays_and_is_named(limit: str) -> None:
    plan = plan_for(saved(base_tree(), with_database()), overtaken(wal=WAL), limit)
    assert steps(plan) == [("write-file", DATABASE)]
    assert [line for line in plan.warnings if line.startswith("kept: /srv/app/db-wal ") and "SQLite" in line]


def test_a_log_within_the_limits_goes() -> None:
    plan = plan_for(saved(base_tree(), with_database()), overtaken(wal=WAL), "/srv/app")
    assert steps(plan) == [("delete-file", DATABASE + b"-wal"), ("write-file", DATABASE)]
    assert not [line for line in plan.warnings if "SQLite" in line]


def test_a_log_beside_a_file_that_a_guard_keeps_stays() -> None:
    there, here = base_tree(), base_tree()
    there.put(OWN[0] + b"/db", content=b"theirs")
    here.put(OWN[0] + b"/db", content=b"ours")
    here.put(OWN[0] + b"/db-wal", content=WAL)
    assert plan_for(saved(base_tree(), there), here).is_empty


# ---------------------------------------------------------------- hard links


def test_names_of_one_file_become_names_of_one_file() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/one", content=b"x")
    there.link(b"/srv/two", b"/srv/one")
    there.link(b"/srv/sub/three", b"/srv/one")
    here.put(b"/srv/two", content=b"x")
    restored(base_tree(), there, here)
    assert here.names[b"/srv/one"] == here.names[b"/srv/two"] == here.names[b"/srv/sub/three"]


def test_when_the_first_name_cannot_come_the_next_one_leads() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/one", content=b"x")
    there.link(b"/srv/two", b"/srv/one")
    there.link(b"/srv/zero", b"/srv/one")
    here.put(b"/srv/one/mine", content=b"precious")
    here.mounts = (b"/srv/one/mine",)
    plan = restored(base_tree(), there, here)
    assert steps(plan) == [("write-file", b"/srv/two"), ("link-file", b"/srv/zero")]
    assert [item.item for item in plan.skipped] == [b"/srv/one"]


def test_a_link_to_an_unchanged_file_of_the_install_state_is_restored_as_that_link() -> None:
    there, here = base_tree(), base_tree()
    there.link(b"/srv/tool", b"/usr/tool")
    plan = restored(base_tree(), there, here)
    assert [(step.kind, step.partner) for step in plan.steps] == [(StepKind.LINK, b"/usr/tool")]
    assert here.names[b"/srv/tool"] == here.names[b"/usr/tool"]


def test_where_that_file_differs_here_the_content_comes_by_itself_and_it_is_said() -> None:
    there, here = base_tree(), base_tree()
    there.link(b"/srv/tool", b"/usr/tool")
    here.put(b"/usr/tool", content=b"this machine's own")
    plan = restored(base_tree(), there, here)
    assert steps(plan) == [("write-file", b"/srv/tool")]
    assert any("/usr/tool" in line for line in plan.warnings)
    assert here.inodes[here.names[b"/usr/tool"]].content == b"this machine's own"


def test_metadata_is_never_set_through_another_name_of_the_file() -> None:
    base, there, here = base_tree(), base_tree(), base_tree()
    for tree in (base, here):
        tree.link(b"/usr/alias", b"/usr/tool")
    there.put(b"/usr/alias", content=b"tool")
    there.put(b"/usr/tool", content=b"tool", mode=0o4755)
    restored(base, there, here)
    assert here.whole(b"/usr/tool").mode == 0o4755
    assert here.whole(b"/usr/alias").mode == 0o755


# ---------------------------------------------------------------- owners


def test_ids_are_mapped_once_through_chains_and_swaps() -> None:
    def accounts(**ids: int) -> Accounts:
        return Accounts(
            passwd=(*ROOT.passwd, *(f"{name}:x:{number}:0::/:/bin/sh".encode() for name, number in ids.items())),
            group=ROOT.group,
        )

    there, here = base_tree(), base_tree()
    for number in (104, 105, 106, 107):
        there.put(b"/srv/%d" % number, uid=number)
    snapshot = saved(base_tree(), there)
    snapshot = replace(snapshot, contents=replace(snapshot.contents, accounts=accounts(a=104, b=105, c=106, d=107)))
    plan = make_plan(
        snapshot, CurrentMachine(MACHINE, accounts(a=105, b=106, c=107, d=104), (), View(here)), RestoreFilter(own=OWN)
    )
    here.carry_out(plan, contents_of(there))
    assert [here.entry(b"/srv/%d" % number).uid for number in (104, 105, 106, 107)] == [105, 106, 107, 104]


def test_a_malformed_acl_skips_its_file() -> None:
    there = base_tree()
    there.put(b"/srv/x", xattrs=((b"system.posix_acl_access", b"junk"),))
    plan = plan_for(saved(base_tree(), there), base_tree())
    assert [item.item for item in plan.skipped] == [b"/srv/x"]


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize("path", [b"etc/x", b"/../x", b"/a//b", b"/a/./b", b"/a\0b", b"/a/", b""])
def test_a_path_that_is_none_is_skipped_and_never_reaches_the_machine(path: bytes) -> None:
    contents = SnapshotMetadata(MACHINE, deleted=(path,), hard_links=((path, b"/etc/conf"),), accounts=ROOT)
    snapshot = SnapshotContents("s", contents, lambda: iter([FileEntry(path, "file", sha256="0")]))
    plan = plan_for(snapshot, base_tree())
    assert plan.is_empty
    assert {item.item for item in plan.skipped} == {path}


def test_a_file_that_changed_while_it_was_backed_up_is_checked_by_what_was_stored() -> None:
    there = base_tree()
    there.put(b"/srv/log", content=b"growing")
    skipped = (Skipped(b"/srv/log", "changed while being read"),)
    stored = {b"/srv/log": "f" * 64}
    snapshot = saved(base_tree(), there, changed_while_read=stored, left_out={b"/srv/log"}, skipped=skipped)
    plan = plan_for(snapshot, base_tree())
    (step,) = plan.steps
    assert (step.entry.sha256, step.entry.size) == ("f" * 64, None)
    assert any(line.startswith("/srv/log: the backup skipped it: changed") for line in plan.warnings)


# ---------------------------------------------------------------- any machines at all

NAMES = st.sampled_from([b"a", b"a-", b"a.b", b"b", b"b\n\xff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: b"/" + b"/".join(names))
FACTS = st.fixed_dictionaries(
    {"mode": st.sampled_from([0o644, 0o4755]), "uid": st.sampled_from([0, 5]), "mtime_ns": st.sampled_from([1, 2])}
)
DEEDS = st.one_of(
    st.tuples(st.just("file"), PATHS, st.sampled_from([b"x", b"y", b"long"]), FACTS),
    st.tuples(st.sampled_from(["dir", "link", "fifo"]), PATHS, st.just(b""), FACTS),
    st.tuples(st.just("remove"), PATHS, st.just(b""), FACTS),
    st.tuples(st.just("hard"), PATHS, PATHS, FACTS),
)


Deeds = list[tuple[str, bytes, bytes, dict[str, object]]]


def changed(tree: Tree, deeds: Deeds) -> Tree:
    tree = tree.copy()
    for kind, path, what, facts in deeds:
        if tree.find_barrier(path) or path == b"/":
            continue
        if kind == "remove":
            tree.remove(path)
        elif kind == "hard":
            if what in tree.names and tree.entry(what) and tree.entry(what).kind != "dir" and path not in tree.names:
                tree.link(path, what)
        elif kind != "dir" or path not in tree.names:
            tree.remove(path)
            tree.put(
                path,
                kind,
                what if kind == "file" else b"",
                **facts | ({"link": b"/", "mode": 0o777} if kind == "link" else {}),
            )
    return tree


LISTS = st.lists(DEEDS, max_size=12)


def places_of(path: bytes, moved: dict[bytes, bytes]) -> set[bytes]:
    """Where an object may be after a restore: at its path, or wherever a plan moved it or a folder above."""
    return {path, *(aside + path[len(place) :] for place, aside in moved.items() if is_at_or_below(path, place))}


@settings(max_examples=examples(400))
@given(LISTS, LISTS, LISTS)
def test_a_plan_carried_out_brings_the_delta_and_nothing_else_and_the_next_is_empty(
    first: Deeds, second: Deeds, third: Deeds
) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = changed(base, second), changed(base, third)
    before = here.copy()
    manifest, deleted = delta_of(base, there)
    plan = restored(base, there, here)
    skipped = {item.item for item in plan.skipped}
    brought = {entry.path for entry in manifest} - skipped
    for entry in manifest:
        if entry.path in brought:
            have = here.whole(entry.path)
            assert have._replace(ino=0, nlink=0) == entry._replace(ino=0, nlink=0)
    for path in deleted:
        left = here.entry(path)
        is_back = path in {entry.path for entry in manifest}
        assert left is None or is_back or path in skipped or (left.kind == "dir" and here.names_in(path))
    moved = {step.item: step.partner for step in plan.steps if step.kind is StepKind.MOVE}
    for path in before.names.keys() - brought - set(deleted):
        assert places_of(path, moved) & here.names.keys()
        if path in here.names and before.entry(path) and here.entry(path) and before.entry(path).kind != "dir":
            one, other = here.whole(path), before.whole(path)  # a new name may bring its time along
            assert one._replace(nlink=0, mtime_ns=0) == other._replace(nlink=0, mtime_ns=0)


@settings(max_examples=examples(200))
@given(LISTS, LISTS)
def test_on_a_fresh_machine_the_result_is_the_backed_up_machine(first: Deeds, second: Deeds) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = changed(base, second), base.copy()
    plan = restored(base, there, here)
    assert not plan.skipped
    assert here.names.keys() == there.names.keys()
    for path in there.names:
        one, other = here.whole(path), there.whole(path)
        if path in {entry.path for entry in delta_of(base, there)[0]}:
            assert one._replace(ino=0, nlink=0) == other._replace(ino=0, nlink=0)
