"""Read the ledger of a target: the authentic entries, and what is wrong with the rest.

A snapshot exists when its entry does. Touches `ledger/` on the target and the private folder of memory.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from tklb.crypto.gpg import UnreadableMessage
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import (
    ENTRY_NAME,
    LONGEST_ENTRY,
    OpenedEntry,
    authentication_key,
    key_name,
    parse_entry,
    parse_volumes,
)
from tklb.ledger.memory import (
    NewestEntry,
    copies_folder,
    copy_path,
    decrypt_once,
    keep_copies,
    read_newest,
    remember_newest,
)
from tklb.ledger.order import EntryOrder, OpenedLedger, count_later, find_torn, list_broken, open_entries, order_entries
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.storage.backend import LEDGER, Backend

LONGEST_LEDGER = 512 << 20  # bytes: it is read into memory, and whoever can write to the target can write more
_READ_TWICE = 16  # entries; where more are broken, it is no accident


@dataclass(frozen=True, slots=True)
class ClosedSnapshot:
    """A snapshot whose key is not at hand. It is authentic: an authentic entry names the digest of its entry."""

    snapshot: str
    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of a target, as read at one moment. A value: threads may share it.

    `entries` are authentic, in the order of their seals; `problems` says what is wrong beside them, a line each.
    `head` is the SHA-256 of the newest entry, "" where there is none. `closed` are the snapshots before a change of the
    key whose secret is not at hand. `torn` names an entry that a killed run was writing: it was never sealed.
    `secrets` has the secret of every entry, by the name of its key.
    """

    address: str
    entries: tuple[LedgerEntry, ...] = ()
    problems: tuple[str, ...] = ()
    head: str = ""
    closed: tuple[ClosedSnapshot, ...] = ()
    torn: tuple[str, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    later: int = 0  # how many entries after the newest one were sealed with a key that is not at hand

    def check(self) -> None:
        """Raise TargetDamaged where anything is wrong: a run must not add to such a target, or remove from it."""
        if self.problems:
            raise TargetDamaged(address=self.address, reason="; ".join(self.problems[:3]))

    @property
    def volumes(self) -> dict[str, Volume]:
        """All sealed volumes by name, those of closed snapshots too."""
        lists = (*(closed.volumes for closed in self.closed), *(entry.volumes for entry in self.entries))
        return {volume.name: volume for volumes in lists for volume in volumes}


def read_ledger(
    backend: Backend, secret: Secret, folder: Path, older: Iterable[Secret] = (), thorough: bool = False
) -> Ledger:
    """Read and authenticate all entries of a target, and remember the newest one in the private `folder`.

    Problems are part of the result, so that a restore can use the entries that are whole; callers that write call
    Ledger.check(). `older` are earlier secrets of this machine; the newest entry hands on the secrets before it.
    Entries of a distant target come from the copies in `folder` while their size is the same, unless `thorough`.
    One thread or process at a time may use a `folder`.

    Raises KeyUnusable where no entry belongs to these keys, TargetDamaged where there are entries and none is whole,
    and what the target raises.
    """
    secrets = {key_name(authentication_key(one)): one for one in (*older, secret)}
    found = open_entries(dict(_read_entries(backend, folder, thorough)), secrets.values())
    if found.broken and backend.spool is None:  # perhaps on the way only
        again = {name: read_content(backend, name, LONGEST_ENTRY) for name in list(found.broken)[:_READ_TWICE]}
        found = open_entries({**found.contents, **again}, secrets.values())
    older_secrets = _read_older_secrets(found, secrets, folder)
    if older_secrets.keys() - secrets.keys():
        secrets = {**older_secrets, **secrets}
        found = open_entries(found.contents, secrets.values())
    if not found.opened and (found.foreign or found.broken):
        _refuse(backend, found)
    keep_copies(backend, folder, found.authentic)
    ledger, order = _build_ledger(backend, found, secrets, folder)
    if ledger.entries and not ledger.problems:
        newest = NewestEntry(ledger.entries[-1].sequence, ledger.head, order.entries[-1][0])
        remember_newest(backend, folder, newest)
    return ledger


def read_kept_entries(
    address: str, secret: Secret, folder: Path, older: Iterable[Secret] = ()
) -> tuple[LedgerEntry, ...]:
    """Give the entries of the target at `address` that this machine has copies of, oldest first; ask it nothing."""
    secrets = {key_name(authentication_key(one)): one for one in (*older, secret)}
    place = copies_folder(address, folder)
    copies = sorted(place.iterdir()) if place.is_dir() else ()
    found = open_entries({LEDGER + path.name: path.read_bytes() for path in copies}, secrets.values())
    secrets = {**_read_older_secrets(found, secrets, folder), **secrets}
    found = open_entries(found.contents, secrets.values())
    return _parse_entries(order_entries(found).entries, secrets, folder)[0]


def _build_ledger(
    backend: Backend, found: OpenedLedger, secrets: Mapping[str, Secret], folder: Path
) -> tuple[Ledger, EntryOrder]:
    order, newest = order_entries(found), read_newest(backend, folder)
    head = order.last.digest if order.last else ""
    torn = find_torn(found, newest.sequence + 1) if newest and newest.digest == head else ()
    entries, unreadable = _parse_entries(order.entries, secrets, folder)
    ledger = Ledger(
        address=backend.address,
        entries=entries,
        problems=(*order.problems, *list_broken(found, torn), *unreadable, *_compare_with_newest(order, newest)),
        head=head,
        closed=tuple(ClosedSnapshot(str(one.plain["snapshot"]), parse_volumes(one)) for one in order.closed),
        torn=torn,
        secrets=secrets,
        later=count_later(found, order.last),
    )
    return ledger, order


def _read_entries(backend: Backend, folder: Path, thorough: bool) -> Iterator[tuple[str, bytes | str]]:
    """The names of the entries, sorted, and their bytes, or why they cannot be read."""
    listed = {name: size for name, size in backend.list(LEDGER) if ENTRY_NAME.fullmatch(name)}
    newest = read_newest(backend, folder)
    if newest and newest.name and newest.name not in listed and backend.stat(newest.name):
        listed[newest.name] = -1  # the listing is not up to date
    room = LONGEST_LEDGER
    for name, size in sorted(listed.items()):
        copy = copy_path(backend, folder, name)
        if backend.spool is None and not thorough and copy.exists() and copy.stat().st_size == size:
            yield name, copy.read_bytes()
            continue
        content = read_content(backend, name, min(LONGEST_ENTRY, room))
        room -= len(content) if isinstance(content, bytes) else 0
        yield name, content


def read_content(backend: Backend, name: str, limit: int) -> bytes | str:
    """Read the bytes of an entry, at most `limit`; gives text that says why where the target has no such bytes."""
    try:
        return backend.read(name, limit)
    except TargetDamaged as exc:
        return str(exc.facts["reason"])


def _read_older_secrets(found: OpenedLedger, secrets: Mapping[str, Secret], folder: Path) -> dict[str, Secret]:
    """The older secrets that the newest entry has in its hidden part."""
    for opened in reversed([*found.opened.values()]) if found.foreign else ():
        try:
            entry = parse_entry(opened, decrypt_once(opened, secrets, folder))
        except (UnreadableMessage, ValueError):
            continue
        return {key_name(authentication_key(older)): older for older in entry.older}
    return {}


def _refuse(backend: Backend, found: OpenedLedger) -> None:
    if not found.broken:
        raise KeyUnusable(reason=f"this key does not fit the snapshots on {backend.address}")
    raise TargetDamaged(address=backend.address, reason="; ".join(list_broken(found)[:3]))


def _parse_entries(
    ordered: Sequence[tuple[str, OpenedEntry]], secrets: Mapping[str, Secret], folder: Path
) -> tuple[tuple[LedgerEntry, ...], tuple[str, ...]]:
    """The entries that can be decrypted and parsed, and what is wrong with the others."""
    entries: list[LedgerEntry] = []
    problems: list[str] = []
    for name, opened in ordered:
        try:
            entry = parse_entry(opened, decrypt_once(opened, secrets, folder))
        except (UnreadableMessage, ValueError) as exc:
            problems.append(f"{name}: {exc}")
            continue
        if entries and entry.snapshot <= entries[-1].snapshot:
            problems.append(f"{name}: it is not later than the entry before it")
        entries.append(entry)
    return tuple(entries), tuple(problems)


def _compare_with_newest(order: EntryOrder, newest: NewestEntry | None) -> tuple[str, ...]:
    """Say where the target lacks the newest entry that this machine has seen."""
    digests = {entry.sequence: entry.digest for _, entry in order.entries}
    if newest is None or digests.get(newest.sequence) == newest.digest:
        return ()
    return (f"entry {newest.sequence} was there and is gone: the target was set back, or somebody tampered with it",)
