"""What damage costs: which snapshots need an object that is not what was sealed, and which of their files it holds.

Takes a target, its ledger and what is wrong there; gives what each of these problems costs. Reads, of a set with
damage and of those after it, the manifest and the signature archive: they name what the set holds and where. Touches
a private folder.

A volume of content holds the names in its span. A snapshot loses such a name unless a later set deletes it or stores
it whole; a set stores a regular file that was one before as a change to it, and that needs all it is a change to.
Without its manifest a set cannot be decoded at all. Signatures are needed by the next increment alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from tklb.base.fs import fresh_folder, private_folder
from tklb.crypto.gpg import decrypt_file
from tklb.engine.set_contents import Index, Span, State, parse_manifest, read_signatures
from tklb.errors import TargetDamaged
from tklb.ledger.read import Ledger
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.model.volume_names import Named, SetName, parse_name
from tklb.storage.backend import Backend
from tklb.storage.check import ObjectProblem
from tklb.storage.transfer import fetch_volumes

DUMPS = "databases"  # below a snapshot's records, but none of them


class LostFile(NamedTuple):
    """A path whose content, in these snapshots, a damaged object holds."""

    path: bytes
    snapshots: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem and what it costs.

    `snapshots` cannot be restored while it lasts. `files` is what it holds of them, and all they would lose without
    it, where it is `exact`: what would tell the names may be damaged too. Of the `stranded` among the snapshots it
    holds our own records, without which the rest cannot be put back. `reason` is for people. `copy` says where a whole
    copy is, "" if nowhere; `mended` that it was put back.
    """

    volume: str
    kind: str
    snapshots: tuple[str, ...] = ()
    files: tuple[LostFile, ...] = ()
    stranded: tuple[str, ...] = ()
    exact: bool = True
    reason: str = ""
    hinders: bool = False
    copy: str = ""
    mended: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is lost by it, and no run hindered: what no seal names is never looked at."""
        return self.kind == "unexpected" and not self.hinders


def find_impact(target: Backend, ledger: Ledger, problems: Iterable[ObjectProblem], work: Path) -> tuple[Problem, ...]:
    """What each problem with a volume costs, in the same order. Raises what the target raises."""
    found = tuple(problems)
    bad = frozenset(problem.volume for problem in found if problem.kind != "unexpected")
    needing = _needing(ledger, bad)
    held: dict[str, list[_Held]] = defaultdict(list)
    vague: set[str] = set()
    for last, sets in _chains(needing).items():
        trace = _Trace(_SetReader(target, ledger, bad, private_folder(work), last.record))
        trace.follow(sets)
        vague |= trace.vague
        for one in trace.found:
            held[one.volume].append(one)
    closed = {problem.volume: _closed(ledger, problem.volume) for problem in found}
    return tuple(
        _damage(problem, needing.get(problem.volume, ()), closed[problem.volume], held, problem.volume in vague)
        for problem in found
    )


def is_signature(volume: str) -> bool:
    """Whether only the next increment needs this volume."""
    return parse_name(volume).part == "sigtar"


def _damage(
    problem: ObjectProblem,
    records: Sequence[LedgerEntry],
    closed: tuple[str, ...],
    held: dict[str, list["_Held"]],
    is_vague: bool,
) -> Problem:
    if problem.kind == "unexpected" or is_signature(problem.volume):
        return Problem(problem.volume, problem.kind)
    losses = [(one, one.lost_in(records)) for one in held[problem.volume]]
    stranded = {
        record.snapshot
        for record in records
        for one, snapshots in losses
        if record.snapshot in snapshots and one.is_record_of(record)
    }
    return Problem(
        problem.volume,
        problem.kind,
        snapshots=(*closed, *(record.snapshot for record in records)),
        files=tuple(LostFile(one.path, snapshots) for one, snapshots in losses if snapshots),
        stranded=tuple(sorted(stranded)),
        exact=not (is_vague or closed),
    )


def _needing(ledger: Ledger, bad: frozenset[str]) -> dict[str, list[LedgerEntry]]:
    """The records that name each of these volumes, oldest first."""
    needing: dict[str, list[LedgerEntry]] = defaultdict(list)
    for record in ledger.entries:
        for volume in record.volumes:
            if volume.name in bad:
                needing[volume.name].append(record)
    return needing


def _closed(ledger: Ledger, volume: str) -> tuple[str, ...]:
    return tuple(one.snapshot for one in ledger.closed if any(volume == other.name for other in one.volumes))


class _Last(NamedTuple):
    """A chain of a shard, by the newest snapshot of it and the shard's prefix."""

    record: LedgerEntry
    prefix: str

    def __hash__(self) -> int:
        return hash((self.record.sequence, self.prefix))


def _chains(needing: dict[str, list[LedgerEntry]]) -> dict[_Last, tuple[SetName, ...]]:
    """The chains with damage in them, and their sets in order, from the first with damage on."""
    first: dict[_Last, SetName] = {}
    for name, records in needing.items():
        one = parse_name(name).set
        last = _Last(records[-1], one.prefix)
        first[last] = min(first.get(last, one), one, key=lambda each: each.end)
    return {last: tuple(one for one in _sets(*last) if one.end >= first[last].end) for last in first}


