"""Files that survive a power loss, private folders, plain files, and the lock of a run.

A state file is always the old one or the new one: write beside it, fsync, rename, fsync the folder.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import IO

from tklb.errors import AccessRefused, Locked, NoSpace, printable

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_LACKING = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # FAT answers EPERM to a link
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
    stat.S_IFSOCK: "socket",
}


def kind_of_mode(mode: int) -> str:
    """Give the kind of object that an st_mode stands for: file, dir, link, fifo, block, char or socket."""
    return KINDS[stat.S_IFMT(mode)]


# Only "there is none" may count as nothing: a file that a disk or a loop of links keeps back is not absent.
_NOTHING = (FileNotFoundError, NotADirectoryError)


def read_existing(path: bytes, limit: int = -1) -> bytes:
    """Give the content of a file, at most `limit` bytes; b"" if there is no such file. Raises AccessRefused."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit)
    except (*_NOTHING, IsADirectoryError):
        return b""
    except OSError as exc:
        raise AccessRefused(address=printable(path), reason=exc.strerror) from exc


def list_existing(folder: bytes) -> list[bytes]:
    """Give the names in a folder, sorted; none if there is no such folder. Raises AccessRefused."""
    try:
        return sorted(os.listdir(folder))
    except _NOTHING:
        return []
    except OSError as exc:
        raise AccessRefused(address=printable(folder), reason=exc.strerror) from exc


def read_existing_link(path: bytes) -> bytes | None:
    """Give the target of a link; None if there is no link. Raises AccessRefused."""
    try:
        return os.readlink(path)
    except _NOTHING:
        return None
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # something else is there
            return None
        raise AccessRefused(address=printable(path), reason=exc.strerror) from exc


def private_folder(path: Path) -> Path:
    """Make `path` a folder that only its owner may enter. Raises AccessRefused for a link, or for another owner."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    status = os.lstat(path)
    if not os.path.isdir(path) or os.path.islink(path):
        raise AccessRefused(address=str(path), reason="it is not a folder")
    if status.st_uid != os.geteuid():
        raise AccessRefused(address=str(path), reason=f"it belongs to uid {status.st_uid}")
    if status.st_mode & 0o077:
        os.chmod(path, PRIVATE_FOLDER)
    return path


def write_atomic(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace the file `path` by `content`, durably, and whole or not at all. Raises OSError, NoSpace."""
    with replace_file(path, mode) as stream:
        stream.write(content)


@contextlib.contextmanager
def replace_file(path: Path, mode: int = PRIVATE_FILE) -> Iterator[IO[bytes]]:
    """Give a stream that becomes the file `path` when the block ends well. A block that raises changes nothing."""
    beside = path.with_name(path.name + ".new")
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        with report_full_disk(path):
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, mode)
                yield stream
                stream.flush()
                os.fsync(descriptor)
            os.rename(beside, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


@contextlib.contextmanager
def report_full_disk(path: Path) -> Iterator[None]:
    """Turn the failure of a full disk into NoSpace for `path`, since write(2) names no file."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(path=str(path), reason=exc.strerror) from exc
        raise


def rename_new(path: Path, other: Path) -> bool:
    """Rename a file to a name that nothing has, in one step. Gives False where the file system cannot do that.

    A hard link stands in for the rename where the file system has links alone, as NFS has. Raises FileExistsError.
    """
    import ctypes  # the start of each command is faster without it

    arguments = (_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_NOREPLACE)
    if ctypes.CDLL(None, use_errno=True).renameat2(*arguments) == 0:
        return True
    _raise_unless_lacking(ctypes.get_errno(), other)
    try:
        os.link(path, other, follow_symlinks=False)
    except FileExistsError:  # NFS says so too where its first answer was lost
        if not os.path.samestat(os.lstat(path), os.lstat(other)):
            raise
    except OSError as exc:
        _raise_unless_lacking(exc.errno or 0, other)
        return False
    path.unlink()
    return True


def _raise_unless_lacking(number: int, path: Path) -> None:
    """Raise the failure of a system call, unless it means that the file system lacks the operation."""
    if number not in _LACKING:
        raise OSError(number, os.strerror(number), os.fspath(path))


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Give an empty private folder, and remove it after the block. What a killed run left there goes first."""
    remove_tree(path)
    try:
        yield private_folder(path)
    finally:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a folder of ours with everything below it. A missing one is no failure."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run while the block runs. The kernel frees it with its process: no stale lock blocks a run.

    Raises Locked, which names the holder.
    """
    private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
            raise Locked(holder=f"process {holder}" if holder else "an unnamed process") from exc
        with report_full_disk(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def is_plain(status: os.stat_result) -> bool:
    """Whether a status is that of a plain file: no folder, link, device, pipe or socket."""
    return stat.S_ISREG(status.st_mode)


def open_plain(path: Path | bytes) -> IO[bytes]:
    """Open a plain file for unbuffered reading. Follows no link in its last part, and waits for no pipe.

    Raises FileNotFoundError where something else has that name, and OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not is_plain(os.fstat(descriptor)):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no plain file")
    return open(descriptor, "rb", buffering=0)


def free_space(path: Path | bytes) -> int:
    """The bytes that are free for us on the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def file_sha256(stream: IO[bytes]) -> str:
    """The SHA-256 of a binary stream from its present position to its end, in lowercase hex."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


@contextlib.contextmanager
def sync_in_background() -> Iterator[None]:
    """When the block has ended, everything written before it is on disk."""
    sync = Thread(target=os.sync, daemon=True)
    sync.start()
    try:
        yield
    finally:
        sync.join()
