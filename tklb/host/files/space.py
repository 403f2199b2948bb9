"""Is there room for what is to be written? Asked before anything is touched.

Takes a root, the stage and the entries to write; raises NoSpace where a file system cannot hold them. Changes nothing.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from tklb.errors import NoSpace
from tklb.host.files.openat import Beneath
from tklb.model.files import FileEntry

_BLOCK = 4096


@dataclass(slots=True)
class _Need:
    """What one file system is to take in."""

    path: bytes  # a folder on it
    room: os.statvfs_result
    bytes: int = 0
    inodes: int = 0


def ensure_room(root: bytes, stage: bytes, entries: Iterable[FileEntry]) -> None:
    """Raise NoSpace where the new `entries` do not fit. What lies on the file system of the stage is only renamed."""
    staged = os.stat(stage).st_dev
    needs: dict[int, _Need] = {}
    with Beneath(root) as live:
        for parent, inside in groupby(entries, key=lambda entry: entry.path.rpartition(b"/")[0] or b"/"):
            folder = _nearest(live, parent)
            device = os.fstat(folder).st_dev
            if device == staged:
                continue
            need = needs.setdefault(device, _Need(parent, os.fstatvfs(folder)))
            for entry in inside:
                need.inodes += 1
                need.bytes += 0 if entry.sparse else _rounded(entry.size or 0)
    for need in needs.values():
        _check(need)


def _nearest(live: Beneath, path: bytes) -> int:
    """The open folder that `path` lies in or will lie in."""
    while True:
        try:
            return live.folder(path)
        except OSError:
            path = path.rpartition(b"/")[0] or b"/"


def _rounded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _check(need: _Need) -> None:
    free = need.room.f_bfree * need.room.f_frsize
    if need.bytes > free:
        raise NoSpace(path=need.path, reason=f"{need.bytes} bytes are to be written, {free} are free")
    if need.room.f_files and need.inodes > need.room.f_ffree:
        raise NoSpace(path=need.path, reason=f"{need.inodes} files are to be made, {need.room.f_ffree} inodes are free")
