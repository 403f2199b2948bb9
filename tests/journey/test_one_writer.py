"""Two installations of one machine back up to one target at the same moment: one of them seals, and both can go on.

A clone of a machine has its key, its host id and its state, but for the id of the installation. Here both live on one
machine of the lab, each with folders of its own. Touches a clone.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.journey.taken_backup import Told, done, snapshots
from tests.lab.appliance import Appliance, clone
from tests.lab.s3 import serve_in
from tests.lab.soak import SOAK, some
from tests.lab.sshd import Sshd

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PLACES = {"CONFIG": "/etc/tklb", "STATE": "/var/lib/tklb", "CACHE": "/var/cache/tklb", "LOG": "/var/log/tklb"}
ROUNDS = 50 if SOAK else 1
LATER = (0.0, 0.5, 1.0)  # seconds
SEALED, REFUSED = {0, 3}, 35  # 3: a program of the machine wrote meanwhile


@contextmanager
def in_a_folder(_machine: Appliance, _folder: Path) -> Iterator[str]:
    yield "file:///mnt/target"


@contextmanager
def on_s3(machine: Appliance, folder: Path) -> Iterator[str]:
    """rclone ignores conditions: nobody can be excluded there."""
    (folder / "bucket").mkdir()
    with serve_in(machine, folder) as service:
        service.credentials(machine.root / "root/credentials")
        (machine.root / "root/.aws").mkdir(mode=0o700)
        shutil.copy(machine.root / "root/credentials", machine.root / "root/.aws/credentials")
        yield service.address("bucket", "a")


@contextmanager
def over_sftp(machine: Appliance, folder: Path) -> Iterator[str]:
    with Sshd(folder / "sshd", box=machine, port=2222) as server:
        server.let_in(machine)
        yield server.address(folder / "kept")


KINDS: list[Callable[[Appliance, Path], AbstractContextManager[str]]] = [on_s3, in_a_folder, over_sftp]


def places(who: str) -> dict[str, str]:
    """The folders of an installation, as tklb's environment names them."""
    return {f"TKLB_{name}": path + (f"-{who}" if who != "a" else "") for name, path in PLACES.items()}


def ask(machine: Appliance, who: str, *words: str) -> Told:
    command = ["env", *(f"{name}={path}" for name, path in places(who).items()), "tklb", *words]
    ended = machine.run(command, check=False)
    return Told(ended.returncode, ended.stdout, ended.stderr)


def copy_installation(machine: Appliance) -> None:
    """What a clone carries: all but the id of the installation."""
    for top in PLACES.values():
        machine.run(["cp", "-a", top, f"{top}-b"])
    (machine.root / "var/lib/tklb-b/installation").unlink(missing_ok=True)


def back_up_at_once(machine: Appliance, later: float) -> dict[str, Told]:
    """Start a backup of each installation, the second one some seconds later."""
    told = {}
    with ExitStack() as stack:
        running = {}
        for who in "ab":
            command = ["env", *(f"{name}={path}" for name, path in places(who).items()), "tklb", "backup", "--json"]
            running[who] = stack.enter_context(machine.popen(command, stdout=PIPE, stderr=PIPE, text=True))
            time.sleep(later if who == "a" else 0)
        for who, process in running.items():
            out, err = process.communicate(timeout=300)
            told[who] = Told(process.returncode, out, err)
    return told


@pytest.mark.parametrize("kind", some(KINDS, 3))
def test_of_two_backups_at_one_moment_one_seals_and_both_go_on(
    tmp_path: Path, kind: Callable[[Appliance, Path], AbstractContextManager[str]]
) -> None:
    with clone("core", hostname="a", tklb=True) as machine, kind(machine, tmp_path) as address:
        (machine.root / "mnt/target").mkdir(exist_ok=True)
        done(machine, "init", "--target", address)
        copy_installation(machine)
        reported: set[str] = set()
        for number in range(ROUNDS):
            (machine.root / "srv/number").write_text(str(number))
            told = back_up_at_once(machine, LATER[number % len(LATER)])
            winners = [who for who, one in told.items() if one.status in SEALED]
            assert {one.status for one in told.values()} <= {*SEALED, REFUSED}, told
            sealed = {json.loads(told[who].stdout)["snapshot"] for who in winners}
            assert len(sealed) == len(winners) <= 1, told
            reported |= sealed
            loser = "b" if winners == ["a"] else "a"
            assert ask(machine, loser, "takeover").status == 0
            (machine.root / "srv/number").write_text(f"{number} again")
            again = ask(machine, loser, "backup", "--json")
            assert again.status in SEALED, again
            reported.add(again.value["snapshot"])
            other = "a" if loser == "b" else "b"
            assert ask(machine, other, "takeover").status == 0
            for who in "ab":
                listed = ask(machine, who, "list", "--json")
                assert listed.status == 0, listed
                assert {each["snapshot"] for each in listed.value} >= reported
            verified = ask(machine, other, "verify")
            assert verified.status == 0, verified
        if address.startswith("file:"):
            assert set(snapshots(machine)) == reported
