"""What a user can do to make a backup slow or hang: each costs the run seconds, and is named. Needs root.

The attackers are processes of a user without rights. Their files are below a folder that this user can reach.
"""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.attacker import PROGRAMS
from tklb.backup import sqlite_copies
from tklb.backup.sqlite_copies import SqliteCopier
from tklb.diff.rules import Rule, Rules
from tklb.host.files.handles import read_limits
from tklb.host.files.openat import RootedTree, digest_of
from tklb.host.files.scan import EntryReader, scan
from tklb.host.files.write_entry import FileWriter
from tklb.host.sqlite import copy, patience
from tklb.model.files import FileEntry
from tklb.model.report import SkippedItems

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs programs as another user")
ALL = Rules([Rule(include=True, pattern=b"/")])
UID = 1511
AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
LEASE = "a program holds a lease of it and does not give it up"
HOLES = "it is mostly holes, and together with others more than a run reads"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the user's, on the way to which nobody is kept out."""
    with tempfile.TemporaryDirectory(prefix="tklb-home-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "files").mkdir()
        os.chown(place / "files", UID, UID)
        yield place / "files"
        subprocess.run(["rm", "-rf", *map(str, place.iterdir())], check=True)


@contextlib.contextmanager
def attack(program: str, *words: str) -> Iterator[None]:
    argv = [*AS_USER, sys.executable, "-I", "-c", program, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def make_files(home: Path, count: int) -> list[Path]:
    files = [home / f"{number:05}" for number in range(count)]
    for file in files:
        file.write_bytes(b"content")
        os.chown(file, UID, UID)
    return files


def read(home: Path) -> tuple[dict[bytes, FileEntry], dict[bytes, str], float]:
    """Scan with digests: the files, what was skipped and why, and the seconds that it took."""
    skipped, begin = SkippedItems(), time.monotonic()
    found = {entry.path: entry for entry in scan(bytes(home), ALL, skipped=skipped, digest=True)}
    return found, {item.item: item.reason for item in skipped}, time.monotonic() - begin


# ---------------------------------------------------------------- leases


def test_leases_on_many_files_are_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would hold open(2) up for 45 seconds."""
    monkeypatch.setattr(read_limits, "_leases", read_limits._LeaseWait())
    make_files(home, 100)
    with attack(PROGRAMS["lease"], str(home)):
        found, skipped, seconds = read(home)
    assert skipped == {b"/%05d" % number: LEASE for number in range(100)}
    assert seconds < 20
    assert len(found) == 101  # the folder too


def test_file_with_a_lease_that_its_holder_gives_up_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file server does whose clients cache files."""
    monkeypatch.setattr(read_limits, "_leases", read_limits._LeaseWait())
    make_files(home, 3)
    with attack(PROGRAMS["lease"], str(home), "honest"):
        found, skipped, _ = read(home)
    assert skipped == {}
    assert found[b"/00002"].sha256 == hashlib.sha256(b"content").hexdigest()


# ---------------------------------------------------------------- holes


@pytest.mark.parametrize("size", [8 << 30, 1 << 40, 15 << 40])
def test_file_of_holes_is_not_read_and_is_named(home: Path, size: int) -> None:
    (file,) = make_files(home, 1)
    os.truncate(file, size)
    found, skipped, seconds = read(home)
    assert skipped == {b"/00000": HOLES}
    assert b"/00000" not in found
    assert seconds < 10


def test_holes_of_many_files_count_together_and_the_first_files_are_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_limits, "_HOLES_EACH", 200 << 20)
    for file in make_files(home, 5):
        os.truncate(file, 80 << 20)
    found, skipped, _ = read(home)
    assert skipped == {b"/%05d" % number: HOLES for number in (2, 3, 4)}
    assert found[b"/00001"].sha256 == hashlib.sha256(b"content" + bytes((80 << 20) - 7)).hexdigest()
    entries = scan(bytes(home), ALL, skipped=(again := SkippedItems()), known=found.values(), digest=True)
    assert b"/00002" not in {entry.path for entry in entries}  # no run takes what the one before did not
    assert len(again) == 3


def test_image_of_a_disk_is_read_though_it_has_holes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_limits, "_HOLES_EACH", 1 << 20)
    image = home / "disk.img"
    with image.open("wb") as stream:
        for part in range(4):
            stream.seek(part * 30 << 20)
            stream.write(os.urandom(8 << 20))
    content = image.read_bytes()
    found, skipped, _ = read(home)
    assert skipped == {}
    assert found[b"/disk.img"].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("edge", [-1, 0, 1, 4096])
def test_content_with_holes_at_the_edges_of_chunks_is_read_as_it_is(home: Path, edge: int) -> None:
    file = home / "file"
    with file.open("wb") as stream:
        for place in (0, (3 << 20) + edge, (7 << 20) - edge):
            stream.seek(place)
            stream.write(b"data" * 3)
        stream.truncate((9 << 20) + edge)
    found, _, _ = read(home)
    assert found[b"/file"].sparse
    assert found[b"/file"].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_file_that_became_holes_after_the_walk_saw_it_is_not_read(home: Path) -> None:
    make_files(home, 1)
    reader, folder = EntryReader(bytes(home), SkippedItems(), digest=True), os.open(home, os.O_RDONLY)
    seen = (b"/00000", os.lstat(home / "00000"), folder, b"00000")
    bare = reader.read_status(seen)
    assert bare is not None
    assert reader.may_read(bare, seen)
    os.truncate(home / "00000", 1 << 40)
    begin = time.monotonic()
    assert reader.complete(bare, seen).sha256 is None
    os.close(folder)
    assert time.monotonic() - begin < 5


