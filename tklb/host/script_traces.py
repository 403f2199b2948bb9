"""What the scripts of packages make: dpkg does not know it, so it looked like the owner's on the machine where it came.

Takes a root; gives paths and entries; changes nothing. During an installation by a restore, all that is new in /etc and
is of no package comes from scripts; elsewhere only folders count, because files there may be data of running services.
Where a folder could not be read before, nothing counts as new: it may have been there, as the owner's.
"""

import logging
import os
from collections.abc import Iterable, Iterator

from tklb.host.dpkg import find_listed
from tklb.host.files.live_files import LiveFiles
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry

_CONFIGURATION = b"etc"
_DATA = (b"var/lib", b"var/spool")
_DEPTH = 2  # of folders below those with data
_LARGEST = 1 << 20  # bytes; a larger file is no configuration


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SeenPaths:
    """The paths that were there, and the folders among them that could not be read."""

    paths: frozenset[bytes]
    unread: frozenset[bytes]

    def may_have(self, path: bytes) -> bool:
        parts = path.split(b"/")
        is_hidden = any(b"/".join(parts[:depth]) in self.unread for depth in range(2, len(parts)))
        return path in self.paths or is_hidden


def list_paths(root: bytes) -> SeenPaths:
    """List all below /etc, and the upper folders of data."""
    found = [*_walk(root, _CONFIGURATION, 64), *(item for top in _DATA for item in _walk(root, top, _DEPTH))]
    return SeenPaths(frozenset(path for path, _ in found), frozenset(path for path, is_read in found if not is_read))


def _walk(root: bytes, top: bytes, depth: int) -> Iterator[tuple[bytes, bool]]:
    """Give paths; False is with a folder that cannot be read."""
    try:
        found = list(os.scandir(os.path.join(root, top)))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        log.warning("cannot read /%s: %s; nothing below it counts as made by a script", os.fsdecode(top), exc.strerror)
        yield b"/" + top, False
        return
    for item in found:
        path, is_folder = top + b"/" + item.name, item.is_dir(follow_symlinks=False)
        if is_folder or top.startswith(_CONFIGURATION):
            yield b"/" + path, True
        if is_folder and depth > 1:
            yield from _walk(root, path, depth - 1)


def describe_new(root: bytes, before: SeenPaths, known: Iterable[bytes]) -> tuple[FileEntry, ...]:
    """Give the entries of what came since `before`, and is neither `known` nor of a package. Sorted."""
    new = {path for path in list_paths(root).paths if not before.may_have(path)}
    left = new.difference(known) if new else new
    own = sorted(left - find_listed(root, left)) if left else []
    with LiveFiles(root) as files:
        entries = ((path, files.entry(path)) for path in own)
        found = [_strip(entry, files) for path, entry in entries if entry and _is_wanted(entry)]
    return tuple(entry for entry in found if entry.kind != "file" or entry.sha256)


def _is_wanted(entry: FileEntry) -> bool:
    return entry.kind in ("dir", "link") or (entry.kind == "file" and (entry.size or 0) <= _LARGEST)


def _strip(entry: FileEntry, files: LiveFiles) -> FileEntry:
    """Give an entry without what changes by itself."""
    digest = files.digest(entry.path, "sha256") if entry.kind == "file" else None
    bare = entry._replace(ctime_ns=None, mtime_ns=None, dev=None, ino=None, nlink=None, size=None)
    return bare._replace(sha256=digest)
