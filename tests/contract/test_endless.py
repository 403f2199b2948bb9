"""Objects without end, and objects that change while they are fetched: nothing but what was sealed stays here."""

import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tests.contract.s3_targets import aimed_at
from tests.contract.test_s3 import faking
from tklb.config.schema import Config
from tklb.errors import TargetDamaged, TargetUnreachable
from tklb.model.snapshot import Volume
from tklb.storage.backend import VOLUMES, Backend, Moved, ignore_moved
from tklb.storage.kinds import add_wrappers, make_backend
from tklb.storage.transfer import download_volume

pytestmark = pytest.mark.quick

VOLUME = Volume("duplicity-full.20260101T000000Z.vol1.difftar.gpg", 1000, "0" * 64)


class Endless(MemoryTarget):
    """Serves blocks for as long as they are taken."""

    served = 0

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        with destination.open("xb") as copy:
            while self.served < 100:
                copy.write(b"x" * 1000)
                self.served += 1
                moved(1000)


@pytest.mark.parametrize("is_guarded", [False, True])
def test_object_without_end_is_ended_at_its_sealed_size(tmp_path: Path, is_guarded: bool) -> None:
    endless = Endless()
    target: Backend = add_wrappers(endless, Config()) if is_guarded else endless
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        download_volume(target, VOLUME, tmp_path)
    assert endless.served == 2


def test_file_of_somebody_else_is_copied_no_further_than_its_sealed_size(tmp_path: Path) -> None:
    target = make_backend(f"file://{tmp_path}/target", Config())
    planted = tmp_path / "target" / VOLUMES / VOLUME.name
    planted.touch()
    planted.chmod(0o666)  # so that it is copied and not linked
    os.truncate(planted, 1 << 26)
    (tmp_path / "to").mkdir()
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        download_volume(target, VOLUME, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


SWAP = """
    import itertools, os, sys
    place, beside, *contents = sys.argv[1:]
    contents = [open(path, "rb").read() for path in contents]
    for content in itertools.cycle(contents):
        for path in (place, beside):
            with open(path, "wb") as stream:
                stream.write(content)
        os.chmod(beside, 0o666)
        os.rename(beside, place)
"""


@contextlib.contextmanager
def swapping(place: Path, beside: Path, *contents: bytes) -> Iterator[None]:
    """A process of its own gives a file one content after the other: a thread would mostly wait for its turn."""
    paths = [beside.with_name(f"content-{number}") for number, _ in enumerate(contents)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(SWAP), place, beside, *paths]) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


def test_file_that_is_swapped_all_the_time_is_fetched_as_sealed_or_not_at_all(tmp_path: Path) -> None:
    """By renames and by writes into the same file; what was fetched does not change any more."""
    true, forged = os.urandom(200_000), os.urandom(200_000)
    volume = Volume(VOLUME.name, len(true), hashlib.sha256(true).hexdigest())
    target = make_backend(f"file://{tmp_path}/target", Config())
    place = tmp_path / "target" / VOLUMES / VOLUME.name
    place.write_bytes(true)
    place.chmod(0o666)  # others may write to it: it is copied and not linked
    fetched, forgeries, torn = list[Path](), 0, 0
    with swapping(place, tmp_path / "beside", forged, true):
        until = time.monotonic() + 60  # what a fetch meets is chance: it goes on until all was met, often enough
        while time.monotonic() < until and (
            len(fetched) + forgeries + torn < 400 or min(len(fetched), forgeries) <= 10
        ):
            folder = tmp_path / f"to-{len(fetched)}"
            folder.mkdir(exist_ok=True)
            try:
                download_volume(target, volume, folder)
            except TargetDamaged as exc:
                forgeries += "is not what was sealed" in str(exc)  # as long as the true one; others are cut short
                torn += "is not what was sealed" not in str(exc)
                (folder / volume.name).unlink(missing_ok=True)
            else:
                fetched.append(folder / volume.name)
    assert min(len(fetched), forgeries) > 10, (len(fetched), forgeries, torn)
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in fetched} == {volume.sha256}


def test_listing_that_always_has_one_more_page_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tklb.storage.s3.backend.MOST_LISTED", 20)
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
            for attempt in (lambda name: target.download(name, tmp_path / "copy"), target.delete, target.stat):
                with pytest.raises(ValueError, match="no object name"):
                    attempt(name)
        assert fake.seen == []
