"""Which file steps bring a machine to what a manifest says.

Takes the manifest's entries (sorted by path), the deleted paths and a view of the machine; gives steps, and the
values that say what was left out and why. Pure: the machine is asked through `Present`. Only steps are kept, so a
million unchanged entries cost nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from tklb.diff.sqlite_names import LOG_HEAD, SMALLEST_PAGE, is_log, sidecars
from tklb.errors import printable
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.keep_rules import KeepRule, KeepRules
from tklb.restore.plan.owners import OwnerMap
from tklb.restore.plan.tally import Tally

_SECOND = 1_000_000_000
_NEW = {
    kind: f"new {kind}" for kind in ("file", "dir", "link", "fifo", "block", "char")
}  # one text for a million steps

Inode = tuple[int | None, int | None]


class Present(Protocol):
    """The machine as it is. No path is ever followed through a symbolic link."""

    def entry(self, path: bytes) -> FileEntry | None:
        """What stands at `path`, without digests; None where nothing does or a parent is no folder."""

    def names(self, path: bytes) -> tuple[bytes, ...]:
        """The names in the folder `path`."""

    def digest(self, path: bytes, algorithm: str) -> str | None:
        """The digest of a file, or None where it cannot be read."""

    def head(self, path: bytes, count: int) -> bytes:
        """The first `count` bytes of a file, fewer where it is shorter, none where it cannot be read."""

    def find_barrier(self, path: bytes) -> bytes | None:
        """The nearest parent of `path` that is there and is no folder (a symbolic link, a file), or None."""


def find_differences(want: FileEntry, have: FileEntry) -> tuple[str, ...]:
    """What of the metadata differs, of two entries of one kind. A folder's mtime is none of it."""
    found = []
    if want.uid not in (None, have.uid) or want.gid not in (None, have.gid):
        found.append("owner")
    if want.kind != "link" and want.mode not in (None, have.mode):
        found.append("mode")
    if want.xattrs is not None and want.xattrs != (have.xattrs or ()):
        found.append("attributes")
    if want.kind != "dir" and not is_same_time(want.mtime_ns, have.mtime_ns):
        found.append("time")
    return tuple(found)


def is_same_time(want: int | None, have: int | None) -> bool:
    """Whether a file system shows the time it was given: some keep whole seconds only."""
    if want is None or want == have:
        return True
    return have is not None and have % _SECOND == 0 and want // _SECOND == have // _SECOND


@dataclass(slots=True)
class LinkGroup:
    """Names of one inode on the backed-up machine. `leader` is the name that the others link to here."""

    paths: tuple[bytes, ...]
    leader: bytes | None = None
    inode: Inode | None = None  # of the leader, where it is on the machine already
    dressed: bool = False  # its metadata is seen to


