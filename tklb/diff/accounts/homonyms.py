"""Accounts of two machines that may share no more than a name, and the privileges that a merge must not give them.

Takes tables of the backed-up machine (old) and of this one (new), and the names that the user confirmed; gives the
names to keep apart and the memberships to leave out, each with a reason. Pure.

System accounts of both machines are the same service, because Debian's packages choose their names. Two people may
have the same name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from tklb.diff.accounts.lines import GROUP, PASSWD, AccountLine, AccountTable, parse, split_members
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.report import Skipped

# Members of these groups can become root.
ROOT_LIKE = frozenset(
    b"root sudo wheel admin disk kmem shadow docker lxd incus incus-admin libvirt staff podman microk8s".split()
)
# Members of these read what others must not, or change what the machine does.
PRIVILEGED = ROOT_LIKE | frozenset(
    b"adm backup bin daemon kvm lp mail netdev operator proc ssl-cert sys systemd-journal systemd-network tape tty utmp"
    b" wireshark vboxusers".split()
)
_ROOT, _NOGROUP = 0, 65534
GRANT_FOLDERS = (b"/etc/sudoers", b"/etc/sudoers.d", b"/etc/doas.conf")
_CRONTABS = b"/var/spool/cron/crontabs/"
_PEOPLE = range(1000, 60000)
_NO_LOGIN = (b"nologin", b"false", b"sync", b"")


@dataclass(frozen=True, slots=True)
class Homonyms:
    """Names of users that both machines have, for accounts that may be two different ones.

    `refused`: this machine's line stays as it is, for this reason. `withheld`: the merged account gets no privileged
    group. `same` are the names that the user confirmed.
    """

    refused: Mapping[bytes, str]
    withheld: frozenset[bytes]
    same: frozenset[bytes] = frozenset()


def find_homonyms(old: Accounts, new: Accounts, same: frozenset[bytes]) -> Homonyms:
    """Find the accounts whose merge would give somebody a privilege that the name alone does not prove."""
    theirs, ours = _Side(old), _Side(new)
    refused: dict[bytes, str] = {}
    withheld: set[bytes] = set()
    for name in theirs.users.entries.keys() & ours.users.entries.keys() - same - {b"root"}:
        if reason := _refuse(name, theirs, ours):
            refused[name] = reason
        elif theirs.is_person(name) or ours.is_person(name):
            withheld |= set() if ROOT_LIKE & ours.list_privileges(name) else {name}
    return Homonyms(refused, frozenset(withheld), same)


def find_root_homonyms(old: AccountTable, new: AccountTable) -> frozenset[bytes]:
    """The names that have id 0 on this machine alone."""
    return frozenset(name for name, number in new.ids.items() if number == _ROOT and old.ids.get(name, _ROOT) != _ROOT)


def list_ambiguous_words(old: Accounts, new: Accounts, homonyms: Homonyms) -> frozenset[bytes]:
    """The words with which a rule of sudoers(5) would give a privilege to another account than on the old machine."""
    theirs, ours = parse(PASSWD, old.passwd), parse(PASSWD, new.passwd)
    groups = parse(GROUP, new.group).entries.keys() - parse(GROUP, old.group).entries.keys()
    names = (ours.entries.keys() - theirs.entries.keys() - homonyms.same) | homonyms.withheld | set(homonyms.refused)
    owners = theirs.owners
    numbers = {number for number, name in ours.owners.items() if owners.get(number) != name}
    return frozenset(names | {b"%" + name for name in groups} | {b"#%d" % number for number in numbers})


def find_ambiguous_words(rules: bytes, words: frozenset[bytes]) -> tuple[bytes, ...]:
    """The words that a file of rules has outside its comments."""
    lines = (re.sub(rb"#(?![0-9]).*", b"", line) for line in rules.split(b"\n"))
    found = {word for line in lines for word in re.split(rb"[\s,=():!\"\\]+", line)}
    return tuple(sorted(found & words))


def list_private_paths(old: Accounts, homonyms: Homonyms) -> Mapping[bytes, bytes]:
    """The home and the jobs of each refused user, with the user's name."""
    users = parse(PASSWD, old.passwd).entries
    others = {entry.fields[5].rstrip(b"/") for name, entry in users.items() if name not in homonyms.refused}
    homes = {users[name].fields[5].rstrip(b"/"): name for name in homonyms.refused}
    found = {home: name for home, name in homes.items() if home.count(b"/") > 1 and home not in others}
    return found | {_CRONTABS + name: name for name in homonyms.refused}


def _refuse(name: bytes, theirs: "_Side", ours: "_Side") -> str:
    """Say why this machine's account must not become the backed-up one; empty where it may."""
    had, has = theirs.list_privileges(name), ours.list_privileges(name)
    if ours.users.ids[name] == _ROOT and theirs.users.ids[name] != _ROOT:
        return "it has uid 0 on this machine only"
    if not (theirs.is_person(name) or ours.is_person(name)):
        return ""
    if has - had and not had & ROOT_LIKE:
        return f"it is in {_join(has - had)} on this machine only"
    if theirs.is_person(name) and theirs.can_log_in(name) and not ours.is_person(name) and not ours.can_log_in(name):
        return "it is a system account without a login on this machine only"
    return ""


