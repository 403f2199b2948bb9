"""From an encoded snapshot to a sealed one at a distant target: confirmed, resumed, never sealed on trust."""

import hashlib
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tests.unit.test_ledger import OTHER, SECRET, record
from tklb.backup import resume
from tklb.backup.chain import Chain
from tklb.backup.upload import prepare_target, resume_upload, trim_spool, upload_pending
from tklb.base.concurrency import Stop, map_side_by_side, run_side_by_side
from tklb.base.fs import private_folder
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.errors import Interrupted, NoSpace, TargetDamaged, TargetFull, TargetUnreachable, TklbError
from tklb.ledger.read import read_ledger
from tklb.ledger.seal import plan_place, seal
from tklb.model.snapshot import LedgerEntry, Volume
from tklb.model.volume_names import volume_sort_key
from tklb.profile.folder import find_profile
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.storage.backend import VOLUMES, ListedObject, Moved, StoredObject, ignore_moved
from tklb.storage.download import download_in_background, download_volumes
from tklb.storage.upload import check_present, remove_leftovers, upload_volumes

pytestmark = pytest.mark.quick

DAYS = tuple(f"2026010{day}T000000Z" for day in range(1, 5))


@pytest.fixture
def setting(tmp_path: Path) -> Session:
    paths = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "cache", tmp_path / "log")
    private_folder(paths.state)
    private_folder(paths.spool)
    return Session(
        paths=paths,
        config=Config(target="memory:"),
        secret=SECRET,
        host="0123",
        profile=find_profile(None, "debian"),
        clock=lambda: datetime(2026, 1, 9, tzinfo=UTC),
        progress=lambda *_: None,
    )


def volumes_in(spool: Path, snapshot_id: str, count: int = 3) -> tuple[Volume, ...]:
    """Volumes of a set, as the engine leaves them."""
    made = []
    for number in range(1, count + 1):
        name, content = f"duplicity-full.{snapshot_id}.vol{number}.difftar.gpg", os.urandom(1000 * number)
        (spool / name).write_bytes(content)
        made.append(Volume(name, len(content), hashlib.sha256(content).hexdigest()))
    return tuple(made)


def flipped(content: bytes) -> bytes:
    """Other content for sure, whatever its first byte was."""
    return bytes([content[0] ^ 1]) + content[1:]


def a_set(setting: Session, sequence: int = 1, base: tuple[Volume, ...] = ()) -> tuple[LedgerEntry, Path]:
    """A finished set in the spool, and the stage it was made from."""
    own = volumes_in(setting.paths.spool, DAYS[sequence - 1])
    stage = private_folder(setting.paths.stage)
    (stage / "manifest.mtree").write_bytes(b"#mtree v2.0\n")
    made = record(
        sequence,
        volumes=(*base, *own),
        own_volumes=tuple(volume.name for volume in own),
        content_digest=metadata.digest(stage),
    )
    return made, stage


def chain_of(setting: Session, target: MemoryTarget) -> Chain:
    ledger = read_ledger(target, setting.secret, setting.paths.ledger)
    ledger.check()
    return Chain(target, ledger.entries, ledger, plan_place(ledger, setting.paths.ledger), "5e" * 16)


def holds(target: MemoryTarget, volumes: tuple[Volume, ...]) -> bool:
    found = {name: hashlib.sha256(content).hexdigest() for name, content in target.objects.items()}
    return all(found.get(VOLUMES + volume.name) == volume.sha256 for volume in volumes)


class Breaking(MemoryTarget):
    """Takes so many objects, then none: it raises `failure`."""

    def __init__(self, takes: int, failure: BaseException | None = None) -> None:
        super().__init__()
        self.takes, self.puts = takes, list[str]()
        self.failure = failure or TargetUnreachable(address=self.address, reason="gone")

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        if self.takes == 0:
            raise self.failure
        self.takes -= 1
        self.puts.append(name)
        return super().upload(name, source, sha256, moved)


class Silent(MemoryTarget):
    """Vouches for nothing; `spoil` is what it makes of what it is sent."""

    def __init__(self, spoil: Callable[[bytes], bytes] = bytes) -> None:
        super().__init__()
        self.spoil, self.gets = spoil, 0

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        self.objects[name] = self.spoil(source.read_bytes())
        return StoredObject(source.stat().st_size)

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self.gets += 1
        super().download(name, destination, moved)


