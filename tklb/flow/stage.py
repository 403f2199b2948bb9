"""Fill the stage: walk the machine once, and leave behind manifest, records and a fresh index.

The index remembers inode, times and digest of everything in scope, so that the next run reads only what moved.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tklb import snapshot
from tklb.delta import mtree
from tklb.durable import PRIVATE_FILE, naming_full, replacing
from tklb.flow.copies import Copies
from tklb.flow.databases import Dumps, TakeDumps, dump_databases
from tklb.flow.setting import ROOT, Setting
from tklb.flow.survey import Survey, file_changes
from tklb.model import Accounts, Change, FileEntry
from tklb.profile import os_release
from tklb.system.sources import extra_sources

_SETTLED_NS = 2_000_000_000  # what moved less than this before it was read is read again next time
_EVERY = 1000  # entries between two reports of progress

Inode = tuple[int | None, int | None]


@dataclass(slots=True)
class Staged:
    """What the walk saw of the delta."""

    size: int = 0  # bytes
    changes: dict[Change, int] = field(default_factory=lambda: dict.fromkeys(Change, 0))  # against the install state
    deleted: list[bytes] = field(default_factory=list)
    dumps: Dumps = field(default_factory=Dumps)
    copies: list[tuple[bytes, str]] = field(default_factory=list)  # of SQLite databases: path, name of the copy
    links: dict[Inode, list[bytes]] = field(default_factory=dict)  # every path in scope of a file with more names
    linked: set[Inode] = field(default_factory=set)  # those of them that the delta has


@dataclass(frozen=True, slots=True)
class Staging:
    """How a stage is filled. `last` are the records of the snapshot before: an unchanged dump looks as it did then."""

    parts: frozenset[str]
    index: Path  # where a fresh index goes
    last: Path | None = None
    take_dumps: TakeDumps = dump_databases


def fill_stage(setting: Setting, seen: Survey, stage: Path, how: Staging) -> Staged:
    """Write what a snapshot holds beside the files into `stage`, but for the parts left out, and a fresh index."""
    with naming_full(stage):
        staged = _fill(setting, seen, stage, how)
        staged.dumps.bytes = snapshot.write_dumps_listing(stage, how.last)
        return staged


def _fill(setting: Setting, seen: Survey, stage: Path, how: Staging) -> Staged:
    parts = how.parts
    staged = _stage_files(setting, seen, stage, how.index) if "files" in parts else Staged()
    if "databases" in parts:
        staged.dumps = how.take_dumps(setting, seen.overrides, stage)
        seen.skipped.extend(staged.dumps.skipped)
    has_packages = "packages" in parts
    contents = snapshot.Contents(
        machine=this_machine(setting.host, setting.profile.id, setting.profile.services, parts),
        deleted=tuple(staged.deleted),
        hard_links=tuple(
            sorted(tuple(group) for inode, group in staged.links.items() if inode in staged.linked and len(group) > 1)
        ),
        packages=seen.packages if has_packages else (),
        packages_base=seen.packages_base if has_packages else (),
        local=tuple(sorted(seen.local)) if has_packages else (),
        local_files=seen.local_files,
        sources=extra_sources(ROOT) if has_packages else (),
        accounts=seen.accounts if "users" in parts else Accounts(),
        copies=tuple(staged.copies),
    )
    snapshot.write(stage, contents)
    shutil.copytree(setting.profile.folder, stage / snapshot.PROFILE)
    return staged


def _stage_files(setting: Setting, seen: Survey, stage: Path, place: Path) -> Staged:
    staged, copies = Staged(), Copies(stage, setting.config.databases.sqlite)
    with ExitStack() as streams:
        index = streams.enter_context(replacing(place))
        manifest = streams.enter_context(_private_stream(stage / snapshot.MANIFEST))
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


def _noted(setting: Setting, entries: Iterator[FileEntry], index: IO[bytes], staged: Staged) -> Iterator[FileEntry]:
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


def this_machine(host: str, profile: str, services: tuple[str, ...], parts: frozenset[str]) -> snapshot.Machine:
    """The facts of the machine this runs on, beside those that the caller knows."""
    return snapshot.Machine(
        hostname=socket.gethostname(),
        host=host,
        release=os_release(ROOT),
        architecture=platform.machine(),
        profile=profile,
        services=services,
        parts=tuple(sorted(parts)),
    )
