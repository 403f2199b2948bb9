"""The ledger: one sealed entry a snapshot, each naming the one before. A snapshot exists when its entry does.

Takes a target, the secret and a private folder; gives the records that are authentic and says what is wrong with the
rest. Touches `ledger/` on the target and the folder, where opened records are kept and how far the ledger had got:
a target that was set back to an older state is noticed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tklb.durable import fresh_folder, private_folder, write_atomic
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.model import Record, Secret
from tklb.store.entry import (
    ENTRY_NAME,
    LONGEST_ENTRY,
    LONGEST_SEALED,
    Entry,
    Foreign,
    authentication_key,
    entry_name,
    format_entry,
    open_entry,
    read_record,
)
from tklb.store.openpgp import Unreadable, decrypt, encrypt
from tklb.store.target import LEDGER, Target


@dataclass(frozen=True, slots=True)
class Ledger:
    """`records` are authentic, in the order they were sealed; `problems` says, a line each, what is wrong beside them.

    `head` is the digest of the newest entry, "" where there is none.
    """

    address: str
    records: tuple[Record, ...] = ()
    problems: tuple[str, ...] = ()
    head: str = ""

    def check(self) -> None:
        """Raise TargetDamaged where anything is wrong: nothing may be added to, or taken from, such a target."""
        if self.problems:
            raise TargetDamaged(address=self.address, reason="; ".join(self.problems[:3]))


def read_ledger(target: Target, secret: Secret, folder: Path) -> Ledger:
    """Read and check all entries. Damage is named in the result, so that what is whole can still be restored.

    Raises KeyUnusable where no entry at all is of this key, TargetDamaged where there are entries and none is whole,
    and what the target raises.
    """
    key = authentication_key(secret)
    opened: list[tuple[str, Entry]] = []
    problems, foreign = [], 0
    names = target.list(LEDGER)
    for name in names:
        if not ENTRY_NAME.fullmatch(name):
            continue
        try:
            opened.append((name, open_entry(name, target.read(name, LONGEST_ENTRY), key)))
        except (ValueError, KeyError, TypeError, TargetDamaged) as exc:
            foreign += isinstance(exc, Foreign)
            problems.append(f"{name}: {exc}")
    if problems and not opened:
        _refuse(target, foreign, problems)
    linked = _linked(opened, problems)
    records = _records(linked, secret, folder, problems)
    problems.extend(_set_back(linked, _memory(target, folder)))
    head = linked[-1][1].digest if linked else ""
    if records and not problems:
        _remember(target, folder, records[-1].sequence, head)
    return Ledger(target.address, records, tuple(problems), head)


def seal(target: Target, secret: Secret, folder: Path, record: Record) -> Record:
    """Add an entry: from now on the snapshot exists. `previous` is filled in; gives the record as sealed.

    Raises TargetDamaged where the ledger is not in order or has moved on since `record` was made.
    """
    ledger = read_ledger(target, secret, folder)
    ledger.check()
    last = ledger.records[-1] if ledger.records else None
    if record.sequence != (last.sequence + 1 if last else 1) or (last and record.snapshot <= last.snapshot):
        raise TargetDamaged(
            address=target.address, reason=f"somebody sealed {last.snapshot if last else 'it'} meanwhile"
        )
    record = replace(record, previous=ledger.head)
    name = entry_name(record)
    with fresh_folder(private_folder(folder) / "sealing") as work:
        content = format_entry(record, authentication_key(secret), lambda hidden: encrypt(hidden, secret, work))
        (work / "entry").write_bytes(content)
        _drop_torn(target)
        target.put(name, work / "entry")
    if target.read(name, LONGEST_ENTRY) != content:
        raise TargetDamaged(address=target.address, reason=f"{name} did not come back as it was written")
    _remember(target, folder, record.sequence, hashlib.sha256(content).hexdigest())
    return record


def forget_head(target: Target, folder: Path) -> None:
    """Let the target be older than it was: its owner set it back."""
    _memory_file(target, folder).unlink(missing_ok=True)


def _refuse(target: Target, foreign: int, problems: list[str]) -> None:
    if foreign == len(problems):
        raise KeyUnusable(reason=f"this key does not fit the snapshots on {target.address}")
    raise TargetDamaged(address=target.address, reason="; ".join(problems[:3]))


def _linked(opened: Iterable[tuple[str, Entry]], problems: list[str]) -> list[tuple[str, Entry]]:
    """The entries in order of sequence, one each; gaps, doubles and strangers are named."""
    linked: list[tuple[str, Entry]] = []
    for name, entry in opened:
        last = linked[-1] if linked else None
        sequence, expected = entry.plain["sequence"], last[1].plain["sequence"] + 1 if last else 1
        if sequence < expected:
            problems.append(f"{name}: there is another entry {sequence}")
            continue
        if sequence > expected:
            missing = f"entry {expected}" if sequence == expected + 1 else f"entries {expected} to {sequence - 1}"
            problems.append(f"{missing} before {name} missing or damaged")
        elif entry.previous != (last[1].digest if last else ""):
            problems.append(f"{name}: it does not follow the entry before it")
        linked.append((name, entry))
    return linked


def _records(
    linked: Iterable[tuple[str, Entry]], secret: Secret, folder: Path, problems: list[str]
) -> tuple[Record, ...]:
    records: list[Record] = []
    for name, entry in linked:
        try:
            record = read_record(entry, _decrypted(entry, secret, folder))
        except (Unreadable, ValueError) as exc:
            problems.append(f"{name}: {exc}")
            continue
        if records and record.snapshot <= records[-1].snapshot:
            problems.append(f"{name}: it is not later than the entry before it")
        records.append(record)
    return tuple(records)


def _decrypted(entry: Entry, secret: Secret, folder: Path) -> bytes:
    """The hidden part of an entry; gpg is asked once in its life."""
    opened = private_folder(folder) / "opened"
    known = private_folder(opened) / entry.digest
    if known.exists():
        return known.read_bytes()
    with fresh_folder(folder / "opening") as home:
        content = decrypt(entry.sealed, secret, home, LONGEST_SEALED)
    write_atomic(known, content)
    return content


def _set_back(linked: Iterable[tuple[str, Entry]], memory: tuple[int, str] | None) -> list[str]:
    """Compare with what was there when this machine last looked."""
    if memory is None:
        return []
    sequence, digest = memory
    found: Mapping[int, str] = {entry.plain["sequence"]: entry.digest for _, entry in linked}
    if found.get(sequence) == digest:
        return []
    return [f"entry {sequence} was there and is not: the target was set back, or it was tampered with"]


def _remember(target: Target, folder: Path, sequence: int, digest: str) -> None:
    if _memory(target, folder) != (sequence, digest):
        write_atomic(_memory_file(target, private_folder(folder)), json.dumps([sequence, digest]).encode())


def _memory(target: Target, folder: Path) -> tuple[int, str] | None:
    try:
        sequence, digest = json.loads(_memory_file(target, folder).read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return int(sequence), str(digest)


def _memory_file(target: Target, folder: Path) -> Path:
    return folder / f"head-{hashlib.sha256(target.address.encode()).hexdigest()[:16]}"


def _drop_torn(target: Target) -> None:
    """What a killed run was writing: the name of an entry, with an ending."""
    for name in target.list(LEDGER):
        if name.endswith(".new") and ENTRY_NAME.fullmatch(name.removesuffix(".new")):
            target.delete(name)
