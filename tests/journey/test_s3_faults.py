"""Backups to S3 and restores from there, each with one broken request: what is said is true, and the next run clean.

The machine is the lab's, the server rclone outside of it, in between the proxy that breaks it. Every second fault
breaks one request of a backup, each other one a request of a restore; in a soak, each breaks every request of both.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.journey.taken_backup import SCOPE, Told, decoded, differences, done, left_overs, server_a, tklb
from tests.lab.appliance import Appliance
from tests.lab.checker import Facts, record
from tests.lab.entry_names import snapshot_in_name
from tests.lab.fault_proxy import Fault, FaultProxy
from tests.lab.fixture_fs import FixtureFs
from tests.lab.s3 import rclone
from tests.lab.soak import SOAK, some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FAULTS = list(Fault)
PATIENCE = 4
LONG = 8  # snapshots
FAILURES = {30, 33, 34}  # unreachable, damaged, refused


@dataclass
class Place:
    """A machine, its proxy, and what the server holds of the machine's target, seen from outside."""

    machine: Appliance
    proxy: FaultProxy
    bucket: Path
    targets: Iterator[int] = field(default_factory=itertools.count)
    objects: Path = Path()

    def enter(self) -> None:
        """Begin to use a target of its own: what a fault has left at another is no part of it."""
        self.objects = self.bucket / f"web{next(self.targets)}"
        address = f"s3+http://127.0.0.1:{self.proxy.port}/{self.bucket.name}/{self.objects.name}"
        done(self.machine, "init", "--force", "--target", address)

    def shorten(self) -> None:
        """The same, with two snapshots, where the chain has become long: each step takes as long as the chain is."""
        if len(self.sealed()) > LONG:
            self.enter()
            self.fill()

    def fill(self) -> None:
        """Take a first snapshot, and one of five volumes."""
        done(self.machine, "backup")
        self.change()
        done(self.machine, "backup")

    def sealed(self) -> list[str]:
        """Ids of the snapshots whose entries are there."""
        return sorted(snapshot_in_name(entry.name) for entry in (self.objects / "ledger").iterdir())

    def check(self) -> set[str]:
        """Every volume that an entry names is there as it was sealed; give their names."""
        named = set()
        for entry in (self.objects / "ledger").iterdir():
            for name, size, sha256 in json.loads(entry.read_bytes().split(b"\n")[0])["volumes"]:
                held = (self.objects / "volumes" / name).read_bytes()
                assert (len(held), hashlib.sha256(held).hexdigest()) == (size, sha256), name
                named.add(name)
        return named

    def change(self) -> None:
        """Give the next backup five volumes' worth to do."""
        FixtureFs(self.machine.root).file(b"/srv/data/today", os.urandom(7_000_000))

    def broken(self, fault: Fault, number: int, *words: str) -> tuple[Told, bool]:
        """Run tklb while request `number` goes wrong; whether there was such a request."""
        self.proxy.break_at(fault, number)
        told = tklb(self.machine, *words)
        count = len(self.proxy.seen)
        self.proxy.break_at(None)
        return told, count > number


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("served")
    with server_a() as machine, rclone(folder) as service, FaultProxy(service.port, machine.pid) as proxy:
        service.credentials(machine.root / "etc/tklb/credentials")
        made = Place(machine, proxy, folder / "bucket")
        made.enter()
        settings = machine.root / "etc/tklb/tklb.toml"
        text = settings.read_text().replace("volume_megabytes = 100", "volume_megabytes = 1")
        settings.write_text(text.replace("[target]", f"[target]\npatience = {PATIENCE}"))
        made.fill()
        yield made


def numbers(fault: Fault) -> Iterator[int]:
    """Requests to break. Who takes the last of them sees that there are no more."""
    return iter(range(400) if SOAK else (2 + FAULTS.index(fault),))


@pytest.mark.parametrize("fault", some(FAULTS, 16, first=2))
def test_backup_through_a_fault_is_true_and_the_next_one_clean(place: Place, fault: Fault) -> None:
    machine, reached = place.machine, True
    for number in numbers(fault):
        if not reached:
            break
        place.shorten()
        place.change()
        before, held = place.sealed(), place.check()
        told, reached = place.broken(fault, number, "backup", "--json")
        assert told.status in {0, *(FAILURES if reached else ())}, (number, told)
        assert json.loads((machine.root / "var/lib/tklb/last-run.json").read_text())["status"] == told.status
        place.check()
        if told.status == 0:
            assert place.sealed() == [*before, told.value["snapshot"]], number
        done(machine, "backup")
        assert len(place.sealed()) == len(before) + 1, number
        named = place.check()
        assert named == set(os.listdir(place.objects / "volumes")), number
        assert sum(".vol" in name for name in named - held) >= 5
        assert [item["snapshot"] for item in done(machine, "list", "--json").value] == place.sealed()
        assert os.listdir(machine.root / "var/cache/tklb/spool") == []
        assert not (machine.root / "var/lib/tklb/pending").exists()
    assert left_overs(machine) == []
    assert differences(decoded(machine, "latest"), record(machine.root, SCOPE)) == []


@pytest.mark.skipif(
    not SOAK, reason="a soak alone: TKLB_SOAK=1; test_s3_sweep.py restores through faults without a machine"
)
@pytest.mark.parametrize("fault", some(FAULTS, 10, first=7))
def test_restore_through_a_fault_is_right_or_says_that_it_is_not(place: Place, fault: Fault) -> None:
    machine, reached = place.machine, True
    place.shorten()
    wanted = record(machine.root, SCOPE)
    for number in numbers(fault):
        if not reached:
            break
        shutil.rmtree(machine.root / "var/cache/look", ignore_errors=True)
        told, reached = place.broken(fault, number, "restore", "--into", "/var/cache/look")
        assert told.status in {0, *(FAILURES if reached else ())}, (number, told)
        if told.status == 0:
            assert differences(looked_at(machine), wanted) == [], number
        else:
            assert not (machine.root / "var/cache/look").exists(), number
        assert differences(decoded(machine, "latest"), wanted) == [], number
    assert left_overs(machine) == []


def looked_at(machine: Appliance) -> Facts:
    """What came back, owners by the machine's own names."""
    place = machine.root / "var/cache/look"
    for book in ("passwd", "group"):
        shutil.copy(machine.root / "etc" / book, place / "etc" / book)
    return record(place, SCOPE)
