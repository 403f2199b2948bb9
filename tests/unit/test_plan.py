"""The whole of a plan: order, roles, what stays with this machine, limits, warnings. No machine is touched."""

from dataclasses import replace

import pytest

from tests.unit.model_machine import Tree, View
from tests.unit.test_plan_files import MACHINE, OWN, base_tree, saved, steps
from tklb.diff.rules import parse_override
from tklb.errors import RestoreRefused
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.packages import Package, SourceFile
from tklb.model.plan import Plan, Role
from tklb.model.snapshot_metadata import PARTS, MachineFacts
from tklb.restore.plan.filter import RestoreFilter, select_accounts
from tklb.restore.plan.inputs import CurrentMachine, SnapshotContents
from tklb.restore.plan.owners import find_nameless_ids
from tklb.restore.plan.plan import make_plan

NGINX, VIM, KERNEL = (Package(name, "1", "amd64") for name in ("nginx", "vim", "linux-image-6.1"))
DPKG = Package("dpkg", "1", "amd64")


def users(**ids: int) -> Accounts:
    lines = {"root": 0, **ids}
    return Accounts(
        passwd=tuple(f"{name}:x:{number}:{number}::/home/{name}:/bin/sh".encode() for name, number in lines.items()),
        group=tuple(f"{name}:x:{number}:".encode() for name, number in lines.items()),
    )


THERE = users(alice=1000, bob=1001)
HERE = users(carol=1000)


def snapshot_of(tree: Tree, **contents: object) -> SnapshotContents:
    snapshot = saved(base_tree(), tree)
    contents = {"accounts": THERE, "packages_base": (DPKG, VIM), "packages": (DPKG, NGINX, KERNEL), **contents}
    return replace(snapshot, contents=replace(snapshot.contents, **contents))


def lived_in() -> Tree:
    tree = base_tree()
    tree.put(b"/etc/conf", content=b"edited", uid=1000, uname=b"alice")
    tree.put(b"/home/alice/notes", content=b"x", uid=1000)
    tree.remove(b"/srv/www/pics")
    return tree


def plan_of(
    snapshot: SnapshotContents,
    *limits: str,
    here: Tree | None = None,
    machine: MachineFacts = MACHINE,
    accounts: Accounts = HERE,
    packages: tuple[Package, ...] = (DPKG, VIM),
    **choice: object,
) -> Plan:
    wish = RestoreFilter(limit=tuple(map(parse_override, limits)), own=OWN, **choice)
    return make_plan(snapshot, CurrentMachine(machine, accounts, packages, View(here or base_tree())), wish)


def said(plan: Plan, *words: str) -> bool:
    return any(all(word in line for word in words) for line in plan.warnings)


# ---------------------------------------------------------------- order


def test_packages_users_files_deletions_services_come_in_this_order() -> None:
    key = SourceFile(b"/etc/apt/keyrings/nginx.gpg", b"key", 0o644)
    machine = replace(MACHINE, services=("nginx", "cron"))
    plan = plan_of(snapshot_of(lived_in(), sources=(key,), machine=machine))
    kinds = [kind for kind, _ in steps(plan)]
    assert list(dict.fromkeys(kinds)) == [
        "add-source", "install-package", "mark-package", "merge-accounts", "write-file", "delete-file",
        "restart-service",
    ]  # fmt: skip
    assert [item for kind, item in steps(plan) if kind == "restart-service"] == [b"nginx", b"cron"]


def test_nothing_to_do_restarts_nothing_and_is_an_empty_plan() -> None:
    snapshot = snapshot_of(
        base_tree(), machine=replace(MACHINE, services=("cron",)), packages=(DPKG, VIM), accounts=HERE
    )
    assert plan_of(snapshot).is_empty


def test_a_package_of_the_hardware_is_left_out_and_named() -> None:
    plan = plan_of(snapshot_of(lived_in()))
    assert said(plan, "linux-image-6.1", "a kernel")
    assert plan.skipped == ()


def test_removed_packages_are_shown_and_carried_out_only_when_asked() -> None:
    assert said(plan_of(snapshot_of(lived_in())), "vim", "removed")
    plan = plan_of(snapshot_of(lived_in()), remove_packages=True)
    assert ("remove-package", b"vim") in steps(plan)
    assert not said(plan, "vim")


