"""Open paths below a root folder, name by name, and never through a symbolic link.

Takes absolute paths inside a root. Gives the open folder of a path, and the last name of the path in it. Each component
is opened from the one above it with O_NOFOLLOW. So a link that somebody plants at any moment is an error and leads
nowhere. Opens folders; changes nothing.

Where the caller allows it, there is one exception: a link such as /home -> /data/home that the administrator made. It
belongs to root, and so does every folder above it and every folder of its target, and nobody else may write there. So
nobody else can have made it or can change where it leads. It is followed once: its target holds no further link.
"""

import errno
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import field
from types import TracebackType
from typing import Self

from tklb.base.fs import kind_of_mode
from tklb.diff.attributes.rights import Rights
from tklb.diff.path_names import resolve_link
from tklb.host.files.handles.read_limits import open_to_read
from tklb.lazy_dataclass import dataclass

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 64
_CHUNK = 1 << 16  # larger ones cost more to allocate than they save

_NO_NAMES = frozenset((b"", b".", b".."))
Place = tuple[int, bytes]  # descriptor of a folder, a name in it
Identity = tuple[int, int]  # device, inode


class NoFolder(OSError):
    """A parent of a path is not a folder but a link or a file. `barrier` is that parent."""

    def __init__(self, barrier: bytes) -> None:
        super().__init__(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.barrier = barrier


@dataclass(frozen=True, slots=True)
class FolderGuard:
    """What a tree must find in its folders, and what it must not.

    `expected` are folders in places where others can write: another folder under such a path is an error. No path may
    lead into a folder of `barred`.
    """

    expected: MutableMapping[bytes, Identity] = field(default_factory=dict)
    barred: frozenset[Identity] = frozenset()


class RootedTree:
    """The tree below `root`. Keeps the last folders open; use it in a with block. It is for one thread at a time."""

    def __init__(self, root: bytes, *, follows_root_links: bool = False, guard: FolderGuard | None = None) -> None:
        guard = guard or FolderGuard()
        self._expected, self._barred = guard.expected, guard.barred
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[tuple[bytes, ...], int] = OrderedDict()
        self._follows_root_links = follows_root_links
        self._followed: dict[bytes, bytes] = {}  # links, and the folders that they lead to
        self._held: dict[tuple[bytes, ...], int] = {}  # folders that stay open, whatever their path leads to

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()
        for descriptor in self._held.values():
            os.close(descriptor)
        os.close(self._root)

    def place(self, path: bytes) -> Place:
        """Give the open folder that holds `path`, and the name in it. The descriptor is valid until the next call.

        Raises ValueError for a path that is not plain and absolute. Raises NoFolder if a parent is a link or a file,
        and FileNotFoundError if one is missing.
        """
        names = names_of(path)
        if not names:
            return self._root, b"."
        return self._folder(names[:-1]), names[-1]

    def folder(self, path: bytes) -> int:
        """Give the open folder `path`. Raises as place() does."""
        return self._folder(names_of(path))

    def open_file(self, path: bytes) -> int:
        """Open the regular file `path` for reading. Raises as place() does, and OSError (EINVAL) for other kinds."""
        folder, name = self.place(path)
        descriptor = open_to_read(name, folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return descriptor

    def file_digest(self, path: bytes, algorithm: str) -> str:
        """Give the digest of the regular file `path` in lowercase hex. Raises as open_file() does."""
        descriptor = self.open_file(path)
        try:
            return digest_of(descriptor, algorithm)
        finally:
            os.close(descriptor)

    def forget(self, path: bytes = b"/") -> None:
        """Close the folder `path` and those in it, because it was removed or replaced."""
        names = names_of(path)
        for known in [known for known in self._open if known[: len(names)] == names]:
            os.close(self._open.pop(known))

    def hold(self, path: bytes, descriptor: int) -> None:
        """Let `path` mean this open folder from now on, whatever somebody puts there. release() ends that."""
        self.forget(path)
        self._held[names_of(path)] = descriptor

    def release(self, path: bytes, *, is_open: bool = False) -> None:
        """End hold(), and close the descriptor unless the caller still needs it."""
        descriptor = self._held.pop(names_of(path), None)
        self.forget(path)
        if descriptor is not None and not is_open:
            os.close(descriptor)

    def forget_for_good(self, path: bytes) -> None:
        """Do as forget() for what was removed or moved on purpose: nothing is expected there any more."""
        self.forget(path)
        for known in [known for known in self._expected if (known + b"/").startswith(path + b"/")]:
            del self._expected[known]

    def find_safe_target(self, path: bytes) -> bytes | None:
        """Give the folder that the link `path` leads to, if this tree follows it; otherwise None."""
        try:
            return find_root_link(self._root, path) if self._follows_root_links else None
        except (OSError, ValueError):
            return None

    def list_followed_links(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the links that this tree has followed so far, each with the folder that it leads to. Sorted."""
        return tuple(sorted(self._followed.items()))

    def _folder(self, names: tuple[bytes, ...]) -> int:
        if not names:
            return self._root
        if names in self._held:
            return self._held[names]
        known = self._open.get(names)
        if known is not None:
            self._open.move_to_end(names)
            return known
        descriptor = self._walk(names)
        self._open[names] = descriptor
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def _walk(self, names: tuple[bytes, ...]) -> int:
        known = {**self._open, **self._held} if self._held else self._open
        depth = next(depth for depth in range(len(names) - 1, -1, -1) if not depth or names[:depth] in known)
        here = os.dup(known[names[:depth]] if depth else self._root)
        for end in range(depth + 1, len(names) + 1):
            above = here
            try:
                here = self._enter(above, names, end)
                self._check_entered(above, here, b"/" + b"/".join(names[:end]))
            finally:
                os.close(above)
        return here

    def check_missing(self, path: bytes) -> None:
        """Raise OSError if there was a folder at `path` that must be there still."""
        if path in self._expected:
            raise OSError(errno.ESTALE, f"{os.fsdecode(path)} was moved away")

    def _check_entered(self, above: int, here: int, path: bytes) -> None:
        """Close an entered folder and raise OSError if it is not the expected one, or one that is barred."""
        expected = self._expected.get(path)
        status = os.fstat(here) if expected or self._barred else None
        identity = (status.st_dev, status.st_ino) if status else None
        if expected and expected != identity:
            os.close(here)
            raise OSError(errno.ESTALE, f"another folder took the place of {os.fsdecode(path)}")
        if identity in self._barred:
            os.close(here)
            raise OSError(errno.ENOTSUP, f"tklb keeps its state or its target in {os.fsdecode(path)}")

    def _enter(self, above: int, names: tuple[bytes, ...], end: int) -> int:
        try:
            return os.open(names[end - 1], _FOLDER, dir_fd=above)
        except OSError as exc:
            if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            path = b"/" + b"/".join(names[:end])
            target = self.find_safe_target(path)
            if target is None:
                raise NoFolder(path) from exc
        self._followed[path] = target
        return _open_guarded(self._root, target)


def find_root_link(root: int, path: bytes) -> bytes | None:
    """Give the folder that the link `path` leads to, if only root can change the way there. All is below `root`.

    `root` is an open folder. None if `path` is no such link. Raises OSError where something on the way is missing, a
    link, or not root's alone.
    """
    above, _, name = path.rpartition(b"/")
    folder = _open_guarded(root, above or b"/")
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode) or status.st_uid != 0:
            return None
        target = resolve_link(path, os.readlink(name, dir_fd=folder))
    finally:
        os.close(folder)
    os.close(_open_guarded(root, target))
    is_around = (target.rstrip(b"/") + b"/").startswith(path + b"/") or path.startswith(target.rstrip(b"/") + b"/")
    return None if is_around else target


def _open_guarded(root: int, path: bytes) -> int:
    """Open a folder without links. Raises PermissionError if somebody other than root could replace a part of it."""
    here = os.dup(root)
    try:
        _check_guarded(here)
        for name in names_of(path):
            above, here = here, os.open(name, _FOLDER, dir_fd=here)
            os.close(above)
            _check_guarded(here)
    except BaseException:
        os.close(here)
        raise
    return here


def is_guarded(path: bytes) -> bool:
    """Whether nobody but root can replace the folder `path` of this machine, or put anything into it."""
    root = os.open(b"/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_open_guarded(root, os.path.realpath(path)))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


def _check_guarded(folder: int) -> None:
    status = os.fstat(folder)
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "others may write there")


def read_rights(descriptor: int) -> Rights:
    """Give owner and mode of an open object."""
    status = os.fstat(descriptor)
    return Rights(status.st_uid, status.st_gid, status.st_mode)


def find_kind(folder: int, name: bytes) -> str | None:
    """Give the kind of the object `name` in an open folder; None if there is none."""
    try:
        return kind_of_mode(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def names_of(path: bytes) -> tuple[bytes, ...]:
    """Split a plain absolute path. Raises ValueError for `..`, empty names, NUL and relative paths."""
    if path == b"/":
        return ()
    names = tuple(path[1:].split(b"/"))
    if path[:1] != b"/" or b"\0" in path or not _NO_NAMES.isdisjoint(names):
        raise ValueError("not a plain absolute path")
    return names


def digest_of(descriptor: int, algorithm: str, check: Callable[[], object] = lambda: None) -> str:
    """Give the digest of the rest of a file in lowercase hex. `check` is called between reads and may raise.

    Content that is added meanwhile does not count: otherwise a program could let this read for ever.
    """
    content = hashlib.new(algorithm, usedforsecurity=False)
    left = os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
    while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK))):
        content.update(chunk)
        left -= len(chunk)
        check()
    return content.hexdigest()


def descriptor_path(descriptor: int, name: bytes | None = None) -> bytes:
    """Give a path to an open object, or to a name in an open folder, for calls that take no descriptor.

    Through it chmod, chown, utime and xattr calls also reach links, fifos and devices, and no swapped parent can
    redirect them.
    """
    path = b"/proc/self/fd/%d" % descriptor
    return path if name is None else path + b"/" + name
