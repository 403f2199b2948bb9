"""The cost of damage at a real target is found exactly, and whole copies repair it.

The judge of what a volume costs is `sealed_target.lost_by`, which knows each volume's own headers; and stock duplicity.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boundary.sealed_target import SECRET, SHARDS, STAGE, Piece, SealedTarget, lost_by, pieces
from tests.unit.entries import NAMES
from tklb.config.schema import Config
from tklb.crypto.secret import make_secret
from tklb.engine.set_contents import Span, parse_manifest
from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import seal
from tklb.model.snapshot import Volume
from tklb.model.volume_names import parse_name
from tklb.storage.backend import KEY, LEDGER, VOLUMES, Backend, ListedObject, Moved, StoredObject, ignore_moved
from tklb.storage.check import ObjectProblem, check_objects
from tklb.storage.copies import CopySources, repair_chain
from tklb.storage.kinds import make_backend, open_backend
from tklb.storage.local import LocalBackend
from tklb.verify.impact import find_impact
from tklb.verify.ledger_check import check_key, check_ledger
from tklb.verify.problem import Problem
from tklb.verify.repair import repair

FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"20240501T{hour}0000Z" for hour in range(12, 17))


class Far(LocalBackend):
    """A folder that behaves as if it were distant: everything comes by `get`, which `faults` may spoil."""

    spool = None  # type: ignore[assignment]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.faults: dict[str, list[Callable[[Path], None]]] = {}
        self.is_gone = False

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        super().download(name, destination, moved)
        if self.faults.get(name):
            self.faults[name].pop(0)(destination)

    def stat(self, name: str) -> StoredObject | None:
        if self.is_gone:
            raise TargetUnreachable(address=self.address, reason="gone")
        return super().stat(name)


class Case:
    """A copy of the target to break, and what is needed to look at it."""

    def __init__(self, sealed: SealedTarget, folder: Path) -> None:
        folder.chmod(0o700)
        self.sealed = sealed.copy(folder / "kept")
        self.folder = folder
        self.target: Backend = open_backend(self.sealed.address, Config())
        self.ledger = self.read()

    def read(self) -> Ledger:
        return read_ledger(self.target, SECRET, self.folder / "ledger", thorough=True)

    def path(self, name: str) -> Path:
        return self.sealed.folder / "target" / name

    def problems(self, folder: Path | None = None) -> tuple[ObjectProblem, ...]:
        return check_objects(self.target, self.ledger.volumes.values(), folder)

    def damages(self) -> dict[str, Problem]:
        found = find_impact(self.target, self.ledger, self.problems(), self.folder / "work")
        return {damage.volume: damage for damage in found}

    def named(self, *parts: str) -> str:
        """The one volume whose name has all these parts."""
        (found,) = [name for name in self.ledger.volumes if all(part in name for part in parts)]
        return found


@pytest.fixture
def case(sealed: SealedTarget, tmp_path: Path) -> Case:
    return Case(sealed, tmp_path)


@pytest.fixture(scope="session")
def where(sealed: SealedTarget) -> dict[str, tuple[Piece, ...]]:
    return pieces(sealed)


def files_of(damage: Problem) -> dict[bytes, set[str]]:
    return {loss.path: set(loss.snapshots) for loss in damage.files}


# ---------------------------------------------------------------- what it costs


def test_every_volume_costs_exactly_the_files_that_need_it(
    sealed: SealedTarget, where: dict[str, tuple[Piece, ...]], case: Case
) -> None:
    everything = sorted(case.ledger.volumes)
    shared = [name for name in everything if len({len(lost) for lost in lost_by(sealed, where, name).values()}) > 1]
    assert len(shared) > 3, "some are needed by some of the later snapshots only"
    for name in everything:
        (found,) = find_impact(case.target, case.ledger, [ObjectProblem(name, "missing")], case.folder / "work")
        lost = {} if name.endswith(".sigtar.gpg") else lost_by(sealed, where, name)
        assert files_of(found) == lost, name
        assert found.exact
        top = f"/{STAGE}/".encode()
        records = {path for path in lost if path.startswith(top) and not path.startswith(top + b"databases/")}
        assert set(found.stranded) == {snapshot for path in records for snapshot in lost[path]}
        naming = [r.snapshot for r in sealed.records if name in {volume.name for volume in r.volumes}]
        assert list(found.snapshots) == ([] if name.endswith(".sigtar.gpg") else naming)


def test_several_volumes_cost_each_its_own(
    sealed: SealedTarget, where: dict[str, tuple[Piece, ...]], case: Case
) -> None:
    broken = [name for name in sorted(case.ledger.volumes) if ".difftar" in name]
    for name in broken:
        case.path(VOLUMES + name).unlink()
    found = case.damages()
    assert {name: files_of(damage) for name, damage in found.items()} == {n: lost_by(sealed, where, n) for n in broken}


def test_what_can_only_be_told_in_part_is_said_to_be(
    sealed: SealedTarget, where: dict[str, tuple[Piece, ...]], case: Case
) -> None:
    volume, later = case.named("b-", f"full.{FIRST}", "vol1"), case.named("b-", f"new-signatures.{FIRST}")
    for name in (volume, later):
        case.path(VOLUMES + name).unlink()
    found = case.damages()[volume]
    assert not found.exact
    assert found.snapshots == (FIRST, SECOND, THIRD)
    lost = lost_by(sealed, where, volume)
    assert all(files_of(found)[path] >= lost[path] for path in lost)


def test_volume_without_manifest_and_signatures_has_no_names(case: Case) -> None:
    names = [case.named("b-", f"full.{FOURTH}", part) for part in ("vol1", "manifest")]
    names.append(case.named("b-", f"full-signatures.{FOURTH}"))
    for name in names:
        case.path(VOLUMES + name).unlink()
    found = case.damages()
    for name in names[:2]:
        assert (found[name].snapshots, found[name].files, found[name].exact) == ((FOURTH, FIFTH), (), False)
    assert (found[names[2]].snapshots, found[names[2]].exact) == ((), True)


def test_stock_duplicity_brings_what_is_not_named_and_none_of_what_is(case: Case) -> None:
    """The last snapshot of the first chain, one name at a time, with nothing of ours in the way."""
    volume = case.named("b-", f"full.{FIRST}", "vol2")
    case.path(VOLUMES + volume).unlink()
    lost = [path for path, snapshots in files_of(case.damages()[volume]).items() if THIRD in snapshots]
    tree = {b"/" + path: content for path, content in case.sealed.trees[THIRD].items()}
    shard = {path for path in tree if zlib.crc32(path[1:]) % len(SHARDS) == 1}
    some_lost = [path for path in tree if path in lost][:1]
    some_left = [path for path in tree if path in shard and path not in lost and path.startswith(b"/srv/big/")][:1]
    assert [stock_restore(case, path) for path in some_left] == [tree[path] for path in some_left]
    assert [stock_restore(case, path) for path in some_lost] == [None]
    assert len(some_left) == len(some_lost) == 1


def stock_restore(case: Case, path: bytes) -> bytes | None:
    home = tempfile.mkdtemp(prefix="tklb-")
    goal = Path(home, "goal")
    argv: list[str | bytes | Path] = [
        Path(sys.executable).with_name("duplicity"), "restore", "--numeric-owner", "--time", "2024-05-01T14:00:00Z",
        f"--archive-dir={home}/cache", "--file-prefix=b-", "--num-retries=1",
        b"--path-to-restore=" + path[1:], f"file://{case.sealed.folder}/target/volumes", goal,
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "HOME": home, "LC_ALL": "C.UTF-8", "PASSPHRASE": SECRET.reveal()}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, check=False)
        return goal.read_bytes() if done.returncode == 0 and goal.is_file() else None
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
        shutil.rmtree(home)


# ---------------------------------------------------------------- what a set holds


INDEXES = st.lists(NAMES, max_size=4).map(tuple)


@given(st.lists(st.tuples(INDEXES, INDEXES), min_size=1, max_size=5), st.lists(NAMES))
def test_manifest_as_duplicity_writes_it_is_read(
    bounds: list[tuple[tuple[bytes, ...], ...]], changed: list[bytes]
) -> None:
    from duplicity.manifest import Manifest, VolumeInfo

    ordered = sorted(index for pair in bounds for index in pair)
    manifest = Manifest()
    manifest.hostname, manifest.local_dirname = "Volume 9:", b"/"
    manifest.files_changed = [(name, b"new") for name in changed]
    for number in range(len(bounds)):
        info = VolumeInfo()
        info.set_info(number + 1, ordered[2 * number], None, ordered[2 * number + 1], 7)
        info.set_hash("SHA1", "0" * 40)
        manifest.add_volume_info(info)
    spans = {number + 1: Span(ordered[2 * number], ordered[2 * number + 1]) for number in range(len(bounds))}
    assert parse_manifest(manifest.to_string()) == spans


def test_last_volume_of_nothing_holds_no_name() -> None:
    """What duplicity writes where the volume before became full with the last name."""
    bounds = b"    StartingPath   .  \n    EndingPath     a/z 3\n"
    text = b"Volume 1:\n" + bounds + b"Volume 2:\n" + bounds
    assert parse_manifest(text) == {1: Span((), (b"a", b"z"))}


@pytest.mark.parametrize("text", [b"", b"\xff" * 99, b'Volume 1:\n    StartingPath   "\n    EndingPath     a\n'])
def test_manifest_of_rubbish_is_no_more_than_a_value_error(text: bytes) -> None:
    try:
        assert parse_manifest(text) == {}
    except ValueError as exc:
        assert "name" in str(exc)  # noqa: PT017 - either is fine


def test_names_of_volumes_say_their_set() -> None:
    inc = parse_name(f"b-duplicity-inc.{FIRST}.to.{SECOND}.vol12.difftar.gpg")
    assert (inc.set, inc.part, inc.number) == (("b-", FIRST, SECOND), "vol12.difftar", 12)
    full = parse_name(f"duplicity-full-signatures.{FIRST}.sigtar.gpg")
    assert (full.set, full.part, full.number) == (("", "", FIRST), "sigtar", 0)
    with pytest.raises(ValueError, match="no volume"):
        parse_name("duplicity-full.vol1.difftar.gpg")


# ---------------------------------------------------------------- reading


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fail(path: Path) -> None:
    path.unlink()
    raise TargetUnreachable(address="x", reason="Input/output error")


@pytest.fixture
def far(case: Case) -> Far:
    return Far(case.sealed.folder / "target")


def looked(case: Case, far: Far, abreast: int = 1) -> tuple[ObjectProblem, ...]:
    folder = case.folder / "fetched"
    folder.mkdir(mode=0o700)
    found = check_objects(far, case.ledger.volumes.values(), folder, abreast=abreast)
    assert os.listdir(folder) == []
    return found


@pytest.mark.parametrize("fault", [flip, fail])
def test_fault_on_the_way_is_no_damage(case: Case, far: Far, fault: Callable[[Path], None]) -> None:
    far.faults = {VOLUMES + name: [fault] for name in case.ledger.volumes}
    assert looked(case, far, abreast=3) == ()


@pytest.mark.parametrize("fault", [flip, fail])
def test_object_that_never_reads_well_is_damaged(case: Case, far: Far, fault: Callable[[Path], None]) -> None:
    name = case.named("b-", "vol2", FIRST)
    far.faults = {VOLUMES + name: [fault, fault]}
    assert looked(case, far) == (ObjectProblem(name, "damaged"),)


def test_target_that_went_away_is_no_damage(case: Case, far: Far) -> None:
    def go(path: Path) -> None:
        far.is_gone = True
        fail(path)

    far.faults = {VOLUMES + name: [go, go] for name in case.ledger.volumes}
    with pytest.raises(TargetUnreachable, match="gone"):
        looked(case, far, abreast=3)


def test_listing_that_is_behind_the_times_makes_nothing_missing(case: Case) -> None:
    class Lagging(Far):
        def list(self, prefix: str) -> tuple[ListedObject, ...]:
            return super().list(prefix)[3:]

    assert check_objects(Lagging(case.sealed.folder / "target"), case.ledger.volumes.values()) == ()


def test_kinds_of_damage(case: Case) -> None:
    names = sorted(case.ledger.volumes)
    case.path(VOLUMES + names[0]).unlink()
    with case.path(VOLUMES + names[1]).open("ab") as stream:
        stream.write(b"x")
    os.truncate(case.path(VOLUMES + names[2]), 10)
    flip(case.path(VOLUMES + names[3]))
    quick = {problem.volume: problem.kind for problem in case.problems()}
    assert quick == {names[0]: "missing", names[1]: "damaged", names[2]: "truncated"}
    thorough = {problem.volume: problem.kind for problem in case.problems(case.folder)}
    assert thorough == {**quick, names[3]: "damaged"}


# ---------------------------------------------------------------- the ledger and the key file


def entry(sequence: int) -> str:
    return f"{LEDGER}{sequence:08}-20240501T{11 + sequence}0000Z"


def audited(case: Case, *, fresh: bool = False) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is wrong with the ledger to the machine that knows it, or to one that never saw it."""
    folder = case.folder / ("elsewhere" if fresh else "ledger")
    ledger = read_ledger(case.target, SECRET, folder, thorough=True)
    return {one.volume: (one.kind, one.snapshots) for one in check_ledger(case.target, ledger, folder)}


