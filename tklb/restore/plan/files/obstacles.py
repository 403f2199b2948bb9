"""Objects of another kind in the place of a file that comes: they give way, move aside or stay. Pure.

The plan decides first. It changes nothing about an object unless its replacement will come. The rules:
- What the install state had there gives way, as it did on the backed-up machine.
- What is this machine's own moves aside, whole, to a free name beside it. So does a folder that holds something.
- It stays if it is a mount point or holds one, if it holds what a restore never touches, or if the replacement is a
  link that would lead nowhere here.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import count

from tklb.diff.path_names import resolve_link
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.restore.plan.files.file_inputs import FileInputs
from tklb.restore.plan.files.present import is_at_or_below, join_path, parent_of

KEPT_SUFFIX = b".tklb-kept"
_LONGEST_NAME = 255
_MADE_AT_RUN_TIME = (b"/dev", b"/proc", b"/run", b"/sys", b"/var/run")


@dataclass(frozen=True, slots=True)
class Clearance:
    """How a place becomes free: the steps before its new object comes and those after, or the reason why it cannot."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    reason: str = ""


class Obstacles:
    """Decides about objects that are in the way."""

    def __init__(self, inputs: FileInputs) -> None:
        self._inputs = inputs
        self._present = inputs.present
        self._given: set[bytes] = set()  # names that planned steps use

    def clear(self, entry: FileEntry, was: FileEntry | None) -> Clearance:
        """Plan how `was`, which stands there now, makes room for `entry`."""
        if was is None:
            return Clearance()
        if reason := self._find_reason_to_stay(entry, was):
            return Clearance(reason=reason)
        if was.kind == entry.kind or not self._needs_move(was):
            return Clearance()
        aside = self._choose_name(was.path)
        move = Step(StepKind.MOVE, was.path, f"to {printable(aside)}", was=was, partner=aside)
        return Clearance((move,), self._delete_moved(was, aside) if self._is_worthless(was) else ())

    def _needs_move(self, was: FileEntry) -> bool:
        """Whether more than the object itself would be lost, or an object that is this machine's own."""
        if was.kind == "dir":
            return bool(self._present.names(was.path))
        return not self._inputs.is_exact and not self._is_deleted(was.path)

    # ------------------------------------------------------------ reasons to stay

    def _find_reason_to_stay(self, entry: FileEntry, was: FileEntry) -> str:
        if entry.kind == "link" and self._is_folder(was) and self._would_dangle(entry):
            target = printable(resolve_link(entry.path, entry.link or b""))
            return f"kept: a link to {target} would lead nowhere, because that is neither here nor in this restore"
        if was.kind == entry.kind:
            return ""
        if mount := self._present.find_mount(was.path):
            return f"kept: a {entry.kind} cannot replace it, because {printable(mount)} is a mount point"
        return self._find_kept_below(was)

    def _is_folder(self, was: FileEntry) -> bool:
        return was.kind == "dir" or (was.kind == "link" and self._present.leads_to_folder(was.path))

    def _would_dangle(self, entry: FileEntry) -> bool:
        target = resolve_link(entry.path, entry.link or b"")
        if is_at_or_below(target, entry.path):
            return True
        if any(is_at_or_below(target, top) for top in _MADE_AT_RUN_TIME) or self._inputs.comes(target):
            return False
        return self._is_deleted(target) or not self._present.has_target(target)

    def _find_kept_below(self, was: FileEntry) -> str:
        rules = self._inputs.keep_rules
        if was.kind != "dir" or not rules.may_keep_below(was.path):
            return ""
        for entry in self._walk_below(was.path, rules.may_keep_below):
            if rule := rules.find_rule(entry.path, deletion=True):
                return f"kept: it holds {printable(entry.path)}, which {rule.reason}"
        return ""

    # ------------------------------------------------------------ moves

    def _choose_name(self, path: bytes) -> bytes:
        folder, name = parent_of(path), path.rpartition(b"/")[2]
        ends = (KEPT_SUFFIX if number == 1 else b"%s-%d" % (KEPT_SUFFIX, number) for number in count(1))
        names = (join_path(folder, name[: _LONGEST_NAME - len(end)] + end) for end in ends)
        free = next(name for name in names if self._is_free(name))
        self._given.add(free)
        return free

    def _is_free(self, path: bytes) -> bool:
        return path not in self._given and path not in self._inputs.reserved and self._present.entry(path) is None

    def _is_worthless(self, was: FileEntry) -> bool:
        """Whether a folder holds only what the backed-up machine had deleted too. In an exact restore, all goes."""
        if self._inputs.is_exact:
            return True
        if was.kind != "dir" or not self._is_deleted(was.path):
            return False
        return all(self._is_deleted(entry.path) for entry in self._walk_below(was.path))

    def _delete_moved(self, was: FileEntry, aside: bytes) -> tuple[Step, ...]:
        below = sorted(self._walk_below(was.path), reverse=True) if was.kind == "dir" else []
        return tuple(
            Step(StepKind.DELETE, aside + entry.path[len(was.path) :], entry.kind, was=entry) for entry in (*below, was)
        )

    def _walk_below(self, folder: bytes, wanted: Callable[[bytes], bool] = bool) -> Iterator[FileEntry]:
        """Give all that a folder of this machine holds; descend only into `wanted` folders."""
        waiting = [folder]
        while waiting:
            entries = self._list_folder(waiting.pop())
            yield from entries
            waiting += [entry.path for entry in entries if entry.kind == "dir" and wanted(entry.path)]

    def _list_folder(self, folder: bytes) -> list[FileEntry]:
        paths = [join_path(folder, name) for name in self._present.names(folder)]
        return [self._present.entry(path) or FileEntry(path, "object that cannot be read") for path in paths]

    def _is_deleted(self, path: bytes) -> bool:
        deleted = self._inputs.deleted
        place = bisect_left(deleted, path)
        return place < len(deleted) and deleted[place] == path
