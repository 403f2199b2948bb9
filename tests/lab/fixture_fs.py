"""Put things into a box's root from outside, exactly: content, owner by name, mode, time, xattrs, ACLs.

Takes a box's root, touches only what is below it; never follows a link in the last component. Paths are bytes as
seen inside (b"/etc/motd").
Sources: linux/posix_acl_xattr.h and linux/capability.h (the binary forms of ACLs and file capabilities).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ACL_VERSION = 2
ACL_TAGS = {"u": 0x01, "user": 0x02, "g": 0x04, "group": 0x08, "mask": 0x10, "o": 0x20}
NOBODY_NAMED = 0xFFFFFFFF
CAP_NET_BIND_SERVICE, CAP_NET_RAW = 10, 13


@dataclass
class FixtureFs:
    """A root file system to build on."""

    root: Path

    def path(self, inside: bytes) -> bytes:
        return os.fsencode(self.root) + inside

    def exists(self, inside: bytes) -> bool:
        return os.path.lexists(self.path(inside))

    def _ids(self, book: str) -> dict[str, int]:
        lines = (self.root / "etc" / book).read_bytes().decode("latin-1").splitlines()
        return {fields[0]: int(fields[2]) for line in lines if len(fields := line.split(":")) > 2}

    def uid(self, user: str | int) -> int:
        return user if isinstance(user, int) else self._ids("passwd")[user]

    def gid(self, group: str | int) -> int:
        return group if isinstance(group, int) else self._ids("group")[group]

    def own(self, inside: bytes, user: str | int, group: str | int | None = None) -> None:
        """Change the owner; the group is the user's namesake unless given."""
        os.lchown(self.path(inside), self.uid(user), self.gid(user if group is None else group))

    def folder(self, inside: bytes, mode: int = 0o755, owner: str | int | None = None) -> bytes:
        """Make a folder and its missing parents; returns its path inside."""
        os.makedirs(self.path(inside), exist_ok=True)
        if owner is not None:
            self.own(inside, owner)
        os.chmod(self.path(inside), mode)
        return inside

    def file(self, inside: bytes, content: bytes = b"", mode: int = 0o644, owner: str | int | None = None) -> bytes:
        """Write a regular file, replacing what has the name; makes missing parents. Returns its path inside."""
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o600), "wb") as out:
            out.write(content)
        if owner is not None:
            self.own(inside, owner)
        os.chmod(path, mode)
        return inside

    def append(self, inside: bytes, content: bytes) -> None:
        with open(self.path(inside), "ab") as out:
            out.write(content)

    def link(self, inside: bytes, target: bytes) -> bytes:
        """Make a symbolic link, replacing a file or link of that name."""
        if self.exists(inside):
            os.unlink(self.path(inside))
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        os.symlink(target, self.path(inside))
        return inside

    def time(self, inside: bytes, nanoseconds: int) -> None:
        os.utime(self.path(inside), ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def xattr(self, inside: bytes, name: str | bytes, value: bytes) -> None:
        os.setxattr(self.path(inside), name, value, follow_symlinks=False)

    def acl(self, inside: bytes, entries: str, kind: str = "access") -> None:
        """Set an ACL written as setfacl does: "u::rw- user:alice:r-- g::r-- mask::r-- o::---"."""
        packed = sorted((self._acl_entry(entry) for entry in entries.split()), key=lambda entry: (entry[0], entry[2]))
        value = struct.pack("<I", ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in packed)
        self.xattr(inside, f"system.posix_acl_{kind}", value)

    def _acl_entry(self, entry: str) -> tuple[int, int, int]:
        tag, name, rights = entry.split(":")
        bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in rights)
        find = self.gid if tag == "group" else self.uid
        number = find(int(name) if name.isdigit() else name) if name else NOBODY_NAMED
        return ACL_TAGS[tag], bits, number

    def capability(self, inside: bytes, numbers: Sequence[int]) -> None:
        """Give a file permitted and effective capabilities (revision 2)."""
        bits = sum(1 << number for number in numbers)
        revision_2_effective = 0x02000000 | 1
        low, high = bits & 0xFFFFFFFF, bits >> 32
        self.xattr(inside, "security.capability", struct.pack("<IIIII", revision_2_effective, low, 0, high, 0))
