"""A user without rights on the machine that is backed up: what she does meanwhile gains her nothing on any other."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.taken_backup import done, tklb
from tests.lab import attacker
from tests.lab.appliance import Appliance, clone
from tests.lab.attacker import FOLDERS, HOME, PROGRAMS
from tests.lab.soak import SOAK, some

pytestmark = pytest.mark.lab

FROM_A = ("--target", "file:///mnt/target", "--key", "/mnt/key")
RACE = 60.0 if SOAK else 3.0  # seconds
WAYS = [("whole", 1), ("whole", 0), ("limit", 0), ("limit", 1), ("into", 1), ("into", 0)]
ONE_SECRET = ("--limit", f"{HOME}/box/*/private/inner/secret")
MOVED = [("absent", ()), ("absent", ONE_SECRET), ("there", ONE_SECRET), ("there", ())]


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


@pytest.mark.parametrize(("how", "number"), some(WAYS, 2))
def test_attacked_snapshot_gives_a_user_nothing(b: Appliance, snapshots: list[str], how: str, number: int) -> None:
    """Of one entry, owner and mode would come from one file and the content from another."""
    attacker.take_away(b)
    words = {"limit": ("--limit", HOME, "--yes"), "into": ("--into", f"/root/out{number}")}.get(how, ("--yes",))
    assert tklb(b, "restore", snapshots[number], *FROM_A, *words).status in (0, 3)
    place = f"/root/out{number}" if how == "into" else ""
    assert (b.root / f"{place}{HOME}/tools/00"[1:]).parent.is_dir()
    assert attacker.find_gains(b, f"{place}{HOME}") == []
    assert not attacker.become_root(b, f"{HOME}/tools/00")


# ---------------------------------------------------------------- while a machine is restored


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Path]]:
    """A machine that nobody attacked: a full snapshot and an increment; and its target."""
    target = tmp_path_factory.mktemp("calm")
    with clone("core", hostname="a", tklb=True, binds={target: "/mnt"}) as machine:
        attacker.move_in(machine)
        attacker.leave_boxes(machine)
        done(machine, "init", "--target", "file:///mnt/target")
        with (machine.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt\n")
        done(machine, "key", "escrow", "--no-passphrase", "/mnt/key")
        done(machine, "backup")
        attacker.edit(machine)
        done(machine, "backup")
        yield machine, target


@pytest.fixture(scope="module")
def victim(calm: tuple[Appliance, Path]) -> Iterator[Appliance]:
    """A machine where she has an account already."""
    with clone("core", hostname="b", tklb=True, binds={calm[1]: "/mnt"}) as machine:
        attacker.move_in(machine)
        yield machine


@pytest.mark.parametrize("words", some([(), ("--limit", HOME)], 2))
def test_content_that_was_checked_earlier_never_gets_more_rights(
    calm: tuple[Appliance, Path], victim: Appliance, words: tuple[str, ...]
) -> None:
    """The plan reads her file, which is as in the snapshot; then she writes another program into it."""
    attacker.take_away(victim)
    attacker.copy_as_hers(calm[0], victim)
    with attacker.attack(victim, PROGRAMS["overwrite"], *FOLDERS):
        assert tklb(victim, "restore", *FROM_A, *words, "--yes").status in (0, 3)
    assert attacker.find_gains(victim, HOME) == []
    assert not attacker.become_root(victim, f"{HOME}/tools/00")
    assert (victim.root / HOME[1:] / "tools/00").stat().st_mode & 0o7777 == 0o4755


@pytest.mark.parametrize(("present", "words"), some(MOVED, 2))
def test_folders_that_she_moves_meanwhile_give_her_nothing(
    victim: Appliance, present: str, words: tuple[str, ...]
) -> None:
    """A folder is filled where it was made or seen, and root's until it is full."""
    attacker.take_away(victim)
    (victim.root / HOME[1:]).mkdir()
    os.chown(victim.root / HOME[1:], attacker.UID, attacker.UID)
    if present == "there":
        attacker.leave_boxes(victim)
        for box in attacker.BOXES:
            for name in ("private/secret", "private/inner/secret"):
                (victim.root / box[1:] / name).unlink()
    with attacker.attack(victim, PROGRAMS["move"], *attacker.BOXES):
        told = tklb(victim, "--json", "restore", *FROM_A, *words, "--yes")
    assert told.status in (0, 3), told
    assert attacker.find_gains(victim, HOME) == []


def test_racing_user_gains_nothing_by_many_backups(a: Appliance, b: Appliance) -> None:
    done(a, "takeover")  # after restores onto the other machine
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


WAYS = [("--yes",), ("--limit", HOME, "--yes"), ("--into", "/root/out"), ("--into", f"{HOME}/out")]


@pytest.mark.parametrize("number", some(range(len(WAYS)), 3))
def test_racing_user_gains_nothing_by_many_restores(
    calm: tuple[Appliance, Path], victim: Appliance, number: int
) -> None:
    """Full snapshot and increment, with hard links, set-id bits and capabilities; she exchanges, links and moves."""
    files = {path: (victim.root / path).lstat() for path in ("etc/passwd", "etc/shadow", "etc", "root")}
    snapshots = [line["snapshot"] for line in done(calm[0], "--json", "list").value]
    end, rounds = time.monotonic() + (RACE if SOAK else 0), 0
    while rounds == 0 or time.monotonic() < end:
        attacker.take_away(victim)
        shutil.rmtree(victim.root / "root/out", ignore_errors=True)
        attacker.copy_as_hers(calm[0], victim)
        with attacker.attack(victim, PROGRAMS["chaos"], *FOLDERS, *attacker.BOXES):
            told = tklb(victim, "restore", snapshots[rounds % 2], *FROM_A, *WAYS[number])
        assert told.status in (0, 3, 60, 61), told
        assert attacker.find_gains(victim, HOME) == []
        rounds += 1
    for path, before in files.items():
        now = (victim.root / path).lstat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid), path
