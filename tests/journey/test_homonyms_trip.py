"""Two machines with accounts of the same names: a restore makes nobody an administrator because of a name."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.fixture_fs import FixtureFs

pytestmark = pytest.mark.lab

KEY = "/home/{}/.ssh/authorized_keys"


def told(machine: Appliance, *words: str, status: int = 0) -> Any:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def groups_of(machine: Appliance, user: str) -> set[str]:
    return set(machine.run(["id", "-nG", user]).stdout.split())


@pytest.fixture(scope="module")
def machine() -> Iterator[Appliance]:
    """A machine with people of its own, and a snapshot of another one with people of the same names."""
    with clone("core", hostname="a", tklb=True) as a:
        fs = FixtureFs(a.root)
        a.run(["groupadd", "-f", "-g", "27", "sudo"])
        for name in ("bob", "ops", "eve"):
            a.run(["useradd", "-m", "-s", "/bin/bash", name])
        a.run(["usermod", "-aG", "sudo", "bob"])
        a.run(["sed", "-i", "s/^sudo:.*/&,carol/", "/etc/group"])
        fs.file(KEY.format("ops").encode(), b"ssh-ed25519 AAAA ops-of-a\n")
        fs.file(b"/etc/sudoers.d/carol", b"carol ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        fs.file(b"/etc/sudoers.d/eve", b"eve ALL=(ALL) NOPASSWD: /bin/true\n", 0o440)
        a.run(["tklb", "init", "--target", "file:///srv/backups"])
        a.run(["tklb", "backup"], timeout=600)
        a.run(["tklb", "key", "escrow", "--no-passphrase", "/srv/backups/key.file"])
        saved = a.run(["tar", "-C", "/srv", "-czf", "-", "backups"], text=False).stdout
    with clone("core", hostname="b", tklb=True) as b:
        (b.root / "mnt/backups.tar.gz").write_bytes(saved)
        b.run(["tar", "-C", "/mnt", "-xzf", "/mnt/backups.tar.gz"])
        b.run(["groupadd", "-f", "-g", "27", "sudo"])
        for name in ("carol", "bob", "ops"):
            b.run(["useradd", "-m", "-s", "/bin/bash", name])
        b.run(["usermod", "-aG", "sudo", "ops"])
        b.run(["useradd", "-o", "-u", "0", "-M", "-d", "/root", "eve"])
        yield b


def test_a_restore_widens_nothing_and_names_it(machine: Appliance) -> None:
    report = told(
        machine, "restore", "--target", "file:///mnt/backups", "--key", "/mnt/backups/key.file", "--yes", status=3
    )
    named = {item["item"] for item in report["skipped"]}
    assert {"user:bob", "user:carol", "user:ops", "user:eve", "/etc/sudoers.d/carol", "/etc/sudoers.d/eve"} <= named
    assert "sudo" not in groups_of(machine, "bob") | groups_of(machine, "carol")
    assert not (machine.root / KEY.format("ops")[1:]).exists()
    assert not (machine.root / "etc/sudoers.d/carol").exists()
    assert machine.run(["stat", "-c", "%u", "/home/eve"], check=False).stdout.strip() != "0"


def test_it_comes_where_the_user_says_that_the_accounts_are_the_same(machine: Appliance) -> None:
    words = ["--same-user", "bob", "--same-user", "carol", "--same-user", "ops", "--yes"]
    told(machine, "restore", "--target", "file:///mnt/backups", "--key", "/mnt/backups/key.file", *words, status=3)
    assert "sudo" in groups_of(machine, "bob") & groups_of(machine, "carol")
    assert (machine.root / KEY.format("ops")[1:]).exists()
    assert (machine.root / "etc/sudoers.d/carol").exists()
