"""Which entries of a ledger are authentic, and which of them are the trunk: the history of the machine. Pure.

Every entry names the digest of the entry before it. So the newest one vouches for all before it, even for those of a
key that is not at hand. The trunk is followed from its newest entry back. Where an entry is not there, the newest one
must excuse that, or something is damaged. Authentic entries beside the trunk are strays. A key that was changed never
seals again: whoever kept it could add entries. What no key authenticates is named and ignored: anybody could write it.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import (
    ENTRY_NAME,
    ForeignEntry,
    NewerEntry,
    OpenedEntry,
    authentication_key,
    open_entry,
    parse_closed_entry,
    parse_excused,
    parse_strays,
)
from tklb.model.secret import Secret

CHANGED_KEY = "it was sealed with a key that had been changed before"
OTHER_KEY = "it was sealed with another key"


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """The entries found at a target, by name.

    `contents` has the bytes of each, or why they could not be read. A key authenticates those in `opened`. Another key
    may have sealed those in `foreign`, which has their digests. `broken` has the reasons why others are no entries.
    Those in `newer` are authentic, and this version cannot read them.
    """

    contents: Mapping[str, bytes | str]
    opened: Mapping[str, OpenedEntry]
    foreign: Mapping[str, str]
    broken: Mapping[str, str]
    newer: Mapping[str, str]

    @property
    def authentic(self) -> dict[str, bytes]:
        """The bytes of the entries that a key authenticates."""
        return {name: content for name in self.opened if isinstance(content := self.contents[name], bytes)}


@dataclass(frozen=True, slots=True)
class EntryOrder:
    """The trunk and what lies beside it.

    `entries` are those of the trunk with their names, oldest first; `closed` those of keys that are not at hand.
    `strays` are authentic and beside the trunk. `holes` are entries of the trunk that nothing excuses, from first to
    last. `foreign` says why other objects are ignored, by name.
    """

    entries: tuple[tuple[str, OpenedEntry], ...] = ()
    closed: tuple[OpenedEntry, ...] = ()
    strays: tuple[tuple[str, OpenedEntry], ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    foreign: Mapping[str, str] = field(default_factory=dict)

    @property
    def last(self) -> OpenedEntry | None:
        return self.entries[-1][1] if self.entries else None


def open_entries(contents: Mapping[str, bytes | str], secrets: Iterable[Secret]) -> OpenedLedger:
    """Authenticate each entry with one of the secrets.

    `contents` maps the name of an entry to its bytes, or to the reason why it has none.
    """
    keys = [authentication_key(secret) for secret in secrets]
    opened, foreign, broken, newer = {}, {}, {}, {}
    for name, content in contents.items():
        if isinstance(content, str):
            broken[name] = content
            continue
        try:
            opened[name] = _open_with_any(name, content, keys)
        except ForeignEntry:
            foreign[name] = hashlib.sha256(content).hexdigest()
        except NewerEntry as exc:
            newer[name] = str(exc)
        except (ValueError, KeyError, TypeError) as exc:
            broken[name] = str(exc)
    return OpenedLedger(contents, opened, foreign, broken, newer)


def _open_with_any(name: str, content: bytes, keys: Iterable[bytes]) -> OpenedEntry:
    for key in keys:
        with contextlib.suppress(ForeignEntry):
            return open_entry(name, content, key)
    raise ForeignEntry


def order_entries(found: OpenedLedger, present: str = "", newest: str = "") -> EntryOrder:
    """Find the trunk, and say what the rest is.

    `present` is the name of the key in use: its entries are the newest. `newest` is the digest of the newest entry that
    this machine knows: where it is there, the trunk leads through it.
    """
    ledger = _Entries(found)
    refused: set[str] = set()
    chosen: _Trunk | None = None
    for name in ledger.rank_heads(present):
        trunk = ledger.follow(name)
        if not trunk.keeps_order_of_keys:
            refused.add(name)
        elif chosen is None or (newest in trunk.digests and newest not in chosen.digests):
            chosen = trunk
        if chosen and (not newest or newest in chosen.digests or newest not in ledger.digests):
            break
    own = dict(chosen.entries) if chosen else {}
    closed = {entry.digest for entry in chosen.closed} if chosen else set()
    beside = {name: entry for name, entry in found.opened.items() if name not in own}
    strays = {name: entry for name, entry in beside.items() if not _is_late(entry, chosen, refused, name)}
    foreign = {
        **found.broken,
        **{name: OTHER_KEY for name, digest in found.foreign.items() if digest not in closed},
        **dict.fromkeys(beside.keys() - strays.keys(), CHANGED_KEY),
    }
    if chosen is None:
        return EntryOrder(strays=tuple(strays.items()), foreign=foreign)
    return EntryOrder(chosen.entries, chosen.closed, tuple(strays.items()), chosen.holes, foreign)


def _is_late(entry: OpenedEntry, trunk: "_Trunk | None", refused: set[str], name: str) -> bool:
    """Whether a key sealed an entry beside the trunk after it had been changed."""
    if trunk is None or name in refused:
        return True
    changed = trunk.changed_keys.get(entry.key)
    return changed is not None and entry.sequence >= changed


@dataclass(frozen=True, slots=True)
class _Trunk:
    """The way back from one entry; see EntryOrder. `lines` are all entries on it, closed ones too, oldest first."""

    entries: tuple[tuple[str, OpenedEntry], ...]
    closed: tuple[OpenedEntry, ...]
    lines: tuple[OpenedEntry, ...]
    holes: tuple[tuple[int, int], ...]

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(entry.digest for entry in self.lines)

    @property
    def keeps_order_of_keys(self) -> bool:
        """Whether no key came back after another one had taken its place."""
        keys = [entry.key for entry in self.lines]
        changes = 1 + sum(before != after for before, after in itertools.pairwise(keys))
        return changes == len(set(keys))

    @property
    def changed_keys(self) -> dict[str, int]:
        """The sequence of the entry with which another key took the place of a key."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return {before.key: after.sequence for before, after in pairs if before.key != after.key}


