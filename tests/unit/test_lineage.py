"""One history, one writer: two installations with the same key, two targets, lost answers, runs that are cut off."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.contract.memory_target import MemoryTarget
from tests.lab.soak import SOAK
from tklb.crypto.secret import make_secret
from tklb.errors import TakenOver, TargetDamaged, TargetUnreachable
from tklb.ledger.entry import entry_name
from tklb.ledger.installation import read_installation
from tklb.ledger.leader import check_leader, find_leader
from tklb.ledger.memory import read_lineage
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import finish_minted, follow_lineage, has_minted, plan_place, seal
from tklb.ledger.takeover import record_takeover
from tklb.ledger.turn import TargetTurn, has_turns, hold_turn
from tklb.model.snapshot import Counts, Excuse, Kind, LedgerEntry, Shard, Volume, snapshot_id, snapshot_time
from tklb.storage.backend import VOLUMES, Creation, StoredObject

SECRET = make_secret(lambda count: b"l" * count)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class CutOff(BaseException):
    """The run ends here, as if it were killed."""


class Target(MemoryTarget):
    """A target of which a write below ledger/ goes as `fault` says: the next one, or that after `wait` more.

    Where it does not exclude other writers, it has no conditional requests.
    """

    def __init__(self, name: str, *, excludes: bool = True) -> None:
        super().__init__()
        self.name, self.excludes, self.wait = name, excludes, 0
        self.fault: Callable[[Callable[[], Any]], Any] | None = None

    @property
    def address(self) -> str:
        return f"memory:{self.name}"

    def upload(self, name: str, source: Path, sha256: str, *rest: object) -> StoredObject:
        stored: StoredObject = self._write(name, lambda: super(Target, self).upload(name, source, sha256))
        return stored

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        if self.excludes:
            made: Creation = self._write(name, lambda: super(Target, self).upload_new(name, source, sha256))
            return made
        if name in self.objects:
            return Creation.EXISTS
        self.upload(name, source, sha256)
        return Creation.UNSURE

    def _write(self, name: str, store: Callable[[], Any]) -> Any:
        fault = self.fault if name.startswith("ledger/") and self.wait == 0 else None
        self.wait = max(0, self.wait - 1) if name.startswith("ledger/") else self.wait
        if fault:
            self.fault = None
            return fault(store)
        return store()


def lose_answer(store: Callable[[], object]) -> None:
    store()
    raise TargetUnreachable(address="memory:", reason="no answer")


def refuse(_store: Callable[[], object]) -> None:
    raise TargetUnreachable(address="memory:", reason="gone")


def cut_before(_store: Callable[[], object]) -> None:
    raise CutOff


def cut_after(store: Callable[[], object]) -> None:
    store()
    raise CutOff


FAULTS = {"none": None, "lost": lose_answer, "refused": refuse, "before": cut_before, "after": cut_after}


class Machine:
    """One installation: what it keeps below its state folder, and its id."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.installation = folder, name, name * 32

    def read(self, target: Target) -> Ledger:
        return read_ledger(target, SECRET, self.folder)

    def backup(self, target: Target, *, full: bool = False) -> str:
        """Seal a snapshot as a backup does it; give its id."""
        ledger = self._open(target, full)
        if finish_minted(target, SECRET, self.folder, ledger):
            ledger = self._open(target, full)
        place = plan_place(ledger, self.folder)
        after = snapshot_time(place.newest) + timedelta(seconds=1) if place.newest else BEGIN
        entry = make_entry(place.sequence, snapshot_id(after), self.name, installation=self.installation)
        turn = TargetTurn(ledger.writer.number if ledger.writer else 0, self.installation)
        with hold_turn(target, SECRET, self.folder, ledger, turn, lambda _: None):
            target.objects[VOLUMES + entry.own_volumes[0]] = b"x" * entry.volumes[0].size
            return seal(target, SECRET, self.folder, entry, excuses_lost=full).snapshot

    def _open(self, target: Target, full: bool) -> Ledger:
        ledger = self.read(target)
        ledger.check(excuses_lost=full)
        check_leader(ledger, self.installation)
        follow_lineage(self.folder, ledger)
        return ledger

    def take_over(self, target: Target) -> None:
        ledger = self.read(target)
        if find_leader(ledger) != self.installation or ledger.strays or has_turns(ledger):
            record_takeover(target, SECRET, self.folder, ledger, self.installation, NOW, "takeover")


