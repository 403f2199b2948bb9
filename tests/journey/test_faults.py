"""Kills, broken targets, files that change under the reader: no sealed snapshot suffers, and nothing is silently less.

Takes the lab's machine with two snapshots and strace; touches clones. After any fault: the exit status tells it, every
snapshot sealed before still restores, the next run succeeds unaided, nothing unsealed is offered, nothing is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journey.taken_backup import (
    FROM_A,
    KILLED,
    NOTES,
    OWN,
    SCOPE,
    Running,
    Told,
    change_something,
    check_replacement,
    decoded,
    differences,
    done,
    left_overs,
    processes,
    refused,
    server_b,
    snapshots,
    soon,
    tklb,
    untouched,
)
from tests.lab.appliance import Appliance, clone
from tests.lab.box import ENVIRONMENT, Box
from tests.lab.checker import record
from tests.lab.fixture_fs import FixtureFs
from tests.lab.soak import some

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def straced(machine: Box, fault: str, *words: str, path: str = "", also: str = "", told: str = "/dev/null") -> Told:
    """Run tklb with a fault (strace's --inject) put into it and its children, for one path if it is named.

    A path is that of a descriptor, or the first argument of a system call. The calls are written to the file `told`,
    those of the name `also` with them.
    """
    where = ["-P", path] if path else []
    calls = ",".join(filter(None, (fault.partition(":")[0], also)))
    # stop at these calls alone, which halves the cost; strace 6.1 injects no signals then
    stop = [] if "signal=" in fault else ["--seccomp-bpf"]
    command = ["strace", "-f", *stop, "-qq", "-o", told, *where, f"--trace={calls}", f"--inject={fault}"]
    done = subprocess.run(
        [*command, *machine.argv(["tklb", *words])],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    status = done.returncode
    return Told(128 - status if status < 0 else status, done.stdout, done.stderr)


def sealed(machine: Box) -> dict[str, str]:
    """Digest of every object of the target."""
    target = machine.root / "mnt/target"
    objects = [path for folder in ("ledger", "volumes") for path in (target / folder).iterdir() if path.is_file()]
    return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in objects}


def check_recovery(machine: Box, before: dict[str, str]) -> None:
    """What must hold after a backup that was killed."""
    assert soon(lambda: processes(machine) == [])
    assert before.items() <= sealed(machine).items()
    assert [item["snapshot"] for item in done(machine, "list", "--json").value] == snapshots(machine)
    done(machine, "backup")
    assert left_overs(machine) == []
    assert done(machine, "backup", "--json").value["kind"] == "none"
    known = set(snapshots(machine))
    volumes = os.listdir(machine.root / "mnt/target/volumes")
    assert all(set(re.findall(r"\d{8}T\d{6}Z", name)) <= known for name in volumes)
    assert differences(decoded(machine, "latest"), record(machine.root, SCOPE)) == []


# ---------------------------------------------------------------- kills

STATE = "/var/lib/tklb"
# Where a backup dies: the system call before which it is killed, and the path it would have been about.
BACKUP_DIES = {
    "opening the ledger": ("rename:signal=KILL:when=1", ""),
    "scanning": ("openat:signal=KILL:when=200", ""),
    "keeping the index": ("rename:signal=KILL", f"{STATE}/index.mtree.new"),
    "starting the engine": ("execve:signal=KILL:when=2", ""),
    "in the engine": ("rename:signal=KILL:when=3", ""),
    "reading a file": ("read:signal=KILL:when=2", "/srv/data/today"),
    "volumes in place": ("rename:signal=KILL", "/var/cache/tklb/archive-a.json.new"),
    "sealing": ("read:signal=KILL", f"{STATE}/ledger/sealing/entry"),
    "just sealed": ("fsync:signal=KILL", "/mnt/target/ledger"),
    "sealed, not yet kept": ("rename:signal=KILL", f"{STATE}/stage"),
    "kept, not yet noted": ("rename:signal=KILL", f"{STATE}/last-run.json.new"),
}


@pytest.mark.parametrize("moment", some(BACKUP_DIES, 6, first=6))
def test_a_killed_backup_harms_no_snapshot_and_the_next_run_succeeds(a: Appliance, moment: str) -> None:
    fault, path = BACKUP_DIES[moment]
    change_something(a)
    before = sealed(a)
    told = straced(a, fault, "backup", path=path)
    assert told.status in (KILLED, 21), told
    check_recovery(a, before)


def test_a_backup_killed_while_the_engine_works_takes_it_along(a: Appliance) -> None:
    change_something(a)
    before = sealed(a)
    engine = a.root / "mnt/target/volumes/.incoming-a/temporary"
    with Running(a, "backup") as run:
        assert run.when(engine.exists, signal.SIGKILL).end().status == KILLED
    check_recovery(a, before)


def test_a_first_backup_that_was_killed_leaves_nothing_to_restore() -> None:
    with clone("core", tklb=True) as machine:
        done(machine, "init")
        assert (
            straced(machine, "rename:signal=KILL", "backup", path="/var/cache/tklb/archive-a.json.new").status == KILLED
        )
        assert done(machine, "list", "--json").value == []
        refused(machine, 32, "SnapshotUnknown", "restore")
        assert done(machine, "status", "--json", status=3).value["state"] == "never"
        assert done(machine, "backup", "--json").value["kind"] == "full"
        assert len(list((machine.root / "var/backups/tklb/volumes").iterdir())) == 3


RESTORE_DIES = {
    "decoding": ("openat:signal=KILL:when=300", ""),
    "at the first account file": ("renameat:signal=KILL:when=1", ""),
    "amid the account files": ("renameat:signal=KILL:when=7", ""),
    "at the first files": ("renameat:signal=KILL:when=15", ""),
    "amid the files": ("renameat:signal=KILL:when=150", ""),
    "at the last files": ("renameat:signal=KILL:when=315", ""),
    "amid links": ("linkat:signal=KILL:when=3", ""),
    "taking over": ("rename:signal=KILL", f"{STATE}/host.new"),
    "keeping the records": ("rename:signal=KILL", f"{STATE}/restore/files-0{STATE}/stage"),
}


@pytest.mark.parametrize("moment", some(RESTORE_DIES, 6, first=4))
def test_a_killed_restore_is_completed_by_repeating_it(b: Appliance, moment: str) -> None:
    fault, path = RESTORE_DIES[moment]
    assert straced(b, fault, "restore", *FROM_A, "--yes", path=path).status in (KILLED, 21)
    assert soon(lambda: processes(b) == [])
    done(b, "restore", *FROM_A, "--yes")
    assert left_overs(b) == []
    check_replacement(b)
    assert done(b, "restore", *FROM_A, "--yes", "--json").value["steps"] == []


FAILING = [
    [("mkdirat:error=ENOSPC:when=60", 52), ("setxattr:error=EPERM:when=2", 3)],
    [("renameat:error=EIO:when=100", 3)],
]


@pytest.mark.parametrize("faults", some(FAILING, 2))
def test_a_disk_that_fails_amid_a_restore_is_told_and_repeating_completes_it(
    b: Appliance, faults: list[tuple[str, int]]
) -> None:
    for fault, status in faults:
        told = straced(b, fault, "restore", *FROM_A, "--yes")
        assert told.status == status, told
        assert "skipped /" in told.stderr if status == 3 else "no space left for /" in told.stderr
        assert left_overs(b) == []
    done(b, "restore", *FROM_A, "--yes")
    check_replacement(b)


def test_a_restore_that_says_it_is_done_is_on_disk(b: Appliance, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    words = ("restore", *FROM_A, "--yes", "--json", "--limit", "/srv/data")
    assert straced(b, "sync:delay_enter=6000000", *words, also="write", told=str(calls)).status == 0
    lines = calls.read_text().splitlines()
    [synced] = [number for number, line in enumerate(lines) if "sync" in line and "= 0" in line]
    [said] = [number for number, line in enumerate(lines) if r' write(1, "{\"snapshot\"' in line]
    assert synced < said


# ---------------------------------------------------------------- tampering


@pytest.fixture(scope="module")
def target_of_b() -> Iterator[tuple[Appliance, Path]]:
    """B, and A's target on it, for tests that put every object back."""
    with server_b() as machine:
        yield machine, machine.root / "mnt/target"


def volume(target: Path, kind: str) -> Path:
    """The newest object whose name ends so."""
    return max((target / "volumes").glob(f"*{kind}"), key=lambda path: path.stat().st_mtime_ns)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def first_volume(target: Path) -> Path:
    return min((target / "volumes").glob("*-full.*vol1*"))


def entry(target: Path, number: int) -> Path:
    return sorted((target / "ledger").iterdir())[number]


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda target: flip(first_volume(target)), r"full\.\S+vol1\S+ is not what was sealed"),
    "flipped in the increment": (lambda target: flip(volume(target, "vol1.difftar.gpg")), r"inc\.\S+vol1\S+ is not"),
    "manifest flipped": (lambda target: flip(volume(target, "manifest.gpg")), r"manifest\S+ is not what was sealed"),
    "truncated": (lambda target: os.truncate(first_volume(target), 1000), r"full\.\S+vol1\S+ has 1000 bytes of \d+"),
    "emptied": (lambda target: os.truncate(first_volume(target), 0), r"full\.\S+vol1\S+ has 0 bytes"),
    "deleted": (lambda target: first_volume(target).unlink(), r"full\.\S+vol1\S+ is missing"),
    "swapped": (
        lambda target: swap(first_volume(target), volume(target, "vol1.difftar.gpg")),
        r"vol1\S+ has \d+ bytes of \d+",
    ),
    "a link in its place": (
        lambda target: (first_volume(target).unlink(), first_volume_link(target)),
        r"full\.\S+vol1\S+ is missing",
    ),
    "entry flipped": (lambda target: flip(entry(target, 1)), r"ledger/0+2-\S+"),
    "entry truncated": (lambda target: os.truncate(entry(target, 1), 100), r"ledger/0+2-\S+"),
    "first entry deleted": (lambda target: entry(target, 0).unlink(), r"entry 1 before \S+ missing"),
    "entries swapped": (lambda target: swap(entry(target, 0), entry(target, 1)), r"ledger/0+[12]-\S+"),
}