@pytest.mark.parametrize("fresh", [False, True])
def test_missing_entry_costs_its_own_snapshot(case: Case, fresh: bool) -> None:
    case.path(entry(2)).unlink()
    case.path(entry(4)).unlink()
    assert audited(case, fresh=fresh) == {entry(2): ("missing", (SECOND,)), entry(4): ("missing", (FOURTH,))}


def test_newest_entry_is_missed_by_whoever_saw_it(case: Case) -> None:
    for sequence in (4, 5):
        case.path(entry(sequence)).unlink()
    assert audited(case) == {entry(4): ("missing", (FOURTH,)), entry(5): ("missing", (FIFTH,))}
    assert audited(case, fresh=True) == {}


def test_swapped_and_cut_entries_cost_their_snapshots(case: Case) -> None:
    one, other = case.path(entry(1)).read_bytes(), case.path(entry(3)).read_bytes()
    case.path(entry(1)).write_bytes(other)
    case.path(entry(3)).write_bytes(one)
    os.truncate(case.path(entry(5)), 100)
    expected = {entry(1): ("damaged", (FIRST,)), entry(3): ("damaged", (THIRD,)), entry(5): ("truncated", (FIFTH,))}
    assert audited(case) == expected
    assert audited(case, fresh=True) == expected


def test_stray_objects_in_the_ledger_cost_no_snapshot(case: Case) -> None:
    for name in (f"{LEDGER}00000006-{SECOND}", f"{LEDGER}00000009-20300101T000000Z", f"{LEDGER}notes"):
        shutil.copy(case.path(entry(2)), case.path(name))
    found = {one.volume: one for one in check_ledger(case.target, case.read(), case.folder / "ledger")}
    assert {(one.kind, one.snapshots) for one in found.values()} == {("unexpected", ())}
    assert [one.is_harmless for one in found.values()] == [True, True, True]