def _sets(record: LedgerEntry, prefix: str) -> list[SetName]:
    found = {parse_name(volume.name).set for volume in record.volumes}
    return sorted((one for one in found if one.prefix == prefix), key=lambda one: one.end)


@dataclass(slots=True)
class _Held:
    """A name in a damaged object, until a later set does without what that has of it."""

    volume: str
    index: Index
    state: State
    begin: str
    end: str = ""

    @property
    def path(self) -> bytes:
        return b"/" + b"/".join(self.index)

    def lost_in(self, records: Iterable[LedgerEntry]) -> tuple[str, ...]:
        names = (record.snapshot for record in records)
        return tuple(name for name in names if self.begin <= name and not (self.end and self.end <= name))

    def is_record_of(self, record: LedgerEntry) -> bool:
        top = f"/{record.stage}/".encode()
        return (
            self.state is State.FILE
            and self.path.startswith(top)
            and not self.path.startswith(top + f"{DUMPS}/".encode())
        )


@dataclass(slots=True)
class _Trace:
    """Follows the names in damaged objects through the sets of a chain."""

    reader: "_SetReader"
    found: list[_Held] = field(default_factory=list)
    vague: set[str] = field(default_factory=set)  # objects whose names are not all known
    _alive: dict[Index, list[_Held]] = field(default_factory=dict)

    def follow(self, sets: Iterable[SetName]) -> None:
        for one in sets:
            bad = self.reader.bad_in(one)
            if not bad and not self._alive:
                continue
            try:
                with self.reader.opened(one, "sigtar") as stream:
                    self._pass(one, self._spans(one, bad), read_signatures(stream))
            except (TargetDamaged, ValueError):
                self.vague.update(bad, (held.volume for helds in self._alive.values() for held in helds))

    def _pass(self, one: SetName, spans: "_Spans", names: Iterable[tuple[Index, State]]) -> None:
        for index, state in names:
            helds = self._alive.get(index, [])
            if helds and not (state is State.FILE and helds[0].state is State.FILE):
                for held in self._alive.pop(index):
                    held.end = one.end
            if state in (State.DELETED, State.FOLDER):  # all about a folder is in our own records
                continue
            for volume in spans.holding(index):
                held = _Held(volume, index, state, one.end)
                self._alive.setdefault(index, []).append(held)
                self.found.append(held)

    def _spans(self, one: SetName, bad: Sequence[str]) -> "_Spans":
        """Where the names of a set lie in its damaged objects. Without a manifest they may lie in any volume."""
        whole = [name for name in bad if parse_name(name).part == "manifest"]
        numbers = {number: name for name in bad if (number := parse_name(name).number)}
        if not numbers:
            return _Spans(whole)
        try:
            with self.reader.opened(one, "manifest") as stream:
                found = parse_manifest(stream.read())
        except (TargetDamaged, ValueError):
            self.vague.update(numbers.values())
            return _Spans(whole)
        return _Spans(whole, [(found[number], numbers[number]) for number in sorted(numbers) if number in found])


class _Spans:
    """The damaged objects of a set: those that concern all its names, and those that hold a span, in order."""

    def __init__(self, whole: Sequence[str], spans: Sequence[tuple[Span, str]] = ()) -> None:
        self._whole, self._spans, self._at = whole, spans, 0

    def holding(self, index: Index) -> Iterator[str]:
        """The objects that hold a name; must be asked in the order of names."""
        yield from self._whole
        while self._at < len(self._spans) and self._spans[self._at][0].last < index:
            self._at += 1
        for span, volume in self._spans[self._at :]:
            if index < span.first:
                return
            yield volume


@dataclass(frozen=True, slots=True)
class _SetReader:
    """Opens manifests and signature archives of one snapshot's sets, each checked against the seal."""

    target: Backend
    ledger: Ledger
    bad: frozenset[str]
    work: Path
    record: LedgerEntry

    def bad_in(self, one: SetName) -> tuple[str, ...]:
        """The damaged objects of a set that its content needs."""
        names = (volume.name for volume in self.record.volumes if volume.name in self.bad)
        return tuple(name for name in names if parse_name(name).set == one and not is_signature(name))

    @contextmanager
    def opened(self, one: SetName, part: str) -> Iterator[IO[bytes]]:
        """Raises TargetDamaged where that object of the set is not what was sealed."""
        volume = self._volume(Named(one, part))
        secret = self.ledger.secrets[self.record.key]
        with fresh_folder(self.work / "set") as folder, fresh_folder(self.work / "gpg") as home:
            fetch_volumes(self.target, (volume,), folder)
            decrypt_file(folder / volume.name, secret, home, folder / "opened")
            with open(folder / "opened", "rb") as stream:
                yield stream

    def _volume(self, wanted: Named) -> Volume:
        for volume in self.record.volumes:
            if volume.name not in self.bad and parse_name(volume.name) == wanted:
                return volume
        raise TargetDamaged(address=self.target.address, reason=f"the {wanted.part} of {wanted.set.end} is damaged")
