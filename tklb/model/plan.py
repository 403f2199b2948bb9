"""A restore before it is carried out: its steps, in order."""

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum

from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import AccountMerge
from tklb.model.databases import DatabaseLoad
from tklb.model.files import FileEntry
from tklb.model.packages import Package, PackageOrder, SourceFile
from tklb.model.registries.decisions import AlternativeGroup, Answer, Diversion, RemovedEntry, StatOverride
from tklb.model.report import Skipped, UnknownItems


class Role(StrEnum):
    REPLACEMENT = "replacement"
    CLONE = "clone"


class StepKind(StrEnum):
    """In the order they are carried out; restore/plan.py gives the reasons."""

    FINISH = "finish-packages"
    ARCHITECTURE = "add-architecture"
    PRESEED = "preseed-answer"
    SOURCE = "add-source"
    INSTALL = "install-package"
    REPLACE = "replace-package"
    REMOVE = "remove-package"
    MARK = "mark-package"
    ACCOUNTS = "merge-accounts"
    DIVERSION = "add-diversion"
    NO_DIVERSION = "remove-diversion"
    MOVE = "move-aside"
    WRITE = "write-file"
    LINK = "link-file"
    METADATA = "set-metadata"
    DELETE = "delete-file"
    STAT_OVERRIDE = "add-statoverride"
    NO_STAT_OVERRIDE = "remove-statoverride"
    ALTERNATIVE = "set-alternative"
    NO_ALTERNATIVE = "remove-alternative"
    RUN = "run-command"
    FLAGS = "set-flags"
    DATABASE_ACCOUNTS = "merge-database-accounts"
    DATABASE = "load-database"
    DATABASE_SETTINGS = "set-server-settings"
    SERVICE = "restart-service"


COMING = (StepKind.INSTALL, StepKind.REPLACE)  # steps that bring a package


@dataclass(frozen=True, slots=True)
class Command:
    """A program that makes something anew on this machine. `inputs` are the changed files because of which it runs."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[bytes, ...] = ()
    takes_inputs: bool = False  # they are its arguments too, those that are there
    seconds: int = 600  # how long it may take


@dataclass(frozen=True, slots=True)
class RemakeFacts:
    """What decides which commands run on this machine."""

    programs: frozenset[str] = frozenset()  # those of the table that are installed
    has_systemd: bool = False  # systemd is process 1
    has_udev: bool = False  # udev runs
    rules_kernel: bool = False  # it may change the settings of its kernel
    triggers: tuple[tuple[bytes, str], ...] = ()  # folders whose changes a package wants to know, and that package
    maps: frozenset[bytes] = frozenset()  # sources of maps that Postfix is configured with
    unfinished: tuple[Command, ...] = ()  # of an earlier restore: they failed, or it was interrupted


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The services of this machine: names of units, without `.service`, or of init scripts."""

    can_start: bool = False  # systemd is process 1, or the runlevel is known
    enabled: frozenset[str] = frozenset()  # what the next start of the machine starts
    scripts: frozenset[str] = frozenset()  # those that have an init script
    of_packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    of_files: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)  # configuration files and folders
    is_running: Callable[[str], bool] = lambda _name: False
    new_packages: tuple[str, ...] = ()  # a restore installed them, and did not start their services yet
    unfinished: tuple[str, ...] = ()  # services that an interrupted restore still has to restart


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. `item` names it for people: a path, a package, a command, a service."""

    kind: StepKind
    item: bytes
    detail: str = ""
    entry: FileEntry | None = None  # files: what shall stand there, ids already mapped
    was: FileEntry | None = None  # files: what stood there when the plan was made
    partner: bytes | None = None  # LINK: the path it becomes another name of; MOVE: its new path
    package: Package | None = None
    order: PackageOrder | None = None  # INSTALL, REPLACE: what apt is asked for
    source: SourceFile | None = None  # SOURCE: what the file will contain
    load: DatabaseLoad | None = None
    command: Command | None = None
    decision: AlternativeGroup | Answer | Diversion | RemovedEntry | StatOverride | None = None
    settings: tuple[tuple[str, str], ...] = ()  # DATABASE_SETTINGS
    content: bytes | None = None  # WRITE: the content, where it is not that of the snapshot


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a restore, in order.

    `unknown` is what this machine has beside the snapshot, and keeps. `folder_times` (path, mtime in ns) are set after
    all other changes in a folder. They are no difference by themselves, so a plan with nothing else is empty.
    """

    snapshot: str
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    merge: AccountMerge | None = None
    folder_times: tuple[tuple[bytes, int], ...] = ()
    unknown: UnknownItems = field(default_factory=UnknownItems)
    is_whole: bool = True  # no option limits it
    may_restart: bool = True  # it restarts services

    @property
    def is_empty(self) -> bool:
        return not self.steps
