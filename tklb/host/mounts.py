"""The mounts of this machine: kernel file systems, other file systems, and folders that have more than one path.

Reads /proc/self/mountinfo; see proc(5). Changes nothing.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tklb.diff.keywords import unescape

# Kernel interfaces that look like files; see proc(5), and `nodev` in /proc/filesystems.
PSEUDO = frozenset((
    b"autofs", b"binfmt_misc", b"bpf", b"cgroup", b"cgroup2", b"configfs", b"debugfs", b"devpts", b"devtmpfs",
    b"efivarfs", b"fusectl", b"hugetlbfs", b"mqueue", b"nfsd", b"nsfs", b"proc", b"pstore", b"resctrl",
    b"rpc_pipefs", b"securityfs", b"selinuxfs", b"smackfs", b"sysfs", b"tracefs",
))  # fmt: skip
# File systems in memory, of images, or composed of other folders: their content comes from somewhere else, or goes.
PASSING = frozenset((
    b"aufs", b"cramfs", b"erofs", b"fuse.gvfsd-fuse", b"fuse.lxcfs", b"fuse.portal", b"fuse.snapfuse", b"iso9660",
    b"overlay", b"ramfs", b"romfs", b"squashfs", b"tmpfs", b"udf",
))  # fmt: skip
# Another machine holds the content.
NETWORK = frozenset((
    b"9p", b"afs", b"beegfs", b"ceph", b"cifs", b"fuse.ceph-fuse", b"fuse.davfs", b"fuse.glusterfs", b"fuse.rclone",
    b"fuse.s3fs", b"fuse.sshfs", b"fuse.vmhgfs-fuse", b"glusterfs", b"lustre", b"ncpfs", b"nfs", b"nfs4", b"prl_fs",
    b"smb3", b"smbfs", b"vboxsf", b"virtiofs", b"vmhgfs",
))  # fmt: skip
_USER = re.compile(rb",user_id=(\d{1,10}),")
MOUNTS = "/proc/self/mountinfo"


class Mount(NamedTuple):
    """One mount. `root` is the folder of the file system that is at `point`; `device` names the file system."""

    point: bytes
    kind: bytes
    device: bytes  # major:minor
    root: bytes
    source: bytes
    options: bytes = b""  # of the file system, with commas

    @property
    def uid(self) -> int:
        """The user whose program shows the file system; 0 if it is none of a user."""
        found = _USER.search(b"," + self.options + b",") if self.kind.startswith(b"fuse") else None
        return int(found[1]) if found else 0


def read_mounts() -> tuple[Mount, ...]:
    """List the mounts as this process sees them, in the order in which they were made; none if that is not known.

    A mount that a later one at the same point hides is not listed.
    """
    try:
        with open(MOUNTS, "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return ()
    found: dict[bytes, Mount] = {}
    for mount in map(_parse_mount, lines):
        found.pop(mount.point, None)
        found[mount.point] = mount
    return tuple(found.values())


def _parse_mount(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    fields, (kind, source, *more) = before.split(b" "), after.split(b" ")
    return Mount(unescape(fields[4]), kind, fields[2], unescape(fields[3]), unescape(source), b" ".join(more))


def find_mount(mounts: Iterable[Mount], path: bytes) -> Mount | None:
    """Give the mount that holds `path`: the one with the longest point above it."""
    return max((mount for mount in mounts if is_within(path, mount.point)), key=lambda m: len(m.point), default=None)


def find_other_paths(mounts: Iterable[Mount], path: bytes) -> tuple[bytes, ...]:
    """Give the other paths under which the object at `path` can be reached, through bind mounts. Sorted."""
    mounts = tuple(mounts)
    own = find_mount(mounts, path)
    if own is None:
        return ()
    inside = join_paths(own.root, path[len(own.point.rstrip(b"/")) :])
    return tuple(sorted(set(_list_aliases(mounts, own.device, inside)) - {path}))


def find_all_paths(path: bytes, mounts: Iterable[Mount]) -> tuple[bytes, ...]:
    """Give every path of an existing folder: as it is written, without links, and through bind mounts. Sorted.

    The points at which a folder in it is mounted again are among them.
    """
    mounts, real = tuple(mounts), os.path.realpath(path)
    others = (other for other in find_other_paths(mounts, real) if is_same_object(other, real))
    return tuple(sorted({path, real, *others, *_find_points_of_parts(mounts, real)}))


def _find_points_of_parts(mounts: Iterable[Mount], path: bytes) -> Iterator[bytes]:
    """Give the mount points elsewhere of folders below `path`."""
    mounts = tuple(mounts)
    own = find_mount(mounts, path)
    if own is None:
        return
    inside = join_paths(own.root, path[len(own.point.rstrip(b"/")) :])
    for mount in mounts:
        is_part = mount.device == own.device and is_within(mount.root, inside) and mount.root != inside
        if is_part and is_same_object(mount.point, path + mount.root[len(inside.rstrip(b"/")) :]):
            yield mount.point


def _list_aliases(mounts: Iterable[Mount], device: bytes, inside: bytes) -> Iterator[bytes]:
    for mount in mounts:
        if mount.device == device and is_within(inside, mount.root):
            yield join_paths(mount.point, inside[len(mount.root.rstrip(b"/")) :])


def is_same_object(one: bytes, other: bytes) -> bool:
    """Whether two paths lead to one object now, by device and inode. No link at their end is followed."""
    try:
        first, second = os.lstat(one), os.lstat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def join_paths(folder: bytes, rest: bytes) -> bytes:
    """Give the path `rest` (which begins with a slash, or is empty) below `folder`."""
    return (folder.rstrip(b"/") + rest) or b"/"
