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
- It reads a file only where its name leads without a symlink, and only if it is the file that the walk saw: a local
  user may put links and other files in the way while root reads (picked_files.py).
- On restore it writes nothing below a name that is no folder, for the same reason.
- On restore a folder or device that cannot be made gives the reason: duplicity hides that the disk is full.
- On restore it waits for volumes that are not there yet.
- Its log reaches us with any name in it.
- Small runs are many, so it loads only the local backend, and no module for the network or for help in a pager. It does
  not look up the host name in the network, moves or links volumes instead of copying them, packs signatures with ISA-L,
  and starts no program to ask for a version.
"""

import ctypes
import importlib
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from tklb.engine.duplicity_cli import ENCODE
from tklb.engine.picked_files import Index, SourceTree, Wanted, WatchedReader, parse_names, pick
from tklb.storage.duplicity import VERSION

_MOVED_EVERY = 8 << 20
_LOOK = 0.02  # seconds between two looks for a volume that is on its way
_ALIVE_EVERY = 10  # looks
_PR_SET_PDEATHSIG = 1  # prctl(2)
_UNUSED = ("urllib.request", "pydoc")  # of the network and of `--help`: with HTTP, TLS and mail a sixth of a start
_GPG_VERSION = (2, 2, 40)  # of Debian 12: duplicity only asks whether it is 2.1 or later

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


def run_backup(report: WorkerReport, names: Iterable[Wanted], forced: frozenset[bytes]) -> None:
    """Change duplicity so that it stores `names`, and those in `forced` even if they look unchanged."""
    from duplicity import cli_main, config, diffdir

    def select() -> None:
        source = SourceTree(os.path.realpath(config.local_path.name))
        config.select = _select_files(source, names, forced, report)

    def unreadable(exc: Exception, new_path: Untyped, *_signature: Untyped) -> None:
        report.add_failed(new_path.name, getattr(exc, "strerror", None) or str(exc))

    cli_main.set_selection = select
    diffdir.delta_iter_error_handler = unreadable


def _select_files(
    source: SourceTree, names: Iterable[Wanted], forced: frozenset[bytes], report: WorkerReport
) -> Iterator[Untyped]:
    """Give the files for duplicity. Those that are not there any more get a line in the report."""
    kind = _make_picked_file(source, forced, report)
    blocked: Index | None = None
    for wanted in pick(names):
        index = wanted.parts
        if blocked is not None and index[: len(blocked)] == blocked:
            report.add_failed(source.path_of(index), "its folder vanished")
            continue
        found = _look_up(kind, source, wanted, report)
        if found is None:
            continue
        yield found
        blocked = None if found.isdir() else index


def _make_picked_file(source: SourceTree, forced: frozenset[bytes], report: WorkerReport) -> Untyped:
    """Give the class of the files that duplicity reads."""
    from duplicity import path

    class PickedFile(path.Path):  # type: ignore[misc]
        def setdata(self) -> None:
            self.stat = self.type = self.mode = None
            if found := source.find(self.index):
                self.stat, self.symtext = found
                self.set_from_stat()

        def open(self, mode: str = "rb") -> WatchedReader:
            seen: os.stat_result | None = self.stat
            assert mode == "rb"
            assert seen is not None
            return WatchedReader(self.name, source.open(self.index, seen), report)

        def __ne__(self, other: object) -> bool:
            return b"/".join(self.index) in forced or not self == other

        __hash__ = None  # type: ignore[assignment]

    return PickedFile


def _look_up(kind: Untyped, source: SourceTree, wanted: Wanted, report: WorkerReport) -> Untyped:
    """The object of that name. None, with a line in the report, where it is not the one that the walk saw, or none."""
    from duplicity.path import PathException

    name = source.path_of(wanted.parts)
    try:
        found = kind(source.root, wanted.parts)
    except (OSError, PathException) as exc:
        report.add_failed(name, getattr(exc, "strerror", None) or "it became something that cannot be stored")
        return None
    reason = "" if found.exists() else "it vanished"
    if found.exists() and wanted.identity:
        reason = wanted.identity.find_difference(found.stat)
    if reason:
        report.add_failed(name, reason)
    return None if reason else found


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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a restore holds two files open for each set of a chain
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
    for unused in _UNUSED:
        sys.modules[unused] = ModuleType(unused)
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
        run_backup(report, parse_names(_read_names(names)), frozenset(_read_names(forced)) if forced else frozenset())
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
