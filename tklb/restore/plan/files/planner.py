"""Plan the file steps that make a machine match a manifest.

Takes the entries of the manifest (sorted by path), the deleted paths and a view of the machine; gives steps, and what
is left out and why. Pure: it asks the machine through `Present`. Only steps are kept, so a million unchanged entries
cost no memory.
"""

from bisect import bisect_left
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from tklb.diff.at_jobs import rewrite_at_job
from tklb.diff.attributes.rights import Rights, needs_new_inode
from tklb.diff.sqlite_names import LOG_HEAD, SMALLEST_PAGE, is_log, sidecars
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.files.changed import describe_stored
from tklb.restore.plan.files.file_inputs import FileInputs
from tklb.restore.plan.files.hash_links import HashLinks
from tklb.restore.plan.files.obstacles import Obstacles
from tklb.restore.plan.files.present import find_differences, is_at_or_below, is_same_time, join_path, parent_of
from tklb.restore.plan.keep_rules import KeepRule
from tklb.restore.plan.registries.flags import FlagPlanner
from tklb.restore.plan.tally import Tally

_NEW = {
    kind: f"new {kind}" for kind in ("file", "dir", "link", "fifo", "block", "char")
}  # one text for a million steps

Inode = tuple[int | None, int | None]
FolderTimes = tuple[tuple[bytes, int], ...]  # folders and their mtime, to set when all else is done


@dataclass(frozen=True, slots=True)
class _Leader:
    """The name that the others of a group of hard links link to."""

    path: bytes
    inode: Inode | None  # if it is on the machine already
    has_metadata: bool = False  # a step sets its metadata, or nothing differs


def _gets_new_inode(want: FileEntry, have: FileEntry | None) -> bool:
    """Whether the metadata of a file come with a new inode, so that its other names must be linked again."""
    if want.kind != "file" or have is None:
        return False
    return needs_new_inode(want, Rights(have.uid or 0, have.gid or 0, have.mode or 0))


@dataclass(frozen=True, slots=True)
class FilePlan:
    """The steps for files; `flags` come last. `replaced` are the paths of files here that get other content."""

    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    flags: tuple[Step, ...] = ()
    replaced: tuple[bytes, ...] = ()
    folder_times: FolderTimes = ()


