"""Read the ledger of a target: the authentic entries, and what is wrong with the rest.

A snapshot exists when its entry does. Touches `ledger/` on the target and the private folder of memory.py.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from tklb.crypto.gpg import UnreadableMessage
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import (
    ENTRY_NAME,
    LONGEST_ENTRY,
    OpenedEntry,
    authentication_key,
    entry_name,
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
from tklb.ledger.order import EntryOrder, OpenedLedger, count_later, open_entries, order_entries, sequence_in
from tklb.ledger.writer import LONGEST_WRITER, Writer, parse_writer, rank_writers
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, Stray, Volume
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

    `entries` are the trunk, in the order of their seals; `strays` are authentic too, and beside it. `problems` says
    what is wrong, a line each, and `contradictions` which of that is more than a loss; `lost` are the entries that are
    gone and that nothing excuses, from first to last. `foreign` says what lies there under the names of entries and is
    ignored. `head` is the SHA-256 of the newest entry, "" where there is none. `closed` are the snapshots before a
    change of the key whose secret is not at hand. `secrets` has the secret of every entry, by the name of its key.
    `writer` says who took over last, None where nobody ever did.
    """

    address: str
    entries: tuple[LedgerEntry, ...] = ()
    problems: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    head: str = ""
    closed: tuple[ClosedSnapshot, ...] = ()
    strays: tuple[LedgerEntry, ...] = ()
    stray_digests: tuple[Stray, ...] = ()
    lost: tuple[tuple[int, int], ...] = ()
    foreign: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    is_set_back: bool = False  # the newest entry that this machine has seen is gone
    later: int = 0  # how many entries after the newest one were sealed with a key that is not at hand
    writer: Writer | None = None
    names: frozenset[str] = frozenset()  # all that was seen there

    def check(self, *, excuses_lost: bool = False) -> None:
        """Raise TargetDamaged where anything is wrong: a run must not add to such a target, or remove from it.

        With `excuses_lost` entries may be gone: the next one excuses them, and nothing of theirs is built upon.
        """
        problems = self.contradictions if excuses_lost else self.problems
        if problems:
            raise TargetDamaged(address=self.address, reason="; ".join(problems[:3]))

    @property
    def digests(self) -> frozenset[str]:
        """The digests of the newest entry, and of all strays."""
        return frozenset((self.head, *(stray.digest for stray in self.stray_digests)))

    @property
    def snapshots(self) -> tuple[LedgerEntry, ...]:
        """All snapshots that can be restored, the oldest first: those of the trunk, and strays."""
        return tuple(sorted((*self.entries, *self.strays), key=lambda entry: (entry.snapshot, entry.sequence)))

    @property
    def volumes(self) -> dict[str, Volume]:
        """All sealed volumes by name, those of closed snapshots and strays too."""
        entries = (*self.strays, *self.entries)
        lists = (*(closed.volumes for closed in self.closed), *(entry.volumes for entry in entries))
        return {volume.name: volume for volumes in lists for volume in volumes}


def read_ledger(
    backend: Backend, secret: Secret, folder: Path, older: Iterable[Secret] = (), thorough: bool = False
) -> Ledger:
    """Read and authenticate all entries of a target, and remember the newest one in the private `folder`.

    Problems are part of the result, so that a restore can use the entries that are whole; callers that write call
    Ledger.check(). `older` are earlier secrets of this machine; the newest entry hands on the secrets before it.
    Entries of a distant target come from the copies in `folder` while their size is the same, unless `thorough`.
    One thread or process at a time may use a `folder`.

    Raises KeyUnusable where no entry belongs to these keys, TargetDamaged where there are entries and none is whole or
    a newer version of tklb sealed one, and what the target raises.
    """
    secrets = {key_name(authentication_key(one)): one for one in (*older, secret)}
    listed = dict(backend.list(LEDGER))
    found = open_entries(dict(_read_entries(backend, folder, thorough, listed)), secrets.values())
    if found.broken and backend.spool is None:  # perhaps on the way only
        again = {name: read_content(backend, name, LONGEST_ENTRY) for name in list(found.broken)[:_READ_TWICE]}
        found = open_entries({**found.contents, **again}, secrets.values())
    older_secrets = _read_older_secrets(found, secrets, folder)
    if older_secrets.keys() - secrets.keys():
        secrets = {**older_secrets, **secrets}
        found = open_entries(found.contents, secrets.values())
    if found.newer or (not found.opened and found.foreign):
        _refuse(backend, found)
    keep_copies(backend, folder, found.authentic)
    ledger, order = _build_ledger(backend, found, secrets, folder, key_name(authentication_key(secret)))
    ledger = replace(
        ledger, writer=_read_writer(backend, ledger, secret, listed), names=frozenset((*listed, *found.contents))
    )
    if ledger.entries and not ledger.problems:
        newest = NewestEntry(ledger.entries[-1].sequence, ledger.head, order.entries[-1][0])
        remember_newest(backend, folder, newest)
    return ledger


