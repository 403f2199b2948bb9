"""Find the snapshot whose upload was interrupted, with the volumes that the target has confirmed.

All its volumes are complete and durable in the spool before it is noted here. So a resume only transfers objects; the
engine itself never resumes. Touches the pending folder: the unsealed ledger entry, the snapshot metadata, and the names
of the confirmed volumes.
"""

import json
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree, sync_folder, write_atomic
from tklb.config.paths import Paths
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import authentication_key, entry_name, format_entry, name_in, open_entry, parse_entry
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, Volume

_ADDRESS, _ENTRY, _METADATA, _CONFIRMED = "address", "record", "stage", "confirmed"


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A snapshot on its way to a target.

    `folder` has its metadata; `confirmed` has the names of the volumes that the target is known to hold.
    """

    entry: LedgerEntry
    folder: Path
    confirmed: Collection[str] = frozenset()

    @property
    def own_volumes(self) -> tuple[Volume, ...]:
        """The volumes that this snapshot adds."""
        names = set(self.entry.own_volumes)
        return tuple(volume for volume in self.entry.volumes if volume.name in names)

    @property
    def unconfirmed_volumes(self) -> tuple[Volume, ...]:
        """The volumes that are still to upload."""
        return tuple(volume for volume in self.own_volumes if volume.name not in self.confirmed)


def note_pending(paths: Paths, secret: Secret, address: str, entry: LedgerEntry, folder: Path) -> PendingUpload:
    """Keep the metadata and the unsealed entry; from now on a later run can resume the upload."""
    remove_tree(paths.pending_upload)
    private_folder(paths.pending_upload)
    folder.rename(paths.pending_upload / _METADATA)
    sync_folder(folder.parent)
    write_atomic(paths.pending_upload / _ADDRESS, address.encode())
    write_atomic(paths.pending_upload / _ENTRY, format_entry(entry, authentication_key(secret), bytes))
    return PendingUpload(entry, paths.pending_upload / _METADATA)


def confirm_volume(paths: Paths, volume: Volume) -> None:
    """Note that the target holds a volume. Where a crash loses the note, the next run uploads the volume again."""
    descriptor = os.open(
        paths.pending_upload / _CONFIRMED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
    )
    try:
        os.write(descriptor, f"{volume.name} {volume.sha256}\n".encode("ascii"))
    finally:
        os.close(descriptor)


def forget_confirmations(paths: Paths, pending: PendingUpload) -> PendingUpload:
    """Forget which volumes the target has confirmed: it has lost some of them."""
    (paths.pending_upload / _CONFIRMED).unlink(missing_ok=True)
    return replace(pending, confirmed=frozenset())


def find_pending(paths: Paths, secret: Secret, address: str) -> PendingUpload | None:
    """Find the interrupted upload to this address; None where it was for another target or key, or where it is torn."""
    try:
        if (paths.pending_upload / _ADDRESS).read_bytes() != address.encode():
            return None
        content = (paths.pending_upload / _ENTRY).read_bytes()
        name = _name_in(content)
        opened = open_entry(name, content, authentication_key(secret))
        entry = parse_entry(opened, opened.sealed)
        if entry_name(entry) != name:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return PendingUpload(entry, paths.pending_upload / _METADATA, _read_confirmations(paths, entry))


def drop_pending(paths: Paths) -> None:
    """Forget the interrupted upload."""
    remove_tree(paths.pending_upload)


def _name_in(content: bytes) -> str:
    plain = json.loads(content.split(b"\n")[0])
    return name_in(plain)


def _read_confirmations(paths: Paths, entry: LedgerEntry) -> frozenset[str]:
    try:
        lines = (paths.pending_upload / _CONFIRMED).read_text("ascii", "replace").split("\n")
    except FileNotFoundError:
        return frozenset()
    known = {f"{volume.name} {volume.sha256}": volume.name for volume in entry.volumes}
    return frozenset(known[line] for line in lines if line in known)