def make_entry(sequence: int, snapshot: str, hostname: str, installation: str = "") -> LedgerEntry:
    name = (
        f"duplicity-full.{snapshot}.vol1.difftar.gpg"
        if hostname == "a"
        else f"b-duplicity-full.{snapshot}.vol1.difftar.gpg"
    )
    volume = Volume(name, 10, "ab" * 32)
    return LedgerEntry(
        sequence=sequence,
        snapshot=snapshot,
        kind=Kind.FULL,
        previous="",
        host="0123",
        hostname=hostname,
        profile="debian-12-core",
        profile_digest="ab" * 32,
        release="debian-12",
        stage="var/lib/tklb/stage",
        volumes=(volume,),
        own_volumes=(volume.name,),
        shards=(Shard("", snapshot_time(snapshot)),),
        counts=Counts(),
        content_digest="cd" * 32,
        installation=installation,
    )


@pytest.fixture
def a(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "a", "a")


@pytest.fixture
def b(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "b", "b")


@pytest.fixture
def target() -> Target:
    return Target("first")


def names(ledger: Ledger) -> list[tuple[int, str]]:
    return [(entry.sequence, entry.hostname) for entry in ledger.entries]


# ---------------------------------------------------------------- one writer


def test_head_of_another_installation_is_refused_until_a_takeover(target: Target, a: Machine, b: Machine) -> None:
    first = a.backup(target)
    with pytest.raises(TakenOver, match=f"a sealed the newest one, {first}"):
        b.backup(target)
    b.take_over(target)
    second = b.backup(target)
    with pytest.raises(TakenOver, match=f"another installation took over after snapshot {first}"):
        a.backup(target)
    a.take_over(target)
    a.backup(target)
    ledger = b.read(target)
    ledger.check()
    assert names(ledger) == [(1, "a"), (2, "b"), (3, "a")]
    assert second in {entry.snapshot for entry in ledger.entries}
    with pytest.raises(TakenOver):
        b.backup(target)


def test_two_backups_at_one_moment_give_one_snapshot_and_both_go_on(target: Target, a: Machine, b: Machine) -> None:
    """Another one that takes no turn seals while the entry of the first one is on its way: the second look sees it."""

    def meanwhile(store: Callable[[], StoredObject]) -> StoredObject:
        entry = make_entry(1, snapshot_id(BEGIN), "b", installation=b.installation)
        target.objects[VOLUMES + entry.own_volumes[0]] = b"x" * 10
        reported.append(seal(target, SECRET, b.folder, entry).snapshot)
        return store()

    reported: list[str] = []
    target.fault, target.wait = meanwhile, 1
    with pytest.raises(TakenOver, match="at the same time"):
        a.backup(target)
    for machine in (a, b):
        ledger = machine.read(target)
        ledger.check()
        assert names(ledger) == [(1, "b")]
        assert [entry.hostname for entry in ledger.strays] == ["a"]
    assert len(reported) == 1
    b.backup(target)
    assert [stray.sequence for stray in b.read(target).entries[-1].strays] == [1]
    with pytest.raises(TakenOver):
        a.backup(target)
    a.take_over(target)
    a.backup(target)
    assert names(a.read(target)) == [(1, "b"), (2, "b"), (3, "a")]