def first_volume_link(target: Path) -> None:
    name = re.sub("manifest.gpg$", "vol1.difftar.gpg", min((target / "volumes").glob("*-full.*manifest.gpg")).name)
    (target / "volumes" / name).symlink_to("/etc/shadow")


@pytest.mark.parametrize("kind", some(TAMPERING, 3))
def test_a_target_that_was_tampered_with_is_33_before_anything_is_touched(
    target_of_b: tuple[Appliance, Path], tmp_path: Path, kind: str
) -> None:
    b, target = target_of_b
    shutil.copytree(target, tmp_path / "kept")
    tamper, says = TAMPERING[kind]
    tamper(target)
    with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**"):
        message = refused(b, 33, "TargetDamaged", "restore", *FROM_A, "--yes")
    assert re.search(says, message), message
    shutil.rmtree(target)
    shutil.copytree(tmp_path / "kept", target)
    assert left_overs(b) == []


def test_a_damaged_increment_leaves_the_older_snapshot_whole(b: Appliance) -> None:
    first, second = snapshots(b)
    flip(volume(b.root / "mnt/target", "vol1.difftar.gpg"))
    refused(b, 33, "TargetDamaged", "restore", second, *FROM_A, "--yes")
    done(b, "restore", first, *FROM_A, "--yes")
    assert (b.root / "srv/data/02").exists()


