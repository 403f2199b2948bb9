"""Scan a tree: give every path that the rules include as a sorted entry with its metadata.

Takes a root, rules and perhaps the listing of an earlier scan. Reads statuses, names of owners, link targets and
extended attributes, and contents where a digest is wanted; changes nothing. A path that cannot be read is skipped and
reported; it never ends the scan.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from tklb.base.fs import kind_of_mode
from tklb.diff.attributes.xattrs import is_carried
from tklb.diff.path_names import is_message
from tklb.diff.rules import Rules
from tklb.errors import AccessRefused, printable
from tklb.host.files.digest import digest_with_status
from tklb.host.files.flags import FlagReader
from tklb.host.files.handles.read_limits import ReadLimits, may_be_mostly_holes, open_to_read
from tklb.host.files.openat import descriptor_path
from tklb.host.files.readahead import BackgroundReader, is_large, read_in_turn
from tklb.host.files.walk import Seen, open_moved_message, walk
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems

_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
Digest = Callable[[], tuple[str, os.stat_result]]
# Fields of an entry that come from its status; the names of owners are only looked up.
_UP_TO_NAMES = slice(FileEntry._fields.index("uname"))
_STATUS = slice(FileEntry._fields.index("size"), FileEntry._fields.index("sha256"))


@dataclass(frozen=True, slots=True)
class OwnerNames:
    """Names by id, from the account files of the scanned root. The first name of an id counts, as in getpwuid(3)."""

    users: dict[int, bytes]
    groups: dict[int, bytes]


def scan(
    root: bytes,
    rules: Rules,
    *,
    skipped: SkippedItems,
    known: Iterable[FileEntry] = (),
    own: tuple[bytes, ...] = (),
    barred: frozenset[tuple[int, int]] = frozenset(),
    digest: bool = False,
) -> Iterator[FileEntry]:
    """Give all entries below `root` that `rules` include, in plain byte order of the paths inside the root.

    `own` are paths inside the root to leave out, `barred` are devices and inodes to leave out under any path. Kernel
    file systems are always left out. `known` is the sorted listing of an earlier scan: where the status is the same,
    digests and extended attributes come from there. `digest` adds the SHA-256 of every file. `skipped` collects what
    cannot be read. Raises OSError if `root` is no folder.
    """
    earlier = _EarlierScan(known)
    reader = EntryReader(root, skipped, digest=digest)
    with contextlib.closing(_PendingEntries(reader)) as pending:

        def read_entries() -> Iterator[FileEntry | _PendingEntry]:
            for seen in walk(root, rules, own, skipped, barred):
                bare = reader.read_status(seen)
                if bare is None or not reader.may_read(bare, seen):
                    continue
                if entry := earlier.complete(bare, digest=digest):
                    yield entry
                else:
                    yield pending.start(bare, seen) if digest and is_large(bare) else reader.complete(bare, seen)

        for item in read_in_turn(read_entries(), lambda item: isinstance(item, _PendingEntry)):
            yield pending.finish(item) if isinstance(item, _PendingEntry) else item


def read_owner_names(root: bytes) -> OwnerNames:
    """Read the account files below `root`, and follow no link. A missing file names nobody."""
    return OwnerNames(_names(root, b"passwd"), _names(root, b"group"))


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
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as exc:
            if exc.errno == errno.ELOOP:  # a link there could be anybody's
                return b""
            raise AccessRefused(address=printable(b"/etc/" + file), reason=exc.strerror) from exc


class _EarlierScan:
    """The listing of an earlier scan, read in step with the present one."""

    def __init__(self, known: Iterable[FileEntry]) -> None:
        self._known = iter(known)
        self._next = next(self._known, None)

    def complete(self, bare: FileEntry, *, digest: bool) -> FileEntry | None:
        """Add what the earlier scan read of the same file; None if the file has changed or something is missing."""
        while self._next is not None and self._next.path < bare.path:
            self._next = next(self._known, None)
        known = self._next
        if known is None or known.path != bare.path or known.xattrs is None:
            return None
        if bare[_UP_TO_NAMES] != known[_UP_TO_NAMES] or bare[_STATUS] != known[_STATUS]:
            return None
        if digest and known.kind == "file" and known.sha256 is None:
            return None
        return bare._replace(sha256=known.sha256, md5=known.md5, xattrs=known.xattrs, flags=known.flags)


class EntryReader:
    """Reads entries."""

    def __init__(self, root: bytes, skipped: SkippedItems, *, digest: bool) -> None:
        self._names = read_owner_names(root)
        self._skipped = skipped
        self._digest = digest
        self._flags = FlagReader()
        self.limits = ReadLimits()

    def read_status(self, seen: Seen) -> FileEntry | None:
        """Make an entry of a status alone; None for a socket, or for a link that vanished."""
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

    def may_read(self, bare: FileEntry, seen: Seen) -> bool:
        """Whether the limits of the run allow the file. One with too many holes is skipped, even if it is known."""
        path, status, folder, name = seen
        if not (self._digest and bare.sparse and may_be_mostly_holes(status)):
            return True
        try:
            descriptor = open_to_read(name, folder)
        except OSError:
            return True  # reading it names the reason
        try:
            self.limits.admit(descriptor)
        except OSError as exc:
            self._skip(path, exc)
            return False
        finally:
            os.close(descriptor)
        return True

    def complete(self, bare: FileEntry, seen: Seen, digest: Digest | None = None) -> FileEntry:
        """Add what must be read: extended attributes, flags, and the digest unless `digest` gives it."""
        path, status, folder, name = seen
        entry = bare
        if self._digest and bare.kind == "file":
            try:
                sha256, status = digest() if digest else self.digest(name, folder)
                entry = self._entry(path, "file", status, None)._replace(sha256=sha256)
            except FileNotFoundError as exc:
                return self._complete_moved(bare, seen, exc)
            except OSError as exc:
                self._skip(path, exc)
        try:
            with _hold(folder, name, status) as handle:
                return self._complete_held(entry, handle)
        except OSError as exc:
            self._skip(path, exc)
            return entry

    def digest(
        self, name: bytes, folder: int, check: Callable[[], object] = lambda: None
    ) -> tuple[str, os.stat_result]:
        return digest_with_status(name, "sha256", folder, check, self.limits)

    def _complete_held(self, entry: FileEntry, handle: int) -> FileEntry:
        link = os.readlink(b"", dir_fd=handle) if entry.kind == "link" else None
        flags = self._flags.read(handle, b"") if entry.kind in ("file", "dir") else None
        return entry._replace(link=link, xattrs=_read_xattrs(handle), flags=flags)

    def _complete_moved(self, bare: FileEntry, seen: Seen, exc: OSError) -> FileEntry:
        """Read a mail message where it is now; skip any other file that vanished."""
        path, status, folder, name = seen
        if is_message(path):
            with open_moved_message(folder, name) as found:
                if found and found != (folder, name):
                    return self.complete(bare, (path, status, *found))
        self._skip(path, exc)
        return bare

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
        """Read the extended attributes, sorted; None where they cannot be read."""
        path, status, folder, name = seen
        try:
            with _hold(folder, name, status) as handle:
                return _read_xattrs(handle)
        except OSError as exc:
            self._skip(path, exc)
            return None

    def _skip(self, path: bytes, exc: OSError) -> None:
        reason = "vanished while tklb read it" if exc.errno == errno.ENOENT else exc.strerror or str(exc)
        self._skipped.append(Skipped(path, reason))


@contextlib.contextmanager
def _hold(folder: int, name: bytes, status: os.stat_result) -> Iterator[int]:
    """Give a descriptor of the object of that status. Raises OSError if another one has its name now.

    A user could give the attributes of one object to the content of another by two renames.
    """
    handle = os.open(name, _HANDLE, dir_fd=folder)
    try:
        if _rights(os.fstat(handle)) != _rights(status):
            raise OSError(errno.ESTALE, "another object took its place while tklb read it")
        yield handle
    finally:
        os.close(handle)


def _rights(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid


def _read_xattrs(handle: int) -> tuple[tuple[bytes, bytes], ...]:
    path = descriptor_path(handle)
    try:
        names = os.listxattr(path)
    except OSError as exc:
        if exc.errno == errno.EOPNOTSUPP:
            return ()
        raise
    found = ((name, _read_xattr(path, name)) for name in map(os.fsencode, names) if is_carried(name))
    return tuple(sorted((name, value) for name, value in found if value is not None)) if names else ()


def _read_xattr(file: bytes, name: bytes) -> bytes | None:
    try:
        return os.getxattr(file, name)
    except OSError as exc:
        if exc.errno == errno.ENODATA:  # it was removed just now
            return None
        raise


@dataclass(frozen=True, slots=True)
class _PendingEntry:
    """A file that another thread hashes. The folder in `seen` is a descriptor of its own."""

    bare: FileEntry
    seen: Seen
    digest: Future[tuple[str, os.stat_result]]


class _PendingEntries:
    """Files that other threads hash. Close it when done."""

    def __init__(self, reader: EntryReader) -> None:
        self._entries = reader
        self._reader = BackgroundReader()
        self._folders: set[int] = set()

    def start(self, bare: FileEntry, seen: Seen) -> _PendingEntry:
        path, status, folder, name = seen
        own = os.dup(folder)
        self._folders.add(own)
        digest = self._reader.start(self._entries.digest, name, own, self._reader.check)
        return _PendingEntry(bare, (path, status, own, name), digest)

    def finish(self, pending: _PendingEntry) -> FileEntry:
        entry = self._entries.complete(pending.bare, pending.seen, pending.digest.result)
        own = pending.seen[2]
        self._folders.remove(own)
        os.close(own)
        return entry

    def close(self) -> None:
        self._reader.close()
        for own in self._folders:
            os.close(own)
