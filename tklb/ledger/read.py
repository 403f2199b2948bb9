"""The ledger: one sealed entry a snapshot, each naming the one before. A snapshot exists when its entry does.

Takes a target, the secret and a private folder; gives the records that are authentic and says what is wrong with the
rest. Touches `ledger/` on the target and the folder, where opened records are kept and how far the ledger had got:
a target that was set back to an older state is noticed.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder, write_atomic
from tklb.crypto.gpg import UnreadableMessage, decrypt, encrypt
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.ledger.entry import (
    ENTRY_NAME,
    LONGEST_ENTRY,
    LONGEST_SEALED,
    Foreign,
    OpenedEntry,
    authentication_key,
    closed_entry,
    entry_name,
    format_entry,
    key_name,
    open_entry,
    plain_volumes,
    read_record,
)
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.storage.backend import LEDGER, Backend

LONGEST_LEDGER = 512 << 20  # bytes: it is read into memory, and whoever can write to the target can write more
_LINES = 2  # of an entry
_READ_TWICE = 16  # entries; where more are broken, it is no accident


@dataclass(frozen=True, slots=True)
class Closed:
    """A snapshot whose key is not at hand. It is authentic: an entry that is names its digest."""

    snapshot: str
    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """`records` are authentic, in the order they were sealed; `problems` says, a line each, what is wrong beside them.

    `head` is the digest of the newest entry, "" where there is none; `closed` are snapshots before a change of the
    key; `torn` names an entry that a run was writing when it ended: it was never sealed. `secrets` has the secret of
    every record, by the name of its key.
    """

    address: str
    records: tuple[LedgerEntry, ...] = ()
    problems: tuple[str, ...] = ()
    head: str = ""
    closed: tuple[Closed, ...] = ()
    torn: tuple[str, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    later: int = 0  # how many entries after the newest record were sealed with a key that is not at hand

    def check(self) -> None:
        """Raise TargetDamaged where anything is wrong: nothing may be added to, or taken from, such a target."""
        if self.problems:
            raise TargetDamaged(address=self.address, reason="; ".join(self.problems[:3]))

    @property
    def volumes(self) -> dict[str, Volume]:
        """All sealed volumes by name, those of closed snapshots too."""
        lists = (*(closed.volumes for closed in self.closed), *(record.volumes for record in self.records))
        return {volume.name: volume for volumes in lists for volume in volumes}


@dataclass(slots=True)
class _LedgerReading:
    """What is known while a ledger is read: by name, entries that a key opens, and the digests of others."""

    contents: Mapping[str, bytes | str]
    opened: dict[str, OpenedEntry] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # and why
    cut: set[str] = field(default_factory=set)  # those of them that end too early
    problems: list[str] = field(default_factory=list)
    closed: list[OpenedEntry] = field(default_factory=list)

    def later_than(self, linked: Sequence[tuple[str, OpenedEntry]]) -> int:
        newest = linked[-1][1].plain["sequence"] if linked else 0
        return sum(_number(name) > newest for name in self.foreign)


def read_ledger(
    target: Backend, secret: Secret, folder: Path, older: Iterable[Secret] = (), thorough: bool = False
) -> Ledger:
    """Read and check all entries. Damage is named in the result, so that what is whole can still be restored.

    `older` are secrets this machine had before; what the newest entry hands on is added to them. Entries of a distant
    target that were read before are believed to be the same while their size is, unless it shall be `thorough`.
    Raises KeyUnusable where no entry at all is of these keys, TargetDamaged where there are entries and none is whole,
    and what the target raises.
    """
    secrets = {key_name(authentication_key(one)): one for one in (*older, secret)}
    contents = dict(_contents(target, folder, thorough))
    reading = _open_all(contents, secrets)
    if reading.broken and target.spool is None:  # perhaps on the way only
        contents |= {name: _read(target, name, LONGEST_ENTRY) for name in list(reading.broken)[:_READ_TWICE]}
        reading = _open_all(contents, secrets)
    handed_on = _handed_on(reading, secrets, folder)
    if handed_on.keys() - secrets.keys():
        secrets = {**handed_on, **secrets}
        reading = _open_all(contents, secrets)
    if not reading.opened and (reading.foreign or reading.broken):
        _refuse(target, reading)
    _keep_opened(target, folder, contents, reading)
    linked = _linked(reading)
    memory = _memory(target, folder)
    torn = _torn(reading, linked, memory)
    reading.problems += [f"{name}: {why}" for name, why in sorted(reading.broken.items()) if name not in torn]
    records = _records(linked, secrets, folder, reading.problems)
    reading.problems.extend(_set_back(linked, memory))
    head = linked[-1][1].digest if linked else ""
    if records and not reading.problems:
        _remember(target, folder, _Memory(records[-1].sequence, head, linked[-1][0]))
    closed = tuple(Closed(str(entry.plain["snapshot"]), plain_volumes(entry)) for entry in reading.closed)
    return Ledger(
        target.address, records, tuple(reading.problems), head, closed, torn, secrets, reading.later_than(linked)
    )


def seal(
    target: Backend, secret: Secret, folder: Path, record: LedgerEntry, older: Iterable[Secret] = ()
) -> LedgerEntry:
    """Add an entry: from now on the snapshot exists. `previous` and `key` are filled in; gives the record as sealed.

    Raises TargetDamaged where the ledger is not in order or has moved on since `record` was made.
    """
    ledger = read_ledger(target, secret, folder, older)
    ledger.check()
    last = ledger.records[-1] if ledger.records else None
    if record.sequence != (last.sequence + 1 if last else 1) or (last and record.snapshot <= last.snapshot):
        raise TargetDamaged(
            address=target.address, reason=f"somebody sealed {last.snapshot if last else 'it'} meanwhile"
        )
    key = authentication_key(secret)
    record = replace(record, previous=ledger.head, key=key_name(key))
    name = entry_name(record)
    with fresh_folder(private_folder(folder) / "sealing") as work:
        content = format_entry(record, key, lambda hidden: encrypt(hidden, secret, work))
        (work / "entry").write_bytes(content)
        for torn in ledger.torn:
            target.delete(torn)
        target.put(name, work / "entry", hashlib.sha256(content).hexdigest())
    if content not in (_read(target, name, LONGEST_ENTRY) for _ in range(2)):  # a byte may flip on the way
        raise TargetDamaged(address=target.address, reason=f"{name} did not come back as it was written")
    _keep(target, folder, name, content)
    _remember(target, folder, _Memory(record.sequence, hashlib.sha256(content).hexdigest(), name))
    return record


def forget_head(target: Backend, folder: Path) -> None:
    """Let the target be older than it was: its owner set it back."""
    _memory_file(target, folder).unlink(missing_ok=True)


def _contents(target: Backend, folder: Path, thorough: bool) -> Iterator[tuple[str, bytes | str]]:
    """The names of the entries, sorted, and their bytes, or why they cannot be had."""
    listed = {name: size for name, size in target.list(LEDGER) if ENTRY_NAME.fullmatch(name)}
    memory = _memory(target, folder)
    if memory and memory.name and memory.name not in listed and target.stat(memory.name):
        listed[memory.name] = -1  # the listing is not up to date
    room = LONGEST_LEDGER
    for name, size in sorted(listed.items()):
        kept = kept_entry(target, folder, name)
        if target.spool is None and not thorough and kept.exists() and kept.stat().st_size == size:
            yield name, kept.read_bytes()
            continue
        content = _read(target, name, min(LONGEST_ENTRY, room))
        room -= len(content) if isinstance(content, bytes) else 0
        yield name, content


def _read(target: Backend, name: str, limit: int) -> bytes | str:
    """An entry's bytes, or why they cannot be had."""
    try:
        return target.read(name, limit)
    except TargetDamaged as exc:
        return str(exc.facts["reason"])


