"""Walk a tree: give every path that the rules include, with its status, in plain byte order of whole paths.

Takes a root, rules and paths to leave out; changes nothing. Each folder is opened from the one above it and never
through a link. So no swapped folder leads out of the root, and no path is too long. Memory holds the names of the
folders on the way down, and no more.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field

from tklb.diff.path_names import is_message, is_same_message
from tklb.diff.rules import Folder, Rules
from tklb.host.mounts import PSEUDO, read_mounts
from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped, SkippedItems

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 8192  # bytes of a path; in a chain of folders without end every path has those of all above it
_MOST_SEARCHED = 500_000  # names, for all moved messages of a run
_MOST_OPEN = 200  # descriptors; in a deeper tree the way back opens the upper folders again
_SLASH = 0x2F
_READ_MAIL = b"cur"  # where messages are once a reader has seen them
_ENCODING = sys.getfilesystemencoding()

# Path inside the root; status; descriptor of its folder, open until the next path is asked for; name in that folder.
Seen = tuple[bytes, os.stat_result, int, bytes]


@dataclass(slots=True)
class _Frame:  # mutable: in a deep tree its descriptor is closed and opened again
    """A folder on the way down. `keys` are the names still to come; a slash marks a folder to descend into."""

    descriptor: int
    path: bytes  # b"" for the root
    rules: Folder
    identity: tuple[int, int]
    keys: Iterator[bytes] = field(default_factory=lambda: iter(()))

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def walk(
    root: bytes,
    rules: Rules,
    own: Iterable[bytes],
    skipped: SkippedItems,
    barred: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[Seen]:
    """Give all below `root` that `rules` include, except `own` (paths inside the root) and kernel file systems.

    What is `barred`, by device and inode, is left out under every path. `skipped` collects what cannot be read or
    vanishes. Raises OSError if `root` is no folder.
    """
    excluded = _find_excluded(root, own)
    return iter(()) if b"/" in excluded.get(b"", ()) else _Walker(skipped, excluded, barred).run(root, rules)


def list_folder(folder: bytes) -> list[os.DirEntry[bytes]]:
    """Give the entries of one folder, none if there is no such folder. Raises OSError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    """Give the status of an entry, of a link itself; None if it vanished. Raises OSError."""
    try:
        return entry.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def find_pseudo_mounts() -> tuple[bytes, ...]:
    """List the mount points of kernel file systems, as this process sees them; none if that is not known."""
    return tuple(sorted(mount.point for mount in read_mounts() if mount.kind in PSEUDO))


