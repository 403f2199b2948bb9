"""duplicity in a process of its own, with a few changes inside it; duplicity_cli.py knows its outside.

Takes the descriptor of a report, the process that started it, its task, one or two lists of names, and the arguments
of duplicity. Gives the exit status of duplicity and, in the report, the fate of every file that it read:

    stored|changed TAB size TAB sha256 TAB path NUL      the content that is in the snapshot now, and its digest
    failed TAB reason TAB TAB path NUL                   not stored, or in part
    moved TAB bytes NUL                                  progress
    worker TAB process NUL                               the first line

The changes in duplicity 3.2.1, and why they cannot be made from outside:
- Our own iterator picks the files: `--files-from` takes UTF-8 only, and a carriage return ends a line there.
- It hashes content while it reads. duplicity ends with status 0 and "Errors 0" after a read error in mid-file.
- A file that must be read again compares as changed: duplicity sees no edit that keeps size and second.
- It reads a file only where its name leads without a symlink, and only if it is still the same file: a local user may
  put links in the way while root reads.
- On restore it writes nothing below a name that is no folder, for the same reason.
- On restore a folder or device that cannot be made gives the reason: duplicity hides that the disk is full.
- On restore it waits for volumes that are not there yet.
- Its log reaches us with any name in it.
- Small runs are many, so it loads only the local backend, does not look up the host name in the network, moves or links
  volumes instead of copying them, packs signatures with ISA-L, and starts no program to ask for a version.
"""

import ctypes
import errno
import hashlib
import importlib
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from tklb.engine.duplicity_cli import ENCODE
from tklb.storage.duplicity import VERSION

_MOVED_EVERY = 8 << 20
_LOOK = 0.02  # seconds between two looks for a volume that is on its way
_ALIVE_EVERY = 10  # looks
_PR_SET_PDEATHSIG = 1  # prctl(2)
_GPG_VERSION = (2, 2, 40)  # of Debian 12: duplicity only asks whether it is 2.1 or later

Index = tuple[bytes, ...]
Untyped = Any  # what duplicity makes: it has no types


class WorkerReport:
    """Writes the fate of every file."""

    def __init__(self, descriptor: int) -> None:
        self._stream = open(descriptor, "ab")  # noqa: SIM115 - open as long as the process
        self._moved = 0

    def begin(self) -> None:
        self._write(b"worker", b"%d" % os.getpid())
        self._stream.flush()

    def add_stored(self, path: bytes, size: int, sha256: str, *, changed: bool) -> None:
        self._write(b"changed" if changed else b"stored", b"%d" % size, sha256.encode(), path)

    def add_failed(self, path: bytes, reason: str) -> None:
        self._write(b"failed", reason.replace("\t", " ").encode(), b"", path)

    def count_moved(self, count: int) -> None:
        self._moved += count
        if self._moved >= _MOVED_EVERY:
            self._write(b"moved", b"%d" % self._moved)
            self._stream.flush()
            self._moved = 0

    def show_life(self) -> None:
        """Show that the process still works."""
        self._write(b"moved", b"0")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def _write(self, *fields: bytes) -> None:
        self._stream.write(b"\t".join(fields) + b"\0")


