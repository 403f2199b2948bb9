"""A set of five volumes on its way to S3 and back while each request in turn goes wrong in each way.

The server is rclone, its folder is looked at from outside; in between is the proxy that breaks it. Only the engine is
left out: what the volumes hold follows from their names.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lab.fault_proxy import Fault, FaultProxy
from tests.lab.s3 import rclone
from tests.lab.soak import SOAK, some
from tklb.backup import resume
from tklb.backup.chain import Chain, hold_target
from tklb.backup.upload import prepare_target, resume_upload, upload_pending
from tklb.base.fs import private_folder
from tklb.config.paths import Paths
from tklb.config.schema import Config, S3Config
from tklb.crypto.secret import make_secret
from tklb.errors import TklbError
from tklb.ledger.read import read_ledger
from tklb.ledger.seal import plan_place
from tklb.model.callbacks import ignore_progress
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, Volume, snapshot_time
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.storage.backend import Backend
from tklb.storage.download import download_volumes
from tklb.storage.local import LocalBackend
from tklb.storage.s3.backend import S3Backend
from tklb.storage.url import parse_url
from tklb.storage.wrappers.retry import Retry
from tklb.storage.wrappers.stall_timeout import StallTimeout

pytestmark = pytest.mark.slow

SECRET = make_secret(lambda count: b"s" * count)
TIMES = ("", "20260101T000000Z", "20260102T000000Z", "20260103T000000Z")
FAULTS = list(Fault)
INSTALLATION = "5e" * 16
PATIENCE = 60.0
STALLS = 0.5  # seconds of patience where a stall is meant to happen
PARTS = ("vol1.difftar", "vol2.difftar", "vol3.difftar", "vol4.difftar", "vol5.difftar", "manifest")


def names(sequence: int) -> tuple[str, ...]:
    """The objects of a set: five volumes, what lists them, and signatures."""
    now, before = TIMES[sequence], TIMES[sequence - 1]
    if not before:
        sets, signatures = f"duplicity-full.{now}", f"duplicity-full-signatures.{now}.sigtar.gpg"
    else:
        sets, signatures = f"duplicity-inc.{before}.to.{now}", f"duplicity-new-signatures.{before}.to.{now}.sigtar.gpg"
    return (*(f"{sets}.{part}.gpg" for part in PARTS), signatures)


def content(name: str) -> bytes:
    """What a volume holds follows from its name; no two are of one size."""
    digest = hashlib.sha256(name.encode()).digest()
    return hashlib.shake_256(digest).digest(20_000 + int.from_bytes(digest[:2]) % 20_000)


def volumes(sequence: int) -> tuple[Volume, ...]:
    contents = ((name, content(name)) for name in names(sequence))
    return tuple(Volume(name, len(held), hashlib.sha256(held).hexdigest()) for name, held in contents)


@dataclass(frozen=True)
class World:
    """A bucket as the server keeps it, and one machine; `reset` sets both back to one sealed snapshot."""

    folder: Path
    proxy: FaultProxy
    service: S3Backend

    @property
    def bucket(self) -> Path:
        return self.folder / "served/bucket"

    @property
    def paths(self) -> Paths:
        return Paths(state=self.folder / "machine/state", cache=self.folder / "machine/cache")

    def keep(self) -> None:
        shutil.copytree(self.bucket, self.folder / "kept/bucket")
        shutil.copytree(self.folder / "machine", self.folder / "kept/machine")

    def reset(self) -> None:
        """Set both back; the bucket through the server, which remembers what it lists."""
        self.proxy.break_at(None)
        kept = self.folder / "kept/bucket/web1"
        wanted = {path.relative_to(kept).as_posix(): path for path in kept.rglob("*") if path.is_file()}
        held = self.objects()
        for name in held.keys() - wanted.keys():
            self.service.delete(name)
        for name, path in wanted.items():
            if held.get(name) != path.read_bytes():
                self.service.upload(name, path, hashlib.sha256(path.read_bytes()).hexdigest())
        shutil.rmtree(self.folder / "machine")
        shutil.copytree(self.folder / "kept/machine", self.folder / "machine")

    def target(self, patience: float) -> Backend:
        return Retry(StallTimeout(self.service, patience), lambda _: None, lambda: 0.5)

    def objects(self) -> dict[str, bytes]:
        """What the server holds, by what lies in its folder."""
        root = self.bucket / "web1"
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from _made(tmp_path_factory.mktemp("world"), 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same with two sealed snapshots."""
    yield from _made(tmp_path_factory.mktemp("both"), 2)


def _made(folder: Path, count: int) -> Iterator[World]:
    (folder / "served/bucket").mkdir(parents=True)
    with rclone(folder / "served") as service, FaultProxy(service.port) as proxy:
        service.credentials(folder / "credentials")
        address = parse_url(f"s3+http://127.0.0.1:{proxy.port}/bucket/web1")
        config = S3Config(region="us-east-1", credentials_file=str(folder / "credentials"))
        made = World(folder, proxy, S3Backend(address, config))
        for sequence in range(1, count + 1):
            back_up(made, sequence)
        shutil.rmtree(next(made.paths.ledger.glob("entries-*")))  # so that entries must be fetched
        made.keep()
        yield made


