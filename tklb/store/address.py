"""Addresses of targets: which kind of target one means, and where it is. Takes the text, gives a Target."""

import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from tklb.errors import UsageWrong
from tklb.store.local import LocalTarget
from tklb.store.target import Target

_EXAMPLE = "give one like file:///var/backups/tklb"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)


def open_target(address: str) -> Target:
    """The target at an address. Raises UsageWrong, TargetUnreachable where nobody made one there, AccessRefused."""
    return LocalTarget.open(local_path(address))


def make_target(address: str) -> Target:
    """The target at an address, made if there is none yet."""
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
