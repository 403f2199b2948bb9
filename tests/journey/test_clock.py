"""A clock that was years ahead and is set right between two backups: order is by sequence, and nothing breaks.

Takes the lab's machines and libfaketime out of Debian's package, in front of tklb; touches clones only.
"""

import re
from pathlib import Path

import pytest

from tests.journey.taken_backup import Told, change_something, done, snapshots
from tests.lab.appliance import RESOLVER, Appliance
from tests.lab.box import Box
from tests.lab.fixture_fs import FixtureFs
from tests.lab.roots import layer, root

pytestmark = pytest.mark.lab

AHEAD = "2031-05-06 07:08:09"
UNPACK = "cd /mnt && apt-get -qq update && apt-get -qq download libfaketime && dpkg-deb -x libfaketime_*.deb faketime"


@pytest.fixture(scope="module")
def library() -> Path:
    """libfaketime.so.1, of the release that the machines have."""

    def unpack(box: Box) -> None:
        (box.root / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        box.run(["sh", "-c", UNPACK])

    (found,) = layer("faketime", [root("core")], unpack).glob("mnt/faketime/usr/lib/*/faketime/libfaketime.so.1")
    return found


def at(machine: Appliance, library: Path, time: str, *words: str) -> Told:
    """Run tklb while the clock shows `time`, as libfaketime(1) has it."""
    inside = machine.root / "var/cache/libfaketime.so.1"
    if not inside.exists():
        inside.write_bytes(library.read_bytes())
    command = ["env", "LD_PRELOAD=/var/cache/libfaketime.so.1", f"FAKETIME={time}", "TZ=UTC", "tklb", *words]
    ended = machine.run(command, check=False)
    return Told(ended.returncode, ended.stdout, ended.stderr)


def test_clock_that_was_ahead_of_a_snapshot_breaks_nothing(a: Appliance, library: Path) -> None:
    before = snapshots(a)
    change_something(a)
    ahead = at(a, library, AHEAD, "backup", "--json")
    assert (ahead.status, ahead.value["snapshot"]) == (0, "20310506T070809Z"), ahead
    FixtureFs(a.root).file(b"/srv/data/today", b"after the clock was set right\n")
    right = done(a, "backup", "--json").value
    assert right["kind"] == "incremental"
    assert right["snapshot"] == "20310506T070810Z"
    assert done(a, "backup", "--json").value["kind"] == "none"
    listed = done(a, "list", "--json").value
    assert [each["snapshot"] for each in listed] == snapshots(a) == [*before, "20310506T070809Z", "20310506T070810Z"]
    shown = done(a, "restore", "--dry-run", "--limit", "/srv/data").stderr
    assert re.search(r"number 4, dated \d{3,} days ahead: the clock was ahead then", shown)
    (a.root / "srv/data/today").unlink()
    done(a, "restore", "--yes", "--limit", "/srv/data")
    assert (a.root / "srv/data/today").read_bytes() == b"after the clock was set right\n"
    done(a, "restore", "--yes", "20310506T070809Z", "--limit", "/srv/data")
    assert (a.root / "srv/data/today").stat().st_size == 1_000_000


def test_snapshot_of_the_future_does_not_hide_that_backups_have_stopped(a: Appliance, library: Path) -> None:
    change_something(a)
    at(a, library, AHEAD, "backup")
    assert done(a, "status", "--json", status=3).value["state"] == "late"
    done(a, "backup")
    assert done(a, "status", "--json").value["state"] == "ok"
    assert at(a, library, "+9d", "status", "--json").value["state"] == "late"