def back_up(world: World, sequence: int, patience: float = PATIENCE, abreast: int = 1) -> LedgerEntry:
    """What a backup does with its target; "nothing changed" where set `sequence` is sealed already."""
    paths, target = world.paths, world.target(patience)
    private_folder(paths.state)
    spool = private_folder(paths.spool)
    config = Config(uploads=abreast)
    setting = Session(paths, config, SECRET, "0123", None, lambda: datetime.now(UTC), ignore_progress)  # type: ignore[arg-type]
    ledger = read_ledger(target, SECRET, paths.ledger)
    ledger.check()
    chain = Chain(target, ledger.entries, ledger, plan_place(ledger, paths.ledger), INSTALLATION)
    if earlier := resume_upload(setting, chain):
        return earlier
    if chain.head and chain.head.sequence >= sequence:
        return chain.head
    with hold_target(setting, chain):
        prepare_target(setting, chain, spool, chain.head)
        for name in names(sequence):
            (spool / name).write_bytes(content(name))
        stage = private_folder(paths.state / "stage")
        (stage / "manifest.mtree").write_text(f"set {sequence}\n")
        record = next_record(chain, stage, sequence)
        return upload_pending(setting, chain, resume.note_pending(paths, SECRET, target.address, record, stage))


def next_record(chain: Chain, stage: Path, sequence: int) -> LedgerEntry:
    return LedgerEntry(
        sequence=sequence,
        snapshot=TIMES[sequence],
        kind=Kind.INCREMENTAL if chain.head else Kind.FULL,
        previous="",
        host="0123",
        hostname="www",
        profile="debian-12-core",
        profile_digest="ab" * 32,
        release="debian-12",
        stage="var/lib/tklb/stage",
        volumes=(*(chain.head.volumes if chain.head else ()), *volumes(sequence)),
        own_volumes=names(sequence),
        shards=(Shard("", snapshot_time(TIMES[sequence])),),
        counts=Counts(),
        content_digest=metadata.digest(stage),
    )


def restore(target: Backend, folder: Path, wanted: int = -1, abreast: int = 1) -> LedgerEntry:
    """What a restore does with a target, on a machine that knows nothing of it."""
    ledger = read_ledger(target, SECRET, folder / "ledger")
    ledger.check()
    record = ledger.entries[wanted]
    download_volumes(target, record.volumes, private_folder(folder / "volumes"), abreast)
    return record


def check_offered(world: World, folder: Path, sequences: list[int]) -> None:
    """A fresh machine that has the server's folder finds exactly these snapshots, each whole to the last byte."""
    held = LocalBackend(world.bucket / "web1")
    head = hashlib.sha256(held.address.encode()).hexdigest()[:16]
    (folder / f"ledger/head-{head}").unlink(missing_ok=True)  # fresh, but for entries that gpg has opened before
    found = read_ledger(held, SECRET, folder / "ledger")
    assert [record.sequence for record in found.entries] == sequences
    assert found.problems == ()
    for number, sequence in enumerate(sequences):
        restore(held, folder, number)
        check_bytes(folder / "volumes", sequence)
        shutil.rmtree(folder / "volumes")


def check_bytes(fetched: Path, sequence: int) -> None:
    wanted = [name for number in range(1, sequence + 1) for name in names(number)]
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {name: content(name) for name in wanted}


def check_server(world: World, sequences: range) -> None:
    """Exactly the volumes of these sets and their entries lie at the server, right to the last byte."""
    objects = world.objects()
    wanted = {f"volumes/{name}": content(name) for number in sequences for name in names(number)}
    assert {name: held for name, held in objects.items() if name.startswith("volumes/")} == wanted
    assert sorted(set(objects) - set(wanted)) == [
        f"ledger/{number:08}-{TIMES[number]}-{INSTALLATION[:8]}" for number in sequences
    ]


def check_machine(world: World, *sealed: str) -> None:
    """Nothing unfinished is left on the machine; of what is finished, in the spool, `sealed` at most."""
    assert not world.paths.pending_upload.exists()
    assert set(os.listdir(world.paths.spool)) <= set(sealed)


def sealed_sets(world: World) -> list[int]:
    """The sets whose entries lie at the server, by the entries' names."""
    return sorted(int(name[7:15]) for name in world.objects() if name.startswith("ledger/0"))


# ---------------------------------------------------------------- the sweeps


@dataclass(frozen=True)
class Outcome:
    """What a run gave, or how it failed; anything but a failure of ours would be a bug."""

    record: LedgerEntry | None
    failure: TklbError | None


def patience_for(fault: Fault) -> float:
    return STALLS if fault is Fault.STALL else PATIENCE


