"""Find what is not as packages ship it in /usr: unowned, edited and missing files, special modes and owners.

Takes a root and the index of owned paths; reads names and statuses; changes nothing. It reads no content: an edited
file or link shows by its mtime, since dpkg gives every one the time that it has in its package.
"""

import errno
import os
import stat
from collections.abc import Iterator

from tklb.host.files.flags import FlagReader
from tklb.host.files.walk import list_folder, read_status
from tklb.host.mounts import is_within
from tklb.host.owned_paths import OwnedPaths
from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped

_TOPS = (b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/libo32")
_LEFT_ALONE = (b"/usr/local", b"/usr/lib/modules", b"/lib/modules")  # in scope anyway; of this machine
_COMPILED = b"__pycache__"
_CAPABILITY = "security.capability"
_CHOSEN = b"/etc/alternatives/"
_AT_FDCWD = -100  # of openat(2)
_WITH_TIMES = (stat.S_IFREG, stat.S_IFLNK)  # what has a time of its own
_USUAL = {stat.S_IFDIR: (0o755,), stat.S_IFREG: (0o644, 0o755)}


@dataclass(frozen=True, slots=True)
class SystemFiles:
    """What was found. All are sorted; an unowned folder stands for everything in it."""

    unowned: tuple[bytes, ...] = ()
    special: tuple[bytes, ...] = ()  # packaged: set-id bits, capabilities, an unusual owner or mode, flags
    edited: tuple[bytes, ...] = ()  # packaged, and changed after their package came
    missing: tuple[bytes, ...] = ()  # packaged, and not there
    unread: tuple[Skipped, ...] = ()  # could not be looked at


def find_system_files(root: bytes, owned: OwnedPaths) -> SystemFiles:
    """Sweep /usr below `root`, and the folders beside it that are not merged into it."""
    sweep = _Sweep(root.rstrip(b"/"), owned)
    unowned, special, edited = [], [], []
    seen, has_flags = set(_LEFT_ALONE), sweep.has_flags
    for path, entry, status in sweep.run():
        born = owned.get(path)
        if born is None and not _is_generated(entry):
            unowned.append(path)
        if born is None:
            continue
        seen.add(path)
        if _is_special(entry, status) or (status.st_ctime_ns > born and has_flags(path)):
            special.append(path)
        if stat.S_IFMT(status.st_mode) in _WITH_TIMES and status.st_mtime_ns > born:
            edited.append(path)
    missing = (path for path in owned if path not in seen and path.startswith(sweep.tops))
    return SystemFiles(
        tuple(sorted(unowned)),
        tuple(sorted(special)),
        tuple(sorted(edited)),
        tuple(sorted(path for path in missing if not any(is_within(path, top) for top in sweep.unseen))),
        tuple(sweep.unread),
    )


class _Sweep:
    """The way through the packaged folders. `unseen` are places whose contents are not known."""

    def __init__(self, start: bytes, owned: OwnedPaths) -> None:
        self._start, self._owned, self._flags = start, owned, FlagReader()
        self._folders = [top for top in _TOPS if not os.path.islink(start + top) and os.path.isdir(start + top)]
        self.tops = tuple(top + b"/" for top in self._folders)
        self.unread: list[Skipped] = []

    @property
    def unseen(self) -> tuple[bytes, ...]:
        return (*_LEFT_ALONE, *(item.item for item in self.unread))

    def run(self) -> Iterator[tuple[bytes, os.DirEntry[bytes], os.stat_result]]:
        """Give everything in packaged folders, with its path inside the root."""
        waiting = [*self._folders]
        while waiting:
            found = tuple(self._list(waiting.pop()))
            yield from found
            waiting += [path for path, _, status in found if path in self._owned and stat.S_ISDIR(status.st_mode)]

    def has_flags(self, path: bytes) -> bool:
        return self._flags.read(_AT_FDCWD, self._start + path) is not None

    def _list(self, folder: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes], os.stat_result]]:
        try:
            entries = list_folder(self._start + folder)
        except OSError as exc:
            self._note(folder, exc)
            return
        for entry in entries:
            path = folder + b"/" + entry.name
            try:
                status = None if path in _LEFT_ALONE else read_status(entry)
            except OSError as exc:
                self._note(path, exc)
                continue
            if status is not None:
                yield path, entry, status

    def _note(self, path: bytes, exc: OSError) -> None:
        self.unread.append(Skipped(path, exc.strerror or str(exc)))


def _is_generated(entry: os.DirEntry[bytes]) -> bool:
    """Whether something unowned is compiled Python, or the link of an alternative: that is made again."""
    if entry.name == _COMPILED or entry.name.endswith(b".pyc"):
        return True
    try:
        return entry.is_symlink() and os.readlink(entry.path).startswith(_CHOSEN)
    except FileNotFoundError:
        return True
    except OSError:  # the walk reports it
        return False


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
