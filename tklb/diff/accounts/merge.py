"""Users and groups: the changes of the owner, and the merge of the accounts of two machines.

Takes Accounts (the lines of the files); gives an AccountDelta or an AccountMerge. Pure.
"""

from collections.abc import Iterator, Mapping

from tklb.diff.accounts.homonyms import (
    Homonyms,
    MemberRule,
    PrimaryGroups,
    describe_refused,
    find_homonyms,
    find_root_homonyms,
)
from tklb.diff.accounts.id_map import ROOT, IdMap, map_ids
from tklb.diff.accounts.lines import (
    GROUP,
    GSHADOW,
    PASSWD,
    SHADOW,
    AccountTable,
    Form,
    parse,
    parse_id,
    split_lines,
    split_members,
)
from tklb.diff.accounts.merge_lines import merge_group, merge_gshadow, merge_passwd, merge_shadow
from tklb.diff.accounts.subordinate import merge_ranges
from tklb.errors import printable
from tklb.model.accounts import AccountDelta, AccountMerge, Accounts
from tklb.model.plan import Role
from tklb.model.report import Skipped

ROOT_NAME = b"root"
Facts = Mapping[bytes, tuple[object, ...]]
Names = tuple[bytes, ...]


# ---------------------------------------------------------------- difference


def diff_accounts(base: Accounts, now: Accounts) -> AccountDelta:
    """Give the users and groups that were added, changed or removed.

    This compares names, never ids: another order of installation gives other ids, and a merge keeps the ids of this
    machine. A user is its password field, primary group (by name), gecos, home and shell. A group is its password field
    and members. Passwords and aging count for names that both have in shadow (gshadow). So they never differ from a
    base without it, such as a profile. The day of the last change alone does not count, nor do subordinate id ranges.
    """
    return AccountDelta(
        *_difference(_users(base), _users(now), _secrets(SHADOW, base.shadow), _secrets(SHADOW, now.shadow)),
        *_difference(_groups(base), _groups(now), _secrets(GSHADOW, base.gshadow), _secrets(GSHADOW, now.gshadow)),
    )


def _difference(base: Facts, now: Facts, base_secrets: Facts, now_secrets: Facts) -> tuple[Names, Names, Names]:
    changed = {name for name in base.keys() & now.keys() if base[name] != now[name]}
    changed |= {
        name
        for name in base_secrets.keys() & now_secrets.keys() & base.keys() & now.keys()
        if base_secrets[name] != now_secrets[name]
    }
    return _sort(now.keys() - base.keys()), _sort(changed), _sort(base.keys() - now.keys())


def _sort(names: set[bytes]) -> Names:
    return tuple(sorted(names))


def _users(accounts: Accounts) -> Facts:
    groups = parse(GROUP, accounts.group).owners
    found: dict[bytes, tuple[object, ...]] = {}
    for name, entry in parse(PASSWD, accounts.passwd).entries.items():
        _, password, _, gid, *rest = entry.fields
        found[name] = password, groups.get(int(gid), gid), *rest
    return found


def _groups(accounts: Accounts) -> Facts:
    entries = parse(GROUP, accounts.group).entries
    return {name: (entry.fields[1], frozenset(split_members(entry.fields[3]))) for name, entry in entries.items()}


def _secrets(form: Form, lines: tuple[bytes, ...]) -> Facts:
    entries = parse(form, lines).entries
    if form is SHADOW:
        return {name: (entry.fields[1], *entry.fields[3:]) for name, entry in entries.items()}
    return {
        name: (entry.fields[1], *(frozenset(split_members(field)) for field in entry.fields[2:]))
        for name, entry in entries.items()
    }


# ---------------------------------------------------------------- merge


def merge_accounts(
    old: Accounts,
    new: Accounts,
    role: Role,
    nameless: tuple[frozenset[int], frozenset[int]],
    same: frozenset[bytes] = frozenset(),
) -> AccountMerge:
    """Merge the accounts of the backed-up machine (old) into those of this machine (new).

    For every name, the old entry and the new id win; see id_map for ids, merge_lines for lines, subordinate for
    ranges. `nameless` uids and gids own files to restore, but no name of the old machine had them: they keep their
    number, and no name gets it. See homonyms for what a name alone does not give; `same` are the names that the user
    confirmed. A second merge of the result with the same `old` changes nothing.
    Raises ValueError where the result would be a guess: root missing on both sides or not uid 0, a full id range.
    """
    if not any(ROOT_NAME in parse(PASSWD, side.passwd).entries for side in (old, new)):
        raise ValueError("root is in the passwd of neither machine")
    return _merge(old, new, role, nameless, find_homonyms(old, new, same))


def merge_users_json(old_passwd: bytes, old_group: bytes, new_passwd: bytes, new_group: bytes) -> dict[str, object]:
    """Merge passwd and group from texts.

    Gives {"passwd":[lines],"group":[lines],"uid_map":{"old":new},"gid_map":{…},"warnings":[…]}.
    Lines that are not UTF-8 have their odd bytes as lone surrogates (PEP 383), which JSON writes as \\udcXX. Files
    without root are valid too. Raises ValueError as merge_accounts does.
    """
    old = Accounts(passwd=split_lines(old_passwd), group=split_lines(old_group))
    new = Accounts(passwd=split_lines(new_passwd), group=split_lines(new_group))
    merge = _merge(old, new, Role.REPLACEMENT, (frozenset(), frozenset()), Homonyms({}, frozenset()))
    return {
        "passwd": [line.decode("utf-8", "surrogateescape") for line in merge.accounts.passwd],
        "group": [line.decode("utf-8", "surrogateescape") for line in merge.accounts.group],
        "uid_map": {str(number): goes for number, goes in merge.uid_map.items()},
        "gid_map": {str(number): goes for number, goes in merge.gid_map.items()},
        "warnings": [*merge.warnings, *(f"{printable(item.item)}: {item.reason}" for item in merge.skipped)],
    }


