"""The run that the README shows: a lived-in web server, backed up and brought back on a fresh machine, as text.

    sudo .venv/bin/python3 -m tests.lab.tour

Prints each command and its output, long outputs cut after some lines. Touches two clones and a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.lab.appliance import Appliance, clone
from tests.lab.fresh_server import make_fresh_server
from tests.lab.repository import repository_layer
from tests.lab.roots import POLICY
from tests.lab.used_server import touch_one_percent, used_server

SHOP = """CREATE DATABASE shop;
CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(200), at DATETIME);
INSERT INTO shop.orders (item, at) SELECT 'book 1', now() FROM information_schema.columns"""
RESTORE = "tklb restore --target file:///mnt/usb/backups --key /mnt/usb/web1.key"
SHOWN = 40  # lines of one output


def show(machine: Appliance, command: str) -> None:
    """Run a command on a machine and print both; exit status 3 is done, with skipped items."""
    done = machine.run(["sh", "-c", f"{command} 2>&1"], check=False, timeout=600)
    lines = done.stdout.splitlines()
    middle = ["[...]"] if len(lines) > SHOWN else []
    print(
        f"{machine.hostname}# {command}",
        *lines[: SHOWN // 2],
        *middle,
        *lines[SHOWN // 2 :][-SHOWN // 2 :],
        "",
        sep="\n",
    )
    if done.returncode not in (0, 3):
        sys.exit(f"{command}: exit status {done.returncode}")


def start_database(machine: Appliance) -> None:
    machine.start("mariadb")
    (machine.root / POLICY).unlink(missing_ok=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as share:
        binds = {Path(share): "/mnt/usb"}
        with used_server("lamp", hostname="web1", tklb=True, binds=binds) as a:
            start_database(a)
            a.run(["mariadb", "-e", SHOP])
            for command in ("tklb init --target file:///mnt/usb/backups", "tklb delta", "tklb backup"):
                show(a, command)
            touch_one_percent(a)
            for command in ("tklb backup", "tklb list", "tklb status", "tklb verify"):
                show(a, command)
            show(a, "tklb key escrow --no-passphrase /mnt/usb/web1.key")
        with clone("lamp", hostname="fresh", tklb=True, binds=binds, layers=[repository_layer()]) as b:
            make_fresh_server(b)
            start_database(b)
            show(b, f"{RESTORE} --dry-run")
            show(b, f"{RESTORE} --yes")


if __name__ == "__main__":
    main()
