"""The backend for a folder of this machine: a disk, or whatever is mounted there.

Objects are files of mode 0600 in folders of mode 0700. It writes each beside its place, syncs and renames it. Touches
that folder.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tklb.base.fs import PRIVATE_FILE, PRIVATE_FOLDER, is_plain, open_plain, rename_new, replace_file, sync_folder
from tklb.errors import AccessRefused, NoSpace, TargetDamaged, TargetFull, TargetUnfit, TargetUnreachable, TklbError
from tklb.host.mounts import Mount, find_all_paths
from tklb.storage.backend import (
    KEY,
    LEDGER,
    VOLUMES,
    Creation,
    ListedObject,
    Moved,
    StoredObject,
    check_name,
    ignore_moved,
    is_name,
)
from tklb.storage.url import local_path

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_LACKING = {errno.EFBIG, errno.ENAMETOOLONG, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EILSEQ, errno.EMLINK}
_BLOCK = 1 << 20
_NAMES = frozenset((VOLUMES.rstrip("/").encode(), LEDGER.rstrip("/").encode(), KEY.encode()))
_BESIDE = ".new"  # the suffix that replace_file() writes to
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalBackend:
    """See Backend. The spool is the folder of volumes itself, where only root can put links in the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        volumes = folder / VOLUMES.rstrip("/")
        self._spool = volumes if _is_private(volumes) else None

    @classmethod
    def open(cls, folder: Path) -> "LocalBackend":
        """Open the target in `folder`. An empty mount point is no target: its disk is missing."""
        target = cls(folder)
        with target._explain():
            for part in (folder / VOLUMES, folder / LEDGER):
                if not stat.S_ISDIR(os.lstat(part).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return target

    @classmethod
    def make(cls, folder: Path) -> "LocalBackend":
        """Open the target in `folder`, and make it with all folders above it. What is there already stays as it is."""
        target = cls(folder)
        with target._explain():
            for part in (folder, folder / VOLUMES, folder / LEDGER):
                part.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        return cls.open(folder)

    @property
    def address(self) -> str:
        return f"file://{self.folder}"

    @property
    def spool(self) -> Path | None:
        return self._spool

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        digest = hashlib.sha256()
        try:
            with self._explain(), open_plain(source) as origin, replace_file(self._path(name), PRIVATE_FILE) as copy:
                copy_blocks(origin, copy, lambda block: moved(len(block)), digest.update)
                if digest.hexdigest() != sha256:
                    raise TargetUnreachable(address=self.address, reason=f"{name} changed while it was stored")
                return StoredObject(copy.tell(), sha256)
        except NoSpace as exc:
            raise TargetFull(address=self.address) from exc

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        path = self._path(name)
        beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_BESIDE}")  # another machine may have the name
        try:
            with self._explain(), open_plain(source) as origin, create_private(beside) as copy:
                digest = hashlib.sha256()
                copy_blocks(origin, copy, digest.update)
                if digest.hexdigest() != sha256:
                    raise TargetUnreachable(address=self.address, reason=f"{name} changed while it was stored")
                copy.flush()
                os.fsync(copy.fileno())
        except NoSpace as exc:
            raise TargetFull(address=self.address) from exc
        with self._explain():
            try:
                return _name_new(beside, path)
            finally:
                beside.unlink(missing_ok=True)

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        with self._explain(), self._object(name) as origin, create_private(destination) as copy:
            copy_blocks(origin, copy, lambda block: moved(len(block)))

    def read(self, name: str, limit: int) -> bytes:
        with self._explain(), self._object(name) as origin:
            content = origin.read(limit + 1)
        if len(content) > limit:
            raise self._damage(name, f"is longer than {limit} bytes")
        return content

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._explain(), os.scandir(self.folder / prefix) as entries:
            files = (entry for entry in entries if entry.is_file(follow_symlinks=False))
            return tuple(
                sorted(ListedObject(prefix + entry.name, entry.stat(follow_symlinks=False).st_size) for entry in files)
            )

    def stat(self, name: str) -> StoredObject | None:
        with self._explain():
            try:
                status = os.lstat(self._path(name))
            except FileNotFoundError:
                return None
        if not is_plain(status):
            return None
        return StoredObject(status.st_size, modified=datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, name: str) -> None:
        with self._explain():
            self._path(name).unlink(missing_ok=True)

    def tidy(self) -> None:
        with self._explain():
            for prefix in (VOLUMES, LEDGER, ""):
                self._tidy_folder(prefix)

    def close(self) -> None:
        pass

    def _tidy_folder(self, prefix: str) -> None:
        for entry in os.scandir(self.folder / prefix):
            if is_name(prefix + entry.name.removesuffix(_BESIDE)) and entry.name.endswith(_BESIDE):
                os.unlink(entry.path)

    def _path(self, name: str) -> Path:
        return self.folder / check_name(name)

    def _object(self, name: str) -> IO[bytes]:
        try:
            return open_plain(self._path(name))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise
            raise self._damage(name, "is missing") from exc

    def _damage(self, name: str, reason: str) -> TargetDamaged:
        return TargetDamaged(address=self.address, reason=f"{name} {reason}")

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        """Turn a failure of the system into one of the target."""
        try:
            yield
        except OSError as exc:
            raise explain_os_error(exc, self.address) from exc