def test_a_damaged_chain_is_not_built_upon(a: Appliance) -> None:
    """The cache is gone, so that signatures must come from the target."""
    signatures = volume(a.root / "mnt/target", "sigtar.gpg")
    kept = signatures.read_bytes()
    flip(signatures)
    shutil.rmtree(a.root / "var/cache/tklb")
    change_something(a)
    with untouched(a, *NOTES):
        refused(a, 33, "TargetDamaged", "backup", says=signatures.name)
    signatures.write_bytes(kept)
    done(a, "backup")
    assert differences(decoded(a, "latest"), record(a.root, SCOPE)) == []


# ---------------------------------------------------------------- files that do not hold still


def test_files_that_change_between_look_and_read_are_named_and_the_rest_is_right(a: Appliance) -> None:
    fs = FixtureFs(a.root)
    change_something(a)
    for name in (b"edited", b"gone", b"linked", b"folder"):
        fs.file(b"/srv/data/" + name, b"12345\n")
    incoming = a.root / "mnt/target/volumes/.incoming-a"
    with Running(a, "backup", "--json") as run:
        run.when(incoming.exists, signal.SIGSTOP)
        fs.file(b"/srv/data/edited", b"54321\n")
        for name in (b"gone", b"linked", b"folder"):
            os.unlink(fs.path(b"/srv/data/" + name))
        fs.link(b"/srv/data/linked", b"/etc/shadow")
        fs.file(b"/srv/data/folder/inside", b"x\n")
        run.send(signal.SIGCONT)
        told = run.end()
    assert told.status == 3, told
    named = {item["item"]: item["reason"] for item in told.value["skipped"]}
    assert named.keys() == {f"/srv/data/{name}" for name in ("edited", "gone", "linked", "folder")}
    assert all(f"skipped {path}: " in told.stderr for path in named)
    assert done(a, "list", "--json").value[-1]["skipped"] == 4
    found, wanted = decoded(a, "latest", status=3), record(a.root, SCOPE)
    for facts in (found, wanted):
        for path in [path for path in facts if path.startswith(tuple(named)) or path == "/srv/data"]:
            facts.pop(path)
    assert differences(found, wanted) == []
    again = done(a, "backup", "--json").value
    assert again["kind"] == "incremental"
    assert differences(decoded(a, "latest"), record(a.root, SCOPE)) == []


