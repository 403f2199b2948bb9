"""Read and write the files that apt uses: sources, keyrings, preferences, logins, and what sources lean on.

Takes a root; gives and writes files. Changes /etc/apt below the root, and the other files that it is given.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator

from tklb.base.fs import read_existing
from tklb.diff import apt_sources as source_lines
from tklb.errors import AccessRefused, ProgramFailed
from tklb.host import dpkg
from tklb.host.apt.command import run_apt
from tklb.host.apt.support_files import find_mirror_lists, find_support_files, list_names, read_source_file
from tklb.host.files.openat import NoFolder, RootedTree
from tklb.host.release import read_os_release
from tklb.model.packages import SourceFile
from tklb.model.report import Skipped

_APT = b"/etc/apt/"
_FILES = (b"sources.list", b"trusted.gpg", b"preferences", b"auth.conf")
_FOLDERS = (b"keyrings", b"trusted.gpg.d", b"preferences.d", b"auth.conf.d")
# apt refuses to work at all with a bad one of these; the command tells. It looks at no package lists, or it would read
# all of them again for each file that is new (seconds) instead of the sources and settings alone.
_NO_LISTS = tuple(
    f"--option=Dir::{name}"
    for name in ("State::lists=/nonexistent", "State::status=/dev/null", "Cache::pkgcache=", "Cache::srcpkgcache=")
)
_READ_SOURCES, _READ_ALL = ("apt-get", *_NO_LISTS, "indextargets"), ("apt-cache", *_NO_LISTS, "policy", "dpkg")
_CHECKS = (
    (b"/etc/apt/sources.list", _READ_SOURCES),
    (b"/etc/apt/apt.conf", _READ_ALL),
    (b"/etc/apt/preferences", _READ_ALL),
)


def read_source_files(root: bytes = b"/", more: Iterable[bytes] = ()) -> tuple[SourceFile, ...]:
    """Read all such files, the keyrings and mirror lists that sources name, and the paths `more`. Sorted by path."""
    paths = {_APT + name for name in _FILES}
    paths |= {_APT + folder + b"/" + name for folder in _FOLDERS for name in list_names(root, _APT + folder)}
    listed = {source_lines.SOURCE_FOLDER + name for name in list_names(root, source_lines.SOURCE_FOLDER)}
    found = _read_all(root, paths | {path for path in listed if source_lines.is_source(path)})
    named = _keyrings(found.values()) | find_mirror_lists(_parse(found.values()))
    found |= _read_all(root, {*named, *more} - found.keys())
    return tuple(found[path] for path in sorted(found))


def find_unreadable_sources(root: bytes = b"/") -> Iterator[Skipped]:
    """Give the files in /etc/apt that are there and cannot be read, each with the reason."""
    folders = (_APT, source_lines.SOURCE_FOLDER, *(_APT + folder + b"/" for folder in (*_FOLDERS, b"apt.conf.d")))
    for path in (folder + name for folder in folders for name in list_names(root, folder)):
        try:
            read_existing(os.path.join(root, path.lstrip(b"/")))
        except AccessRefused as exc:
            yield Skipped(path, str(exc.facts["reason"]))


def read_extra_sources(root: bytes = b"/") -> tuple[SourceFile, ...]:
    """Read the files that travel with the packages. Sorted by path.

    These are the sources that are not Debian's own, and the keyrings and other files that they need. Every keyring,
    preference and login in /etc/apt travels too, unless it is as a package shipped it.
    """
    files = read_source_files(root)
    carried = source_lines.extra_sources(files, read_os_release(root))
    named = _keyrings(carried)
    stanzas = tuple(_parse(carried, source_lines.read_mirror_lists(files)))
    lists = find_mirror_lists(stanzas)
    rest = [
        file
        for file in files
        if not source_lines.is_source(file.path) and (file.path.startswith(_APT) or file.path in named | lists)
        if b"/debian-archive-" not in file.path
    ]
    rest += find_support_files(root, stanzas)
    shipped = {entry.path: entry.md5 for entry in dpkg.package_files(root, below=[file.path for file in rest])}
    for file in rest:
        is_edited = shipped.get(file.path) != _md5(file.content)
        if (is_edited and file.path not in lists) or file.path in named | lists:
            carried = (*carried, file)
    return tuple(sorted({file.path: file for file in carried}.values(), key=lambda file: file.path))


def add_sources(root: bytes, files: Iterable[SourceFile]) -> tuple[Skipped, ...]:
    """Write the files, each whole or not at all. A folder that is a link is not entered.

    A file with which apt refuses to work is taken back.
    """
    skipped = []
    with RootedTree(root) as tree:
        works = None
        for file in files:
            works = not find_fault(root) if works is None else works
            reason = _add(tree, root, file, is_checked=works)
            if reason:
                skipped.append(Skipped(file.path, reason))
    return tuple(skipped)


def _add(tree: RootedTree, root: bytes, file: SourceFile, *, is_checked: bool) -> str:
    """Write a file; give the reason if it could not be kept."""
    check = next((words for start, words in _CHECKS if file.path.startswith(start)), None)
    before = read_source_file(root, file.path) if check else None
    try:
        _write(tree, file)
        reason = find_fault(root, check) if check and is_checked else ""
        if reason and before:
            _write(tree, before)
        elif reason:
            folder, name = tree.place(file.path)
            os.unlink(name, dir_fd=folder)
    except NoFolder:
        return "its folder is a link"
    except (OSError, ValueError) as exc:
        return getattr(exc, "strerror", None) or str(exc)
    return f"apt does not work with it: {reason}" if reason else ""


def find_fault(root: bytes, check: tuple[str, ...] = _READ_ALL) -> str:
    """Give the reason why apt does not work with its sources and settings; "" if it does."""
    try:
        run_apt(root, check)
    except ProgramFailed as exc:
        return str(exc.facts["reason"])
    return ""


def _write(tree: RootedTree, file: SourceFile) -> None:
    for parent in _list_parents(file.path):
        folder, name = tree.place(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)
            os.chmod(name, 0o755, dir_fd=folder)  # noqa: S103 - whatever the umask: apt has a user of its own
    folder, name = tree.place(file.path)
    beside = name + b".tklb-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(beside, flags, 0o600, dir_fd=folder), "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fchmod(stream.fileno(), file.mode)
        if file.mtime_ns is not None:
            os.utime(stream.fileno(), ns=(file.mtime_ns, file.mtime_ns))
        os.fsync(stream.fileno())
    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _list_parents(path: bytes) -> Iterator[bytes]:
    names = path.split(b"/")[1:-1]
    return (b"/" + b"/".join(names[:end]) for end in range(1, len(names) + 1))


def _parse(files: Iterable[SourceFile], lists: dict[bytes, str] | None = None) -> Iterator[source_lines.Stanza]:
    sources = (file for file in files if source_lines.is_source(file.path))
    return (stanza for file in sources for stanza in source_lines.parse_stanzas(file, lists))


def _keyrings(files: Iterable[SourceFile]) -> set[bytes]:
    return {path for stanza in _parse(files) for path in stanza.keyrings}


def _read_all(root: bytes, paths: Iterable[bytes]) -> dict[bytes, SourceFile]:
    return {path: file for path in paths if (file := read_source_file(root, path))}


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
