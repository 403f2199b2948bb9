"""Where copies of the key went. The machine keeps the list, so that it can warn when no copy is elsewhere.

Takes and gives KeyCopy values; touches the file that a caller names, and reads the table of mounts.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tklb.base.json import read_state, write_state
from tklb.lazy_dataclass import dataclass

_MOUNTS = Path("/proc/self/mountinfo")
_FLEETING = {"tmpfs", "ramfs", "devtmpfs"}  # gone with the next start


@dataclass(frozen=True, slots=True)
class KeyCopy:
    """A copy of a key that was written once. `where` is a path or the address of a target."""

    where: str
    kind: str  # bare passphrase public-key: what it takes to open it
    fingerprint: str  # of the key
    time: datetime | None  # None: nobody noted it
    is_away: bool  # whether it left this machine's own disk
    machine: str = ""  # the host name of the machine that wrote it, if that is another one


def read_copies(path: Path) -> tuple[KeyCopy, ...]:
    """The copies on the list, oldest first; a file that is absent or damaged lists none."""
    return read_state(path, parse_copies, ())


def note_copy(path: Path, copy: KeyCopy) -> None:
    """Add a copy to the list; it replaces one at the same place."""
    _write(path, (*(old for old in read_copies(path) if old.where != copy.where), copy))


def forget_copy(path: Path, where: str) -> None:
    """Remove from the list what was at a place."""
    copies = read_copies(path)
    if any(copy.where == where for copy in copies):
        _write(path, (copy for copy in copies if copy.where != where))


def is_elsewhere(path: Path, homes: Iterable[Path]) -> bool:
    """Whether a path lies on another file system than these, and one that outlives a restart.

    That may be another part of the same disk: no program can tell what is kept apart.
    """
    device = _device(path)
    return device not in {_device(home) for home in homes} and not _is_fleeting(device)


def add_copies(path: Path, copies: Iterable[KeyCopy]) -> None:
    """Add copies that another machine knew of; what this machine knows of a place is kept."""
    known = read_copies(path)
    places = {(copy.where, copy.fingerprint) for copy in known}
    added = [copy for copy in copies if (copy.where, copy.fingerprint) not in places]
    if added:
        _write(path, (*known, *added))


def parse_copies(noted: list[dict[str, Any]]) -> tuple[KeyCopy, ...]:
    """Read what format_copies() gave, oldest first. Raises ValueError, KeyError, TypeError."""
    copies = sorted(noted, key=lambda item: datetime.fromisoformat(item["time"]))
    return tuple(replace(KeyCopy(**item), time=datetime.fromisoformat(item["time"])) for item in copies)


def format_copies(copies: Iterable[KeyCopy]) -> list[dict[str, Any]]:
    """Give copies as values of JSON."""
    return [{**asdict(copy), "time": copy.time.isoformat()} for copy in copies if copy.time]


def _write(path: Path, copies: Iterable[KeyCopy]) -> None:
    write_state(path, format_copies(copies), indent=1)


def _device(path: Path) -> int:
    """The device of a path, or of the nearest folder above it that there is."""
    existing = next((each for each in (path, *path.parents) if os.path.exists(each)), Path("/"))
    return os.stat(existing).st_dev


def _is_fleeting(device: int) -> bool:
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = (line.partition(" - ") for line in _MOUNTS.read_text(errors="replace").split("\n"))
    return any(
        before.split()[2:3] == [number] and after.split()[0] in _FLEETING for before, _, after in mounts if after
    )
