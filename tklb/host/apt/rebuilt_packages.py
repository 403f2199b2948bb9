"""Build packages again that no source offers: from what dpkg knew of them, and from their restored files.

Takes a record, the entries of its files and their contents; writes a .deb file, in the form of deb(5). Its files are
those of the backed-up machine. dpkg learns of an edited conffile that it is edited: the package has a placeholder
in its place, and the restored file wins over it. A file that was gone there comes empty, and the caller deletes it.
Owners are names, which dpkg looks up here; special bits of files that are not root's come with the files themselves.
"""

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from tklb.host.files.openat import digest_of
from tklb.host.files.staged_content import StagedContents
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.packages import LocalPackage, ShippedPath

_MARK = b"Rebuilt-By: tklb\n"  # a field of its own, which dpkg keeps
_PLACEHOLDER = b"# The version that the package shipped is not known.\n"
_MAGIC, _SIZE_AT = b"!<arch>\n", 48
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_NO_ENTRY = FileEntry(b"", "")


@dataclass(frozen=True, slots=True)
class RestoredFiles:
    """The files of a snapshot: `find_entry` gives the entry of a path, `contents` its content."""

    find_entry: Callable[[bytes], FileEntry | None]
    contents: StagedContents


def build_package(package: LocalPackage, files: RestoredFiles, archive: Path) -> None:
    """Write the package as a new file `archive`. Raises OSError, ValueError."""
    with archive.open("xb") as stream:
        stream.write(_MAGIC)
        _write_member(stream, b"debian-binary", lambda body: body.write(b"2.0\n"))
        _write_member(stream, b"control.tar", lambda body: _write_control(body, package))
        _write_member(stream, b"data.tar", lambda body: _write_data(body, package, files))


def list_gone(package: LocalPackage) -> tuple[bytes, ...]:
    """List the paths of files that were gone on the backed-up machine and that build_package() makes empty."""
    return tuple(path.place for path in package.paths if path.kind == "gone")


def _write_member(stream: IO[bytes], name: bytes, write: Callable[[IO[bytes]], object]) -> None:
    """Write a member of an ar archive. Its size is known afterwards, and goes into its header then."""
    start = stream.tell()
    stream.write(b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o100644, 0))
    write(stream)
    end = stream.tell()
    size = b"%-10d" % (end - start - 60)
    if len(size) > 10:
        raise ValueError("the package is too large for the format of packages")
    stream.seek(start + _SIZE_AT)
    stream.write(size)
    stream.seek(end)
    stream.write(b"\n" * (end % 2))


def _write_control(stream: IO[bytes], package: LocalPackage) -> None:
    has_mark = (b"\n" + package.control).lower().find(b"\nrebuilt-by:") >= 0
    own = {"control": package.control + (b"" if has_mark else _MARK), **dict(package.members)}
    known = {path.path for path in package.paths}
    if listed := [path for path, _ in package.conffiles if path in known]:
        own["conffiles"] = b"".join(path + b"\n" for path in listed)
    with _open_tar(stream) as tar:
        for name, content in own.items():
            facts = tarfile.TarInfo(f"./{name}")
            facts.mode, facts.size = (0o755 if name in _SCRIPTS else 0o644), len(content)
            tar.addfile(facts, io.BytesIO(content))


def _write_data(stream: IO[bytes], package: LocalPackage, files: RestoredFiles) -> None:
    known = dict(package.conffiles)
    with _open_tar(stream) as tar:
        tar.addfile(_make_folder(b"", None))
        for path in sorted(package.paths):
            entry = files.find_entry(path.place)
            if path.kind == "dir":
                tar.addfile(_make_folder(path.path, entry))
            elif path.kind == "gone":
                tar.addfile(_make_facts(path.path, _NO_ENTRY, 0o644))
            elif entry is not None:
                _add(tar, path, entry, (files.contents, known))


def _add(
    tar: tarfile.TarFile, path: ShippedPath, entry: FileEntry, sources: tuple[StagedContents, Mapping[bytes, str]]
) -> None:
    contents, known = sources
    facts = _make_facts(path.path, entry, 0o644)
    if entry.kind == "link" and entry.link is not None:
        facts.type, facts.linkname = tarfile.SYMTYPE, os.fsdecode(entry.link)
        tar.addfile(facts)
        return
    content = contents.open(entry.path) if entry.kind == "file" else None
    if content is None:
        return
    try:
        if path.path in known and digest_of(content.descriptor, "md5") != known[path.path]:
            facts.size = len(_PLACEHOLDER)
            tar.addfile(facts, io.BytesIO(_PLACEHOLDER))
            return
        os.lseek(content.descriptor, 0, os.SEEK_SET)
        facts.size = os.fstat(content.descriptor).st_size
        with os.fdopen(os.dup(content.descriptor), "rb") as body:
            tar.addfile(facts, body)
    finally:
        content.close()


def _make_folder(path: bytes, entry: FileEntry | None) -> tarfile.TarInfo:
    facts = _make_facts(path, entry if entry and entry.kind == "dir" else _NO_ENTRY, 0o755)
    facts.type = tarfile.DIRTYPE
    return facts


def _make_facts(path: bytes, entry: FileEntry, mode: int) -> tarfile.TarInfo:
    facts = tarfile.TarInfo(os.fsdecode(b"." + path))
    is_roots = entry.uname == entry.gname == b"root"
    facts.mode = mode if entry.mode is None else entry.mode & (0o7777 if is_roots else 0o777)
    facts.uname, facts.gname = (os.fsdecode(name or b"root") for name in (entry.uname, entry.gname))
    facts.mtime = (entry.mtime_ns or 0) // 1_000_000_000
    return facts


def _open_tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape")


def list_places(packages: Iterable[LocalPackage]) -> frozenset[bytes]:
    """List the places of all paths of some packages."""
    return frozenset(path.place for package in packages for path in package.paths)