def _open_all(contents: Mapping[str, bytes | str], secrets: Mapping[str, Secret]) -> _LedgerReading:
    reading = _LedgerReading(contents)
    keys = [authentication_key(secret) for secret in secrets.values()]
    for name, content in contents.items():
        if isinstance(content, str):
            reading.broken[name] = content
            continue
        try:
            reading.opened[name] = _opened(name, content, keys)
        except Foreign:
            reading.foreign[name] = hashlib.sha256(content).hexdigest()
        except (ValueError, KeyError, TypeError) as exc:
            reading.broken[name] = str(exc)
            if content.count(b"\n") < _LINES:
                reading.cut.add(name)
    return reading


def _opened(name: str, content: bytes, keys: Iterable[bytes]) -> OpenedEntry:
    for key in keys:
        with contextlib.suppress(Foreign):
            return open_entry(name, content, key)
    raise Foreign


def _handed_on(reading: _LedgerReading, secrets: Mapping[str, Secret], folder: Path) -> dict[str, Secret]:
    """The older secrets that the newest entry has in its sealed part."""
    for entry in reversed(reading.opened.values()) if reading.foreign else ():
        with contextlib.suppress(UnreadableMessage, ValueError):
            record = read_record(entry, _decrypted(entry, secrets, folder))
            return {key_name(authentication_key(older)): older for older in record.older}
    return {}