@dataclass(slots=True)
class FilePlanner:
    """Collects the file steps. Call `want` for every entry in path order, then `finish` once."""

    present: Present
    ids: OwnerMap
    identity: KeepRules
    deleted: tuple[bytes, ...]  # sorted, and only what is wanted
    groups: Mapping[bytes, LinkGroup]  # by every path of each group
    standing: AbstractSet[bytes]  # the paths of groups that this restore brings back itself
    amended: Mapping[bytes, str]
    wanted: Callable[[bytes], bool]  # whether a path is within the limits
    brought_logs: AbstractSet[bytes]  # what the manifest has beside SQLite databases, by its names
    packages_come: bool = False  # packages are to be installed, and may bring what was deleted
    steps: list[Step] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: Tally[KeepRule] = field(default_factory=Tally)  # what stays by which guard
    replaced: list[Step] = field(default_factory=list)  # files of this machine that get other content
    _quiet: dict[bytes, int] = field(default_factory=dict)  # unchanged folders of the manifest and their mtime
    _nowhere: bytes = b"\0"  # what paths below the last folder that is not there begin with
    _times: dict[bytes, int] = field(default_factory=dict)
    _opened: set[bytes] = field(default_factory=set)  # what is no folder now and will be one
    _gone: set[bytes] = field(default_factory=set)  # deletions planned
    _back: set[bytes] = field(default_factory=set)  # deleted paths that the manifest has as something else

    def want(self, entry: FileEntry) -> None:
        """Plan what brings `entry` about."""
        if self._is_deleted(entry.path):
            self._back.add(entry.path)
        have = None if self._is_nowhere(entry.path) else self.present.entry(entry.path)
        if have is None and not self._is_nowhere(entry.path):
            if barrier := self._barrier(entry.path):
                self._skip(entry.path, f"{printable(barrier)} is no folder on this machine; links are never followed")
                return
            if entry.kind == "dir":
                self._nowhere = entry.path + b"/"
        try:
            wanted = self.ids.map_entry(entry)
        except ValueError as exc:
            self._skip(entry.path, f"its access control list is malformed: {exc}")
            return
        if entry.path in self.amended:
            wanted = wanted._replace(sha256=self.amended[entry.path], size=None)
        step = self._step(wanted, have)
        if step and not self._accept(step):
            self._depose(entry.path)
            return
        self._note_folder(wanted, have, step)

    def finish(self) -> tuple[tuple[bytes, int], ...]:
        """Plan the deletions, and give the folder times to set when all is done."""
        self._delete(path for path in reversed(self.deleted) if path not in self._back and path not in self._gone)
        for step in self.steps:
            parent = parent_of(step.item)
            if parent in self._quiet:
                self._times[parent] = self._quiet[parent]
        return tuple(sorted(self._times.items(), reverse=True))

    # ------------------------------------------------------------ one entry

    def _step(self, want: FileEntry, have: FileEntry | None) -> Step | None:
        group = self.groups.get(want.path) if want.kind != "dir" else None
        if group is None:
            return self._own_step(want, have, (want.path,))
        if group.leader is None:
            self._find_partner(group, want)
        if group.leader is None:
            step = self._own_step(want, have, group.paths)
            written = step is not None and step.kind is StepKind.WRITE
            group.leader, group.dressed = want.path, True
            group.inode = None if have is None or written else (have.dev, have.ino)
            return step
        if have and (have.dev, have.ino) == group.inode:
            differing = () if group.dressed else find_differences(want, have)
            group.dressed = True
            return Step(StepKind.METADATA, want.path, " ".join(differing), want, have) if differing else None
        group.dressed = True
        return Step(StepKind.LINK, want.path, f"to {printable(group.leader)}", want, have, group.leader)

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
            # to change the inode would change a file that is none of this snapshot's
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
        return self.present.digest(have.path, "sha256") == want.sha256

    def _is_overtaken(self, have: FileEntry) -> bool:
        """Whether SQLite would replay a log into a file that is as it shall be: then the database is not.

        The file is written anew: who has it open must not go on writing to what was restored.
        """
        if not have.size or have.size % SMALLEST_PAGE:
            return False
        logs, _ = self._logs(have.path)
        self._warn_of_logs(have.path, logs)
        return any(self.wanted(log) and log not in self.brought_logs for log in logs)

    def _has_other_names(self, have: FileEntry, names: Iterable[bytes]) -> bool:
        """Whether the inode has names on this machine beside `names`."""
        if have.kind == "dir" or (have.nlink or 1) == 1:
            return False
        entries = (self.present.entry(name) for name in names)
        shared = sum(1 for entry in entries if entry and (entry.dev, entry.ino) == (have.dev, have.ino))
        return shared != have.nlink

    def _find_partner(self, group: LinkGroup, want: FileEntry) -> None:
        """Make the first unchanged file of the install state the leader, where this machine has the same file."""
        others = [path for path in group.paths if path not in self.standing]
        for path in others:
            have = self.present.entry(path)
            if have and self._is_that_file(have, want):
                group.leader, group.inode = path, (have.dev, have.ino)
                return
        if others:
            self.warnings.append(
                f"{printable(want.path)} is no hard link to {printable(others[0])} here: that one differs"
            )

    def _is_that_file(self, have: FileEntry, want: FileEntry) -> bool:
        if have.kind != want.kind or not self._same_content(want, have):
            return False
        return set(find_differences(want, have)) <= {"time"}

    def _depose(self, path: bytes) -> None:
        """Let the next name lead the group of `path`, which stays as it is here."""
        group = self.groups.get(path)
        if group and group.leader == path:
            group.leader, group.inode, group.dressed = None, None, False

    def _accept(self, step: Step) -> bool:
        """Take a step into the plan, unless this machine keeps what it has, or has too much in its way."""
        if guard := self.identity.find_rule(step.item):
            self.kept.note(guard, step.item)
            return False
        if not self._makes_room(step):
            return False
        if step.kind in (StepKind.WRITE, StepKind.LINK) and step.entry and step.entry.kind == "file":
            self._clear_logs(step.item)
        self.steps.append(step)
        if step.kind is StepKind.WRITE and step.was and step.was.kind == "file":
            self.replaced.append(step)
        return True

    def _makes_room(self, step: Step) -> bool:
        """Plan what must go before `step`; say no where a folder that holds more than was deleted is in the way."""
        assert step.entry is not None
        if step.was is None or step.was.kind == step.entry.kind:
            return True
        if step.entry.kind == "dir":
            self._opened.add(step.item)
        if step.was.kind != "dir":
            return True
        below = self.deleted[bisect_left(self.deleted, step.item + b"/") : bisect_left(self.deleted, step.item + b"0")]
        self._delete(reversed(below))
        left = self._still_in(step.item)
        if left:
            self._skip(step.item, f"a folder is in the way that still holds {printable(left[0])}")
        return not left

    # ------------------------------------------------------------ deletions

    def _clear_logs(self, path: bytes) -> None:
        """Plan that the log of another database goes, which SQLite would replay into the file that `path` becomes.

        It goes before that file comes: a restore that is broken off in between finds its work when it is repeated.
        """
        logs, index = self._logs(path)
        self._warn_of_logs(path, logs)
        self._delete(name for name in (*index, *logs) if self.wanted(name) and name not in self.brought_logs)

    def _warn_of_logs(self, path: bytes, logs: Iterable[bytes]) -> None:
        self.warnings += [
            f"kept: {printable(log)} is not among what is restored; SQLite would replay it into {printable(path)}"
            for log in logs
            if not self.wanted(log)
        ]

    def _logs(self, path: bytes) -> tuple[list[bytes], list[bytes]]:
        """The logs beside `path` that SQLite would replay, and where there are any, the index of one (-shm)."""
        if self._is_nowhere(path):
            return [], []
        # only files are looked into: to open a device may do something
        beside = [
            name for name in sidecars(path) if (entry := self.present.entry(name)) is not None and entry.kind == "file"
        ]
        logs = [name for name in beside if is_log(name, self.present.head(name, LOG_HEAD))]
        return logs, [name for name in beside if logs and name.endswith(b"-shm")]

    def _delete(self, paths: Iterable[bytes]) -> None:
        """Plan deletions; `paths` come in reverse order, so that a folder follows what it holds."""
        for path in paths:
            have = self.present.entry(path)
            if have is None:
                self._delete_unseen(path)
            elif guard := self.identity.find_rule(path, deletion=True):
                self.kept.note(guard, path)
            elif have.kind == "dir" and (left := self._still_in(path)):
                self.warnings.append(f"kept: {printable(path)} was deleted, but still holds {printable(left[0])} here")
            else:
                self._gone.add(path)
                self.steps.append(Step(StepKind.DELETE, path, have.kind, was=have))

    def _delete_unseen(self, path: bytes) -> None:
        barrier = self.present.find_barrier(path)
        if barrier is not None and not self._is_deleted(barrier):
            self._skip(
                path, f"not deleted: {printable(barrier)} is no folder on this machine; links are never followed"
            )
        elif self.packages_come and barrier is None:
            self._gone.add(path)
            self.steps.append(Step(StepKind.DELETE, path, "if a package brings it"))

    def _still_in(self, folder: bytes) -> list[bytes]:
        """What a folder will hold when the deletions planned so far are done."""
        return [name for name in self.present.names(folder) if join_path(folder, name) not in self._gone]

    # ------------------------------------------------------------ notes

    def _note_folder(self, want: FileEntry, have: FileEntry | None, step: Step | None) -> None:
        if want.kind != "dir" or want.mtime_ns is None:
            return
        changes = step is not None or have is None or not is_same_time(want.mtime_ns, have.mtime_ns)
        (self._times if changes else self._quiet)[want.path] = want.mtime_ns

    def _is_nowhere(self, path: bytes) -> bool:
        """Whether it lies below a folder that this machine does not have: nobody need look for it there."""
        return path.startswith(self._nowhere)

    def _barrier(self, path: bytes) -> bytes | None:
        """The parent of `path` that is no folder and will be none."""
        barrier = self.present.find_barrier(path)
        return None if barrier in self._opened else barrier

    def _skip(self, path: bytes, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))

    def _is_deleted(self, path: bytes) -> bool:
        place = bisect_left(self.deleted, path)
        return place < len(self.deleted) and self.deleted[place] == path


def make_link_groups(groups: Iterable[tuple[bytes, ...]]) -> dict[bytes, LinkGroup]:
    """Every path of the groups with the group it belongs to."""
    return {path: group for group in map(LinkGroup, groups) for path in group.paths}


def is_plain(path: bytes) -> bool:
    """Whether a path is absolute, and made of names only."""
    names = path[1:].split(b"/")
    return path == b"/" or (path.startswith(b"/") and b"\0" not in path and {b"", b".", b".."}.isdisjoint(names))


def parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def join_path(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name
