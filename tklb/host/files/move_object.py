"""Give an object another name in its folder, also where the file system cannot rename it; and temporary names.

overlayfs, which containers use, renames no folder of a lower layer (EXDEV). Then the folder is made anew under the new
name, and all that it holds moves over. If that fails on the way, everything moves back. Follows no link.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from tklb.diff.xattrs import is_carried
from tklb.host.files.openat import Place, find_kind

Inode = tuple[int | None, int | None]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def move_object(place: Place, new_place: Place) -> None:
    """Move an object from one place to another of the same file system, which must be free. Raises OSError."""
    (folder, name), (new_folder, new_name) = place, new_place
    try:
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
    except OSError as exc:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if exc.errno != errno.EXDEV or not stat.S_ISDIR(mode):
            raise
        _move_contents(place, new_place)


def _move_contents(place: Place, new_place: Place) -> None:
    (folder, name), (new_folder, new_name) = place, new_place
    with contextlib.ExitStack() as opened:
        old = os.open(name, _FOLDER, dir_fd=folder)
        opened.callback(os.close, old)
        os.mkdir(new_name, 0o700, dir_fd=new_folder)
        new = os.open(new_name, _FOLDER, dir_fd=new_folder)
        opened.callback(os.close, new)
        try:
            status = os.fstat(old)
            _move_all(old, new)
            _copy_metadata(status, old, new)
            os.rmdir(name, dir_fd=folder)
        except BaseException:
            _move_all(new, old)
            os.rmdir(new_name, dir_fd=new_folder)
            raise


def _move_all(old: int, new: int) -> None:
    for name in map(os.fsencode, os.listdir(old)):
        move_object((old, name), (new, name))


def _copy_metadata(status: os.stat_result, old: int, new: int) -> None:
    os.fchown(new, status.st_uid, status.st_gid)
    for name in os.listxattr(old):
        if is_carried(os.fsencode(name)):
            os.setxattr(new, name, os.getxattr(old, name))
    os.fchmod(new, stat.S_IMODE(status.st_mode))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def move_to_free_name(folder: int, name: bytes, new_name: bytes, inode: Inode | None) -> None:
    """Give an object in an open folder another name, which must be free. `inode`: which object it must be.

    Raises ValueError if it is another object or the name is taken, and OSError.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if inode is not None and inode != (status.st_dev, status.st_ino):
        raise ValueError("another object took its place")
    if find_kind(folder, new_name) is not None:
        raise ValueError(f"{new_name.decode('utf-8', 'backslashreplace')} exists already")
    move_object((folder, name), (folder, new_name))


def temporary_name(name: bytes) -> bytes:
    """Give the temporary name of a new object. It is always the same, so that a repeated run removes leftovers."""
    return b".tklb-" + hashlib.sha256(name).hexdigest()[:24].encode()


@contextlib.contextmanager
def hold_temporary(folder: int, name: bytes) -> Iterator[bytes]:
    beside = temporary_name(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    try:
        yield beside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