def test_forged_entries_cost_nothing_that_was_there(case: Case) -> None:
    """With volumes of their own beside them, they tell of no snapshot all the same."""
    other, label = make_secret(lambda count: b"x" * count), "20300101T000000Z"
    elsewhere = make_backend(f"file://{case.folder}/elsewhere", Config())
    for record in case.ledger.entries:
        seal(elsewhere, other, case.folder / "forger", replace(record, older=()))
    forged = seal(
        elsewhere, other, case.folder / "forger", replace(case.ledger.entries[-1], sequence=6, snapshot=label)
    )
    name = f"{LEDGER}{forged.sequence:08}-{label}"
    shutil.copy(case.folder / "elsewhere" / name, case.path(name))
    case.path(f"{LEDGER}99999999-{label}").write_bytes(b"rubbish\nrubbish\n")
    case.path(f"{VOLUMES}duplicity-full.{label}.vol1.difftar.gpg").write_bytes(b"planted")
    began = time.monotonic()
    found = check_ledger(case.target, case.read(), case.folder / "ledger")
    assert {(one.volume, one.kind, one.snapshots) for one in found} == {
        (name, "unexpected", ()), (f"{LEDGER}99999999-{label}", "unexpected", ()),
    }  # fmt: skip
    assert time.monotonic() - began < 5, "nobody counts to a hundred million"


