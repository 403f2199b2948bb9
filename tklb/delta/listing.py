"""Listings as raw records: compared as text, and read as entries only where the text differs. Pure.

A million unchanged files cost a million comparisons of bytes. A record is the one or two lines of an entry, just as
mtree.format_entry() writes them.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from tklb.delta.files import changes_of_pair, merge
from tklb.delta.mtree import EXTRA, HEADER, format_entry, format_parent, is_parent, parse, unescape
from tklb.model import FileChange, FileEntry, Skipped

_STARTS = (b"./", b". ")
Record = tuple[bytes, bytes]  # path; raw lines


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Give the records of a listing, in its own order. Raises ValueError where a line is none of mtree(5)."""
    lines = iter(lines)
    path, raw = b"", b""
    for line in lines:
        if line.startswith(_STARTS):
            if raw and not is_parent(raw):
                yield path, raw
            raw, path = line, line[1 : line.find(b" ")] or b"/"
            if b"\\" in path:
                path = unescape(path)
        elif line.startswith(b"#"):
            raw += line if raw and line.startswith(EXTRA) else b""
        else:  # not written by us: leave it, and what it may continue, to the parser
            yield from map(record_of, parse(itertools.chain((raw, line), lines)))
            return
    if raw and not is_parent(raw):
        yield path, raw


def listing(of: Iterable[Record]) -> Iterator[bytes]:
    """Give the text of a listing, from sorted records.

    mtree(8) wants every folder above an entry named before it, so folders that are no entries get a line of their own,
    which records() and parse() leave out again.
    """
    yield HEADER
    named: set[bytes] = set()
    last = b"none"
    for path, raw in of:
        folder = path[: path.rfind(b"/")]
        if folder != last:
            named = {name for name in named if path.startswith(name)}  # no other can hold what is still to come
            yield from map(format_parent, _unnamed(path, named))
            last = folder
        if b" type=dir" in raw:
            named.add(path)
        yield raw


def _unnamed(path: bytes, named: set[bytes]) -> Iterator[bytes]:
    """Give the folders above `path` that are not in `named`, and add them."""
    end = 0
    while end >= 0 and path != b"/":
        folder = path[:end] or b"/"
        if folder not in named:
            named.add(folder)
            yield folder
        end = path.find(b"/", end + 1)


def record_of(entry: FileEntry) -> Record:
    return entry.path, format_entry(entry)


def entry_of(record: Record) -> FileEntry:
    """Read one record. Raises ValueError."""
    entry = next(parse(record[1].splitlines(keepends=True)), None)
    if entry is None or entry.path != record[0]:
        raise ValueError(f"not a record: {record[1][:80]!r}")
    return entry


def compare_records(
    base: Iterable[Record], now: Iterable[Record], unseen: Sequence[Skipped] = ()
) -> Iterator[FileChange]:
    """Do as files.compare() does, without digests of its own."""
    for old, new in merge(base, now):
        if old is None or new is None or old[1] != new[1]:
            yield from changes_of_pair(old and entry_of(old), new and entry_of(new), None, unseen)


def compare_listings(base: BinaryIO, now: BinaryIO) -> Iterator[FileChange]:
    """Compare two listings, sorted by path. Ours are sorted and are streamed; any other is read whole and sorted.

    Raises ValueError where one is no listing.
    """
    return compare_records(_sorted_records(base), _sorted_records(now))


def _sorted_records(stream: BinaryIO) -> Iterator[Record]:
    first = stream.readline()
    if first == HEADER:
        return records(stream)
    return map(record_of, sorted(parse(itertools.chain((first,), stream)), key=lambda entry: entry.path))
