"""Reach what lies beneath a folder, name by name, never through a symbolic link.

Takes absolute paths as they are inside a root, gives the open folder they lie in and their last name. Every component
is opened from the one above it with O_NOFOLLOW, so that a link planted or swapped in at any moment is an error and no
way out. Opens folders; changes nothing.
"""

import errno
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KEPT_OPEN = 64
_CHUNK = 1 << 16  # larger ones cost more to allocate than they save

_NO_NAMES = frozenset((b"", b".", b".."))
Place = tuple[int, bytes]  # descriptor of a folder, a name in it


class NoFolder(OSError):
    """A parent of a path is there and is no folder: a link, a file. `barrier` is that parent."""

    def __init__(self, barrier: bytes) -> None:
        super().__init__(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.barrier = barrier


class Beneath:
    """The folders beneath `root`. Keeps the last ones open; close it when done."""

    def __init__(self, root: bytes) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[tuple[bytes, ...], int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()
        os.close(self._root)

    def place(self, path: bytes) -> Place:
        """The open folder `path` lies in, and its name there; valid until the next call.

        Raises ValueError for what is no plain absolute path, NoFolder where a parent is a link or a file, and
        FileNotFoundError where one is missing.
        """
        names = names_of(path)
        if not names:
            return self._root, b"."
        return self._folder(names[:-1]), names[-1]

    def folder(self, path: bytes) -> int:
        """The open folder `path`; raises as place() does."""
        return self._folder(names_of(path))

    def open_file(self, path: bytes) -> int:
        """A new descriptor to read the plain file `path`; raises as place() does, OSError (EINVAL) for other kinds."""
        folder, name = self.place(path)
        descriptor = os.open(name, _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a plain file")
        return descriptor

    def file_digest(self, path: bytes, algorithm: str) -> str:
        """The digest of the plain file `path`, in lowercase hex."""
        descriptor = self.open_file(path)
        try:
            return digest_of(descriptor, algorithm)
        finally:
            os.close(descriptor)

    def forget(self, path: bytes = b"/") -> None:
        """Close what is kept open of the folder `path` and those in it, because it was removed or replaced."""
        names = names_of(path)
        for known in [known for known in self._open if known[: len(names)] == names]:
            os.close(self._open.pop(known))

    def _folder(self, names: tuple[bytes, ...]) -> int:
        if not names:
            return self._root
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
        depth = next(depth for depth in range(len(names) - 1, -1, -1) if not depth or names[:depth] in self._open)
        here = os.dup(self._open[names[:depth]] if depth else self._root)
        for end in range(depth + 1, len(names) + 1):
            above = here
            try:
                here = os.open(names[end - 1], _FOLDER, dir_fd=above)
            except OSError as exc:
                if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise NoFolder(b"/" + b"/".join(names[:end])) from exc
                raise
            finally:
                os.close(above)
        return here


def names_of(path: bytes) -> tuple[bytes, ...]:
    """The names a plain absolute path is made of. Raises ValueError for `..`, empty names, NUL, relative paths."""
    if path == b"/":
        return ()
    names = tuple(path[1:].split(b"/"))
    if path[:1] != b"/" or b"\0" in path or not _NO_NAMES.isdisjoint(names):
        raise ValueError("not a plain absolute path")
    return names


def digest_of(descriptor: int, algorithm: str, check: Callable[[], object] = lambda: None) -> str:
    """The digest of what is left to read, in lowercase hex; `check` is called now and then and may raise an end."""
    content = hashlib.new(algorithm, usedforsecurity=False)
    while chunk := os.read(descriptor, _CHUNK):
        content.update(chunk)
        check()
    return content.hexdigest()


def by_descriptor(descriptor: int, name: bytes | None = None) -> bytes:
    """A path of what a descriptor stands for (or a name in that folder), for calls that take no descriptor.

    Through it chmod, chown, utime and xattr calls reach links, fifos and devices too, and nothing can come between.
    """
    path = b"/proc/self/fd/%d" % descriptor
    return path if name is None else path + b"/" + name
