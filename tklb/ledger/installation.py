"""The id of this installation: which of several machines with the same key and host id this is.

Reads the facts of this machine, and keeps one random file. No restore, clone or copy carries the id unchanged: a
restore brings neither the file nor the facts. A cloned virtual machine has another machine-id(5), another UUID from its
hypervisor, or another disk. A machine that was set back to an earlier moment keeps its id, and so does one with a new
kernel, address or network card. Inodes and times of files are no facts: overlays and other backup programs change them.
Where all facts are alike, two copies cannot be told apart: a container that was copied with its machine-id.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tklb.base.fs import private_folder, read_existing, write_atomic
from tklb.errors import AccessRefused

LENGTH = 32  # hex digits of an id
_LONGEST = 4096


def read_installation(file: Path, chance: Callable[[int], bytes], root: bytes = b"/") -> str:
    """Give the id of this installation, 32 hex digits. `file` keeps its random part, and is made where it is absent."""
    if not file.exists():
        private_folder(file.parent)
        write_atomic(file, chance(LENGTH // 2).hex().encode() + b"\n")
    facts = (file.read_bytes(), *_read_facts(root))
    return hashlib.sha256(b"\0".join(facts)).hexdigest()[:LENGTH]


def _read_facts(root: bytes) -> Iterator[bytes]:
    """machine-id, the UUID that firmware or hypervisor gives, and the serial of the disk of `root`; b"" for unknown."""
    device = os.stat(root).st_dev
    disk = b"sys/dev/block/%d:%d/" % (os.major(device), os.minor(device))
    names = (b"device/wwid", b"device/serial", b"serial", b"wwid")
    yield _read_fact(root + b"etc/machine-id")
    yield _read_fact(root + b"sys/class/dmi/id/product_uuid")
    # a partition has these in the folder of its disk
    yield next(filter(None, (_read_fact(root + disk + up + name) for up in (b"", b"../") for name in names)), b"")


def _read_fact(path: bytes) -> bytes:
    try:
        return read_existing(path, _LONGEST).strip()
    except AccessRefused:
        return b""