def attempt(run: Callable[[], LedgerEntry]) -> Outcome:
    try:
        return Outcome(run(), None)
    except TklbError as exc:
        return Outcome(None, exc)


def numbers_of(fault: Fault) -> Iterable[int]:
    """Two requests that are sixteen apart, other ones for each fault; all where TKLB_SOAK is set."""
    first = FAULTS.index(fault) % 16
    return range(200) if SOAK else (first, first + 16)


def sweep(
    world: World,
    fault: Fault,
    run: Callable[[], LedgerEntry],
    check: Callable[[Outcome, bool], None],
    numbers: Iterable[int] = range(200),
    lasting: bool = False,
) -> None:
    """Break these requests of `run`, one a time and each in a fresh world, until there is no such request.

    Where it is `lasting`, all that follow are broken too.
    """
    for number in numbers:
        world.reset()
        world.proxy.break_at(fault, number, lasting)
        outcome = attempt(run)
        seen = world.proxy.seen
        print(f"{fault.name} {number}: {outcome.failure or 'success'}")
        try:
            check(outcome, any(request.fault for request in seen))
        except Exception as exc:
            at = f"{seen[number].method} {seen[number].path}" if number < len(seen) else "none"
            exc.add_note(f"{fault.name} at request {number} ({at}): {outcome.failure or 'success'}")
            raise
        if number >= len(seen):
            return
    assert not isinstance(numbers, range), "it never ends"


def check_backup(world: World, folder: Path) -> Callable[[Outcome, bool], None]:
    def check(outcome: Outcome, is_broken: bool) -> None:
        there = sealed_sets(world)
        assert outcome.record is None or there == [1, 2]
        assert outcome.failure is None or is_broken
        check_offered(world, folder, there)
        world.proxy.break_at(None)
        assert back_up(world, 2).sequence == 2
        check_server(world, range(1, 3))
        check_machine(world, *(names(2) if outcome.failure and 2 in there else ()))
        check_offered(world, folder, [1, 2])

    return check


@pytest.mark.parametrize("fault", some(Fault, 2))
def test_backup_is_true_and_the_next_one_clean_whatever_request_breaks(
    world: World, tmp_path: Path, fault: Fault
) -> None:
    patience = patience_for(fault)
    sweep(world, fault, lambda: back_up(world, 2, patience), check_backup(world, tmp_path / "fresh"), numbers_of(fault))


@pytest.mark.parametrize("fault", some(FAULTS, 3))
def test_the_same_holds_for_four_uploads_side_by_side(world: World, tmp_path: Path, fault: Fault) -> None:
    patience, check = patience_for(fault), check_backup(world, tmp_path / "fresh")
    sweep(world, fault, lambda: back_up(world, 2, patience, abreast=4), check, (5, 9, 13, 17) if SOAK else (9,))


@pytest.mark.parametrize("fault", some(FAULTS, 3, first=1))
def test_the_same_holds_where_a_fault_lasts(world: World, tmp_path: Path, fault: Fault) -> None:
    patience, check = patience_for(fault), check_backup(world, tmp_path / "fresh")
    sweep(world, fault, lambda: back_up(world, 2, patience), check, (0, 3, 9, 20) if SOAK else (9,), lasting=True)


def test_volumes_of_a_set_that_was_sealed_after_all_do_not_stay_in_the_spool(world: World) -> None:
    world.reset()
    world.proxy.break_at(None)
    back_up(world, 2)
    *_, read_back = (one for one in world.proxy.seen if one.method == "GET" and "/ledger/00000002-" in one.path)
    world.reset()
    world.proxy.break_at(Fault.FLIPPED, read_back.number, lasting=True)
    assert attempt(lambda: back_up(world, 2)).failure
    assert sealed_sets(world) == [1, 2]
    world.proxy.break_at(None)
    back_up(world, 2)
    check_machine(world)


@pytest.mark.parametrize("fault", some(FAULTS, 2))
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-there-on"])
def test_restore_is_right_or_says_that_it_is_not_whatever_request_breaks(
    both: World, tmp_path: Path, fault: Fault, lasting: bool
) -> None:
    fresh, patience = tmp_path / "fresh", patience_for(fault)

    def check(outcome: Outcome, is_broken: bool) -> None:
        if outcome.record:
            # a machine that knows nothing cannot tell a stale listing from a ledger that ends there
            assert outcome.record.sequence == 2 or fault is Fault.STALE
            check_bytes(fresh / "volumes", outcome.record.sequence)
        assert outcome.failure is None or is_broken
        shutil.rmtree(fresh / "volumes", ignore_errors=True)
        both.proxy.break_at(None)
        assert restore(both.target(PATIENCE), fresh).sequence == 2
        check_bytes(fresh / "volumes", 2)
        shutil.rmtree(fresh)

    numbers = (0, 2, 9)[: None if SOAK else 1] if lasting else numbers_of(fault)
    sweep(both, fault, lambda: restore(both.target(patience), fresh), check, numbers, lasting)
