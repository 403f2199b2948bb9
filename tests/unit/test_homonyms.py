"""Accounts of two machines that share no more than a name: a merge gives nobody a privilege because of it."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.test_users import machine
from tklb.diff.accounts.homonyms import PRIVILEGED, find_ambiguous_words, find_homonyms, list_ambiguous_words
from tklb.diff.accounts.lines import GROUP, PASSWD, parse, split_lines, split_members
from tklb.diff.accounts.merge import merge_accounts, merge_users_json
from tklb.model.accounts import AccountMerge, Accounts
from tklb.model.plan import Role

NONE = (frozenset[int](), frozenset[int]())
ROOT = "root:x:0:0:root:/root:/bin/bash"
BOB = "bob:x:1000:1000::/home/bob:/bin/bash"


def side(*passwd: str, group: str = "", shadow: str = "", subuid: str = "") -> Accounts:
    groups = ("root:x:0:", "adm:x:4:", "shadow:x:42:", "bob:x:1000:", *group.split())
    own = {line.split(":")[0] for line in group.split()}
    lines = [line.encode() for line in groups if line in group.split() or line.split(":")[0] not in own]
    secrets = (*(b"root:!:1::::::",), *split_lines(shadow.replace(" ", "\n").encode()))
    return Accounts((ROOT.encode(), *(line.encode() for line in passwd)), tuple(lines), secrets, (), *[(), ()])


def merge(old: Accounts, new: Accounts, *same: str) -> AccountMerge:
    found = merge_accounts(old, new, Role.REPLACEMENT, NONE, frozenset(name.encode() for name in same))
    again = merge_accounts(old, found.accounts, Role.REPLACEMENT, NONE, frozenset(name.encode() for name in same))
    assert again.accounts == found.accounts
    return found


def members(found: AccountMerge, group: str) -> set[str]:
    return {
        name.decode() for name in split_members(parse(GROUP, found.accounts.group).entries[group.encode()].fields[3])
    }


def named(found: AccountMerge) -> set[str]:
    return {item.item.decode() for item in found.skipped}


def line_of(found: AccountMerge, name: str) -> str:
    entry = parse(PASSWD, found.accounts.passwd).entries[name.encode()]
    return ":".join(field.decode() for field in entry.fields)


# ---------------------------------------------------------------- members without an account


def test_a_member_without_an_account_does_not_make_a_stranger_a_sudoer() -> None:
    carol = "carol:x:1005:1005::/home/carol:/bin/bash"
    old, new = side(group="sudo:x:27:carol"), side(carol, group="sudo:x:27:")
    found = merge(old, new)
    assert members(found, "sudo") == set()
    assert named(found) == {"user:carol"}
    assert members(merge(old, new, "carol"), "sudo") == {"carol"}


def test_a_member_that_neither_machine_has_stays_as_it_was() -> None:
    found = merge(side(group="sudo:x:27:ldap"), side(group="sudo:x:27:other"))
    assert members(found, "sudo") == {"ldap", "other"}
    assert not found.skipped


@pytest.mark.parametrize("group", ["sudo", "games"])
def test_a_group_here_that_lists_an_unknown_name_does_not_take_in_the_user_who_comes(group: str) -> None:
    old, new = side(BOB), side(group=f"{group}:x:270:bob,tess")
    found = merge(old, new)
    assert members(found, group) == {"tess"}
    assert named(found) == {"user:bob"}
    assert members(merge(old, new, "bob"), group) == {"bob", "tess"}


def test_the_secret_group_file_follows() -> None:
    old = Accounts((ROOT.encode(),), (b"sudo:x:27:carol",), (), (b"sudo:!:carol:carol",))
    new = Accounts((ROOT.encode(), b"carol:x:1005:100::/:/bin/sh"), (b"sudo:x:27:",), (), (b"sudo:!::",))
    assert merge(old, new).accounts.gshadow == (b"sudo:!::",)


def test_the_plumbing_says_it_too() -> None:
    passwd = f"{ROOT}\ncarol:x:1005:100::/:/bin/sh\n".encode()
    found = merge_users_json(ROOT.encode(), b"sudo:x:27:carol\n", passwd, b"sudo:x:27:\n")
    assert found["group"] == ["sudo:x:27:"]
    assert "user:carol" in str(found["warnings"])


# ---------------------------------------------------------------- two people with one name


@pytest.mark.parametrize("group", ["sudo", "adm", "docker", "shadow", "disk", "lxd", "systemd-journal"])
def test_a_person_here_does_not_get_the_groups_of_one_there(group: str) -> None:
    old, new = side(BOB, group=f"{group}:x:27:bob"), side(BOB.replace("1000:1000", "1001:1000"))
    found = merge(old, new)
    assert "bob" not in members(found, group)
    assert named(found) == {"user:bob"}
    assert "bob" in members(merge(old, new, "bob"), group)


def test_nor_a_privileged_primary_group() -> None:
    old, new = side("bob:x:1000:42::/home/bob:/bin/bash"), side(BOB)
    assert line_of(merge(old, new), "bob").split(":")[3] == "1000"
    assert line_of(merge(old, new, "bob"), "bob").split(":")[3] == "42"


def test_common_groups_come_without_a_question() -> None:
    found = merge(side(BOB, group="cdrom:x:24:bob users:x:100:bob"), side(BOB))
    assert members(found, "cdrom") == members(found, "users") == {"bob"}
    assert not found.skipped


def test_somebody_who_may_become_root_here_already_needs_no_question() -> None:
    found = merge(side(BOB, group="sudo:x:27:bob docker:x:998:bob"), side(BOB, group="sudo:x:27:bob"))
    assert members(found, "docker") == {"bob"}
    assert not found.skipped


def test_a_service_of_a_package_is_the_same_on_both_machines() -> None:
    there, here = "pg:x:104:104::/var/lib/pg:/bin/bash", "pg:x:111:111::/var/lib/pg:/bin/bash"
    found = merge(side(there, group="shadow:x:42:pg"), side(here))
    assert members(found, "shadow") == {"pg"}
    assert not found.skipped


def test_a_new_user_gets_the_groups_of_the_backed_up_machine() -> None:
    found = merge(side(BOB, group="sudo:x:27:bob"), side(group="sudo:x:27:"))
    assert members(found, "sudo") == {"bob"}
    assert not found.skipped


def test_an_administrator_here_does_not_become_somebody_without_privileges_there() -> None:
    old = side(BOB, shadow="bob:$y$theirs:1::::::")
    new = side("bob:x:1001:1000:B:/home/b:/bin/sh", group="sudo:x:27:bob", shadow="bob:$y$ours:1::::::")
    found = merge(old, new)
    assert b"bob:$y$ours:1::::::" in found.accounts.shadow
    assert line_of(found, "bob") == "bob:x:1001:1000:B:/home/b:/bin/sh"
    assert found.uid_map[1000] == 1000  # no longer anybody's here, and not that administrator's
    assert named(found) == {"user:bob"}
    assert b"bob:$y$theirs:1::::::" in merge(old, new, "bob").accounts.shadow


def test_a_system_account_here_does_not_get_the_login_of_a_person() -> None:
    old = side(BOB.replace("bob", "deploy"), shadow="deploy:$y$theirs:1::::::")
    new = side("deploy:x:998:998::/var/lib/deploy:/usr/sbin/nologin", shadow="deploy:*:1::::::")
    found = merge(old, new)
    assert line_of(found, "deploy").endswith(":/usr/sbin/nologin")
    assert b"deploy:*:1::::::" in found.accounts.shadow
    assert line_of(merge(old, new, "deploy"), "deploy").endswith(":/bin/bash")


# ---------------------------------------------------------------- id 0


def test_nobody_becomes_root_because_this_machine_calls_root_so() -> None:
    old, new = side(BOB, shadow="bob:$y$theirs:1::::::"), side("bob:x:0:0::/root:/bin/sh", shadow="bob:$y$ours:1::::::")
    found = merge(old, new)
    assert found.uid_map[1000] == 1000
    assert b"bob:$y$ours:1::::::" in found.accounts.shadow
    assert named(found) == {"user:bob"}


def test_no_group_becomes_that_of_root() -> None:
    old = side("bob:x:1000:10::/home/bob:/bin/bash", group="wheel:x:10:bob")
    found = merge(old, side(group="wheel:x:0:"))
    assert found.gid_map[10] == 65534
    assert members(found, "wheel") == set()
    assert named(found) == {"group:wheel"}
    assert line_of(found, "bob").split(":")[3] == "65534"


def test_a_primary_group_without_a_name_does_not_become_a_privileged_one() -> None:
    found = merge(side("eve:x:1007:27::/:/bin/sh"), side(group="sudo:x:27:"))
    assert line_of(found, "eve").split(":")[3] == "65534"
    assert named(found) == {"user:eve"}


def test_the_plumbing_maps_nobody_to_root() -> None:
    passwd = f"{ROOT}\nbob:x:0:0::/root:/bin/sh\n".encode()
    found = merge_users_json(f"{ROOT}\n{BOB}\n".encode(), b"root:x:0:\n", passwd, b"root:x:0:\n")
    assert found["uid_map"] == {"0": 0, "1000": 1000}


def test_ranges_of_a_refused_user_do_not_come() -> None:
    old = Accounts((ROOT.encode(), BOB.encode()), (), (), (), (b"bob:100000:65536",))
    new = Accounts((ROOT.encode(), b"bob:x:0:0::/:/bin/sh"), (), (), (), ())
    assert merge(old, new).accounts.subuid == ()


# ---------------------------------------------------------------- any pair of machines


@settings(max_examples=300)
@given(st.randoms(use_true_random=True).map(machine), st.randoms(use_true_random=True).map(machine))
@example(machine(Random(142)), machine(Random(395211)))  # carl's primary group has two names, one of them docker
def test_no_person_of_this_machine_gains_a_privilege(old: Accounts, new: Accounts) -> None:
    privileged = {b"sudo", b"docker", b"wheel"}
    renamed = dict(zip((b"alice", b"bob", b"carl"), sorted(privileged), strict=True))
    old, new = (_rename_groups(accounts, renamed) for accounts in (old, new))
    found = merge_accounts(old, new, Role.REPLACEMENT, NONE)
    users, merged = parse(PASSWD, new.passwd), parse(PASSWD, found.accounts.passwd)
    before, after = parse(GROUP, new.group), parse(GROUP, found.accounts.group)
    for name, entry in users.entries.items():
        assert merged.ids[name] == entry.id
        for group in privileged & after.entries.keys() if 1000 <= entry.id < 60000 and name != b"root" else ():
            had = group in before.entries and name in split_members(before.entries[group].fields[3])
            has = name in split_members(after.entries[group].fields[3])
            assert had or not has or _is_root_like(new, name)
    assert not any(goes == 0 for number, goes in found.uid_map.items() if number)
    assert not any(goes == 0 for number, goes in found.gid_map.items() if number)


def _rename_groups(accounts: Accounts, names: dict[bytes, bytes]) -> Accounts:
    def rename(lines: tuple[bytes, ...]) -> tuple[bytes, ...]:
        cut = (line.partition(b":") for line in lines)
        return tuple(names.get(name, name) + colon + rest for name, colon, rest in cut)

    return Accounts(accounts.passwd, rename(accounts.group), accounts.shadow, (), accounts.subuid, accounts.subgid)


def _is_root_like(accounts: Accounts, name: bytes) -> bool:
    groups = parse(GROUP, accounts.group).entries
    primary = int(parse(PASSWD, accounts.passwd).entries[name].fields[3])  # several groups may have this id
    return any(
        groups[group].id == primary or name in split_members(groups[group].fields[3])
        for group in PRIVILEGED & groups.keys()
    )


# ---------------------------------------------------------------- rules of sudo


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("carol ALL=(ALL) NOPASSWD: ALL", ("carol",)),
        ("# carol ALL=(ALL) ALL\nDefaults env_reset # carol", ()),
        ("User_Alias OPS = amy,carol", ("carol",)),
        ("#1005 ALL=(ALL) ALL", ("#1005",)),
        ("%devs ALL=(ALL) ALL", ("%devs",)),
        ("permit nopass carol as root", ("carol",)),
        ("carol\\\n ALL=(ALL) ALL", ("carol",)),
        ("amy ALL=(root) /usr/local/bin/carol", ()),
        ("root ALL=(ALL:ALL) ALL", ()),
        ("bob ALL=(ALL) ALL", ("bob",)),
    ],
)
def test_rules_that_name_an_account_of_this_machine_alone(rules: str, words: tuple[str, ...]) -> None:
    old = side("amy:x:1001:1001::/:/bin/sh", BOB, group="sudo:x:27:bob")
    new = side("amy:x:1001:1001::/:/bin/sh", "carol:x:1005:1005::/:/bin/sh", BOB, group="devs:x:1005:carol")
    ambiguous = list_ambiguous_words(old, new, find_homonyms(old, new, frozenset({b"amy"})))
    assert find_ambiguous_words(rules.encode(), ambiguous) == tuple(word.encode() for word in words)


def test_generated_machines_have_people() -> None:
    """The property above is about something."""
    users = [parse(PASSWD, machine(Random(seed)).passwd) for seed in range(100)]
    assert sum(1000 <= number < 60000 for table in users for number in table.ids.values()) > 50