# ---------------------------------------------------------------- upload and download


def test_all_volumes_arrive_and_the_bytes_are_told(tmp_path: Path) -> None:
    target, volumes, told = MemoryTarget(), volumes_in(tmp_path, DAYS[0], 9), list[int]()
    confirmed: list[Volume] = []
    upload_volumes(target, tmp_path, volumes, 4, confirmed.append, told.append)
    assert holds(target, volumes)
    assert set(confirmed) == set(volumes)
    assert max(told) == sum(volume.size for volume in volumes)


def test_what_the_target_does_not_vouch_for_is_read_back(tmp_path: Path) -> None:
    target, volumes = Silent(), volumes_in(tmp_path, DAYS[0])
    upload_volumes(target, tmp_path, volumes, 2)
    assert target.gets == len(volumes)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_target_that_keeps_something_else_is_not_believed(tmp_path: Path) -> None:
    volumes = volumes_in(tmp_path, DAYS[0])
    for spoil in (lambda content: content[:-1], flipped, lambda _: b""):
        confirmed: list[Volume] = []
        with pytest.raises(TargetUnreachable, match="does not keep what is sent"):
            upload_volumes(Silent(spoil), tmp_path, volumes, 2, confirmed.append)
        assert confirmed == []


def test_volume_that_arrives_broken_once_is_fetched_again(tmp_path: Path) -> None:
    class Flipping(MemoryTarget):
        gets = 0

        def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
            self.gets += 1
            super().download(name, destination, moved)
            if self.gets == 1:
                destination.write_bytes(flipped(destination.read_bytes()))

    spool, there = private_folder(tmp_path / "spool"), private_folder(tmp_path / "there")
    target, volumes = Flipping(), volumes_in(spool, DAYS[0], 2)
    upload_volumes(target, spool, volumes, 2)
    download_volumes(target, volumes, there, 2)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in spool.iterdir()
    }
    target.objects[VOLUMES + volumes[0].name] = b"\0" * volumes[0].size
    with pytest.raises(TargetDamaged, match="vol1"):
        download_volumes(target, volumes, private_folder(tmp_path / "again"), 2)


def test_manifests_come_before_the_volumes_they_tell_of() -> None:
    names = [f"{prefix}duplicity-full.{DAYS[0]}.{part}.gpg" for part in ("vol10.difftar", "vol2.difftar", "manifest")
             for prefix in ("b-", "")]  # fmt: skip
    assert [volume_sort_key(name)[0] for name in sorted(names, key=volume_sort_key)] == [0, 0, 2, 2, 10, 10]