def test_accounts_are_one_step_that_says_what_changes_and_the_merge_goes_with_the_plan() -> None:
    plan = plan_of(snapshot_of(lived_in()))
    (step,) = [step for step in plan.steps if step.kind == "merge-accounts"]
    assert step.detail == "new users: alice bob; new groups: alice bob"
    assert plan.merge.uid_map[1000] not in (1000, 1001)
    assert {step.entry.uid for step in plan.steps if step.item == b"/etc/conf"} == {plan.merge.uid_map[1000]}


def test_accounts_that_cannot_become_one_refuse_the_restore() -> None:
    with pytest.raises(RestoreRefused):
        plan_of(snapshot_of(lived_in(), accounts=Accounts()), accounts=Accounts())


def test_parts_the_snapshot_does_not_hold_are_no_part_of_the_plan() -> None:
    for part, kind in (("files", "write-file"), ("packages", "install-package"), ("users", "merge-accounts")):
        machine = replace(MACHINE, parts=tuple(set(PARTS) - {part}))
        assert kind not in dict(steps(plan_of(snapshot_of(lived_in(), machine=machine))))


def test_without_accounts_files_go_by_the_names_of_their_owners() -> None:
    tree = base_tree()
    tree.put(b"/srv/x", content=b"x")
    snapshot = snapshot_of(tree, accounts=Accounts(), machine=replace(MACHINE, parts=("files",)))
    named = [entry._replace(uid=1234, uname=b"carol", gid=77, gname=b"gone") for entry in snapshot.manifest()]
    plan = plan_of(replace(snapshot, manifest=lambda: iter(named)))
    assert (plan.steps[0].entry.uid, plan.steps[0].entry.gid) == (1000, 77)
    assert said(plan, "group gone is not on this machine", "/srv/x")


# ---------------------------------------------------------------- what stays with this machine

KEPT = [
    b"/etc/fstab", b"/etc/crypttab", b"/etc/mdadm/mdadm.conf", b"/etc/machine-id", b"/etc/resolv.conf",
    b"/etc/network/interfaces", b"/etc/network/interfaces.d/eth0", b"/etc/netplan/01.yaml",
    b"/etc/systemd/network/10-eth.network", b"/etc/NetworkManager/system-connections/wifi", b"/boot/grub/grub.cfg",
    b"/etc/default/grub", b"/etc/default/grub.d/x.cfg", b"/etc/grub.d/40_custom",
    b"/etc/udev/rules.d/70-persistent-net.rules", b"/etc/initramfs-tools/conf.d/resume",
    b"/etc/apt/sources.list", b"/etc/apt/sources.list.d/debian.sources",
]  # fmt: skip
NEVER = [
    b"/etc/passwd", b"/etc/shadow-", b"/etc/subuid", b"/var/lib/tklb/secret", b"/var/lib/dpkg/status", b"/proc/1/mem",
    b"/run/x", b"/dev/sda", b"/var/cache/apt/pkgcache.bin",
]  # fmt: skip
BY_ROLE = [
    b"/etc/hostname", b"/etc/hosts", b"/etc/mailname", b"/etc/ssh/ssh_host_rsa_key",
    b"/etc/ssh/ssh_host_ed25519_key.pub", b"/etc/tklb/tklb.toml",
]  # fmt: skip


def with_file(path: bytes) -> SnapshotContents:
    tree = base_tree()
    tree.put(path, content=b"theirs")
    return snapshot_of(tree, packages=(DPKG, VIM), accounts=HERE)


def files_of(plan: Plan) -> set[bytes]:
    return {step.item for step in plan.steps if step.entry and step.entry.kind == "file"}


@pytest.mark.parametrize("path", KEPT)
@pytest.mark.parametrize("role", Role)
def test_what_makes_this_machine_is_kept_unless_it_is_asked_for_by_name(path: bytes, role: Role) -> None:
    snapshot, name = with_file(path), path.decode()
    plan = plan_of(snapshot, role=role)
    assert path not in files_of(plan)
    assert said(plan, "kept: ")
    assert path not in files_of(plan_of(snapshot, "/", "/etc", "/etc/**", "/b*", role=role))
    assert path in files_of(plan_of(snapshot, name, role=role))


@pytest.mark.parametrize("path", NEVER)
def test_what_comes_by_other_means_is_never_overwritten(path: bytes) -> None:
    for limits in ((), (path.decode(),)):
        assert path not in files_of(plan_of(with_file(path), *limits))


@pytest.mark.parametrize("path", BY_ROLE)
def test_a_replacement_takes_over_the_identity_and_a_clone_does_not(path: bytes) -> None:
    assert path in files_of(plan_of(with_file(path)))
    plan = plan_of(with_file(path), role=Role.CLONE)
    assert path not in files_of(plan)
    assert said(plan, "kept: ", path.decode().removesuffix("/tklb.toml"), "clone")


