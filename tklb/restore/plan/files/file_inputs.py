"""The inputs of the plan for files, besides the entries of the manifest. Pure."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field

from tklb.lazy_dataclass import dataclass
from tklb.restore.plan.files.present import Present
from tklb.restore.plan.keep_rules import KeepRules
from tklb.restore.plan.owners import OwnerMap


def _come_never(_path: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class FileInputs:
    """All that the planner of files needs besides the entries of the manifest.

    `comes` says whether the restore brings something at or below a path. `reserved` are paths of the manifest that look
    like names of objects moved aside.
    """

    present: Present
    ids: OwnerMap
    keep_rules: KeepRules
    deleted: tuple[bytes, ...]  # sorted, and only what is wanted
    groups: Mapping[bytes, tuple[bytes, ...]]  # hard links: each path with all paths of its group
    standing: AbstractSet[bytes]  # the paths of groups that this restore itself brings back
    changed_while_read: Mapping[bytes, str]
    wanted: Callable[[bytes], bool]  # whether a path is within the limits
    brought_logs: AbstractSet[bytes]  # files of the manifest with the names of SQLite's logs
    at_jobs: Mapping[bytes, bytes] = field(default_factory=dict)  # contents of the jobs of at(1), by path
    packages_come: bool = False  # packages will be installed, and may bring deleted files back
    comes: Callable[[bytes], bool] = _come_never
    reserved: AbstractSet[bytes] = frozenset()
    has_one_inode: bool = True  # those that changed are still the files that the manifest describes
    is_exact: bool = False  # what the snapshot does not know goes