def waited(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class Gated(MemoryTarget):
    """Gives the volumes whose gate is open."""

    def __init__(self, volumes: Iterable[Volume]) -> None:
        super().__init__()
        self.gates = {VOLUMES + volume.name: threading.Event() for volume in volumes}

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        while not self.gates[name].wait(0.05):
            moved(0)
        super().download(name, destination, moved)


def test_volumes_come_one_by_one_in_the_order_of_their_use_while_the_block_runs(tmp_path: Path) -> None:
    spool, there = private_folder(tmp_path / "spool"), private_folder(tmp_path / "there")
    volumes = volumes_in(spool, DAYS[0], 12)
    target = Gated(volumes)
    upload_volumes(target, spool, volumes, 2)
    turns = sorted((volume.name for volume in volumes), key=volume_sort_key)
    assert turns == [volume.name for volume in volumes]
    with download_in_background(target, reversed(volumes), there, 1, ignore_moved) as check:
        assert list(there.iterdir()) == []
        for count, name in enumerate(turns, 1):
            target.gates[VOLUMES + name].set()
            waited(lambda: len(list(there.iterdir())) == count)  # noqa: B023 - it is called at once
            assert {path.name for path in there.iterdir()} == set(turns[:count])
            check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool", "there"]


def test_block_hears_of_a_download_that_fails_and_so_does_its_end(tmp_path: Path) -> None:
    spool = private_folder(tmp_path / "spool")
    volumes = volumes_in(spool, DAYS[0], 3)
    target = MemoryTarget()
    upload_volumes(target, spool, volumes, 2)
    target.objects[VOLUMES + volumes[1].name] = b"\0" * volumes[1].size

    def hears(check: Callable[[], None]) -> bool:
        try:
            check()
        except TargetDamaged:
            return True
        return False

    with (
        pytest.raises(TargetDamaged, match=re.escape(volumes[1].name)),
        download_in_background(target, volumes, private_folder(tmp_path / "there"), 1, ignore_moved) as check,
    ):
        waited(lambda: hears(check))
    assert volumes[1].name not in {path.name for path in (tmp_path / "there").iterdir()}


def test_download_ends_when_its_block_fails(tmp_path: Path) -> None:
    spool = private_folder(tmp_path / "spool")
    volumes = volumes_in(spool, DAYS[0], 3)
    target = Gated(volumes)
    upload_volumes(target, spool, volumes, 2)
    with (
        pytest.raises(KeyboardInterrupt),
        download_in_background(target, volumes, private_folder(tmp_path / "there"), 2, ignore_moved),
    ):
        raise KeyboardInterrupt
    for gate in target.gates.values():
        gate.set()
    waited(lambda: not (tmp_path / "there-arriving").exists())
    assert list((tmp_path / "there").iterdir()) == []


def test_listing_that_lags_behind_is_no_loss_and_a_loss_is_named(tmp_path: Path) -> None:
    class Lagging(MemoryTarget):
        def list(self, prefix: str) -> tuple[ListedObject, ...]:
            return super().list(prefix)[:-1]

    target, volumes = Lagging(), volumes_in(tmp_path, DAYS[0])
    upload_volumes(target, tmp_path, volumes, 1)
    check_present(target, volumes)
    del target.objects[VOLUMES + volumes[1].name]
    with pytest.raises(TargetDamaged, match=r"vol2.* is missing, so it is"):
        check_present(target, volumes, "so it is")


def test_what_no_seal_names_goes_and_what_is_no_volume_stays(tmp_path: Path) -> None:
    target, volumes = MemoryTarget(), volumes_in(tmp_path, DAYS[0])
    upload_volumes(target, tmp_path, volumes, 1)
    target.objects["volumes/README"] = b"mine"
    assert remove_leftovers(target, {volumes[0].name}).gone == (volumes[1].name, volumes[2].name)
    assert sorted(target.objects) == ["volumes/README", VOLUMES + volumes[0].name]


def test_first_failure_ends_what_works_beside_it() -> None:
    started = threading.Event()

    def work(number: int, stop: Stop) -> None:
        if number == 0:
            started.wait(5)
            raise TargetUnreachable(address="x", reason="gone")
        started.set()
        while True:
            stop.check()

    with pytest.raises(TargetUnreachable):
        run_side_by_side(work, range(2), 2)


def test_work_that_fails_like_an_empty_queue_is_no_end_of_the_work() -> None:
    def work(_number: int, _stop: Stop) -> None:
        raise queue.Empty

    with pytest.raises(queue.Empty):
        run_side_by_side(work, range(3), 2)


def test_results_come_in_the_order_of_the_items() -> None:
    def work(number: int, _stop: Stop) -> int:
        time.sleep(0.01 * (5 - number))
        return number * number

    assert map_side_by_side(work, range(5), 3) == (0, 1, 4, 9, 16)
    assert map_side_by_side(work, (), 3) == ()


def test_interruption_reaches_the_caller_though_a_thread_hangs() -> None:
    release = threading.Event()

    def work(_number: int, _stop: Stop) -> None:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), 2)).start()
        release.wait(20)

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(work, (1,), 1)
    release.set()


# ---------------------------------------------------------------- delivery


def test_delivered_set_is_sealed_and_nothing_stays_here(setting: Session) -> None:
    target = MemoryTarget()
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    sealed = upload_pending(setting, chain_of(setting, target), found)
    assert holds(target, sealed.volumes)
    assert [each.snapshot for each in chain_of(setting, target).entries] == [made.snapshot]
    assert os.listdir(setting.paths.spool) == []
    assert not setting.paths.pending_upload.exists()
    assert metadata.digest(setting.paths.last) == made.content_digest


