"""Whose files they will be: ids mapped from the backed-up machine to this one, and what is odd about them.

Takes account files and manifest entries, gives mapped entries, sets of ids and warnings. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tklb.delta.acl import remap_acl
from tklb.model import Accounts, FileEntry
from tklb.restore.words import Tally, shown

ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")


@dataclass(frozen=True, slots=True)
class Ids:
    """Where the backed-up machine's ids go. Every recorded id is mapped exactly once: chains and swaps are exact.

    An id that is in no map goes by its owner's name, where this machine has that name (a snapshot may hold no
    accounts), else it stays.
    """

    uids: Mapping[int, int]
    gids: Mapping[int, int]
    users: Mapping[bytes, int] = field(default_factory=dict)
    groups: Mapping[bytes, int] = field(default_factory=dict)

    def mapped(self, entry: FileEntry) -> FileEntry:
        """`entry` with owner, group and ACL entries mapped. Raises ValueError for a malformed ACL."""
        xattrs = entry.xattrs and tuple(
            (name, remap_acl(value, self.uids, self.gids) if name in ACLS else value) for name, value in entry.xattrs
        )
        return entry._replace(
            uid=_mapped(entry.uid, entry.uname, self.uids, self.users),
            gid=_mapped(entry.gid, entry.gname, self.gids, self.groups),
            xattrs=xattrs,
        )


def _mapped(number: int | None, name: bytes | None, ids: Mapping[int, int], names: Mapping[bytes, int]) -> int | None:
    if number is None or number in ids or name is None:
        return None if number is None else ids.get(number, number)
    return names.get(name, number)


def numbers(lines: Iterable[bytes]) -> dict[bytes, int]:
    """Name -> id, from lines of passwd or group. Of a name given twice the first counts; malformed lines do not."""
    found: dict[bytes, int] = {}
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit():
            found.setdefault(fields[0], int(fields[2]))
    return found


def nameless_ids(manifest: Iterable[FileEntry], accounts: Accounts) -> tuple[frozenset[int], frozenset[int]]:
    """The uids and gids that files and ACLs of the manifest use and that no name of `accounts` owns."""
    uids, gids = _Recorder(), _Recorder()
    for entry in manifest:
        uids.seen.add(entry.uid or 0)
        gids.seen.add(entry.gid or 0)
        for name, value in entry.xattrs or ():
            if name in ACLS:
                _record_acl(value, uids, gids)
    named_uids, named_gids = numbers(accounts.passwd).values(), numbers(accounts.group).values()
    return frozenset(uids.seen) - {0, *named_uids}, frozenset(gids.seen) - {0, *named_gids}


class _Recorder(Mapping[int, int]):
    """A map that has nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __getitem__(self, number: int) -> int:
        self.seen.add(number)
        raise KeyError(number)

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _record_acl(value: bytes, uids: _Recorder, gids: _Recorder) -> None:
    try:
        remap_acl(value, uids, gids)
    except ValueError:
        return  # the plan names it


class OwnerWatch:
    """Notes files whose owner will not be who it was: a number that has a name only here, a name that is not here.

    `accounts` are those this machine will have.
    """

    def __init__(self, nameless: tuple[frozenset[int], frozenset[int]], accounts: Accounts) -> None:
        self._nameless = nameless
        self._names = numbers(accounts.passwd), numbers(accounts.group)
        self._owners = tuple({number: name for name, number in names.items()} for names in self._names)
        self._found: Tally[str] = Tally()

    def see(self, entry: FileEntry) -> None:
        self._see(0, "user", entry.path, entry.uid, entry.uname)
        self._see(1, "group", entry.path, entry.gid, entry.gname)

    def _see(self, which: int, what: str, path: bytes, number: int | None, name: bytes | None) -> None:
        if number in self._nameless[which] and (owner := self._owners[which].get(number or 0)) is not None:
            line = f"{what} id {number} had no name on the backed-up machine and is {shown(owner)} here"
            self._found.note(line, path)
        elif name is not None and name not in self._names[which]:
            line = f"{what} {shown(name)} is not on this machine, its files keep a number without a name"
            self._found.note(line, path)

    def lines(self) -> Iterator[str]:
        return (f"{line}: {paths}" for line, paths in self._found.lines())