def test_key_file_must_be_the_one_of_this_machine(case: Case) -> None:
    ours = case.folder / "key.asc"
    assert check_key(case.target, ours) == ()
    ours.write_bytes(b"wrapped")
    assert [one.kind for one in check_key(case.target, ours)] == ["missing"]
    for content, kind in ((b"wrappee", "damaged"), (b"wrap", "truncated"), (b"wrapped!", "damaged")):
        case.path(KEY).write_bytes(content)
        assert [one.kind for one in check_key(case.target, ours)] == [kind]
    case.path(KEY).write_bytes(b"wrapped")
    assert check_key(case.target, ours) == ()
    ours.unlink()
    assert [(one.kind, one.is_harmless) for one in check_key(case.target, ours)] == [("unexpected", True)]


# ---------------------------------------------------------------- mending


def broken(case: Case) -> dict[str, bytes]:
    """Break a volume in each way; what they were."""
    names = sorted(case.ledger.volumes)[:4]
    were = {name: case.path(VOLUMES + name).read_bytes() for name in names}
    case.path(VOLUMES + names[0]).unlink()
    os.truncate(case.path(VOLUMES + names[1]), 10)
    flip(case.path(VOLUMES + names[2]))
    with case.path(VOLUMES + names[3]).open("ab") as stream:
        stream.write(b"x")
    return were


