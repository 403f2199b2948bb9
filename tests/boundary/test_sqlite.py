"""SQLite's databases: found, seen to be in use, and copied whole, with real writers and real plotters beside them.

Touches folders of its own. Needs root: copies are made as the owner of the database.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.appliance import clone
from tklb.diff.sqlite_names import sidecars
from tklb.host.sqlite.copy import (
    HEADER,
    CopiedDatabase,
    NotCopied,
    Unfinished,
    copy_database,
    is_in_use,
    is_sqlite,
    list_open_files,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")

OWNER = 33  # www-data
MODES = ["wal", "delete"]
# What one process does to the database: says so when it is ready, and goes on until it is told to stop.
PROGRAM = """
import os, sqlite3, sys
os.setgid(33), os.setuid(33)
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
def run(words): return database.execute(words).fetchall()
def ready(): print("ready", flush=True)
def wait(): sys.stdin.read()
"""
TRANSFER = """
run("PRAGMA wal_autocheckpoint = 200")
for number in range(10**9):
    run("BEGIN IMMEDIATE")
    run("UPDATE one SET amount = amount + 1 WHERE number % 7 = 0")
    run("UPDATE two SET amount = amount - 1 WHERE number % 7 = 0")
    run("COMMIT")
    if number == 5: ready()
