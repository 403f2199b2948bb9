"""The place snapshots are kept at, seen as objects with names: what every kind of target must be able to do.

Names are relative (`volumes/NAME`, `ledger/NAME`); an object is written whole or not at all and never changes
afterwards. Touches nothing itself: the kinds of target do (local.py), and address.py knows which one is meant.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

VOLUMES = "volumes/"
LEDGER = "ledger/"

_NAME = re.compile(r"(volumes|ledger)/[A-Za-z0-9_][A-Za-z0-9._-]*|key\.asc")


@dataclass(frozen=True, slots=True)
class Stored:
    """What the target itself knows of an object. `sha256` is None where it would have to read the object to tell."""

    size: int
    sha256: str | None = None


class Target(Protocol):
    """Objects at an address. All methods raise TargetUnreachable, AccessRefused; those that write, TargetFull."""

    @property
    def address(self) -> str:
        """For people: free of credentials."""

    @property
    def spool(self) -> Path | None:
        """The folder of the volumes, where the engine may write into it at once; None where they must be uploaded."""

    def put(self, name: str, source: Path) -> None:
        """Store a file durably: afterwards the whole object is there, before that nothing is."""

    def get(self, name: str, destination: Path) -> None:
        """Copy an object into a new private file. Raises TargetDamaged where there is no such object."""

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small object. Raises TargetDamaged where it is missing or longer than `limit` bytes."""

    def list(self, prefix: str) -> tuple[str, ...]:
        """The names that begin with `prefix` (VOLUMES or LEDGER), sorted."""

    def stat(self, name: str) -> Stored | None:
        """What is known of an object without reading it; None where it is missing."""

    def delete(self, name: str) -> None:
        """Take an object away; one that is missing is fine."""


def check_name(name: str) -> str:
    """Raise ValueError for what can be no object of ours."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"no object name: {name!r}")
    return name
