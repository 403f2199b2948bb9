"""Hold objects of this machine by descriptors, so that what is checked is what changes. Follows no link.

Takes places; gives descriptors. Changes nothing but what it makes: a link, pipe or device.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from tklb.base.fs import kind_of_mode
from tklb.host.files.openat import RootedTree, digest_of
from tklb.model.files import FileEntry

_NODES = {"fifo": stat.S_IFIFO, "block": stat.S_IFBLK, "char": stat.S_IFCHR}
_WORDS = {
    errno.EPERM: "not permitted: it or its folder is immutable, or the file system cannot hold it",
    errno.ELOOP: "a symbolic link is in its place",
    errno.EBUSY: "something is mounted there or holds it",
    errno.EISDIR: "a folder is in the way",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EROFS: "the file system is read-only",
}
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def describe_os_error(exc: OSError) -> str:
    """Say why an object could not be written."""
    return _WORDS.get(exc.errno or 0) or exc.strerror or str(exc)


def make_node(folder: int, name: bytes, entry: FileEntry) -> None:
    """Make a link, pipe or device that only root can use so far. Raises OSError, and ValueError for other kinds."""
    if entry.kind == "link":
        os.symlink(entry.link or b"", name, dir_fd=folder)
    elif entry.kind in _NODES:
        os.mknod(name, _NODES[entry.kind] | 0o600, os.makedev(*(entry.device or (0, 0))), dir_fd=folder)
    else:
        raise ValueError(f"cannot make a {entry.kind}")


@contextlib.contextmanager
def hold_object(folder: int, name: bytes, kind: str) -> Iterator[int]:
    """Give a descriptor of an object of any kind; the object itself is neither opened nor followed.

    Raises ValueError if it is of another kind, and OSError.
    """
    handle = os.open(name, _HANDLE, dir_fd=folder)
    try:
        if (here := kind_of_mode(os.fstat(handle).st_mode)) != kind:
            raise ValueError(f"it is now a {here} and not a {kind}")
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def hold_partner(tree: RootedTree, path: bytes, entry: FileEntry) -> Iterator[int | None]:
    """Give a descriptor of the object at `path`; None if it is not the same as `entry`, apart from its metadata.

    Raises as RootedTree.open_file() does.
    """
    if entry.kind == "file":
        handle = tree.open_file(path)
    else:
        folder, name = tree.place(path)
        handle = os.open(name, _HANDLE, dir_fd=folder)
    try:
        yield handle if _is_same(handle, entry) else None
    finally:
        os.close(handle)


def _is_same(handle: int, entry: FileEntry) -> bool:
    status = os.fstat(handle)
    if kind_of_mode(status.st_mode) != entry.kind:
        return False
    if entry.kind == "file":
        return entry.size in (None, status.st_size) and digest_of(handle, "sha256") == entry.sha256
    if entry.kind == "link":
        return os.readlink(b"", dir_fd=handle) == entry.link
    return entry.device in (None, (os.major(status.st_rdev), os.minor(status.st_rdev)))
