"""Fill the stage: walk the machine once, and leave behind manifest, records and a fresh index.

The index remembers inode, times and digest of everything in scope, so that the next run reads only what moved.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tklb.backup.collect import MachineState, file_changes
from tklb.backup.dump_databases import Dumps, TakeDumps, dump_databases
from tklb.backup.sqlite_copies import SqliteCopies
from tklb.base.fs import PRIVATE_FILE, replace_file, report_full_disk
from tklb.config.paths import ROOT
from tklb.diff import mtree
from tklb.host.apt_sources import read_extra_sources
from tklb.model.accounts import Accounts
from tklb.model.files import Change, FileEntry
from tklb.model.snapshot_metadata import SnapshotMetadata
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.machine import this_machine

_SETTLED_NS = 2_000_000_000  # what moved less than this before it was read is read again next time
_EVERY = 1000  # entries between two reports of progress

Inode = tuple[int | None, int | None]


@dataclass(slots=True)
class DeltaTotals:
    """What the walk saw of the delta."""

    size: int = 0  # bytes
    changes: dict[Change, int] = field(default_factory=lambda: dict.fromkeys(Change, 0))  # against the install state
    deleted: list[bytes] = field(default_factory=list)
    dumps: Dumps = field(default_factory=Dumps)
    copies: list[tuple[bytes, str]] = field(default_factory=list)  # of SQLite databases: path, name of the copy
    links: dict[Inode, list[bytes]] = field(default_factory=dict)  # every path in scope of a file with more names
    linked: set[Inode] = field(default_factory=set)  # those of them that the delta has


@dataclass(frozen=True, slots=True)
class MetadataJob:
    """How a stage is filled. `last` are the records of the snapshot before: an unchanged dump looks as it did then."""

    parts: frozenset[str]
    index: Path  # where a fresh index goes
    last: Path | None = None
    take_dumps: TakeDumps = dump_databases


def write_metadata(setting: Session, seen: MachineState, stage: Path, how: MetadataJob) -> DeltaTotals:
    """Write what a snapshot holds beside the files into `stage`, but for the parts left out, and a fresh index."""
    with report_full_disk(stage):
        staged = _fill(setting, seen, stage, how)
        staged.dumps.bytes = metadata.write_dumps_listing(stage, how.last)
        return staged


def _fill(setting: Session, seen: MachineState, stage: Path, how: MetadataJob) -> DeltaTotals:
    parts = how.parts
    staged = _stage_files(setting, seen, stage, how.index) if "files" in parts else DeltaTotals()
    if "databases" in parts:
        staged.dumps = how.take_dumps(setting, seen.overrides, stage)
        seen.skipped.extend(staged.dumps.skipped)
    has_packages = "packages" in parts
    contents = SnapshotMetadata(
        machine=this_machine(setting.host, setting.profile.id, setting.profile.services, parts),
        deleted=tuple(staged.deleted),
        hard_links=tuple(
            sorted(tuple(group) for inode, group in staged.links.items() if inode in staged.linked and len(group) > 1)
        ),
        packages=seen.packages if has_packages else (),
        packages_base=seen.packages_base if has_packages else (),
        local=tuple(sorted(seen.local)) if has_packages else (),
        local_files=seen.local_files,
        sources=read_extra_sources(ROOT) if has_packages else (),
        accounts=seen.accounts if "users" in parts else Accounts(),
        copies=tuple(staged.copies),
    )
    metadata.write(stage, contents)
    shutil.copytree(setting.profile.folder, stage / metadata.PROFILE)
    return staged


def _stage_files(setting: Session, seen: MachineState, stage: Path, place: Path) -> DeltaTotals:
    staged, copies = DeltaTotals(), SqliteCopies(stage, setting.config.databases.sqlite)
    with ExitStack() as streams:
        index = streams.enter_context(replace_file(place))
        manifest = streams.enter_context(_private_stream(stage / metadata.MANIFEST))
        index.write(mtree.HEADER)
        manifest.write(mtree.HEADER)
        for change in file_changes(setting, seen, lambda entries: _noted(setting, entries, index, staged)):
            now = change.now and copies.settle(change.now, seen.skipped)
            if change.now and not now:
                continue
            staged.changes[change.change] += 1
            if now is None:
                staged.deleted.append(change.path)
                continue
            manifest.write(mtree.format_entry(now))
            staged.size += now.size or 0
            if _has_more_names(now):
                staged.linked.add((now.dev, now.ino))
    staged.copies = copies.made
    copies.end(seen.skipped)
    return staged


def _noted(
    setting: Session, entries: Iterator[FileEntry], index: IO[bytes], staged: DeltaTotals
) -> Iterator[FileEntry]:
    """Note every entry in the index on its way, and remember the names of hard links."""
    unsettled = int(setting.clock().timestamp() * 1e9) - _SETTLED_NS
    for number, entry in enumerate(entries):
        if number % _EVERY == 0:
            setting.progress("looking at files", number, 0)
        if entry.ctime_ns is not None and entry.ctime_ns < unsettled:
            index.write(mtree.format_entry(entry))
        if _has_more_names(entry):
            staged.links.setdefault((entry.dev, entry.ino), []).append(entry.path)
        yield entry


def _has_more_names(entry: FileEntry) -> bool:
    return entry.kind != "dir" and (entry.nlink or 1) > 1


def _private_stream(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE), "wb")
