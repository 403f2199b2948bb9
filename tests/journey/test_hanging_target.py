"""A target that hangs for good: a backup ends, status answers, and both tell what is wrong.

Takes machines of the lab; mounts a FUSE file system in one whose server never answers, and stops the SSH server of
another; touches clones only.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.taken_backup import Told, server_a
from tests.lab.appliance import Appliance, clone
from tests.lab.soak import SOAK
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.lab

TARGET = "/mnt/target"
HANG = """
import ctypes, os, sys, time
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"none", sys.argv[1].encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
print("hangs", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Appliance]:
    """A machine with two snapshots on a folder that no longer answers."""
    with server_a() as box:
        box.run(["sh", "-c", "[ -e /dev/fuse ] || mknod /dev/fuse c 10 229"])
        server = box.popen(["python3", "-c", HANG, TARGET], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "hangs\n"
        yield box
        server.kill()
        server.wait()
        server.stdout.close()


def tell(box: Appliance, *words: str) -> tuple[Told, float]:
    began = time.monotonic()
    done = box.run(["tklb", *words], check=False)
    return Told(done.returncode, done.stdout, done.stderr), time.monotonic() - began


def test_status_answers_and_shows_what_this_machine_remembers(machine: Appliance) -> None:
    told, seconds = tell(machine, "status", "--json")
    assert seconds < 30
    assert (told.status, told.value["state"]) == (30, "failing")
    assert told.value["last"] is not None
    assert told.value["snapshots"] == 2
    assert any("no answer within" in problem for problem in told.value["problems"])
    assert "the snapshots are those that this machine remembers" in told.value["problems"]


def test_backup_ends_and_is_noted(machine: Appliance) -> None:
    toml = machine.root / "etc/tklb/tklb.toml"
    toml.write_text(toml.read_text().replace("[target]\n", "[target]\npatience = 5\n"))
    told, seconds = tell(machine, "backup", "--json")
    assert (told.status, told.value["error"]["name"]) == (30, "TargetUnreachable"), told
    assert "it hangs: no answer for 5 seconds" in told.stderr
    assert seconds < 60
    assert machine.run(["pgrep", "-f", "tklb backup"], check=False).stdout == ""
    problems = tell(machine, "status", "--json")[0].value["problems"]
    assert any("the last backup failed" in problem and "it hangs" in problem for problem in problems)


@pytest.mark.skipif(not SOAK, reason="a soak alone, it waits for minutes; the contract of SFTP has servers that stop")
def test_backup_and_status_end_where_an_ssh_server_was_stopped(tmp_path: Path) -> None:
    with clone("core", tklb=True) as box, Sshd(tmp_path / "sshd", box=box) as server:
        server.let_in(box)
        box.run(["tklb", "init", "--target", server.address(f"{tmp_path}/served")])
        box.run(["tklb", "backup"])
        server.freeze()
        (box.root / "srv/page").write_text("new\n")
        told, seconds = tell(box, "backup", "--json")
        assert (told.status, told.value["error"]["name"]) == (30, "TargetUnreachable"), told
        assert "no SSH server answers there" in told.stderr
        assert seconds < 300
        told, seconds = tell(box, "status", "--json")
        assert (told.status, told.value["snapshots"]) == (30, 1)
        assert seconds < 30
