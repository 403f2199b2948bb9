"""Read and write the files that apt uses: sources, keyrings, preferences and logins.

Takes a root; gives and writes files. Changes /etc/apt below the root, and keyrings that sources name.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tklb.base.fs import write_atomic
from tklb.diff import apt_sources as source_lines
from tklb.host import dpkg
from tklb.host.release import read_os_release
from tklb.model.packages import SourceFile
from tklb.model.report import Skipped

_APT = b"/etc/apt/"
_FILES = (b"sources.list", b"trusted.gpg", b"preferences", b"auth.conf")
_FOLDERS = (b"keyrings", b"trusted.gpg.d", b"preferences.d", b"auth.conf.d")


def read_source_files(root: bytes = b"/") -> tuple[SourceFile, ...]:
    """Read all such files, and the keyrings that sources name, wherever they are. Sorted by path."""
    paths = {_APT + name for name in _FILES}
    paths |= {_APT + folder + b"/" + name for folder in _FOLDERS for name in _names(root, _APT + folder)}
    listed = {source_lines.SOURCE_FOLDER + name for name in _names(root, source_lines.SOURCE_FOLDER)}
    found = _read_all(root, paths | {path for path in listed if source_lines.is_source(path)})
    found |= _read_all(root, _keyrings(found.values()) - found.keys())
    return tuple(found[path] for path in sorted(found))


def read_extra_sources(root: bytes = b"/") -> tuple[SourceFile, ...]:
    """Read the files that travel with the packages. Sorted by path.

    These are the sources that are not Debian's own, and the keyrings that they name. Every keyring, preference and
    login in /etc/apt travels too, unless it is as a package shipped it.
    """
    files = read_source_files(root)
    lists = [file for file in files if source_lines.is_source(file.path)]
    carried = source_lines.extra_sources(lists, read_os_release(root))
    named = _keyrings(carried)
    rest = [file for file in files if file not in lists and b"/debian-archive-" not in file.path]
    shipped = {entry.path: entry.md5 for entry in dpkg.package_files(root, below=[file.path for file in rest])}
    for file in rest:
        is_edited = file.path.startswith(_APT) and shipped.get(file.path) != _md5(file.content)
        if is_edited or file.path in named:
            carried = (*carried, file)
    return tuple(sorted(carried, key=lambda file: file.path))


def add_sources(root: bytes, files: Iterable[SourceFile]) -> tuple[Skipped, ...]:
    """Write the files, each whole or not at all. A folder that is a link is not entered."""
    skipped = []
    for file in files:
        place = Path(os.fsdecode(os.path.join(root, file.path.lstrip(b"/"))))
        try:
            _write(place, file)
        except OSError as exc:
            skipped.append(Skipped(file.path, exc.strerror or str(exc)))
    return tuple(skipped)


def _write(place: Path, file: SourceFile) -> None:
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if place.parent.is_symlink():
        raise NotADirectoryError(None, "its folder is a link")
    write_atomic(place, file.content, file.mode)
    if file.mtime_ns is not None:
        os.utime(place, ns=(file.mtime_ns, file.mtime_ns), follow_symlinks=False)


def _keyrings(files: Iterable[SourceFile]) -> set[bytes]:
    lists = (file for file in files if source_lines.is_source(file.path))
    return {path for file in lists for stanza in source_lines.parse_stanzas(file) for path in stanza.keyrings}


def _read_all(root: bytes, paths: Iterable[bytes]) -> dict[bytes, SourceFile]:
    return {path: file for path in paths if (file := _read(root, path))}


def _read(root: bytes, path: bytes) -> SourceFile | None:
    """Read a file; a link stands for the file that it leads to."""
    place = os.path.join(root, path.lstrip(b"/"))
    try:
        if os.path.islink(place):
            target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(place)))
            place = os.path.join(root, target.lstrip(b"/"))
        if os.path.isfile(place):
            with open(place, "rb") as stream:
                status = os.fstat(stream.fileno())
                return SourceFile(path, stream.read(), status.st_mode & 0o777, status.st_mtime_ns)
    except OSError:
        pass
    return None


def _names(root: bytes, folder: bytes) -> list[bytes]:
    try:
        return os.listdir(os.path.join(root, folder.strip(b"/")))
    except OSError:
        return []


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
