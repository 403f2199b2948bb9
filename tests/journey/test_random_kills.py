"""Runs killed at any moment, and disks that fill up at any moment: one repeat comes home.

Backups to a folder, to S3 and over SFTP; restores with databases; restores on a full disk. Each number gives another
moment. By default few stand for the hundreds of a soak. Touches machines of the lab and servers inside them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.journey.taken_backup import (
    FROM_A,
    SCOPE,
    Running,
    change_something,
    check_replacement,
    decoded,
    differences,
    done,
    left_overs,
    processes,
    server_a,
    server_b,
    soon,
    tklb,
)
from tests.lab.appliance import Appliance
from tests.lab.checker import record
from tests.lab.databases import database_clone
from tests.lab.roots import POLICY
from tests.lab.s3 import rclone
from tests.lab.soak import SOAK
from tests.lab.sshd import Sshd

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BACKUPS = {"folder": 80, "s3": 60, "sftp": 60} if SOAK else {"sftp": 1}
RESTORES, FULL_DISKS = 100, 40 if SOAK else 1
AS_INSTALLED = ("/root", "/root/.ssh")  # folders that are in no delta
LOOK_EVERY = 10  # kills between two looks at all files
WHOM = ("tklb", "all of it", "terminated")


def strike(machine: Appliance, run: Running, chance: random.Random, seconds: float) -> None:
    """After a part of the time that a run takes, kill tklb, or all that it started, or ask it to end."""
    time.sleep(chance.uniform(0, seconds))
    whom = chance.choice(WHOM)
    with contextlib.suppress(ProcessLookupError):
        if whom == "all of it":
            machine.run(["pkill", "--signal", "KILL", "--full", "tklb|duplicity|apt-get|dpkg"], check=False)
        run.send(signal.SIGTERM if whom == "terminated" else signal.SIGKILL)
    run.end()


# ---------------------------------------------------------------- backups


class Place(NamedTuple):
    """A machine with a snapshot at a target, and how long its backups take."""

    machine: Appliance
    seconds: float


@contextlib.contextmanager
def open_target(kind: str, machine: Appliance, folder: Path) -> Iterator[str]:
    """The address of an empty target of a kind."""
    if kind == "s3":
        with rclone(folder, box=machine) as service:
            service.credentials(machine.root / "etc/tklb/credentials")
            yield service.address("bucket", "web1")
    elif kind == "sftp":
        with Sshd(folder, box=machine) as server:
            server.let_in(machine)
            yield server.address(f"{folder}/served")
    else:
        yield "file:///mnt/other"


@pytest.fixture(scope="module", params=BACKUPS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Place]]:
    folder = tmp_path_factory.mktemp("served")
    with server_a() as machine, open_target(request.param, machine, folder) as address:
        done(machine, "init", "--force", "--target", address)
        done(machine, "backup")
        change_something(machine)
        began = time.monotonic()
        done(machine, "backup")
        yield request.param, Place(machine, time.monotonic() - began)


@pytest.mark.skipif(
    not SOAK, reason="a soak alone: TKLB_SOAK=1; test_faults.py kills backups, test_dead_server.py uploads"
)
def test_backups_killed_at_any_moment_are_repaired_by_the_next(place: tuple[str, Place]) -> None:
    kind, (machine, seconds) = place
    for number in range(BACKUPS[kind]):
        chance = random.Random(f"{kind} {number}")
        change_something(machine)
        sealed = {item["snapshot"] for item in done(machine, "list", "--json").value}
        with Running(machine, "backup") as run:
            strike(machine, run, chance, seconds)
        assert soon(lambda: not any("tklb" in words for words in processes(machine)))
        assert sealed <= {item["snapshot"] for item in done(machine, "list", "--json").value}, number
        done(machine, "backup")
        assert done(machine, "status", "--json").value["problems"] == [], number
        if number % LOOK_EVERY == 0:
            assert done(machine, "backup", "--json").value["kind"] == "none", number
            done(machine, "verify")
            assert differences(decoded(machine, "latest"), record(machine.root, SCOPE), *AS_INSTALLED) == [], number
    assert left_overs(machine) == []


# ---------------------------------------------------------------- restores with databases


class Engine(NamedTuple):
    """How a server is filled by its own client, and what its own tool writes of all that it has."""

    client: list[str]
    content: str
    dump: list[str]


ENGINES = {
    "mariadb": Engine(
        ["mariadb"],
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (a INT PRIMARY KEY, b TEXT);"
        "INSERT INTO t SELECT seq, REPEAT('x', 200) FROM seq_1_to_20000",
        ["mariadb-dump", "--skip-dump-date", "--skip-comments", "--routines", "--databases", "shop"],
    ),
    "postgresql": Engine(
        ["runuser", "-u", "postgres", "--", "psql", "-X", "-q"],
        "CREATE ROLE carol; CREATE TABLE t (a int PRIMARY KEY, b text); ALTER TABLE t OWNER TO carol;"
        "INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n",
        ["runuser", "-u", "postgres", "--", "pg_dump", "postgres"],
    ),
}
FILES = 300
FROM_SHARE = ("--target", "file:///mnt/share/target", "--key", "/mnt/share/key", "--skip", "packages", "--yes")


class Saved(NamedTuple):
    """A machine with a server that was backed up into the folder `share`, and what the server's own tool said of it."""

    engine: str
    share: Path
    dumped: str