@pytest.mark.parametrize("put", [True, False])
@pytest.mark.parametrize("distant", [True, False])
def test_volumes_come_back_from_a_folder_and_from_another_target(
    sealed: SealedTarget, case: Case, put: bool, distant: bool
) -> None:
    were = broken(case)
    spool = case.folder / "spool"
    spool.mkdir()
    for name in list(were)[:2]:
        (spool / name).write_bytes(were[name])
    (spool / list(were)[2]).write_bytes(b"x" + were[list(were)[2]][1:])
    other = open_backend(sealed.address, Config())
    target = Far(case.sealed.folder / "target") if distant else case.target
    found = find_impact(case.target, case.ledger, case.problems(case.folder), case.folder / "work")
    repaired = repair(target, case.ledger, found, CopySources((spool,), (other,)), case.folder / "work", put)
    expected = dict(zip(were, (*(str(spool / name) for name in list(were)[:2]), *[other.address] * 2), strict=True))
    assert {one.volume: one.copy for one in repaired} == expected
    assert all(one.is_repaired is put for one in repaired)
    is_whole = [
        case.path(VOLUMES + name).exists() and case.path(VOLUMES + name).read_bytes() == were[name] for name in were
    ]
    assert is_whole == [put] * 4
    assert bool(case.problems(case.folder)) is not put


