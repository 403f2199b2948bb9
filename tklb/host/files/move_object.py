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

from tklb.diff.attributes.xattrs import is_carried
from tklb.host.files.openat import Place, find_kind, read_rights

Inode = tuple[int | None, int | None]
_PRIVATE, _NEW = 0o700, b"new"
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
        os.mkdir(new_name, _PRIVATE, dir_fd=new_folder)
        new = os.open(new_name, _FOLDER, dir_fd=new_folder)
        opened.callback(os.close, new)
        if not _is_private(new) or os.listdir(new):
            raise FileExistsError(errno.EEXIST, "another folder took the place of the new one")
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
def hold_temporary(folder: int, name: bytes) -> Iterator[Place]:
    """Give the place of a new object that a rename then puts at `name`; afterwards nothing is left there.

    Where others can write, it is in a folder of its own: nobody can open, move or replace the object before it is
    complete.
    """
    beside = temporary_name(name)
    if read_rights(folder).is_of_root_alone:
        with _remove_around(folder, beside):
            yield folder, beside
        return
    inner, beside = _make_private(folder, beside)
    try:
        with _remove_around(inner, _NEW):
            yield inner, _NEW
    finally:
        os.close(inner)
        with contextlib.suppress(OSError):  # somebody moved it, or put something else there
            os.rmdir(beside, dir_fd=folder)


@contextlib.contextmanager
def _remove_around(folder: int, name: bytes) -> Iterator[None]:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _make_private(folder: int, name: bytes) -> tuple[int, bytes]:
    """Make a folder that root alone can enter; give it open, and its name: another one where `name` is taken."""
    _remove_leftover(folder, name)
    for chosen in (name, name + b"-" + os.urandom(8).hex().encode()):
        with contextlib.suppress(FileExistsError):
            os.mkdir(chosen, _PRIVATE, dir_fd=folder)
            inner = os.open(chosen, _FOLDER, dir_fd=folder)
            if _is_private(inner) and not os.listdir(inner):
                return inner, chosen
            os.close(inner)
    raise FileExistsError(errno.EEXIST, "somebody else takes the places of new files")


def _remove_leftover(folder: int, name: bytes) -> None:
    """Remove what a killed run left, and nothing of anybody else."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return
    try:
        if _is_private(inner):
            with _remove_around(inner, _NEW):
                pass
            os.rmdir(name, dir_fd=folder)
    except OSError:
        return  # another name serves
    finally:
        os.close(inner)


def _is_private(folder: int) -> bool:
    status = os.fstat(folder)
    return status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == _PRIVATE
