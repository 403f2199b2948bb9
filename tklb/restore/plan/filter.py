"""What of a snapshot is wanted on this machine: --skip, --limit, --as.

Takes overrides in the grammar of backups, says yes or no. Pure.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from tklb.diff.rules import Override, Selection
from tklb.errors import UsageWrong
from tklb.model.accounts import Accounts
from tklb.model.plan import Role

_GLOB = b"*?["
_ENGINES = ("mysql", "pgsql")


class Rename(NamedTuple):
    """A database that gets another name; `engine` is empty where it was not said."""

    engine: str
    old: str
    new: str


def parse_rename(text: str) -> Rename:
    """Read `OLD=NEW`, or `mysql:OLD=NEW`, `pgsql:OLD=NEW`. Raises UsageWrong."""
    old, equals, new = text.partition("=")
    engine, colon, name = old.partition(":")
    if not colon or engine not in _ENGINES:
        engine, name = "", old
    if not equals or not name or not new or "/" in new or "=" in new:
        raise UsageWrong(reason=f"`{text}` is no OLD=NEW")
    return Rename(engine, name, new)


@dataclass(frozen=True, slots=True)
class RestoreFilter:
    """The wish of whoever restores. `skip` holds some of files, packages, users, databases.

    Limits with nothing but `-` leave out; any other names all that is wanted. `own` are the folders of our own state.
    """

    role: Role = Role.REPLACEMENT
    skip: frozenset[str] = frozenset()
    limit: tuple[Override, ...] = ()
    remove_packages: bool = False
    own: tuple[bytes, ...] = ()
    renames: tuple[Rename, ...] = ()
    _selection: Selection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_selection", Selection(self.limit))

    @property
    def is_limited(self) -> bool:
        return any(item.include for item in self.limit)

    @property
    def is_whole(self) -> bool:
        """Whether all of a snapshot is wanted. What was left out, the next backup of the chain would call deleted."""
        return not self.limit and not self.skip and not self.renames

    @property
    def asked_paths(self) -> tuple[bytes, ...]:
        """The paths asked for by name: no glob among them."""
        return tuple(
            item.value for item in self.limit
            if item.kind == "path" and item.include and not any(char in item.value for char in _GLOB)
        )  # fmt: skip

    @property
    def asked_items(self) -> tuple[bytes, ...]:
        """All asked for by name: paths, `package:NAME`, `user:NAME`, databases and their tables."""
        names = (item for item in self.limit if item.include and item.kind in ("package", "user", *_ENGINES))
        plain = (item for item in names if not any(char in item.value for char in _GLOB))
        return (*self.asked_paths, *(item.kind.encode() + b":" + item.value for item in plain))

    def wants_part(self, name: str) -> bool:
        """Whether any of `files`, `packages`, `users` or `databases` is wanted."""
        kinds = {"files": ("path",), "packages": ("package",), "users": ("user",), "databases": _ENGINES}[name]
        return name not in self.skip and (not self.is_limited or any(i.include for i in self.limit if i.kind in kinds))

    def name_of(self, engine: str, database: str) -> str:
        """What a database shall be called on this machine."""
        renamed = (rename.new for rename in self.renames if rename.old == database and rename.engine in ("", engine))
        return next(renamed, database)

    def allows(self, kind: str, name: bytes) -> bool:
        """Whether the path, package or user of that name is wanted."""
        return not self.limit or self._selection.allows(kind, name)


def select_accounts(choice: RestoreFilter, merged: Accounts, here: Accounts) -> Accounts:
    """The account files with the wanted users as `merged` has them, and all others as they are `here`.

    Groups come when they come for all, or when a wanted user is in them; as members they get wanted users only.
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
    """Which lines of account files come: those of wanted users, and of the groups they need."""

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
