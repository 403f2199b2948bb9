"""Owner, mode, extended attributes and time of an object that is held by a descriptor.

The order is fixed: owner, attributes, mode, capabilities, time. chown(2) removes set-id bits and capabilities, and an
ACL changes the mode of the group.
"""

import os
import stat
from collections.abc import Callable, Collection

from tklb.diff.attributes.xattrs import CAPABILITY, is_carried
from tklb.host.files.openat import descriptor_path
from tklb.model.files import FileEntry

Report = Callable[[bytes, OSError], None]  # takes the name of an attribute that could not be set, and why


def set_attributes(handle: int, entry: FileEntry, report: Report) -> None:
    """Give the object the metadata of `entry`, except the time of a folder. Raises OSError."""
    path = descriptor_path(handle)
    if entry.uid is not None or entry.gid is not None:
        os.chown(path, -1 if entry.uid is None else entry.uid, -1 if entry.gid is None else entry.gid)
    wanted = dict(entry.xattrs or ())
    capability = wanted.pop(CAPABILITY, None)
    if entry.xattrs is not None:
        _remove_other_xattrs(path, wanted.keys())
    for name, value in wanted.items():
        _set_xattr(path, name, value, report)
    if entry.kind != "link" and entry.mode is not None:
        os.chmod(path, entry.mode)
    if capability is not None:
        _set_xattr(path, CAPABILITY, capability, report)
    if entry.kind != "dir" and entry.mtime_ns is not None:
        set_time(path, entry.mtime_ns)


def has_attributes(handle: int, entry: FileEntry) -> bool:
    """Whether the object has the owner, mode and extended attributes of `entry`. Raises OSError."""
    path, status = descriptor_path(handle), os.fstat(handle)
    if entry.uid not in (None, status.st_uid) or entry.gid not in (None, status.st_gid):
        return False
    if entry.kind != "link" and entry.mode not in (None, stat.S_IMODE(status.st_mode)):
        return False
    if entry.xattrs is None:
        return True
    names = (name for name in map(os.fsencode, os.listxattr(path)) if is_carried(name))
    return sorted(entry.xattrs) == sorted((name, os.getxattr(path, name)) for name in names)


def set_time(path: bytes, mtime_ns: int) -> None:
    os.utime(path, ns=(os.stat(path).st_atime_ns, mtime_ns))


def _set_xattr(path: bytes, name: bytes, value: bytes, report: Report) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as exc:
        report(name, exc)


def _remove_other_xattrs(path: bytes, wanted: Collection[bytes]) -> None:
    for name in map(os.fsencode, os.listxattr(path)):
        if is_carried(name) and name not in wanted:
            os.removexattr(path, name)