class FilePlanner:
    """Collects the file steps. Call `want` for every entry in path order, then `finish` once."""

    def __init__(self, inputs: FileInputs) -> None:
        self._inputs = inputs
        self._present = inputs.present
        self._deleted = inputs.deleted
        self._obstacles = Obstacles(inputs)
        self._steps: list[Step] = []
        self._flags = FlagPlanner()
        self._hash_links = HashLinks(inputs.present)
        self._skipped: list[Skipped] = []
        self._warnings: list[str] = []
        self._kept: Tally[KeepRule] = Tally()  # paths that stay, by the rule that keeps them
        self._replaced: list[bytes] = []
        self._leaders: dict[bytes, _Leader] = {}  # by the first path of a group
        self._quiet: dict[bytes, int] = {}  # unchanged folders of the manifest and their mtime
        self._nowhere = b"\0"  # prefix of the paths below the last folder that this machine does not have
        self._times: dict[bytes, int] = {}
        self._opened: set[bytes] = set()  # objects that are no folders now and will be
        self._gone: set[bytes] = set()  # planned deletions
        self._cleared: list[bytes] = []  # folders whose place something else takes, with all that is in them
        self._back: set[bytes] = set()  # deleted paths that the manifest has as another kind

    def want(self, entry: FileEntry) -> None:
        """Plan the steps that bring `entry` about."""
        self._note_return(entry)
        have = None if self._is_nowhere(entry.path) else self._present.entry(entry.path)
        if entry.kind == "dir" and have and have.kind == "link" and self._present.find_safe_target(entry.path):
            return  # this machine's own folder: what belongs below it goes where the link leads
        if have is None and not self._is_nowhere(entry.path):
            if barrier := self._barrier(entry.path):
                self._skip(entry.path, f"{printable(barrier)} is not a folder on this machine; tklb follows no links")
                return
            if entry.kind == "dir":
                self._nowhere = entry.path + b"/"
        if stored := self._inputs.changed_while_read.get(entry.path):
            entry = describe_stored(entry, stored, has_one_inode=self._inputs.has_one_inode)
        try:
            wanted = self._inputs.ids.map_entry(entry)
        except ValueError as exc:
            self._skip(entry.path, f"its access control list is malformed: {exc}")
            return
        wanted, content = rewrite_at_job(wanted, self._inputs.at_jobs, self._inputs.ids.gids)
        step = self._step(wanted, have)
        if step and not self._accept(replace(step, content=content) if content else step):
            self._depose(entry.path)
            return
        self._note_folder(wanted, have, step)
        if wanted.flags and not self._inputs.keep_rules.find_rule(entry.path):
            self._flags.want(wanted, have, step)

    def _note_return(self, entry: FileEntry) -> None:
        """Delete nothing at a path that the manifest has, nor below it where it is no folder now.

        A link in the place of a folder may lead to other files with the same names.
        """
        if self._is_deleted(entry.path):
            self._back.add(entry.path)
            if entry.kind != "dir":
                self._forget_deletions(entry.path)

    def finish(self, unknown: Iterable[bytes] = ()) -> FilePlan:
        """Plan the deletions, of `unknown` paths too, and give the plan."""
        settled = {*self._back, *self._gone}
        strangers = {path for path in unknown if not any(is_at_or_below(path, top) for top in self._cleared)}
        self._delete(sorted({*self._deleted, *strangers} - settled, reverse=True), strangers)
        for parent in {parent_of(step.item) for step in self._steps} & self._quiet.keys():
            self._times[parent] = self._quiet[parent]
        self._warnings += self._flags.list_warnings()
        kept = (f"kept: {paths} {rule.reason}" for rule, paths in self._kept.lines())
        followed = (
            f"{printable(link)} is a link to {printable(target)} on this machine: what belongs below it goes there"
            for link, target in self._present.list_followed_links()
        )
        return FilePlan(
            steps=tuple(self._steps),
            warnings=(*self._warnings, *kept, *followed),
            skipped=tuple(self._skipped),
            flags=self._flags.steps,
            replaced=tuple(self._replaced),
            folder_times=tuple(sorted(self._times.items(), reverse=True)),
        )

    # ------------------------------------------------------------ one entry

    def _step(self, want: FileEntry, have: FileEntry | None) -> Step | None:
        group = self._inputs.groups.get(want.path) if want.kind != "dir" else None
        if group is None:
            return self._own_step(want, have, (want.path,))
        leader = self._leaders.get(group[0]) or self._find_leader(group, want)
        if leader is None:
            return self._lead(group, want, have)
        self._leaders[group[0]] = replace(leader, has_metadata=True)
        if have is None or (have.dev, have.ino) != leader.inode:
            return Step(StepKind.LINK, want.path, f"to {printable(leader.path)}", want, have, leader.path)
        differing = () if leader.has_metadata else find_differences(want, have)
        return Step(StepKind.METADATA, want.path, " ".join(differing), want, have) if differing else None

    def _lead(self, group: tuple[bytes, ...], want: FileEntry, have: FileEntry | None) -> Step | None:
        """Make `want` the leader of its group."""
        step = self._own_step(want, have, group)
        is_written = step is not None and (step.kind is StepKind.WRITE or _gets_new_inode(want, have))
        inode = None if have is None or is_written else (have.dev, have.ino)
        self._leaders[group[0]] = _Leader(want.path, inode, has_metadata=True)
        return step

    def _own_step(self, want: FileEntry, have: FileEntry | None, names: tuple[bytes, ...]) -> Step | None:
        if have is None:
            return Step(StepKind.WRITE, want.path, _NEW.get(want.kind, "new"), want)
        if have.kind != want.kind:
            return Step(StepKind.WRITE, want.path, f"{want.kind} in place of {have.kind}", want, have)
        if not self._same_content(want, have) or self._is_overtaken(have):
            return Step(StepKind.WRITE, want.path, "content", want, have)
        differing = find_differences(want, have)
        if not differing:
            return None
        if self._has_other_names(have, names):
            # the inode has names that are not in this snapshot: leave them as they are
            return Step(StepKind.WRITE, want.path, "a file of its own", want, have)
        return Step(StepKind.METADATA, want.path, " ".join(differing), want, have)

    def _same_content(self, want: FileEntry, have: FileEntry) -> bool:
        if want.kind == "link":
            return want.link == have.link
        if want.kind in ("block", "char"):
            return want.device == have.device
        if want.kind != "file":
            return True
        if want.size not in (None, have.size):
            return False
        if want.sha256 is None:
            return is_same_time(want.mtime_ns, have.mtime_ns)
        return self._present.digest(have.path, "sha256") == want.sha256

    def _is_overtaken(self, have: FileEntry) -> bool:
        """Whether SQLite would replay a log into a file that is otherwise right: then the database is wrong.

        The restore writes the file again: a program that has it open must not write to the restored one.
        """
        if not have.size or have.size % SMALLEST_PAGE:
            return False
        logs, _ = self._logs(have.path)
        self._warn_of_logs(have.path, logs)
        return any(self._inputs.wanted(log) and log not in self._inputs.brought_logs for log in logs)

    def _has_other_names(self, have: FileEntry, names: Iterable[bytes]) -> bool:
        """Whether the inode has other names on this machine than `names`."""
        if have.kind == "dir" or (have.nlink or 1) == 1:
            return False
        entries = (self._present.entry(name) for name in names)
        shared = sum(1 for entry in entries if entry and (entry.dev, entry.ino) == (have.dev, have.ino))
        return shared != have.nlink

    def _find_leader(self, group: tuple[bytes, ...], want: FileEntry) -> _Leader | None:
        """Take the first unchanged file of the install state as leader, if this machine has the same file."""
        others = [path for path in group if path not in self._inputs.standing]
        for path in others:
            have = self._present.entry(path)
            if have and self._is_that_file(have, want):
                return _Leader(path, (have.dev, have.ino))
        if others:
            self._warnings.append(
                f"{printable(want.path)} is no hard link to {printable(others[0])} here: that file differs"
            )
        return None

    def _is_that_file(self, have: FileEntry, want: FileEntry) -> bool:
        if have.kind != want.kind or not self._same_content(want, have):
            return False
        return set(find_differences(want, have)) <= {"time"}

    def _depose(self, path: bytes) -> None:
        """Let the next name lead the group of `path`, which stays as it is here."""
        group = self._inputs.groups.get(path)
        leader = self._leaders.get(group[0]) if group else None
        if group and leader and leader.path == path:
            del self._leaders[group[0]]

    def _accept(self, step: Step) -> bool:
        """Add a step to the plan, unless this machine keeps its own object, or what is in the way stays."""
        if rule := self.find_rule(step.item):
            self._kept.note(rule, step.item)
            return False
        assert step.entry is not None
        clearance = self._obstacles.clear(step.entry, step.was)
        self._settle_place(step, is_free=not clearance.reason)
        if clearance.reason:
            self._skip(step.item, clearance.reason)
            return False
        if step.kind in (StepKind.WRITE, StepKind.LINK) and step.entry.kind == "file":
            self._clear_logs(step.item)
        was = None if clearance.before else step.was
        self._steps += (*clearance.before, replace(step, was=was), *clearance.after)
        self._flags.note_step(step)
        if step.kind is StepKind.WRITE and was and was.kind == "file":
            self._replaced.append(step.item)
            links = (link for link in self._hash_links.find(step.item) if self._inputs.wanted(link))
            self._delete(link for link in links if not self._inputs.comes(link))
        return True

    def _settle_place(self, step: Step, *, is_free: bool) -> None:
        """Note what a step of another kind than the present object means for the paths below."""
        if step.entry is None or step.was is None or step.was.kind == step.entry.kind:
            return
        if step.entry.kind == "dir" and is_free:
            self._opened.add(step.item)
        if step.was.kind == "dir" and is_free:
            self._cleared.append(step.item)
        if step.was.kind == "dir":  # all below moves with it, or stays with it
            self._forget_deletions(step.item)

    def _forget_deletions(self, folder: bytes) -> None:
        """Plan no deletion below `folder`."""
        first, last = (bisect_left(self._deleted, folder + end) for end in (b"/", b"0"))
        self._back.update(self._deleted[first:last])

    # ------------------------------------------------------------ deletions

    def _clear_logs(self, path: bytes) -> None:
        """Plan to delete the log of another database, which SQLite would replay into the new file `path`.

        The log goes before that file comes: so a restore that is interrupted in between finds the rest when repeated.
        """
        logs, index = self._logs(path)
        self._warn_of_logs(path, logs)
        self._delete(
            name for name in (*index, *logs) if self._inputs.wanted(name) and name not in self._inputs.brought_logs
        )

    def _warn_of_logs(self, path: bytes, logs: Iterable[bytes]) -> None:
        self._warnings += [
            f"kept: {printable(log)} is not part of this restore; SQLite would replay it into {printable(path)}"
            for log in logs
            if not self._inputs.wanted(log)
        ]

    def _logs(self, path: bytes) -> tuple[list[bytes], list[bytes]]:
        """Give the logs beside `path` that SQLite would replay, and their index (-shm) if there are any."""
        if self._is_nowhere(path):
            return [], []
        # read files only: opening a device may have an effect
        beside = [
            name for name in sidecars(path) if (entry := self._present.entry(name)) is not None and entry.kind == "file"
        ]
        logs = [name for name in beside if is_log(name, self._present.head(name, LOG_HEAD))]
        return logs, [name for name in beside if logs and name.endswith(b"-shm")]

    def _delete(self, paths: Iterable[bytes], unknown: AbstractSet[bytes] = frozenset()) -> None:
        """Plan deletions. `paths` are in reverse order, so that a folder comes after its contents."""
        for path in paths:
            have = self._present.entry(path)
            if have is None:
                self._delete_unseen(path)
            elif rule := self.find_rule(path, deletion=True):
                self._kept.note(rule, path)
            elif have.kind == "dir" and (left := self._still_in(path)):
                self._warnings.append(f"kept: {printable(path)} was deleted, but still holds {printable(left[0])} here")
            else:
                self._gone.add(path)
                detail = f"{have.kind}, which the snapshot does not know" if path in unknown else have.kind
                self._steps.append(Step(StepKind.DELETE, path, detail, was=have))

    def _delete_unseen(self, path: bytes) -> None:
        barrier = self._present.find_barrier(path)
        if barrier is not None and not self._is_deleted(barrier):
            self._skip(
                path, f"not deleted: {printable(barrier)} is not a folder on this machine; tklb follows no links"
            )
        elif self._inputs.packages_come and barrier is None:
            self._gone.add(path)
            self._steps.append(Step(StepKind.DELETE, path, "if a package brings it"))

    def _still_in(self, folder: bytes) -> list[bytes]:
        """Give the names that a folder will hold after the deletions planned so far."""
        return [name for name in self._present.names(folder) if join_path(folder, name) not in self._gone]

    # ------------------------------------------------------------ notes

    def find_rule(self, path: bytes, *, deletion: bool = False) -> KeepRule | None:
        """Give the rule that keeps `path`, or the place that it has behind a link of this machine."""
        links = self._present.list_followed_links()
        places = (target + path[len(link) :] for link, target in links if path.startswith(link + b"/"))
        rules = (self._inputs.keep_rules.find_rule(place, deletion=deletion) for place in (path, *places))
        return next(filter(None, rules), None)

    def _note_folder(self, want: FileEntry, have: FileEntry | None, step: Step | None) -> None:
        if want.kind != "dir" or want.mtime_ns is None:
            return
        changes = step is not None or have is None or not is_same_time(want.mtime_ns, have.mtime_ns)
        (self._times if changes else self._quiet)[want.path] = want.mtime_ns

    def _is_nowhere(self, path: bytes) -> bool:
        """Whether it is below a folder that this machine does not have: then there is no need to look."""
        return path.startswith(self._nowhere)

    def _barrier(self, path: bytes) -> bytes | None:
        """Give the parent of `path` that is not a folder and will not be one."""
        barrier = self._present.find_barrier(path)
        return None if barrier in self._opened else barrier

    def _skip(self, path: bytes, reason: str) -> None:
        self._skipped.append(Skipped(path, reason))

    def _is_deleted(self, path: bytes) -> bool:
        place = bisect_left(self._deleted, path)
        return place < len(self._deleted) and self._deleted[place] == path