class WatchedReader:
    """A source file for duplicity: it hashes the content, and notices changes during the reading."""

    def __init__(self, name: bytes, seen: os.stat_result, report: WorkerReport, wanted: bytes = b"") -> None:
        self.name = wanted or name  # the name in the report: a mail message may have another by now
        self._report = report
        self._stream = open(_open_very(name, seen), "rb")  # noqa: SIM115 - duplicity closes it
        self._before = os.fstat(self._stream.fileno())
        self._left = self._before.st_size
        self._error: OSError | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, length: int = -1) -> bytes:
        wanted = self._left if length < 0 else min(length, self._left)
        try:
            block = b"" if self._error else self._stream.read(wanted)
        except OSError as exc:
            self._error, block = exc, b""
        # duplicity reads on for its signature after the end of what it stores: there must be nothing more by then
        self._left = self._left - len(block) if len(block) == wanted else 0
        self._digest.update(block)
        self._size += len(block)
        self._report.count_moved(len(block))
        return block

    def close(self) -> None:
        after = os.fstat(self._stream.fileno())
        self._stream.close()
        if self._error:
            self._report.add_failed(self.name, f"read error: {self._error.strerror}")
            return
        changed = _state(after) != _state(self._before) or self._size != after.st_size
        self._report.add_stored(self.name, self._size, self._digest.hexdigest(), changed=changed)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open_very(name: bytes, seen: os.stat_result) -> int:
    """Open the file that was `seen`, by a name without links, and keep its access time."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags | os.O_NOATIME)
    except PermissionError:
        descriptor = os.open(name, flags)
    status = os.fstat(descriptor)
    same = (status.st_dev, status.st_ino) == (seen.st_dev, seen.st_ino)
    if not same or os.readlink(b"/proc/self/fd/%d" % descriptor) != name:
        os.close(descriptor)
        raise OSError(errno.ENOENT, "another file took its place")
    return descriptor


def pick(names: Sequence[bytes]) -> Iterator[Index]:
    """Give the names as indexes of duplicity, in its order, each after all folders above it, the root first."""
    yield ()
    previous: Index = ()
    for index in sorted({tuple(name.split(b"/")) for name in names if name}):
        known = 0
        while known < min(len(previous), len(index) - 1) and previous[known] == index[known]:
            known += 1
        for depth in range(known + 1, len(index) + 1):
            yield index[:depth]
        previous = index


def run_backup(report: WorkerReport, names: Sequence[bytes], forced: frozenset[bytes]) -> None:
    """Change duplicity so that it stores `names`, and those in `forced` even if they look unchanged."""
    from duplicity import cli_main, config, diffdir, path

    class PickedFile(path.Path):  # type: ignore[misc]
        def open(self, mode: str = "rb") -> WatchedReader:
            assert mode == "rb"
            return _open_watched(self, report)

        def __ne__(self, other: object) -> bool:
            return b"/".join(self.index) in forced or not self == other

        __hash__ = None  # type: ignore[assignment]

    def selection(root: bytes) -> Iterator[Untyped]:
        blocked: Index | None = None
        for index in pick(names):
            if blocked is not None and index[: len(blocked)] == blocked:
                report.add_failed(_name(root, index), "its folder vanished")
                continue
            found = _look_up(PickedFile, root, index, report)
            if found is None:
                continue
            yield found
            blocked = None if found.isdir() else index

    def select() -> None:
        config.select = selection(os.path.realpath(config.local_path.name))

    def unreadable(exc: Exception, new_path: Untyped, *_signature: Untyped) -> None:
        report.add_failed(new_path.name, getattr(exc, "strerror", None) or str(exc))

    cli_main.set_selection = select
    diffdir.delta_iter_error_handler = unreadable


def _name(root: bytes, index: Index) -> bytes:
    return os.path.join(root, *index)


def _look_up(kind: Callable[[bytes, Index], Untyped], root: bytes, index: Index, report: WorkerReport) -> Untyped:
    """The object of that name. None, with a line in the report, where there is none that a tar file can hold."""
    from duplicity.path import PathException

    try:
        found = kind(root, index)
    except (OSError, PathException) as exc:
        report.add_failed(
            _name(root, index), getattr(exc, "strerror", None) or "it became something that cannot be stored"
        )
        return None
    if not found.exists() and not _find_again(found):
        report.add_failed(_name(root, index), "it vanished")
        return None
    return found


def _open_watched(found: Untyped, report: WorkerReport) -> WatchedReader:
    wanted = _name(found.base, found.index)
    try:
        return WatchedReader(found.name, found.stat, report, wanted)
    except FileNotFoundError:
        if not _find_again(found):
            raise
        return WatchedReader(found.name, found.stat, report, wanted)


def _find_again(found: Untyped) -> bool:
    """Let `found` read a mail message that was moved meanwhile. The snapshot has it under the name that was listed."""
    from tklb.diff.path_names import is_message
    from tklb.host.files.walk import find_moved_message

    name = _name(found.base, found.index)
    moved = find_moved_message(name) if is_message(name) else None
    if moved is None:
        return False
    found.name = moved
    found.setdata()
    return bool(found.exists())


def run_restore(report: WorkerReport, incoming: Sequence[bytes]) -> None:
    """Change duplicity so that it waits for the volumes `incoming`, each of which appears whole.

    It then also writes nothing below a name that is no folder, and gives the reason where it could not make something.
    """
    from duplicity import backend, errors, patchdir, path

    integrate = patchdir.integrate_patch_iters

    def check_parents(parts: Untyped) -> Iterator[Untyped]:
        folders: list[Index] = []
        for found in integrate(parts):
            parent = found.index[:-1]
            while folders and folders[-1] != parent[: len(folders[-1])]:
                folders.pop()
            if found.index and (not folders or folders[-1] != parent):
                raise errors.FatalError(f"{os.fsdecode(found.get_relative_path())} lies below a name that is no folder")
            if found.isdir():
                folders.append(found.index)
            report.count_moved(getattr(found.stat, "st_size", 0) or 0)
            yield found

    def make_folder(self: Untyped) -> None:
        os.mkdir(self.name)
        self.setdata()

    def make_device(self: Untyped, kind: str, major: int, minor: int) -> None:
        os.mknod(self.name, stat.S_IFBLK if kind == "b" else stat.S_IFCHR, os.makedev(major, minor))
        self.setdata()

    backend.import_backends = lambda: _load_local(report, incoming)
    patchdir.integrate_patch_iters = check_parents
    path.Path.mkdir, path.Path.makedev = make_folder, make_device


def _speed_up(report: WorkerReport) -> None:
    """Leave out what would take most of the time of a small run."""
    from duplicity import backend, dup_main, gpg
    from isal.igzip import IGzipFile

    def pack(name: Untyped, mode: str, _level: int, stream: Untyped) -> IGzipFile:
        return IGzipFile(name, mode, compresslevel=1, fileobj=stream)  # type: ignore[no-untyped-call]

    backend.import_backends = lambda: _load_local(report, ())
    backend.BackendWrapper.put = backend.BackendWrapper.move
    gpg.GPGProfile.get_gpg_version = lambda profile, binary: _GPG_VERSION  # noqa: ARG005
    gpg.check_gpg = lambda: None
    dup_main.log_startup_parms = lambda verbosity: None  # noqa: ARG005 - it runs uname
    gpg.gzip = SimpleNamespace(GzipFile=pack)


def _log_every_name() -> None:
    """Let the log take names that are not UTF-8: duplicity would lose the whole message, even a warning."""
    from duplicity import log

    def add_fd(descriptor: int) -> None:
        handler = logging.StreamHandler(open(descriptor, "w", errors="backslashreplace"))  # noqa: SIM115
        handler.setFormatter(log.MachineFormatter())
        handler.addFilter(log.MachineFilter())
        logging.getLogger("duplicity").addHandler(handler)

    log.add_fd = add_fd


def _load_local(report: WorkerReport, incoming: Sequence[bytes]) -> None:
    """Load the local backend. `incoming` are all files to list, also those that are not there yet."""
    local = importlib.import_module("duplicity.backends.localbackend").LocalBackend
    copy, names = local._get, frozenset(incoming)  # noqa: SLF001

    def get(here: Untyped, name: bytes, destination: Untyped) -> None:
        source = here.remote_pathdir.append(name).name
        looks = 0
        while name in names and not os.path.lexists(source):
            time.sleep(_LOOK)
            looks += 1
            if looks % _ALIVE_EVERY == 0:
                report.show_life()
        try:
            os.link(source, destination.name)
        except OSError:
            copy(here, name, destination)

    local._get = get  # noqa: SLF001
    if incoming:
        local._list = lambda _here: list(incoming)  # noqa: SLF001


def _shield(parent: int) -> None:
    """End with the process that started us, leave no core file, and ask no name server for our name."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    socket.getfqdn = lambda name="": name or socket.gethostname()


