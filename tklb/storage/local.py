"""A target that is a folder of this machine: a disk, or whatever is mounted there.

Takes and gives objects as files, mode 0600 in folders 0700, written beside, synced and renamed. Touches that folder.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tklb.base.fs import PRIVATE_FILE, PRIVATE_FOLDER, replace_file
from tklb.errors import AccessRefused, NoSpace, TargetDamaged, TargetFull, TargetUnreachable, TklbError
from tklb.storage.backend import LEDGER, VOLUMES, ListedObject, Moved, StoredObject, check_name, ignore_moved, is_name

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BLOCK = 1 << 20
_BESIDE = ".new"  # what durable.replacing() writes
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalBackend:
    """See Target. The spool is the target's own folder of volumes, where nobody else can put links in the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        volumes = folder / VOLUMES.rstrip("/")
        self._spool = volumes if _is_ours(volumes) else None

    @classmethod
    def open(cls, folder: Path) -> "LocalBackend":
        """The target in `folder`. An empty mount point is no target: the disk is missing then."""
        target = cls(folder)
        with target._told():
            for part in (folder / VOLUMES, folder / LEDGER):
                if not stat.S_ISDIR(os.lstat(part).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return target

    @classmethod
    def make(cls, folder: Path) -> "LocalBackend":
        """The target in `folder`, which is made with all above it; what is there already is left as it is."""
        target = cls(folder)
        with target._told():
            for part in (folder, folder / VOLUMES, folder / LEDGER):
                part.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        return cls.open(folder)

    @property
    def address(self) -> str:
        return f"file://{self.folder}"

    @property
    def spool(self) -> Path | None:
        return self._spool

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        digest = hashlib.sha256()
        try:
            with self._told(), opened(source) as origin, replace_file(self._path(name), PRIVATE_FILE) as copy:
                copy_blocks(origin, copy, lambda block: moved(len(block)), digest.update)
                if digest.hexdigest() != sha256:
                    raise TargetUnreachable(address=self.address, reason=f"{name} changed while it was stored")
                return StoredObject(copy.tell(), sha256)
        except NoSpace as exc:
            raise TargetFull(address=self.address) from exc

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        with self._told(), self._object(name) as origin, private_file(destination) as copy:
            copy_blocks(origin, copy, lambda block: moved(len(block)))

    def read(self, name: str, limit: int) -> bytes:
        with self._told(), self._object(name) as origin:
            content = origin.read(limit + 1)
        if len(content) > limit:
            raise self._damaged(name, f"is longer than {limit} bytes")
        return content

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._told(), os.scandir(self.folder / prefix) as entries:
            files = (entry for entry in entries if entry.is_file(follow_symlinks=False))
            return tuple(
                sorted(ListedObject(prefix + entry.name, entry.stat(follow_symlinks=False).st_size) for entry in files)
            )

    def stat(self, name: str) -> StoredObject | None:
        with self._told():
            try:
                status = os.lstat(self._path(name))
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return StoredObject(status.st_size, modified=datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, name: str) -> None:
        with self._told():
            self._path(name).unlink(missing_ok=True)

    def tidy(self) -> None:
        with self._told():
            for prefix in (VOLUMES, LEDGER, ""):
                for entry in os.scandir(self.folder / prefix):
                    if is_name(prefix + entry.name.removesuffix(_BESIDE)) and entry.name.endswith(_BESIDE):
                        os.unlink(entry.path)

    def close(self) -> None:
        pass

    def _path(self, name: str) -> Path:
        return self.folder / check_name(name)

    def _object(self, name: str) -> IO[bytes]:
        try:
            return opened(self._path(name))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise
            raise self._damaged(name, "is missing") from exc

    def _damaged(self, name: str, reason: str) -> TargetDamaged:
        return TargetDamaged(address=self.address, reason=f"{name} {reason}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Give a failure of the system its name."""
        try:
            yield
        except OSError as exc:
            raise explain_os_error(exc, self.address) from exc


def _is_ours(folder: Path) -> bool:
    """Whether nobody but root can rename or replace a folder, or anything on the way to it."""
    path = Path(os.path.realpath(folder))
    try:
        found = [os.lstat(part) for part in (path, *path.parents)]
    except OSError:
        return False
    owners, shared = {0, os.geteuid()}, stat.S_IWGRP | stat.S_IWOTH
    is_private = not found[0].st_mode & shared
    return is_private and all(
        one.st_uid in owners and (not one.st_mode & shared or one.st_mode & stat.S_ISVTX) for one in found
    )


def explain_os_error(exc: OSError, address: str) -> TklbError:
    """What a failure of the system means for a target."""
    if exc.errno in _FULL:
        return TargetFull(address=address)
    if exc.errno in _REFUSED:
        return AccessRefused(address=address, reason=exc.strerror)
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return TargetUnreachable(address=address, reason="there is no tklb target (is its disk mounted?)")
    return TargetUnreachable(address=address, reason=exc.strerror)


def opened(path: Path) -> IO[bytes]:
    """Open a plain file for reading, and nothing else that somebody may have put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no plain file")
    return open(descriptor, "rb", buffering=0)


def copy_blocks(origin: IO[bytes], copy: IO[bytes], *told: Callable[[bytes], object]) -> None:
    """Copy a stream to its end; everybody in `told` gets every block."""
    while block := origin.read(_BLOCK):
        copy.write(block)
        for tell in told:
            tell(block)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a new file, which is taken away again where the block fails. Raises NoSpace for its own file system."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
    except BaseException as exc:  # Ctrl-C too
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in _FULL:
            raise NoSpace(path=path, reason=exc.strerror) from exc
        raise
