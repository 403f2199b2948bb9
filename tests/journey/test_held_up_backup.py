"""A user without rights who does all she can to hold a backup up: it ends, and names what it did not take."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.journey.taken_backup import done, tklb
from tests.lab import attacker
from tests.lab.appliance import Appliance, clone
from tests.lab.attacker import HOME, PROGRAMS, UID

pytestmark = pytest.mark.lab

MOST = 150.0  # seconds; on an idle machine it takes 30, and without limits an hour


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with clone("core", hostname="a", tklb=True, binds={tmp_path_factory.mktemp("target"): "/mnt"}) as box:
        attacker.move_in(box)
        for name in ("leased", "touched", "locked"):
            (box.root / HOME[1:] / name).mkdir()
        for number in range(60):
            for name in ("leased", "touched"):
                (box.root / HOME[1:] / name / f"{number:02}").write_bytes(b"content")
        for number in range(3):
            with closing(sqlite3.connect(box.root / HOME[1:] / f"locked/{number}.db")) as database:
                database.execute("CREATE TABLE t (x)")
        for size, name in ((8 << 30, "holes"), (1 << 40, "more holes")):
            (box.root / HOME[1:] / name).touch()
            os.truncate(box.root / HOME[1:] / name, size)
        (box.root / HOME[1:] / "disk.img").write_bytes(os.urandom(1 << 20))
        os.truncate(box.root / HOME[1:] / "disk.img", 70 << 20)
        box.run(["chown", "-R", f"{UID}:{UID}", HOME])
        done(box, "init", "--target", "file:///mnt/target")
        with (box.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt\n")
        yield box


def test_user_who_tries_everything_costs_a_backup_seconds(machine: Appliance) -> None:
    folders = {"lease": "leased", "touch": "touched", "lock": "locked"}
    begin = time.monotonic()
    with ExitStack() as attacks:
        for program, folder in folders.items():
            attacks.enter_context(attacker.attack(machine, PROGRAMS[program], f"{HOME}/{folder}"))
        told = done(machine, "--json", "backup", status=3)
    assert time.monotonic() - begin < MOST
    skipped = {item["item"]: item["reason"] for item in told.value["skipped"]}
    assert "lease" in skipped[f"{HOME}/leased/00"]
    assert "holes" in skipped[f"{HOME}/holes"]
    assert "holes" in skipped[f"{HOME}/more holes"]
    locked = [skipped[f"{HOME}/locked/{number}.db"] for number in range(3)]
    assert all(reason.startswith("taken as it lies there") for reason in locked)


def test_restored_file_with_holes_has_its_content_and_its_holes(machine: Appliance) -> None:
    image: Path = machine.root / HOME[1:] / "disk.img"
    content = image.read_bytes()
    image.unlink()
    tklb(machine, "restore", "--limit", f"{HOME}/disk.img", "--yes")
    assert image.read_bytes() == content
    assert image.stat().st_blocks * 512 < 8 << 20
