"""Walk a tree: every path that counts, with its status, in plain byte order of whole paths.

Takes a root, rules and what is barred; touches nothing. Folders are opened one from another and never through a link,
so nothing that is swapped while we look leads out of the root, and no path is too long. Memory holds the names of the
folders on the way down, never more.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tklb.diff.keywords import unescape
from tklb.diff.rules import Folder, Rules
from tklb.model.report import Skipped, SkippedItems

# Kernel interfaces that look like files; see proc(5), and `nodev` in /proc/filesystems.
PSEUDO = frozenset((
    b"autofs", b"binfmt_misc", b"bpf", b"cgroup", b"cgroup2", b"configfs", b"debugfs", b"devpts", b"devtmpfs",
    b"efivarfs", b"fusectl", b"hugetlbfs", b"mqueue", b"nfsd", b"nsfs", b"proc", b"pstore", b"resctrl",
    b"rpc_pipefs", b"securityfs", b"selinuxfs", b"smackfs", b"sysfs", b"tracefs",
))  # fmt: skip
MOUNTS = "/proc/self/mountinfo"

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 200  # descriptors; a deeper tree re-opens the upper folders on the way back
_SLASH = 0x2F
_ENCODING = sys.getfilesystemencoding()

# Path inside the root; status; descriptor of the folder it is in, open until the next one is asked for; name in there.
Seen = tuple[bytes, os.stat_result, int, bytes]


@dataclass(slots=True)
class _Frame:
    """A folder on the way down. `keys` are the names still to come, those to descend into with a slash behind."""

    descriptor: int
    path: bytes  # b"" for the root
    rules: Folder
    identity: tuple[int, int]
    keys: Iterator[bytes] = field(default_factory=lambda: iter(()))

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def walk(root: bytes, rules: Rules, own: Iterable[bytes], skipped: SkippedItems) -> Iterator[Seen]:
    """Give all below `root` that `rules` take in, but `own` (paths inside the root) and kernel file systems.

    What cannot be read, or vanishes meanwhile, is appended to `skipped`. Raises OSError where `root` is no folder.
    """
    barred = _barred(root, own)
    return iter(()) if b"/" in barred.get(b"", ()) else _Walker(skipped, barred).run(root, rules)


def pseudo_mounts() -> tuple[bytes, ...]:
    """Where kernel file systems are mounted, as seen from this process. Empty where that cannot be known."""
    try:
        with open(MOUNTS, "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return ()
    kinds: dict[bytes, bytes] = {}
    for line in lines:
        before, _, after = line.partition(b" - ")
        kinds[unescape(before.split(b" ")[4])] = after.split(b" ")[0]
    return tuple(sorted(point for point, kind in kinds.items() if kind in PSEUDO))


def _barred(root: bytes, own: Iterable[bytes]) -> Mapping[bytes, frozenset[bytes]]:
    """Give the names not to look at, by the folder they are in. The root itself is named / in the folder b""."""
    real = os.path.realpath(root).rstrip(b"/")
    inside = [point[len(real) :] or b"/" for point in pseudo_mounts() if (point + b"/").startswith(real + b"/")]
    barred: dict[bytes, set[bytes]] = {}
    for path in (*inside, *own):
        folder, _, name = path.rstrip(b"/").rpartition(b"/")
        barred.setdefault(folder, set()).add(name or b"/")
    return {folder: frozenset(names) for folder, names in barred.items()}


class _Walker:
    """The way down from the root to the folder we are in."""

    def __init__(self, skipped: SkippedItems, barred: Mapping[bytes, frozenset[bytes]]) -> None:
        self._skipped = skipped
        self._barred = barred
        self._frames: list[_Frame] = []
        self._last_skipped: Skipped | None = None

    def run(self, root: bytes, rules: Rules) -> Iterator[Seen]:
        try:
            yield from self._enter_root(root, rules.root())
            while self._frames:
                yield from self._things(self._frames[-1])
        finally:
            for frame in self._frames:
                frame.close()

    def _enter_root(self, root: bytes, rules: Folder) -> Iterator[Seen]:
        descriptor = os.open(root, _OPEN_FOLDER & ~os.O_NOFOLLOW)
        self._enter(descriptor, b"", rules)
        if rules.decision.included:
            yield b"/", os.fstat(descriptor), descriptor, b"."

    def _things(self, frame: _Frame) -> Iterator[Seen]:
        """Give what is in the folder, up to the next one to descend into; then the way leads on from there."""
        prefix, descriptor = frame.path + b"/", frame.descriptor
        for key in frame.keys:
            if key[-1] == _SLASH:
                if self._descend(frame, key[:-1]):
                    return
                continue
            try:
                status = os.lstat(key, dir_fd=descriptor)
            except OSError as exc:
                self._skip(prefix + key, exc)
                continue
            yield prefix + key, status, descriptor, key
        self._leave()

    def _skip(self, path: bytes, exc: OSError) -> None:
        reason = "vanished while being looked at" if exc.errno == errno.ENOENT else exc.strerror or str(exc)
        item = Skipped(path, reason)
        if item != self._last_skipped:  # a folder comes twice: as an entry, and to descend into
            self._skipped.append(item)
        self._last_skipped = item

    def _descend(self, frame: _Frame, name: bytes) -> bool:
        path = frame.path + b"/" + name
        try:
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=frame.descriptor)
        except OSError as exc:
            self._skip(path, exc)
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
        """Open the folder above the one that was left; it must be the one we came through, or the way is lost."""
        upper = self._frames[-1]
        with contextlib.suppress(OSError):
            upper.descriptor = os.open(b"..", _OPEN_FOLDER, dir_fd=left.descriptor)
            if _identity(upper.descriptor) == upper.identity:
                return
            upper.close()
        while self._frames:
            self._skipped.append(Skipped(self._frames.pop().path or b"/", "moved while being looked at"))

    def _keys(self, frame: _Frame) -> list[bytes]:
        """List a folder: names that count as they are, folders to descend into with a slash, in byte order.

        What is in folder `a` has paths that begin with `a/`, so the slash sorts it among the siblings of `a`.
        """
        only = frame.rules.only_names
        names, folders = _listed(frame.descriptor) if only is None else self._present(frame, only)
        barred, rules = self._barred.get(frame.path, ()), frame.rules
        if barred:
            names, folders = [[name for name in some if name not in barred] for some in (names, folders)]
        if not rules.is_uniform:
            names = [name for name in names if rules.enter(name).decision.included]
            folders = [name for name in folders if rules.enter(name).may_hold]
        names += [name + b"/" for name in folders]
        names.sort()
        return names

    def _present(self, frame: _Frame, only: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Do what _listed() does for a folder that is left out: look only for the names that the rules take in."""
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


def _listed(descriptor: int) -> tuple[list[bytes], list[bytes]]:
    """Give all names of a folder, and those of folders among them."""
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
