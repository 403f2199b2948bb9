"""Walk the machine once and write the snapshot metadata: manifest, packages, accounts, dumps; and a fresh index.

The index has inode, times and digest of every file in scope, so that the next run reads only files that changed.
"""

import logging
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import field
from pathlib import Path
from typing import IO

from tklb.backup.collect import MachineState, stream_changes
from tklb.backup.dump_databases import Dumps, TakeDumps, dump_databases
from tklb.backup.sqlite_copies import SqliteCopier
from tklb.base.fs import PRIVATE_FILE, replace_file, report_full_disk
from tklb.base.measure import Stopwatch, format_size
from tklb.config.paths import ROOT
from tklb.diff import mtree
from tklb.diff.rules import format_rules
from tklb.host.apt.local_packages import read_local_packages
from tklb.host.apt.source_files import find_unreadable_sources, read_extra_sources
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.callbacks import Progress
from tklb.model.files import Change, FileChange, FileEntry
from tklb.model.packages import PackageHistory
from tklb.model.registries.decisions import Registries
from tklb.model.report import Skipped, SkippedItems
from tklb.model.snapshot_metadata import SnapshotMetadata
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.key_history import collect_history, format_history
from tklb.snapshot.machine import this_machine

log = logging.getLogger(__name__)

_SETTLED_NS = 2_000_000_000  # a file that changed less than this before it was read is read again next time
_EVERY = 1000  # entries between two reports of progress

Inode = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class MetadataJob:
    """How to write the metadata. `last` is the folder of the last snapshot's: an unchanged dump keeps its old time."""

    parts: frozenset[str]
    index: Path  # where a fresh index goes
    last: Path | None = None
    take_dumps: TakeDumps = dump_databases


@dataclass(frozen=True, slots=True)
class DeltaFiles:
    """The files of the delta, as counted on the walk."""

    size: int = 0  # bytes
    changes: Mapping[Change, int] = field(default_factory=Counter)  # against the install state
    deleted: tuple[bytes, ...] = ()
    copies: tuple[tuple[bytes, str], ...] = ()  # of SQLite databases: path, name of the copy
    packaged: tuple[FileEntry, ...] = ()  # files of packages of which only metadata differ
    hard_links: tuple[tuple[bytes, ...], ...] = ()  # every path in scope of a file that the delta has


@dataclass(frozen=True, slots=True)
class DeltaTotals:
    """The delta that the metadata describes, counted; `skipped` are the items that the snapshot cannot have."""

    files: DeltaFiles
    dumps: Dumps
    dump_bytes: int  # size of all files below databases/
    skipped: tuple[Skipped, ...]


def write_metadata(session: Session, state: MachineState, folder: Path, job: MetadataJob) -> DeltaTotals:
    """Write the metadata of a snapshot into `folder`, but for the parts left out, and a fresh index. Raises NoSpace."""
    skipped = SkippedItems()
    with report_full_disk(folder):
        files = _walk(session, state, folder, job.index, skipped) if "files" in job.parts else DeltaFiles()
        dumps = job.take_dumps(session, state.overrides, folder) if "databases" in job.parts else Dumps()
        metadata.write(folder, _describe(session, state, files, job.parts))
        history = collect_history(session.paths, session.secret, socket.gethostname())
        metadata.write_key_history(folder, format_history(history))
        shutil.copytree(session.profile.folder, folder / metadata.PROFILE)
        dump_bytes = metadata.write_dumps_listing(folder, job.last)
    unmet = (*state.unmet, *find_unreadable_sources(ROOT)) if "packages" in job.parts else ()
    return DeltaTotals(files, dumps, dump_bytes, (*skipped, *unmet, *dumps.skipped))


def _describe(session: Session, state: MachineState, files: DeltaFiles, parts: frozenset[str]) -> SnapshotMetadata:
    has_packages, local_files = "packages" in parts, frozenset(state.local_files)
    return SnapshotMetadata(
        machine=this_machine(session.host, session.profile.id, session.profile.services, parts),
        deleted=files.deleted,
        hard_links=files.hard_links,
        packages=state.packages if has_packages else (),
        packages_base=state.packages_base if has_packages else (),
        local=tuple(sorted(state.local)) if has_packages else (),
        local_files=state.local_files,
        local_packages=read_local_packages(ROOT, state.local) if has_packages else (),
        history=state.history if has_packages else PackageHistory(),
        sources=read_extra_sources(ROOT) if has_packages else (),
        accounts=state.accounts if "users" in parts else Accounts(),
        registries=state.registries if has_packages else Registries(),
        scope=format_rules(rule for rule in state.rules.rules if not (rule.is_literal and rule.pattern in local_files)),
        copies=files.copies,
        packaged=files.packaged,
    )


