"""Lived-in machines made by scripts of ordinary how-tos (`howtos/`), and their trip to a fresh machine.

`machine(howto)` is A: a clone where the script has run, made once and kept as a layer. `travel(howto)` takes A's backup
to a fresh B and gives what the audit finds different there, named or not. Touches clones and a folder of its own.
By hand: `python3 -m tests.lab.howtos [--all] [NAME]…` prints the differences that were not named (or all), and counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.appliance import Appliance, clone, prepare
from tests.lab.box import Box
from tests.lab.live_audit import record_live
from tests.lab.machine_audit import Difference, Facts, compare, is_named, leave_out_consequences, package_owners, record
from tests.lab.roots import digest_of, layer

FOLDER = Path(__file__).with_name("howtos")
TARGET = "/mnt/target"
NAMING = ("skipped", "warnings", "outside", "unknown")  # the parts of a report that name what is not as it was
_STARTS = ("not started", "not restarted", "no init system")  # warnings about what runs, which name no difference


@dataclass(frozen=True)
class Howto:
    """The script `name` runs on the clean root `a`; the backup is restored on a fresh machine of the root `b`.

    `late` are commands for each clone of A: what an overlay cannot keep in a layer.
    """

    name: str
    a: str
    b: str
    late: tuple[str, ...] = ()


HOWTOS = {
    howto.name: howto
    for howto in (
        Howto("mail-server", "core", "minbase-12"),
        Howto("nextcloud", "trixie-core", "minbase-13"),
        Howto("docker-host", "cloud-12", "core"),
        Howto("samba-ldap", "core", "core"),
        Howto("jenkins", "minbase-12", "minbase-12"),
        Howto("monitoring", "trixie-core", "trixie-core"),
        Howto("dns-server", "core", "cloud-12"),
        Howto("vpn-gateway", "trixie-core", "minbase-13", ("chattr +i /etc/wireguard/private.key",)),
        Howto("desktop", "core", "minbase-12"),
        Howto("backports", "standard-12", "core"),
    )
}


class Trip(NamedTuple):
    """What differs after the restore; what backup and restore said, with their exit statuses."""

    named: tuple[Difference, ...]
    unnamed: tuple[Difference, ...]
    report: str
    statuses: tuple[int, int]


def machine(howto: Howto, binds: dict[Path, str] | None = None) -> Appliance:
    """A, for a `with`."""
    return clone(howto.a, tklb=True, on="disk", binds=binds, layers=[howto_layer(howto)])


def howto_layer(howto: Howto) -> Path:
    script = FOLDER / f"{howto.name}.sh"
    key = f"howto-{howto.name} {digest_of(str(script))}"
    return layer(key, prepare(howto.a, "a"), lambda box: _follow(box, script), "a")


def _follow(box: Box, script: Path) -> None:
    box.run(["sh", "-s"], input=script.read_text(), timeout=900)
    box.run(["apt-get", "clean"])


def travel(howto: Howto) -> Trip:
    """Back up A, restore it on B, and audit both."""
    with tempfile.TemporaryDirectory() as place:
        binds = {Path(place): "/mnt"}
        with machine(howto, binds) as a:
            for command in howto.late:
                a.run(command.split())
            wanted, owners = record(a), package_owners(a)
            a.run(["tklb", "init", "--target", f"file://{TARGET}"], timeout=600)
            backup = a.run(["tklb", "--json", "backup"], check=False, timeout=600)
            a.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/key"])
            wanted["live"] = record_live(a)
        with clone(howto.b, hostname="b", tklb=True, on="disk", binds=binds) as b:
            before = _record_fresh(howto.b, b)
            command = ["tklb", "--json", "restore", "--yes", "--target", f"file://{TARGET}", "--key", "/mnt/key"]
            restore = b.run(command, check=False, timeout=900)
            after, own = record(b), package_owners(b)
            found = leave_out_consequences(
                compare(wanted, before | {"live": {}}, after | {"live": record_live(b)}), owners, own
            )
    report = f"{_problems(backup.stdout)}\n{_problems(restore.stdout)}"
    unnamed = tuple(one for one in found if not is_named(one, report, owners))
    return Trip(
        tuple(one for one in found if one not in unnamed), unnamed, report, (backup.returncode, restore.returncode)
    )


def _record_fresh(name: str, b: Box) -> Facts:
    """What fresh machines of a root are like: one is as the other."""
    if name not in _FRESH:
        _FRESH[name] = record(b)
    return _FRESH[name]


_FRESH: dict[str, Facts] = {}


def _problems(output: str) -> str:
    """What a report names: not what it says that it did."""
    report: dict[str, Any] = json.loads(output)
    said = {name: report.get(name) for name in (*NAMING, "error")}
    said["warnings"] = [text for text in said["warnings"] or () if not text.startswith(_STARTS)]
    return json.dumps(said, indent=0)


def main(words: list[str]) -> int:
    """Exit status: 0 where nothing differs that was not named, else 3."""
    lost = 0
    for name in [word for word in words if word != "--all"] or HOWTOS:
        started = time.monotonic()
        trip = travel(HOWTOS[name])
        for one in trip.unnamed:
            print(f"{name}: {one}")
        for one in trip.named if "--all" in words else ():
            print(f"{name}: NAMED {one}")
        seconds = time.monotonic() - started
        print(
            f"{name}: {len(trip.unnamed)} not named, {len(trip.named)} named, exit {trip.statuses}, {seconds:.0f} s",
            flush=True,
        )
        lost += len(trip.unnamed)
    return 3 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
