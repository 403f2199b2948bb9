"""The cost of a problem: which snapshots need the damaged object, and which of their files it holds.

Takes a target, its ledger and the problems there; gives the cost of each problem. Reads the manifest and the signatures
of each set with a problem and of the sets after it: they name the files of the set and where they are. Touches a
private folder.

A volume of content holds the names in its span. A snapshot loses such a name unless a later set deletes it or stores it
whole. A set stores a change to a regular file as a delta, which needs everything that it is a delta to. Without its
manifest a set cannot be decoded at all. Only the next increment needs signatures.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tklb.base.fs import fresh_folder, private_folder
from tklb.base.measure import format_count
from tklb.crypto.gpg import decrypt_file
from tklb.engine.set_contents import Index, Span, State, parse_manifest, read_signatures
from tklb.errors import TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.read import Ledger
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.model.volume_names import SetName, VolumeNameParts, parse_name
from tklb.storage.backend import Backend
from tklb.storage.check import ObjectProblem
from tklb.storage.transfer import download_volume
from tklb.verify.problem import LostFile, Problem

log = logging.getLogger(__name__)

DUMPS = "databases"  # below a snapshot's metadata, but not part of it


def find_impact(backend: Backend, ledger: Ledger, problems: Iterable[ObjectProblem], work: Path) -> tuple[Problem, ...]:
    """Find the cost of each problem with a volume, in the same order. Raises what the target raises."""
    found = tuple(problems)
    bad = frozenset(problem.volume for problem in found if problem.kind != "unexpected")
    needs = _find_entries_in_need(ledger, bad)
    held: dict[str, list[HeldName]] = defaultdict(list)
    uncertain: set[str] = set()
    for last, sets in _find_chains(needs).items():
        trace = NameTrace(SetReader(backend, ledger, bad, private_folder(work), last.entry))
        trace.follow(sets)
        uncertain |= trace.uncertain
        for one in trace.names:
            held[one.volume].append(one)
    impact = tuple(
        _build_problem(
            problem,
            needs.get(problem.volume, ()),
            _find_closed_in_need(ledger, problem.volume),
            held.get(problem.volume, ()),
            problem.volume in uncertain,
        )
        for problem in found
    )
    if impact:
        lost = {snapshot for problem in impact for snapshot in problem.snapshots}
        problem_count, lost_count = format_count(len(impact), "problem"), format_count(len(lost), "snapshot")
        log.info("found the cost of %s: %s cannot be restored", problem_count, lost_count)
    return impact


def is_signature(volume: str) -> bool:
    """Whether only the next increment needs this volume."""
    return parse_name(volume).part == "sigtar"


def _build_problem(
    problem: ObjectProblem,
    entries: Sequence[LedgerEntry],
    closed: tuple[str, ...],
    held: Sequence["HeldName"],
    is_uncertain: bool,
) -> Problem:
    if problem.kind == "unexpected" or is_signature(problem.volume):
        return Problem(problem.volume, problem.kind)
    losses = [(one, one.list_snapshots(entries)) for one in held]
    stranded = {
        entry.snapshot
        for entry in entries
        for one, snapshots in losses
        if entry.snapshot in snapshots and one.is_metadata_of(entry)
    }
    return Problem(
        problem.volume,
        problem.kind,
        snapshots=(*closed, *(entry.snapshot for entry in entries)),
        files=tuple(LostFile(one.path, snapshots) for one, snapshots in losses if snapshots),
        stranded=tuple(sorted(stranded)),
        exact=not (is_uncertain or closed),
    )


def _find_entries_in_need(ledger: Ledger, bad: frozenset[str]) -> dict[str, list[LedgerEntry]]:
    """The entries that name each of these volumes, oldest first."""
    needs: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in ledger.snapshots:
        for name in (volume.name for volume in entry.volumes if volume.name in bad):
            needs[name].append(entry)
    return needs


def _find_closed_in_need(ledger: Ledger, volume: str) -> tuple[str, ...]:
    return tuple(one.snapshot for one in ledger.closed if any(volume == other.name for other in one.volumes))


class ChainEnd(NamedTuple):
    """A chain of a shard, by the entry of its newest snapshot and the shard's prefix."""

    entry: LedgerEntry
    prefix: str

    def __hash__(self) -> int:
        return hash((self.entry.sequence, self.prefix))


def _find_chains(needs: Mapping[str, Sequence[LedgerEntry]]) -> dict[ChainEnd, tuple[SetName, ...]]:
    """The chains with a problem, and their sets in order, from the first set with a problem on."""
    first: dict[ChainEnd, SetName] = {}
    for name, entries in needs.items():
        one = parse_name(name).set
        last = ChainEnd(entries[-1], one.prefix)
        first[last] = min(first.get(last, one), one, key=lambda each: each.end)
    return {last: tuple(one for one in _list_sets(*last) if one.end >= first[last].end) for last in first}


def _list_sets(entry: LedgerEntry, prefix: str) -> list[SetName]:
    found = {parse_name(volume.name).set for volume in entry.volumes}
    return sorted((one for one in found if one.prefix == prefix), key=lambda one: one.end)


