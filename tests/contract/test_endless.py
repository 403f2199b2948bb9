"""Objects without end, and objects that change while they are fetched: nothing but what was sealed stays here."""

import contextlib
import hashlib
import itertools
import os
import threading
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tests.contract.s3_targets import aimed_at
from tests.contract.test_s3 import faking
from tklb.config import Config
from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.model import Volume
from tklb.store.objects import fetch_volumes
from tklb.store.target import VOLUMES, Moved, Target, idle
from tklb.store.targets import guarded, make_target

VOLUME = Volume("duplicity-full.20260101T000000Z.vol1.difftar.gpg", 1000, "0" * 64)


class Endless(MemoryTarget):
    """Serves blocks for as long as they are taken."""

    served = 0

    def get(self, name: str, destination: Path, moved: Moved = idle) -> None:
        with destination.open("xb") as copy:
            while self.served < 100:
                copy.write(b"x" * 1000)
                self.served += 1
                moved(1000)


@pytest.mark.parametrize("is_guarded", [False, True])
def test_object_without_end_is_ended_at_its_sealed_size(tmp_path: Path, is_guarded: bool) -> None:
    endless = Endless()
    target: Target = guarded(endless, Config()) if is_guarded else endless
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        fetch_volumes(target, (VOLUME,), tmp_path)
    assert endless.served == 2


def test_file_of_somebody_else_is_copied_no_further_than_its_sealed_size(tmp_path: Path) -> None:
    target = make_target(f"file://{tmp_path}/target", Config())
    planted = tmp_path / "target" / VOLUMES / VOLUME.name
    planted.touch()
    planted.chmod(0o666)  # so that it is copied and not linked
    os.truncate(planted, 1 << 26)
    (tmp_path / "to").mkdir()
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        fetch_volumes(target, (VOLUME,), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_file_that_is_swapped_all_the_time_is_fetched_as_sealed_or_not_at_all(tmp_path: Path) -> None:
    """By renames and by writes into the same file; what was fetched does not change any more."""
    true, forged = os.urandom(200_000), os.urandom(200_000)
    volume = Volume(VOLUME.name, len(true), hashlib.sha256(true).hexdigest())
    target = make_target(f"file://{tmp_path}/target", Config())
    place, beside, over = tmp_path / "target" / VOLUMES / VOLUME.name, tmp_path / "beside", threading.Event()
    place.write_bytes(true)
    place.chmod(0o666)  # others may write to it: it is copied and not linked

    def swap() -> None:
        while not over.is_set():
            for content in (forged, true):
                place.write_bytes(content)
                beside.write_bytes(content)
                beside.chmod(0o666)
                beside.rename(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    fetched, refused = list[Path](), 0
    try:
        for number in range(5000):
            if number >= 400 and min(len(fetched), refused) > 10:
                break
            folder = tmp_path / f"to-{number}"
            folder.mkdir()
            with contextlib.suppress(TargetDamaged):
                fetch_volumes(target, (volume,), folder)
                fetched.append(folder / volume.name)
                continue
            refused += 1
    finally:
        over.set()
        swapping.join()
    assert min(len(fetched), refused) > 10
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in fetched} == {volume.sha256}


def test_listing_that_always_has_one_more_page_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tklb.store.s3.MOST_LISTED", 20)
    pages = itertools.count()

    def answer(*_: object) -> tuple[int, dict[str, str], bytes]:
        number = next(pages)
        assert number < 100
        entry = f"<Contents><Key>some/prefix/volumes/a{number:09}</Key><Size>1</Size></Contents>"
        token = f"<IsTruncated>true</IsTruncated><NextContinuationToken>t{number}</NextContinuationToken>"
        return 200, {}, f"<ListBucketResult>{token}{entry}</ListBucketResult>".encode()

    with faking(answer) as fake, pytest.raises(TargetUnreachable, match="no end"):
        aimed_at(fake.service, tmp_path).list(VOLUMES)


@pytest.mark.parametrize("key", ["some/prefix/volumes/../../../../etc/cron.d/x", "/etc/shadow", "other/volumes/a", ""])
def test_names_that_a_server_invents_lead_nowhere(tmp_path: Path, key: str) -> None:
    """They are told as they are, and no operation takes them."""
    page = f"<ListBucketResult><Contents><Key>{key}</Key><Size>1</Size></Contents></ListBucketResult>".encode()
    with faking(lambda *_: (200, {}, page)) as fake:
        target = aimed_at(fake.service, tmp_path)
        listed = [name for name, _ in target.list(VOLUMES)]
        fake.seen.clear()
        for name in listed:
            for attempt in (lambda name: target.get(name, tmp_path / "copy"), target.delete, target.stat):
                with pytest.raises(ValueError, match="no object name"):
                    attempt(name)
        assert fake.seen == []
