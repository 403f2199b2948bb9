"""Listings as raw records: compared as text, and read as entries only where the text differs. Pure.

A record is the one or two lines of an entry, just as mtree.format_entry() writes them. A listing of ours starts with
HEADER and then has nothing but records, sorted by path, so a million unchanged files cost a million comparisons of
bytes. Any other listing is read line by line.
"""

import itertools
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import BinaryIO

from tklb.diff.files import compare_pair, pair_by_path
from tklb.diff.mtree import HEADER, PARENT, format_entry, format_parent, parse, unescape
from tklb.model.files import FileChange, FileEntry
from tklb.model.report import Skipped

Record = tuple[bytes, bytes]  # path; raw lines
_STARTS = (b"./", b". ")
_BLOCK = 1 << 18


def format_listing(of: Iterable[Record]) -> Iterator[bytes]:
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


def read_records(stream: BinaryIO) -> Iterator[Record]:
    """Give the records of a listing, sorted by path. Raises ValueError where it is none."""
    for piece in _read_pieces(stream):
        yield _path_of(piece), b"." + piece + b"\n"


def record_of(entry: FileEntry) -> Record:
    return entry.path, format_entry(entry)


def has_word(raw: bytes, word: bytes) -> bool:
    """Whether one of the words of a record is `word`, `type=file` for one."""
    return word in raw.split()


def size_in(raw: bytes) -> int:
    """The size that a record tells of, in bytes; 0 where it tells none. Raises ValueError."""
    found = (word for word in raw.split() if word.startswith(b"size="))
    return int(next(found, b"size=0")[len(b"size=") :])


def entry_of(record: Record) -> FileEntry:
    """Read one record. Raises ValueError."""
    lines = record[1].splitlines(keepends=True)
    entry = next(parse(lines), None)
    if entry is None or entry.path != record[0] or not all(line.startswith(b"#") for line in lines[1:]):
        raise ValueError(f"not a record of a sorted listing: {record[1][:200]!r}")
    return entry


def compare_records(
    base: Iterable[Record], now: Iterable[Record], unseen: Iterable[Skipped] = ()
) -> Iterator[FileChange]:
    """Do as files.compare() does, without digests of its own."""
    for old, new in pair_by_path(base, now, itemgetter(0)):
        yield from compare_pair(old and entry_of(old), new and entry_of(new), None, unseen)


def compare_listings(base: BinaryIO, now: BinaryIO) -> Iterator[FileChange]:
    """Compare two listings, sorted by path. Raises ValueError where one is no listing, or ours and not sorted."""
    for old, new in pair_by_path(_read_pieces(base), _read_pieces(now), _path_of):
        yield from compare_pair(_entry_of(old), _entry_of(new), None, ())


def _read_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Give the records of a listing, sorted by path, without the dot they start with and the newline at their end.

    A listing with our HEADER is sorted, and streamed; one that goes on with a record has nothing but records. Any
    other is read whole.
    """
    first, second = stream.readline(), stream.readline()
    if first == HEADER and (not second or second.startswith(_STARTS)):
        return _split_records(second, stream)
    entries = parse(itertools.chain((first, second), stream))
    if first != HEADER:
        entries = iter(sorted(entries, key=itemgetter(0)))
    return (format_entry(entry)[1:-1] for entry in entries)


def _split_records(start: bytes, stream: BinaryIO) -> Iterator[bytes]:
    rest, block = b"\n" + start, b"more"
    while block:
        block = stream.read(_BLOCK)
        *pieces, rest = (rest + block).split(b"\n.")
        for piece in pieces if block else (*pieces, rest.rstrip(b"\n")):
            if piece and not piece.endswith(PARENT):
                yield piece


def _path_of(piece: bytes) -> bytes:
    path = piece[: piece.find(b" ")]
    return (unescape(path) if b"\\" in path else path) or b"/"


def _entry_of(piece: bytes | None) -> FileEntry | None:
    return None if piece is None else entry_of((_path_of(piece), b"." + piece + b"\n"))
