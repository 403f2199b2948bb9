"""Check that there is room for the files of a restore, before anything is changed.

Takes a root, the stage and the entries to write. Raises NoSpace if a file system cannot hold them. Changes nothing.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from tklb.errors import NoSpace
from tklb.host.files.openat import RootedTree
from tklb.host.mounts import is_within
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class _Need:
    """The room that a restore needs on one file system."""

    path: bytes  # a folder on it
    room: os.statvfs_result
    bytes: int = 0
    inodes: int = 0

    def add(self, entries: Iterable[FileEntry]) -> "_Need":
        sizes = [0 if entry.sparse else _round_up(entry.size or 0) for entry in entries]
        return replace(self, bytes=self.bytes + sum(sizes), inodes=self.inodes + len(sizes))


def ensure_room(root: bytes, stage: bytes, entries: Iterable[FileEntry]) -> None:
    """Raise NoSpace if the new `entries` do not fit. Those on the file system of the stage are only renamed."""
    staged = os.stat(stage).st_dev
    needs: dict[int, _Need] = {}
    with RootedTree(root, follows_root_links=True) as live:
        nearest = _NearestFolder(live)
        for parent, inside in groupby(entries, key=lambda entry: _parent(entry.path)):
            folder = nearest.open(parent)
            device = os.fstat(folder).st_dev
            if device == staged:
                continue
            need = needs.get(device) or _Need(parent, os.fstatvfs(folder))
            needs[device] = need.add(inside)
    for need in needs.values():
        _check_need(need)


class _NearestFolder:
    """Opens folders, or the nearest ones above them that exist. It remembers the last one that does not exist."""

    def __init__(self, live: RootedTree) -> None:
        self._live = live
        self._missing = b""

    def open(self, path: bytes) -> int:
        if self._missing and is_within(path, self._missing):
            path = _parent(self._missing)
        while True:
            try:
                return self._live.folder(path)
            except OSError:
                self._missing, path = path, _parent(path)


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def _round_up(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _check_need(need: _Need) -> None:
    free = need.room.f_bfree * need.room.f_frsize
    if need.bytes > free:
        raise NoSpace(path=need.path, reason=f"the restore writes {need.bytes} bytes, {free} are free")
    if need.room.f_files and need.inodes > need.room.f_ffree:
        reason = f"the restore makes {need.inodes} files, {need.room.f_ffree} inodes are free"
        raise NoSpace(path=need.path, reason=reason)