def _merge(
    old: Accounts,
    new: Accounts,
    role: Role,
    nameless: tuple[frozenset[int], frozenset[int]],
    homonyms: Homonyms,
) -> AccountMerge:
    old_users, new_users = _parse_with_root(PASSWD, old.passwd), _parse_with_root(PASSWD, new.passwd)
    old_groups, new_groups = _parse_with_root(GROUP, old.group), _parse_with_root(GROUP, new.group)
    nameless_uids = (nameless[0] | _numeric_owners(old)) - old_users.claimed_ids
    nameless_gids = (nameless[1] | _primary_gids(old_users)) - old_groups.claimed_ids
    other_users = frozenset(homonyms.refused) | (find_root_homonyms(old_users, new_users) - homonyms.same)
    other_groups = find_root_homonyms(old_groups, new_groups)
    taken_gids = new_groups.claimed_ids | _primary_gids(new_users)
    uids = map_ids("uid", old_users, new_users, new_users.claimed_ids, nameless_uids, other_users)
    gids = map_ids("gid", old_groups, new_groups, taken_gids, nameless_gids, other_groups)

    keeps = frozenset({ROOT_NAME}) if role is Role.CLONE else frozenset[bytes]()
    primary = PrimaryGroups(old_groups, new_groups, homonyms)
    members = MemberRule(frozenset(old_users.entries), frozenset(new_users.entries), homonyms)
    passwd = merge_passwd(old_users, new_users, uids, (gids, primary), (keeps, other_users))
    group = merge_group(old_groups, new_groups, gids, members, other_groups)
    users = old_users, new_users, parse(PASSWD, passwd.lines)
    groups = old_groups, new_groups, parse(GROUP, group.lines)
    shadow = merge_shadow(parse(SHADOW, old.shadow), parse(SHADOW, new.shadow), users, keeps | other_users)
    gshadow = merge_gshadow(parse(GSHADOW, old.gshadow), parse(GSHADOW, new.gshadow), groups, members, other_groups)
    ids = users[2].ids
    others = {name: b"%d" % old_users.ids[name] for name in other_users}
    claimed = (("subuid", users[2].claimed_ids | nameless_uids), ("subgid", groups[2].claimed_ids | nameless_gids))
    ranges = (
        merge_ranges(name, _drop_owners(getattr(old, name), others), getattr(new, name), uids, ids, used)
        for name, used in claimed
    )
    files = passwd, group, shadow, gshadow, *ranges
    warnings = [*uids.warnings, *gids.warnings]
    warnings += _nameless_warnings("uid", nameless_uids, new_users)
    warnings += _nameless_warnings("gid", nameless_gids, new_groups)
    warnings += [warning for file in files for warning in file.warnings]
    skipped = _list_dropped((old_users, new_users), (old_groups, new_groups), gids, members)
    return AccountMerge(Accounts(*(file.lines for file in files)), uids.ids, gids.ids, tuple(warnings), tuple(skipped))


def _list_dropped(
    users: tuple[AccountTable, AccountTable],
    groups: tuple[AccountTable, AccountTable],
    gids: IdMap,
    members: MemberRule,
) -> Iterator[Skipped]:
    """Name the accounts, memberships and primary groups that do not come."""
    old, new = users
    homonyms = members.homonyms
    mapped = (
        (entry, new.entries.get(name), gids(int(entry.fields[3])))
        for name, entry in old.entries.items()
        if name not in homonyms.refused
    )
    yield from describe_refused(homonyms)
    yield from members.list_dropped(*groups)
    yield from PrimaryGroups(*groups, homonyms).list_dropped(mapped)
    for name in sorted(find_root_homonyms(*groups)):
        yield Skipped(b"group:" + name, "it has gid 0 on this machine only, so its members do not come")


def _drop_owners(lines: tuple[bytes, ...], others: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The ranges but those of some users, who are given with their numbers."""
    owners = {*others.keys(), *others.values()}
    return tuple(line for line in lines if line.split(b":", 1)[0] not in owners)


def _parse_with_root(form: Form, lines: tuple[bytes, ...]) -> AccountTable:
    table = parse(form, lines)
    root = table.entries.get(ROOT_NAME)
    if root and root.id != ROOT:
        raise ValueError(f"root has the id {root.id} in a {form.file} file")
    return table


def _numeric_owners(accounts: Accounts) -> frozenset[int]:
    """Give the uids that own ranges by number in subuid and subgid."""
    owners = (parse_id(line.split(b":", 1)[0]) for line in (*accounts.subuid, *accounts.subgid))
    return frozenset(owner for owner in owners if owner is not None)


def _primary_gids(users: AccountTable) -> frozenset[int]:
    return frozenset(int(entry.fields[3]) for entry in users.entries.values())


def _nameless_warnings(kind: str, nameless: frozenset[int], new: AccountTable) -> list[str]:
    owners = new.owners
    return [describe_nameless(kind, number, owners[number]) for number in sorted(nameless & owners.keys())]


def describe_nameless(kind: str, number: int, name: bytes) -> str:
    """Say that files with an id of no name come, and whose id it is here. `kind` is uid or gid."""
    return f"{kind} {number}, of no name on the backed-up machine, keeps its number: here it is {printable(name)}'s"
