"""Seal a snapshot: mint its ledger entry and post it to the target. From then on the snapshot exists.

Minting makes the bytes of the entry durable on this machine, before the first of them leaves it. Posting puts these
very bytes on a target, once or many times: an answer that was lost changes nothing. Touches `ledger/` on the target and
the private folder of memory.py.
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder
from tklb.base.json import read_state, write_state
from tklb.crypto.gpg import encrypt
from tklb.errors import TakenOver, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import (
    ENTRY_NAME,
    LONGEST_ENTRY,
    authentication_key,
    entry_name,
    format_entry,
    key_name,
    open_entry,
    parse_volumes,
)
from tklb.ledger.leader import check_leader
from tklb.ledger.memory import NewestEntry, keep_copies, read_lineage, remember_lineage, remember_newest
from tklb.ledger.order import open_entries
from tklb.ledger.place import Place, end_of, find_place
from tklb.ledger.read import Ledger, read_content, read_ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.storage.backend import LEDGER, Backend
from tklb.storage.upload import check_present

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MintedEntry:
    """The bytes of an entry, made once for the target at `address`."""

    address: str
    name: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def plan_place(ledger: Ledger, folder: Path) -> Place:
    """The place of the next entry that this machine seals at a target."""
    return find_place(ledger, read_lineage(folder), os.urandom(16).hex())


def follow_lineage(folder: Path, ledger: Ledger) -> None:
    """Remember where the lineage of a target ends, unless this machine knows a later entry of it."""
    end, head = read_lineage(folder), ledger.entries[-1] if ledger.entries else None
    if head and head.lineage and (end is None or end.lineage != head.lineage or end.sequence < head.sequence):
        remember_lineage(folder, end_of(head, ledger.head))
        if end and end.lineage == head.lineage:
            log.warning("entry %d is newer than this machine knows: it was set back, or it has a clone", head.sequence)


def seal(
    backend: Backend,
    secret: Secret,
    folder: Path,
    entry: LedgerEntry,
    older: Iterable[Secret] = (),
    *,
    excuses_lost: bool = False,
) -> LedgerEntry:
    """Add an entry to the ledger; gives it as it was sealed, with its place, and the key filled in.

    The caller must have made sure that the target holds every volume that the entry names. The entry is read back
    before this returns. Raises TargetDamaged where the ledger has problems or got another entry since `entry` was made,
    TakenOver where another installation seals there, and what the target raises; then the snapshot does not exist.
    """
    ledger = read_ledger(backend, secret, folder, older)
    check_leader(ledger, entry.installation)
    if not excuses_lost:
        ledger.check()
    place = plan_place(ledger, folder)
    _check_place(ledger, place, entry)
    key = authentication_key(secret)
    entry = replace(
        entry,
        key=key_name(key),
        lineage=place.lineage,
        previous=place.previous,
        excused=place.excused,
        strays=place.strays,
    )
    with fresh_folder(private_folder(folder) / "sealing") as work:
        content = format_entry(entry, key, lambda hidden: encrypt(hidden, secret, work))
    minted = mint(folder, MintedEntry(backend.address, entry_name(entry), content))
    _post(backend, folder, minted)
    _check_alone(backend, folder, ledger, minted)
    _settle(backend, folder, minted, entry)
    log.info("sealed snapshot %s as ledger entry %d", entry.snapshot, entry.sequence)
    return entry


def finish_minted(backend: Backend, secret: Secret, folder: Path, ledger: Ledger) -> bool:
    """Post the entry that an interrupted run minted for this target; whether the target has it now, and had it not.

    Where another entry has its place, or the target lacks a volume of it, it is given up: its snapshot never existed.
    """
    minted = read_minted(folder)
    if minted is None or not has_minted(backend, folder):
        return False
    try:
        opened = open_entry(minted.name, minted.content, authentication_key(secret))
        volumes = parse_volumes(opened)
    except (ValueError, KeyError, TypeError):
        forget_minted(folder)
        return False
    place, is_there = plan_place(ledger, folder), opened.digest in ledger.digests
    if not is_there and (opened.sequence, opened.previous) == (place.sequence, place.previous):
        try:
            check_present(backend, volumes)
        except TargetDamaged as exc:
            log.info("gave up %s, which an interrupted run had made: %s", minted.name, exc)
        else:
            _post(backend, folder, minted)
            _check_alone(backend, folder, ledger, minted)
            log.info("sealed %s, which an interrupted run had made", minted.name)
            forget_minted(folder)
            return True
    forget_minted(folder)
    return False


def mint(folder: Path, minted: MintedEntry) -> MintedEntry:
    """Make the bytes of an entry durable, before the first of them leaves this machine."""
    write_state(private_folder(folder) / "minted", [minted.address, minted.name, minted.content.decode("ascii")])
    return minted


def read_minted(folder: Path) -> MintedEntry | None:
    """The entry that a run minted and did not see at the target; None for none."""
    return read_state(folder / "minted", lambda fields: MintedEntry(fields[0], fields[1], fields[2].encode()), None)


def has_minted(backend: Backend, folder: Path) -> bool:
    """Whether a run minted an entry for this target and did not see it there."""
    minted = read_minted(folder)
    return minted is not None and minted.address == backend.address


def forget_minted(folder: Path) -> None:
    (folder / "minted").unlink(missing_ok=True)


def _post(backend: Backend, folder: Path, minted: MintedEntry) -> None:
    """Put a minted entry on the target. The same bytes there already are a success."""
    with fresh_folder(private_folder(folder) / "sealing") as work:
        (work / "entry").write_bytes(minted.content)
        backend.upload(minted.name, work / "entry", minted.digest)
    # a byte may flip on the way
    if minted.content not in (read_content(backend, minted.name, LONGEST_ENTRY) for _ in range(2)):
        raise TargetDamaged(address=backend.address, reason=f"{minted.name} did not come back as it was written")


def _settle(backend: Backend, folder: Path, minted: MintedEntry, entry: LedgerEntry) -> None:
    """Remember a sealed entry: from now on a target without it counts as set back."""
    keep_copies(backend, folder, {minted.name: minted.content})
    remember_newest(backend, folder, NewestEntry(entry.sequence, minted.digest, minted.name))
    remember_lineage(folder, end_of(entry, minted.digest))
    forget_minted(folder)


def _check_alone(backend: Backend, folder: Path, ledger: Ledger, minted: MintedEntry) -> None:
    """Raise TakenOver where another installation posted an entry since `ledger` was read.

    Of two, the second one sees the first. Then its entry is a stray for ever, and the other one is the newest.
    """
    names = {name for name, _ in backend.list(LEDGER) if ENTRY_NAME.fullmatch(name)} - ledger.names - {minted.name}
    contents = {name: read_content(backend, name, LONGEST_ENTRY) for name in names}
    if others := open_entries(contents, ledger.secrets.values()).opened:
        other = others[min(others)]
        remember_newest(backend, folder, NewestEntry(other.sequence, other.digest, min(others)))
        forget_minted(folder)
        reason = f"another installation sealed {min(others)} at the same time, and this snapshot does not count"
        raise TakenOver(address=backend.address, reason=reason)


def _check_place(ledger: Ledger, place: Place, entry: LedgerEntry) -> None:
    """Raise TargetDamaged, or TakenOver, where the entry does not come right after the newest one."""
    last = ledger.entries[-1] if ledger.entries else None
    if entry.sequence == place.sequence and not (place.newest and entry.snapshot <= place.newest):
        return
    if last and last.installation and last.installation != entry.installation:
        raise TakenOver(address=ledger.address, reason=f"{last.hostname} sealed {last.snapshot} meanwhile")
    newest = f"another run sealed {last.snapshot} meanwhile" if last else "its ledger is empty"
    raise TargetDamaged(address=ledger.address, reason=newest)
