"""Which paths packages own: the file lists of dpkg as one index, cached until dpkg changes them.

Takes the root of a file system and a file for the cache; writes that file only. The paths are those of the machine:
after diversions and the merged /usr. A damaged or foreign cache is as good as none.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tklb.base.fs import write_atomic
from tklb.errors import NoSpace
from tklb.host.dpkg import PathTranslator

_INFO = b"var/lib/dpkg/info"
_HEAD = b"tklb owned paths 1 "

OwnedPaths = Mapping[bytes, int]  # path: when dpkg wrote the list of its package, in ns


def read_owned_paths(root: bytes, cache: Path | None = None, *, keep: bool = False) -> OwnedPaths:
    """Give every path that a package owns, with the time when the list of the package was written.

    `cache` is a private file that has the last answer; with `keep` it gets the new one. Raises OSError if the lists
    cannot be read.
    """
    key = _HEAD + _describe_database(root) + b"\n"
    content = _read_cache(cache, key)
    if content is None:
        content = b"".join(_format_lists(root))
        _write_cache(cache if keep else None, key + content)
    owned: dict[bytes, int] = {}
    for group in content.split(b"\n\n"):
        born, *paths = group.split(b"\n")
        if paths:
            owned.update(dict.fromkeys(paths, int(born)))
    return owned


def _read_cache(cache: Path | None, key: bytes) -> bytes | None:
    try:
        content = cache.read_bytes() if cache else b""
    except OSError:
        return None
    return content.removeprefix(key) if content.startswith(key) else None


def _write_cache(cache: Path | None, content: bytes) -> None:
    """Keep the index. A cache that cannot be written costs time only."""
    if cache is not None:
        with contextlib.suppress(OSError, NoSpace):
            write_atomic(cache, content)


def _describe_database(root: bytes) -> bytes:
    """Say of which state of dpkg an index is: dpkg renames a new list into its folder, which gives that a new time."""
    names = (_INFO, b"var/lib/dpkg/diversions", b"lib")
    found = (_describe(os.path.join(root, name)) for name in names)
    return b" ".join(found)


def _describe(path: bytes) -> bytes:
    try:
        status = os.lstat(path)
    except OSError:
        return b"-"
    return b"%d" % status.st_mtime_ns


def _format_lists(root: bytes) -> Iterator[bytes]:
    """Give for each package a line with its time, its paths, and an empty line."""
    translator, folder = PathTranslator(root), os.path.join(root, _INFO)
    tops = {b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/libo32"}  # merged: they are in /usr too
    for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if file.endswith(b".list"):
            owner = file[: -len(b".list")].partition(b":")[0].decode("ascii", "replace")
            with open(os.path.join(folder, file), "rb") as stream:
                listed, born = stream.read().split(b"\n"), os.fstat(stream.fileno()).st_mtime_ns
            paths = {translator.locate(path, owner) for path in listed if path[:1] == b"/"} - {b"/."}
            paths |= {b"/usr" + path for path in paths & tops}
            yield b"\n".join((b"%d" % born, *sorted(paths))) + b"\n\n" if paths else b""
