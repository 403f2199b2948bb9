"""Who may change a file, and whether metadata would give it more rights than it has. Pure."""

import stat
from typing import NamedTuple

from tklb.diff.attributes.xattrs import ACLS, CAPABILITY
from tklb.model.files import FileEntry

_SET_ID = stat.S_ISUID | stat.S_ISGID
_WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH  # the bits of the group cover those of an ACL
_SPECIAL = frozenset((CAPABILITY, *ACLS))


class Rights(NamedTuple):
    """Owner and mode of an object."""

    uid: int
    gid: int
    mode: int

    @property
    def is_of_root_alone(self) -> bool:
        """Whether nobody but root can write to the object, or put other objects into that folder."""
        return self.uid == 0 and not self.mode & _WRITE_BY_OTHERS


def needs_new_inode(entry: FileEntry, have: Rights) -> bool:
    """Whether a file with these rights must be written anew to get the metadata of `entry`.

    Somebody who can write to the present inode, or has it open, could change the content after any check.
    """
    return _has_more_rights(entry, have) and (not have.is_of_root_alone or entry.uid not in (None, 0))


def keeps_inode(entry: FileEntry, have: Rights, names: int) -> bool:
    """Whether a file with these rights, and so many names, gets the metadata of `entry` in its place.

    The content of a packaged file does not travel. Where only root can write to it and it has no second name, nobody
    can have changed it.
    """
    is_packaged = entry.sha256 is None and names == 1
    return (is_packaged and have.is_of_root_alone) or not needs_new_inode(entry, have)


def _has_more_rights(entry: FileEntry, have: Rights) -> bool:
    """Whether `entry` has more rights than the present owner could give."""
    if entry.uid not in (None, have.uid) or entry.gid not in (None, have.gid):
        return True
    new_bits = (entry.mode or 0) & _SET_ID & ~have.mode
    return bool(new_bits) or any(name in _SPECIAL for name, _ in entry.xattrs or ())


def is_same_inode(was: FileEntry | None, device: int, inode: int) -> bool:
    """Whether an object is `was`, which a plan saw; True if it saw none."""
    return was is None or was.ino is None or (was.dev, was.ino) == (device, inode)
