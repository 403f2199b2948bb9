"""A machine whose storage belongs to an attacker, who kept everything that ever lay there.

`Scene` is A with five snapshots in two chains, the newest of two shards, and B, a fresh machine; each is put back to
where it was between two attacks. Touches clones only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.journey.taken_backup import OWN, TARGET, backup_layer, change_something, note_facts, server_b
from tests.lab import fixture_fs, forge
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.entry_names import snapshot_in_name
from tests.lab.fixture_fs import FixtureFs
from tests.lab.forge import Loot
from tests.lab.roots import digest_of, layer

PASSPHRASE = "correct horse battery staple"
BY_PASSPHRASE = ("--target", TARGET, "--passphrase-file", "/mnt/passphrase")
_SOURCES = digest_of(str(forge.__file__), str(fixture_fs.__file__), __file__)
TOML = "/etc/tklb/tklb.toml"


def live_on(box: Box) -> None:
    """What happened to A after its first two snapshots, and what somebody else did meanwhile."""
    FixtureFs(box.root).file(b"/mnt/passphrase", PASSPHRASE.encode() + b"\n", 0o600)
    box.run(["tklb", "key", "passphrase", "--passphrase-file", "/mnt/passphrase"])
    keep_state(box, 1)
    make_other(box, "twin", host="0" * 32)
    make_other(box, "fork")
    make_stranger(box)
    change_something(box)
    box.run(["tklb", "backup"])
    note_facts(box)
    keep_state(box, 2)
    for number in range(6):
        FixtureFs(box.root).file(b"/srv/data/large-%d" % number, os.urandom(500_000))
    box.run(["sed", "-i", "-e", "s/^shards.*/shards = 2/", "-e", "s/^volume_meg.*/volume_megabytes = 1/", TOML])
    box.run(["tklb", "backup", "--full"])
    note_facts(box)
    keep_state(box, 3)
    change_something(box)
    box.run(["tklb", "backup"])
    note_facts(box)
    change_something(box)


def keep_state(box: Box, number: int) -> None:
    shutil.copytree(box.root / "mnt/target", box.root / f"mnt/loot/{number}")


def elsewhere(name: str) -> dict[str, str]:
    """The environment of another tklb on the same machine."""
    return {f"TKLB_{part}": f"/opt/{name}/{part.lower()}" for part in ("CONFIG", "STATE", "CACHE", "LOG")}


def make_other(box: Box, name: str, host: str = "") -> None:
    """What a copy of the machine keeps at a target of its own: with `host`, one that got another host id."""
    for part in ("config", "state"):
        shutil.copytree(
            box.root / {"config": "etc/tklb", "state": "var/lib/tklb"}[part], box.root / f"opt/{name}/{part}"
        )
    shutil.copytree(box.root / "mnt/target", box.root / f"mnt/{name}")
    box.run(["sed", "-i", f"s|^url.*|url = 'file:///mnt/{name}'|", f"/opt/{name}/config/tklb.toml"])
    if host:
        (box.root / f"opt/{name}/state/host").write_text(f"{host}\n")
        shutil.rmtree(box.root / f"mnt/{name}")
        for folder in ("volumes", "ledger"):
            (box.root / f"mnt/{name}" / folder).mkdir(parents=True)
    FixtureFs(box.root).file(b"/srv/data/evil", b"%s\n" % name.encode())
    for _ in range(3):
        box.run(["tklb", "backup"], env=elsewhere(name))
        FixtureFs(box.root).append(b"/srv/data/evil", b"again\n")
    os.unlink(box.root / "srv/data/evil")
    shutil.rmtree(box.root / f"opt/{name}")


def make_stranger(box: Box) -> None:
    """A target of the attacker's own, and an unencrypted set."""
    evil = FixtureFs(box.root)
    for number in range(20):
        evil.file(b"/srv/evil/%02d" % number, b"evil\n" * 100)
    box.run(["tklb", "init", "--target", "file:///mnt/stranger"], env=elsewhere("stranger"))
    FixtureFs(box.root).file(b"/opt/stranger/config/overrides", b"-/mnt\n", 0o600)
    box.run(["tklb", "backup"], env=elsewhere("stranger"))
    evil.append(b"/srv/evil/01", b"again\n")
    box.run(["tklb", "backup"], env=elsewhere("stranger"))
    shutil.copy(box.root / "opt/stranger/state/secret", box.root / "mnt/stranger-secret")
    engine = ["python3", "-c", "from duplicity.__main__ import dup_run; dup_run()"]
    words = ["full", "--no-encryption", "--archive-dir", "/opt/stranger/archive", "/srv/evil", "file:///mnt/plain"]
    box.run([*engine, *words], env={"PYTHONPATH": "/opt/tklb/lib"})
    shutil.rmtree(box.root / "opt/stranger")
    shutil.rmtree(box.root / "srv/evil")


def stolen_layer() -> Path:
    return layer(f"stolen {_SOURCES}", (backup_layer(), *stack("core", "a", tklb=True)), live_on, "a")


@dataclass(frozen=True)
class Scene:
    """A and B, both with the target in /mnt/target, and what the attacker has. `kept` has what is put back.

    A has something to back up.
    """

    a: Appliance
    b: Appliance
    loot: Loot
    kept: Path

    def attack(self, machine: Appliance, forgery: forge.Forgery) -> Path:
        """Put everything back to where it was, then forge the machine's target."""
        self.put_back(machine)
        target = machine.root / "mnt/target"
        forgery(target, self.loot)
        return target

    def put_back(self, machine: Appliance) -> None:
        """The target as A left it; A's own state too. B has never heard of any target."""
        copy_over(self.kept / "mnt/target", machine.root / "mnt/target")
        for folder in OWN:
            if machine is self.a:
                copy_over(self.kept / folder[1:], machine.root / folder[1:])
            else:
                shutil.rmtree(machine.root / folder[1:], ignore_errors=True)

    @property
    def newest(self) -> str:
        return snapshot_in_name(max(os.listdir(self.kept / "mnt/target/ledger")))


@contextlib.contextmanager
def scene(kept: Path) -> Iterator[Scene]:
    with clone("core", hostname="a", tklb=True, layers=[stolen_layer(), backup_layer()]) as a, server_b() as b:
        shutil.copytree(a.root / "mnt", b.root / "mnt", dirs_exist_ok=True)
        for folder in ("mnt", *(top[1:] for top in OWN)):
            copy_over(a.root / folder, kept / folder)
        mnt = kept / "mnt"
        yield Scene(
            a, b,
            Loot(
                states=tuple(mnt / f"loot/{number}" for number in (1, 2, 3)),
                twin=mnt / "twin", fork=mnt / "fork", stranger=mnt / "stranger", plain=mnt / "plain",
                secret=(mnt / "stranger-secret").read_text().strip(),
            ),
            kept,
        )  # fmt: skip


def copy_over(source: Path, destination: Path) -> None:
    """Make a folder the copy of another: content, modes and times."""
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(source, destination, symlinks=True)