def test_fork_of_two_copies_is_read_and_goes_on(target: Target, a: Machine, b: Machine, tmp_path: Path) -> None:
    """Two histories went on from one entry; then their objects came together."""
    a.backup(target)
    other = Target("second")
    other.objects = dict(target.objects)
    b.take_over(other)
    taken = [a.backup(target), b.backup(other), b.backup(other), a.backup(target)]
    target.objects |= other.objects
    fresh = read_ledger(target, SECRET, tmp_path / "fresh")
    assert fresh.problems == ()
    assert {entry.snapshot for entry in fresh.snapshots} >= set(taken)
    with pytest.raises(TakenOver):
        a.backup(target)
    a.take_over(target)
    a.backup(target)
    ledger = a.read(target)
    ledger.check()
    assert [entry.hostname for entry in ledger.entries] == ["a"] * 4
    assert [entry.hostname for entry in ledger.strays] == ["b", "b"]
    assert set(ledger.volumes) >= {name.removeprefix(VOLUMES) for name in target.objects if name.startswith(VOLUMES)}


def test_id_changes_with_each_fact_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    root, file = bytes(tmp_path) + b"/", tmp_path / "state/installation"
    facts = (tmp_path / "etc/machine-id", tmp_path / "sys/class/dmi/id/product_uuid")
    found = [read_installation(file, lambda count: b"r" * count, root)]
    assert read_installation(file, lambda count: b"s" * count, root) == found[0]
    for fact in facts:
        fact.write_text("0123456789\n")
        found.append(read_installation(file, lambda count: b"r" * count, root))
    file.unlink()
    found.append(read_installation(file, lambda count: b"t" * count, root))
    assert len(set(found)) == 4
    assert all(len(one) == 32 for one in found)
    assert file.stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- what is cut off, and what is lost


@pytest.mark.parametrize("wait", [0, 1], ids=["turn", "entry"])
@pytest.mark.parametrize("fault", ["lost", "refused", "before", "after"])
def test_entry_is_minted_once_whatever_became_of_the_answer(target: Target, a: Machine, fault: str, wait: int) -> None:
    a.backup(target)
    target.fault, target.wait = FAULTS[fault], wait
    with pytest.raises((TargetUnreachable, CutOff)):
        a.backup(target)
    a.backup(target)
    ledger = a.read(target)
    ledger.check()
    assert names(ledger) == [(1, "a"), (2, "a"), (3, "a")][: 2 + wait]
    assert ledger.strays == ()
    assert not [name for name in target.objects if "turn" in name]


def test_minted_entry_is_no_matter_of_another_target(target: Target, a: Machine) -> None:
    a.backup(target)
    target.fault, target.wait = cut_before, 1
    with pytest.raises(CutOff):
        a.backup(target)
    assert has_minted(target, a.folder)
    assert not has_minted(Target("second"), a.folder)


def test_minted_entry_whose_volumes_are_gone_is_given_up(target: Target, a: Machine) -> None:
    a.backup(target)
    target.fault, target.wait = cut_before, 1
    with pytest.raises(CutOff):
        a.backup(target)
    del target.objects[max(name for name in target.objects if name.startswith(VOLUMES))]
    a.backup(target)
    assert names(a.read(target)) == [(1, "a"), (2, "a")]


def test_run_at_another_target_counts_on_and_explains_the_hole(target: Target, a: Machine, tmp_path: Path) -> None:
    other = Target("second")
    a.backup(target)
    other.objects = dict(target.objects)  # a copy that lags behind
    a.backup(target)
    a.backup(other)
    a.backup(target)
    for place, sequences, excused in ((target, [1, 2, 4], (Excuse(3, 3, "elsewhere"),)),
                                      (other, [1, 3], (Excuse(2, 2, "elsewhere"),))):  # fmt: skip
        ledger = read_ledger(place, SECRET, tmp_path / place.name)
        ledger.check()
        assert [entry.sequence for entry in ledger.entries] == sequences
        assert ledger.entries[-1].excused == excused
    target.objects |= other.objects
    whole = a.read(target)
    whole.check()
    assert [entry.sequence for entry in whole.entries] == [1, 2, 3, 4]
    end = read_lineage(a.folder)
    assert end is not None
    assert (end.sequence, end.lineage) == (4, whole.entries[0].lineage)


