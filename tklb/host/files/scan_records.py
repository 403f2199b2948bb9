"""Scan a tree straight into the records of a listing.

Gives the same text as format_entry() for the entries of scan(), several times as fast: it builds no entry for a plain
file. Arguments, reads and skipped items are those of scan().
"""

import stat
from collections.abc import Iterable, Iterator

from tklb.diff.keywords import BILLION, escape, write_xattr
from tklb.diff.listing import Record
from tklb.diff.mtree import EXTRA, format_entry
from tklb.diff.rules import Rules
from tklb.host.files.scan import EntryReader
from tklb.host.files.walk import Seen, walk
from tklb.model.report import SkippedItems

_EXTRA = EXTRA.decode()
_ENDS = b" \n"


def scan_records(
    root: bytes,
    rules: Rules,
    *,
    skipped: SkippedItems,
    known: Iterable[Record] = (),
    own: tuple[bytes, ...] = (),
    digest: bool = False,
) -> Iterator[Record]:
    """Give the records of all entries below `root` that `rules` include. The arguments are those of scan()."""
    earlier = _EarlierRecords(known, digest=digest)
    reader = EntryReader(root, skipped, digest=digest)
    stems = _StemWriter(reader)
    for seen in walk(root, rules, own, skipped):
        stem = stems.write(seen)
        if stem is not None:
            path = seen[0]
            yield path, earlier.record(path, stem) or _complete_record(stem, seen, reader, digest=digest)


def _complete_record(stem: bytes, seen: Seen, reader: EntryReader, *, digest: bool) -> bytes:
    """Add what must be read."""
    if digest and stat.S_ISREG(seen[1].st_mode):
        bare = reader.read_status(seen)
        assert bare is not None
        return format_entry(reader.complete(bare, seen))
    xattrs = reader.xattrs(seen)
    if xattrs == ():
        return stem + b" xattr=none\n"
    return b" ".join([stem, *(write_xattr(name, value) for name, value in xattrs or ())]) + b"\n"


class _StemWriter:
    """Writes the start of a record from a status alone: up to the extended attributes, without digests."""

    def __init__(self, reader: EntryReader) -> None:
        self._reader = reader
        self._folder = self._escaped = b""
        self._owners: dict[tuple[int, int, int], bytes] = {}

    def write(self, seen: Seen) -> bytes | None:
        """Give the stem; None for an object that has no record."""
        path, status = seen[:2]
        mode, inode, device, links, uid, gid, size = status[:7]
        changed, altered = status.st_mtime_ns, status.st_ctime_ns
        if not stat.S_ISREG(mode) or status.st_blocks * 512 < size or changed < BILLION or altered < BILLION:
            bare = self._reader.read_status(seen)
            return None if bare is None else format_entry(bare)[:-1]
        end = path.rindex(b"/") + 1
        folder, name = path[:end], path[end:]
        if folder != self._folder:
            self._folder, self._escaped = folder, b"." + escape(folder)
        owner = self._owners.get((mode, uid, gid)) or self._owner((mode, uid, gid), seen)
        time, extra_time = str(changed), str(altered)
        words = (
            f"{size} time={time[:-9]}.{time[-9:]} nlink={links}\n"
            f"{_EXTRA} ctime={extra_time[:-9]}.{extra_time[-9:]} dev={device} inode={inode}"
        )
        return self._escaped + escape(name) + owner + words.encode()

    def _owner(self, key: tuple[int, int, int], seen: Seen) -> bytes:
        """Give the words that all files with this mode and these owners share, up to the size."""
        bare = self._reader.read_status(seen)
        assert bare is not None
        record = format_entry(bare)
        end = record.index(b" size=") + len(b" size=")
        self._owners[key] = record[record.index(b" type=") : end]
        return self._owners[key]


class _EarlierRecords:
    """The records of an earlier scan, read in step with the present one."""

    def __init__(self, known: Iterable[Record], *, digest: bool) -> None:
        self._known = iter(known)
        self._path, self._raw = next(self._known, (b"", b""))
        self._wanted = b" sha256digest=" if digest else b""

    def record(self, path: bytes, stem: bytes) -> bytes | None:
        """Give the earlier record of `path` if the status is the same and nothing that is wanted is missing."""
        while self._path < path and self._raw:
            self._path, self._raw = next(self._known, (b"", b""))
        raw = self._raw
        if self._path != path or b" xattr" not in raw:
            return None
        if raw.startswith(stem) and not self._wanted:
            return raw if raw[len(stem)] in _ENDS else None
        return raw if self._has_stem(raw, stem) else None

    def _has_stem(self, raw: bytes, stem: bytes) -> bool:
        """Compare without the digests, which are at the end of the first line."""
        head, _, tail = stem.partition(b"\n")
        line, _, extra = raw.partition(b"\n")
        digests = line[len(head) :]
        if b" type=file " in head and self._wanted not in digests:
            return False
        same_line = line.startswith(head) and (not digests or digests.startswith((b" sha256digest=", b" md5digest=")))
        return same_line and extra.startswith(tail) and extra[len(tail)] in _ENDS