def _refuse(target: Backend, reading: _LedgerReading) -> None:
    if not reading.broken:
        raise KeyUnusable(reason=f"this key does not fit the snapshots on {target.address}")
    problems = [f"{name}: {why}" for name, why in sorted(reading.broken.items())]
    raise TargetDamaged(address=target.address, reason="; ".join(problems[:3]))


def _linked(reading: _LedgerReading) -> list[tuple[str, OpenedEntry]]:
    """The entries that are authentic, in order of sequence, one each; gaps, doubles and strangers are named."""
    linked: list[tuple[str, OpenedEntry]] = []
    problems = reading.problems
    for name, entry in reading.opened.items():
        last = linked[-1] if linked else None
        sequence, expected = entry.plain["sequence"], last[1].plain["sequence"] + 1 if last else 1
        if sequence < expected:
            problems.append(f"{name}: there is another entry {sequence}")
            continue
        before = _before(entry, reading)
        reached = before[0] if before else entry
        if reached.plain["sequence"] > expected:
            missing = f"entry {expected}" if sequence == expected + 1 else f"entries {expected} to {sequence - 1}"
            problems.append(f"{missing} before {name} missing or damaged")
        elif reached.previous != (last[1].digest if last else ""):
            problems.append(f"{name}: it does not follow the entry before it")
        reading.closed += before
        linked.append((name, entry))
    known = {entry.digest for entry in reading.closed}
    strange = (name for name, digest in reading.foreign.items() if digest not in known)
    problems.extend(f"{name}: it was sealed with another key" for name in strange)
    return linked


def _before(entry: OpenedEntry, reading: _LedgerReading) -> list[OpenedEntry]:
    """The entries of other keys right before this one: it names the digest of the last, and that of the one before."""
    names = {digest: name for name, digest in reading.foreign.items()}
    found: list[OpenedEntry] = []
    while name := names.get((found[0] if found else entry).previous):
        before = _closed(name, reading)
        if before is None or before.plain["sequence"] != (found[0] if found else entry).plain["sequence"] - 1:
            break
        found.insert(0, before)
    return found


def _closed(name: str, reading: _LedgerReading) -> OpenedEntry | None:
    """An entry whose digest an authentic one tells: only now is it worth being parsed."""
    content = reading.contents[name]
    try:
        return closed_entry(name, content) if isinstance(content, bytes) else None
    except ValueError:
        return None


def _number(name: str) -> int:
    """The sequence that the name of an entry tells."""
    return int(name.removeprefix(LEDGER).partition("-")[0])


