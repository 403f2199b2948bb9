"""The part of a snapshot that a restore brings back: --skip, --limit, --as, --rename-database.

Takes overrides in the form that backups use; decides about items. Pure.
"""

from dataclasses import field
from typing import NamedTuple

from tklb.diff.rules import Override, Selection
from tklb.errors import UsageWrong
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.databases import ENGINES, find_engine
from tklb.model.plan import Role

_GLOB = b"*?["
_NAMED = ("packages", "users", "databases")


def _name_part(item: Override) -> str:
    """The part of a snapshot that an override is about."""
    if find_engine(item.kind):
        return "databases"
    return {"path": "files", "package": "packages", "user": "users"}[item.kind]


class Rename(NamedTuple):
    """A new name for a database. `engine` is empty if the user gave none."""

    engine: str
    old: str
    new: str


def parse_rename(text: str) -> Rename:
    """Read `OLD=NEW` or `ENGINE:OLD=NEW`. Raises UsageWrong."""
    old, equals, new = text.partition("=")
    engine, colon, name = old.partition(":")
    if not colon or find_engine(engine) is None:
        engine, name = "", old
    if not equals or not name or not new or "/" in new or "=" in new:
        forms = " or ".join(f"{word}:OLD=NEW" for word in ENGINES)
        raise UsageWrong(reason=f"--rename-database {text}: give OLD=NEW, or {forms}")
    return Rename(engine, name, new)


@dataclass(frozen=True, slots=True)
class RestoreFilter:
    """The options of a restore. `skip` has some of files, packages, users, databases.

    If every limit starts with `-`, the limits only leave out. Otherwise only items that they name are wanted. `own` are
    the folders with the state of tklb.
    """

    role: Role = Role.REPLACEMENT
    skip: frozenset[str] = frozenset()
    limit: tuple[Override, ...] = ()
    remove_packages: bool = False
    is_exact: bool = False  # remove what the snapshot does not know
    own: tuple[bytes, ...] = ()
    same_users: frozenset[bytes] = frozenset()  # names that are the same account on both machines
    renames: tuple[Rename, ...] = ()
    _selection: Selection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_selection", Selection(self.limit))

    @property
    def is_limited(self) -> bool:
        return any(item.include for item in self.limit)

    @property
    def is_whole(self) -> bool:
        """Whether all of a snapshot is wanted. The next backup of the chain would take left-out files for deleted."""
        return not self.limit and not self.skip and not self.renames

    @property
    def asked_paths(self) -> tuple[bytes, ...]:
        """The paths that a limit names, without globs."""
        return tuple(
            item.value for item in self.limit
            if item.kind == "path" and item.include and not any(char in item.value for char in _GLOB)
        )  # fmt: skip

    @property
    def asked_items(self) -> tuple[bytes, ...]:
        """All items that a limit names: paths, `package:NAME`, `user:NAME`, databases and their tables."""
        names = (item for item in self.limit if item.include and _name_part(item) in _NAMED)
        plain = (item for item in names if not any(char in item.value for char in _GLOB))
        return (*self.asked_paths, *(item.kind.encode() + b":" + item.value for item in plain))

    def wants_part(self, name: str) -> bool:
        """Whether any of a part is wanted: `files`, `packages`, `users` or `databases`."""
        return name not in self.skip and (
            not self.is_limited or any(item.include and _name_part(item) == name for item in self.limit)
        )

    def name_of(self, engine: str, database: str) -> str:
        """Give the name of a database on this machine."""
        renamed = (rename.new for rename in self.renames if rename.old == database and rename.engine in ("", engine))
        return next(renamed, database)

    def allows(self, kind: str, name: bytes) -> bool:
        """Whether the path, package or user `name` is wanted."""
        return not self.limit or self._selection.allows(kind, name)


def select_accounts(choice: RestoreFilter, merged: Accounts, here: Accounts) -> Accounts:
    """Give the account files with the wanted users as in `merged`, and all others as they are `here`.

    A group comes if no limit names anything, or if a wanted user is in it. Its new members are wanted users only.
    """
    if not any(item.kind == "user" for item in choice.limit):
        return merged
    users = _WantedLines(choice, merged, here)
    return Accounts(
        passwd=users.lines(merged.passwd, here.passwd),
        shadow=users.lines(merged.shadow, here.shadow),
        subuid=users.lines(merged.subuid, here.subuid),
        subgid=users.lines(merged.subgid, here.subgid),
        group=users.groups(merged.group, here.group),
        gshadow=users.groups(merged.gshadow, here.gshadow),
    )


class _WantedLines:
    """Selects lines of account files: those of wanted users, and of the groups that they need."""

    def __init__(self, choice: RestoreFilter, merged: Accounts, here: Accounts) -> None:
        self._names = {name for name in map(_name, merged.passwd) if choice.allows("user", name)}
        self._known = self._names | set(map(_name, here.passwd))
        numbers = {line.split(b":")[3] for line in merged.passwd if _name(line) in self._names and line.count(b":") > 3}
        self._primary = {_name(line) for line in merged.group if not numbers.isdisjoint(line.split(b":")[2:3])}
        self._all_groups = not choice.is_limited

    def lines(self, merged: tuple[bytes, ...], here: tuple[bytes, ...]) -> tuple[bytes, ...]:
        kept = tuple(line for line in here if _name(line) not in self._names)
        return (*kept, *(line for line in merged if _name(line) in self._names))

    def groups(self, merged: tuple[bytes, ...], here: tuple[bytes, ...]) -> tuple[bytes, ...]:
        present = {_name(line): line for line in here}
        return tuple(line for line in (self._group(line, present.get(_name(line))) for line in merged) if line)

    def _group(self, merged: bytes, here: bytes | None) -> bytes | None:
        head, _, members = merged.rpartition(b":")
        known = [name for name in members.split(b",") if name in self._known]
        if self._all_groups or _name(merged) in self._primary or self._names.intersection(known):
            return head + b":" + b",".join(known)
        return here


def _name(line: bytes) -> bytes:
    return line.split(b":", 1)[0]
