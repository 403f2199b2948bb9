"""What the owner changed in users and groups, and how two machines' accounts become one: case files and properties."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tklb.diff.accounts.id_map import IMMOVABLE, RANGES
from tklb.diff.accounts.lines import GROUP, PASSWD, SHADOW, Form, parse, split_lines
from tklb.diff.accounts.merge import diff_accounts, merge_accounts, merge_users_json
from tklb.diff.accounts.subordinate import _parse_range
from tklb.model.accounts import AccountDelta, AccountMerge, Accounts
from tklb.model.plan import Role

CASES = sorted((Path(__file__).parent.parent / "cases" / "accounts").glob("*.toml"))
ROOT = b"root:x:0:0:root:/root:/bin/bash"
Ids = frozenset[int]
NONE: Ids = frozenset()
SAME = frozenset(
    (b"alice", b"bob", b"carl", b"dora", b"eve", b"mysql", b"sshd", b"www", b"toor", b"n\xff me", b"nobody")
)


def accounts(files: dict[str, str]) -> Accounts:
    return Accounts(**{name: split_lines(text.encode()) for name, text in files.items()})


def merge(
    old: Accounts, new: Accounts, role: Role = Role.REPLACEMENT, uids: Ids = NONE, gids: Ids = NONE
) -> AccountMerge:
    return merge_accounts(old, new, role, (uids, gids), SAME)


# ---------------------------------------------------------------- the contract, sentence by sentence


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_case(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    old, new = accounts(case["old"]), accounts(case["new"])
    role = Role(case.get("role", "replacement"))
    nameless = frozenset(case.get("nameless_uids", [])), frozenset(case.get("nameless_gids", []))
    if "error" in case:
        with pytest.raises(ValueError, match=case["error"]):
            merge(old, new, role, *nameless)
        return
    found = merge(old, new, role, *nameless)
    for name, text in case.get("merged", {}).items():
        assert getattr(found.accounts, name) == split_lines(text.encode()), name
    for name in ("uid_map", "gid_map"):
        wanted = case.get(name)
        assert wanted is None or dict(getattr(found, name)) == {int(number): goes for number, goes in wanted.items()}
    told = case.get("told", found.warnings)
    assert len(found.warnings) == len(told), found.warnings
    assert all(part in warning for part, warning in zip(told, found.warnings, strict=True)), found.warnings
    again = merge(old, found.accounts, role, *nameless)
    assert (again.accounts, again.uid_map, again.gid_map) == (found.accounts, found.uid_map, found.gid_map)


def test_warnings_hold_no_password() -> None:
    secret = b"alice:$y$secret"
    sides = Accounts(passwd=(ROOT, secret), shadow=(secret, b"x$secret"), gshadow=(secret,), subuid=(secret,))
    assert not any("secret" in warning for warning in merge(sides, replace(sides, shadow=())).warnings)


# ---------------------------------------------------------------- properties of any pair of machines

NAMES = (b"alice", b"bob", b"carl", b"dora", b"eve", b"mysql", b"sshd", b"www", b"toor", b"n\xff me", b"nobody")
IDS = (0, 1, 5, 99, *range(100, 107), 999, *range(1000, 1007), 60000, 64999, 65000, 65534, 70000)
JUNK = (
    b"",
    b"# note",
    b"+::::::",
    b"-bob",
    b"garbage",
    b"alice:x:abc:0::/:",
    b"zed:x:700:700",
    b"evil::0:0",
    b"a\0b:x:1:1:::",
    b" carl:x:105:105:::",
)


def some(random: Random, most: int, make: Callable[[], bytes]) -> list[bytes]:
    return [make() for _ in range(random.randint(0, most))]


def machine(random: Random) -> Accounts:
    """A machine with root, aliases, name clashes, repeated names, missing shadow lines and odd lines."""

    def name() -> bytes:
        return random.choice(NAMES)

    def number() -> int:
        return random.choice(IDS)

    def user() -> bytes:
        return b"%s:%s:%d:%d:g:/h:/s" % (name(), random.choice((b"x", b"x", b"x", b"*", b"")), number(), number())

    def group() -> bytes:
        return b"%s:x:%d:%s" % (name(), number(), b",".join(some(random, 3, name)))

    def block() -> bytes:
        owner = random.choice((name(), b"%d" % number()))
        return b"%s:%d:%d" % (owner, 100_000 + 50 * random.randint(0, 6), random.choice((50, 100)))

    def mixed(lines: list[bytes], junk: int) -> tuple[bytes, ...]:
        lines += random.sample(JUNK, random.randint(0, junk))
        return tuple(random.sample(lines, len(lines)))

    is_shadowed = random.random() < 0.7
    return Accounts(
        passwd=mixed([ROOT, *some(random, 7, user)], 2),
        group=mixed([b"root:x:0:", *some(random, 6, group)], 2),
        shadow=tuple(b"%s:$y$%d:1::::::" % (name(), random.randint(0, 9)) for _ in range(6 * is_shadowed)),
        gshadow=tuple(some(random, 3, lambda: name() + b":!:%s:" % name())),
        subuid=mixed(some(random, 4, block), 1),
        subgid=mixed(some(random, 3, block), 0),
    )


MACHINES = st.randoms(use_true_random=True).map(machine)
NAMELESS = st.frozensets(st.sampled_from(IDS), max_size=3)
ROLES = st.sampled_from(Role)
many = settings(max_examples=examples(1000))


@many
@given(MACHINES, MACHINES, ROLES, NAMELESS, NAMELESS)
def test_merging_twice_is_merging_once(old: Accounts, new: Accounts, role: Role, uids: Ids, gids: Ids) -> None:
    once = merge(old, new, role, uids, gids)
    twice = merge(old, once.accounts, role, uids, gids)
    assert twice.accounts == once.accounts
    assert (twice.uid_map, twice.gid_map) == (once.uid_map, once.gid_map)


@many
@given(MACHINES, MACHINES, NAMELESS, NAMELESS)
def test_every_name_is_there_with_the_right_id(old: Accounts, new: Accounts, uids: Ids, gids: Ids) -> None:
    found = merge(old, new, uids=uids, gids=gids)
    for form, ids, nameless in ((PASSWD, found.uid_map, uids), (GROUP, found.gid_map, gids)):
        a, b, m = (parse(form, getattr(side, form.file)) for side in (old, new, found.accounts))
        assert m.ids.keys() == a.ids.keys() | b.ids.keys()
        assert all(m.ids[name] == number for name, number in b.ids.items())
        assert ids.keys() == {entry.id for entry in (*a.entries.values(), *a.later)}
        assert m.ids[b"root"] == 0 == ids[0]
        for name in a.ids.keys() - b.ids.keys():
            number, goes = a.ids[name], m.ids[name]
            assert (
                ids[number] == goes or number == 0 or any(a.ids[other] == number for other in b.ids if other in a.ids)
            )
            followed = any(a.ids.get(other) == number for other in b.ids)
            same_class = any(number in ids and goes in ids for ids in RANGES) or number == goes
            assert followed or same_class
            assert followed or goes == number or goes not in nameless | a.claimed_ids | b.claimed_ids


@many
@given(MACHINES, MACHINES, NAMELESS, NAMELESS)
def test_no_two_strangers_come_to_share_an_id(old: Accounts, new: Accounts, uids: Ids, gids: Ids) -> None:
    found = merge(old, new, uids=uids, gids=gids)
    for form in (PASSWD, GROUP):
        a, b, m = (parse(form, getattr(side, form.file)).ids for side in (old, new, found.accounts))
        for name, number in m.items():
            if name in b or number in (0, 65534):
                continue
            sharing = {other for other in m if m[other] == number and other != name}
            assert sharing | {name} == kin_of(name, sharing | {name}, (a, b))


def kin_of(name: bytes, names: set[bytes], machines: tuple[Mapping[bytes, int], ...]) -> set[bytes]:
    """Those of `names` that share an id with `name` on either machine, those that share one with them, and so on."""
    kin, grown = {name}, set[bytes]()
    while kin != grown:
        grown = set(kin)
        kin |= {n for n in names for ids in machines for k in grown if n in ids and ids.get(k) == ids[n]}
    return kin


def test_aliases_of_two_users_that_are_aliases_here_all_become_one() -> None:
    old = Accounts(passwd=(ROOT, b"alice:x:100:0::/:", b"mysql:x:100:0::/:", b"dora:x:1001:0::/:", b"eve:x:1001:0::/:"))
    new = Accounts(passwd=(ROOT, b"alice:x:1004:0::/:", b"eve:x:1004:0::/:"))
    ids = parse(PASSWD, merge(old, new).accounts.passwd).ids
    assert ids == {b"root": 0, **dict.fromkeys((b"alice", b"mysql", b"dora", b"eve"), 1004)}


@many
@given(MACHINES, MACHINES, ROLES)
def test_what_only_this_machine_has_is_not_touched(old: Accounts, new: Accounts, role: Role) -> None:
    found = merge(old, new, role).accounts
    for form in (PASSWD, GROUP):
        mine = parse(form, getattr(new, form.file))
        theirs = parse(form, getattr(old, form.file)).entries
        kept = [
            line
            for row, line in enumerate(mine.lines)
            if row not in {mine.entries[n].row for n in mine.entries if n in theirs}
        ]
        assert not set(kept) - set(getattr(found, form.file))
    for file in ("subuid", "subgid"):
        assert getattr(found, file)[: len(getattr(new, file))] == getattr(new, file)


@many
@given(MACHINES, MACHINES, ROLES)
def test_every_shadowed_name_has_one_line_and_never_a_strangers(old: Accounts, new: Accounts, role: Role) -> None:
    found = merge(old, new, role).accounts
    users, secrets = parse(PASSWD, found.passwd), parse(SHADOW, found.shadow)
    theirs, ours = parse(PASSWD, old.passwd).entries, parse(PASSWD, new.passwd).entries
    if old.shadow or new.shadow:
        assert all(name in secrets.entries for name, entry in users.entries.items() if entry.fields[1] == b"x")
    assert len(secrets.later) <= len(parse(SHADOW, new.shadow).later)
    for name, entry in users.entries.items():
        line = found.shadow[secrets.entries[name].row] if name in secrets.entries else name + b":!:::::::"
        allowed = {name + b":!:::::::"}
        allowed |= set(old.shadow) if name in theirs and not (role is Role.CLONE and name == b"root") else set()
        allowed |= set(new.shadow) if name in ours else set()
        assert line in allowed
        assert name in ours or name in theirs, entry


@many
@given(MACHINES, MACHINES)
def test_added_ranges_overlap_none_of_this_machines(old: Accounts, new: Accounts) -> None:
    found = merge(old, new).accounts
    ids = parse(PASSWD, found.passwd).ids
    for file in ("subuid", "subgid"):
        mine, all_lines = getattr(new, file), getattr(found, file)
        here = [read for line in mine if (read := _parse_range(line, ids))]
        added = [read for line in all_lines[len(mine) :] if (read := _parse_range(line, ids))]
        assert not any(one.overlaps(other) for one in added for other in here)


@many
@example(machine(Random(10541210936)), machine(Random(140)))  # nobody's id, and another group has it here
@given(MACHINES, MACHINES)
def test_after_a_merge_the_delta_says_nothing_new(old: Accounts, new: Accounts) -> None:
    """Round trip: seen from the backed-up machine, every one of its users is there and as it was."""
    new = replace(new, passwd=tuple(line for line in new.passwd if not line.startswith((b"+", b" "))))
    bare = Accounts(passwd=old.passwd, group=old.group)
    merged = merge(bare, new).accounts
    delta = diff_accounts(bare, Accounts(passwd=merged.passwd, group=merged.group))
    assert not delta.users_removed + delta.groups_removed
    users, groups = parse(PASSWD, old.passwd), parse(GROUP, old.group)
    mine = parse(GROUP, new.group).entries
    shared = {name for name, gid in groups.ids.items() if list(groups.ids.values()).count(gid) > 1} | mine.keys()
    for name in delta.users_changed:
        gid = int(users.entries[name].fields[3])
        owner = groups.owners.get(gid)
        assert owner is None or owner in shared or gid in IMMOVABLE
    assert set(delta.groups_changed) <= mine.keys()


@settings(max_examples=examples(300))
@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=8))
def test_no_line_is_lost_or_refused_in_reading(lines: list[bytes]) -> None:
    for form in (PASSWD, GROUP, SHADOW, Form("odd", frozenset({1, 2}))):
        table = parse(form, lines)
        placed = [entry.row for entry in (*table.entries.values(), *table.later)] + list(table.odd)
        blank = [row for row, line in enumerate(lines) if not line.strip()]
        assert sorted(placed + [row for row in blank if row not in placed]) == list(range(len(lines)))


# ---------------------------------------------------------------- the plumbing


def test_json_form_has_lines_and_maps() -> None:
    old = ROOT + b"\nl\xe9a:x:104:104::/:/bin/sh\n"
    new = ROOT + b"\nntp:x:104:105::/:/bin/sh\n"
    found = merge_users_json(old, b"root:x:0:\nl\xe9a:x:104:\n", new, b"root:x:0:\n")
    assert found == {
        "passwd": [ROOT.decode(), "ntp:x:104:105::/:/bin/sh", "l\udce9a:x:100:104::/:/bin/sh"],
        "group": ["root:x:0:", "l\udce9a:x:104:"],
        "uid_map": {"0": 0, "104": 100},
        "gid_map": {"0": 0, "104": 104},
        "warnings": [],
    }
    assert json.loads(json.dumps(found)) == found


def test_json_form_takes_files_without_root() -> None:
    found = merge_users_json(b"a:x:1000:1000::/:/bin/sh", b"", b"", b"")
    assert found["passwd"] == ["a:x:1000:1000::/:/bin/sh"]


def test_json_form_reports_malformed_lines() -> None:
    found = merge_users_json(ROOT + b"\nno entry\n", b"", b"", b"")
    assert found["passwd"] == [ROOT.decode(), "no entry"]
    assert found["warnings"] == ["/etc/passwd of the backed-up machine, line 2: malformed, kept"]


# ---------------------------------------------------------------- what the owner changed

BASE = accounts(
    {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:104:65534::/run:/bin/no\nbob:x:1000:1000::/home/bob:/bin/sh\n",
        "group": "root:x:0:\nsudo:x:27:bob\nbob:x:1000:\nssh:x:105:\n",
    }
)


def changed(**files: tuple[bytes, bytes]) -> Accounts:
    """BASE with one text replaced in each file named."""
    texts = {name: b"\n".join(getattr(BASE, name)).replace(*change) for name, change in files.items()}
    assert all(text != b"\n".join(getattr(BASE, name)) for name, text in texts.items())
    return replace(BASE, **{name: split_lines(text) for name, text in texts.items()})


@pytest.mark.parametrize(
    "change",
    [
        (b":/home/bob:", b":/srv/bob:"),
        (b"bob:/bin/sh", b"bob:/bin/zsh"),
        (b"1000::", b"1000:Bob:"),
        (b"bob:x", b"bob:*"),
        (b"1000:1000:", b"1000:27:"),
    ],
)
def test_each_field_of_a_user_counts(change: tuple[bytes, bytes]) -> None:
    assert diff_accounts(BASE, changed(passwd=change)) == AccountDelta(users_changed=(b"bob",))


def test_other_ids_are_no_change() -> None:
    now = changed(passwd=(b"1000:1000:", b"1005:1007:"), group=(b"1000:", b"1007:"))
    assert diff_accounts(BASE, now) == AccountDelta()
    assert diff_accounts(BASE, changed(passwd=(b"104:", b"111:"))) == AccountDelta()


def test_members_change_their_group_and_not_their_order() -> None:
    assert diff_accounts(BASE, changed(group=(b"27:bob", b"27:bob,eve"))) == AccountDelta(groups_changed=(b"sudo",))
    base = changed(group=(b"27:bob", b"27:bob,eve"))
    assert diff_accounts(base, changed(group=(b"27:bob", b"27:eve,bob,"))) == AccountDelta()


def test_added_and_removed_are_named_in_order() -> None:
    now = replace(
        BASE,
        passwd=(b"zoe:x:1:1:::", b"amy:x:2:1:::", *BASE.passwd[:2]),
        group=(*BASE.group[:3], b"new:x:7:"),
    )
    assert diff_accounts(BASE, now) == AccountDelta(
        users_added=(b"amy", b"zoe"), users_removed=(b"bob",), groups_added=(b"new",), groups_removed=(b"ssh",)
    )


def test_a_base_without_shadow_is_silent_about_passwords() -> None:
    assert (
        diff_accounts(BASE, replace(BASE, shadow=(b"root:$y$new:1::::::",), gshadow=(b"sudo:$y$:a:",)))
        == AccountDelta()
    )


def test_passwords_and_ageing_count_where_both_have_shadow() -> None:
    base = replace(BASE, shadow=(b"root:*:1::::::", b"bob:$y$:1::::::"), gshadow=(b"sudo:!::bob", b"bob:!::"))
    now = replace(BASE, shadow=(b"root:$y$:2::::::", b"bob:$y$:9::::::"), gshadow=(b"sudo:!:bob:bob", b"bob:!::"))
    assert diff_accounts(base, now) == AccountDelta(users_changed=(b"root",), groups_changed=(b"sudo",))
    aged = replace(base, shadow=(b"root:*:1::::::", b"bob:$y$:1::::1::"))
    assert diff_accounts(base, aged) == AccountDelta(users_changed=(b"bob",))
