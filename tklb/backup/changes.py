"""Compare the metadata of the new snapshot with that of the last one, and list the files that the engine must read."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from tklb.base.fs import report_full_disk
from tklb.base.measure import format_size
from tklb.diff.listing import compare_records, read_records, size_in
from tklb.lazy_dataclass import dataclass
from tklb.model.files import Change, FileChange
from tklb.snapshot import metadata

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference from the last snapshot, in numbers.

    `edited` is a file that lists, NUL-separated, the files whose content differs, and all files of the metadata.
    """

    edited: Path
    changed: int = 0
    metadata: int = 0
    deleted: int = 0
    size: int = 0  # bytes of the files and dumps whose content differs
    has_other_dumps: bool = False
    has_other_metadata: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.metadata or self.deleted or self.has_other_dumps or self.has_other_metadata)


def compare_with_last(last: Path | None, folder: Path, work: Path, uncertain: frozenset[bytes]) -> Difference:
    """Compare the metadata in `folder` with that of the last snapshot; without a last one, everything is new.

    `uncertain` paths are new too: the last snapshot has other content of them than its metadata says, or none.
    """
    edited = work / "edited"
    with report_full_disk(work), edited.open("xb") as stream:
        difference = _count_all(edited, folder) if last is None else _compare(last, folder, stream, edited, uncertain)
    log.info(
        "compared with the last snapshot: %d changed, %d with other metadata, %d deleted, %s to read",
        difference.changed,
        difference.metadata,
        difference.deleted,
        format_size(difference.size),
    )
    return difference


def _count_all(edited: Path, folder: Path) -> Difference:
    count = size = dumps = 0
    with metadata.open_manifest(folder) as manifest:
        for _, raw in read_records(manifest):
            count += 1
            size += size_in(raw)
    with metadata.open_manifest(folder, metadata.DUMPS_LISTING) as listing:
        for _, raw in read_records(listing):
            dumps += 1
            size += size_in(raw)
    return Difference(edited, changed=count, size=size, has_other_dumps=dumps > 0)


def _compare(last: Path, folder: Path, stream: IO[bytes], edited: Path, uncertain: frozenset[bytes]) -> Difference:
    files, file_size = _note_changes(_compare_files(last, folder, uncertain), b"", stream)
    dumps, dump_size = _note_changes(_compare_dumps(last, folder), os.fsencode(folder), stream)
    # Of two snapshots taken within a second they may have the same size and time, and yet say something else.
    for path in metadata.metadata_files(folder):
        stream.write(os.fsencode(path)[1:] + b"\0")
    return Difference(
        edited,
        changed=files[Change.NEW] + files[Change.EDITED],
        metadata=files[Change.METADATA],
        deleted=files[Change.DELETED],
        size=file_size + dump_size,
        has_other_dumps=dumps.total() > 0,
        has_other_metadata=not metadata.is_same_metadata(last, folder),
    )


def _note_changes(changes: Iterable[FileChange], top: bytes, stream: IO[bytes]) -> tuple[Counter[Change], int]:
    """List the files whose content differs; give the number of changes of each kind, and the bytes to read."""
    counts: Counter[Change] = Counter()
    size = 0
    for change in changes:
        counts[change.change] += 1
        if change.now and change.change in (Change.NEW, Change.EDITED):
            size += change.now.size or 0
            stream.write((top + change.path)[1:] + b"\0")
    return counts, size


def _compare_files(last: Path, folder: Path, uncertain: frozenset[bytes]) -> Iterator[FileChange]:
    with metadata.open_manifest(last) as base, metadata.open_manifest(folder) as now:
        known = (record for record in read_records(base) if record[0] not in uncertain)
        yield from (change for change in compare_records(known, read_records(now)) if not _is_renumbered(change))


def _compare_dumps(last: Path, folder: Path) -> Iterator[FileChange]:
    listing = metadata.DUMPS_LISTING
    with metadata.open_manifest(last, listing) as base, metadata.open_manifest(folder, listing) as now:
        yield from compare_records(read_records(base), read_records(now))


def _is_renumbered(change: FileChange) -> bool:
    """Whether only numbers of the file system differ, as on a copied disk. Hard links are compared elsewhere."""
    base, now = change.base, change.now
    if base is None or now is None:
        return False
    return base == now._replace(dev=base.dev, ino=base.ino, ctime_ns=base.ctime_ns)
