"""The nouns. Values only: nothing here asks or changes anything. Paths are bytes, times aware UTC or integer ns."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Self

from tklb.errors import COMPLETE, INCOMPLETE

# how far a run is: what it does, how much is done, of how much (0: not known)
Progress = Callable[[str, int, int], None]


class Secret:
    """Text that must not be seen: printed and logged as `***`; `reveal()` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


# ---------------------------------------------------------------- files


class FileEntry(NamedTuple):
    """One file system object, as seen or as recorded; None where the record is silent. A tuple: millions pass by."""

    path: bytes  # absolute, no trailing slash; b"/" is the root
    kind: str  # mtree's words: file dir link fifo block char (sockets are never recorded)
    mode: int | None = None  # permission bits, 0 to 0o7777
    uid: int | None = None
    gid: int | None = None
    uname: bytes | None = None  # None: no name owns the id (or the record is silent)
    gname: bytes | None = None
    size: int | None = None  # bytes; files only
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    link: bytes | None = None  # target of a symlink
    device: tuple[int, int] | None = None  # major, minor of a device node
    dev: int | None = None  # device and inode it lives on: equal for hard links of one group
    ino: int | None = None
    nlink: int | None = None
    sha256: str | None = None  # lowercase hex
    md5: str | None = None  # what dpkg records
    xattrs: tuple[tuple[bytes, bytes], ...] | None = None  # sorted; ACLs and capabilities among them
    sparse: bool = False


class Change(StrEnum):
    NEW = "new"
    EDITED = "edited"
    METADATA = "metadata"
    DELETED = "deleted"


class FileChange(NamedTuple):
    """One difference. `base` is None for new, `now` is None for deleted."""

    path: bytes
    change: Change
    base: FileEntry | None
    now: FileEntry | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that could not be taken or put back. `item` is a path or `package:NAME`, `user:NAME`, ...

    `status` is the exit status that it gives a run which is complete but for it.
    """

    item: bytes
    reason: str
    status: int = INCOMPLETE


def status_of(skipped: Iterable[Skipped]) -> int:
    """The exit status of a run that is complete but for `skipped`."""
    return max((item.status for item in skipped), default=COMPLETE)


# ---------------------------------------------------------------- packages


@dataclass(frozen=True, slots=True, order=True)
class Package:
    name: str
    version: str
    architecture: str
    auto: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class PackageDelta:
    """What the owner did to the package set of the install state. Sorted by name, then architecture."""

    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    upgraded: tuple[tuple[Package, Package], ...] = ()  # (base, now), version differs in either direction
    marked: tuple[tuple[Package, Package], ...] = ()  # (base, now), auto/manual or hold differs, version does not

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.upgraded or self.marked)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the package manager's configuration that travels with the packages."""

    path: bytes
    content: bytes
    mode: int
    mtime_ns: int | None = None


# ---------------------------------------------------------------- users and groups


@dataclass(frozen=True, slots=True)
class Accounts:
    """The account files, line by line as they are (no newline at the end of a line); absent files are empty."""

    passwd: tuple[bytes, ...] = ()
    group: tuple[bytes, ...] = ()
    shadow: tuple[bytes, ...] = ()
    gshadow: tuple[bytes, ...] = ()
    subuid: tuple[bytes, ...] = ()
    subgid: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountDelta:
    """Names of accounts that differ from the install state. Sorted."""

    users_added: tuple[bytes, ...] = ()
    users_changed: tuple[bytes, ...] = ()
    users_removed: tuple[bytes, ...] = ()
    groups_added: tuple[bytes, ...] = ()
    groups_changed: tuple[bytes, ...] = ()
    groups_removed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountMerge:
    """The merged account files, and where every id of the backed-up machine went (ids that stay are listed too)."""

    accounts: Accounts
    uid_map: Mapping[int, int]
    gid_map: Mapping[int, int]
    warnings: tuple[str, ...] = ()


# ---------------------------------------------------------------- databases


@dataclass(frozen=True, slots=True, order=True)
class Database:
    """One database as its server lists it. `engine` is the word of overrides: mysql, pgsql."""

    engine: str
    name: str
    bytes: int = 0  # as the server reckons it


@dataclass(frozen=True, slots=True)
class SavedTable:
    """One table of a dump. `name` is how overrides spell it: TABLE, in PostgreSQL SCHEMA.TABLE."""

    name: str
    rows: int | None = None  # None: its rows were left out, its definition is there
    files: tuple[str, ...] = ()  # what holds the rows, in order; below the folder of its database


@dataclass(frozen=True, slots=True)
class SavedDatabase:
    """One database of a dump. `folder` is where it lies in the dump of its server."""

    engine: str
    name: str
    folder: str
    tables: tuple[SavedTable, ...] = ()
    bytes: int = 0  # of all its files
    needs: tuple[str, ...] = ()  # what a server must offer to take it: `extension:hstore`, `engine:InnoDB`, ...


@dataclass(frozen=True, slots=True)
class SavedServer:
    """The dump of one server: all databases taken, at one moment."""

    engine: str
    version: str  # as people write it: MariaDB 10.11.14, PostgreSQL 15.13
    databases: tuple[SavedDatabase, ...] = ()
    accounts: tuple[str, ...] = ()  # users and roles, as people write them, but the administrator's


