"""The place snapshots are kept at, seen as objects with names: what every kind of target must be able to do.

Names are relative (`volumes/NAME`, `ledger/NAME`, `key.asc`); an object is written whole or not at all. Touches
nothing itself: the kinds of target do (local.py, s3.py, sftp.py, other.py), and address.py knows which one is meant.
What all kinds need alike is put around them: retry.py, watchdog.py, pace.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

VOLUMES = "volumes/"
LEDGER = "ledger/"
KEY = "key.asc"

_NAME = re.compile(r"(volumes|ledger)/[A-Za-z0-9_][A-Za-z0-9._-]*|key\.asc")

# Told the bytes that moved since it was last called; it may take its time (a rate limit) or raise (an end). It is
# told 0 now and then while nothing moves, and a negative number for what is sent again. Several threads may call it.
Moved = Callable[[int], object]


class ListedObject(NamedTuple):
    """An object by its name and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the target itself knows of an object.

    `sha256` is in lowercase hex, None where the target would have to read the object to tell; `modified` is by the
    target's own clock, aware, None where it tells none.
    """

    size: int
    sha256: str | None = None
    modified: datetime | None = None


def ignore_moved(_count: int) -> None:
    """Progress that nobody watches."""


class Backend(Protocol):
    """Objects at an address; safe to be used by several threads at once.

    All methods raise TargetUnreachable (`may_pass` where another try may do better) and AccessRefused; those that
    write, TargetFull.
    """

    @property
    def address(self) -> str:
        """For people: free of credentials."""

    @property
    def spool(self) -> Path | None:
        """The folder of the volumes, where the engine may write into it at once; None where they must be uploaded."""

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        """Store a file durably: afterwards the whole object is there, before that nothing new is.

        `sha256` is the file's digest. What comes back has it where the target itself confirmed the content it holds;
        where it has None, only reading the object back will tell. TargetUnreachable: it confirmed another content.
        """

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        """Copy an object into a new private file, which is gone again on a failure.

        Raises TargetDamaged where there is no such object, NoSpace for the file's own disk.
        """

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small object. Raises TargetDamaged where it is missing or longer than `limit` bytes."""

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        """The objects whose names begin with `prefix` (VOLUMES or LEDGER), sorted by name."""

    def stat(self, name: str) -> StoredObject | None:
        """What is known of an object without reading it; None where it is missing."""

    def delete(self, name: str) -> None:
        """Take an object away; one that is missing is fine."""

    def tidy(self) -> None:
        """Take away what a `put` that was cut off left behind. Nobody else may be writing."""

    def close(self) -> None:
        """Let go of connections; the next use makes new ones."""


def is_name(name: str) -> bool:
    """Whether this can be the name of an object of ours."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Raise ValueError for what can be no object of ours."""
    if not is_name(name):
        raise ValueError(f"no object name: {name!r}")
    return name