def back_up_while(a: Appliance, write: Callable[[int], object]) -> Told:
    """Back up while something writes the whole time."""
    change_something(a)
    stop = threading.Event()

    def work() -> None:
        for number in itertools.count():
            if stop.wait(0.001):
                return
            write(number)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        return tklb(a, "backup", "--json")
    finally:
        stop.set()
        writer.join()


def test_a_file_that_never_holds_still_is_named(a: Appliance) -> None:
    place = a.root / "srv/data/state"
    place.write_bytes(bytes(200_000))
    with place.open("r+b", buffering=0) as state:
        told = back_up_while(a, lambda number: os.pwrite(state.fileno(), b"%08d" % number, 0))
    assert told.status == 3
    assert [item["item"] for item in told.value["skipped"]] == ["/srv/data/state"]
    assert done(a, "backup", "--json").value["kind"] == "incremental"


def test_a_log_that_only_grows_is_a_note_and_comes_back_as_far_as_it_was_read(a: Appliance) -> None:
    with (a.root / "srv/data/log").open("ab", buffering=0) as log:
        told = back_up_while(a, lambda number: log.write(b"line %08d\n" % number))
    assert (told.status, told.value["skipped"]) == (0, [])
    assert any("/srv/data/log" in line and "grew" in line for line in told.value["warnings"])
    done(a, "restore", "--into", "/var/cache/look")
    stored = (a.root / "var/cache/look/srv/data/log").read_bytes()
    assert len(stored) > 0
    assert (a.root / "srv/data/log").read_bytes().startswith(stored)
    assert done(a, "verify", "--data").status == 0
    assert done(a, "backup", "--json").value["kind"] == "incremental"


def test_a_log_that_is_emptied_while_it_is_read_is_named(a: Appliance) -> None:
    place = a.root / "srv/data/log"
    place.write_bytes(b"line\n" * 1000)
    change_something(a)
    incoming = a.root / "mnt/target/volumes/.incoming-a"
    with Running(a, "backup", "--json") as run:
        run.when(incoming.exists, signal.SIGSTOP)
        place.write_bytes(b"after rotation\n" * 1000)
        run.send(signal.SIGCONT)
        told = run.end()
    assert told.status == 3
    assert [item["item"] for item in told.value["skipped"]] == ["/srv/data/log"]


def test_a_message_that_is_read_while_the_backup_runs_is_in_the_snapshot(a: Appliance) -> None:
    fs = FixtureFs(a.root)
    names = [b"17%02d.M1P2.host" % number for number in range(40)]
    for folder in (b"Maildir", b"Maildir/.Lists"):
        for name in names:
            fs.file(b"/home/alice/" + folder + b"/new/" + name, b"message " + name, owner="alice")
            fs.file(b"/home/alice/" + folder + b"/cur/" + name + b"x:2,", b"old " + name, owner="alice")
    change_something(a)
    incoming = a.root / "mnt/target/volumes/.incoming-a"
    with Running(a, "backup", "--json") as run:
        run.when(incoming.exists, signal.SIGSTOP)
        for folder in ("Maildir", "Maildir/.Lists"):
            top = a.root / "home/alice" / folder
            for name in map(os.fsdecode, names):
                (top / "new" / name).rename(top / f"cur/{name}:2,S")
                (top / f"cur/{name}x:2,").rename(top / f"cur/{name}x:2,RS")
        run.send(signal.SIGCONT)
        told = run.end()
    assert (told.status, told.value["skipped"]) == (0, [])
    done(a, "restore", "--into", "/var/cache/look")
    for folder in ("Maildir", "Maildir/.Lists"):
        for name in map(os.fsdecode, names):
            look = a.root / "var/cache/look/home/alice" / folder
            assert (look / "new" / name).read_text() == f"message {name}"
            assert (look / f"cur/{name}x:2,").read_text() == f"old {name}"


