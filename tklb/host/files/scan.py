"""What is there: a tree as sorted entries, or as the text of a listing.

Takes a root, rules and, where there is one, the listing of an earlier scan; reads statuses, names of owners, link
targets, extended attributes and, when asked, contents. Touches nothing. What cannot be seen is named, never fatal.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from tklb.base.fs import kind_of_mode
from tklb.diff.rules import Rules
from tklb.diff.xattrs import is_carried
from tklb.host.files.digest import digest_with_status
from tklb.host.files.readahead import Reader, is_large, read_in_turn
from tklb.host.files.walk import Seen, walk
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems

Digest = Callable[[], tuple[str, os.stat_result]]
# Fields of an entry: what a status says (the names of owners are only looked up), and then what must be read.
_UP_TO_NAMES = slice(FileEntry._fields.index("uname"))
_STATUS = slice(FileEntry._fields.index("size"), FileEntry._fields.index("sha256"))


@dataclass(frozen=True, slots=True)
class NameTable:
    """Who owns an id, by the account files of the scanned root; the first name of an id counts, as in getpwuid(3)."""

    users: dict[int, bytes]
    groups: dict[int, bytes]


def scan(
    root: bytes,
    rules: Rules,
    *,
    skipped: SkippedItems,
    known: Iterable[FileEntry] = (),
    own: tuple[bytes, ...] = (),
    digest: bool = False,
) -> Iterator[FileEntry]:
    """Give all below `root` that `rules` take in, in plain byte order of the paths inside the root.

    `own` are paths inside the root that are passed over, as kernel file systems are. `known` is the sorted listing of
    an earlier scan: where the status is still the same, digests and extended attributes come from there. `digest` adds
    the SHA-256 of every file. What cannot be read is appended to `skipped`. Raises OSError where `root` is no folder.
    """
    earlier = _Earlier(known)
    with (
        contextlib.closing(Examiner(root, skipped, digest=digest)) as examiner,
        contextlib.closing(_Readings(examiner)) as readings,
    ):

        def found() -> Iterator[FileEntry | _Reading]:
            for seen in walk(root, rules, own, skipped):
                bare = examiner.bare(seen)
                if bare is None:
                    continue
                if entry := earlier.completed(bare, digest=digest):
                    yield entry
                else:
                    yield readings.begin(bare, seen) if digest and is_large(bare) else examiner.completed(bare, seen)

        for item in read_in_turn(found(), lambda item: isinstance(item, _Reading)):
            yield readings.completed(item) if isinstance(item, _Reading) else item


def read_names(root: bytes) -> NameTable:
    """Read the account files below `root`, never following a link; absent files name nobody."""
    return NameTable(_names(root, b"passwd"), _names(root, b"group"))


def _names(root: bytes, file: bytes) -> dict[int, bytes]:
    names: dict[int, bytes] = {}
    for line in _read(root, file).split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 3 and fields[0] and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0])
    return names


def _read(root: bytes, file: bytes) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            for name, more in ((root, os.O_DIRECTORY), (b"etc", os.O_DIRECTORY)):
                follow = flags if folder is not None else flags & ~os.O_NOFOLLOW
                folder = os.open(name, follow | more, dir_fd=folder)
                stack.callback(os.close, folder)
            with open(os.open(file, flags, dir_fd=folder), "rb") as stream:
                return stream.read()
        except OSError:
            return b""


class _Earlier:
    """The listing of an earlier scan, read along with the present one."""

    def __init__(self, known: Iterable[FileEntry]) -> None:
        self._known = iter(known)
        self._next = next(self._known, None)

    def completed(self, bare: FileEntry, *, digest: bool) -> FileEntry | None:
        """Give `bare` with what the earlier scan knew of it; None where it knew another file, or not enough."""
        while self._next is not None and self._next.path < bare.path:
            self._next = next(self._known, None)
        known = self._next
        if known is None or known.path != bare.path or known.xattrs is None:
            return None
        if bare[_UP_TO_NAMES] != known[_UP_TO_NAMES] or bare[_STATUS] != known[_STATUS]:
            return None
        if digest and known.kind == "file" and known.sha256 is None:
            return None
        return bare._replace(sha256=known.sha256, md5=known.md5, xattrs=known.xattrs)


class Examiner:
    """Turns a status into an entry. To be closed after use."""

    def __init__(self, root: bytes, skipped: SkippedItems, *, digest: bool) -> None:
        self._names = read_names(root)
        self._skipped = skipped
        self._digest = digest
        self._home = os.open(".", os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._home)

    def bare(self, seen: Seen) -> FileEntry | None:
        """Give what the status says; None for a socket, or where a link vanished."""
        path, status, folder, name = seen
        kind = kind_of_mode(status.st_mode)
        if kind == "socket":
            return None
        link = None
        if kind == "link":
            try:
                link = os.readlink(name, dir_fd=folder)
            except OSError as exc:
                self._skip(path, exc)
                return None
        return self._entry(path, kind, status, link)

    def completed(self, bare: FileEntry, seen: Seen, digest: Digest | None = None) -> FileEntry:
        """Add what must be read: extended attributes and the digest, unless that was made already."""
        path, status, folder, name = seen
        entry = bare
        if self._digest and bare.kind == "file":
            try:
                sha256, status = digest() if digest else digest_with_status(name, "sha256", folder)
                entry = self._entry(path, "file", status, None)._replace(sha256=sha256)
            except OSError as exc:
                self._skip(path, exc)
        return entry._replace(xattrs=self.xattrs(seen))

    def _entry(self, path: bytes, kind: str, status: os.stat_result, link: bytes | None) -> FileEntry:
        is_file = kind == "file"
        size = status.st_size
        return FileEntry(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            self._names.users.get(status.st_uid),
            self._names.groups.get(status.st_gid),
            size if is_file else None,
            status.st_mtime_ns,
            status.st_ctime_ns,
            link,
            (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("block", "char") else None,
            status.st_dev,
            status.st_ino,
            None if kind == "dir" else status.st_nlink,
            sparse=is_file and status.st_blocks * 512 < size,
        )

    def xattrs(self, seen: Seen) -> tuple[tuple[bytes, bytes], ...] | None:
        """Read the extended attributes, sorted; None where they cannot be read.

        listxattr(2) takes no folder's descriptor, so we go there and back: a way through /proc costs twice the time.
        """
        path, _, folder, name = seen
        try:
            os.fchdir(folder)
            names = os.listxattr(name, follow_symlinks=False)
            return tuple(sorted(self._values(name, names))) if names else ()
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                return ()
            self._skip(path, exc)
            return None
        finally:
            os.fchdir(self._home)

    @staticmethod
    def _values(file: bytes, names: list[str]) -> Iterator[tuple[bytes, bytes]]:
        for name in filter(is_carried, map(os.fsencode, names)):
            try:
                yield name, os.getxattr(file, name, follow_symlinks=False)
            except OSError as exc:
                if exc.errno != errno.ENODATA:  # else it was taken away just now
                    raise

    def _skip(self, path: bytes, exc: OSError) -> None:
        reason = "vanished while being looked at" if exc.errno == errno.ENOENT else exc.strerror or str(exc)
        self._skipped.append(Skipped(path, reason))


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file whose digest is being made. The folder in `seen` is a descriptor of its own."""

    bare: FileEntry
    seen: Seen
    digest: Future[tuple[str, os.stat_result]]


class _Readings:
    """Files that are read in other threads; close it when done."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._reader = Reader()
        self._folders: set[int] = set()

    def begin(self, bare: FileEntry, seen: Seen) -> _Reading:
        path, status, folder, name = seen
        own = os.dup(folder)
        self._folders.add(own)
        digest = self._reader.begin(digest_with_status, name, "sha256", own, self._reader.check)
        return _Reading(bare, (path, status, own, name), digest)

    def completed(self, reading: _Reading) -> FileEntry:
        entry = self._examiner.completed(reading.bare, reading.seen, reading.digest.result)
        own = reading.seen[2]
        self._folders.remove(own)
        os.close(own)
        return entry

    def close(self) -> None:
        self._reader.close()
        for own in self._folders:
            os.close(own)