def find_identities(paths: Iterable[bytes]) -> frozenset[tuple[int, int]]:
    """Give device and inode of the objects that these paths lead to now; a missing one has none."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino))
    return frozenset(found)


def _find_excluded(root: bytes, own: Iterable[bytes]) -> Mapping[bytes, frozenset[bytes]]:
    """Give the names to leave out, by their folder. The root itself is the name / in the folder b""."""
    real = os.path.realpath(root).rstrip(b"/")
    inside = [point[len(real) :] or b"/" for point in find_pseudo_mounts() if (point + b"/").startswith(real + b"/")]
    excluded: dict[bytes, set[bytes]] = {}
    for path in (*inside, *own):
        folder, _, name = path.rstrip(b"/").rpartition(b"/")
        excluded.setdefault(folder, set()).add(name or b"/")
    return {folder: frozenset(names) for folder, names in excluded.items()}


class _Walker:
    """The way down from the root to the present folder."""

    def __init__(
        self, skipped: SkippedItems, excluded: Mapping[bytes, frozenset[bytes]], barred: frozenset[tuple[int, int]]
    ) -> None:
        self._skipped = skipped
        self._excluded = excluded
        self._barred = barred  # devices and inodes that are left out wherever they are
        self._barred_inodes = frozenset(inode for _, inode in barred)
        self._frames: list[_Frame] = []
        self._last_skipped: Skipped | None = None

    def run(self, root: bytes, rules: Rules) -> Iterator[Seen]:
        try:
            yield from self._enter_root(root, rules.root())
            while self._frames:
                yield from self._list_frame(self._frames[-1])
        finally:
            for frame in self._frames:
                frame.close()

    def _enter_root(self, root: bytes, rules: Folder) -> Iterator[Seen]:
        descriptor = os.open(root, _OPEN_FOLDER & ~os.O_NOFOLLOW)
        self._enter(descriptor, b"", rules)
        if rules.decision.included:
            yield b"/", os.fstat(descriptor), descriptor, b"."

    def _list_frame(self, frame: _Frame) -> Iterator[Seen]:
        """Give the entries of the folder, up to the next folder to descend into. The walk continues from there."""
        prefix, descriptor = frame.path + b"/", frame.descriptor
        for key in frame.keys:
            is_folder = key[-1] == _SLASH
            if is_folder and self._descend(frame, key[:-1]):
                return
            if is_folder:
                continue
            try:
                status = os.lstat(key, dir_fd=descriptor)
            except OSError as exc:
                yield from self._find_again(prefix + key, descriptor, exc)
                continue
            if status.st_ino not in self._barred_inodes or (status.st_dev, status.st_ino) not in self._barred:
                yield prefix + key, status, descriptor, key
        self._leave()

    def _find_again(self, path: bytes, descriptor: int, exc: OSError) -> Iterator[Seen]:
        """Give a mail message under the name that was listed, where it is now; skip everything else."""
        name = path.rpartition(b"/")[2]
        if exc.errno == errno.ENOENT and is_message(path):
            with open_moved_message(descriptor, name) as found, contextlib.suppress(OSError):
                if found:
                    yield path, os.lstat(found[1], dir_fd=found[0]), *found
                    return
        self._skip(path, exc)

    def _skip(self, path: bytes, exc: OSError) -> None:
        reason = "vanished while tklb read it" if exc.errno == errno.ENOENT else exc.strerror or str(exc)
        item = Skipped(path, reason)
        if item != self._last_skipped:  # a folder comes twice: as an entry, and to descend into
            self._skipped.append(item)
        self._last_skipped = item

    def _descend(self, frame: _Frame, name: bytes) -> bool:
        path = frame.path + b"/" + name
        if len(path) > _LONGEST:
            self._skipped.append(Skipped(frame.path or b"/", f"folders in it have paths longer than {_LONGEST} bytes"))
            return False
        try:
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=frame.descriptor)
        except OSError as exc:
            self._skip(path, exc)
            return False
        if _identity(descriptor) in self._barred:
            os.close(descriptor)
            return False
        self._enter(descriptor, path, frame.rules.enter(name))
        return True

    def _enter(self, descriptor: int, path: bytes, rules: Folder) -> None:
        frame = _Frame(descriptor, path, rules, _identity(descriptor))
        self._frames.append(frame)
        if len(self._frames) > _MOST_OPEN:
            self._frames[-_MOST_OPEN - 1].close()
        try:
            frame.keys = iter(self._keys(frame))
        except OSError as exc:
            self._skip(path or b"/", exc)

    def _leave(self) -> None:
        left = self._frames.pop()
        try:
            if self._frames and self._frames[-1].descriptor < 0:
                self._reopen(left)
        finally:
            left.close()

    def _reopen(self, left: _Frame) -> None:
        """Open the folder above the one that was left. If it is not the same one as before, the walk ends there."""
        upper = self._frames[-1]
        with contextlib.suppress(OSError):
            upper.descriptor = os.open(b"..", _OPEN_FOLDER, dir_fd=left.descriptor)
            if _identity(upper.descriptor) == upper.identity:
                return
            upper.close()
        while self._frames:
            self._skipped.append(Skipped(self._frames.pop().path or b"/", "moved while tklb read it"))

    def _keys(self, frame: _Frame) -> list[bytes]:
        """List a folder in byte order: included names as they are, folders to descend into with a slash.

        Paths in folder `a` begin with `a/`, so the slash sorts them among the siblings of `a`.
        """
        only = frame.rules.only_names
        names, folders = _list_names(frame.descriptor) if only is None else self._list_only(frame, only)
        excluded, rules = self._excluded.get(frame.path, ()), frame.rules
        if excluded:
            names, folders = [[name for name in some if name not in excluded] for some in (names, folders)]
        if not rules.is_uniform:
            names = [name for name in names if rules.enter(name).decision.included]
            folders = [name for name in folders if rules.enter(name).may_hold]
        names += [name + b"/" for name in folders]
        names.sort()
        return names

    def _list_only(self, frame: _Frame, only: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Do as _list_names() for an excluded folder: look only for the names that the rules include."""
        names, folders = [], []
        for name in only:
            try:
                mode = os.lstat(name, dir_fd=frame.descriptor).st_mode
            except FileNotFoundError:
                continue
            except OSError as exc:
                self._skip(frame.path + b"/" + name, exc)
                continue
            names.append(name)
            if stat.S_ISDIR(mode):
                folders.append(name)
        return names, folders


def _list_names(descriptor: int) -> tuple[list[bytes], list[bytes]]:
    """Give all names of a folder, and the folders among them."""
    names, folders = [], []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name.encode(_ENCODING, "surrogateescape")
            names.append(name)
            if _is_folder(entry):
                folders.append(name)
    return names, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


# ---------------------------------------------------------------- mail messages that move
# A reader moves a message to `cur`, or changes its flags, while tklb reads the Maildir. The name alone tells a message:
# mail programs make it unique (maildir(5)).


class _Searches:
    """Counts the names that searches for messages look at: a user can let thousands vanish, each beside thousands."""

    def __init__(self) -> None:
        self._left = _MOST_SEARCHED

    def find(self, folder: int, name: bytes) -> bytes | None:
        if self._left <= 0:
            return None
        names, start = os.listdir(folder), os.fsdecode(name.partition(b":")[0])
        self._left -= len(names)
        alike = (os.fsencode(other) for other in names if other.startswith(start))  # few: the comparison is slow
        return next((other for other in alike if is_same_message(other, name)), None)


_searches = _Searches()


@contextlib.contextmanager
def open_moved_message(folder: int, name: bytes) -> Iterator[tuple[int, bytes] | None]:
    """Give the open folder that has the message now, and its name there; None if it is not found."""
    with contextlib.ExitStack() as opened:
        try:
            above = os.open(b"..", _OPEN_FOLDER, dir_fd=folder)
            opened.callback(os.close, above)
            read = os.open(_READ_MAIL, _OPEN_FOLDER, dir_fd=above)
            opened.callback(os.close, read)
            found = _searches.find(read, name)
        except OSError:
            found = None
        yield None if found is None else (read, found)