class _Entries:
    """The authentic entries of a ledger, to be followed by digest."""

    def __init__(self, found: OpenedLedger) -> None:
        self._found = found
        self._names = {entry.digest: name for name, entry in found.opened.items()}
        self._foreign = {digest: name for name, digest in found.foreign.items()}
        self._by_sequence = sorted((entry.sequence, name) for name, entry in found.opened.items())

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(self._names)

    def rank_heads(self, present: str) -> Iterator[str]:
        """The names of entries that may be the newest of the trunk, the likeliest first."""
        names = [name for _, name in reversed(self._by_sequence)]
        yield from (name for name in names if self._found.opened[name].key == present)
        yield from (name for name in names if self._found.opened[name].key != present)

    def follow(self, name: str) -> _Trunk:
        """Follow the trunk back from an entry to the first one."""
        head = current = self._found.opened[name]
        entries, closed, lines = [(name, head)], list[OpenedEntry](), [head]
        holes: list[tuple[int, int]] = []
        excused = parse_excused(head.plain)
        strays = {stray.digest for stray in parse_strays(head.plain)}
        while current.sequence > 1 or current.previous:
            before = self._find_before(current)
            lower = before or self._find_lower(current, strays)
            first = lower[1].sequence + 1 if lower else 1
            holes += _find_unexcused(first, current.sequence - 1, excused)
            if lower is None:
                break
            if lower[0]:
                entries.append((lower[0], lower[1]))
            else:
                closed.append(lower[1])
            current = lower[1]
            lines.append(current)
        reverse = (tuple(reversed(entries)), tuple(reversed(closed)), tuple(reversed(lines)))
        return _Trunk(*reverse, tuple(reversed(holes)))

    def _find_before(self, entry: OpenedEntry) -> tuple[str, OpenedEntry] | None:
        """The entry whose digest this one names. It has no name where its key is not at hand."""
        if name := self._names.get(entry.previous):
            before = self._found.opened[name]
            return (name, before) if before.sequence < entry.sequence else None
        if name := self._foreign.get(entry.previous):
            closed = self._parse_closed(name)
            return ("", closed) if closed and closed.sequence < entry.sequence else None
        return None

    def _find_lower(self, entry: OpenedEntry, strays: set[str]) -> tuple[str, OpenedEntry] | None:
        """The newest entry before a hole. What lies right before `entry`, or was made later, is not what it follows."""
        for sequence, name in reversed(self._by_sequence):
            lower = self._found.opened[name]
            is_earlier = sequence < entry.sequence - 1 and lower.snapshot < entry.snapshot
            if is_earlier and lower.digest not in strays:
                return name, lower
        return None

    def _parse_closed(self, name: str) -> OpenedEntry | None:
        """An entry whose digest an authentic one names: only now it is worth parsing."""
        content = self._found.contents[name]
        try:
            return parse_closed_entry(name, content) if isinstance(content, bytes) else None
        except ValueError:
            return None


def _find_unexcused(first: int, last: int, excused: Sequence[tuple[int, int, str]]) -> Iterator[tuple[int, int]]:
    """The parts of a hole that nothing excuses."""
    for begin, end, _ in excused:
        if first < begin <= last:
            yield first, begin - 1
        first = max(first, end + 1) if begin <= last else first
    if first <= last:
        yield first, last


def count_later(foreign: Mapping[str, str], last: OpenedEntry | None) -> int:
    """How many entries after the last authentic one claim another key."""
    newest = last.sequence if last else 0
    return sum(sequence_in(name) > newest for name, why in foreign.items() if why == OTHER_KEY)


def snapshot_in(name: str) -> str:
    """The snapshot in the name of an entry; "" where it is no such name."""
    match = ENTRY_NAME.fullmatch(name)
    return match[2] if match else ""


def sequence_in(name: str) -> int:
    """The sequence in the name of an entry."""
    return int(name.removeprefix("ledger/").partition("-")[0])
