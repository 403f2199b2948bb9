"""A snapshot: its ledger entry, volumes, shards and counts. Times are aware UTC."""

from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped
from tklb.model.secret import Secret


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


class Excuse(NamedTuple):
    """Earlier entries, from the `first` to the `last` sequence, that need not lie on a target.

    `why`: `elsewhere` they lie on another target, `void` they were given up or lost, `dropped` nobody needs them.
    """

    first: int
    last: int
    why: str


class Stray(NamedTuple):
    """An authentic entry that is not on the trunk; `digest` is the SHA-256 of its bytes."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class LedgerEntry:
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
    changed_while_read: tuple[
        tuple[bytes, str], ...
    ] = ()  # files that changed while being read: path, SHA-256 as stored
    has_one_inode: bool = False  # content and metadata of each file came from one inode; False: of an older version
    skipped: tuple[Skipped, ...] = ()
    marks: tuple[str, ...] = ()
    key: str = ""  # the name of the key it is sealed with; filled in by the seal
    older: tuple[Secret, ...] = ()  # the secrets of snapshots that were sealed with other keys before
    lineage: str = ""  # the history that the entry belongs to; "" in format 1, as are the next three
    installation: str = ""  # the installation that sealed it
    excused: tuple[Excuse, ...] = ()  # all holes before this entry, in order
    strays: tuple[Stray, ...] = ()  # all authentic entries before this one that are not on the trunk

    @property
    def time(self) -> datetime:
        return snapshot_time(self.snapshot)

    @property
    def stored_bytes(self) -> int:
        own = set(self.own_volumes)
        return sum(volume.size for volume in self.volumes if volume.name in own)


OPEN_FILES_A_SET = 2  # that duplicity holds while it decodes a chain
OTHER_OPEN_FILES = 64
_USUAL_LIMIT = 1024  # open files that a shell allows


def count_sets(entry: LedgerEntry) -> int:
    """Count the sets of the longest chain that a snapshot needs: a set of a shard has one volume with the number 1."""
    chains = Counter(volume.name.partition("duplicity-")[0] for volume in entry.volumes if _FIRST in volume.name)
    return max(chains.values(), default=0)


def describe_long_chain(entry: LedgerEntry | None) -> tuple[str, ...]:
    """Warn where stock duplicity cannot decode the chain of a snapshot with the usual limit of open files."""
    sets = count_sets(entry) if entry else 0
    if sets * OPEN_FILES_A_SET + OTHER_OPEN_FILES <= _USUAL_LIMIT:
        return ()
    needs = f"duplicity without tklb needs `ulimit -n {sets * 3}` to restore it"
    return (f"the newest chain has {sets} sets: {needs}; `tklb backup --full` begins a new chain",)


_FIRST = ".vol1.difftar"
SNAPSHOT_FORMAT = "%Y%m%dT%H%M%SZ"


def snapshot_id(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(SNAPSHOT_FORMAT)


def snapshot_time(snapshot: str) -> datetime:
    """Raise ValueError where `snapshot` is no id."""
    return datetime.strptime(snapshot, SNAPSHOT_FORMAT).replace(tzinfo=UTC)
