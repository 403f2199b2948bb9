"""The flags of chattr(1) that stop a restore or that a restore brings back: immutable and append-only.

Takes descriptors and names; gives and sets letters, as chattr(1) spells them. statx(2) shows the flags without opening
a file; only setting needs an open file. A file system without flags has none.
"""

import ctypes
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from tklb.host.files.openat import RootedTree
from tklb.model.files import FileEntry

LETTERS = {"a": 0x20, "i": 0x10}  # of stx_attributes in statx(2), and the same bits in ioctl_iflags(2)
_GET, _SET = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH, _AT_DONT_SYNC = 0x100, 0x1000, 0x4000
_HOW = _AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH | _AT_DONT_SYNC
_SIZE, _ATTRIBUTES = 256, slice(8, 16)  # of struct statx
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _load_statx() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), "statx", None)


class FlagReader:
    """Reads flags. It is for one thread at a time."""

    def __init__(self) -> None:
        self._statx = _load_statx()
        self._buffer = ctypes.create_string_buffer(_SIZE)

    def read(self, folder: int, name: bytes) -> str | None:
        """Give the letters of the object `name` in an open folder; None if it has none, or cannot say.

        Without a name it is the object that is open itself.
        """
        if self._statx is None or self._statx(folder, name, _HOW, 0, self._buffer):
            return None
        bits = int.from_bytes(self._buffer.raw[_ATTRIBUTES], "little")
        return "".join(letter for letter, bit in LETTERS.items() if bits & bit) or None if bits else None


def set_flags(folder: int, name: bytes, letters: str, entry: FileEntry | None = None) -> None:
    """Give the file or folder `name` exactly these flags of the two; its others stay.

    Raises OSError, and ValueError if it has not the owner and mode of `entry`: then it is another one.
    """
    descriptor = os.open(name, _OPEN, dir_fd=folder)
    try:
        if entry and not _has_rights(os.fstat(descriptor), entry):
            raise ValueError("another object took its place")
        found = int.from_bytes(fcntl.ioctl(descriptor, _GET, bytes(8))[:4], "little")
        wanted = found & ~sum(LETTERS.values()) | sum(LETTERS[letter] for letter in letters)
        if wanted != found:
            fcntl.ioctl(descriptor, _SET, wanted.to_bytes(8, "little"))
    finally:
        os.close(descriptor)


def _has_rights(status: os.stat_result, wanted: FileEntry) -> bool:
    is_owned = wanted.uid in (None, status.st_uid) and wanted.gid in (None, status.st_gid)
    return is_owned and wanted.mode in (None, stat.S_IMODE(status.st_mode))


class LiftedFlags:
    """Takes flags away that are in the way of a change, and remembers them."""

    def __init__(self, tree: RootedTree) -> None:
        self._tree = tree
        self._reader = FlagReader()
        self._lifted: dict[bytes, str] = {}

    def lift(self, *paths: bytes | None) -> bool:
        """Lift the flags of these objects and of their folders. Whether there were any, and none is left."""
        found = dict(self._find(path for path in paths if path is not None))
        try:
            for path in found:
                set_flags(*self._tree.place(path), "")
        except OSError:
            return False
        self._lifted = {**found, **self._lifted}
        return bool(found)

    def take_all(self) -> tuple[tuple[bytes, str], ...]:
        """Give what was lifted, deepest paths first, and forget it."""
        lifted, self._lifted = self._lifted, {}
        return tuple(sorted(lifted.items(), reverse=True))

    def _find(self, paths: Iterator[bytes]) -> Iterator[tuple[bytes, str]]:
        for path in (place for one in paths for place in (one, one.rpartition(b"/")[0] or b"/")):
            try:
                letters = self._reader.read(*self._tree.place(path))
            except (OSError, ValueError):
                continue
            if letters:
                yield path, letters