@pytest.mark.parametrize(
    "failure", [Interrupted(), TargetFull(address="memory:"), NoSpace(path="/var/lib", reason="full")]
)
def test_hint_says_that_the_next_backup_resumes_and_so_it_does(setting: Session, failure: TklbError) -> None:
    setting = replace(setting, config=replace(setting.config, uploads=1))
    target = Breaking(2, failure)
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    with pytest.raises(type(failure)) as caught:
        upload_pending(setting, chain_of(setting, target), found)
    assert caught.value.hint.endswith("the next backup resumes an interrupted upload")
    confirmed, target.takes = tuple(target.puts), 99
    assert resume_upload(setting, chain_of(setting, target)) == chain_of(setting, target).entries[0]
    assert len(confirmed) == 2
    assert not set(confirmed) & set(target.puts[2:]), "confirmed volumes are not uploaded again"
    assert holds(target, made.volumes)


@pytest.mark.parametrize("takes", range(4))
def test_interrupted_upload_costs_no_more_than_the_volumes_in_flight(setting: Session, takes: int) -> None:
    setting = replace(setting, config=replace(setting.config, uploads=1))
    target = Breaking(takes)
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    with pytest.raises(TargetUnreachable):
        upload_pending(setting, chain_of(setting, target), found)
    assert chain_of(setting, target).entries == ()
    target.takes = 99
    assert resume_upload(setting, chain_of(setting, target)) == chain_of(setting, target).entries[0]
    assert len(target.puts) == len(made.volumes) + 1  # each once, and the entry
    assert holds(target, made.volumes)


def test_log_of_a_resumed_upload_says_what_was_left_and_how_fast_it_went(
    setting: Session, caplog: pytest.LogCaptureFixture
) -> None:
    setting = replace(setting, config=replace(setting.config, uploads=1))
    target = Breaking(1)
    made, stage = a_set(setting)
    pending = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    with pytest.raises(TargetUnreachable):
        upload_pending(setting, chain_of(setting, target), pending)
    target.takes = 99
    with caplog.at_level(logging.INFO, "tklb"):
        resume_upload(setting, chain_of(setting, target))
    expected = (
        rf"resuming the upload of snapshot {made.snapshot}: 2 of 3 volumes left",
        r"uploaded volume duplicity-full\.\S+ to memory:, [\d.]+ kB in \d+\.\d s \(\d.* ?k?M?B/s\)",
        r"uploaded 2 volumes, 3\.0 kB in \d+\.\d s \(\d.* ?k?M?B/s\)",
        rf"sealed snapshot {made.snapshot} as ledger entry 1",
    )
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert re.search(".*\n(.*\n)*".join(expected), said), said


def test_run_that_was_killed_between_its_seal_and_its_tidying_is_recognised(setting: Session) -> None:
    target = MemoryTarget()
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    upload_volumes(target, setting.paths.spool, found.unconfirmed_volumes, 1)
    seal(target, SECRET, setting.paths.ledger, made)
    chain = chain_of(setting, target)
    assert resume_upload(setting, chain) is None
    assert len(chain_of(setting, target).entries) == 1
    assert metadata.digest(setting.paths.last) == made.content_digest
    assert os.listdir(setting.paths.spool) == []
    prepare_target(setting, chain, setting.paths.spool, chain.head)
    assert holds(target, made.volumes)


def other_target(setting: Session, found: resume.PendingUpload) -> None:
    resume.note_pending(setting.paths, SECRET, "memory:other", found.entry, found.folder.rename(setting.paths.stage))


def other_key(setting: Session, found: resume.PendingUpload) -> None:
    resume.note_pending(setting.paths, OTHER, "memory:", found.entry, found.folder.rename(setting.paths.stage))


def torn_entry(setting: Session, found: resume.PendingUpload) -> None:
    path = setting.paths.pending_upload / "record"
    path.write_bytes(path.read_bytes()[:-30])


def cut_volume(setting: Session, found: resume.PendingUpload) -> None:
    (setting.paths.spool / found.own_volumes[0].name).write_bytes(b"x")