def _name_new(beside: Path, path: Path) -> Creation:
    """Give a finished file its name, unless something has that name."""
    try:
        if rename_new(beside, path):
            sync_folder(path.parent)
            return Creation.MADE
    except FileExistsError:
        return Creation.EXISTS
    if os.path.lexists(path):
        return Creation.EXISTS
    os.rename(beside, path)
    sync_folder(path.parent)
    return Creation.UNSURE


def list_places(address: str, mounts: Iterable[Mount]) -> tuple[bytes, ...]:
    """Give every path of what a target keeps in a folder of this machine; none for another kind of target. Sorted.

    That is the whole folder, unless something else is in it too.
    """
    if not address.lower().startswith("file:"):
        return ()
    folder, mounts = os.fsencode(local_path(address)), tuple(mounts)
    names = (b"",) if _is_target_alone(folder) else tuple(b"/" + name for name in _NAMES)
    return tuple(sorted({path for name in names for path in find_all_paths(folder + name, mounts)}))


def _is_target_alone(folder: bytes) -> bool:
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.removesuffix(_BESIDE.encode()) in _NAMES for entry in entries)
    except OSError:
        return True


def _is_private(folder: Path) -> bool:
    """Whether nobody but root can rename or replace a folder, or anything on the way to it."""
    path = Path(os.path.realpath(folder))
    try:
        found = [os.lstat(part) for part in (path, *path.parents)]
    except OSError:
        return False
    owners, shared = {0, os.geteuid()}, stat.S_IWGRP | stat.S_IWOTH
    is_unshared = not found[0].st_mode & shared
    return is_unshared and all(
        one.st_uid in owners and (not one.st_mode & shared or one.st_mode & stat.S_ISVTX) for one in found
    )


def explain_os_error(exc: OSError, address: str) -> TklbError:
    """The failure of a target that a failure of the system means."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetFull(address=address)
    if exc.errno in _REFUSED:
        return AccessRefused(address=address, reason=exc.strerror)
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return TargetUnreachable(address=address, reason="there is no tklb target (is its disk mounted?)")
    if exc.errno in _LACKING:
        return TargetUnfit(address=address, reason=_explain_lack(exc))
    return TargetUnreachable(address=address, reason=exc.strerror)


def _explain_lack(exc: OSError) -> str:
    if exc.errno == errno.EFBIG:
        return "a file is too large for its file system: set backup.volume_megabytes (FAT holds less than 4 GB)"
    return exc.strerror or ""


def copy_blocks(origin: IO[bytes], copy: IO[bytes], *callbacks: Callable[[bytes], object]) -> None:
    """Copy a stream to its end; every callback gets every block."""
    while block := origin.read(_BLOCK):
        copy.write(block)
        for callback in callbacks:
            callback(block)


@contextlib.contextmanager
def create_private(path: Path) -> Iterator[IO[bytes]]:
    """Give a new file, which is deleted if the block fails. Raises NoSpace for its own file system."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
    except BaseException as exc:  # Ctrl-C too
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in _FULL:
            raise NoSpace(path=path, reason=exc.strerror) from exc
        raise