class _Side:
    """The accounts of one machine and their privileges."""

    def __init__(self, accounts: Accounts) -> None:
        self.users, self._groups = parse(PASSWD, accounts.passwd), parse(GROUP, accounts.group)

    def is_person(self, name: bytes) -> bool:
        return self.users.ids[name] in _PEOPLE or self.users.ids[name] > _NOGROUP

    def can_log_in(self, name: bytes) -> bool:
        return self.users.entries[name].fields[6].rpartition(b"/")[2] not in _NO_LOGIN

    def list_privileges(self, name: bytes) -> frozenset[bytes]:
        """The privileged groups of a user; `root` for uid 0."""
        entry = self.users.entries[name]
        groups = self._groups.entries
        found = {group for group in PRIVILEGED & groups.keys() if name in split_members(groups[group].fields[3])}
        primary = _list_privileged(self._groups, int(entry.fields[3]))
        return frozenset(found | primary | ({b"root"} if entry.id == _ROOT else set()))


@dataclass(frozen=True, slots=True)
class MemberRule:
    """Decides about the members of groups. `old` and `new` are the names of users of both machines."""

    old: frozenset[bytes]
    new: frozenset[bytes]
    homonyms: Homonyms

    def join(self, theirs: AccountLine, ours: AccountLine | None, index: int) -> bytes:
        """The union of a list of members in lines of group or gshadow, without those that must not come."""
        here = split_members(ours.fields[index]) if ours else ()
        saved = split_members(theirs.fields[index])
        come = [name for name in saved if name in here or not self.explain(name, theirs.name)]
        stay = [name for name in here if name in saved or not self.is_vacant(name)]
        return b",".join(dict.fromkeys((*come, *stay)))

    def keep(self, ours: AccountLine, index: int) -> bytes:
        """The members of a group that only this machine has."""
        names = split_members(ours.fields[index])
        vacant = [name for name in names if self.is_vacant(name)]
        return b",".join(name for name in names if name not in vacant) if vacant else ours.fields[index]

    def is_vacant(self, name: bytes) -> bool:
        """Whether a member of this machine's is of no account here, and an account of that name comes."""
        return name in self.old and name not in self.new and name not in self.homonyms.same

    def explain(self, name: bytes, group: bytes) -> str:
        """Say why a member of the backed-up machine must not become one here; empty where it may."""
        if name in self.homonyms.same or name not in self.new:
            return ""
        if name not in self.old:
            return f"the backed-up machine has no account of that name, but {printable(group)} lists it"
        if name in self.homonyms.refused or (name in self.homonyms.withheld and group in PRIVILEGED):
            return f"this machine had an account of that name, which is not in {printable(group)}"
        return ""

    def list_dropped(self, old: AccountTable, new: AccountTable) -> Iterator[Skipped]:
        """Name the members that do not come, or do not stay."""
        for group, name in sorted(_list_members(old) - _list_members(new)):
            if name not in self.homonyms.refused and (reason := self.explain(name, group)):
                yield _skip(name, f"not made a member of {printable(group)}: {reason}")
        for group, name in sorted(_list_members(new) - _list_members(old)):
            if self.is_vacant(name):
                reason = "its group here lists the name, but this machine had no such account"
                yield _skip(name, f"not made a member of {printable(group)}: {reason}")


def _list_members(groups: AccountTable) -> set[tuple[bytes, bytes]]:
    """Pairs of a group and a member."""
    return {(group, name) for group, entry in groups.entries.items() for name in split_members(entry.fields[3])}


@dataclass(frozen=True, slots=True)
class PrimaryGroups:
    """Chooses primary groups of users. The tables are the groups of both machines."""

    old: AccountTable
    new: AccountTable
    homonyms: Homonyms

    def choose(self, theirs: AccountLine, ours: AccountLine | None, mapped: int) -> int:
        """The primary gid of a merged user; `mapped` is where the map of ids sends the saved one."""
        if not self._explain(theirs, ours, mapped):
            return mapped
        return int(ours.fields[3]) if ours else _NOGROUP

    def list_dropped(self, users: Iterable[tuple[AccountLine, AccountLine | None, int]]) -> Iterator[Skipped]:
        for theirs, ours, mapped in users:
            if reason := self._explain(theirs, ours, mapped):
                yield _skip(theirs.name, reason)

    def _explain(self, theirs: AccountLine, ours: AccountLine | None, mapped: int) -> str:
        name, number = theirs.name, int(theirs.fields[3])
        if name in self.homonyms.same or (ours and int(ours.fields[3]) == mapped):
            return ""
        there, here = _list_privileged(self.old, number), _list_privileged(self.new, mapped)
        if number not in self.old.owners and here:
            return f"its primary group {number} has no name on the backed-up machine; here it is {_join(here)}"
        if ours and name in self.homonyms.withheld and there:
            return f"its primary group is not made {_join(there)}: this machine had an account of that name"
        return ""


def _list_privileged(groups: AccountTable, number: int) -> frozenset[bytes]:
    """The privileged groups that have an id; several names may have one."""
    return frozenset(name for name in PRIVILEGED & groups.entries.keys() if groups.entries[name].id == number)


def describe_refused(homonyms: Homonyms) -> Iterator[Skipped]:
    for name, reason in sorted(homonyms.refused.items()):
        yield _skip(name, f"this machine's account of that name stays as it is: {reason}")


def _skip(name: bytes, reason: str) -> Skipped:
    shown = printable(name)
    return Skipped(b"user:" + name, f"{reason}; if both are the same account, add --same-user {shown}")


def _join(names: Iterable[bytes]) -> str:
    return ", ".join(map(printable, sorted(names)))
