"""Find what is not as packages ship it in /usr: files that no package owns, special modes and owners, edited files.

Takes a root and the index of owned paths; reads names and statuses; changes nothing. It reads no content: an edited
file shows by its mtime, since dpkg gives every file the time that it has in its package.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from tklb.host.owned_paths import OwnedPaths

_TOPS = (b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/libo32")
_LEFT_ALONE = (b"/usr/local", b"/usr/lib/modules", b"/lib/modules")  # in scope anyway; of this machine
_COMPILED = b"__pycache__"
_CAPABILITY = "security.capability"
_CHOSEN = b"/etc/alternatives/"
_USUAL = {stat.S_IFDIR: (0o755,), stat.S_IFREG: (0o644, 0o755)}


@dataclass(frozen=True, slots=True)
class SystemFiles:
    """What was found. All are sorted; an unowned folder stands for everything in it."""

    unowned: tuple[bytes, ...] = ()
    special: tuple[bytes, ...] = ()  # packaged: set-id bits, capabilities, an owner or a mode that is unusual
    edited: tuple[bytes, ...] = ()  # packaged, and changed after their package came


def find_system_files(root: bytes, owned: OwnedPaths) -> SystemFiles:
    """Sweep /usr below `root`, and the folders beside it that are not merged into it."""
    unowned, special, edited = [], [], []
    for path, entry in _list_folders(root, owned):
        born, status = owned.get(path), _read_status(entry)
        if born is None and not _is_generated(entry):
            unowned.append(path)
        if born is None or status is None:
            continue
        if _is_special(entry, status):
            special.append(path)
        if stat.S_ISREG(status.st_mode) and status.st_mtime_ns > born:
            edited.append(path)
    return SystemFiles(tuple(sorted(unowned)), tuple(sorted(special)), tuple(sorted(edited)))


def _list_folders(root: bytes, owned: OwnedPaths) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Give everything in packaged folders, with its path inside the root."""
    start = root.rstrip(b"/")
    waiting = [top for top in _TOPS if not os.path.islink(start + top) and os.path.isdir(start + top)]
    while waiting:
        folder = waiting.pop()
        entries = [(folder + b"/" + entry.name, entry) for entry in _list_folder(start + folder)]
        entries = [(path, entry) for path, entry in entries if path not in _LEFT_ALONE]
        yield from entries
        waiting += [path for path, entry in entries if path in owned and entry.is_dir(follow_symlinks=False)]


def _list_folder(folder: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # it vanished; the walk names what cannot be read
        return []


def _read_status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _is_generated(entry: os.DirEntry[bytes]) -> bool:
    """Whether something unowned is compiled Python, or the link of an alternative: that is made again."""
    if entry.name == _COMPILED or entry.name.endswith(b".pyc"):
        return True
    try:
        return entry.is_symlink() and os.readlink(entry.path).startswith(_CHOSEN)
    except OSError:
        return True


def _is_special(entry: os.DirEntry[bytes], status: os.stat_result) -> bool:
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    if kind not in _USUAL:
        return kind != stat.S_IFLNK or bool(status.st_uid or status.st_gid)
    if status.st_uid or status.st_gid or mode not in _USUAL[kind]:
        return True
    return kind == stat.S_IFREG and mode & stat.S_IXUSR != 0 and _has_capability(entry.path)


def _has_capability(path: bytes) -> bool:
    try:
        return bool(os.getxattr(path, _CAPABILITY, follow_symlinks=False))
    except OSError as exc:
        return exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT)