def _read_names(file: str) -> list[bytes]:
    with open(file, "rb") as stream:
        return stream.read().split(b"\0")


def main(arguments: Sequence[str]) -> int:
    """Run duplicity and end with its status.

    Arguments: report descriptor, parent, `encode` or `decode`, list of names, list of forced names or "", and those of
    duplicity itself.
    """
    descriptor, parent, task, names, forced, *words = arguments
    _shield(int(parent))
    import duplicity
    from duplicity.__main__ import dup_run

    if duplicity.__version__ != VERSION:
        sys.stderr.write(f"this is duplicity {duplicity.__version__}; tklb knows {VERSION}\n")
        return 1
    report = WorkerReport(int(descriptor))
    report.begin()
    _speed_up(report)
    _log_every_name()
    if task == ENCODE:
        run_backup(report, _read_names(names), frozenset(_read_names(forced)) if forced else frozenset())
    else:
        run_restore(report, list(filter(None, _read_names(names))))
    sys.argv = ["duplicity", *words]
    status: object = 1
    try:
        status = dup_run()
    except SystemExit as exc:
        status = exc.code
    except BaseException:  # noqa: BLE001 - shown as Python would show it
        sys.excepthook(*sys.exc_info())
    report.close()
    logging.shutdown()
    # After a failure a thread of duplicity waits for a gpg that nobody reads from or writes to any more.
    os._exit(0 if status is None else status if isinstance(status, int) else 1)