# ---------------------------------------------------------------- files that change, move, or have no end


def test_files_that_are_touched_all_the_time_are_not_waited_for(home: Path) -> None:
    """A file that changed just now is read a moment later, but not thousands of times."""
    make_files(home, 2000)
    with attack(PROGRAMS["touch"], str(home)):
        found, _, seconds = read(home)
    assert len(found) == 2001
    assert seconds < 25


def test_file_that_grows_as_fast_as_it_is_read_has_an_end(home: Path) -> None:
    file = home / "log"
    file.write_bytes(b"line\n" * 100_000)
    grow: Callable[[], object] = lambda: os.truncate(file, file.stat().st_size + (1 << 16))  # noqa: E731
    with RootedTree(bytes(home)) as tree:
        descriptor = tree.open_file(b"/log")
        assert digest_of(descriptor, "sha256", grow) == hashlib.sha256(b"line\n" * 100_000).hexdigest()
        os.close(descriptor)


def test_restore_does_not_read_a_file_of_holes_in_the_place_of_a_hard_link(home: Path, tmp_path: Path) -> None:
    make_files(home, 1)
    os.truncate(home / "00000", 15 << 40)
    digest = hashlib.sha256(b"content").hexdigest()
    entry = FileEntry(b"/second", "file", 0o600, 0, 0, size=7, sha256=digest, nlink=2)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/second").write_bytes(b"content")
    begin = time.monotonic()
    with FileWriter(bytes(home), [bytes(tmp_path / "stage")]) as writer:
        assert not tuple(writer.link(entry, b"/00000"))
    assert (home / "second").read_bytes() == b"content"
    assert time.monotonic() - begin < 10


def test_thousands_of_vanished_messages_beside_thousands_of_others_end(home: Path) -> None:
    """For each of them tklb looks where it was moved to: in a folder that its owner has filled."""
    for folder, count in (("new", 1000), ("cur", 4000)):
        (home / "Maildir" / folder).mkdir(parents=True)
        for number in range(count):
            os.mknod(f"{home}/Maildir/{folder}/{folder}{number}")
    skipped, begin = SkippedItems(), time.monotonic()
    for entry in scan(bytes(home), ALL, skipped=skipped, digest=True):
        if entry.path == b"/Maildir/new/new0":
            subprocess.run(["find", home / "Maildir/new", "-type", "f", "-delete"], check=True)
    assert len(skipped) == 999
    assert time.monotonic() - begin < 20


def test_chain_of_folders_without_end_is_named_where_paths_get_too_long(home: Path) -> None:
    """Otherwise each path has all those above it: 100,000 folders are 10 gigabytes of names."""
    above = os.open(home, os.O_RDONLY)
    name = "d" * 199
    for _ in range(60):
        os.mkdir(name, dir_fd=above)
        above, old = os.open(name, os.O_RDONLY, dir_fd=above), above
        os.close(old)
    os.close(above)
    found, skipped, _ = read(home)
    assert skipped == {(b"/" + name.encode()) * 40: "folders in it have paths longer than 8192 bytes"}
    assert len(found) == 42


# ---------------------------------------------------------------- SQLite


def make_database(path: Path) -> FileEntry:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
        database.commit()
    os.chown(path, UID, UID)
    status = path.lstat()
    owner = {"dev": status.st_dev, "ino": status.st_ino}
    return FileEntry(bytes(path), "file", 0o644, UID, UID, size=status.st_size, **owner)


def copy_all(folder: Path, entries: list[FileEntry]) -> tuple[list[str], float]:
    """Copy the databases; the reasons of those that were not copied, and the seconds."""
    (folder / "databases").mkdir(mode=0o700)
    skipped, begin = SkippedItems(), time.monotonic()
    copier = SqliteCopier(folder, skipped, is_wanted=True)
    assert all(copier.copy_if_in_use(entry) for entry in entries)
    copier.finish()
    return [item.reason for item in skipped], time.monotonic() - begin


def test_locked_databases_share_the_time_that_one_owner_gets(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_EACH", 3.0)
    entries = [make_database(home / f"{number}.db") for number in range(20)]
    with attack(PROGRAMS["lock"], str(home)):
        reasons, seconds = copy_all(tmp_path, entries)
    plain = "taken as it lies there, perhaps torn: "
    assert set(reasons) <= {
        f"{plain}another process kept it locked",
        f"{plain}databases of its owner held up the backup for too long",
    }
    assert len(reasons) == 20
    assert seconds < 15


def test_process_that_copies_is_ended_when_the_owner_of_the_database_stops_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_EACH", 1.0)
    monkeypatch.setattr(copy, "_START", 1.0)
    entries = [make_database(home / f"{number}.db") for number in range(10)]
    with attack(PROGRAMS["stop"], str(home)):
        reasons, seconds = copy_all(tmp_path, entries)
    assert any("process that copies it was held up" in reason for reason in reasons), (reasons, seconds)
    assert seconds < 40


def test_databases_are_copied_though_more_files_are_open_than_tklb_looks_at(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "_MOST_OPEN", 5)
    entry = make_database(home / "0.db")
    assert copy.list_open_files() is None
    reasons, _ = copy_all(tmp_path, [entry])
    assert reasons == []
    assert list((tmp_path / "databases" / sqlite_copies.SQLITE_COPIES).iterdir())
