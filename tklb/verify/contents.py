"""A decoded snapshot held against its own records: is what would come back what was taken?

Takes the folders of a decoded snapshot; gives the paths that are not as the manifest says, and why. What the record
itself says was missed or changed under the reader is no finding. Reads those folders and touches nothing else.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tklb.base.fs import kind_of_mode
from tklb.model.files import FileEntry
from tklb.model.snapshot import LedgerEntry
from tklb.snapshot import metadata


@dataclass(frozen=True, slots=True)
class FileDifference:
    path: bytes
    reason: str


def check_contents(folders: Sequence[Path], copies: Path, record: LedgerEntry) -> Iterator[FileDifference]:
    """Everything in a decoded snapshot that is not as its records say.

    `folders` are the shards, `copies` holds the SQLite databases that travelled as copies (flow/dumps.py). Raises
    TargetDamaged, ValueError where the records cannot be read.
    """
    records = folders[0] / record.stage
    if metadata.digest(records) != record.content_digest:
        yield FileDifference(os.fsencode(f"/{record.stage}"), "the records are not those that were sealed")
    contents = metadata.read(records)
    tops = [os.fsencode(folder) for folder in (*folders, copies)]
    missed = {skipped.item for skipped in record.skipped}
    amended = dict(record.amended)
    copied = {path for path, _ in contents.copies}
    for entry in metadata.read_manifest(records):
        if entry.path not in missed or entry.path in amended:
            yield from _compared(tops, _expected(entry, amended, entry.path in copied))
    stages = [os.path.join(top, os.fsencode(record.stage)) for top in tops[:-1]]
    moved = {f"/{metadata.DUMPS}/sqlite/{name}".encode() for _, name in contents.copies}
    for entry in metadata.read_manifest(records, metadata.DUMPS_LISTING):
        if entry.path not in moved:
            named = (
                FileDifference(os.fsencode(f"/{record.stage}") + found.path, found.reason)
                for found in _compared(stages, entry)
            )
            yield from named


def _expected(entry: FileEntry, amended: Mapping[bytes, str], is_copy: bool) -> FileEntry:
    """What the snapshot has: of a file that changed under the reader its content alone is known."""
    if entry.path in amended:
        return FileEntry(entry.path, entry.kind, sha256=amended[entry.path])
    return entry._replace(mode=None) if is_copy else entry


def _compared(tops: Sequence[bytes], entry: FileEntry) -> Iterator[FileDifference]:
    path = next((path for top in tops if os.path.lexists(path := top + entry.path)), None)
    if path is None:
        yield FileDifference(entry.path, "it is missing")
    elif reason := _difference(path, os.lstat(path), entry):
        yield FileDifference(entry.path, reason)


def _difference(path: bytes, status: os.stat_result, entry: FileEntry) -> str:
    kind = kind_of_mode(status.st_mode)
    if kind != entry.kind:
        return f"it is a {kind}, not a {entry.kind}"
    if kind == "link":
        return "" if entry.link is None or os.readlink(path) == entry.link else "it points somewhere else"
    if entry.mode is not None and stat.S_IMODE(status.st_mode) != entry.mode:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o}, not {entry.mode:04o}"
    if kind != "file":
        return ""
    if entry.size is not None and status.st_size != entry.size:
        return f"it has {status.st_size} bytes, not {entry.size}"
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        same = entry.sha256 is None or hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
    return "" if same else "its content is another"
