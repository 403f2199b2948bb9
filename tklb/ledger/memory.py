"""The memory of this machine about its history: of each target the newest entry it saw, and copies of the entries.

The newest entry shows whether a target was set back. The copies save downloads, and repair a target that lost an entry.
The newest entry of the lineage counts for all targets: a number is never used twice. Touches the private ledger folder
only; a loss of that folder costs nothing else.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tklb.base.fs import fresh_folder, private_folder, write_atomic
from tklb.base.json import read_state, write_state
from tklb.crypto.gpg import decrypt
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import ENTRY_NAME, LONGEST_SEALED, OpenedEntry
from tklb.model.secret import Secret
from tklb.storage.backend import LEDGER, Backend


@dataclass(frozen=True, slots=True)
class NewestEntry:
    """The newest entry this machine has seen of a target. `digest` is the SHA-256 of its bytes."""

    sequence: int
    digest: str
    name: str = ""


def read_newest(backend: Backend, folder: Path) -> NewestEntry | None:
    """Read which entry of a target is the newest that this machine has seen; None where it has seen none."""
    return read_state(_newest_file(backend, folder), _parse_newest, None)


def remember_newest(backend: Backend, folder: Path, newest: NewestEntry) -> None:
    """Remember the newest entry, durably. From now on a target without this entry counts as set back."""
    if read_newest(backend, folder) != newest:
        write_state(_newest_file(backend, private_folder(folder)), [newest.sequence, newest.digest, newest.name])


def _parse_newest(fields: list[Any]) -> NewestEntry:
    sequence, digest, *name = fields
    return NewestEntry(int(sequence), str(digest), str(name[0]) if name else "")


@dataclass(frozen=True, slots=True)
class LineageEnd:
    """The newest entry that this machine knows of its lineage, on whatever target. `digest` is that of its bytes."""

    lineage: str
    sequence: int
    digest: str
    snapshot: str


def read_lineage(folder: Path) -> LineageEnd | None:
    """Read where the lineage of this machine ends; None before its first entry of format 2."""
    return read_state(folder / "lineage", _parse_end, None)


def _parse_end(fields: list[Any]) -> LineageEnd:
    lineage, sequence, digest, snapshot = fields
    return LineageEnd(str(lineage), int(sequence), str(digest), str(snapshot))


def remember_lineage(folder: Path, end: LineageEnd) -> None:
    """Remember where the lineage ends, durably."""
    if end.lineage and read_lineage(folder) != end:
        write_state(private_folder(folder) / "lineage", [end.lineage, end.sequence, end.digest, end.snapshot])


def copy_path(backend: Backend, folder: Path, name: str) -> Path:
    """Where this machine keeps its copy of an entry, whether there is one or not."""
    return copies_folder(backend.address, folder) / name.removeprefix(LEDGER)


def copies_folder(address: str, folder: Path) -> Path:
    """The folder with the copies of the entries of a target; it need not exist."""
    return folder / f"entries-{_short_name(address)}"


def list_copies(backend: Backend, folder: Path) -> tuple[str, ...]:
    """List the names of the entries that this machine has copies of, sorted."""
    place = copies_folder(backend.address, folder)
    names = (LEDGER + path.name for path in place.iterdir()) if place.is_dir() else ()
    return tuple(sorted(filter(ENTRY_NAME.fullmatch, names)))


def keep_copies(backend: Backend, folder: Path, entries: Mapping[str, bytes]) -> None:
    """Keep copies of entries, by name. Every entry must be authentic: a copy may repair a target later."""
    for name, content in entries.items():
        path = copy_path(backend, folder, name)
        if not (path.exists() and path.read_bytes() == content):
            private_folder(folder)
            private_folder(path.parent)
            write_atomic(path, content)


def decrypt_once(opened: OpenedEntry, secrets: Mapping[str, Secret], folder: Path) -> bytes:
    """Give the hidden part of an entry. gpg decrypts it once; afterwards it comes from the private folder.

    `secrets` has the secret of the entry by the name of its key. Raises UnreadableMessage.
    """
    known = private_folder(private_folder(folder) / "opened") / opened.digest
    if known.exists():
        return known.read_bytes()
    with fresh_folder(folder / "opening") as home:
        content = decrypt(opened.sealed, secrets[str(opened.plain["key"])], home, LONGEST_SEALED)
    write_atomic(known, content)
    return content


def _newest_file(backend: Backend, folder: Path) -> Path:
    return folder / f"head-{_short_name(backend.address)}"


def _short_name(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]
