"""Files as entries, and what changed about them. Paths are bytes, times integer nanoseconds."""

from enum import StrEnum
from typing import NamedTuple


class FileEntry(NamedTuple):
    """One file system object, as seen or as recorded; None where the record is silent. A tuple: millions pass by."""

    path: bytes  # absolute, no trailing slash; b"/" is the root
    kind: str  # mtree's words: file dir link fifo block char (sockets are never recorded)
    mode: int | None = None  # permission bits, 0 to 0o7777
    uid: int | None = None
    gid: int | None = None
    uname: bytes | None = None  # None: no name owns the id (or the record is silent)
    gname: bytes | None = None
    size: int | None = None  # bytes; files only
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    link: bytes | None = None  # target of a symlink
    device: tuple[int, int] | None = None  # major, minor of a device node
    dev: int | None = None  # device and inode it lives on: equal for hard links of one group
    ino: int | None = None
    nlink: int | None = None
    sha256: str | None = None  # lowercase hex
    md5: str | None = None  # what dpkg records
    xattrs: tuple[tuple[bytes, bytes], ...] | None = None  # sorted; ACLs and capabilities among them
    sparse: bool = False
    flags: str | None = None  # of chattr(1): "a" append-only, "i" immutable; files and folders only


class Change(StrEnum):
    NEW = "new"
    EDITED = "edited"
    METADATA = "metadata"
    DELETED = "deleted"


class FileChange(NamedTuple):
    """One difference. `base` is None for new, `now` is None for deleted."""

    path: bytes
    change: Change
    base: FileEntry | None
    now: FileEntry | None
