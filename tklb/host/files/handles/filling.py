"""Folders while they are filled: held by descriptors, closed for other users, given to their owner when all is there.

A new folder is root's with mode 0700 until then. So is an existing one where others can write, if its owner changes.
One that gets another mode has the bits that both modes share. So nobody can move away what comes into it, or read it
too early. A folder that is not at its path any more stays closed.
"""

import os
import stat
from collections.abc import Callable, Iterator

from tklb.diff.attributes.rights import Rights, is_same_inode
from tklb.host.files.openat import Place, RootedTree
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry

_CLOSED = 0o700
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED = "another folder took its place"


@dataclass(frozen=True, slots=True)
class _Filling:
    descriptor: int
    entry: FileEntry


class FillingFolders:
    """The folders of a tree that are being filled. `finish` gives one its metadata and may raise."""

    def __init__(self, tree: RootedTree, finish: Callable[[int, FileEntry], None]) -> None:
        self._tree, self._finish = tree, finish
        self._open: dict[bytes, _Filling] = {}

    def fill(self, place: Place, entry: FileEntry, was: FileEntry | None, *, is_new: bool) -> None:
        """Hold the folder at `place`, closed: what comes below its path goes there until it is full.

        `was` is the folder that the plan saw. Raises OSError, and ValueError if another one took its place.
        """
        folder, name = place
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
        try:
            _close_new(descriptor) if is_new else _close_present(descriptor, entry, was)
        except BaseException:
            os.close(descriptor)
            raise
        self.forget(entry.path)
        self._tree.hold(entry.path, descriptor)
        self._open[entry.path] = _Filling(descriptor, entry)

    def forget(self, path: bytes) -> None:
        """Let go of a folder that was removed or moved."""
        if self._open.pop(path, None):
            self._tree.release(path)

    def list_left(self, path: bytes | None) -> Iterator[bytes]:
        """Give the folders that are full, the deepest first: nothing at `path` or after it comes below them.

        Paths come in byte order, so `/a-b` may come between `/a` and `/a/c`. None: all are full.
        """
        for folder in reversed(tuple(self._open)):
            inside = folder.rstrip(b"/") + b"/"
            if path is None or (path > inside and not path.startswith(inside)):
                yield folder

    def finish_folder(self, path: bytes) -> None:
        """Give a folder its metadata and let it go. Raises OSError, and ValueError if it is not there any more."""
        filling = self._open.pop(path)
        self._tree.release(path, is_open=True)
        try:
            folder, name = self._tree.place(path)
            here, own = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(filling.descriptor)
            if (here.st_dev, here.st_ino) != (own.st_dev, own.st_ino):
                raise ValueError("it was moved away while it was filled; it stays root's alone where it is")
            self._finish(filling.descriptor, filling.entry)
        finally:
            os.close(filling.descriptor)


def _close_new(descriptor: int) -> None:
    """Check that an open folder is the one that was just made."""
    status = os.fstat(descriptor)
    is_closed = stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == _CLOSED
    if status.st_uid != os.geteuid() or not is_closed or os.listdir(descriptor):
        raise ValueError(_REPLACED)


def _close_present(descriptor: int, entry: FileEntry, was: FileEntry | None) -> None:
    """Take away what an open folder will not have any more."""
    status = os.fstat(descriptor)
    if not is_same_inode(was, status.st_dev, status.st_ino):
        raise ValueError(_REPLACED)
    mode, owners = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    has_other_owner = entry.uid not in (None, owners[0]) or entry.gid not in (None, owners[1])
    if has_other_owner and not Rights(*owners, mode).is_of_root_alone:
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, _CLOSED)
    elif entry.mode is not None and mode & entry.mode != mode:
        os.fchmod(descriptor, mode & entry.mode)
