"""The view of this machine that the plan for files is made with, and how entries and paths compare. Pure."""

from collections.abc import Iterable
from typing import Protocol

from tklb.model.files import FileEntry

_SECOND = 1_000_000_000


class Present(Protocol):
    """The machine as it is now. An implementation raises nothing.

    It follows no symbolic link, except those that find_safe_target() accepts.
    """

    def entry(self, path: bytes) -> FileEntry | None:
        """Give the entry at `path` without digests; None if there is none, or if a parent is not a folder."""

    def names(self, path: bytes) -> tuple[bytes, ...]:
        """Give the names in the folder `path`."""

    def digest(self, path: bytes, algorithm: str) -> str | None:
        """Give the digest of a file, or None if it cannot be read."""

    def head(self, path: bytes, count: int) -> bytes:
        """Give the first `count` bytes of a file, fewer if it is shorter, none if it cannot be read."""

    def find_barrier(self, path: bytes) -> bytes | None:
        """Give the topmost parent of `path` that is not a folder but a link or a file, or None."""

    def find_mount(self, path: bytes) -> bytes | None:
        """Give the first mount point at `path` or below it, or None."""

    def leads_to_folder(self, path: bytes) -> bool:
        """Whether `path` is a folder if every link is followed."""

    def has_target(self, path: bytes) -> bool:
        """Whether there is something at `path` if every link is followed."""

    def find_safe_target(self, path: bytes) -> bytes | None:
        """Give the folder that the link `path` leads to, if it is safe to follow; otherwise None.

        It is safe if nobody but root can change the link, its target, or a folder above one of them.
        """

    def list_problems(self) -> tuple[tuple[bytes, str], ...]:
        """Give the paths that were asked for and could not be read, each with the reason."""

    def list_followed_links(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the links that lookups followed so far, each with the folder that it leads to."""


def find_differences(want: FileEntry, have: FileEntry) -> tuple[str, ...]:
    """Compare the metadata of two entries of one kind. Folders, and links of alternatives, get new times by use."""
    found = []
    if want.uid not in (None, have.uid) or want.gid not in (None, have.gid):
        found.append("owner")
    if want.kind != "link" and want.mode not in (None, have.mode):
        found.append("mode")
    if want.xattrs is not None and want.xattrs != (have.xattrs or ()):
        found.append("attributes")
    has_time = want.kind != "dir" and not (want.kind == "link" and want.path.startswith(b"/etc/alternatives/"))
    if has_time and not is_same_time(want.mtime_ns, have.mtime_ns):
        found.append("time")
    return tuple(found)


def is_same_time(want: int | None, have: int | None) -> bool:
    """Whether two times are the same. Some file systems keep whole seconds only."""
    if want is None or want == have:
        return True
    return have is not None and have % _SECOND == 0 and want // _SECOND == have // _SECOND


def make_link_groups(groups: Iterable[tuple[bytes, ...]]) -> dict[bytes, tuple[bytes, ...]]:
    """Give every path of the groups with all paths of its group."""
    return {path: group for group in groups for path in group}


def parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def join_path(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name


def is_at_or_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")
