"""Write one entry, whole: content, owner, mode, extended attributes, times and links.

Takes entries in their final form (ids mapped) and stages that hold the contents. Changes files below a root and nothing
else. It follows no link, checks every content against its digest, and puts it in place with one rename. Each action may
be repeated. An entry that cannot be written comes back as Skipped. Only a full disk is an error (NoSpace), and leaves
no half-written file.

Other users may act meanwhile. So a file gets more rights only as a new inode: its content is checked while it is
written, and it is complete before anybody else can reach it. Present objects must be those that the plan saw. Folders
are closed while they are filled; call finish_folders() when all is there.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from tklb.diff.attributes.rights import is_same_inode, keeps_inode, needs_new_inode
from tklb.errors import NoSpace
from tklb.host.files.flags import LiftedFlags, set_flags
from tklb.host.files.handles.attributes import has_attributes, set_attributes, set_time
from tklb.host.files.handles.filling import FillingFolders
from tklb.host.files.handles.held_objects import describe_os_error, hold_object, hold_partner, make_node
from tklb.host.files.move_object import Inode, hold_temporary, move_to_free_name
from tklb.host.files.openat import (
    FolderGuard,
    NoFolder,
    Place,
    RootedTree,
    descriptor_path,
    find_kind,
    names_of,
    read_rights,
)
from tklb.host.files.staged_content import StagedContent, StagedContents, copy_content
from tklb.model.files import FileEntry
from tklb.model.report import Skipped

T = TypeVar("T")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PROTECTED = (errno.EPERM, errno.EACCES)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OPEN_TO_READ = 0o755


class _CannotWrite(Exception):
    """An entry cannot be written; the text is the reason."""


class FileWriter:
    """Changes files below `root`. Contents come from the `stages`: it moves them out. Use it in a with block.

    Each method reports what it could not do, and raises NoSpace. `notes` collects what it did beside its task. It is
    for one thread at a time.
    """

    def __init__(
        self,
        root: bytes,
        stages: Sequence[bytes],
        *,
        follows_root_links: bool = False,
        guard: FolderGuard | None = None,
    ) -> None:
        """The plan saw the expected folders of `guard` (LiveFiles.folders)."""
        self.notes: list[str] = []
        self._problems: list[Skipped] = []
        self._late: list[Skipped] = []  # about folders that were full
        with ExitStack() as opened:
            self._live = opened.enter_context(RootedTree(root, follows_root_links=follows_root_links, guard=guard))
            self._lifted = LiftedFlags(self._live)
            self._folders = FillingFolders(self._live, self._set_attributes)
            self._contents = opened.enter_context(contextlib.closing(StagedContents(stages)))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish_folders()
        finally:
            self._opened.close()

    def prepare_ahead(self, items: Iterable[T], entry_of: Callable[[T], FileEntry | None]) -> Iterator[T]:
        """Give `items` in their order, while threads hash the contents of the next ones.

        `entry_of` an item is the entry that it writes, None if it writes none.
        """
        return self._contents.prepare_ahead(items, entry_of)

    def write(self, entry: FileEntry, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Write `entry` at its path. `was` is the object that it may replace; only then a folder goes."""
        return self._attempt(entry.path, lambda: self._put(entry, was))

    def write_content(self, entry: FileEntry, content: bytes, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Write `entry` as write() does, but with this content and not that of a stage."""
        return self._attempt(entry.path, lambda: self._put_content(entry, content, was))

    def link(self, entry: FileEntry, partner: bytes, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Make `entry` a hard link to `partner`; a file of its own, and a note, if that is not possible."""
        return self._attempt(entry.path, lambda: self._link(entry, partner, was), partner)

    def set_metadata(self, entry: FileEntry, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Give the object at its path the metadata of `entry`, except the time of a folder."""
        return self._attempt(entry.path, lambda: self._change_metadata(entry, was))

    def delete(self, path: bytes, was: FileEntry | None = None) -> tuple[Skipped, ...]:
        """Delete the object at `path` if it is of the kind of `was`. A folder must be empty. Absent is fine."""
        return self._attempt(path, lambda: self._delete(path, was))

    def move_aside(self, path: bytes, aside: bytes, was: FileEntry) -> tuple[Skipped, ...]:
        """Give `was`, which must still stand at `path`, the free name `aside` in the same folder."""
        return self._attempt(path, lambda: self._rename(path, aside, (was.dev, was.ino)))

    def move_back(self, path: bytes, aside: bytes) -> bool:
        """Undo move_aside() where nothing took the place of the object. Whether it stands at `path` again."""
        return not self._attempt(path, lambda: self._rename(aside, path, None))

    def finish_folders(self) -> tuple[Skipped, ...]:
        """Give folders their owners, modes and attributes. Call it when all that comes into them is there."""
        self._leave_folders(None)
        late, self._late = tuple(self._late), []
        return late

    def set_folder_time(self, path: bytes, mtime_ns: int) -> tuple[Skipped, ...]:
        """Set the mtime of a folder. Call it after all changes in the folder."""
        return self._attempt(path, lambda: set_time(descriptor_path(self._live.folder(path)), mtime_ns))

    def set_flags(self, entry: FileEntry) -> tuple[Skipped, ...]:
        """Give the file or folder the flags of `entry`. Call it after all other changes: nothing can follow."""
        return self._attempt(entry.path, lambda: set_flags(*self._live.place(entry.path), entry.flags or "", entry))

    def set_lifted_flags(self) -> tuple[Skipped, ...]:
        """Set again the flags that had to be lifted for a change, and note where. Call it last."""
        lifted = self._lifted.take_all()
        self.notes += [f"lifted chattr +{letters} of {_decode(path)} and set it again" for path, letters in lifted]
        every = (FileEntry(path, "file", flags=letters) for path, letters in lifted if self._is_there(path))
        return tuple(skipped for entry in every for skipped in self.set_flags(entry))

    def _is_there(self, path: bytes) -> bool:
        with contextlib.suppress(OSError):
            return find_kind(*self._live.place(path)) in ("file", "dir")
        return False

    def _attempt(self, path: bytes, action: Callable[[], None], partner: bytes | None = None) -> tuple[Skipped, ...]:
        """Do it; once more if flags were in the way and could be lifted."""
        self._leave_folders(path)
        return self._try_action(path, action, partner)

    def _leave_folders(self, path: bytes | None) -> None:
        for folder in self._folders.list_left(path):
            self._late += self._try_action(folder, partial(self._folders.finish_folder, folder))

    def _try_action(self, path: bytes, action: Callable[[], None], partner: bytes | None = None) -> tuple[Skipped, ...]:
        self._problems = []
        try:
            action()
        except NoFolder as exc:
            self._problem(path, f"{_decode(exc.barrier)} is not a folder; tklb follows no links")
        except (_CannotWrite, ValueError, OverflowError) as exc:
            self._problem(path, str(exc))
        except OSError as exc:
            if exc.errno in _FULL:
                raise NoSpace(path=path, reason=exc.strerror) from exc
            if exc.errno in _PROTECTED and self._lifted.lift(path, partner):
                return self._try_action(path, action, partner)
            self._problem(path, describe_os_error(exc))
        return tuple(self._problems)

    def _problem(self, path: bytes, reason: str) -> None:
        self._problems.append(Skipped(path, reason))

    def _put(self, entry: FileEntry, was: FileEntry | None) -> None:
        writers = {"dir": self._make_folder, "file": self._write_file}
        writers.get(entry.kind, self._make_node)(entry, was)

    # ------------------------------------------------------------ folders and nodes

    def _make_folder(self, entry: FileEntry, was: FileEntry | None) -> None:
        folder, name = self._parent(entry.path)
        here = None if name == b"." else find_kind(folder, name)
        if name != b"." and here != "dir":
            if here is not None and (was is None or here != was.kind or not self._is_same_place(folder, name, was)):
                raise _CannotWrite(f"a {here} is in the way")
            if here is not None:
                os.unlink(name, dir_fd=folder)
            os.mkdir(name, 0o700, dir_fd=folder)
        is_new = name != b"." and here != "dir"
        self._folders.fill((folder, name), entry, None if is_new else was, is_new=is_new)

    def _make_node(self, entry: FileEntry, was: FileEntry | None) -> None:
        place = self._parent(entry.path)
        with hold_temporary(*place) as (beside, new):
            make_node(beside, new, entry)
            with hold_object(beside, new, entry.kind) as handle:
                self._set_attributes(handle, entry)
            self._put_in_place((beside, new), place, was)

    def _put_in_place(self, new: Place, place: Place, was: FileEntry | None) -> None:
        """Rename a new object, which is complete, to its place."""
        folder, name = place
        self._clear(folder, name, was)
        os.rename(new[1], name, src_dir_fd=new[0], dst_dir_fd=folder)

    def _parent(self, path: bytes) -> Place:
        """Give the place of `path`. Missing parents are made for root, with mode 0755."""
        with contextlib.suppress(FileNotFoundError):
            return self._live.place(path)
        names = names_of(path)
        for depth in range(1, len(names)):
            self._make_missing(b"/" + b"/".join(names[:depth]))
        return self._live.place(path)

    def _make_missing(self, path: bytes) -> None:
        folder, name = self._live.place(path)
        if find_kind(folder, name) is None:
            self._live.check_missing(path)
            os.mkdir(name, 0o700, dir_fd=folder)
            self._folders.fill((folder, name), FileEntry(path, "dir", _OPEN_TO_READ, 0, 0), None, is_new=True)
            self.notes.append(f"made {_decode(path)}, a folder that the snapshot does not describe")

    def _clear(self, folder: int, name: bytes, was: FileEntry | None) -> None:
        """Remove the folder that the plan wants to replace; a rename replaces everything else."""
        if was is not None and was.kind == "dir" and find_kind(folder, name) == "dir":
            os.rmdir(name, dir_fd=folder)
            self._forget(was.path)

    def _forget(self, path: bytes) -> None:
        self._folders.forget(path)
        self._live.forget_for_good(path)

    # ------------------------------------------------------------ files

    def _write_file(self, entry: FileEntry, was: FileEntry | None) -> None:
        if entry.sha256 is None:
            raise _CannotWrite("the snapshot has no digest of its content")
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
        """Take the content from its final place: a run before this one may have put it there."""
        try:
            source = self._live.open_file(entry.path)
        except FileNotFoundError as exc:
            raise _CannotWrite("its content is not in the snapshot") from exc
        with os.fdopen(source, "rb", buffering=0):
            if entry.size not in (None, os.fstat(source).st_size):
                raise _CannotWrite("its content is not what was recorded")
            self._copy(source, self._live.place(entry.path), entry, was)

    def _put_content(self, entry: FileEntry, content: bytes, was: FileEntry | None) -> None:
        with os.fdopen(os.memfd_create("content"), "w+b", buffering=0) as source:
            source.write(content)
            source.seek(0)
            self._copy(source.fileno(), self._parent(entry.path), entry, was)

    def _move(self, content: StagedContent, place: Place, entry: FileEntry, was: FileEntry | None) -> bool:
        """Set the metadata of the staged file and rename it into place; False across file systems."""
        if os.fstat(content.descriptor).st_nlink != 1:
            raise _CannotWrite("its content on the stage has a second name")
        _check_digest(content.sha256(), entry)
        self._set_attributes(content.descriptor, entry)
        staged, staged_name = content.stage.place(entry.path)
        folder, name = place
        self._clear(folder, name, was)
        try:
            os.rename(staged_name, name, src_dir_fd=staged, dst_dir_fd=folder)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            os.lseek(content.descriptor, 0, os.SEEK_SET)
            self._problems.clear()  # the copy reports them
            return False
        return True

    def _copy(self, source: int, place: Place, entry: FileEntry, was: FileEntry | None) -> None:
        with hold_temporary(*place) as (beside, new):
            target = os.open(new, _NEW, 0o600, dir_fd=beside)
            try:
                _check_digest(copy_content(source, target, holes=entry.sparse), entry)
                self._set_attributes(target, entry)
            finally:
                os.close(target)
            self._put_in_place((beside, new), place, was)

    def _link(self, entry: FileEntry, partner: bytes, was: FileEntry | None) -> None:
        self._parent(entry.path)
        why = self._link_to(entry, partner, was)
        if why:
            self.notes.append(
                f"{_decode(entry.path)} is a {entry.kind} of its own, no hard link to {_decode(partner)}: {why}"
            )
            self._put(entry, was)

    def _link_to(self, entry: FileEntry, partner: bytes, was: FileEntry | None) -> str | None:
        """Make the link, or give the reason why not: `partner` is not the same file, or the file system refuses.

        The partner is held: what is checked, linked and found in the end is one inode.
        """
        try:
            with hold_partner(self._live, partner, entry) as handle:
                if handle is None:
                    return "that file differs here"
                if not has_attributes(handle, entry) and needs_new_inode(entry, read_rights(handle)):
                    return "that file has another owner or mode here"
                self._set_attributes(handle, entry)
                place = self._live.place(entry.path)
                with hold_temporary(*place) as (beside, new):
                    os.link(descriptor_path(handle), new, dst_dir_fd=beside, follow_symlinks=True)
                    self._put_in_place((beside, new), place, was)
                status = os.fstat(handle)
                if not self._is_same_place(*place, FileEntry(b"", "", dev=status.st_dev, ino=status.st_ino)):
                    raise _CannotWrite("another object took its place")
        except OSError as exc:
            if exc.errno in _FULL:
                raise
            return exc.strerror
        return None

    def _is_same_place(self, folder: int, name: bytes, was: FileEntry) -> bool:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return is_same_inode(was, status.st_dev, status.st_ino)

    # ------------------------------------------------------------ metadata and deletion

    def _change_metadata(self, entry: FileEntry, was: FileEntry | None) -> None:
        place = self._live.place(entry.path)
        with hold_object(*place, entry.kind) as handle:
            status = os.fstat(handle)
            if not is_same_inode(was, status.st_dev, status.st_ino):
                raise _CannotWrite("another object took its place")
            if entry.kind != "dir" and was is not None and status.st_nlink > (was.nlink or status.st_nlink):
                raise _CannotWrite("it has a new hard link")
            if entry.kind != "file" or keeps_inode(entry, read_rights(handle), status.st_nlink):
                self._change_held(place, handle, entry, was)
                return
        if entry.sha256 is None:
            raise _CannotWrite("somebody other than root can write to it, and the snapshot does not have its content")
        self._write_file(entry, was)

    def _change_held(self, place: Place, handle: int, entry: FileEntry, was: FileEntry | None) -> None:
        if entry.kind == "dir":
            self._folders.fill(place, entry, was, is_new=False)
        else:
            self._set_attributes(handle, entry)

    def _set_attributes(self, handle: int, entry: FileEntry) -> None:
        set_attributes(handle, entry, lambda name, exc: self._note_attribute(entry.path, name, exc))

    def _note_attribute(self, path: bytes, name: bytes, exc: OSError) -> None:
        self._problem(path, f"cannot set its attribute {_decode(name)}: {exc.strerror}")

    def _delete(self, path: bytes, was: FileEntry | None) -> None:
        try:
            folder, name = self._live.place(path)
        except FileNotFoundError:
            return
        here = find_kind(folder, name)
        if here is not None and was is not None and here != was.kind:
            raise _CannotWrite(f"not deleted: it was a {was.kind} and is now a {here}")
        if here not in (None, "dir") and was is not None and not self._is_same_place(folder, name, was):
            raise _CannotWrite("not deleted: another object took its place")
        if here == "dir":
            os.rmdir(name, dir_fd=folder)
            self._forget(path)
        elif here is not None:
            os.unlink(name, dir_fd=folder)

    def _rename(self, path: bytes, new_path: bytes, inode: Inode | None) -> None:
        folder, name = self._live.place(path)
        self._forget(path)
        move_to_free_name(folder, name, names_of(new_path)[-1], inode)


def _check_digest(digest: str, entry: FileEntry) -> None:
    if digest != entry.sha256:
        raise _CannotWrite("its content is not what was recorded")


def _decode(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
