"""What moved since the last snapshot: two manifests merged, and the names whose content the engine takes anew."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tklb.base.fs import report_full_disk
from tklb.diff.listing import compare_records, records, size_in
from tklb.model.files import Change, FileChange
from tklb.snapshot import metadata


@dataclass(slots=True)
class Difference:
    """Counts since the last snapshot; `edited` lists, NUL-separated, the files whose content moved, and all records."""

    edited: Path
    changed: int = 0
    metadata: int = 0
    deleted: int = 0
    size: int = 0  # bytes of the files and dumps whose content moved
    dumps_moved: bool = False
    records_moved: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.metadata or self.deleted or self.dumps_moved or self.records_moved)


def compare_with_last(last: Path | None, stage: Path, work: Path, doubtful: frozenset[bytes]) -> Difference:
    """Compare the stage with the records of the last snapshot; without any, everything is new and is taken unasked.

    `doubtful` paths are new too: the last snapshot has something else of them than its records say, or nothing.
    """
    difference = Difference(edited=work / "edited")
    if last is None:
        with report_full_disk(work):
            difference.edited.touch()
        _count_all(difference, stage)
        return difference
    with (
        report_full_disk(work),
        difference.edited.open("xb") as edited,
        metadata.open_manifest(last) as base,
        metadata.open_manifest(stage) as now,
    ):
        known = (record for record in records(base) if record[0] not in doubtful)
        for change in compare_records(known, records(now)):
            if _is_renumbered(change):
                continue
            _count(difference, change)
            if change.change in (Change.NEW, Change.EDITED):
                edited.write(change.path[1:] + b"\0")
        _compare_dumps(last, stage, difference, edited)
        # Of two snapshots taken within a second they may have the same size and time, and yet say something else.
        for path in metadata.record_files(stage):
            edited.write(os.fsencode(path)[1:] + b"\0")
    difference.records_moved = not metadata.same_records(last, stage)
    return difference


def _count_all(difference: Difference, stage: Path) -> None:
    with metadata.open_manifest(stage) as manifest, metadata.open_manifest(stage, metadata.DUMPS_LISTING) as dumps:
        for _, raw in records(manifest):
            difference.changed += 1
            difference.size += size_in(raw)
        for _, raw in records(dumps):
            difference.dumps_moved = True
            difference.size += size_in(raw)


def _compare_dumps(last: Path, stage: Path, difference: Difference, edited: IO[bytes]) -> None:
    with (
        metadata.open_manifest(last, metadata.DUMPS_LISTING) as base,
        metadata.open_manifest(stage, metadata.DUMPS_LISTING) as now,
    ):
        for change in compare_records(records(base), records(now)):
            difference.dumps_moved = True
            if change.now and change.change in (Change.NEW, Change.EDITED):
                difference.size += change.now.size or 0
                edited.write(os.fsencode(stage)[1:] + change.path + b"\0")


def _is_renumbered(change: FileChange) -> bool:
    """Whether only numbers of the file system moved, as on a copied disk; who is linked to whom, the records say."""
    base, now = change.base, change.now
    if base is None or now is None:
        return False
    return base == now._replace(dev=base.dev, ino=base.ino, ctime_ns=base.ctime_ns)


def _count(difference: Difference, change: FileChange) -> None:
    if change.change is Change.DELETED:
        difference.deleted += 1
    elif change.change is Change.METADATA:
        difference.metadata += 1
    else:
        difference.changed += 1
        difference.size += (change.now.size or 0) if change.now else 0
