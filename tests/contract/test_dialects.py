"""Services that call themselves compatible with S3 and lack something: tklb asks another way, and asks only once."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.s3_targets import aimed_at
from tests.lab import s3 as lab
from tests.lab.fault_proxy import Dialect, FaultProxy
from tests.lab.seaweedfs import shared_seaweedfs
from tests.lab.soak import SOAK, some
from tklb.errors import AccessRefused, TargetUnfit, TklbError
from tklb.storage.backend import VOLUMES, Creation
from tklb.storage.probe import check_target
from tklb.storage.s3 import backend as s3_backend
from tklb.storage.s3.backend import S3Backend
from tklb.storage.upload import remove_leftovers
from tklb.storage.wrappers.retry import Retry

OLD = "duplicity-full.20260101T000000Z.vol1.difftar.gpg"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module", params=some(["moto", "rclone"], 2))
def service(request: pytest.FixtureRequest) -> lab.Service:
    return lab.shared(request.param)


@pytest.fixture
def proxy(service: lab.Service) -> Iterator[FaultProxy]:
    with FaultProxy(service.port) as proxy:
        yield proxy


def reach(service: lab.Service, proxy: FaultProxy, folder: Path) -> S3Backend:
    """A target in a bucket that somebody made, through the proxy."""
    direct = aimed_at(service, folder)
    direct.make()
    direct.close()
    bucket = direct._address.bucket
    return aimed_at(replace(service, endpoint=f"http://127.0.0.1:{proxy.port}"), folder, bucket=bucket)


def put(target: S3Backend, folder: Path, name: str, content: bytes) -> tuple[int, str | None, int]:
    source, moved = folder / "source", 0

    def count(amount: int) -> None:
        nonlocal moved
        moved += amount

    source.write_bytes(content)
    stored = target.upload(name, source, hashlib.sha256(content).hexdigest(), count)
    return stored.size, stored.sha256, moved


@pytest.mark.parametrize("dialect", Dialect)
def test_target_of_each_dialect_is_usable(
    service: lab.Service, proxy: FaultProxy, tmp_path: Path, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_backend, "WHOLE", 6 << 20)
    monkeypatch.setattr(s3_backend, "PART", 5 << 20)
    target = reach(service, proxy, tmp_path)
    proxy.dialect = dialect
    target.make()
    notes = check_target(Retry(target, pytest.fail, lambda: 0.5), now)
    assert any("delete" in note for note in (*notes.odd, *notes.facts)) is (dialect in (Dialect.APPEND, Dialect.BARE))
    for name, size in (("volumes/small.gpg", 10), ("volumes/large.gpg", 11 << 20)):
        content = os.urandom(size)
        digest = hashlib.sha256(content).hexdigest()
        length, confirmed, moved = put(target, tmp_path, name, content)
        assert (length, moved) == (size, size)
        assert confirmed in (digest, None)
        assert target.read(name, size) == content
        known = target.stat(name)
        assert known is not None
        assert known.size == size
    assert [entry.name for entry in target.list(VOLUMES)] == ["volumes/large.gpg", "volumes/small.gpg"]
    target.tidy()
    target.close()


def test_what_a_service_refused_once_is_not_sent_again(service: lab.Service, proxy: FaultProxy, tmp_path: Path) -> None:
    target = reach(service, proxy, tmp_path)
    proxy.dialect = Dialect.R2
    put(target, tmp_path, "volumes/a.gpg", b"a")
    proxy.break_at(None)
    put(target, tmp_path, "volumes/b.gpg", b"b")
    assert [seen.method for seen in proxy.seen] == ["PUT"]
    target.close()


def test_service_that_refuses_conditions_gets_new_objects_all_the_same(
    service: lab.Service, proxy: FaultProxy, tmp_path: Path
) -> None:
    target = reach(service, proxy, tmp_path)
    proxy.dialect = Dialect.UNCONDITIONAL
    source = tmp_path / "entry"
    source.write_bytes(b"entry")
    digest = hashlib.sha256(b"entry").hexdigest()
    assert target.upload_new("ledger/1", source, digest) is Creation.UNSURE
    assert target.upload_new("ledger/1", source, digest) is Creation.EXISTS
    assert target.upload_new("ledger/2", source, digest) is Creation.UNSURE
    refused = [seen for seen in proxy.seen if seen.method == "PUT"]
    assert len(refused) <= 4  # with a checksum, without one, and then one for each object
    target.close()


def test_leftovers_that_may_not_be_deleted_stay_and_stop_nothing(
    service: lab.Service, proxy: FaultProxy, tmp_path: Path
) -> None:
    target = reach(service, proxy, tmp_path)
    put(target, tmp_path, VOLUMES + OLD, b"x")
    proxy.dialect = Dialect.APPEND
    left = remove_leftovers(Retry(target, pytest.fail, lambda: 0.5), ())
    assert left[:2] == ((), (OLD,))
    assert "s3:DeleteObject" in left.refusal
    proxy.break_at(None)
    assert remove_leftovers(target, (), is_write_once=True) == ((), (OLD,), "")
    assert {seen.method for seen in proxy.seen} == {"GET"}
    proxy.dialect = None
    assert remove_leftovers(target, ()) == ((OLD,), (), "")
    target.close()


def test_refused_right_is_named(service: lab.Service, proxy: FaultProxy, tmp_path: Path) -> None:
    target = reach(service, proxy, tmp_path)
    proxy.dialect = Dialect.APPEND
    bucket = target._address.bucket
    with pytest.raises(AccessRefused, match=f"s3:DeleteObject on {bucket}/some/prefix/"):
        target.delete("volumes/a.gpg")
    target.close()


def test_what_a_service_lacks_is_neither_tried_again_nor_called_out_of_reach(
    service: lab.Service, proxy: FaultProxy, tmp_path: Path
) -> None:
    target = reach(service, proxy, tmp_path)
    proxy.dialect = Dialect.S3RVER
    with pytest.raises(TklbError) as caught:
        target._service.ask("list_multipart_uploads", {"Prefix": "x"})
    assert isinstance(caught.value, TargetUnfit)
    assert not caught.value.is_transient
    assert "cannot reach" not in str(caught.value)
    assert "NotImplemented to ListMultipartUploads" in str(caught.value)
    target.close()


@pytest.mark.parametrize("kind", ["localbucket", *(["s3rver", "seaweedfs", "rclone", "moto"] if SOAK else [])])
def test_listing_of_more_than_one_page_is_whole(kind: str, tmp_path: Path) -> None:
    if kind == "s3rver" and not lab.find_s3rver():
        pytest.skip("needs s3rver")
    service = shared_seaweedfs().service if kind == "seaweedfs" else lab.shared(kind)
    target = aimed_at(service, tmp_path)
    target.make()
    wanted = [f"volumes/duplicity-full.20260101T000000Z.vol{number}.difftar.gpg" for number in range(1, 1006)]
    if kind == "localbucket":  # which has each object as a file
        folder = service.folder / target._address.bucket / "some/prefix/volumes"
        folder.mkdir(parents=True)
        for name in wanted:
            (folder.parent / name).write_bytes(b"x")
    else:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: target.upload(name, source, hashlib.sha256(b"x").hexdigest()), wanted))
    assert [name for name, _ in target.list(VOLUMES)] == sorted(wanted)
    assert remove_leftovers(target, [name.removeprefix(VOLUMES) for name in wanted[3:]]).gone == tuple(
        sorted(name.removeprefix(VOLUMES) for name in wanted[:3])
    )
    target.close()
