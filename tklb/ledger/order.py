"""Which entries of a ledger are authentic, and whether each follows the one before. Pure.

Every entry names the digest of the entry before it. So an authentic entry vouches for all before it, even for those of
a key that is not at hand. A key that was changed never seals again: whoever kept it could add entries. Gaps, doubles
and strangers are problems; the entries that are whole stay usable.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import ForeignEntry, OpenedEntry, authentication_key, open_entry, parse_closed_entry
from tklb.model.secret import Secret

_LINES = 2  # of an entry


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """The entries found at a target, by name.

    `contents` has the bytes of each, or why they could not be read. A key authenticates those in `opened`. Another key
    may have sealed those in `foreign`, which has their digests. `broken` has the reasons why others are no entries, and
    `cut` names those of them that end too early.
    """

    contents: Mapping[str, bytes | str]
    opened: Mapping[str, OpenedEntry]
    foreign: Mapping[str, str]
    broken: Mapping[str, str]
    cut: frozenset[str]

    @property
    def authentic(self) -> dict[str, bytes]:
        """The bytes of the entries that a key authenticates."""
        return {name: content for name in self.opened if isinstance(content := self.contents[name], bytes)}


@dataclass(frozen=True, slots=True)
class EntryOrder:
    """The authentic `entries` with their names, in order; the `closed` ones among them; what is wrong, a line each."""

    entries: tuple[tuple[str, OpenedEntry], ...]
    closed: tuple[OpenedEntry, ...]
    problems: tuple[str, ...]

    @property
    def last(self) -> OpenedEntry | None:
        return self.entries[-1][1] if self.entries else None


def open_entries(contents: Mapping[str, bytes | str], secrets: Iterable[Secret]) -> OpenedLedger:
    """Authenticate each entry with one of the secrets.

    `contents` maps the name of an entry to its bytes, or to the reason why it has none.
    """
    keys = [authentication_key(secret) for secret in secrets]
    opened, foreign, broken, cut = {}, {}, {}, set()
    for name, content in contents.items():
        if isinstance(content, str):
            broken[name] = content
            continue
        try:
            opened[name] = _open_with_any(name, content, keys)
        except ForeignEntry:
            foreign[name] = hashlib.sha256(content).hexdigest()
        except (ValueError, KeyError, TypeError) as exc:
            broken[name] = str(exc)
            cut |= {name} if content.count(b"\n") < _LINES else set()
    return OpenedLedger(contents, opened, foreign, broken, frozenset(cut))


def _open_with_any(name: str, content: bytes, keys: Iterable[bytes]) -> OpenedEntry:
    for key in keys:
        with contextlib.suppress(ForeignEntry):
            return open_entry(name, content, key)
    raise ForeignEntry


def order_entries(found: OpenedLedger) -> EntryOrder:
    """Put the authentic entries in order of their sequence, one each, and name gaps, doubles and strangers."""
    entries: list[tuple[str, OpenedEntry]] = []
    closed: list[OpenedEntry] = []
    problems: list[str] = []
    keys = _KeyOrder()
    for name, entry in found.opened.items():
        last = entries[-1][1] if entries else None
        if entry.sequence < (last.sequence + 1 if last else 1):
            problems.append(f"{name}: there is another entry {entry.sequence}")
            continue
        before = _find_closed_before(entry, found)
        if not keys.follow((*before, entry)):
            problems.append(f"{name}: it was sealed with a key that had been changed before")
            continue
        problems += _compare_with_last(name, entry, before[0] if before else entry, last)
        closed += before
        entries.append((name, entry))
    known = {entry.digest for entry in closed}
    strange = (name for name, digest in found.foreign.items() if digest not in known)
    problems += (f"{name}: it was sealed with another key" for name in strange)
    return EntryOrder(tuple(entries), tuple(closed), tuple(problems))


class _KeyOrder:
    """The keys of a ledger in the order of its entries: the present one, and those that it replaced."""

    def __init__(self) -> None:
        self._present, self._changed = "", frozenset[str]()

    def follow(self, entries: Iterable[OpenedEntry]) -> bool:
        """Take up the keys of the next entries, unless one of them was changed before; whether none was."""
        present, changed = self._present, self._changed
        for key in (str(entry.plain["key"]) for entry in entries):
            if key in changed:
                return False
            if key != present:
                present, changed = key, changed | {present}
        self._present, self._changed = present, changed
        return True


def _compare_with_last(name: str, entry: OpenedEntry, reached: OpenedEntry, last: OpenedEntry | None) -> Iterator[str]:
    """Say what is wrong between `last` and an entry, which vouches for all entries back to `reached`."""
    expected = last.sequence + 1 if last else 1
    if reached.sequence > expected:
        is_one = entry.sequence == expected + 1
        missing = f"entry {expected}" if is_one else f"entries {expected} to {entry.sequence - 1}"
        yield f"{missing} before {name} missing or damaged"
    elif reached.previous != (last.digest if last else ""):
        yield f"{name}: it does not follow the entry before it"


def _find_closed_before(entry: OpenedEntry, found: OpenedLedger) -> list[OpenedEntry]:
    """The entries of other keys right before this one: it names the digest of the last, and that of the one before."""
    names = {digest: name for name, digest in found.foreign.items()}
    closed = [entry]
    while name := names.get(closed[0].previous):
        before = _parse_closed(name, found)
        if before is None or before.sequence != closed[0].sequence - 1:
            break
        closed.insert(0, before)
    return closed[:-1]


def _parse_closed(name: str, found: OpenedLedger) -> OpenedEntry | None:
    """An entry whose digest an authentic one names: only now it is worth parsing."""
    content = found.contents[name]
    try:
        return parse_closed_entry(name, content) if isinstance(content, bytes) else None
    except ValueError:
        return None


def find_torn(found: OpenedLedger, next_sequence: int) -> tuple[str, ...]:
    """Name the entries with that sequence that are cut off: a killed run was writing one, and never sealed it."""
    return tuple(name for name in sorted(found.cut) if sequence_in(name) == next_sequence)


def count_later(found: OpenedLedger, last: OpenedEntry | None) -> int:
    """How many entries after the last authentic one claim another key."""
    newest = last.sequence if last else 0
    return sum(sequence_in(name) > newest for name in found.foreign)


def list_broken(found: OpenedLedger, without: Sequence[str] = ()) -> tuple[str, ...]:
    """The entries that are damaged or forged, a line each."""
    return tuple(f"{name}: {why}" for name, why in sorted(found.broken.items()) if name not in without)


def sequence_in(name: str) -> int:
    """The sequence in the name of an entry."""
    return int(name.removeprefix("ledger/").partition("-")[0])