def read_kept_entries(
    address: str, secret: Secret, folder: Path, older: Iterable[Secret] = ()
) -> tuple[LedgerEntry, ...]:
    """Give the entries of the target at `address` that this machine has copies of, oldest first; ask it nothing."""
    present = key_name(authentication_key(secret))
    secrets = {key_name(authentication_key(one)): one for one in (*older, secret)}
    place = copies_folder(address, folder)
    copies = sorted(place.iterdir()) if place.is_dir() else ()
    found = open_entries({LEDGER + path.name: path.read_bytes() for path in copies}, secrets.values())
    secrets = {**_read_older_secrets(found, secrets, folder), **secrets}
    found = open_entries(found.contents, secrets.values())
    return _parse_entries(order_entries(found, present).entries, secrets, folder)[0]


def _build_ledger(
    backend: Backend, found: OpenedLedger, secrets: Mapping[str, Secret], folder: Path, present: str
) -> tuple[Ledger, EntryOrder]:
    newest = read_newest(backend, folder)
    order = order_entries(found, present, newest.digest if newest else "")
    entries, unreadable = _parse_entries(order.entries, secrets, folder)
    strays, unreadable_strays = _parse_entries(order.strays, secrets, folder)
    lost = (*order.holes, *_find_set_back(order, newest))
    contradictions = (*unreadable, *_find_early(entries))
    ledger = Ledger(
        address=backend.address,
        entries=entries,
        problems=(*_describe_lost(order, lost), *contradictions),
        contradictions=contradictions,
        head=order.last.digest if order.last else "",
        closed=tuple(ClosedSnapshot(str(one.plain["snapshot"]), parse_volumes(one)) for one in order.closed),
        strays=strays,
        stray_digests=tuple(Stray(entry.sequence, entry.digest) for _, entry in order.strays),
        lost=order.holes,
        is_set_back=bool(_find_set_back(order, newest)),
        foreign={**order.foreign, **dict(line.split(": ", 1) for line in unreadable_strays)},
        secrets=secrets,
        later=count_later(order.foreign, order.last),
    )
    return ledger, order


def _read_writer(backend: Backend, ledger: Ledger, secret: Secret, listed: Iterable[str]) -> Writer | None:
    """The takeover that counts. One that another key authenticates counts no more."""
    for name in rank_writers(list(listed))[:_READ_TWICE]:
        content = read_content(backend, name, LONGEST_WRITER)
        head = ledger.secrets[ledger.entries[-1].key] if ledger.entries else secret
        for one in (secret, head):
            with contextlib.suppress(ValueError, TypeError):
                return parse_writer(name, content, authentication_key(one))  # type: ignore[arg-type]
    return None


def _read_entries(
    backend: Backend, folder: Path, thorough: bool, listed: Mapping[str, int]
) -> Iterator[tuple[str, bytes | str]]:
    """The names of the entries, sorted, and their bytes, or why they cannot be read."""
    sizes = {name: size for name, size in listed.items() if ENTRY_NAME.fullmatch(name)}
    newest = read_newest(backend, folder)
    if newest and newest.name and newest.name not in sizes and backend.stat(newest.name):
        sizes[newest.name] = -1  # the listing is not up to date
    room = LONGEST_LEDGER
    for name, size in sorted(sizes.items()):
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
    if found.newer:
        raise TargetDamaged(address=backend.address, reason="; ".join(_lines(found.newer)[:3]))
    raise KeyUnusable(reason=f"this key does not fit the snapshots on {backend.address}")


def _lines(reasons: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {why}" for name, why in sorted(reasons.items()))


def _parse_entries(
    ordered: Sequence[tuple[str, OpenedEntry]], secrets: Mapping[str, Secret], folder: Path
) -> tuple[tuple[LedgerEntry, ...], tuple[str, ...]]:
    """The entries that can be decrypted and parsed, and what is wrong with the others."""
    entries: list[LedgerEntry] = []
    problems: list[str] = []
    for name, opened in ordered:
        try:
            entries.append(parse_entry(opened, decrypt_once(opened, secrets, folder)))
        except (UnreadableMessage, ValueError) as exc:
            problems.append(f"{name}: {exc}")
    return tuple(entries), tuple(problems)


def _find_early(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """Entries that are not later than the one before: `latest` would mean two things."""
    for before, entry in itertools.pairwise(entries):
        if entry.snapshot <= before.snapshot:
            yield f"{entry_name(entry)}: it is not later than the entry before it"


def _find_set_back(order: EntryOrder, newest: NewestEntry | None) -> tuple[tuple[int, int], ...]:
    """The newest entry that this machine has seen, where the target lacks it."""
    known = (*(entry for _, entry in (*order.entries, *order.strays)), *order.closed)
    if newest is None or newest.digest in {entry.digest for entry in known}:
        return ()
    reached = order.last.sequence if order.last else 0
    return ((min(reached + 1, newest.sequence), newest.sequence),)


def _describe_lost(order: EntryOrder, lost: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Say which entries are gone, and what lies in their places."""
    names = {entry.sequence: name for name, entry in order.entries}
    for first, last in lost:
        in_place = sorted((name, why) for name, why in order.foreign.items() if first <= sequence_in(name) <= last)
        yield from (f"{name}: {why}" for name, why in in_place)
        entries = f"entry {first}" if first == last else f"entries {first} to {last}"
        after = min((sequence for sequence in names if sequence > last), default=0)
        if after:
            yield f"{entries} before {names[after]} missing or damaged"
        else:
            yield f"{entries} was there and is gone: the target was set back, or somebody tampered with it"