def test_entry_that_is_lost_for_ever_blocks_nothing_but_an_increment(target: Target, a: Machine) -> None:
    for _ in range(3):
        a.backup(target)
    lost = entry_name(a.read(target).entries[1])
    del target.objects[lost]
    with pytest.raises(TargetDamaged, match="entry 2 before"):
        a.backup(target)
    a.backup(target, full=True)
    ledger = a.read(target)
    ledger.check()
    assert ledger.entries[-1].excused == (Excuse(2, 2, "void"),)
    a.backup(target)
    assert [entry.sequence for entry in a.read(target).entries] == [1, 3, 4, 5]


def test_target_that_was_set_back_goes_on_with_a_full_backup(target: Target, a: Machine) -> None:
    a.backup(target)
    before = dict(target.objects)
    a.backup(target)
    target.objects = before
    with pytest.raises(TargetDamaged, match="set back"):
        a.backup(target)
    a.backup(target, full=True)
    a.backup(target)
    ledger = a.read(target)
    ledger.check()
    assert [entry.sequence for entry in ledger.entries] == [1, 3, 4]


FIRST_FORMAT = Path(__file__).parents[1] / "cases/ledger-1"  # two entries that tklb 0.1.0 sealed, with SECRET


def test_entries_of_the_first_format_are_continued_and_the_next_one_is_of_the_second(
    target: Target, a: Machine, b: Machine
) -> None:
    """They name no installation: whoever comes first goes on, and the other one is refused."""
    for path in FIRST_FORMAT.iterdir():
        target.objects[f"ledger/{path.name}"] = path.read_bytes()
        target.objects[f"{VOLUMES}duplicity-full.{path.name[9:]}.vol1.difftar.gpg"] = b"x" * 10
    before = dict(target.objects)
    b.backup(target)
    with pytest.raises(TakenOver):
        a.backup(target)
    b.backup(target)
    ledger = a.read(target)
    ledger.check()
    assert names(ledger) == [(1, "a"), (2, "a"), (3, "b"), (4, "b")]
    assert [len(entry.lineage) for entry in ledger.entries] == [0, 0, 32, 32]
    assert ledger.entries[3].lineage == ledger.entries[2].lineage
    assert before.items() <= target.objects.items()


def test_entry_of_the_first_format_that_is_lost_is_excused_by_a_full_backup(target: Target, a: Machine) -> None:
    (newest,) = FIRST_FORMAT.glob("00000002-*")
    target.objects[f"ledger/{newest.name}"] = newest.read_bytes()
    with pytest.raises(TargetDamaged, match="entry 1 before"):
        a.backup(target)
    a.backup(target, full=True)
    a.backup(target)
    assert names(a.read(target)) == [(2, "a"), (3, "a"), (4, "a")]


def test_history_after_a_hole_goes_on_where_an_older_end_of_it_came_back(target: Target, a: Machine) -> None:
    """The entry right after the hole was made before the one that has the lower number: neither follows the other."""
    other = Target("second")
    for _ in range(2):
        a.backup(target)
    other.objects = dict(target.objects)
    beside = Machine(a.folder.parent / "beside", "a")
    for _ in range(3):
        beside.backup(other)
    late = make_entry(3, "20260601T000000Z", "a", installation=a.installation)
    target.objects[VOLUMES + late.own_volumes[0]] = b"x" * 10
    seal(target, SECRET, a.folder, late)
    last = max(name for name in other.objects if name.startswith("ledger/"))
    target.objects[last] = other.objects[last]
    a.backup(target, full=True)
    a.backup(target)
    a.read(target).check()


# ---------------------------------------------------------------- all of it, in any order


