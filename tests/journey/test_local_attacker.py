"""A user without rights on the machine that is backed up: what she does meanwhile gains her nothing on any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.taken_backup import done, tklb
from tests.lab import attacker
from tests.lab.appliance import Appliance, clone
from tests.lab.attacker import FOLDERS, HOME, PROGRAMS
from tests.lab.soak import SOAK

pytestmark = pytest.mark.lab

FROM_A = ("--target", "file:///mnt/target", "--key", "/mnt/key")
RACE = 60.0 if SOAK else 6.0  # seconds


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def a(target: Path) -> Iterator[Appliance]:
    """A machine whose backups were attacked: two snapshots, the second one an increment."""
    with clone("core", hostname="a", tklb=True, binds={target: "/mnt"}) as machine:
        attacker.move_in(machine)
        done(machine, "init", "--target", "file:///mnt/target")
        with (machine.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt\n")
        done(machine, "key", "escrow", "--no-passphrase", "/mnt/key")
        for _ in range(2):
            with attacker.attack(machine, PROGRAMS["once"], *FOLDERS):
                done(machine, "backup", status=3)
            attacker.edit(machine)
        yield machine


@pytest.fixture(scope="module")
def snapshots(a: Appliance) -> list[str]:
    return [line["snapshot"] for line in done(a, "--json", "list").value]


@pytest.fixture(scope="module")
def b(target: Path) -> Iterator[Appliance]:
    with clone("core", hostname="b", tklb=True, binds={target: "/mnt"}) as machine:
        yield machine


def test_backup_names_each_file_that_another_one_replaced_meanwhile(a: Appliance) -> None:
    with attacker.attack(a, PROGRAMS["once"], *FOLDERS):
        told = done(a, "--json", "backup", status=3)
    skipped = {item["item"]: item["reason"] for item in told.value["skipped"]}
    assert {f"{HOME}/tools/{number:02}" for number in range(attacker.COUNT)} <= skipped.keys()
    assert {skipped[f"{HOME}/tools/{number:02}"] for number in range(attacker.COUNT)} == {
        "another file took its place before it was read"
    }
    done(a, "backup")  # now that nobody attacks, all is taken


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["whole", "limit", "into"])
def test_attacked_snapshot_gives_a_user_nothing(b: Appliance, snapshots: list[str], number: int, how: str) -> None:
    """Of one entry, owner and mode would come from one file and the content from another."""
    attacker.take_away(b)
    words = {"limit": ("--limit", HOME, "--yes"), "into": ("--into", f"/root/out{number}")}.get(how, ("--yes",))
    assert tklb(b, "restore", snapshots[number], *FROM_A, *words).status in (0, 3)
    place = f"/root/out{number}" if how == "into" else ""
    assert (b.root / f"{place}{HOME}/tools/00"[1:]).parent.is_dir()
    assert attacker.find_gains(b, f"{place}{HOME}") == []
    assert not attacker.become_root(b, f"{HOME}/tools/00")


def test_racing_user_gains_nothing_by_many_backups(a: Appliance, b: Appliance) -> None:
    end, taken = time.monotonic() + RACE, set()
    with attacker.attack(a, PROGRAMS["loop"], *FOLDERS):
        while time.monotonic() < end:
            attacker.edit(a)
            told = tklb(a, "--json", "backup")
            assert told.status in (0, 3), told
            taken.add(told.value["snapshot"])
    for snapshot in sorted(taken):
        attacker.take_away(b)
        tklb(b, "restore", snapshot, *FROM_A, "--limit", HOME, "--yes")
        assert attacker.find_gains(b, HOME) == []