def _torn(
    reading: _LedgerReading, linked: Sequence[tuple[str, OpenedEntry]], memory: "_Memory | None"
) -> tuple[str, ...]:
    """Entries that are cut off, right after the newest that this machine saw: what a killed run was writing."""
    if memory is None or not linked or linked[-1][1].digest != memory.digest:
        return ()
    return tuple(name for name in sorted(reading.cut) if name.startswith(f"{LEDGER}{memory.sequence + 1:08}-"))


def _records(
    linked: Iterable[tuple[str, OpenedEntry]], secrets: Mapping[str, Secret], folder: Path, problems: list[str]
) -> tuple[LedgerEntry, ...]:
    records: list[LedgerEntry] = []
    for name, entry in linked:
        try:
            record = read_record(entry, _decrypted(entry, secrets, folder))
        except (UnreadableMessage, ValueError) as exc:
            problems.append(f"{name}: {exc}")
            continue
        if records and record.snapshot <= records[-1].snapshot:
            problems.append(f"{name}: it is not later than the entry before it")
        records.append(record)
    return tuple(records)


def _decrypted(entry: OpenedEntry, secrets: Mapping[str, Secret], folder: Path) -> bytes:
    """The hidden part of an entry; gpg is asked once in its life."""
    opened = private_folder(folder) / "opened"
    known = private_folder(opened) / entry.digest
    if known.exists():
        return known.read_bytes()
    with fresh_folder(folder / "opening") as home:
        content = decrypt(entry.sealed, secrets[str(entry.plain["key"])], home, LONGEST_SEALED)
    write_atomic(known, content)
    return content


def newest_seen(target: Backend, folder: Path) -> str:
    """The name of the newest entry this machine has seen of a target; "" where it has seen none."""
    memory = _memory(target, folder)
    return memory.name if memory else ""


@dataclass(frozen=True, slots=True)
class _Memory:
    """The newest entry this machine has seen of a target."""

    sequence: int
    digest: str
    name: str = ""


def _set_back(linked: Iterable[tuple[str, OpenedEntry]], memory: _Memory | None) -> list[str]:
    """Compare with what was there when this machine last looked."""
    if memory is None:
        return []
    found: Mapping[int, str] = {entry.plain["sequence"]: entry.digest for _, entry in linked}
    if found.get(memory.sequence) == memory.digest:
        return []
    return [f"entry {memory.sequence} was there and is not: the target was set back, or it was tampered with"]


def _remember(target: Backend, folder: Path, memory: _Memory) -> None:
    if _memory(target, folder) != memory:
        content = json.dumps([memory.sequence, memory.digest, memory.name])
        write_atomic(_memory_file(target, private_folder(folder)), content.encode())


def _memory(target: Backend, folder: Path) -> _Memory | None:
    try:
        sequence, digest, *name = json.loads(_memory_file(target, folder).read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return _Memory(int(sequence), str(digest), str(name[0]) if name else "")


def _memory_file(target: Backend, folder: Path) -> Path:
    return folder / f"head-{_short(target)}"


def _keep_opened(target: Backend, folder: Path, contents: Mapping[str, bytes | str], reading: _LedgerReading) -> None:
    """Keep copies of the entries that are authentic: never of what took the place of one."""
    for name in reading.opened:
        content, kept = contents[name], kept_entry(target, folder, name)
        if isinstance(content, bytes) and not (kept.exists() and kept.read_bytes() == content):
            _keep(target, folder, name, content)


def _keep(target: Backend, folder: Path, name: str, content: bytes) -> None:
    """Keep a copy of an entry: it need not be fetched again, and can be put back where it got lost."""
    kept = kept_entry(target, folder, name)
    private_folder(folder)
    private_folder(kept.parent)
    write_atomic(kept, content)


def kept_entry(target: Backend, folder: Path, name: str) -> Path:
    """Where this machine keeps its copy of an entry; there need be none."""
    return folder / f"entries-{_short(target)}" / name.removeprefix(LEDGER)


def _short(target: Backend) -> str:
    return hashlib.sha256(target.address.encode()).hexdigest()[:16]
