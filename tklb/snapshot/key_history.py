"""What this machine knows about its key: when it was made, and where copies of it went. It travels in a snapshot.

A machine that takes over would otherwise take the key for new, and know of no copy. The file is metadata of the
snapshot without being a reason for one: a copy that is written while nothing else changes waits for the next snapshot.
"""

import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tklb.base.json import read_state
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy, add_copies, format_copies, parse_copies, read_copies
from tklb.crypto.secret import fingerprint
from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret
from tklb.snapshot import metadata


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """The history of one key; `machine` is the host name of the machine that tells it."""

    fingerprint: str
    made: datetime
    machine: str
    copies: tuple[KeyCopy, ...] = ()


def collect_history(paths: Paths, secret: Secret, machine: str) -> KeyHistory:
    """Collect what this machine knows about its present key."""
    name = fingerprint(secret)
    copies = tuple(copy for copy in read_copies(paths.key_copies) if copy.fingerprint == name)
    return KeyHistory(name, datetime.fromtimestamp(paths.secret.stat().st_mtime, UTC), machine, copies)


def format_history(history: KeyHistory) -> dict[str, Any]:
    return {**asdict(history), "made": history.made.isoformat(), "copies": format_copies(history.copies)}


def read_history(folder: Path) -> KeyHistory | None:
    """Read the history in the metadata of a snapshot; None where there is none, or no sound one."""
    return read_state(folder / metadata.KEY_HISTORY, _parse, None)


def _parse(noted: dict[str, Any]) -> KeyHistory:
    machine = str(noted["machine"])
    copies = (replace(copy, machine=copy.machine or machine) for copy in parse_copies(noted["copies"]))
    return KeyHistory(
        str(noted["fingerprint"]), datetime.fromisoformat(noted["made"]).astimezone(UTC), machine, tuple(copies)
    )


def adopt_history(paths: Paths, history: KeyHistory | None, name: str) -> None:
    """Make a history that of this machine's key, if it is of the key with the fingerprint `name`.

    The time of the file of the secret says when the key was made.
    """
    if history is None or history.fingerprint != name:
        return
    seconds = history.made.timestamp()
    os.utime(paths.secret, (seconds, seconds))
    add_copies(paths.key_copies, (copy for copy in history.copies if copy.fingerprint == name))
