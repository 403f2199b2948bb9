"""What the scripts of packages make: dpkg does not know it, so it looked like the owner's on the machine where it came.

Takes a root; gives paths and entries; changes nothing. During an installation by a restore, all that is new in /etc and
is of no package comes from scripts; elsewhere only folders count, because files there may be data of running services.
"""

import os
from collections.abc import Iterable, Iterator

from tklb.host.dpkg import find_listed
from tklb.host.files.live_files import LiveFiles
from tklb.model.files import FileEntry

_CONFIGURATION = b"etc"
_DATA = (b"var/lib", b"var/spool")
_DEPTH = 2  # of folders below those with data
_LARGEST = 1 << 20  # bytes; a larger file is no configuration


def list_paths(root: bytes) -> frozenset[bytes]:
    """List all below /etc, and the upper folders of data."""
    return frozenset((*_walk(root, _CONFIGURATION, 64), *(path for top in _DATA for path in _walk(root, top, _DEPTH))))


def _walk(root: bytes, top: bytes, depth: int) -> Iterator[bytes]:
    try:
        found = list(os.scandir(os.path.join(root, top)))
    except OSError:
        return
    for item in found:
        path, is_folder = top + b"/" + item.name, item.is_dir(follow_symlinks=False)
        if is_folder or top.startswith(_CONFIGURATION):
            yield b"/" + path
        if is_folder and depth > 1:
            yield from _walk(root, path, depth - 1)


def describe_new(root: bytes, before: frozenset[bytes], known: Iterable[bytes]) -> tuple[FileEntry, ...]:
    """Give the entries of what came since `before`, and is neither `known` nor of a package. Sorted."""
    new = list_paths(root) - before
    left = new.difference(known) if new else new
    own = sorted(left - find_listed(root, left)) if left else []
    with LiveFiles(root) as files:
        entries = ((path, files.entry(path)) for path in own)
        found = [_strip(entry, files) for path, entry in entries if entry and _is_wanted(entry)]
    return tuple(found)


def _is_wanted(entry: FileEntry) -> bool:
    return entry.kind in ("dir", "link") or (entry.kind == "file" and (entry.size or 0) <= _LARGEST)


def _strip(entry: FileEntry, files: LiveFiles) -> FileEntry:
    """Give an entry without what changes by itself."""
    digest = files.digest(entry.path, "sha256") if entry.kind == "file" else None
    bare = entry._replace(ctime_ns=None, mtime_ns=None, dev=None, ino=None, nlink=None, size=None)
    return bare._replace(sha256=digest)
