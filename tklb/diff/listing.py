"""Listings as raw records: compared as text, and read as entries only where the text differs. Pure.

A record is the one or two lines of an entry, as mtree.format_entry() writes them. A listing of tklb starts with HEADER
and has only records after it, sorted by path. So a million unchanged files cost a million comparisons of bytes. Any
other listing is read line by line.
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


def format_listing(entries: Iterable[Record]) -> Iterator[bytes]:
    """Give the text of a listing, from sorted records.

    mtree(8) wants a line for every folder above an entry. So folders that are no entries get lines of their own, which
    read_records() and parse() leave out.
    """
    yield HEADER
    named: set[bytes] = set()
    last = b"none"
    for path, raw in entries:
        folder = path[: path.rfind(b"/")]
        if folder != last:
            named = {name for name in named if path.startswith(name)}  # the others hold nothing that is still to come
            missing = [name for name in _folders_above(path) if name not in named]
            named.update(missing)
            yield from map(format_parent, missing)
            last = folder
        if b" type=dir" in raw:
            named.add(path)
        yield raw


def _folders_above(path: bytes) -> Iterator[bytes]:
    end = 0
    while end >= 0 and path != b"/":
        yield path[:end] or b"/"
        end = path.find(b"/", end + 1)


def read_records(stream: BinaryIO) -> Iterator[Record]:
    """Give the records of a listing, sorted by path. Raises ValueError if it is no listing."""
    for piece in _read_pieces(stream):
        yield _path_of(piece), b"." + piece + b"\n"


def has_word(raw: bytes, word: bytes) -> bool:
    """Whether a record has `word`, such as `type=file`."""
    return word in raw.split()


def size_in(raw: bytes) -> int:
    """Give the size in a record, in bytes; 0 if it has none. Raises ValueError."""
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
    """Do as files.compare(), but read no file."""
    for old, new in pair_by_path(base, now, itemgetter(0)):
        yield from compare_pair(old and entry_of(old), new and entry_of(new), None, unseen)


def compare_listings(base: BinaryIO, now: BinaryIO) -> Iterator[FileChange]:
    """Compare two listings. Raises ValueError if one is no listing, or one of tklb and not sorted."""
    for old, new in pair_by_path(_read_pieces(base), _read_pieces(now), _path_of):
        yield from compare_pair(_entry_of(old), _entry_of(new), None, ())


def _read_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Give the records of a listing, sorted by path, without the dot at their start and the newline at their end.

    A listing with our HEADER is sorted, so it streams; if a record follows, it has only records. Any other listing is
    read whole.
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
        found = pieces if block else (*pieces, rest.rstrip(b"\n"))
        yield from (piece for piece in found if piece and not piece.endswith(PARENT))


def _path_of(piece: bytes) -> bytes:
    path = piece[: piece.find(b" ")]
    return (unescape(path) if b"\\" in path else path) or b"/"


def _entry_of(piece: bytes | None) -> FileEntry | None:
    return None if piece is None else entry_of((_path_of(piece), b"." + piece + b"\n"))