def test_what_is_the_same_here_is_not_said_to_be_kept() -> None:
    here = base_tree()
    here.put(b"/etc/fstab", content=b"theirs")
    assert not said(plan_of(with_file(b"/etc/fstab"), here=here), "kept")


def test_many_files_kept_for_one_reason_are_one_line() -> None:
    tree = base_tree()
    for number in range(5):
        tree.put(b"/boot/kernel%d" % number)
    plan = plan_of(snapshot_of(tree))
    assert said(plan, "kept: /boot (and 5 more) is how this machine starts")


@pytest.mark.parametrize("path", [b"/etc/ssh/ssh_host_ecdsa_key", b"/etc/hosts", b"/etc/machine-id", b"/etc/fstab"])
@pytest.mark.parametrize("role", Role)
def test_the_identity_is_never_deleted(path: bytes, role: Role) -> None:
    base, here = base_tree(), base_tree()
    for tree in (base, here):
        tree.put(path)
    plan = make_plan(
        saved(base, base_tree()), CurrentMachine(MACHINE, HERE, (), View(here)), RestoreFilter(role, own=OWN)
    )
    assert path not in {step.item for step in plan.steps}
    assert said(plan, "kept: ", path.decode())


def test_a_new_hostname_is_told_to_hold_from_the_next_start() -> None:
    assert said(plan_of(with_file(b"/etc/hostname")), "called a from its next start on")


def test_a_clone_keeps_the_password_of_root() -> None:
    def with_password(accounts: Accounts, password: bytes) -> Accounts:
        return replace(accounts, shadow=(b"root:" + password + b":1::::::",))

    snapshot = snapshot_of(lived_in(), accounts=with_password(THERE, b"theirs"))
    for role, password in ((Role.REPLACEMENT, b"theirs"), (Role.CLONE, b"ours")):
        plan = plan_of(snapshot, accounts=with_password(HERE, b"ours"), role=role)
        assert plan.merge.accounts.shadow[0].split(b":")[1] == password


# ---------------------------------------------------------------- limits


def test_a_limit_by_path_brings_just_that() -> None:
    plan = plan_of(snapshot_of(lived_in(), machine=replace(MACHINE, services=("cron",))), "/etc")
    assert steps(plan) == [("write-file", b"/etc/conf")]
    assert said(plan, "not restarted", "cron")
    assert said(plan, "user alice is not on this machine") or plan.steps[0].entry.uid != 1000


def test_limits_that_only_leave_out_bring_the_rest() -> None:
    kinds = dict(steps(plan_of(snapshot_of(lived_in()), "-/home", "-package:nginx")))
    assert "install-package" not in kinds
    assert "merge-accounts" in kinds
    plan = plan_of(snapshot_of(lived_in()), "-/home")
    assert not [item for _, item in steps(plan) if item.startswith(b"/home")]
    assert ("delete-file", b"/srv/www/pics/logo") in steps(plan)


def test_limits_hold_for_deletions_and_globs() -> None:
    assert steps(plan_of(snapshot_of(lived_in()), "/srv/www/p*")) == [
        ("delete-file", b"/srv/www/pics/logo"),
        ("delete-file", b"/srv/www/pics"),
    ]


def test_a_limit_by_package_brings_just_that() -> None:
    plan = plan_of(snapshot_of(lived_in()), "package:nginx")
    assert steps(plan) == [("install-package", b"nginx"), ("mark-package", b"nginx")]


def test_a_limit_by_user_brings_that_one_with_the_group_it_needs() -> None:
    plan = plan_of(snapshot_of(lived_in()), "user:bob")
    assert steps(plan) == [("merge-accounts", b"users and groups")]
    merged = plan.merge.accounts
    assert [line.split(b":")[0] for line in merged.passwd] == [b"root", b"carol", b"bob"]
    assert [line.split(b":")[0] for line in merged.group] == [b"root", b"carol", b"bob"]


def test_members_of_groups_are_only_those_this_machine_has_or_gets() -> None:
    merged = replace(users(carol=1000, bob=1001), group=(b"root:x:0:", b"adm:x:4:alice,bob,carol", b"team:x:99:alice"))
    here = replace(HERE, group=(b"root:x:0:", b"adm:x:4:carol"))
    wish = RestoreFilter(limit=(parse_override("user:bob"),))
    assert select_accounts(wish, merged, here).group == (b"root:x:0:", b"adm:x:4:bob,carol")