def lost_spool(setting: Session, found: resume.PendingUpload) -> None:
    for path in setting.paths.spool.iterdir():
        path.unlink()


def changed_metadata(setting: Session, found: resume.PendingUpload) -> None:
    (found.folder / "manifest.mtree").write_bytes(b"#mtree v2.0\n/x type=dir\n")


@pytest.mark.parametrize("harm", [other_target, other_key, torn_entry, cut_volume, lost_spool, changed_metadata])
def test_what_does_not_fit_is_never_resumed(
    setting: Session, harm: Callable[[Session, resume.PendingUpload], None]
) -> None:
    target = MemoryTarget()
    made, stage = a_set(setting)
    harm(setting, resume.note_pending(setting.paths, SECRET, target.address, made, stage))
    chain = chain_of(setting, target)
    assert resume_upload(setting, chain) is None
    prepare_target(setting, chain, setting.paths.spool, None)
    assert os.listdir(setting.paths.spool) == []
    assert not setting.paths.pending_upload.exists()
    assert target.objects == {}


def test_set_that_somebody_overtook_is_not_resumed(setting: Session, tmp_path: Path) -> None:
    target = MemoryTarget()
    made, stage = a_set(setting)
    resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    seal(target, SECRET, setting.paths.ledger, record(1))
    assert resume_upload(setting, chain_of(setting, target)) is None


def test_volume_that_was_confirmed_and_then_lost_is_sent_again(setting: Session) -> None:
    target = Breaking(99)
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    for volume in found.own_volumes[:2]:
        resume.confirm_volume(setting.paths, volume)
    assert resume_upload(setting, chain_of(setting, target))
    assert holds(target, made.volumes)


def test_target_that_loses_what_it_confirms_is_never_sealed_on(setting: Session) -> None:
    class Losing(MemoryTarget):
        def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
            return StoredObject(source.stat().st_size, sha256)

    target = Losing()
    made, stage = a_set(setting)
    found = resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    with pytest.raises(TargetDamaged, match="is missing"):
        upload_pending(setting, chain_of(setting, target), found)
    assert target.objects == {}
    assert resume_upload(setting, chain_of(setting, healthy := MemoryTarget()))
    assert holds(healthy, made.volumes)


def test_set_whose_base_is_gone_is_given_up_so_that_a_new_chain_can_begin(setting: Session) -> None:
    target = MemoryTarget()
    first, stage = a_set(setting)
    upload_pending(
        setting, chain_of(setting, target), resume.note_pending(setting.paths, SECRET, target.address, first, stage)
    )
    second, stage = a_set(setting, 2, first.volumes)
    resume.note_pending(setting.paths, SECRET, target.address, second, stage)
    del target.objects[VOLUMES + first.volumes[0].name]
    assert resume_upload(setting, chain_of(setting, target)) is None
    assert not setting.paths.pending_upload.exists()


def test_chain_with_a_hole_is_mended_from_what_was_kept_or_refused(setting: Session) -> None:
    setting = replace(setting, config=replace(setting.config, keep_local="chain"))
    target = MemoryTarget()
    made, stage = a_set(setting)
    upload_pending(
        setting, chain_of(setting, target), resume.note_pending(setting.paths, SECRET, target.address, made, stage)
    )
    lost = VOLUMES + made.volumes[1].name
    del target.objects[lost]
    chain = chain_of(setting, target)
    prepare_target(setting, chain, setting.paths.spool, chain.head)
    assert holds(target, made.volumes)
    del target.objects[lost]
    trim_spool(setting.paths.spool, chain.entries, "none")
    with pytest.raises(TargetDamaged, match="--full"):
        prepare_target(setting, chain, setting.paths.spool, chain.head)
    prepare_target(setting, chain, setting.paths.spool, None)


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("chain", 3), ("all", 6)])
def test_spool_keeps_what_was_asked_for(setting: Session, keep: str, left: int) -> None:
    spool = setting.paths.spool
    records = tuple(record(number, volumes=volumes_in(spool, DAYS[number - 1])) for number in (1, 2))
    trim_spool(spool, records, keep)
    assert len(os.listdir(spool)) == left
