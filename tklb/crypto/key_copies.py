"""Where copies of the key went: kept on the machine, so that it can say when there is none elsewhere.

Takes and gives Copy values; touches the one file it is told, and looks at mounts.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from tklb.base.fs import write_atomic

_MOUNTS = Path("/proc/self/mountinfo")
_FLEETING = {"tmpfs", "ramfs", "devtmpfs"}  # gone with the next start


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a key that was written once. `where` is a path or the address of a target."""

    where: str
    kind: str  # bare passphrase public-key: what it takes to open it
    fingerprint: str  # of the key
    time: datetime
    is_away: bool  # whether it left this machine's own disk


def read_copies(path: Path) -> tuple[Copy, ...]:
    """The copies that were noted, oldest first; a file that is absent or damaged notes none."""
    try:
        noted = json.loads(path.read_bytes())
        copies = [replace(Copy(**item), time=datetime.fromisoformat(item["time"])) for item in noted]
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return tuple(sorted(copies, key=lambda copy: copy.time))


def note_copy(path: Path, copy: Copy) -> None:
    """Note a copy; it takes the place of one that was at the same place."""
    _write(path, (*(old for old in read_copies(path) if old.where != copy.where), copy))


def forget_copy(path: Path, where: str) -> None:
    """Forget what was at a place."""
    copies = read_copies(path)
    if any(copy.where == where for copy in copies):
        _write(path, (copy for copy in copies if copy.where != where))


def is_elsewhere(path: Path, homes: Iterable[Path]) -> bool:
    """Whether a path lies on another file system than these, and one that outlives a restart.

    That may be another part of the same disk: no program can tell what is kept apart.
    """
    device = _device(path)
    return device not in {_device(home) for home in homes} and not _is_fleeting(device)


def _write(path: Path, copies: Iterable[Copy]) -> None:
    noted = [{**asdict(copy), "time": copy.time.isoformat()} for copy in copies]
    write_atomic(path, json.dumps(noted, indent=1).encode("ascii") + b"\n")


def _device(path: Path) -> int:
    while True:
        try:
            return os.stat(path).st_dev
        except OSError:
            if path == path.parent:
                raise
            path = path.parent


def _is_fleeting(device: int) -> bool:
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = (line.partition(" - ") for line in _MOUNTS.read_text(errors="replace").split("\n"))
    return any(
        before.split()[2:3] == [number] and after.split()[0] in _FLEETING for before, _, after in mounts if after
    )
