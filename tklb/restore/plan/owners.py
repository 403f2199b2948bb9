"""The owners of restored files: ids mapped from the backed-up machine to this one, and warnings about them.

Takes account files and manifest entries; gives mapped entries, sets of ids and warnings. Pure.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import field

from tklb.diff.accounts.merge import describe_nameless
from tklb.diff.attributes.acl import remap_acl
from tklb.diff.attributes.xattrs import ACLS, is_carried
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.restore.plan.tally import Tally


@dataclass(frozen=True, slots=True)
class OwnerMap:
    """Maps ids of the backed-up machine to ids of this one, each exactly once: chains and swaps are exact.

    An id that is in no map goes by the name of its owner, if this machine has that name: a snapshot may have no
    accounts. Otherwise it stays.
    """

    uids: Mapping[int, int]
    gids: Mapping[int, int]
    users: Mapping[bytes, int] = field(default_factory=dict)
    groups: Mapping[bytes, int] = field(default_factory=dict)

    def map_entry(self, entry: FileEntry) -> FileEntry:
        """Give `entry` with mapped owner, group and ACL, and only the carried attributes. ValueError: a bad ACL."""
        xattrs = entry.xattrs and tuple(
            (name, remap_acl(value, self.uids, self.gids) if name in ACLS else value)
            for name, value in entry.xattrs
            if is_carried(name)
        )
        return entry._replace(
            uid=_map_id(entry.uid, entry.uname, self.uids, self.users),
            gid=_map_id(entry.gid, entry.gname, self.gids, self.groups),
            xattrs=xattrs,
        )


def _map_id(number: int | None, name: bytes | None, ids: Mapping[int, int], names: Mapping[bytes, int]) -> int | None:
    if number is None or number in ids or name is None:
        return None if number is None else ids.get(number, number)
    return names.get(name, number)


def read_ids(lines: Iterable[bytes]) -> dict[bytes, int]:
    """Read ids by name from lines of passwd or group. The first line of a name counts; malformed lines do not."""
    found: dict[bytes, int] = {}
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit():
            found.setdefault(fields[0], int(fields[2]))
    return found


def find_nameless_ids(manifest: Iterable[FileEntry], accounts: Accounts) -> tuple[frozenset[int], frozenset[int]]:
    """Give the uids and gids in the manifest, also in ACLs, that no name of `accounts` owns."""
    uids, gids = _Recorder(), _Recorder()
    for entry in manifest:
        if entry.uname is None:
            uids.seen.add(entry.uid or 0)
        if entry.gname is None:
            gids.seen.add(entry.gid or 0)
        for value in (value for name, value in entry.xattrs or () if name in ACLS):
            _record_acl(value, uids, gids)
    named_uids, named_gids = read_ids(accounts.passwd).values(), read_ids(accounts.group).values()
    return frozenset(uids.seen) - {0, *named_uids}, frozenset(gids.seen) - {0, *named_gids}


class _Recorder(Mapping[int, int]):
    """An empty map that keeps the keys it was asked for."""

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
        return  # the plan reports it


class OwnerWatch:
    """Notes files whose owner has no name there or here. `accounts` are those after the restore.

    `uids` and `gids` are the ids that names of the backed-up machine had.
    """

    def __init__(self, accounts: Accounts, uids: Container[int] = (), gids: Container[int] = ()) -> None:
        self._users, self._groups = read_ids(accounts.passwd), read_ids(accounts.group)
        self._named = {
            "uid": (uids, {number: name for name, number in reversed(self._users.items())}),
            "gid": (gids, {number: name for name, number in reversed(self._groups.items())}),
        }
        self._found: Tally[tuple[str, bytes]] = Tally()
        self._nameless: dict[tuple[str, int], bytes] = {}  # ids of no name there, and their names here

    def see(self, entry: FileEntry) -> None:
        if entry.uname is not None and entry.uname not in self._users:
            self._found.note(("user", entry.uname), entry.path)
        if entry.gname is not None and entry.gname not in self._groups:
            self._found.note(("group", entry.gname), entry.path)
        if entry.uname is None:
            self._see_number("uid", entry.uid)
        if entry.gname is None:
            self._see_number("gid", entry.gid)
        for value in (value for name, value in entry.xattrs or () if name in ACLS):
            self._see_acl(value)

    def lines(self) -> Iterator[str]:
        for (kind, name), paths in self._found.lines():
            yield f"{kind} {printable(name)} is not on this machine; its files keep a number without a name: {paths}"
        for (kind, number), name in sorted(self._nameless.items()):
            yield describe_nameless(kind, number, name)

    def _see_number(self, kind: str, number: int | None) -> None:
        known, names = self._named[kind]
        if number and number not in known and number in names:
            self._nameless[kind, number] = names[number]

    def _see_acl(self, value: bytes) -> None:
        uids, gids = _Recorder(), _Recorder()
        _record_acl(value, uids, gids)
        for kind, recorder in (("uid", uids), ("gid", gids)):
            for number in recorder.seen:
                self._see_number(kind, number)