@pytest.mark.parametrize(
    ("part", "kind"), [("files", "write-file"), ("packages", "install-package"), ("users", "merge-accounts")]
)
def test_skipped_parts_stay_away(part: str, kind: str) -> None:
    plan = plan_of(snapshot_of(lived_in()), skip=frozenset({part}))
    assert kind not in dict(steps(plan))
    assert not plan.is_empty


def test_when_users_are_skipped_a_foreign_number_never_becomes_somebody_elses() -> None:
    plan = plan_of(snapshot_of(lived_in()), skip=frozenset({"users"}))
    owners = {step.entry.uid for step in plan.steps if step.item == b"/etc/conf"}
    assert owners.isdisjoint({0, 1000})


# ---------------------------------------------------------------- warnings


@pytest.mark.parametrize("what", ["release", "architecture", "profile"])
def test_another_kind_of_machine_is_a_warning(what: str) -> None:
    plan = plan_of(snapshot_of(lived_in()), machine=replace(MACHINE, **{what: "other"}))
    assert said(plan, what, getattr(MACHINE, what), "other")


def test_the_same_kind_of_machine_is_none() -> None:
    assert not said(plan_of(snapshot_of(lived_in())), "another")


def release_plan(base: dict[bytes, FileEntry] | None) -> Plan:
    snapshot = replace(snapshot_of(lived_in()), base=None if base is None else base.get)
    return plan_of(snapshot, machine=replace(MACHINE, release="debian-13"))


def test_across_releases_a_file_whose_default_changed_is_named_three_ways() -> None:
    default = base_tree().whole(b"/etc/conf")
    assert said(release_plan({b"/etc/conf": default._replace(sha256="0")}), "/etc/conf", "another default")
    assert not said(release_plan({b"/etc/conf": default}), "/etc/conf")
    md5 = base_tree().digest(b"/etc/conf", "md5")
    assert not said(release_plan({b"/etc/conf": default._replace(sha256=None, md5=md5)}), "/etc/conf")
    assert said(release_plan({}), "/etc/conf is the owner's on debian-12")
    assert said(release_plan(None), "/etc/conf", "not known")


def test_package_sources_of_another_release_stay_away_and_are_named() -> None:
    source = SourceFile(
        b"/etc/apt/sources.list.d/x.list", b"deb http://mirror.example/debian bookworm-backports main\n", 0o644
    )
    snapshot = snapshot_of(lived_in(), sources=(source,))
    plan = plan_of(snapshot, machine=replace(MACHINE, release="debian-13"))
    assert source.path in [item.item for item in plan.skipped]
    assert ("add-source", source.path) not in steps(plan)
    assert ("add-source", source.path) in steps(plan_of(snapshot))


def test_numbers_without_a_name_are_collected_from_files_and_acls() -> None:
    words = (
        "02000000 01000700ffffffff 02000700b80b0000 04000700ffffffff 08000700b90b0000 10000700ffffffff 20000700ffffffff"
    )
    acl = bytes.fromhex(words)
    entries = [
        FileEntry(b"/a", "file", uid=1000, gid=1001),
        FileEntry(b"/b", "file", uid=2000, gid=2001),
        FileEntry(b"/c", "file", uid=4000, gid=4000, uname=b"named", gname=b"named"),
        FileEntry(b"/d", "file", uid=0, gid=0, xattrs=((b"system.posix_acl_access", acl), (b"user.x", b""))),
        FileEntry(b"/e", "file", xattrs=((b"system.posix_acl_access", b"junk"),)),
    ]
    assert find_nameless_ids(entries, THERE) == ({2000, 3000}, {2001, 3001})


def test_a_number_without_a_name_that_has_one_here_is_said() -> None:
    tree = base_tree()
    tree.put(b"/srv/x", uid=1000)
    plan = plan_of(snapshot_of(tree, accounts=users(bob=1001)))
    assert said(plan, "1000", "carol")
    assert {step.entry.uid for step in plan.steps if step.item == b"/srv/x"} == {1000}


def test_what_is_asked_for_by_name_and_not_in_the_snapshot_is_named() -> None:
    plan = plan_of(snapshot_of(lived_in()), "/nothing/here", "package:nosuch", "user:nobody-here", "/etc/nosuch*")
    missing = {item.item for item in plan.skipped if item.reason == "the snapshot has no such item"}
    assert missing == {b"/nothing/here", b"package:nosuch", b"user:nobody-here"}
    assert plan.is_empty
