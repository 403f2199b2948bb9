"""Check a target beside its volumes: the entries of its ledger, and its copy of the key file.

Takes a target, its ledger as read, and what this machine remembers of it; gives a problem for each. A missing or forged
entry costs its own snapshot: a restore uses only what an authentic entry names. Other entries name all volumes that
they need themselves. Touches nothing but what it reads.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tklb.base.measure import format_count
from tklb.errors import TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import ENTRY_NAME, LONGEST_ENTRY, entry_name
from tklb.ledger.memory import list_copies, read_newest
from tklb.ledger.order import OTHER_KEY
from tklb.ledger.read import Ledger
from tklb.ledger.turn import TURN_NAME
from tklb.ledger.writer import WRITER_NAME
from tklb.model.snapshot import Excuse
from tklb.model.volume_names import snapshot_of_volume
from tklb.storage.backend import KEY, LEDGER, PROBE, Backend
from tklb.storage.check import list_sizes
from tklb.verify.problem import Problem

log = logging.getLogger(__name__)

_LONGEST_KEY = 1 << 20
_LINE = re.compile(rf"({ENTRY_NAME.pattern}): (.*)", re.DOTALL)
_NO_KEY = "without it, a passphrase alone cannot restore this machine"


@dataclass(frozen=True, slots=True)
class EntryEvidence:
    """Traces of entries: the `good` ones by name, copies here, the newest seen, and snapshots that made volumes."""

    good: Mapping[str, str]
    copies: tuple[str, ...]
    newest: str
    snapshots: frozenset[str]

    @property
    def highest_sequence(self) -> int:
        """The highest number that an entry may have had: a forged one with number 999,999 hides no million."""
        return max(map(_sequence, (*self.good, *self.copies, self.newest)), default=0) + len(self.snapshots)

    def is_lost_entry(self, name: str) -> bool:
        """Whether there was a snapshot of that name, and no whole entry has its number."""
        has_other = _sequence(name) in map(_sequence, self.good) or _snapshot(name) in self.good.values()
        return not has_other and _snapshot(name) in self.snapshots and _sequence(name) <= self.highest_sequence


def check_ledger(backend: Backend, ledger: Ledger, folder: Path) -> tuple[Problem, ...]:
    """Give the problems of the entries, in order of their names. `folder` is where this machine keeps its ledgers."""
    listed = [name for name, _ in backend.list(LEDGER) if not name.startswith(PROBE)]  # some targets keep those
    evidence = _collect_evidence(backend, ledger, folder)
    closed = {one.snapshot for one in ledger.closed}
    lines = {match[1]: match[4] for line in ledger.problems if (match := _LINE.fullmatch(line))}
    reasons = {**lines, **ledger.foreign}
    found = [
        _check_stranger(backend, name, reasons.get(name, ""), evidence)
        for name in listed
        if name not in evidence.good and _snapshot(name) not in closed and not _is_takeover(name, ledger)
    ]
    there = [problem.volume for problem in found if problem.kind != "unexpected"]
    there += [*evidence.good, *(name for name in listed if _snapshot(name) in closed)]
    found += _find_missing(there, evidence, ledger.entries[-1].excused if ledger.entries else ())
    known = {problem.volume for problem in found}
    found += [Problem(name, "damaged", reason=why) for name, why in sorted(reasons.items()) if name not in known]
    if ledger.problems and not found:  # the names show nothing: the newest entry is another one than before
        found.append(Problem(evidence.newest or LEDGER, "damaged", reason="; ".join(ledger.problems)))
    count = format_count(len(ledger.entries), "ledger entry", "ledger entries")
    log.info("checked %s at %s: %s", count, backend.address, format_count(len(found), "problem"))
    return tuple(sorted(found, key=lambda problem: problem.volume))


def check_key(backend: Backend, key_file: Path) -> tuple[Problem, ...]:
    """Compare the target's copy of the key file with this machine's: it is there when the key has a passphrase."""
    status = backend.stat(KEY)
    ours = key_file.read_bytes() if key_file.exists() else None
    if ours is None:
        reason = "this machine's key has no passphrase, so the target should have no key file"
        return (Problem(KEY, "unexpected", reason=reason),) if status else ()
    if status is None:
        return (Problem(KEY, "missing", reason=_NO_KEY),)
    if status.size == len(ours) and backend.read(KEY, _LONGEST_KEY) == ours:
        return ()
    return (Problem(KEY, "truncated" if status.size < len(ours) else "damaged", reason=_NO_KEY),)


def snapshots_of(problems: Iterable[Problem]) -> frozenset[str]:
    """The snapshots whose entries are missing or damaged: their volumes are not unexpected."""
    return frozenset(snapshot for problem in problems for snapshot in problem.snapshots)


def _collect_evidence(backend: Backend, ledger: Ledger, folder: Path) -> EntryEvidence:
    good = {entry_name(entry): entry.snapshot for entry in ledger.snapshots}
    newest, copies = read_newest(backend, folder), list_copies(backend, folder)
    snapshots = _collect_snapshots(backend, ledger, copies) if ledger.problems or ledger.foreign else frozenset()
    return EntryEvidence(good, copies, newest.name if newest else "", snapshots)


def _check_stranger(backend: Backend, name: str, reason: str, evidence: EntryEvidence) -> Problem:
    """An object of the ledger that is no entry in its place."""
    if not ENTRY_NAME.fullmatch(name):
        return Problem(name, "unexpected")  # tklb never reads it
    if reason == OTHER_KEY or not evidence.is_lost_entry(name):
        return Problem(name, "unexpected", reason=reason or "another entry has its place")
    try:
        content = backend.read(name, LONGEST_ENTRY)
    except TargetDamaged:
        content = b""
    kind = "damaged" if content.endswith(b"\n") else "truncated"
    return Problem(name, kind, (_snapshot(name),), exact=False, reason=reason or "it is not authentic")


def _is_takeover(name: str, ledger: Ledger) -> bool:
    """Whether an object can be the record of a takeover that counts, or counted before, or a turn of a run."""
    if TURN_NAME.fullmatch(name):
        return True
    match = WRITER_NAME.fullmatch(name)
    return match is not None and ledger.writer is not None and int(match[1]) <= ledger.writer.number


def _find_missing(there: Iterable[str], evidence: EntryEvidence, excused: Sequence[Excuse]) -> Iterator[Problem]:
    """Entries that must have been there: between those that are, and up to the newest this machine has seen."""
    names = {_sequence(name): name for name in there}
    known = {_sequence(name): _snapshot(name) for name in (*evidence.copies, evidence.newest) if name}
    last = max((*names, _sequence(evidence.newest)), default=0)
    free = set(evidence.snapshots) - {_snapshot(name) for name in names.values()}
    explained = {number for one in excused for number in range(one.first, one.last + 1)}
    for number in (number for number in range(1, last + 1) if number not in names and number not in explained):
        before = max((_snapshot(names[other]) for other in names if other < number), default="")
        after = min((_snapshot(names[other]) for other in names if other > number), default="~")
        snapshot = known.get(number) or min((one for one in free if before < one < after), default="")
        free.discard(snapshot)
        yield Problem(
            f"{LEDGER}{number:08}" + (f"-{snapshot}" if snapshot else ""),
            "missing",
            (snapshot,) if snapshot else (),
            exact=False,
            reason="the entry is gone" + ("" if snapshot else ", and nothing shows which snapshot it named"),
        )


def _collect_snapshots(backend: Backend, ledger: Ledger, copies: Iterable[str]) -> frozenset[str]:
    """The snapshots that the names of volumes, and of the entries kept here, show."""
    found = (snapshot_of_volume(name) for name in (*ledger.volumes, *list_sizes(backend)))
    return frozenset(snapshot for snapshot in (*found, *map(_snapshot, copies)) if snapshot)


def _sequence(name: str) -> int:
    match = ENTRY_NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _snapshot(name: str) -> str:
    match = ENTRY_NAME.fullmatch(name)
    return match[2] if match else ""