def test_a_file_that_cannot_be_read_is_named_and_is_not_taken_for_deleted(a: Appliance) -> None:
    change_something(a)
    told = straced(a, "read,pread64:error=EIO", "backup", "--json", path="/srv/data/07")
    assert told.status == 3, told
    assert [item["item"] for item in told.value["skipped"]] == ["/srv/data/07"]
    assert told.value["files"]["deleted"] == 0
    assert done(a, "status", "--json", status=3).value["problems"]
    assert done(a, "backup", "--json").value["kind"] == "incremental"
    assert differences(decoded(a, "latest"), record(a.root, SCOPE)) == []


def test_an_edit_that_keeps_size_and_time_is_in_the_next_snapshot(a: Appliance) -> None:
    before = (a.root / "srv/data/11").stat()
    content = (a.root / "srv/data/11").read_bytes()
    with (a.root / "srv/data/11").open("r+b") as file:
        file.write(b"XX")
    os.utime(a.root / "srv/data/11", ns=(before.st_atime_ns, before.st_mtime_ns))
    taken = done(a, "backup", "--json").value
    assert (taken["kind"], taken["files"]["changed"]) == ("incremental", 1)
    done(a, "restore", "latest", "--into", "/mnt/new")
    assert (a.root / "mnt/new/srv/data/11").read_bytes() == b"XX" + content[2:]


# ---------------------------------------------------------------- secrets


def test_the_secret_is_in_no_argument_no_log_and_no_file_others_may_read(a: Appliance) -> None:
    canary = (a.root / "var/lib/tklb/secret").read_bytes().strip()
    change_something(a)
    shutil.rmtree(a.root / "var/lib/tklb/ledger/opened")
    with watched_arguments(a) as seen:
        said = [tklb(a, "-vv", *words) for words in (["backup"], ["list"], ["restore", "--into", "/mnt/new"])]
        said.append(tklb(a, "-vv", "key", "escrow", "--no-passphrase", "/root/key"))
    assert all(told.status == 0 for told in said)
    assert any(b"gpg" in line for line in seen)
    assert not [line for line in seen if canary in line]
    assert not [told for told in said if canary.decode() in told.stdout + told.stderr]
    held = [path for path in written_files(a) if canary in path.read_bytes()]
    assert {path.relative_to(a.root).as_posix() for path in held} <= {"var/lib/tklb/secret"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (*held, a.root / "root/key"))
    private = [path for top in (*OWN, "/mnt/target") for path in [a.root / top[1:], *(a.root / top[1:]).rglob("*")]]
    closed = {path for path in private if path.is_dir() and path.stat().st_mode & 0o077 == 0}
    open_ones = [path for path in private if path not in closed and path.lstat().st_mode & 0o077]
    assert not [path for path in open_ones if not closed.intersection(path.parents)]


@contextlib.contextmanager
def watched_arguments(machine: Box) -> Iterator[set[bytes]]:
    """The command lines of all processes inside, as often as they can be looked at."""
    seen: set[bytes] = set()
    stop = threading.Event()
    space = os.readlink(f"/proc/{machine.pid}/ns/pid")

    def watch() -> None:
        while not stop.is_set():
            for folder in os.listdir("/proc"):
                with contextlib.suppress(OSError):
                    if folder.isdigit() and os.readlink(f"/proc/{folder}/ns/pid") == space:
                        seen.add(Path(f"/proc/{folder}/cmdline").read_bytes())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def written_files(machine: Box) -> Iterator[Path]:
    tops = [
        machine.root / top for top in ("var/lib/tklb", "var/cache/tklb", "var/log", "mnt/target", "tmp", "etc", "root")
    ]
    yield from (path for top in tops for path in top.rglob("*") if path.is_file() and not path.is_symlink())
