"""The place snapshots are kept at, seen as objects with names: what every kind of target must be able to do.

Takes an address, gives a Target. Names are relative (`volumes/NAME`, `ledger/NAME`); an object is written whole or
not at all and never changes afterwards. Touches nothing itself; the kinds of target do (local.py).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote_to_bytes

from tklb.errors import UsageWrong

VOLUMES = "volumes/"
LEDGER = "ledger/"

_EXAMPLE = "give one like file:///var/backups/tklb"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
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


def open_target(address: str) -> Target:
    """The target at an address. Raises UsageWrong, TargetUnreachable where nobody made one there, AccessRefused."""
    from tklb.store.local import LocalTarget

    return LocalTarget.open(local_path(address))


def make_target(address: str) -> Target:
    """The target at an address, made if there is none yet."""
    from tklb.store.local import LocalTarget

    return LocalTarget.make(local_path(address))


def local_path(address: str) -> Path:
    """The folder a `file:///…` address means. Raises UsageWrong for anything else, and says what to write."""
    found = _SCHEME.fullmatch(address)
    if not address or not found:
        raise UsageWrong(reason=f"`{address}` is no target address: {_EXAMPLE}")
    scheme, rest = found[1].lower(), found[2]
    if scheme != "file":
        raise UsageWrong(reason=f"this version of tklb has no {scheme}: targets; {_EXAMPLE}")
    if not rest.startswith("///"):
        raise UsageWrong(reason=f"`{address}` names no absolute path (three slashes): {_EXAMPLE}")
    path = unquote_to_bytes(rest[2:]).decode("utf-8", "surrogateescape")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        raise UsageWrong(reason=f"`{address}` names no folder of its own: {_EXAMPLE}")
    return Path("/", *parts)


def check_name(name: str) -> str:
    """Raise ValueError for what can be no object of ours."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"no object name: {name!r}")
    return name
