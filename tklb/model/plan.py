"""A restore before it is carried out: its steps, in order."""

from dataclasses import dataclass
from enum import StrEnum

from tklb.model.accounts import AccountMerge
from tklb.model.databases import DatabaseLoad
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.model.report import Skipped


class Role(StrEnum):
    REPLACEMENT = "replacement"
    CLONE = "clone"


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
    """One step of a plan. `item` names it for people: a path, a package, a service."""

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
    """The steps of a restore, in order.

    `folder_times` (path, mtime in ns) are set after all other changes in a folder. They are no difference by
    themselves, so a plan with nothing else is empty.
    """

    snapshot: str
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    merge: AccountMerge | None = None
    folder_times: tuple[tuple[bytes, int], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps
