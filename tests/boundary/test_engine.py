"""The engine against real duplicity and gpg: what goes in comes out, and what went wrong is told.

The oracle of most tests is stock duplicity with stock gpg: nothing of ours is in the way back.
"""

import hashlib
import io
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.lab.soak import some
from tklb.config.schema import Config
from tklb.crypto.gpg import decrypt, encrypt
from tklb.crypto.key_file import format_key, write_new
from tklb.crypto.secret import make_secret
from tklb.engine.duplicity import (
    CheckedVolumes,
    EncodedSet,
    EncodeOrder,
    Engine,
    clean_spool,
    count_shards,
    encode_all,
    select_restore_volumes,
    shard_prefix,
)
from tklb.engine.duplicity_cli import LogEntry, parse_log, reason, select_problems
from tklb.engine.picked_files import Identity, SourceTree, format_name, parse_names, pick
from tklb.errors import Interrupted, NoSpace, ProgramFailed, TargetDamaged, TargetFull
from tklb.model.snapshot import Shard, Volume, snapshot_id
from tklb.model.volume_names import VOLUME_NAME
from tklb.storage.backend import Backend
from tklb.storage.check import ObjectProblem, check_objects, find_unexpected
from tklb.storage.duplicity import VERSION
from tklb.storage.kinds import make_backend
from tklb.storage.transfer import download_volume

SECRET = make_secret(lambda count: bytes(range(count)))
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")
HOSTILE = [
    b"plain", b"new\nline", b"tab\tbed", b"back\\slash", b"car\rriage", b"\xff\xfe not utf-8", b"-dash", b" space ",
    b"\x01", b"*", b"?", b"[a-z]", b"[", b"!x", b"#x", b"'q'", b'"d"', b"$HOME", b"%41", "é\u0301".encode(),
    b"ignorecase:x", b"x" * 255, b"vol1.difftar", b"snapshot", b"multivol_snapshot", b"..x", b"{a,b}", b"1",
]  # fmt: skip


class Machine:
    """A source, a target and an engine, and the snapshots taken so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        self.target: Backend = make_backend(f"file://{folder}/target", Config())
        assert self.target.spool is not None
        self.spool: Path = self.target.spool
        self.engine = Engine(folder / "cache", SECRET, patience=60)
        self.sealed: tuple[Volume, ...] = ()
        self.last = START - timedelta(hours=1)

    def order(
        self, *, forced: Iterable[bytes] = (), full: bool = False, names: Iterable[bytes] | None = None
    ) -> EncodeOrder:
        listed = self.folder / "names"
        listed.write_bytes(b"".join(name + b"\0" for name in (self.names() if names is None else names)))
        edited = self.folder / "edited"
        edited.write_bytes(b"".join(name + b"\0" for name in forced))
        return EncodeOrder(
            spool=self.spool,
            names=listed,
            time=self.last + timedelta(hours=1),
            base=() if full else self.sealed,
            source=bytes(self.source),
            forced=edited,
        )

    def encode(
        self, *, forced: Iterable[bytes] = (), full: bool = False, names: Iterable[bytes] | None = None
    ) -> EncodedSet:
        order = self.order(forced=forced, full=full, names=names)
        encoded = self.engine.encode(order)
        self.sealed = (*order.base, *encoded.volumes)
        self.last = order.time
        return encoded

    def names(self) -> Iterator[bytes]:
        for folder, folders, files in os.walk(bytes(self.source)):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    yield os.path.relpath(path, bytes(self.source))

    def fetched(self, name: str = "volumes") -> Path:
        volumes = self.folder / name
        volumes.mkdir(mode=0o700)
        for volume in select_restore_volumes(self.sealed):
            download_volume(self.target, volume, volumes)
        return volumes

    def decode(self, name: str = "stage", engine: Engine | None = None) -> Path:
        volumes = self.fetched(f"{name}-volumes")
        stage = self.folder / name
        stage.mkdir()
        (engine or self.engine).decode(lying(volumes), stage, Shard("", self.last))
        return stage

    def stock_restore(self, name: str = "stock", *options: str, moment: datetime | None = None) -> Path:
        """What a person without tklb does, with the key file, gpg and duplicity."""
        key = self.folder / f"{name}.asc"
        write_new(key, format_key(SECRET).encode())
        # gpg-agent's socket lies in the home, and a socket's name is short
        home = tempfile.mkdtemp(prefix="tklb-")
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "LC_ALL": "C.UTF-8"}
        opened = subprocess.run(["gpg", "-d", key], env=environment, capture_output=True, check=True)
        words = ["restore", "--numeric-owner", *(["--time", moment.isoformat()] if moment else []), *options]
        restored = subprocess.run(
            [Path(sys.executable).with_name("duplicity"), *words, f"file://{self.spool}", self.folder / name],
            env={**environment, "PASSPHRASE": opened.stdout.decode().strip()},
            capture_output=True,
            check=False,
            timeout=60,
        )
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
        shutil.rmtree(home)
        assert restored.returncode == 0, restored.stdout + restored.stderr
        return self.folder / name

    def left_over(self) -> list[str]:
        """Whatever a run should have taken away again."""
        kept = {"archive-a", "archive-a.json", "gpg-a"}
        return [name for name in os.listdir(self.engine.cache) if name not in kept] + [
            name for name in os.listdir(self.spool) if name.startswith(".")
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tmp_path.chmod(0o700)
    return Machine(tmp_path)


def tree(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below a folder that duplicity can keep, times to the second."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, folders, files in os.walk(bytes(folder)):
        for path in (os.path.join(name, each) for each in (*folders, *files)):
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFSOCK:
                continue
            content: object = None
            if kind == stat.S_IFREG:
                content = content_sha256(Path(os.fsdecode(path)))
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            moment = max(0, int(status.st_mtime)) if kind != stat.S_IFLNK else None
            found[path[len(bytes(folder)) :]] = (status.st_mode, status.st_uid, status.st_gid, moment, content)
    return found


def lying(folder: Path) -> CheckedVolumes:
    """All volumes there are in a folder."""
    return CheckedVolumes(folder, tuple(sorted(path.name for path in folder.iterdir())))


def content_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(path: Path, content: bytes, second: int = 1_700_000_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (second, second))
    return path


def filled(source: Path, seed: int) -> None:
    """Some of everything. Another seed edits, adds and removes."""
    chance, second = random.Random(seed), 1_700_000_000 + seed
    written(source / "etc/motd", b"hello %d\n" % seed, second)
    written(source / "etc/same", b"never changed\n")
    written(source / "big", chance.randbytes(200_000) * 3, second)
    written(source / "deep/er/and/deeper/file", chance.randbytes(chance.randrange(70_000)), second)
    written(source / "empty", b"")
    for name in chance.sample(HOSTILE, 20):
        written(source / "odd" / os.fsdecode(name), name + b"%d" % seed, second)
    (source / "folder").mkdir(exist_ok=True)
    (source / f"link{seed}").symlink_to(f"somewhere/{seed}")
    os.mkfifo(source / f"fifo{seed}")
    if os.geteuid() == 0:
        os.mknod(source / f"null{seed}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(source / "etc/motd", 12345 + seed, 54321)
        (source / "etc/motd").chmod(0o4755)


# ---------------------------------------------------------------- there and back


def test_version_of_duplicity_is_the_one_we_know() -> None:
    """Every change made inside duplicity, and every code judged, was checked against this version's source."""
    from importlib.metadata import version

    assert version("duplicity") == VERSION == "3.2.1"


def test_full_and_increments_come_back_with_stock_tools_alone(machine: Machine) -> None:
    moments = []
    for seed in range(4):
        filled(machine.source, seed)
        if seed:
            shutil.rmtree(machine.source / "deep")
            written(machine.source / "deep/er/and/deeper/file", b"%d" % seed, 1_700_000_100 + seed)
        machine.encode()
        moments.append((machine.last, tree(machine.source)))
    for number, (moment, expected) in some(enumerate(moments), 2, first=1):
        assert tree(machine.stock_restore(f"stock{number}", moment=moment)) == expected
    assert tree(machine.decode()) == moments[-1][1]
    assert machine.left_over() == []


def test_every_hostile_name_is_kept_exactly(machine: Machine) -> None:
    for name in HOSTILE:
        written(machine.source / os.fsdecode(name) / os.fsdecode(name), name)
    encoded = machine.encode()
    assert encoded.skipped == ()
    assert set(encoded.as_read) == {bytes(machine.source / os.fsdecode(name) / os.fsdecode(name)) for name in HOSTILE}
    expected = tree(machine.source)
    assert len(expected) == 2 * len(HOSTILE)
    assert tree(machine.decode()) == expected
    assert tree(machine.stock_restore()) == expected


def test_only_listed_names_and_the_folders_above_them_are_taken(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode(names=[b"etc/motd", b"deep/er"])
    assert set(tree(machine.decode())) == {b"/etc", b"/etc/motd", b"/deep", b"/deep/er"}


def test_name_that_left_the_list_is_deleted_in_the_next_set(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    machine.encode(names=[b"etc/motd"])
    assert set(tree(machine.stock_restore())) == {b"/etc", b"/etc/motd"}


def test_file_that_became_a_folder_and_the_reverse(machine: Machine) -> None:
    written(machine.source / "one", b"file")
    written(machine.source / "two/file", b"file")
    machine.encode()
    (machine.source / "one").unlink()
    written(machine.source / "one/file", b"file")
    shutil.rmtree(machine.source / "two")
    written(machine.source / "two", b"file")
    machine.encode()
    assert tree(machine.stock_restore()) == tree(machine.source)
    assert tree(machine.decode()) == tree(machine.source)


def test_edit_that_keeps_size_and_second_is_taken_when_forced(machine: Machine) -> None:
    written(machine.source / "forced", b"before")
    written(machine.source / "unforced", b"before")
    machine.encode()
    written(machine.source / "forced", b"after!")
    written(machine.source / "unforced", b"after!")
    encoded = machine.encode(forced=[b"forced"])
    assert set(encoded.as_read) == {bytes(machine.source / "forced")}
    stage = machine.stock_restore()
    assert (stage / "forced").read_bytes() == b"after!"
    assert (stage / "unforced").read_bytes() == b"before"


def test_increment_that_reads_everything_anew_is_right_and_stores_only_what_differs(machine: Machine) -> None:
    filled(machine.source, 1)
    written(machine.source / "same", random.Random(3).randbytes(2_000_000))
    written(machine.source / "edited", b"before")
    machine.encode()
    (machine.source / "link1").unlink()
    written(machine.source / "edited", b"after!")
    encoded = machine.encode(forced=machine.names())
    assert {path for path, state in tree(machine.source).items() if stat.S_ISREG(state[0])} == {  # type: ignore[call-overload]
        path.removeprefix(bytes(machine.source)) for path in encoded.as_read
    }
    assert sum(volume.size for volume in encoded.volumes) < 50_000
    assert tree(machine.stock_restore()) == tree(machine.decode()) == tree(machine.source)


def test_volumes_are_of_the_size_asked_for_and_big_files_span_them(machine: Machine) -> None:
    written(machine.source / "big", random.Random(1).randbytes(7_000_000))
    order = machine.order()
    encoded = machine.engine.encode(EncodeOrder(**{**_fields(order), "volume_megabytes": 2}))
    sizes = [volume.size for volume in encoded.volumes if "vol" in volume.name]
    assert len(sizes) > 1
    assert max(sizes) < 4 << 20, "what is on its way through the pipes comes on top"
    machine.sealed, machine.last = encoded.volumes, order.time
    assert tree(machine.stock_restore()) == tree(machine.source)


def _fields(order: EncodeOrder) -> dict[str, object]:
    return {name: getattr(order, name) for name in EncodeOrder.__slots__}


def test_what_is_read_is_told_with_its_digest(machine: Machine) -> None:
    filled(machine.source, 1)
    encoded = machine.encode()
    files = {bytes(machine.source) + path: state[-1] for path, state in tree(machine.source).items()
             if stat.S_ISREG(state[0])}  # fmt: skip  # type: ignore[call-overload]
    assert encoded.as_read == files
    assert (encoded.changed, encoded.skipped) == ((), ())
    written(machine.source / "etc/motd", b"edited")
    written(machine.source / "big", (machine.source / "big").read_bytes() + b"more", 1_700_000_009)
    again = machine.encode()
    assert again.as_read == {
        bytes(machine.source / "etc/motd"): hashlib.sha256(b"edited").hexdigest(),
        bytes(machine.source / "big"): hashlib.sha256((machine.source / "big").read_bytes()).hexdigest(),
    }
    assert sum(volume.size for volume in again.volumes) < 20_000, "a big file with a small edit costs little"


def test_volumes_are_named_with_size_and_digest(machine: Machine) -> None:
    filled(machine.source, 1)
    encoded = machine.encode()
    assert {volume.name for volume in encoded.volumes} == set(os.listdir(machine.spool))
    for volume in encoded.volumes:
        content = (machine.spool / volume.name).read_bytes()
        assert (volume.size, volume.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (machine.spool / volume.name).stat().st_mode & 0o7777 == 0o600
        assert VOLUME_NAME.fullmatch(volume.name)


def test_progress_counts_bytes_read(machine: Machine) -> None:
    written(machine.source / "big", bytes(40_000_000))
    told: list[int] = []
    machine.engine.encode(machine.order(), told.append)
    assert told == sorted(told)
    assert not told or told[-1] <= 40_000_000


@ROOT_ONLY
def test_time_before_1970_is_no_failure(machine: Machine) -> None:
    written(machine.source / "old", b"x", -1000)
    machine.encode()
    assert (machine.decode() / "old").stat().st_mtime == 0


# ---------------------------------------------------------------- what changes under the reader


def test_vanished_names_are_told(machine: Machine) -> None:
    filled(machine.source, 1)
    encoded = machine.encode(names=[b"etc/motd", b"gone", b"gone too/below"])
    assert {item.item for item in encoded.skipped} == {
        bytes(machine.source / name) for name in ("gone", "gone too", "gone too/below")
    }
    assert set(tree(machine.decode())) == {b"/etc", b"/etc/motd"}


def test_what_became_a_socket_is_told(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.source / "socket"))
        encoded = machine.encode(names=[b"socket"])
    assert [item.item for item in encoded.skipped] == [bytes(machine.source / "socket")]


def test_link_in_place_of_a_folder_leads_nowhere(machine: Machine, tmp_path: Path) -> None:
    """A user may swap a folder of his for a link to where only root reads, between the scan and the reading."""
    written(tmp_path / "private/file", b"secret")
    (machine.source / "folder").symlink_to(tmp_path / "private")
    encoded = machine.encode(names=[b"folder/file", b"folder/more/file"])
    assert encoded.as_read == {}
    assert bytes(machine.source / "folder/file") in {item.item for item in encoded.skipped}
    assert set(tree(machine.decode())) == {b"/folder"}


ANOTHER, OWNER = "another file took its place before it was read", "its owner or mode changed before it was read"
OTHER = "it became something else before it was read"
SWAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file of its own under the name": (lambda path: swap_in(path, b"of the attacker"), ANOTHER),
    "the same content in another file": (lambda path: swap_in(path, b"as walked"), ANOTHER),
    "another owner": (lambda path: os.chown(path, 1500, 1500), OWNER),
    "another mode": (lambda path: path.chmod(0o600), OWNER),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), OTHER),
    "a link": (lambda path: (path.unlink(), path.symlink_to("/etc/shadow")), OTHER),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), OTHER),
    "nothing": (lambda path: path.unlink(), "it vanished"),
}  # fmt: skip


def swap_in(path: Path, content: bytes) -> None:
    written(path.with_name("beside"), content)
    os.rename(path.with_name("beside"), path)


@ROOT_ONLY
@pytest.mark.parametrize("swap", SWAPS)
def test_what_becomes_of_a_file_between_look_and_open_ends_no_backup(tmp_path: Path, swap: str) -> None:
    """duplicity passes over a file that is not there, and ends for most other errors."""
    path = written(tmp_path / "folder/tool", b"as walked")
    tree = SourceTree(os.fsencode(tmp_path))
    found = tree.find((b"folder", b"tool"))
    assert found
    SWAPS[swap][0](path)
    with pytest.raises(FileNotFoundError):
        tree.open((b"folder", b"tool"), found[0])


@ROOT_ONLY
def test_only_the_file_that_the_walk_saw_is_stored(machine: Machine) -> None:
    """Of another one the snapshot would have the content under the owner and mode that the walk saw."""
    names, reasons = [], {}
    for swap, (change, why) in SWAPS.items():
        path = written(machine.source / swap / "tool", b"as walked")
        path.chmod(0o4755)
        status = os.lstat(path)
        identity = Identity(status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid)
        names.append(format_name(b"/" + bytes(path.relative_to(machine.source)), identity))
        change(path)
        reasons[bytes(path)] = why
    encoded = machine.encode(names=names)
    assert encoded.as_read == {}
    assert {item.item: item.reason for item in encoded.skipped} == reasons
    assert set(tree(machine.decode())) == {b"/" + swap.encode() for swap in SWAPS}


@ROOT_ONLY
def test_file_that_the_walk_saw_is_stored_with_content_written_since(machine: Machine) -> None:
    path = written(machine.source / "folder/log", b"as walked")
    status = os.lstat(path)
    identity = Identity(status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid)
    path.write_bytes(b"written since")
    encoded = machine.encode(names=[format_name(b"/folder/log", identity)])
    assert encoded.as_read == {bytes(path): content_sha256(path)}
    assert encoded.skipped == ()


def test_file_that_grows_while_read_is_told_and_hashed_as_stored(machine: Machine) -> None:
    path = written(machine.source / "log", bytes(20_000_000))
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as log:
            while not stop.is_set():
                log.write(b"x" * 1000)
                log.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        encoded = machine.encode()
    finally:
        stop.set()
        writer.join()
    assert encoded.changed == (bytes(path),)
    assert content_sha256(machine.stock_restore() / "log") == encoded.as_read[bytes(path)]
    # against signatures of just what was stored; forced, for all of that may have been within one second
    machine.encode(forced=[b"log"])
    assert content_sha256(machine.stock_restore("settled") / "log") == content_sha256(path)


@ROOT_ONLY
def test_read_error_in_mid_file_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock duplicity ends with status 0 and "Errors 0" here, and a file cut short in the backup."""
    path = written(machine.source / "bad", random.Random(1).randbytes(1_000_000))
    written(machine.source / "good", b"x")
    through(monkeypatch, path, "read:error=EIO:when=3+")
    encoded = machine.encode()
    assert [item.item for item in encoded.skipped] == [bytes(path)]
    assert "Input/output error" in encoded.skipped[0].reason
    assert set(encoded.as_read) == {bytes(machine.source / "good")}


@ROOT_ONLY
def test_file_that_cannot_be_opened_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(machine.source / "folder/bad", b"x")
    through(monkeypatch, path.parent, "openat:error=EIO")  # files are opened below their folders
    encoded = machine.encode()
    assert [(item.item, item.reason) for item in encoded.skipped] == [(bytes(path), "Input/output error")]


def through(monkeypatch: pytest.MonkeyPatch, path: Path, injection: str) -> None:
    """Let the system calls of the worker on one file fail."""
    from tklb.engine import runner

    tracer = ["strace", "-D", "-f", "-o", "/dev/null", "-P", str(path), "-e", f"inject={injection}"]
    plain = runner.python_argv
    monkeypatch.setattr(runner, "python_argv", lambda module: [*tracer, *plain(module)])


# ---------------------------------------------------------------- the cache is only a cache


HARMS: tuple[Callable[[Path], object], ...] = (
    lambda archive: shutil.rmtree(archive.parent),
    shutil.rmtree,
    lambda archive: archive.with_name("archive-a.json").unlink(),
    lambda archive: archive.with_name("archive-a.json").write_text("[]"),
    lambda archive: next(archive.glob("*.manifest")).unlink(),
    lambda archive: next(archive.glob("*sigtar*")).write_bytes(b""),
    lambda archive: written(archive / "duplicity-full.20260201T000000Z.manifest", b"foreign"),
    lambda archive: written(archive / "duplicity-full-signatures.20260301T120000Z.sigtar.part", b"torn"),
)


def test_increment_is_right_whatever_happened_to_the_cache(machine: Machine) -> None:
    filled(machine.source, 1)
    harms = some(HARMS, 2)
    edited = [written(machine.source / f"edited{number}", b"before") for number in range(len(harms))]
    machine.encode()
    for harm, path in zip(harms, edited, strict=True):
        harm(machine.engine.cache / "archive-a")
        written(path, b"after it", 1_700_000_009)
        assert set(machine.encode().as_read) == {bytes(path)}
    assert tree(machine.stock_restore()) == tree(machine.source)


def test_cache_of_another_chain_with_the_same_labels_is_not_believed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Machine(tmp_path / "b")
    for each, content in ((machine, b"ours"), (other, b"theirs")):
        written(each.source / "file", content)
        written(each.source / "file2", content)
        each.encode()
    shutil.rmtree(machine.engine.cache)
    shutil.copytree(other.engine.cache, machine.engine.cache)
    written(machine.source / "file", b"ours again, and more of it", 1_700_000_009)
    machine.encode()
    assert tree(machine.stock_restore()) == tree(machine.source)


def test_damaged_signatures_are_refused_when_the_cache_must_be_made_anew(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    shutil.rmtree(machine.engine.cache)
    flipped(next(machine.spool.glob("*sigtar*")))
    with pytest.raises(TargetDamaged, match="sigtar"):
        machine.encode()
    assert len(os.listdir(machine.spool)) == 3


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_nothing_is_added_to_a_chain_with_a_hole(machine: Machine, harm: Callable[[Path], object]) -> None:
    """duplicity would take the set for an unfinished one, and delete what is left of it."""
    filled(machine.source, 1)
    machine.encode()
    harm(next(machine.spool.glob("*vol1*")))
    there = sorted(os.listdir(machine.spool))
    with pytest.raises(TargetDamaged, match="--full"):
        machine.encode()
    assert sorted(os.listdir(machine.spool)) == there
    machine.encode(full=True)
    assert tree(machine.decode()) == tree(machine.source)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ---------------------------------------------------------------- kills, full disks, hangs


def test_killed_encoding_leaves_nothing_that_counts_and_the_next_is_right(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    before = set(os.listdir(machine.spool))
    written(machine.source / "huge", random.Random(2).randbytes(1 << 20) * 60)
    code = (
        "import sys, pickle, pathlib; from tklb.engine.duplicity import Engine; from tklb.model.secret import Secret\n"
        "order, cache, secret = pickle.load(sys.stdin.buffer)\n"
        "Engine(cache, Secret(secret)).encode(order)\n"
    )
    for delay in some((0.15, 0.3, 0.45, 0.6, 0.75, 0.9), 2):
        child = killed_after(delay, code, machine)
        assert child != 0 or delay > 0.5
        sealed = {volume.name for volume in machine.sealed}
        clean_spool(machine.spool, sealed)
        assert set(os.listdir(machine.spool)) == before
        written(machine.source / "huge", random.Random(int(delay * 100)).randbytes(1 << 20) * 60)
    machine.encode()
    assert tree(machine.decode()) == tree(machine.source)
    assert machine.left_over() == []


def killed_after(delay: float, code: str, machine: Machine) -> int:
    """Encode in a process of its own and kill that: worker, front and gpg must end by themselves. Gives its status."""
    import pickle

    order = machine.order()
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment)
    assert child.stdin is not None
    child.stdin.write(pickle.dumps((order, machine.engine.cache, SECRET.reveal())))
    child.stdin.close()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    status = child.wait()
    deadline = time.monotonic() + 10
    while processes_naming(str(machine.folder)):
        assert time.monotonic() < deadline, processes_naming(str(machine.folder))
        time.sleep(0.05)
    return status


def processes_naming(text: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in words and int(pid) != os.getpid():
            found.append(words)
    return found


def test_interruption_ends_every_process(machine: Machine) -> None:
    written(machine.source / "huge", bytes(100_000_000))

    def interrupt(_count: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        machine.engine.encode(machine.order(), interrupt)
    assert processes_naming(str(machine.folder)) == []
    assert os.listdir(machine.spool) == []
    assert machine.left_over() == []


def test_failure_of_one_shard_ends_the_other(machine: Machine) -> None:
    written(machine.source / "huge", random.Random(1).randbytes(1 << 20) * 100)
    good = machine.order()
    bad = EncodeOrder(**{**_fields(good), "prefix": "b-", "source": b"/nowhere"})
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="/nowhere"):
        encode_all(machine.engine, (good, bad))
    assert time.monotonic() - began < 30
    assert processes_naming(str(machine.folder)) == []
    assert not [name for name in os.listdir(machine.spool) if name.startswith(".")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "small", tmp_path / "disk"], check=True)
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_full_target_is_named_and_left_as_it_was(machine: Machine, small_disk: Path) -> None:
    filled(machine.source, 1)
    machine.spool = small_disk / "volumes"
    machine.spool.mkdir()
    written(machine.source / "huge", random.Random(1).randbytes(20_000_000))
    with pytest.raises(TargetFull):
        machine.encode()
    assert os.listdir(machine.spool) == []
    (machine.source / "huge").unlink()
    machine.encode()


def test_full_cache_is_named(machine: Machine, small_disk: Path) -> None:
    for number in range(300):
        written(machine.source / f"file{number}", b"x")
    written(machine.source / "a", random.Random(1).randbytes(60_000_000))
    written(small_disk / "ballast", bytes(8_000_000))
    engine = Engine(small_disk / "cache", SECRET)
    with pytest.raises(NoSpace, match="cache"):
        engine.encode(machine.order())
    assert os.listdir(machine.spool) == []


@pytest.mark.parametrize("what", ["stage", "cache"])
def test_full_disk_on_the_way_back_is_named(machine: Machine, small_disk: Path, what: str) -> None:
    """duplicity only warns where a patched file no longer fits."""
    huge = written(machine.source / "huge", random.Random(1).randbytes(6_000_000))
    machine.encode()
    written(huge, huge.read_bytes() + random.Random(2).randbytes(4_000_000), 1)
    machine.encode()
    volumes = machine.fetched()
    places = {"stage": machine.folder / "stage", "cache": machine.engine.cache, what: small_disk / what}
    written(small_disk / "ballast", bytes(4_000_000))
    places["stage"].mkdir()
    with pytest.raises(NoSpace, match=what):
        Engine(places["cache"], SECRET, patience=30).decode(lying(volumes), places["stage"], Shard("", machine.last))


@pytest.mark.parametrize("kind", ["folders", "devices"])
def test_disk_without_room_for_another_folder_or_device_is_named(machine: Machine, small_disk: Path, kind: str) -> None:
    """duplicity warns that it could not make it, and not why."""
    for number in range(50):
        name = machine.source / str(number)
        name.mkdir() if kind == "folders" else os.mknod(name, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    machine.encode()
    volumes = machine.fetched()
    (small_disk / "stage").mkdir()
    subprocess.run(["mount", "-o", "remount,nr_inodes=20", small_disk], check=True)
    with pytest.raises(NoSpace, match="stage"):
        machine.engine.decode(lying(volumes), small_disk / "stage", Shard("", machine.last))


def test_run_in_which_nothing_moves_is_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from tklb.engine import runner

    filled(machine.source, 1)
    monkeypatch.setattr(runner, "python_argv", lambda module: ["sh", "-c", "sleep 100"])
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="did nothing for 1 seconds"):
        Engine(machine.engine.cache, SECRET, patience=1).encode(machine.order())
    assert time.monotonic() - began < 20


# ---------------------------------------------------------------- volumes on their way


def waited(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_decoding_begins_with_the_first_volume_and_waits_for_the_others(machine: Machine) -> None:
    for number in range(6):
        written(machine.source / str(number), random.Random(number).randbytes(3_000_000))
    encoded = machine.engine.encode(EncodeOrder(**{**_fields(machine.order()), "volume_megabytes": 1}))
    machine.sealed, machine.last = encoded.volumes, START
    there = machine.fetched()
    volumes = lying(there)
    aside = machine.folder / "aside"
    aside.mkdir()
    on_their_way = sorted(path.name for path in there.glob("*.vol*") if ".vol1." not in path.name)
    assert len(on_their_way) >= 2
    for name in on_their_way:
        (there / name).rename(aside / name)
    stage = machine.folder / "stage"
    stage.mkdir()
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(machine.engine.decode, volumes, stage, Shard("", machine.last))
        waited(lambda: any(stage.iterdir()))
        assert not done.done()
        for name in on_their_way:
            (aside / name).rename(there / name)
    done.result()
    assert tree(stage) == tree(machine.source)


@pytest.mark.parametrize("what", some(["manifest", "vol1"], 2, first=1))
def test_waiting_for_a_volume_is_no_standstill(machine: Machine, what: str) -> None:
    filled(machine.source, 1)
    machine.encode()
    there = machine.fetched()
    volumes = lying(there)
    [late] = there.glob(f"*.{what}.*")
    late.rename(machine.folder / late.name)
    stage = machine.folder / "stage"
    stage.mkdir()
    engine = Engine(machine.engine.cache, SECRET, patience=2)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(engine.decode, volumes, stage, Shard("", machine.last))
        time.sleep(5)
        (machine.folder / late.name).rename(late)
    done.result()
    assert tree(stage) == tree(machine.source)


# ---------------------------------------------------------------- nothing unsealed is ever decoded


def test_flipped_byte_is_refused_before_duplicity_sees_it(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    flipped(next(machine.spool.glob("*vol1*")))
    with pytest.raises(TargetDamaged, match=r"vol1\.difftar\.gpg is not what was sealed"):
        machine.decode()
    assert list((machine.folder / "stage-volumes").glob("*manifest*")) == list(
        (machine.folder / "stage-volumes").glob("*manifest*")
    )
    assert not (machine.folder / "stage").exists()


def test_missing_and_truncated_volumes_are_refused(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    volume = next(machine.spool.glob("*vol1*"))
    volume.write_bytes(volume.read_bytes()[:-1])
    with pytest.raises(TargetDamaged, match="vol1"):
        machine.decode("one")
    volume.unlink()
    with pytest.raises(TargetDamaged, match="vol1"):
        machine.decode("two")


def test_what_nobody_sealed_is_not_looked_at(machine: Machine) -> None:
    """An unencrypted set on the target would be restored by duplicity with status 0."""
    filled(machine.source, 1)
    machine.encode()
    expected = tree(machine.source)
    for name in ("duplicity-full.20260401T000000Z.manifest", "duplicity-full.20260401T000000Z.vol1.difftar",
                 "duplicity-inc.20260301T120000Z.to.20260401T000000Z.manifest.gpg"):  # fmt: skip
        written(machine.spool / name, b"forged")
    assert tree(machine.decode()) == expected
    written(machine.source / "etc/motd", b"edited")
    machine.encode()
    assert tree(machine.decode("again")) == tree(machine.source)


def test_objects_are_checked_by_size_or_by_content(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    (machine.folder / "check").mkdir(mode=0o700)
    check = machine.folder / "check"
    assert check_objects(machine.target, machine.sealed, check) == ()
    volume, manifest = next(machine.spool.glob("*vol1*")), next(machine.spool.glob("*manifest*"))
    flipped(volume)
    manifest.write_bytes(manifest.read_bytes()[:10])
    next(machine.spool.glob("*sigtar*")).unlink()
    written(machine.spool / "stranger", b"x")
    quick = {(problem.volume.split(".")[2], problem.kind) for problem in check_objects(machine.target, machine.sealed)}
    assert quick == {("manifest", "truncated"), ("sigtar", "missing")}
    whole = {(problem.volume.split(".")[2], problem.kind) for problem in
             check_objects(machine.target, machine.sealed, check)}  # fmt: skip
    assert whole == quick | {("vol1", "damaged")}
    assert find_unexpected(machine.target, (volume.name for volume in machine.sealed)) == (
        ObjectProblem("stranger", "unexpected"),
    )
    assert os.listdir(check) == []


def test_cleaning_takes_only_what_duplicity_could_have_left(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    kept = set(os.listdir(machine.spool)) | {"README"}
    (machine.spool / "README").write_text("mine")
    orphans = ["duplicity-full.20260401T000000Z.vol1.difftar.gpg", "b-duplicity-full.20260401T000000Z.manifest.gpg"]
    for name in orphans:
        written(machine.spool / name, b"x")
    written(machine.spool / ".incoming-a/volumes/x", b"x")
    gone = clean_spool(machine.spool, {volume.name for volume in machine.sealed})
    assert set(gone) == {*orphans, ".incoming-a"}
    assert set(os.listdir(machine.spool)) == kept


def test_volume_that_fails_to_decode_is_an_error_not_a_warning(machine: Machine) -> None:
    """As if the seal itself were wrong: the watchdog and the log are the last line."""
    filled(machine.source, 1)
    machine.encode()
    volumes = machine.folder / "volumes"
    volumes.mkdir(mode=0o700)
    for volume in select_restore_volumes(machine.sealed):
        shutil.copy(machine.spool / volume.name, volumes)
    flipped(next(volumes.glob("*vol1*")))
    (machine.folder / "stage").mkdir()
    with pytest.raises(ProgramFailed):
        Engine(machine.engine.cache, SECRET, patience=5).decode(
            lying(volumes), machine.folder / "stage", Shard("", machine.last)
        )


def test_secret_that_does_not_fit_is_an_error(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    with pytest.raises(ProgramFailed, match="Bad session key"):
        machine.decode(engine=Engine(machine.engine.cache, make_secret(bytes)))


def test_forged_link_with_something_below_it_writes_nowhere(machine: Machine, tmp_path: Path) -> None:
    """Stock duplicity follows the link that it has just made, out of the stage."""
    written(machine.source / "a/file", b"x")
    machine.encode()
    outside = tmp_path / "outside"
    outside.mkdir()
    volumes = forged(machine, {"snapshot/": None, "snapshot/a": str(outside), "snapshot/a/file": b""})
    (machine.folder / "stage").mkdir()
    with pytest.raises(ProgramFailed, match="below a name that is no folder"):
        machine.engine.decode(lying(volumes), machine.folder / "stage", Shard("", machine.last))
    assert list(outside.iterdir()) == []


def test_patch_that_fails_is_an_error_whatever_the_name_is(machine: Machine) -> None:
    """duplicity warns, ends with status 0, and loses the warning where the name is not UTF-8."""
    name = "file\udcff"
    written(machine.source / name, b"x")
    machine.encode()
    written(machine.source / name, b"y", 1)
    machine.encode()
    volumes = forged(machine, {f"diff/{name}": b"no delta"})
    (machine.folder / "stage").mkdir()
    with pytest.raises(ProgramFailed, match="processing file"):
        machine.engine.decode(lying(volumes), machine.folder / "stage", Shard("", machine.last))


def forged(machine: Machine, entries: dict[str, str | bytes | None]) -> Path:
    """Fetched volumes, the last of which holds these instead: None for a folder, text for a link, bytes for a file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", errors="surrogateescape") as tar:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            entry.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    volumes, home = machine.fetched(), machine.folder / "home"
    home.mkdir(mode=0o700)
    label = snapshot_id(machine.last)
    volume = replaced(next(volumes.glob(f"*{label}.vol1*")), encrypt(made.getvalue(), SECRET, home))
    manifest = next(volumes.glob(f"*{label}.manifest*"))
    lines = decrypt(manifest.read_bytes(), SECRET, home, 1 << 20).split(b"\n")
    digest = b"    Hash SHA1 " + hashlib.sha1(volume.read_bytes()).hexdigest().encode()
    lines = [digest if line.startswith(b"    Hash SHA1") else line for line in lines]
    replaced(manifest, encrypt(b"\n".join(lines), SECRET, home))
    return volumes


def replaced(path: Path, content: bytes) -> Path:
    """Another file of that name: the one there may be a link into the target."""
    path.unlink()
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- shards


def test_two_shards_make_two_chains_that_come_back_apart(machine: Machine) -> None:
    filled(machine.source, 1)
    halves: list[list[bytes]] = [[], []]
    for number, name in enumerate(sorted(machine.names())):
        halves[number % 2].append(name)
    orders = []
    for number, half in enumerate(halves):
        listed = machine.folder / f"names{number}"
        listed.write_bytes(b"\0".join(half))
        changed = {"names": listed, "prefix": shard_prefix(number)}
        orders.append(EncodeOrder(**{**_fields(machine.order()), **changed}))
    encoded = encode_all(machine.engine, orders)
    machine.sealed = tuple(volume for each in encoded for volume in each.volumes)
    assert {name[:2] for name in os.listdir(machine.spool)} == {"du", "b-"}
    volumes = machine.fetched()
    found: dict[bytes, tuple[object, ...]] = {}
    for number in (0, 1):
        stage = machine.folder / f"stage{number}"
        stage.mkdir()
        machine.engine.decode(lying(volumes), stage, Shard(shard_prefix(number), START))
        stock = tree(machine.stock_restore(f"stock{number}", f"--file-prefix={shard_prefix(number)}"))
        assert stock == tree(stage)
        found |= {path: state for path, state in stock.items() if path[1:] in halves[number]}
    assert found == tree(machine.source)


def test_shards_pay_only_where_there_is_enough_for_each() -> None:
    cores = len(os.sched_getaffinity(0))
    assert count_shards(0) == 1
    assert count_shards(10 << 20) == 1
    assert count_shards(1 << 40) == min(cores, 8)
    assert len({shard_prefix(number) for number in range(8)}) == 8
    assert shard_prefix(0) == ""


# ---------------------------------------------------------------- secrecy


def test_secret_is_in_no_argument_file_or_agent(machine: Machine) -> None:
    written(machine.source / "huge", random.Random(1).randbytes(1 << 20) * 60)
    seen: list[str] = []
    machine.engine.encode(machine.order(), lambda _count: seen.extend(processes_naming("")))
    assert any("--symmetric" in words for words in seen)
    assert not [words for words in seen if SECRET.reveal() in words]
    assert not [words for words in seen if "gpg-agent" in words and str(machine.folder) in words]
    for path in machine.folder.rglob("*"):
        if path.is_file() and machine.source not in path.parents:
            assert SECRET.reveal().encode() not in path.read_bytes()


def test_cache_is_private(machine: Machine) -> None:
    filled(machine.source, 1)
    machine.encode()
    assert machine.engine.cache.stat().st_mode & 0o7777 == 0o700
    for path in machine.engine.cache.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@ROOT_ONLY
def test_nothing_reaches_the_network(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """duplicity asks a name server for the name of the host as soon as it is imported."""
    from tklb.engine import runner

    filled(machine.source, 1)
    plain, trace = runner.python_argv, machine.folder / "trace"
    tracer = ["strace", "-D", "-f", "-o", str(trace), "-e", "trace=%network,execve"]
    monkeypatch.setattr(runner, "python_argv", lambda module: [*tracer, *plain(module)])
    machine.encode()
    calls = trace.read_text()
    assert "execve" in calls
    assert "AF_INET" not in calls


# ---------------------------------------------------------------- small grammars


def test_names_are_picked_in_order_after_all_folders_above_them() -> None:
    names = [b"b", b"a/b/c", b"a/b", b"a-b", b"a/b/c/d", b"", b"a/b"]
    assert [wanted.parts for wanted in pick(parse_names(names))] == [
        (), (b"a",), (b"a", b"b"), (b"a", b"b", b"c"), (b"a", b"b", b"c", b"d"), (b"a-b",), (b"b",),
    ]  # fmt: skip


def test_log_is_read_by_its_codes() -> None:
    text = (
        "NOTICE 1\n. Reading\n\nWARNING 1\n. WARNING: x has negative mtime, treating as 0.\n\n"
        "WARNING 12 'x'\n. Error 'y' patching x\n. more\n\nERROR 53 put\n. Giving up\n"
    )
    entries = list(parse_log(text))
    assert [(entry.level, entry.code) for entry in entries] == [
        ("NOTICE", 1), ("WARNING", 1), ("WARNING", 12), ("ERROR", 53),
    ]  # fmt: skip
    assert [entry.code for entry in select_problems(entries)] == [12, 53]
    assert entries[2].text == "Error 'y' patching x\nmore"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one"),
        ("Traceback (innermost last):\n  File x\nOSError: no", "OSError: no"),
        ("GPGError: GPG Failed, see log below:\n===== Begin\ngpg: a\ngpg: decryption failed: Bad session key\n=====",
         "gpg: decryption failed: Bad session key"),
        ("", "error 30"),
    ],
)  # fmt: skip
def test_reason_is_one_line(text: str, line: str) -> None:
    assert reason(LogEntry("ERROR", 30, text)) == line
