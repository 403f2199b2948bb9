"""Seal a snapshot: mint its ledger entry and post it to the target. From then on the snapshot exists.

Touches `ledger/` on the target and the private folder of memory.py.
"""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder
from tklb.crypto.gpg import encrypt
from tklb.errors import TargetDamaged
from tklb.ledger.entry import LONGEST_ENTRY, authentication_key, entry_name, format_entry, key_name
from tklb.ledger.memory import NewestEntry, keep_copies, remember_newest
from tklb.ledger.read import Ledger, read_content, read_ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.storage.backend import Backend

log = logging.getLogger(__name__)


def seal(
    backend: Backend, secret: Secret, folder: Path, entry: LedgerEntry, older: Iterable[Secret] = ()
) -> LedgerEntry:
    """Add an entry to the ledger; gives it with `previous` and `key` filled in, as it was sealed.

    The caller must have made sure that the target holds every volume that the entry names. The entry is read back
    before this returns. One thread or process at a time may seal at a target. Raises TargetDamaged where the ledger
    has problems or got another entry since `entry` was made, and what the target raises; then nothing was sealed.
    """
    ledger = read_ledger(backend, secret, folder, older)
    ledger.check()
    _check_place(ledger, entry)
    key = authentication_key(secret)
    entry = replace(entry, previous=ledger.head, key=key_name(key))
    name = entry_name(entry)
    with fresh_folder(private_folder(folder) / "sealing") as work:
        content = format_entry(entry, key, lambda hidden: encrypt(hidden, secret, work))
        (work / "entry").write_bytes(content)
        for torn in ledger.torn:
            backend.delete(torn)
        backend.upload(name, work / "entry", hashlib.sha256(content).hexdigest())
    if content not in (read_content(backend, name, LONGEST_ENTRY) for _ in range(2)):  # a byte may flip on the way
        raise TargetDamaged(address=backend.address, reason=f"{name} did not come back as it was written")
    keep_copies(backend, folder, {name: content})
    remember_newest(backend, folder, NewestEntry(entry.sequence, hashlib.sha256(content).hexdigest(), name))
    log.info("sealed snapshot %s as ledger entry %d", entry.snapshot, entry.sequence)
    return entry


def _check_place(ledger: Ledger, entry: LedgerEntry) -> None:
    """Raise TargetDamaged where the entry does not come right after the newest one."""
    last = ledger.entries[-1] if ledger.entries else None
    if entry.sequence != (last.sequence + 1 if last else 1) or (last and entry.snapshot <= last.snapshot):
        newest = f"another run sealed {last.snapshot} meanwhile" if last else "its ledger is empty"
        raise TargetDamaged(address=ledger.address, reason=newest)