def test_copy_that_is_not_whole_mends_nothing(sealed: SealedTarget, case: Case, tmp_path: Path) -> None:
    were = broken(case)
    poor = sealed.copy(tmp_path / "poor")
    for name in were:
        flip(poor.folder / "target" / VOLUMES / name)
    found = find_impact(case.target, case.ledger, case.problems(case.folder), case.folder / "work")
    copies = CopySources((poor.folder / "target/volumes",), (open_backend(poor.address, Config()),))
    assert repair(case.target, case.ledger, found, copies, case.folder / "work", True) == found


def test_entries_come_back_from_what_this_machine_keeps(case: Case) -> None:
    were = {name: case.path(name).read_bytes() for name in (entry(2), entry(4), entry(5))}
    case.path(entry(2)).unlink()
    flip(case.path(entry(4)))
    case.path(entry(5)).unlink()
    ledger = case.read()
    found = check_ledger(case.target, ledger, case.folder / "ledger")
    copies = CopySources(ledgers=case.folder / "ledger")
    repaired = repair(case.target, ledger, found, copies, case.folder / "work", True)
    assert [(one.volume, one.is_repaired) for one in repaired] == [(name, True) for name in were]
    assert {name: case.path(name).read_bytes() for name in were} == were
    assert case.read().problems == ()


def test_entry_whose_snapshot_nobody_knows_comes_back_from_another_target(sealed: SealedTarget, case: Case) -> None:
    before = case.path(entry(2)).read_bytes()
    case.path(entry(2)).unlink()
    ledger = case.read()
    damage = Problem(f"{LEDGER}00000002", "missing")
    copies = CopySources(targets=(open_backend(sealed.address, Config()),))
    (repaired,) = repair(case.target, ledger, [damage], copies, case.folder / "work", True)
    assert (repaired.volume, repaired.is_repaired) == (entry(2), True)
    assert case.path(entry(2)).read_bytes() == before


def test_forged_copy_of_an_entry_is_left_where_it_is(case: Case) -> None:
    case.path(entry(2)).unlink()
    ledger = read_ledger(case.target, SECRET, case.folder / "ledger", thorough=True)
    for path in (case.folder / "ledger").glob("entries-*/00000002-*"):
        flip(path)
    found = check_ledger(case.target, ledger, case.folder / "ledger")
    copies = CopySources(ledgers=case.folder / "ledger")
    assert repair(case.target, ledger, found, copies, case.folder / "work", True) == found
    assert not case.path(entry(2)).exists()


def test_hole_in_a_chain_is_repaired_before_anything_is_added(case: Case) -> None:
    were = broken(case)
    volumes = tuple(case.ledger.volumes.values())
    spool = case.folder / "spool"
    spool.mkdir()
    assert {one.kind for one in repair_chain(case.target, volumes, (spool,), case.folder / "work")} == {
        "missing", "truncated", "damaged",
    }  # fmt: skip
    for name, content in were.items():
        (spool / name).write_bytes(content)
    assert repair_chain(case.target, volumes, (spool,), case.folder / "work") == ()
    assert not (case.folder / "work").exists()
    flipped = sorted(case.ledger.volumes)[2]
    assert case.problems(case.folder) == (ObjectProblem(flipped, "damaged"),), "a listing cannot show that"


def test_target_that_keeps_nothing_is_not_said_to_be_repaired(case: Case) -> None:
    class Forgetful(Far):
        def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
            stored = super().upload(name, source, sha256, moved)
            flip(self.folder / name)
            return StoredObject(stored.size)

    name = min(case.ledger.volumes)
    spool = case.folder / "spool"
    spool.mkdir()
    shutil.move(case.path(VOLUMES + name), spool / name)
    with pytest.raises((TargetUnreachable, TargetDamaged)):
        repair_chain(Forgetful(case.sealed.folder / "target"), [volume_of(case, name)], (spool,), case.folder / "work")


def volume_of(case: Case, name: str) -> Volume:
    return case.ledger.volumes[name]