@dataclass(frozen=True, slots=True)
class DatabaseLoad:
    """What of a saved database goes where. `into` is its name on this server."""

    saved: SavedDatabase
    into: str
    tables: tuple[str, ...] | None = None  # only these; None: the whole database takes the place of the one here
    kept: tuple[str, ...] = ()  # tables of a whole database whose rows stay as they are here


# ---------------------------------------------------------------- snapshots


class Role(StrEnum):
    REPLACEMENT = "replacement"
    CLONE = "clone"


class Kind(StrEnum):
    FULL = "full"
    INCREMENTAL = "incremental"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Volume:
    """One object under `volumes/` of the target. `size` in bytes, `sha256` lowercase hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Address:
    """`text` is the address as people may see it. What a kind of target has no use for is empty.

    file: `path` absolute. s3: `endpoint` ("" as configured), `bucket`, `path` the prefix, no slashes around it. sftp:
    `user` ("" as SSH decides), `host`, `port` (0: 22), `path` absolute or relative to the home. Others: the text.
    """

    scheme: str  # file s3 sftp other
    text: str
    path: str = ""
    user: str = ""
    host: str = ""
    port: int = 0
    bucket: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """One duplicity chain of a snapshot: `prefix` its file prefix ('' for the first), `time` the set to restore."""

    prefix: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    files_changed: int = 0  # new and edited
    files_metadata: int = 0
    files_deleted: int = 0
    bytes: int = 0  # size of the files of the delta that this snapshot stored anew
    packages_added: int = 0
    packages_removed: int = 0
    users_added: int = 0
    users_changed: int = 0
    delta_files: int = 0  # entries of the whole delta, whatever was stored anew
    delta_bytes: int = 0
    databases: int = 0  # taken, whatever was stored anew
    database_bytes: int = 0  # of their dumps


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed snapshot: one entry of the ledger. `volumes` are all its restore needs, of older sets too."""

    sequence: int
    snapshot: str  # id: UTC YYYYMMDDTHHMMSSZ
    kind: Kind
    previous: str  # SHA-256 of the record before it; "" for the first
    host: str  # host id of the machine
    hostname: str
    profile: str
    profile_digest: str
    release: str  # os-release ID-VERSION_ID
    stage: str  # where inside the snapshot our own records lie, no leading slash
    volumes: tuple[Volume, ...]
    own_volumes: tuple[str, ...]  # the names among them that this snapshot added
    shards: tuple[Shard, ...]
    counts: Counts
    content_digest: str  # SHA-256 over everything the snapshot holds; equal means nothing changed
    amended: tuple[tuple[bytes, str], ...] = ()  # files that changed while being read: path, SHA-256 as stored
    skipped: tuple[Skipped, ...] = ()
    marks: tuple[str, ...] = ()
    key: str = ""  # the name of the key it is sealed with; filled in by the seal
    older: tuple[Secret, ...] = ()  # the secrets of snapshots that were sealed with other keys before

    @property
    def time(self) -> datetime:
        return snapshot_time(self.snapshot)

    @property
    def stored_bytes(self) -> int:
        own = set(self.own_volumes)
        return sum(volume.size for volume in self.volumes if volume.name in own)


SNAPSHOT_FORMAT = "%Y%m%dT%H%M%SZ"


def snapshot_id(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(SNAPSHOT_FORMAT)


def snapshot_time(snapshot: str) -> datetime:
    """Raise ValueError where `snapshot` is no id."""
    return datetime.strptime(snapshot, SNAPSHOT_FORMAT).replace(tzinfo=UTC)


# ---------------------------------------------------------------- restore


class StepKind(StrEnum):
    """In the order they are carried out; restore/plan.py gives the reasons."""

    SOURCE = "add-source"
    INSTALL = "install-package"
    REMOVE = "remove-package"
    MARK = "mark-package"
    ACCOUNTS = "merge-accounts"
    WRITE = "write-file"
    LINK = "link-file"
    METADATA = "set-metadata"
    DELETE = "delete-file"
    DATABASE_ACCOUNTS = "merge-database-accounts"
    DATABASE = "load-database"
    SERVICE = "restart-service"


@dataclass(frozen=True, slots=True)
class Step:
    """One deed of a plan. `item` is what a person would call it: a path, a package, a service."""

    kind: StepKind
    item: bytes
    detail: str = ""
    entry: FileEntry | None = None  # files: what shall stand there, ids already mapped
    was: FileEntry | None = None  # files: what stood there when the plan was made
    partner: bytes | None = None  # LINK: the path it becomes another name of
    package: Package | None = None
    load: DatabaseLoad | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do, in order. `folder_times` (path, mtime in ns) are set when all else in a folder is done;
    alone they are no difference, so a plan that has nothing else is empty."""

    snapshot: str
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    merge: AccountMerge | None = None
    folder_times: tuple[tuple[bytes, int], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did: shown to people and printed as JSON from the same value."""

    done: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def joined(self, other: Self) -> Self:
        return type(self)(self.done + other.done, self.skipped + other.skipped, self.warnings + other.warnings)
