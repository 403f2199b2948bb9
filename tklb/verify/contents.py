"""Compare a decoded snapshot with its own metadata: would a restore bring back the files of the backup?

Takes the folders of a decoded snapshot; gives the paths that are not as the manifest says, and why. Files that the
ledger entry itself names as skipped or changed are no difference. Reads those folders and touches nothing else.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tklb.base.fs import file_sha256, kind_of_mode
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.snapshot import LedgerEntry
from tklb.snapshot import metadata


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A path of a decoded snapshot that is not as the manifest says."""

    path: bytes
    reason: str


def check_contents(folders: Sequence[Path], copies: Path, entry: LedgerEntry) -> Iterator[FileDifference]:
    """Give every difference between a decoded snapshot and its metadata.

    `folders` are the shards, `copies` holds the copies of SQLite databases (restore/dumps.py). Raises TargetDamaged,
    ValueError where the metadata cannot be read.
    """
    folder = folders[0] / entry.stage
    if metadata.digest(folder) != entry.content_digest:
        yield FileDifference(os.fsencode(f"/{entry.stage}"), "the metadata is not what was sealed")
    tops = [os.fsencode(top) for top in (*folders, copies)]
    copied = metadata.read(folder).copies
    yield from _compare_files(tops, folder, entry, frozenset(path for path, _ in copied))
    yield from _compare_dumps(tops[:-1], folder, entry, frozenset(name for _, name in copied))


def _compare_files(
    tops: Sequence[bytes], folder: Path, entry: LedgerEntry, copied: frozenset[bytes]
) -> Iterator[FileDifference]:
    skipped = {item.item for item in entry.skipped}
    changed = dict(entry.changed_while_read)
    for file in metadata.read_manifest(folder):
        if file.path not in skipped or file.path in changed:
            yield from _compare(tops, _expect(file, changed, file.path in copied))


def _compare_dumps(
    tops: Sequence[bytes], folder: Path, entry: LedgerEntry, copied: frozenset[str]
) -> Iterator[FileDifference]:
    below = [os.path.join(top, os.fsencode(entry.stage)) for top in tops]
    elsewhere = {f"/{metadata.DUMPS}/sqlite/{name}".encode() for name in copied}
    dumps = (file for file in metadata.read_manifest(folder, metadata.DUMPS_LISTING) if file.path not in elsewhere)
    found = (difference for file in dumps for difference in _compare(below, file))
    yield from (FileDifference(os.fsencode(f"/{entry.stage}") + one.path, one.reason) for one in found)


def _expect(file: FileEntry, changed: Mapping[bytes, str], is_copy: bool) -> FileEntry:
    """The file as the snapshot has it: of a file that changed while it was read, only the content is known."""
    if file.path in changed:
        return FileEntry(file.path, file.kind, sha256=changed[file.path])
    return file._replace(mode=None) if is_copy else file


def _compare(tops: Sequence[bytes], file: FileEntry) -> Iterator[FileDifference]:
    path = next((path for top in tops if os.path.lexists(path := top + file.path)), None)
    if path is None:
        yield FileDifference(file.path, "it is missing")
    elif reason := _describe_difference(path, os.lstat(path), file):
        yield FileDifference(file.path, reason)


def _describe_difference(path: bytes, status: os.stat_result, file: FileEntry) -> str:
    kind = kind_of_mode(status.st_mode)
    if kind != file.kind:
        return f"it is a {kind}, not a {file.kind}"
    if kind == "link":
        return "" if file.link is None or os.readlink(path) == file.link else "it points somewhere else"
    if file.mode is not None and stat.S_IMODE(status.st_mode) != file.mode:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o}, not {file.mode:04o}"
    if kind != "file":
        return ""
    if file.size is not None and status.st_size != file.size:
        return f"it has {status.st_size} bytes, not {file.size}"
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        is_same = file.sha256 is None or file_sha256(stream) == file.sha256
    return "" if is_same else "its content differs"