PLACES, WAITS = st.sampled_from(("first", "second")), st.integers(0, 3)


class Histories(RuleBasedStateMachine):
    """Backups and takeovers of two installations at two targets, with faults; whatever happens, both can go on."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        top = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tklb-")))
        self.machines = {name: Machine(top / name, name) for name in "ab"}
        self.targets = {"first": Target("first"), "second": Target("second", excludes=False)}
        self.reported: dict[str, set[str]] = {name: set() for name in self.targets}
        self.fresh = top / "fresh"

    def teardown(self) -> None:
        for name, target in self.targets.items():
            target.fault = None
            fresh = read_ledger(target, SECRET, self.fresh / name)
            assert fresh.problems == ()
            for machine in self.machines.values():
                machine.take_over(target)
                self.reported[name].add(machine.backup(target))
            assert {entry.snapshot for entry in machine.read(target).snapshots} >= self.reported[name]
        self.stack.close()

    @rule(who=st.sampled_from("ab"), where=PLACES, fault=st.sampled_from(sorted(FAULTS)), wait=WAITS)
    def backup(self, who: str, where: str, fault: str, wait: int) -> None:
        self.targets[where].fault, self.targets[where].wait = FAULTS[fault], wait
        with suppress(TakenOver, TargetUnreachable, CutOff):
            self.reported[where].add(self.machines[who].backup(self.targets[where]))
        self.targets[where].fault = None

    @rule(who=st.sampled_from("ab"), where=PLACES, other_first=st.booleans(), wait=WAITS)
    def backup_at_once(self, who: str, where: str, other_first: bool, wait: int) -> None:
        target, other = self.targets[where], self.machines["a" if who == "b" else "b"]

        winners: list[str] = []

        def meanwhile(store: Callable[[], Any]) -> Any:
            stored = None if other_first else store()
            with suppress(TakenOver, TargetDamaged):
                winners.append(other.backup(target))
            return stored or store()

        target.fault, target.wait = meanwhile, wait
        with suppress(TakenOver, TargetDamaged):  # the other one was faster: nothing was sealed
            winners.append(self.machines[who].backup(target))
        assert len(winners) <= 1
        self.reported[where].update(winners)
        target.fault = None

    @rule(who=st.sampled_from("ab"), where=PLACES, fault=st.sampled_from(sorted(FAULTS)))
    def take_over(self, who: str, where: str, fault: str) -> None:
        self.targets[where].fault, self.targets[where].wait = FAULTS[fault], 0
        with suppress(TargetUnreachable, CutOff):
            self.machines[who].take_over(self.targets[where])
        self.targets[where].fault = None

    @rule(
        where=PLACES,
        name=st.sampled_from(
            (
                "00000001-20250101T000000Z",
                "00000009-20260101T000000Z",
                "writer-00000007-aaaaaaaa",
                "turn-00000000",
                "turn-00000001-cccccccc",
            )
        ),
    )
    def throw_rubbish(self, where: str, name: str) -> None:
        self.targets[where].objects[f"ledger/{name}"] = b"junk"

    @invariant()
    def nothing_is_wedged_and_nothing_reported_is_lost(self) -> None:
        for machine in self.machines.values():
            for name, target in self.targets.items():
                ledger = machine.read(target)
                assert ledger.problems == ()
                assert {entry.snapshot for entry in ledger.snapshots} >= self.reported[name]
                sequences = [entry.sequence for entry in ledger.entries]
                assert sequences == sorted(set(sequences))


def test_no_schedule_wedges_a_history_or_loses_a_snapshot() -> None:
    """Nothing is made shorter that fails: each step runs gpg."""
    phases, count = (Phase.explicit, Phase.generate), 10_000 if SOAK else 8
    chosen = settings(max_examples=count, stateful_step_count=8, deadline=None, phases=phases)
    run_state_machine_as_test(Histories, settings=chosen)
