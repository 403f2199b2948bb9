"""The metadata that travels inside a snapshot, as values."""

from dataclasses import field

from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.packages import LocalPackage, Package, PackageHistory, SourceFile
from tklb.model.registries.decisions import Registries

SQLITE_COPIES = "sqlite"


PARTS = ("files", "packages", "users", "databases")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Whose snapshot it is. `parts` are those taken, of files, packages, users, databases."""

    hostname: str
    host: str
    release: str
    architecture: str
    profile: str
    services: tuple[str, ...] = ()
    parts: tuple[str, ...] = PARTS
    format: int = 1


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """All of a stage but the manifest, which streams."""

    machine: MachineFacts
    deleted: tuple[bytes, ...] = ()
    hard_links: tuple[tuple[bytes, ...], ...] = ()
    packages: tuple[Package, ...] = ()
    packages_base: tuple[Package, ...] = ()
    local: tuple[str, ...] = ()  # labels of packages that no source offers
    local_files: tuple[bytes, ...] = ()  # their files, which are taken wherever they lie
    local_packages: tuple[LocalPackage, ...] = ()  # what dpkg knows of them; none in old snapshots
    history: PackageHistory = field(default_factory=PackageHistory)
    sources: tuple[SourceFile, ...] = ()
    accounts: Accounts = Accounts()
    packaged: tuple[FileEntry, ...] = ()  # files of packages whose mode, owner or attributes differ, without content
    registries: Registries = Registries()  # the owner's decisions in them
    scope: tuple[bytes, ...] | None = None  # the rules that decided which files belong to it; None: not recorded
    copies: tuple[tuple[bytes, str], ...] = ()  # SQLite databases: path, name of the copy below databases/sqlite
