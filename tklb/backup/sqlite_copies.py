"""SQLite databases of the delta that a program has open: copies of them, made by SQLite itself, go into the stage.

The file as it lies there may be torn between two moments, and its newest rows may be in another file beside it. The
entry of the manifest then describes the copy, and what lies beside the database does not travel. But one that was left
in the middle of a transaction travels as it is: its journal, if that travels too, makes it whole wherever it is opened.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tklb.base.fs import private_folder
from tklb.databases.dump_format import file_name
from tklb.diff.sqlite_names import SMALLEST_PAGE, journal, sidecars
from tklb.errors import printable
from tklb.host.sqlite.copy import Identity, NotCopied, Unfinished, copy_database, is_in_use, is_sqlite, open_files
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems
from tklb.model.snapshot_metadata import SQLITE_COPIES
from tklb.snapshot import metadata

_LEFT = "taken as a process left it in the middle of a transaction"


@dataclass(slots=True)
class SqliteCopies:
    """The copies made so far: path and name of the copy."""

    stage: Path
    is_wanted: bool
    made: list[tuple[bytes, str]] = field(default_factory=list)
    _opened: frozenset[Identity] = frozenset()
    _beside: set[bytes] = field(default_factory=set)
    _unfinished: dict[bytes, bytes] = field(default_factory=dict)  # by the journal, which comes after it

    def __post_init__(self) -> None:
        if self.is_wanted:
            self._opened = open_files()

    def settle(self, entry: FileEntry, skipped: SkippedItems) -> FileEntry | None:
        """The entry as the snapshot shall have it; None for what belongs to a database that was copied."""
        if entry.path in self._beside:
            return None
        if entry.kind == "file" and (unfinished := self._unfinished.pop(entry.path, None)):
            skipped.append(Skipped(unfinished, f"{_LEFT}; it is whole with {printable(entry.path)} beside it only"))
        identity = (entry.dev or 0, entry.ino or 0)
        if not (self.is_wanted and _may_be_one(entry) and is_in_use(entry.path, identity, self._opened)):
            return entry
        return self._copied(entry, identity, skipped) if is_sqlite(entry.path) else entry

    def end(self, skipped: SkippedItems) -> None:
        """Say which journals did not come; forget what could not be read of what was copied, which is in use."""
        for beside, path in self._unfinished.items():
            skipped.append(Skipped(path, f"{_LEFT}, perhaps torn: {printable(beside)} is not taken"))
        skipped.drop({*self._beside, *(path for path, _ in self.made)})

    def _copied(self, entry: FileEntry, identity: Identity, skipped: SkippedItems) -> FileEntry:
        name = file_name(os.fsdecode(entry.path))
        folder = private_folder(self.stage / metadata.DUMPS / SQLITE_COPIES)
        try:
            copy = copy_database(entry.path, identity, os.fsencode(folder / name))
        except Unfinished:
            self._unfinished[journal(entry.path)] = entry.path
            return entry
        except NotCopied as exc:
            skipped.append(Skipped(entry.path, f"taken as it lies there, perhaps torn: {exc.reason}"))
            return entry
        self.made.append((entry.path, name))
        self._beside.update(sidecars(entry.path))
        return entry._replace(size=copy.size, sha256=copy.sha256, sparse=False)


def _may_be_one(entry: FileEntry) -> bool:
    return entry.kind == "file" and bool(entry.size) and (entry.size or 0) % SMALLEST_PAGE == 0
