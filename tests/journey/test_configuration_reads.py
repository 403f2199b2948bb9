"""Every command reads the configuration once. Needs root and strace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.box import ENVIRONMENT
from tests.lab.soak import some

pytestmark = pytest.mark.lab

CONFIG = "/var/cache/config"  # out of scope: a backup reads nothing there for the delta
TARGET = "file:///mnt/target"
COMMANDS = (
    ("backup",),
    ("backup", "--dry-run"),
    ("delta",),
    ("list",),
    ("status",),
    ("why", "/etc/motd"),
    ("verify",),
    ("verify", "--data"),
    ("verify", "--live", "--limit-rate", "1G"),
    ("verify", "--mend", "--from", TARGET, "--dry-run"),
    ("restore", "--dry-run"),
    ("restore", "--yes"),
    ("restore", "--target", TARGET, "--key", "/mnt/key", "--dry-run"),
    ("restore", "--into", "/tmp/decoded"),
    ("key", "show"),
    ("key", "kit", "--no-passphrase", "/mnt/sheet"),
    ("key", "rotate"),
    ("init", "--force"),
)


@pytest.fixture(scope="module")
def a() -> Iterator[Appliance]:
    with clone("core", hostname="a", tklb=True) as machine:
        (machine.root / "srv/page").write_text("one")
        environment = {"TKLB_CONFIG": CONFIG}
        machine.run(["tklb", "init", "--target", TARGET], env=environment)
        machine.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/key"], env=environment)
        machine.run(["tklb", "backup"], env=environment)
        (machine.root / "srv/page").write_text("two")
        yield machine


@pytest.mark.parametrize("words", some(COMMANDS, 2, first=1), ids=" ".join)
def test_command_reads_the_configuration_once(a: Appliance, words: tuple[str, ...], tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    traced = ["strace", "-f", "--seccomp-bpf", "-qq", "--trace=open,openat", "-o", calls, *a.argv(["tklb", *words])]
    environment = ENVIRONMENT | {"TKLB_CONFIG": CONFIG}
    done = subprocess.run(traced, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode in (0, 3), done.stderr
    assert len([line for line in calls.read_text().splitlines() if f'"{CONFIG}/tklb.toml"' in line]) == 1
