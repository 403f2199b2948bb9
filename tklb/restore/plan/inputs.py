"""The inputs of a plan: the contents of a snapshot, this machine as it is, and the filter of the user. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field

from tklb.diff.path_names import is_plain_path
from tklb.diff.rules import Rules
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.databases import SavedServer, ServerFeatures
from tklb.model.files import FileChange, FileEntry
from tklb.model.packages import Package, PackageOffer, PackageRelations, SourceFile
from tklb.model.plan import RemakeFacts, ServiceFacts
from tklb.model.registries.decisions import Registries
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.restore.plan.files.present import Present, is_at_or_below
from tklb.restore.plan.filter import RestoreFilter

Lookup = Callable[[bytes], FileEntry | None]


@dataclass(frozen=True, slots=True)
class SnapshotContents:
    """The contents of a snapshot. `manifest` streams the entries in path order, each time it is called."""

    snapshot: str
    contents: SnapshotMetadata
    manifest: Callable[[], Iterator[FileEntry]]
    changed_while_read: Mapping[bytes, str] = field(
        default_factory=dict
    )  # changed while the backup read it: path, stored SHA-256
    has_one_inode: bool = True  # content and metadata of each file came from one inode
    at_jobs: Mapping[bytes, bytes] = field(default_factory=dict)  # contents of the jobs of at(1), by path
    boot_settings: Mapping[bytes, bytes] = field(default_factory=dict)  # contents of settings of GRUB and initramfs
    grants: Mapping[bytes, bytes] = field(default_factory=dict)  # contents of the rules of sudo and doas, by path
    base: Lookup | None = None  # install state of the backed-up machine's profile, if it is at hand
    servers: tuple[SavedServer, ...] = ()
    skipped: tuple[Skipped, ...] = ()  # what the backup skipped
    left_out: frozenset[bytes] = frozenset()  # the items of these
    profile_rules: Rules | None = None  # scope of the backed-up machine's profile
    broken: frozenset[bytes] = frozenset()  # databases (`mysql:DB`) whose dumps are not whole


def offer_nothing(_labels: Iterable[str]) -> Mapping[str, PackageOffer]:
    return {}


@dataclass(frozen=True, slots=True)
class PackageState:
    """More facts about the packages of this machine. `find_offers` asks apt about labels; none: apt has no lists."""

    relations: Mapping[str, PackageRelations] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()  # half installed or not configured
    faults: tuple[str, ...] = ()  # what an interrupted installation or restore left behind
    absent_holds: tuple[str, ...] = ()  # held and not installed
    excluded: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)  # paths that dpkg leaves out, by its file
    find_offers: Callable[[Iterable[str]], Mapping[str, PackageOffer]] = offer_nothing


@dataclass(frozen=True, slots=True)
class OwnState:
    """What somebody added to the install state of this machine.

    `stream_changes` gives the differences of the files that the rules include, in path order.
    """

    stream_changes: Callable[[Rules], Iterator[FileChange]]
    packages: tuple[Package, ...] = ()
    apt_files: tuple[bytes, ...] = ()  # keyrings, preferences, logins and what else travels with sources
    users: tuple[bytes, ...] = ()
    groups: tuple[bytes, ...] = ()
    unseen: Iterable[Skipped] = ()  # files that could not be read, once the stream has ended


@dataclass(frozen=True, slots=True)
class CurrentMachine:
    """This machine as it is now."""

    machine: MachineFacts
    accounts: Accounts
    packages: tuple[Package, ...]
    files: Present
    registries: Registries = Registries()  # with the entries of packages
    sources: tuple[SourceFile, ...] = ()  # all that apt reads its sources from
    offers: Mapping[str, ServerFeatures] = field(default_factory=dict)  # features of the database servers that answer
    rows_here: Mapping[bytes, bool] = field(default_factory=dict)  # tables the snapshot has no rows of: have these here
    remake: RemakeFacts = field(default_factory=RemakeFacts)  # what decides about commands that make caches anew
    services: ServiceFacts = field(default_factory=ServiceFacts)
    package_state: PackageState = field(default_factory=PackageState)
    own: OwnState | None = None  # None: nobody asks what the snapshot does not know


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """The snapshot, this machine, and the part of the snapshot that is wanted."""

    saved: SnapshotContents
    here: CurrentMachine
    choice: RestoreFilter
    apart: frozenset[bytes] = frozenset()  # paths of other people with the same names, and everything below

    def wants(self, part: str) -> bool:
        return self.choice.wants_part(part) and part in self.saved.contents.machine.parts

    def wants_path(self, path: bytes) -> bool:
        return is_plain_path(path) and self.choice.allows("path", path) and not self._is_apart(path)

    def _is_apart(self, path: bytes) -> bool:
        return bool(self.apart) and any(is_at_or_below(path, top) for top in self.apart)
