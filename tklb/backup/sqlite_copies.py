"""Copy the SQLite databases of the delta that a program has open: SQLite itself makes the copies.

The file may be torn between two moments, and its newest rows may be in another file beside it. The manifest then
describes the copy, and the files beside the database stay out of the snapshot. A database that a process left in the
middle of a transaction stays as it is: with its journal in the snapshot, SQLite makes it whole wherever it is opened.
"""

import logging
import os
import time
from pathlib import Path

from tklb.base.fs import private_folder
from tklb.base.measure import format_size
from tklb.databases.dump_format import encode_file_name
from tklb.diff.sqlite_names import SMALLEST_PAGE, journal, sidecars
from tklb.errors import printable
from tklb.host.sqlite.copy import (
    CopiedDatabase,
    Identity,
    NotCopied,
    Unfinished,
    copy_database,
    is_in_use,
    is_sqlite,
    list_open_files,
)
from tklb.host.sqlite.patience import CopyPatience
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems
from tklb.model.snapshot_metadata import SQLITE_COPIES
from tklb.snapshot import metadata

log = logging.getLogger(__name__)

_LEFT = "taken as a process left it in the middle of a transaction"


class SqliteCopier:
    """Copies databases below databases/ in a folder of snapshot metadata, as the walk comes to them.

    `copies` has path and name of each copy so far. Problems go to `skipped`.
    """

    def __init__(self, folder: Path, skipped: SkippedItems, *, is_wanted: bool) -> None:
        self.copies: list[tuple[bytes, str]] = []
        self._folder, self._skipped, self._is_wanted = folder, skipped, is_wanted
        self._open_files = list_open_files() if is_wanted else frozenset()
        self._patience = CopyPatience()
        self._beside: set[bytes] = set()
        self._unfinished: dict[bytes, bytes] = {}  # by the journal, which comes after it

    def copy_if_in_use(self, entry: FileEntry) -> FileEntry | None:
        """Give the entry as the snapshot has it; None for a file that belongs to a copied database."""
        if entry.path in self._beside:
            return None
        if entry.kind == "file" and (unfinished := self._unfinished.pop(entry.path, None)):
            reason = f"{_LEFT}; it is whole with {printable(entry.path)} beside it only"
            self._skipped.append(Skipped(unfinished, reason))
        identity = (entry.dev or 0, entry.ino or 0)
        if not (self._is_wanted and _may_be_database(entry) and is_in_use(entry.path, identity, self._open_files)):
            return entry
        return self._copy(entry, identity) if is_sqlite(entry.path) else entry

    def finish(self) -> None:
        """Name the databases whose journals are not in the snapshot; forget skipped items that the copies replace."""
        for beside, path in self._unfinished.items():
            self._skipped.append(Skipped(path, f"{_LEFT}, perhaps torn: {printable(beside)} is not taken"))
        self._skipped.drop({*self._beside, *(path for path, _ in self.copies)})

    def _copy(self, entry: FileEntry, identity: Identity) -> FileEntry:
        name = encode_file_name(os.fsdecode(entry.path))
        place = private_folder(self._folder / metadata.DUMPS / SQLITE_COPIES)
        try:
            copy = self._copy_in_time(entry, identity, os.fsencode(place / name))
        except Unfinished:
            self._unfinished[journal(entry.path)] = entry.path
            return entry
        except NotCopied as exc:
            self._skipped.append(Skipped(entry.path, f"taken as it lies there, perhaps torn: {exc.reason}"))
            return entry
        log.info("copied SQLite database %s: %s", printable(entry.path), format_size(copy.size))
        self.copies.append((entry.path, name))
        self._beside.update(sidecars(entry.path))
        return entry._replace(size=copy.size, sha256=copy.sha256, sparse=False)

    def _copy_in_time(self, entry: FileEntry, identity: Identity, destination: bytes) -> CopiedDatabase:
        """Copy it, unless databases of its owner held up this run for too long already. Raises NotCopied."""
        owner, begin, left = entry.uid or 0, time.monotonic(), self._patience.count_left(entry.uid or 0)
        if left <= 0:
            raise NotCopied("databases of its owner held up the backup for too long")
        try:
            return copy_database(entry.path, identity, destination, left)
        finally:
            self._patience.spend(owner, time.monotonic() - begin, entry.size or 0)


def _may_be_database(entry: FileEntry) -> bool:
    return entry.kind == "file" and bool(entry.size) and (entry.size or 0) % SMALLEST_PAGE == 0