"""
HOLD = """run("PRAGMA locking_mode = EXCLUSIVE"); run("BEGIN EXCLUSIVE"); ready(); wait()"""
USE = """run("UPDATE one SET amount = 5 WHERE number = 0"); ready(); wait()"""
SPILL = """
run("PRAGMA synchronous = OFF")
run("PRAGMA cache_size = 5")
run("BEGIN")
run("UPDATE one SET amount = 99")
ready(); wait()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of an application; it may do as it likes in there, and cannot enter what is above."""
    tmp_path.chmod(0o700)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, OWNER, OWNER)
    return home


def made(place: Path, mode: str, rows: int = 4000) -> Path:
    """A database in two tables, the first in front of the second in the file; their amounts add up to nothing."""
    with contextlib.closing(sqlite3.connect(place)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute(f"PRAGMA journal_mode = {mode}")
        for table, amount in (("one", 1), ("two", -1)):
            database.execute(f"CREATE TABLE {table} (number INTEGER PRIMARY KEY, amount INTEGER, filling BLOB)")
            filling = [(number, amount, b"x" * 300) for number in range(rows)]
            database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", filling)
        database.commit()
    for name in (place, *map(Path, map(os.fsdecode, sidecars(bytes(place))))):
        if name.exists():
            os.chown(name, OWNER, OWNER)
    return place


@contextlib.contextmanager
def process(work: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The application at work. It is given the folder to enter, as it may not come there by its path."""
    argv = [sys.executable, "-IS", "-c", PROGRAM + work, place.name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # SQLite asks for whole paths, so the application sits in a root of its own, as it would in a container
    enter = f"import os; os.chroot({str(place.parent)!r}); os.chdir('/');"
    argv[3] = enter.join(["import sqlite3, encodings.ascii;", argv[3]])
    with subprocess.Popen(argv, stdin=pipes["stdin"], stdout=pipes["stdout"]) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            yield running
        finally:
            running.kill()


def identity(place: Path) -> tuple[int, int]:
    status = os.lstat(place)
    return status.st_dev, status.st_ino


def copied(place: Path, copy: Path, patience: float = 20) -> CopiedDatabase:
    return copy_database(bytes(place), identity(place), bytes(copy), patience)


def content(place: Path) -> bytes:
    """A copy, and the copy taken away again."""
    copy = place.parents[1] / "copy"
    done = copied(place, copy)
    found = copy.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert done.size == len(found)
    copy.unlink()
    return found


def total(place: Path) -> int:
    """What all amounts add up to. Raises DatabaseError where the file is no database any more."""
    with contextlib.closing(sqlite3.connect(f"file:{place}?immutable=1", uri=True)) as database:
        damage = database.execute("PRAGMA integrity_check").fetchall()
        if damage != [("ok",)]:
            raise sqlite3.DatabaseError(damage)
        both = "SELECT (SELECT sum(amount) FROM one) + (SELECT sum(amount) FROM two)"
        return int(database.execute(both).fetchone()[0])


def facts(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for name in os.listdir(folder):
        status = os.lstat(folder / name)
        times = status.st_mtime_ns, status.st_ctime_ns
        found[name] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, *times)
    return found


def refused(place: Path, patience: float = 1, seen: tuple[int, int] | None = None) -> str:
    """Why there is no copy; none is left either."""
    copy = place.parents[1] / "no copy"
    with pytest.raises(NotCopied) as caught:
        copy_database(bytes(place), seen or identity(place), bytes(copy), patience)
    assert not copy.exists()
    return caught.value.reason


# ---------------------------------------------------------------- which are databases, and which are in use


def test_databases_are_known_by_their_header(home: Path) -> None:
    made(home / "no suffix", "wal", rows=1)
    (home / "text.sqlite").write_bytes(b"SQLite format 3\n")
    (home / "short.db").write_bytes(HEADER[:-1])
    (home / "empty.db").touch()
    assert {name for name in os.listdir(home) if is_sqlite(bytes(home / name))} == {"no suffix"}


def test_what_is_no_plain_file_is_no_database(home: Path) -> None:
    made(home / "real.db", "delete", rows=1)
    os.symlink("real.db", home / "link")
    os.mkfifo(home / "fifo")
    os.mknod(home / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (home / "folder").mkdir()
    names = ("link", "fifo", "zero", "folder", "missing", "real.db/below")
    assert [is_sqlite(bytes(home / name)) for name in names] == [False] * len(names)


def test_what_another_process_has_open_is_in_use_and_what_this_one_has_is_not(home: Path) -> None:
    theirs, ours = made(home / "theirs.db", "delete", rows=9), made(home / "ours.db", "delete", rows=9)
    with ours.open("rb"), process(USE, theirs):
        opened = list_open_files()
        assert is_in_use(bytes(theirs), identity(theirs), opened)
        assert not is_in_use(bytes(ours), identity(ours), opened)
    assert not is_in_use(bytes(theirs), identity(theirs), list_open_files())


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_what_is_left_in_a_log_counts_as_use(home: Path, end: str) -> None:
    place = made(home / "x.db", "delete", rows=1)
    log = home / f"x.db{end}"
    log.touch()
    assert not is_in_use(bytes(place), identity(place), frozenset())
    log.write_bytes(b"x")
    assert is_in_use(bytes(place), identity(place), frozenset())


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("mode", MODES)
def test_copies_of_an_unchanged_database_are_the_same_bytes(home: Path, mode: str) -> None:
    place = made(home / "x.db", mode)
    still = content(place)
    assert content(place) == still
    with process(USE, place):
        used = content(place)
        assert used != still
        assert content(place) == used
    assert content(place) == used


def test_a_checkpoint_changes_nothing_in_the_copy(home: Path) -> None:
    place = made(home / "x.db", "wal")
    with contextlib.closing(sqlite3.connect(place)) as database:
        database.execute("UPDATE one SET amount = 2 WHERE number < 9")
        database.commit()
        before = place.read_bytes()
        first = content(place)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert place.read_bytes() != before
        assert content(place) == first


def torn_copy(place: Path, copy: Path) -> None:
    """What a plain copy may get: the file as it was, up to the middle, and as it is, from there on."""
    with place.open("rb") as source:
        half = place.stat().st_size // 2
        start = source.read(half)
        before = place.stat().st_mtime_ns
        while place.stat().st_mtime_ns == before:
            time.sleep(0.001)
        time.sleep(0.05)
        copy.write_bytes(start + source.read())


def is_broken(place: Path) -> bool:
    try:
        return total(place) != 0
    except sqlite3.DatabaseError:
        return True


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_under_a_busy_writer_is_of_one_moment_and_a_plain_one_is_not(home: Path, mode: str) -> None:
    place = made(home / "x.db", mode)
    copies = [home.parent / f"copy{number}" for number in range(5)]
    torn = [home.parent / f"torn{number}" for number in range(5)]
    with process(TRANSFER, place):
        for copy, plain in zip(copies, torn, strict=True):
            copied(place, copy)
            torn_copy(place, plain)
    assert [total(copy) for copy in copies] == [0] * len(copies)
    assert len({copy.read_bytes() for copy in copies}) > 1
    assert len({copy.read_bytes()[24:28] for copy in copies}) == 1  # a count of changes: the tries do not show
    assert any(map(is_broken, torn))


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_needs_no_sidecars_and_has_all_that_was_committed(home: Path, mode: str) -> None:
    place = made(home / "x.db", mode)
    with process(USE, place):
        copied(place, home.parent / "copy")
    with contextlib.closing(sqlite3.connect(home.parent / "copy")) as database:
        assert database.execute("SELECT amount FROM one WHERE number = 0").fetchall() == [(5,)]


@pytest.mark.parametrize(
    "name", [b"-x\n%3f?#.db", b"\xff\xfe", b"file:x?mode=rw", b"a b&immutable=1", "ÄÖ'\"".encode()]
)
def test_odd_names_are_copied(home: Path, name: bytes) -> None:
    place = Path(os.fsdecode(bytes(home) + b"/" + name))
    os.rename(made(home / "x", "delete", rows=3), place)
    copied(place, home.parent / "copy")
    assert total(home.parent / "copy") == 0


def test_a_destination_that_is_there_is_left_alone(home: Path) -> None:
    place = made(home / "x.db", "wal", rows=1)
    (home.parent / "copy").write_text("mine")
    with pytest.raises(FileExistsError):
        copied(place, home.parent / "copy")
    assert (home.parent / "copy").read_text() == "mine"


# ---------------------------------------------------------------- what it leaves behind


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_made_or_changed_beside_a_database_at_rest(home: Path, mode: str) -> None:
    place = made(home / "x.db", mode)
    before = facts(home)
    content(place)
    assert facts(home) == before


@pytest.mark.parametrize("mode", MODES)
def test_the_owner_keeps_what_lies_beside_a_database_in_use(home: Path, mode: str) -> None:
    place = made(home / "x.db", mode)
    with process(USE, place):
        before = {name: found[:5] for name, found in facts(home).items()}
        assert ("x.db-shm" in before) == (mode == "wal")
        content(place)
        assert {name: found[:5] for name, found in facts(home).items()} == before
    with process(USE, place):
        content(place)


def test_a_log_that_a_killed_process_left_is_in_the_copy_and_stays_its_owners(home: Path) -> None:
    place = made(home / "x.db", "wal")
    with process(USE, place) as running:
        running.send_signal(signal.SIGKILL)
        running.wait()
    (home / "x.db-shm").unlink()
    copied(place, home.parent / "copy")
    with contextlib.closing(sqlite3.connect(home.parent / "copy")) as database:
        assert database.execute("SELECT amount FROM one WHERE number = 0").fetchall() == [(5,)]
    assert {found[2:4] for found in facts(home).values()} == {(OWNER, OWNER)}


# ---------------------------------------------------------------- what cannot be copied is said


def test_a_database_locked_for_longer_than_we_wait_is_refused(home: Path) -> None:
    for mode in MODES:
        place = made(home / f"{mode}.db", mode)
        with process(HOLD, place):
            assert refused(place) == "another process kept it locked"


@pytest.mark.parametrize("mode", MODES)
def test_a_database_that_is_written_to_without_any_lock_is_refused(home: Path, mode: str) -> None:
    """The writer comes before all else, for one that has to wait for a processor writes nothing meanwhile."""
    place = made(home / "x.db", mode)
    write = "import os, itertools, sys; os.nice(-15); print(flush=True)\n"
    write += "for moment in itertools.count(): os.utime(sys.argv[1], ns=(moment, moment))"
    with subprocess.Popen([sys.executable, "-c", write, place], stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        writing.stdout.readline()
        try:
            assert refused(place) == "it changed each time it was read"
        finally:
            writing.kill()


def test_an_unfinished_transaction_of_a_killed_process_is_left_for_its_application(home: Path) -> None:
    place = made(home / "x.db", "delete")
    with process(SPILL, place) as running:
        running.send_signal(signal.SIGKILL)
        running.wait()
    before = facts(home)
    assert "x.db-journal" in before
    with pytest.raises(Unfinished):
        copied(place, home.parent / "copy")
    assert facts(home) == before
    assert os.listdir(home.parent) == ["home"]


def test_a_damaged_database_is_refused(home: Path) -> None:
    place = made(home / "x.db", "delete")
    os.truncate(place, place.stat().st_size - 512)
    assert "malformed" in refused(place)
    place.write_bytes(HEADER + b"\xff" * 4080)
    assert refused(place)


def test_it_is_read_with_the_rights_of_its_owner_and_no_more(home: Path) -> None:
    place = made(home / "x.db", "delete", rows=1)
    place.chmod(0o040)
    assert "Permission denied" in refused(place)


def test_a_database_of_two_names_is_refused(home: Path) -> None:
    place = made(home / "x.db", "wal", rows=1)
    os.link(place, home / "y.db")
    assert "more than one name" in refused(place)


# ---------------------------------------------------------------- plots


def test_a_link_in_its_place_is_not_followed(home: Path) -> None:
    secret = made(home.parent / "secret.db", "delete", rows=3)
    os.symlink(secret, home / "x.db")
    for seen in (identity(secret), identity(home / "x.db")):
        assert "became something else" in refused(home / "x.db", seen=seen)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["wal", "shm", "journal"])
def test_a_link_in_place_of_a_sidecar_is_not_followed(home: Path, mode: str, end: str) -> None:
    place = made(home / "x.db", mode)
    right = content(place)
    victims = [home / "victim", home.parent / "victim"]
    for victim in victims:
        victim.write_bytes(right)
        victim.chmod(0o666)
    before = facts(home)["victim"], facts(home.parent)["victim"]
    for target in ("victim", "/victim", str(victims[1])):
        os.symlink(target, home / f"x.db-{end}")
        with contextlib.suppress(NotCopied):
            copy_database(bytes(place), identity(place), bytes(home.parent / "copy"), 1)
            assert (home.parent / "copy").read_bytes() == right
            (home.parent / "copy").unlink()
        (home / f"x.db-{end}").unlink()
    assert (facts(home)["victim"], facts(home.parent)["victim"]) == before


def test_a_link_above_it_is_not_followed(home: Path) -> None:
    (home.parent / "secret").mkdir()
    secret = made(home.parent / "secret/x.db", "delete", rows=3)
    os.symlink(home.parent / "secret", home / "folder")
    assert "above it" in refused(home / "folder/x.db", seen=identity(secret))


def test_a_fifo_or_another_file_in_its_place_is_not_opened(home: Path) -> None:
    place = made(home / "x.db", "delete", rows=3)
    seen = identity(place)
    place.rename(home / "old.db")
    os.mkfifo(place)
    assert "became something else" in refused(place, seen=seen)
    place.unlink()
    shutil.copy(home / "old.db", place)
    assert "became something else" in refused(place, seen=seen)
    place.unlink()
    assert "vanished" in refused(place, seen=seen)


def test_a_database_that_is_swapped_all_the_time_is_copied_rightly_or_not_at_all(home: Path) -> None:
    place, other = made(home / "x.db", "delete", rows=3), home / "other"
    seen, right = identity(place), content(place)
    secret = made(home.parent / "secret.db", "delete", rows=50)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            place.rename(other)
            os.symlink(secret, place)
            place.unlink()
            os.mkfifo(place)
            os.rename(other, place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    found = []
    try:
        for _ in range(20):
            with contextlib.suppress(NotCopied):
                copy_database(bytes(place), seen, bytes(home.parent / "copy"), 0.2)
                found.append((home.parent / "copy").read_bytes())
                (home.parent / "copy").unlink()
    finally:
        done.set()
        swapping.join()
    assert set(found) <= {right}


def test_a_huge_file_of_holes_is_not_copied(home: Path) -> None:
    place = made(home / "x.db", "delete", rows=1)
    size = 1 << 40
    with place.open("r+b") as stream:
        stream.seek(16)
        stream.write(struct.pack(">H", 1))
        stream.seek(28)
        stream.write(struct.pack(">I", size >> 16))
        stream.truncate(size)
    assert is_sqlite(bytes(place))
    assert "holes" in refused(place)


def wal_checksum(content: bytes, first: int, second: int) -> tuple[int, int]:
    for one, two in struct.iter_unpack(">II", content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second


def test_a_forged_log_that_tells_of_a_huge_database_fills_no_disk(home: Path) -> None:
    """https://www.sqlite.org/fileformat2.html#the_write_ahead_log: one frame that ends a transaction of 2^26 pages."""
    place = made(home / "x.db", "wal", rows=1)
    page = place.read_bytes()[:512]
    page = page[:28] + struct.pack(">I", 1 << 26) + page[32:]
    header = struct.pack(">6I", 0x377F0683, 3007000, 512, 0, 7, 8)
    sums = wal_checksum(header, 0, 0)
    frame = struct.pack(">II", 1, 1 << 26)
    log = header + struct.pack(">II", *sums) + frame + struct.pack(">II", 7, 8)
    log += struct.pack(">II", *wal_checksum(frame + page, *sums)) + page
    (home / "x.db-wal").write_bytes(log)
    os.chown(home / "x.db-wal", OWNER, OWNER)
    assert "disk I/O error" in refused(place)


# ---------------------------------------------------------------- overlayfs


@pytest.mark.lab
@pytest.mark.parametrize("lies", ["below", "above"])
def test_databases_on_an_overlay_are_seen_in_use_and_copied(tmp_path: Path, lies: str) -> None:
    (tmp_path / "lower").mkdir()
    made(tmp_path / "lower/x.db", "wal")
    with clone("core", layers=[tmp_path / "lower"]) as box:
        place = box.root / "x.db"
        if lies == "above":
            os.utime(place)
        assert not is_in_use(bytes(place), identity(place), list_open_files())
        opener = ["sh", "-c", "exec 3</x.db; echo; read line"]
        with box.popen(opener, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            running.stdout.readline()
            assert is_in_use(bytes(place), identity(place), list_open_files())
            copied(place, tmp_path / "copy")
            running.communicate()
        assert total(tmp_path / "copy") == 0
        assert not is_in_use(bytes(place), identity(place), list_open_files())


# ---------------------------------------------------------------- a database of one user in the folder of another

PROBE = """
import os, sys
from tklb.host.sqlite import reader
status = os.lstat(sys.argv[1])
folder = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
name = os.fsencode(os.path.basename(sys.argv[1]))
order = reader.CopyOrder(folder, name, (status.st_dev, status.st_ino), b"", 1, 1 << 20, False)
reader._confine(order)
print(os.open("secret/precious", os.O_RDONLY) > 0)
deeds = (lambda: os.unlink("secret/precious"), lambda: os.open("root.db", os.O_WRONLY), lambda: os.chown(".", 0, 0))
for deed in deeds:
    try:
        print(deed())
    except OSError as exc:
        print(exc.strerror)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_of_root_in_a_users_folder_is_copied_and_read_without_rights_of_root(home: Path, mode: str) -> None:
    place = made(home / "root.db", mode)
    os.chown(place, 0, 0)
    place.chmod(0o600)
    secret = home / "secret"
    secret.mkdir(0o700)
    (secret / "precious").write_text("root's")
    done = subprocess.run([sys.executable, "-c", PROBE, place], capture_output=True, text=True, check=True)
    denied = ["Permission denied", "Permission denied", "Operation not permitted"]
    assert done.stdout.splitlines() == ["True", *denied], done.stderr
    with contextlib.closing(sqlite3.connect(place)) as writer:
        writer.execute("UPDATE one SET amount = 7 WHERE number = 1")
        writer.commit()
        status = place.stat()
        copy_database(os.fsencode(place), (status.st_dev, status.st_ino), os.fsencode(home.parent / "copy"), 20)
    with contextlib.closing(sqlite3.connect(home.parent / "copy")) as copy:
        assert copy.execute("SELECT amount FROM one WHERE number = 1").fetchall() == [(7,)]
    assert (secret / "precious").exists()


def test_a_database_of_root_where_everybody_may_write_is_read_as_nobody(home: Path) -> None:
    os.chown(home, 0, 0)
    home.chmod(0o1777)
    place = made(home / "root.db", "delete")
    os.chown(place, 0, 0)
    secret = home / "secret"
    secret.mkdir(0o700)
    (secret / "precious").write_text("root's")
    done = subprocess.run([sys.executable, "-c", PROBE, place], capture_output=True, text=True, check=True)
    assert "Permission denied" in done.stdout
    assert (secret / "precious").exists()