@pytest.fixture(scope="module", params=ENGINES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    share, engine = tmp_path_factory.mktemp("share"), ENGINES[request.param]
    with database_clone("bookworm", request.param, tklb=True, binds={share: "/mnt/share"}) as a:
        a.run(engine.client, input=engine.content)
        for number in range(FILES):
            (a.root / f"srv/page-{number:03}").write_text(f"{number}\n")
        a.run(["tklb", "init", "--target", "file:///mnt/share/target"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/share/key"])
        a.run(["tklb", "backup"])
        return Saved(request.param, share, dump_of(a, engine))


def dump_of(machine: Appliance, engine: Engine) -> str:
    """A dump has words that no two runs share (\\restrict), and none of ours."""
    text = str(machine.run(engine.dump).stdout)
    return "\n".join(line for line in text.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict")))


@contextlib.contextmanager
def fresh(saved: Saved) -> Iterator[Appliance]:
    with database_clone(
        "bookworm", saved.engine, hostname="b", tklb=True, binds={saved.share: "/mnt/share"}
    ) as machine:
        (machine.root / POLICY).unlink()
        yield machine


@pytest.mark.skipif(not SOAK, reason="loads are killed in the contract of databases; this is the soak")
def test_restores_with_databases_killed_at_any_moment_come_home(saved: Saved) -> None:
    with fresh(saved) as b:
        began = time.monotonic()
        done(b, "restore", *FROM_SHARE)
        seconds = time.monotonic() - began
    for number in range(RESTORES // len(ENGINES)):
        chance = random.Random(f"{saved.engine} {number}")
        with fresh(saved) as b:
            with Running(b, "restore", *FROM_SHARE) as run:
                strike(b, run, chance, seconds)
            assert soon(lambda b=b: not any("tklb" in words for words in processes(b)))  # type: ignore[misc]
            done(b, "restore", *FROM_SHARE)
            steps = done(b, "restore", *FROM_SHARE, "--json").value["steps"]
            assert [step for step in steps if "database" not in step["step"]] == [], number
            assert dump_of(b, ENGINES[saved.engine]) == saved.dumped, number
            assert [(b.root / f"srv/page-{n:03}").read_text() for n in range(FILES)] == [f"{n}\n" for n in range(FILES)]
            assert b.run(["dpkg", "--audit"]).stdout == ""
            assert not (b.root / POLICY).exists()


# ---------------------------------------------------------------- full disks


def leave_room(machine: Appliance, folder: str, kilobytes: int | None) -> None:
    """Leave so much room on the file system that a folder is on, "" for the root's; None: enough for everything."""
    place = Path(f"/proc/{machine.pid}/root/{folder}") if folder else machine.folder
    status = os.statvfs(place)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
    options = f"remount,size={'8g' if kilobytes is None else f'{used + kilobytes}k'}"
    if folder:
        machine.run(["mount", "-o", options, f"/{folder}"])
    else:
        subprocess.run(["mount", "-o", options, place], check=True)


@pytest.mark.parametrize("number", range(FULL_DISKS))
def test_restore_that_fills_the_disk_is_told_and_the_repeat_comes_home(number: int) -> None:
    chance = random.Random(number)
    folder = ("", "var/lib/tklb", "var/cache/tklb", "")[number % 4]
    with server_b() as b:
        if folder:
            (b.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            b.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "small", f"/{folder}"])
        most = {"": 14_000, "var/lib/tklb": 200, "var/cache/tklb": 4000}[folder]
        leave_room(b, folder, chance.randrange(most))
        told = tklb(b, "restore", *FROM_A, "--yes")
        assert told.status in (0, 3, 52), told
        assert told.status != 3 or "No space left" in told.stderr, told
        leave_room(b, folder, None)
        done(b, "restore", *FROM_A, "--yes")
        check_replacement(b)
        assert done(b, "restore", *FROM_A, "--yes", "--json").value["steps"] == []
        assert left_overs(b) == []
