"""A set that is encoded and not yet sealed: what an interrupted upload goes on with.

The set is whole and durable in the spool before it is noted here, so going on is only a matter of moving objects:
the engine itself never resumes. Touches the pending folder: the record to be sealed, the stage it was made from, and
the names of the volumes that the target has confirmed.
"""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree, sync_folder, write_atomic
from tklb.config.paths import Paths
from tklb.ledger.entry import authentication_key, entry_name, format_entry, open_entry, parse_entry
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, Volume

_ADDRESS, _RECORD, _STAGE, _CONFIRMED = "address", "record", "stage", "confirmed"


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """`confirmed` has the names of volumes that the target is known to hold."""

    record: LedgerEntry
    stage: Path
    confirmed: Collection[str] = frozenset()

    @property
    def own(self) -> tuple[Volume, ...]:
        """The volumes of the set."""
        names = set(self.record.own_volumes)
        return tuple(volume for volume in self.record.volumes if volume.name in names)

    @property
    def missing(self) -> tuple[Volume, ...]:
        return tuple(volume for volume in self.own if volume.name not in self.confirmed)


def note_pending(paths: Paths, secret: Secret, address: str, record: LedgerEntry, stage: Path) -> PendingUpload:
    """Keep the stage and the record to be sealed; from now on a later run can go on."""
    remove_tree(paths.pending)
    private_folder(paths.pending)
    stage.rename(paths.pending / _STAGE)
    sync_folder(stage.parent)
    write_atomic(paths.pending / _ADDRESS, address.encode())
    write_atomic(paths.pending / _RECORD, format_entry(record, authentication_key(secret), bytes))
    return PendingUpload(record, paths.pending / _STAGE)


def confirm_volume(paths: Paths, volume: Volume) -> None:
    """Note that the target holds a volume; what is lost of this in a crash is only sent again."""
    descriptor = os.open(paths.pending / _CONFIRMED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, f"{volume.name} {volume.sha256}\n".encode("ascii"))
    finally:
        os.close(descriptor)


def forget_confirmations(paths: Paths, found: PendingUpload) -> PendingUpload:
    """Forget what the target has confirmed: it has lost something of it."""
    (paths.pending / _CONFIRMED).unlink(missing_ok=True)
    return replace(found, confirmed=frozenset())


def find_pending(paths: Paths, secret: Secret, address: str) -> PendingUpload | None:
    """What a run left on its way to this address; nothing where it was another's, another key's, or is torn."""
    try:
        if (paths.pending / _ADDRESS).read_bytes() != address.encode():
            return None
        content = (paths.pending / _RECORD).read_bytes()
        name = _name_of(content)
        entry = open_entry(name, content, authentication_key(secret))
        record = parse_entry(entry, entry.sealed)
        if entry_name(record) != name:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return PendingUpload(record, paths.pending / _STAGE, _confirmed(paths, record))


def drop_pending(paths: Paths) -> None:
    remove_tree(paths.pending)


def _name_of(content: bytes) -> str:
    plain = json.loads(content.split(b"\n")[0])
    return f"ledger/{int(plain['sequence']):08}-{plain['snapshot']}"


def _confirmed(paths: Paths, record: LedgerEntry) -> frozenset[str]:
    try:
        lines = (paths.pending / _CONFIRMED).read_text("ascii", "replace").split("\n")
    except FileNotFoundError:
        return frozenset()
    known = {f"{volume.name} {volume.sha256}": volume.name for volume in record.volumes}
    return frozenset(known[line] for line in lines if line in known)
