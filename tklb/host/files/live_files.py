"""The files of this machine as they are now: the view that a restore plans with.

Takes a root folder; gives entries, names and digests of the files below it. Changes nothing, and follows no link that
somebody other than root could change.
"""

import errno
import os
import stat
from collections.abc import Iterable

from tklb.base.fs import kind_of_mode
from tklb.diff.attributes.xattrs import is_carried
from tklb.host.files.flags import FlagReader
from tklb.host.files.openat import FolderGuard, Identity, NoFolder, RootedTree, descriptor_path, digest_of, read_rights
from tklb.host.files.walk import find_identities
from tklb.host.mounts import read_mounts
from tklb.model.files import FileEntry


class LiveFiles(RootedTree):
    """The files below a root as they are. A path that cannot be reached is absent; nothing here raises.

    list_problems() tells a path that is there and cannot be read from one that is not there.
    """

    def __init__(self, root: bytes, *, follows_root_links: bool = False) -> None:
        super().__init__(root, follows_root_links=follows_root_links)
        self.folders: dict[bytes, Identity] = {}  # looked into, and in places where somebody other than root can write
        self._flags = FlagReader()
        self._problems: dict[bytes, str] = {}
        self._last: tuple[bytes, Identity] = (b"", (0, 0))  # path and identity of the entry that was given last

    def guard(self, own: Iterable[bytes]) -> FolderGuard:
        """Give the guard for what is written after this look: the folders it saw, and our own ones, barred."""
        return FolderGuard(self.folders, find_identities(own))

    def entry(self, path: bytes) -> FileEntry | None:
        """Give the entry at `path` without digests; None if there is none or it cannot be reached."""
        try:
            folder, name = self.place(path)
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = kind_of_mode(status.st_mode)
            self._last = path, (status.st_dev, status.st_ino)
            device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("block", "char") else None
            return FileEntry(
                path=path,
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
                size=status.st_size if kind == "file" else None,
                mtime_ns=status.st_mtime_ns,
                link=os.readlink(name, dir_fd=folder) if kind == "link" else None,
                device=device,
                dev=status.st_dev,
                ino=status.st_ino,
                nlink=status.st_nlink,
                xattrs=_xattrs(descriptor_path(folder, name)),
                flags=self._flags.read(folder, name) if kind in ("file", "dir") else None,
            )
        except (OSError, ValueError) as exc:
            self._note(path, exc)
            return None

    def names(self, path: bytes) -> tuple[bytes, ...]:
        """Give the names in the folder `path`, sorted; none if it cannot be read."""
        try:
            return tuple(sorted(os.fsencode(name) for name in os.listdir(self.folder(path))))
        except (OSError, ValueError) as exc:
            self._note(path, exc)
            return ()

    def list_problems(self) -> tuple[tuple[bytes, str], ...]:
        """Give the paths that were asked for and could not be read, each with the reason. Sorted."""
        return tuple(sorted(self._problems.items()))

    def _note(self, path: bytes, exc: OSError | ValueError) -> None:
        is_absent = isinstance(exc, NoFolder | FileNotFoundError | NotADirectoryError | ValueError)
        if not is_absent and isinstance(exc, OSError):
            self._problems[path] = exc.strerror or str(exc)

    def digest(self, path: bytes, algorithm: str) -> str | None:
        """Give the digest of the regular file `path`; None if it cannot be read.

        After entry() it must be the same file: a user could show one for its metadata and another for its content.
        """
        try:
            descriptor = self.open_file(path)
        except (OSError, ValueError):
            return None
        try:
            status, (last, identity) = os.fstat(descriptor), self._last
            is_other = path == last and identity != (status.st_dev, status.st_ino)
            return None if is_other else digest_of(descriptor, algorithm)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _check_entered(self, above: int, here: int, path: bytes) -> None:
        if not read_rights(above).is_of_root_alone:
            found = os.fstat(here)
            self.folders[path] = (found.st_dev, found.st_ino)

    def head(self, path: bytes, count: int) -> bytes:
        """Give the first `count` bytes of the regular file `path`; none if it cannot be read."""
        try:
            descriptor = self.open_file(path)
        except (OSError, ValueError):
            return b""
        try:
            return os.read(descriptor, count)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def find_mount(self, path: bytes) -> bytes | None:
        """Give the first mount point at `path` or below it, or None."""
        root = os.readlink(descriptor_path(self._root)).rstrip(b"/")
        inside = [mount.point[len(root) :] for mount in read_mounts() if mount.point.startswith(root + b"/")]
        return next((point for point in sorted(inside) if (point + b"/").startswith(path + b"/")), None)

    def leads_to_folder(self, path: bytes) -> bool:
        """Whether `path` is a folder if every link is followed. This asks and opens nothing."""
        return os.path.isdir(descriptor_path(self._root, path[1:]))

    def has_target(self, path: bytes) -> bool:
        """Whether there is something at `path` if every link is followed."""
        return os.path.exists(descriptor_path(self._root, path[1:]))

    def find_barrier(self, path: bytes) -> bytes | None:
        """Give the topmost parent of `path` that is not a folder but a link or a file, or None."""
        try:
            self.place(path)
        except NoFolder as exc:
            return exc.barrier
        except (OSError, ValueError):
            return None
        return None


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return ()
        raise
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names if is_carried(name))
