"""What is wrong with a target beside its volumes: entries of the ledger, and the copy of the key file.

Takes a target, what was read of its ledger and what this machine has seen of it before; gives a Damage each. An entry
that is missing or not authentic costs its own snapshot: nothing is restored that no seal names. Others name all they
need themselves. Touches nothing but what it reads.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tklb.errors import TargetDamaged
from tklb.ledger.entry import ENTRY_NAME, LONGEST_ENTRY, entry_name
from tklb.ledger.memory import list_copies, read_newest
from tklb.ledger.read import Ledger
from tklb.model.volume_names import VOLUME_NAME, parse_name
from tklb.storage.backend import KEY, LEDGER, Backend
from tklb.storage.check import sizes_of
from tklb.verify.impact import Problem

_LONGEST_KEY = 1 << 20
_FOREIGN = "it was sealed with another key"  # as the ledger says it
_NAMED = re.compile(rf"({ENTRY_NAME.pattern}): (.*)", re.DOTALL)


def check_ledger(target: Backend, ledger: Ledger, folder: Path) -> tuple[Problem, ...]:
    """What is wrong with the entries, in order of their names. `folder` is where this machine keeps its ledgers."""
    listed = [name for name, _ in target.list(LEDGER)]
    good = {entry_name(record): record.snapshot for record in ledger.entries}
    closed = {one.snapshot for one in ledger.closed}
    reasons = {match[1]: match[4] for line in ledger.problems if (match := _NAMED.fullmatch(line))}
    newest = read_newest(target, folder)
    kept, seen = list_copies(target, folder), newest.name if newest else ""
    known = _Known(good, kept, seen, _labels(target, ledger, kept) if ledger.problems else frozenset())
    found = [
        _strange(target, name, reasons.get(name, ""), known)
        for name in listed
        if name not in good and name not in ledger.torn and _id(name) not in closed
    ]
    found += [Problem(name, "unexpected", reason="a run that was ended was writing it") for name in ledger.torn]
    there = [damage.volume for damage in found if damage.kind != "unexpected"]
    there += [*good, *(name for name in listed if _id(name) in closed)]
    found += _missing(there, known)
    told = {damage.volume for damage in found}
    found += [Problem(name, "damaged", reason=why) for name, why in sorted(reasons.items()) if name not in told]
    if ledger.problems and not found:  # what the names do not show: the newest entry is another than it was
        found.append(Problem(seen or LEDGER, "damaged", reason="; ".join(ledger.problems)))
    return tuple(sorted(found, key=lambda damage: damage.volume))


def check_key(target: Backend, key_file: Path) -> tuple[Problem, ...]:
    """Compare the target's copy of the key file with this machine's: it is there when the key has a passphrase."""
    status = target.stat(KEY)
    ours = key_file.read_bytes() if key_file.exists() else None
    if ours is None:
        reason = "this machine's key has no passphrase, so that none should be there"
        return (Problem(KEY, "unexpected", reason=reason),) if status else ()
    if status is None:
        return (Problem(KEY, "missing", reason=_NO_KEY),)
    if status.size == len(ours) and target.read(KEY, _LONGEST_KEY) == ours:
        return ()
    return (Problem(KEY, "truncated" if status.size < len(ours) else "damaged", reason=_NO_KEY),)


def snapshots_of(damages: Iterable[Problem]) -> frozenset[str]:
    """The snapshots whose entries are missing or damaged: their volumes are not left over."""
    return frozenset(snapshot for damage in damages for snapshot in damage.snapshots)


def label_of(volume: str) -> str:
    """The snapshot that made a volume, by its name; "" for what is no volume."""
    return parse_name(volume).set.end if VOLUME_NAME.fullmatch(volume) else ""


_NO_KEY = "with it, a passphrase alone would not bring this machine back"


@dataclass(frozen=True, slots=True)
class _Known:
    """What tells of entries: whole ones by name, copies kept here, the newest seen, and the labels of volumes."""

    good: Mapping[str, str]
    kept: tuple[str, ...]
    seen: str
    labels: frozenset[str]

    @property
    def reach(self) -> int:
        """The highest number that an entry may have had: one that poses as the millionth hides no million."""
        return max(map(_sequence, (*self.good, *self.kept, self.seen)), default=0) + len(self.labels)

    def tells_of(self, name: str) -> bool:
        """Whether there was a snapshot of that name, and no whole entry has its place."""
        is_taken = _sequence(name) in map(_sequence, self.good) or _id(name) in self.good.values()
        return not is_taken and _id(name) in self.labels and _sequence(name) <= self.reach


def _strange(target: Backend, name: str, reason: str, known: _Known) -> Problem:
    """An object of the ledger that is no entry in its place."""
    if not ENTRY_NAME.fullmatch(name):
        return Problem(name, "unexpected")  # nobody ever looks at it
    if reason == _FOREIGN or not known.tells_of(name):
        return Problem(name, "unexpected", reason=reason or "another entry has its place", hinders=True)
    try:
        content = target.read(name, LONGEST_ENTRY)
    except TargetDamaged:
        content = b""
    kind = "damaged" if content.endswith(b"\n") else "truncated"
    return Problem(name, kind, (_id(name),), exact=False, reason=reason or "it is not authentic")


def _missing(there: Iterable[str], known: _Known) -> Iterator[Problem]:
    """Entries that must have been there: between those that are, and up to the newest this machine has seen."""
    names = {_sequence(name): name for name in there}
    told = {_sequence(name): _id(name) for name in (*known.kept, known.seen) if name}
    last = max((*names, _sequence(known.seen)), default=0)
    free = set(known.labels) - {_id(name) for name in names.values()}
    for number in (number for number in range(1, last + 1) if number not in names):
        before = max((_id(names[other]) for other in names if other < number), default="")
        after = min((_id(names[other]) for other in names if other > number), default="~")
        label = told.get(number) or min((label for label in free if before < label < after), default="")
        free.discard(label)
        yield Problem(
            f"{LEDGER}{number:08}" + (f"-{label}" if label else ""),
            "missing",
            (label,) if label else (),
            exact=False,
            reason="the entry is gone" + ("" if label else ", and what it named is not known"),
        )


def _labels(target: Backend, ledger: Ledger, kept: Iterable[str]) -> frozenset[str]:
    """The snapshots that the names of volumes, and of the entries kept here, tell of."""
    labels = (label_of(name) for name in (*ledger.volumes, *sizes_of(target)))
    return frozenset(label for label in (*labels, *map(_id, kept)) if label)


def _sequence(name: str) -> int:
    match = ENTRY_NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _id(name: str) -> str:
    match = ENTRY_NAME.fullmatch(name)
    return match[2] if match else ""