class HeldName:
    """A name in a damaged object, from the set `begin` to the set `end` that no longer needs its content there."""

    __slots__ = ("begin", "end", "index", "state", "volume")

    def __init__(self, volume: str, index: Index, state: State, begin: str) -> None:
        self.volume, self.index, self.state, self.begin = volume, index, state, begin
        self.end = ""  # "": no set up to the newest one

    @property
    def path(self) -> bytes:
        return b"/" + b"/".join(self.index)

    def list_snapshots(self, entries: Iterable[LedgerEntry]) -> tuple[str, ...]:
        """The snapshots that lose this name."""
        names = (entry.snapshot for entry in entries)
        return tuple(name for name in names if self.begin <= name and not (self.end and self.end <= name))

    def is_metadata_of(self, entry: LedgerEntry) -> bool:
        top = f"/{entry.stage}/".encode()
        is_below = self.path.startswith(top) and not self.path.startswith(top + f"{DUMPS}/".encode())
        return self.state is State.FILE and is_below


class NameTrace:
    """Follows the names in damaged objects through the sets of a chain.

    `names` are all of them so far; `uncertain` the objects whose names are not all known.
    """

    def __init__(self, reader: "SetReader") -> None:
        self.names: list[HeldName] = []
        self.uncertain: set[str] = set()
        self._reader = reader
        self._alive: dict[Index, list[HeldName]] = {}

    def follow(self, sets: Iterable[SetName]) -> None:
        for one in sets:
            bad = self._reader.list_bad_volumes(one)
            if bad or self._alive:
                self._read_set(one, bad)

    def _read_set(self, one: SetName, bad: Sequence[str]) -> None:
        try:
            with self._reader.open_volume(one, "sigtar") as stream:
                spans = self._find_spans(one, bad)
                for index, state in read_signatures(stream):
                    self._note(one, spans, index, state)
        except (TargetDamaged, ValueError):
            self.uncertain.update(bad, (name.volume for names in self._alive.values() for name in names))

    def _note(self, one: SetName, spans: "VolumeSpans", index: Index, state: State) -> None:
        names = self._alive.get(index, [])
        if names and not (state is State.FILE and names[0].state is State.FILE):
            del self._alive[index]
            for name in names:
                name.end = one.end
        if state in (State.DELETED, State.FOLDER):  # our own metadata has all about a folder
            return
        for volume in spans.find_volumes(index):
            name = HeldName(volume, index, state, one.end)
            self._alive.setdefault(index, []).append(name)
            self.names.append(name)

    def _find_spans(self, one: SetName, bad: Sequence[str]) -> "VolumeSpans":
        """Where the names of a set are in its damaged objects. Without a manifest they may be in any volume."""
        whole = [name for name in bad if parse_name(name).part == "manifest"]
        numbers = {number: name for name in bad if (number := parse_name(name).number)}
        if not numbers:
            return VolumeSpans(whole)
        try:
            with self._reader.open_volume(one, "manifest") as stream:
                found = parse_manifest(stream.read())
        except (TargetDamaged, ValueError):
            self.uncertain.update(numbers.values())
            return VolumeSpans(whole)
        return VolumeSpans(whole, [(found[number], numbers[number]) for number in sorted(numbers) if number in found])


class VolumeSpans:
    """The damaged objects of a set: those that concern all its names, and those that hold a span, in order."""

    def __init__(self, whole: Sequence[str], spans: Sequence[tuple[Span, str]] = ()) -> None:
        self._whole, self._spans, self._at = whole, spans, 0

    def find_volumes(self, index: Index) -> Iterator[str]:
        """The objects that hold a name. Call it in the order of names."""
        yield from self._whole
        while self._at < len(self._spans) and self._spans[self._at][0].last < index:
            self._at += 1
        for span, volume in self._spans[self._at :]:
            if index < span.first:
                return
            yield volume


@dataclass(frozen=True, slots=True)
class SetReader:
    """Opens manifests and signatures of one snapshot's sets, each checked against the ledger."""

    backend: Backend
    ledger: Ledger
    bad: frozenset[str]
    work: Path
    entry: LedgerEntry

    def list_bad_volumes(self, one: SetName) -> tuple[str, ...]:
        """The damaged objects of a set that its content needs."""
        names = (volume.name for volume in self.entry.volumes if volume.name in self.bad)
        return tuple(name for name in names if parse_name(name).set == one and not is_signature(name))

    @contextmanager
    def open_volume(self, one: SetName, part: str) -> Iterator[IO[bytes]]:
        """Open the decrypted content of one part of a set. Raises TargetDamaged where it is not what was sealed."""
        volume = self._find_volume(VolumeNameParts(one, part))
        secret = self.ledger.secrets[self.entry.key]
        with fresh_folder(self.work / "set") as folder, fresh_folder(self.work / "gpg") as home:
            download_volume(self.backend, volume, folder)
            decrypt_file(folder / volume.name, secret, home, folder / "opened")
            with open(folder / "opened", "rb") as stream:
                yield stream

    def _find_volume(self, wanted: VolumeNameParts) -> Volume:
        for volume in self.entry.volumes:
            if volume.name not in self.bad and parse_name(volume.name) == wanted:
                return volume
        raise TargetDamaged(address=self.backend.address, reason=f"the {wanted.part} of {wanted.set.end} is damaged")
