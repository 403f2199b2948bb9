"""Failures before a run has noted anything, and reports that nobody can read: status and message tell the truth.

Takes a machine of the lab and strace; touches clones only.
"""

from collections.abc import Iterator

import pytest

from tests.journey.taken_backup import Told, change_something, server_a, snapshots
from tests.lab.appliance import Appliance

pytestmark = pytest.mark.lab

STATE = "/var/lib/tklb"


@pytest.fixture(scope="module")
def machine() -> Iterator[Appliance]:
    """A machine with two snapshots, whose state folder is a small file system of its own."""
    with server_a() as box:
        box.run(
            ["sh", "-c", f"cp -a {STATE} /mnt/kept && mount -t tmpfs -o size=64m none {STATE} && chmod 700 {STATE}"]
        )
        box.run(["sh", "-c", f"cp -a /mnt/kept/. {STATE}/ && rm -r /mnt/kept"])
        yield box


def tell(box: Appliance, command: str) -> Told:
    done = box.run(["sh", "-c", command], check=False)
    return Told(done.returncode, done.stdout, done.stderr)


def problems(box: Appliance) -> tuple[int, str, list[str]]:
    told = tell(box, "tklb status --json")
    lines = [problem for problem in told.value["problems"] if not problem.startswith(f"not taken: {STATE}")]
    return told.status, told.value["state"], lines


def test_full_state_folder_makes_status_fail_until_a_backup_succeeds(machine: Appliance) -> None:
    change_something(machine)
    tell(machine, f"dd if=/dev/zero of={STATE}/filler bs=64k; dd if=/dev/zero of={STATE}/filler2 bs=1")
    assert tell(machine, "tklb backup --json").value["error"]["code"] == 52
    machine.run(["rm", f"{STATE}/filler", f"{STATE}/filler2"])
    status, state, named = problems(machine)
    assert (status, state) == (52, "failing")
    assert any("the last backup failed: no space left" in problem for problem in named)
    assert tell(machine, "tklb backup").status == 0
    assert problems(machine) == (0, "ok", [])


def test_broken_state_folder_is_a_failure_of_the_disk_and_status_knows_it(machine: Appliance) -> None:
    change_something(machine)
    machine.run(["mount", "-o", "remount,ro", STATE])
    assert tell(machine, "tklb backup --json").value["error"]["code"] in (34, 53)
    machine.run(["mount", "-o", "remount,rw", STATE])
    assert problems(machine)[:2] in ((34, "failing"), (53, "failing"))
    assert tell(machine, "tklb backup").status == 0
    assert problems(machine) == (0, "ok", [])


def test_report_that_nobody_can_read_says_that_the_snapshot_is_sealed(machine: Appliance) -> None:
    change_something(machine)
    before = snapshots(machine)
    told = tell(machine, "tklb backup --json >/dev/full")
    [sealed] = set(snapshots(machine)) - {*before}
    assert told.status == 55
    assert f"snapshot {sealed} is sealed, but the report could not be written" in told.stderr
    assert problems(machine) == (0, "ok", [])
    assert tell(machine, "tklb restore --key /nothing --json >/dev/full").status == 41


def test_full_standard_error_stops_no_backup(machine: Appliance) -> None:
    change_something(machine)
    told = tell(machine, "tklb backup --json 2>/dev/full")
    assert (told.status, told.value["kind"]) == (0, "incremental")
