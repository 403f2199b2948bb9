"""Put one entry in place, whole: content, owner, mode, attributes, times, links.

Takes entries as they shall stand (ids mapped) and stages that hold the contents; changes what is beneath a root and
nothing else. No link is ever followed, contents are checked against their digest before they go live, and what goes
live does so in one rename. Each deed may be repeated. What cannot be done comes back as Skipped; only a full disk is
an error (NoSpace), and leaves nothing half-written.

The order of dressing (owner, attributes, mode, capabilities, time) is forced: chown(2) takes setuid bits and
capabilities away, and an ACL rewrites the mode of the group.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

from tklb.base.fs import kind_of_mode
from tklb.diff.xattrs import CAPABILITY, is_carried
from tklb.errors import NoSpace
from tklb.host.files.openat import Beneath, NoFolder, Place, by_descriptor, names_of
from tklb.host.files.staged_content import Content, StagedContents
from tklb.model.files import FileEntry
from tklb.model.report import Skipped

T = TypeVar("T")
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OPEN_TO_READ = 0o755
_CHUNK = 1 << 16
_BLOCK = 4096
_NODES = {"fifo": stat.S_IFIFO, "block": stat.S_IFBLK, "char": stat.S_IFCHR}
_WORDS = {
    errno.EPERM: "not permitted: it or its folder is immutable, or the file system cannot hold it",
    errno.ELOOP: "a symbolic link is in its place",
    errno.EBUSY: "something is mounted there or holds it",
    errno.EISDIR: "a folder is in the way",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EROFS: "the file system is read-only",
}


class _Unfit(Exception):
    """An entry cannot be put in place; the text says why."""


class FileWriter:
    """Changes files beneath `root`; contents come from the `stages`, which it uses up.

    `notes` collects what was done beside what was asked for.
    """

    def __init__(self, root: bytes, stages: Sequence[bytes]) -> None:
        self.notes: list[str] = []
        self._problems: list[Skipped] = []
        with ExitStack() as opened:
            self._live = opened.enter_context(Beneath(root))
            self._contents = opened.enter_context(contextlib.closing(StagedContents(stages)))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def ahead(self, items: Iterable[T], entry_of: Callable[[T], FileEntry | None]) -> Iterator[T]:
        """Give `items` in their order, while contents of the next ones that will be written are made ready.

        `entry_of` an item is what it writes, None where it writes nothing.
        """
        return self._contents.ahead(items, entry_of)

    def write(self, entry: FileEntry, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Make `entry` stand at its path. `was` is what may be in its way: a folder only goes if it says so."""
        return self._attempt(entry.path, lambda: self._put(entry, was))

    def link(self, entry: FileEntry, partner: bytes, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Make `entry` another name of `partner`; a file of its own where that cannot be, which is noted."""
        return self._attempt(entry.path, lambda: self._link(entry, partner, was))

    def metadata(self, entry: FileEntry, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Give what stands there the metadata of `entry`; a folder's time apart."""
        return self._attempt(entry.path, lambda: self._set_metadata(entry, was))

    def delete(self, path: bytes, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Remove what `was` there; a folder must be empty. Nothing there is fine."""
        return self._attempt(path, lambda: self._delete(path, was))

    def folder_time(self, path: bytes, mtime_ns: int) -> tuple[Skipped, ...]:
        """Set the mtime of a folder, when all in it is done."""
        return self._attempt(path, lambda: _set_time(by_descriptor(self._live.folder(path)), mtime_ns))

    def _attempt(self, path: bytes, deed: Callable[[], None]) -> tuple[Skipped, ...]:
        self._problems = []
        try:
            deed()
        except NoFolder as exc:
            self._problem(path, f"{_shown(exc.barrier)} is no folder; links are not followed")
        except (_Unfit, ValueError, OverflowError) as exc:
            self._problem(path, str(exc))
        except OSError as exc:
            if exc.errno in _FULL:
                raise NoSpace(path=path, reason=exc.strerror) from exc
            self._problem(path, _WORDS.get(exc.errno or 0) or exc.strerror or str(exc))
        return tuple(self._problems)

    def _problem(self, path: bytes, reason: str) -> None:
        self._problems.append(Skipped(path, reason))

    def _put(self, entry: FileEntry, was: FileEntry | None) -> None:
        deeds = {"dir": self._make_folder, "file": self._write_file}
        deeds.get(entry.kind, self._make_node)(entry, was)

    # ------------------------------------------------------------ folders and nodes

    def _make_folder(self, entry: FileEntry, was: FileEntry | None) -> None:
        folder, name = self._parent(entry.path)
        if name != b".":
            here = _kind_at(folder, name)
            if here not in (None, "dir") and was is not None and here == was.kind:
                os.unlink(name, dir_fd=folder)
            elif here not in (None, "dir"):
                raise _Unfit(f"a {here} is in the way")
            if here != "dir":
                os.mkdir(name, 0o700, dir_fd=folder)
        with _handle(folder, name, "dir") as handle:
            self._dress(handle, entry)

    def _make_node(self, entry: FileEntry, was: FileEntry | None) -> None:
        folder, name = self._parent(entry.path)
        with _temporary(folder, name) as beside:
            if entry.kind == "link":
                os.symlink(entry.link or b"", beside, dir_fd=folder)
            elif entry.kind in _NODES:
                os.mknod(beside, _NODES[entry.kind] | 0o600, os.makedev(*(entry.device or (0, 0))), dir_fd=folder)
            else:
                raise _Unfit(f"a {entry.kind} cannot be made")
            with _handle(folder, beside, entry.kind) as handle:
                self._dress(handle, entry)
            self._clear(folder, name, was)
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _parent(self, path: bytes) -> Place:
        """The place of `path`; missing parents are made, root's and open to read."""
        with contextlib.suppress(FileNotFoundError):
            return self._live.place(path)
        names = names_of(path)
        for depth in range(1, len(names)):
            self._make_missing(b"/" + b"/".join(names[:depth]))
        return self._live.place(path)

    def _make_missing(self, path: bytes) -> None:
        folder, name = self._live.place(path)
        if _kind_at(folder, name) is None:
            os.mkdir(name, 0o700, dir_fd=folder)
            with _handle(folder, name, "dir") as handle:
                os.chmod(by_descriptor(handle), _OPEN_TO_READ)
            self.notes.append(f"made {_shown(path)}, a folder that the snapshot does not describe")

    def _clear(self, folder: int, name: bytes, was: FileEntry | None) -> None:
        """Take the folder away that the plan found in the way; a rename replaces everything else."""
        if was is not None and was.kind == "dir" and _kind_at(folder, name) == "dir":
            os.rmdir(name, dir_fd=folder)
            self._live.forget(was.path)

    # ------------------------------------------------------------ files

    def _write_file(self, entry: FileEntry, was: FileEntry | None) -> None:
        if entry.sha256 is None:
            raise _Unfit("no digest of its content is recorded")
        place = self._parent(entry.path)
        content = self._contents.open(entry.path)
        if content is None:
            self._copy_live(entry, was)
            return
        try:
            if entry.sparse or not self._move(content, place, entry, was):
                self._copy(content.descriptor, place, entry, was)
                folder, name = content.stage.place(entry.path)
                os.unlink(name, dir_fd=folder)
        finally:
            content.close()

    def _copy_live(self, entry: FileEntry, was: FileEntry | None) -> None:
        """What no stage has may be in place already."""
        try:
            source = self._live.open_file(entry.path)
        except FileNotFoundError as exc:
            raise _Unfit("its content is not in the snapshot") from exc
        try:
            self._copy(source, self._live.place(entry.path), entry, was)
        finally:
            os.close(source)

    def _move(self, content: Content, place: Place, entry: FileEntry, was: FileEntry | None) -> bool:
        """Dress the staged file and rename it into place; False where it lies on another file system."""
        if os.fstat(content.descriptor).st_nlink != 1:
            raise _Unfit("its content on the stage has a second name")
        _must_match(content.sha256(), entry)
        self._dress(content.descriptor, entry)
        staged, staged_name = content.stage.place(entry.path)
        folder, name = place
        self._clear(folder, name, was)
        try:
            os.rename(staged_name, name, src_dir_fd=staged, dst_dir_fd=folder)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            os.lseek(content.descriptor, 0, os.SEEK_SET)
            self._problems.clear()  # the copy will tell
            return False
        return True

    def _copy(self, source: int, place: Place, entry: FileEntry, was: FileEntry | None) -> None:
        folder, name = place
        with _temporary(folder, name) as beside:
            target = os.open(beside, _NEW, 0o600, dir_fd=folder)
            try:
                _must_match(_copy_content(source, target, holes=entry.sparse), entry)
                self._dress(target, entry)
            finally:
                os.close(target)
            self._clear(folder, name, was)
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _link(self, entry: FileEntry, partner: bytes, was: FileEntry | None) -> None:
        self._parent(entry.path)
        why = self._link_to(entry, partner, was)
        if why:
            self.notes.append(
                f"{_shown(entry.path)} is a {entry.kind} of its own, no hard link to {_shown(partner)}: {why}"
            )
            self._put(entry, was)

    def _link_to(self, entry: FileEntry, partner: bytes, was: FileEntry | None) -> str | None:
        """Link; say why not where `partner` is not the same file, or the file system refuses."""
        try:
            if not self._is_same(partner, entry):
                return "that one is another here"
            with _handle(*self._live.place(partner), entry.kind) as handle:
                folder, name = self._live.place(entry.path)
                with _temporary(folder, name) as beside:
                    os.link(by_descriptor(handle), beside, dst_dir_fd=folder, follow_symlinks=True)
                    self._dress(handle, entry)
                    self._clear(folder, name, was)
                    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as exc:
            if exc.errno in _FULL:
                raise
            return exc.strerror
        return None

    def _is_same(self, path: bytes, entry: FileEntry) -> bool:
        """Whether `path` is what `entry` says, metadata apart."""
        if entry.kind == "file":
            return self._live.file_digest(path, "sha256") == entry.sha256
        folder, name = self._live.place(path)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if kind_of_mode(status.st_mode) != entry.kind:
            return False
        if entry.kind == "link":
            return os.readlink(name, dir_fd=folder) == entry.link
        return entry.device in (None, (os.major(status.st_rdev), os.minor(status.st_rdev)))

    # ------------------------------------------------------------ metadata and deletion

    def _set_metadata(self, entry: FileEntry, was: FileEntry | None) -> None:
        folder, name = self._live.place(entry.path)
        with _handle(folder, name, entry.kind) as handle:
            names = os.fstat(handle).st_nlink
            if entry.kind != "dir" and was is not None and names > (was.nlink or names):
                raise _Unfit("it has got another name meanwhile")
            self._dress(handle, entry)

    def _dress(self, handle: int, entry: FileEntry) -> None:
        path = by_descriptor(handle)
        if entry.uid is not None or entry.gid is not None:
            os.chown(path, -1 if entry.uid is None else entry.uid, -1 if entry.gid is None else entry.gid)
        wanted = dict(entry.xattrs or ())
        capability = wanted.pop(CAPABILITY, None)
        if entry.xattrs is not None:
            for name in map(os.fsencode, os.listxattr(path)):
                if is_carried(name) and name not in wanted:
                    os.removexattr(path, name)
        for name, value in wanted.items():
            self._set_xattr(path, entry.path, name, value)
        if entry.kind != "link" and entry.mode is not None:
            os.chmod(path, entry.mode)
        if capability is not None:
            self._set_xattr(path, entry.path, CAPABILITY, capability)
        if entry.kind != "dir" and entry.mtime_ns is not None:
            _set_time(path, entry.mtime_ns)

    def _set_xattr(self, path: bytes, item: bytes, name: bytes, value: bytes) -> None:
        try:
            os.setxattr(path, name, value)
        except OSError as exc:
            self._problem(item, f"its attribute {_shown(name)} cannot be set: {exc.strerror}")

    def _delete(self, path: bytes, was: FileEntry | None) -> None:
        try:
            folder, name = self._live.place(path)
        except FileNotFoundError:
            return
        here = _kind_at(folder, name)
        if here is not None and was is not None and here != was.kind:
            raise _Unfit(f"not deleted: it was a {was.kind} and is a {here} now")
        if here == "dir":
            os.rmdir(name, dir_fd=folder)
            self._live.forget(path)
        elif here is not None:
            os.unlink(name, dir_fd=folder)


def temporary_name(name: bytes) -> bytes:
    """The name under which a new object waits in its folder; always the same, so that a repeat clears what is left."""
    return b".tklb-" + hashlib.sha256(name).hexdigest()[:24].encode()


@contextlib.contextmanager
def _temporary(folder: int, name: bytes) -> Iterator[bytes]:
    beside = temporary_name(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    try:
        yield beside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)


@contextlib.contextmanager
def _handle(folder: int, name: bytes, kind: str) -> Iterator[int]:
    """A descriptor of the very object, whatever its kind, that is neither opened nor followed."""
    handle = os.open(name, _HANDLE, dir_fd=folder)
    try:
        if (here := kind_of_mode(os.fstat(handle).st_mode)) != kind:
            raise _Unfit(f"it is a {here} and no {kind} now")
        yield handle
    finally:
        os.close(handle)


def _kind_at(folder: int, name: bytes) -> str | None:
    try:
        return kind_of_mode(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _must_match(digest: str, entry: FileEntry) -> None:
    if digest != entry.sha256:
        raise _Unfit("its content is not what was recorded")


def _copy_content(source: int, target: int, *, holes: bool) -> str:
    """Copy to the end and give the SHA-256; with `holes`, blocks of zeros are not written."""
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(source, _CHUNK):
        digest.update(chunk)
        step = _BLOCK if holes else len(chunk)
        for start in range(0, len(chunk), step):
            block = chunk[start : start + step]
            if not holes or block.count(0) != len(block):
                _write_all(target, block, size + start)
        size += len(chunk)
    os.ftruncate(target, size)
    return digest.hexdigest()


def _write_all(target: int, block: bytes, offset: int) -> None:
    while block:
        written = os.pwrite(target, block, offset)
        block, offset = block[written:], offset + written


def _set_time(path: bytes, mtime_ns: int) -> None:
    os.utime(path, ns=(os.stat(path).st_atime_ns, mtime_ns))


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
