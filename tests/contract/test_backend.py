"""What every kind of target does, the fake one that other tests may use among them; then what is special to folders."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.contract.distant import on_sshd, on_webdav
from tests.contract.memory_target import MemoryTarget
from tests.contract.s3_targets import on_localbucket, on_moto, on_rclone, on_s3rver, on_seaweedfs
from tests.lab.s3 import find_s3rver
from tests.lab.soak import SOAK
from tklb.config.schema import Config
from tklb.errors import AccessRefused, NoSpace, TargetDamaged, TargetFull, TargetUnreachable
from tklb.storage.backend import LEDGER, VOLUMES, Backend, Creation
from tklb.storage.kinds import KINDS as KINDS_OF_TARGET
from tklb.storage.kinds import distant_kind, make_backend, open_backend
from tklb.storage.local import LocalBackend
from tklb.storage.upload import create_object


def on_new_kind() -> Backend:
    """A kind of target that tklb does not have: one more line of its table, wrapped like every distant one."""
    KINDS_OF_TARGET["memory"] = distant_kind(lambda *_: MemoryTarget())
    try:
        return make_backend("memory://somewhere", Config(limit_rate="1G"))
    finally:
        del KINDS_OF_TARGET["memory"]


Maker = Callable[[Path], Backend]
KINDS: dict[str, Maker] = {
    "local": lambda folder: make_backend(f"file://{folder}/target", Config()),
    "memory": lambda folder: MemoryTarget(),
    "s3-moto": on_moto,
    "s3-rclone": on_rclone,
    "sftp": on_sshd,
    "other": on_webdav,
    "new": lambda folder: on_new_kind(),
}
if SOAK:
    KINDS |= {"s3-localbucket": on_localbucket, "s3-seaweedfs": on_seaweedfs}
if SOAK and find_s3rver():
    KINDS["s3-s3rver"] = on_s3rver


CANNOT_EXCLUDE = {"s3-rclone", "s3-s3rver", "other"}  # other writers: these ignore conditions
DISTANT = {"s3-moto", "s3-rclone", "s3-localbucket", "s3-s3rver", "s3-seaweedfs", "sftp", "other"}

pytestmark = pytest.mark.quick


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.distant if kind in DISTANT else ()) for kind in sorted(KINDS)]
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()


def stored(target: Backend, folder: Path, name: str, content: bytes) -> None:
    source = folder / "source"
    source.write_bytes(content)
    target.upload(name, source, hashlib.sha256(content).hexdigest())


def written(folder: Path, content: bytes) -> tuple[Path, str]:
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return folder / digest, digest


def upload_new(target: Backend, name: str, source: tuple[Path, str]) -> Creation:
    return target.upload_new(name, *source)


def test_what_is_put_comes_back(target: Backend, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    stored(target, tmp_path, "volumes/a.gpg", content)
    target.download("volumes/a.gpg", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o600
    assert target.read("volumes/a.gpg", len(content)) == content


def test_put_replaces_whole(target: Backend, tmp_path: Path) -> None:
    stored(target, tmp_path, "ledger/1", b"long content")
    stored(target, tmp_path, "ledger/1", b"short")
    assert target.read("ledger/1", 100) == b"short"


def test_size_is_known_and_the_digest_is_right_where_it_is(target: Backend, tmp_path: Path) -> None:
    stored(target, tmp_path, "volumes/a", b"abc")
    known = target.stat("volumes/a")
    assert known is not None
    assert known.size == 3
    assert known.sha256 in (None, hashlib.sha256(b"abc").hexdigest())
    assert target.stat("volumes/b") is None


def test_list_is_sorted_and_knows_its_prefix(target: Backend, tmp_path: Path) -> None:
    for name in ("volumes/b", "volumes/a", "ledger/c"):
        stored(target, tmp_path, name, b"x")
    assert target.list(VOLUMES) == (("volumes/a", 1), ("volumes/b", 1))
    assert target.list(LEDGER) == (("ledger/c", 1),)


def test_delete_takes_away_once_and_for_all(target: Backend, tmp_path: Path) -> None:
    stored(target, tmp_path, "volumes/a", b"x")
    target.delete("volumes/a")
    target.delete("volumes/a")
    assert target.list(VOLUMES) == ()


def test_missing_object_is_damage(target: Backend, tmp_path: Path) -> None:
    with pytest.raises(TargetDamaged, match="volumes/a is missing"):
        target.download("volumes/a", tmp_path / "copy")
    with pytest.raises(TargetDamaged, match="ledger/a is missing"):
        target.read("ledger/a", 10)
    assert not (tmp_path / "copy").exists()


def test_object_that_is_too_long_is_not_read(target: Backend, tmp_path: Path) -> None:
    stored(target, tmp_path, "ledger/a", b"12345")
    with pytest.raises(TargetDamaged, match="longer than 4 bytes"):
        target.read("ledger/a", 4)


def test_get_never_replaces_a_file(target: Backend, tmp_path: Path) -> None:
    stored(target, tmp_path, "volumes/a", b"x")
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(Exception, match="File exists"):
        target.download("volumes/a", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"


def test_new_object_never_replaces_one(target: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["target"]
    first, second = written(tmp_path, b"first"), written(tmp_path, b"the second")
    result = target.upload_new("ledger/1", *first)
    assert result is (Creation.UNSURE if kind in CANNOT_EXCLUDE else Creation.MADE)
    assert target.upload_new("ledger/1", *second) is Creation.EXISTS
    assert target.upload_new("ledger/1", *first) is Creation.EXISTS
    assert target.read("ledger/1", 100) == b"first"
    assert [name for name, _ in target.list(LEDGER)] == ["ledger/1"]
    target.delete("ledger/1")
    assert target.upload_new("ledger/1", *second) is result


def test_own_object_of_a_lost_answer_is_known_again(target: Backend, tmp_path: Path) -> None:
    path, _ = written(tmp_path, b"mine")
    stored(target, tmp_path, "ledger/2", b"another")
    assert create_object(target, "ledger/1", path) in (Creation.MADE, Creation.UNSURE)
    assert create_object(target, "ledger/1", path) is Creation.UNSURE
    assert create_object(target, "ledger/2", path) is Creation.EXISTS


def test_of_many_writers_of_one_new_object_one_wins(target: Backend, tmp_path: Path) -> None:
    if target.upload_new("ledger/0", *written(tmp_path, b"0")) is Creation.UNSURE:
        pytest.skip("the target cannot exclude other writers")
    sources = [written(tmp_path, f"writer {number}".encode()) for number in range(6)]
    for name in ("ledger/1", "ledger/2", "ledger/3"):
        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(partial(upload_new, target, name), sources))
        assert sorted(result.name for result in results) == ["EXISTS"] * 5 + ["MADE"]
        assert target.read(name, 100) == f"writer {results.index(Creation.MADE)}".encode()
    target.tidy()
    assert len(target.list(LEDGER)) == 4


def test_names_that_lead_elsewhere_are_refused(target: Backend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    for name in ("", "a", "volumes/", "volumes/../x", "volumes/a/b", "/etc/passwd", "volumes/.a", "ledger/\n"):
        attempts: tuple[Callable[[], object], ...] = (
            partial(target.upload, name, tmp_path / "source", ""),
            partial(target.download, name, tmp_path / "copy"),
            partial(target.read, name, 10),
            partial(target.stat, name),
            partial(target.delete, name),
        )
        for attempt in attempts:
            with pytest.raises(ValueError, match="no object name"):
                attempt()


# ---------------------------------------------------------------- folders


def test_folder_is_made_private_by_make_alone(tmp_path: Path) -> None:
    with pytest.raises(TargetUnreachable, match="no tklb target"):
        open_backend(f"file://{tmp_path}/deep/target", Config())
    made = make_backend(f"file://{tmp_path}/deep/target", Config())
    assert isinstance(made, LocalBackend)
    for part in ("", "volumes", "ledger"):
        assert (tmp_path / "deep/target" / part).stat().st_mode & 0o7777 == 0o700
    assert open_backend(f"file://{tmp_path}/deep/target", Config()).spool == tmp_path / "deep/target/volumes"


def test_making_a_target_twice_keeps_what_is_there(tmp_path: Path) -> None:
    stored(make_backend(f"file://{tmp_path}/t", Config()), tmp_path, "volumes/a", b"x")
    assert make_backend(f"file://{tmp_path}/t", Config()).list(VOLUMES) == (("volumes/a", 1),)


def test_empty_mount_point_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(TargetUnreachable, match="mounted"):
        open_backend(f"file://{tmp_path}", Config())


def test_file_or_link_in_place_of_a_folder_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetUnreachable):
        make_backend(f"file://{tmp_path}/file", Config())
    make_backend(f"file://{tmp_path}/t", Config())
    (tmp_path / "t/ledger").rmdir()
    (tmp_path / "t/ledger").symlink_to("/etc")
    with pytest.raises(TargetUnreachable):
        open_backend(f"file://{tmp_path}/t", Config())


def test_link_and_folder_among_the_objects_are_none(tmp_path: Path) -> None:
    target = make_backend(f"file://{tmp_path}/t", Config())
    (tmp_path / "t/volumes/link").symlink_to("/etc/passwd")
    (tmp_path / "t/volumes/folder").mkdir()
    assert target.list(VOLUMES) == ()
    assert target.stat("volumes/link") is None
    for name in ("link", "folder"):
        with pytest.raises((TargetDamaged, TargetUnreachable)):
            target.download(f"volumes/{name}", tmp_path / "copy")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", tmp_path / "disk"], check=True)
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_full_disk_is_named_and_nothing_half_written_stays(small_disk: Path, tmp_path: Path) -> None:
    target = make_backend(f"file://{small_disk}/t", Config())
    (tmp_path / "source").write_bytes(bytes(2_000_000))
    with pytest.raises(TargetFull):
        target.upload("volumes/a", tmp_path / "source", "")
    assert os.listdir(small_disk / "t/volumes") == []


def test_full_disk_of_this_machine_is_not_blamed_on_the_target(small_disk: Path, tmp_path: Path) -> None:
    target = make_backend(f"file://{tmp_path}/t", Config())
    stored(target, tmp_path, "volumes/a", bytes(2_000_000))
    with pytest.raises(NoSpace):
        target.download("volumes/a", small_disk / "copy")
    assert os.listdir(small_disk) == []


def test_disk_mounted_read_only_is_refused(small_disk: Path, tmp_path: Path) -> None:
    target = make_backend(f"file://{small_disk}/t", Config())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(AccessRefused):
        target.upload("volumes/a", tmp_path / "source", "")