def _walk(session: Session, state: MachineState, folder: Path, place: Path, skipped: SkippedItems) -> DeltaFiles:
    """Walk the machine and write its delta into the manifest, and all in scope into the index."""
    watch = Stopwatch()
    copier = SqliteCopier(folder, skipped, is_wanted=session.config.databases.sqlite)
    with ExitStack() as streams:
        index = IndexWriter(streams.enter_context(replace_file(place)), session)
        manifest = ManifestWriter(
            streams.enter_context(_open_private(folder / metadata.MANIFEST)), frozenset(state.found.system)
        )
        for change in stream_changes(session, state, skipped, index.watch):
            now = change.now and copier.copy_if_in_use(change.now)
            if now or not change.now:
                manifest.add(change, now)
    copier.finish()
    files = manifest.count(index, tuple(copier.copies))
    log.info(
        "walked %d files in %.1f s: %d differ from the install state (%s), %d are deleted",
        index.count,
        watch.seconds,
        sum(files.changes.values()) - files.changes[Change.DELETED],
        format_size(files.size),
        files.changes[Change.DELETED],
    )
    return files


class IndexWriter:
    """Writes every scanned entry into the index on its way, and remembers the names of hard links."""

    def __init__(self, stream: IO[bytes], session: Session) -> None:
        self.count = 0
        self.links: dict[Inode, list[bytes]] = {}  # every path in scope of a file with more names
        self._stream = stream
        self._progress: Progress = session.progress
        self._unsettled = int(session.clock().timestamp() * 1e9) - _SETTLED_NS
        stream.write(mtree.HEADER)

    def watch(self, entries: Iterator[FileEntry]) -> Iterator[FileEntry]:
        for entry in entries:
            if self.count % _EVERY == 0:
                self._progress("walking files", self.count, 0)
            self.count += 1
            if entry.ctime_ns is not None and entry.ctime_ns < self._unsettled:
                self._stream.write(mtree.format_entry(entry))
            if _has_more_names(entry):
                self.links.setdefault((entry.dev, entry.ino), []).append(entry.path)
            yield entry


class ManifestWriter:
    """Writes the entries of the delta into the manifest as they come, and counts them."""

    def __init__(self, stream: IO[bytes], system: frozenset[bytes]) -> None:
        self._stream = stream
        self._system = system  # paths of packages in /usr: their packages bring the content back
        self._packaged: list[FileEntry] = []
        self._size = 0
        self._changes: Counter[Change] = Counter()
        self._deleted: list[bytes] = []
        self._linked: set[Inode] = set()  # files with more names that the delta has
        stream.write(mtree.HEADER)

    def add(self, change: FileChange, now: FileEntry | None) -> None:
        """Add a change; `now` is the entry as the snapshot has it, None for a deleted path."""
        self._changes[change.change] += 1
        if now is None:
            self._deleted.append(change.path)
            return
        if change.change is Change.METADATA and change.path in self._system:
            self._packaged.append(_strip_content(now))
            return
        self._stream.write(mtree.format_entry(now))
        self._size += now.size or 0
        if _has_more_names(now):
            self._linked.add((now.dev, now.ino))

    def count(self, index: IndexWriter, copies: tuple[tuple[bytes, str], ...]) -> DeltaFiles:
        links = (tuple(paths) for inode, paths in index.links.items() if inode in self._linked and len(paths) > 1)
        return DeltaFiles(
            size=self._size,
            changes=self._changes,
            deleted=tuple(self._deleted),
            copies=copies,
            packaged=tuple(self._packaged),
            hard_links=tuple(sorted(links)),
        )


def _strip_content(entry: FileEntry) -> FileEntry:
    """Give an entry with mode, owner, attributes and flags only."""
    owner = (entry.uid, entry.gid, entry.uname, entry.gname)
    return FileEntry(entry.path, entry.kind, entry.mode, *owner, xattrs=entry.xattrs, flags=entry.flags)


def _has_more_names(entry: FileEntry) -> bool:
    return entry.kind != "dir" and (entry.nlink or 1) > 1


def _open_private(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE), "wb")
