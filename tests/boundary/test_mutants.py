"""Targets that somebody broke, 2,000 where TKLB_SOAK is set: each is found, its cost told exactly, the rest comes back.

The oracle is told by what was sealed and which bytes were changed; it shares nothing with what it judges.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.boundary.sealed_target import SECRET, SealedTarget
from tests.lab.soak import SOAK
from tklb.commands.verify import verify
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.crypto.secret import write_secret
from tklb.engine.duplicity import select_restore_volumes
from tklb.ledger.read import read_ledger
from tklb.session import TargetAccess, open_target_session
from tklb.storage.kinds import open_backend
from tklb.storage.transfer import download_volume
from tklb.verify.result import VerifyRequest, VerifyResult

BATCHES, MUTANTS = 20 if SOAK else 1, 100
VOLUMES, LEDGER, KEY = "volumes/", "ledger/", "key.asc"
Objects = dict[str, bytes]


@dataclass
class Mutant:
    """What was done to a target: objects that are other than they were (None: gone), and new ones."""

    deed: str
    changed: dict[str, bytes | None] = field(default_factory=dict)
    added: Objects = field(default_factory=dict)


# ---------------------------------------------------------------- breaking


def flip(chance: random.Random, objects: Objects, name: str) -> Mutant:
    content = bytearray(objects[name])
    for _ in range(chance.choice((1, 1, 1, 8))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return Mutant("flip", {name: bytes(content)})


def truncate(chance: random.Random, objects: Objects, name: str) -> Mutant:
    content = objects[name]
    return Mutant(
        "truncate", {name: content[: chance.choice((0, 1, len(content) - 1, chance.randrange(len(content))))]}
    )


def extend(chance: random.Random, objects: Objects, name: str) -> Mutant:
    tail = chance.choice((b"\n", b" ", b"\0", chance.randbytes(100), objects[name]))
    return Mutant("extend", {name: objects[name] + tail})


def delete(chance: random.Random, objects: Objects, name: str) -> Mutant:
    return Mutant("delete", {name: None})


def swap(chance: random.Random, objects: Objects, name: str) -> Mutant:
    other = chance.choice(alike(objects, name))
    return Mutant("swap", {name: objects[other], other: objects[name]})


def replace(chance: random.Random, objects: Objects, name: str) -> Mutant:
    other = objects[chance.choice(alike(objects, name))]
    return Mutant(
        "replace", {name: chance.choice((other, other[: len(objects[name])].ljust(len(objects[name]), b"\0")))}
    )


def duplicate(chance: random.Random, objects: Objects, name: str) -> Mutant:
    label = f"20{chance.randrange(10, 40)}0101T000000Z"
    as_volume = (
        f"duplicity-full.{label}.vol1.difftar.gpg", f"duplicity-full.{label}.manifest.gpg", "again", "b-anything.gpg",
        f"duplicity-inc.20240501T160000Z.to.{label}.manifest.gpg", f"duplicity-full-signatures.{label}.sigtar.gpg",
    )  # fmt: skip
    known = [entry[-16:] for entry in objects if entry.startswith(LEDGER)]
    as_entry = (f"{chance.randrange(1, 9):08}-{chance.choice((label, *known))}", "again")
    folder = chance.choice((VOLUMES, VOLUMES, LEDGER))
    new = folder + chance.choice(as_entry if folder == LEDGER else as_volume)
    return Mutant("duplicate", {}, {new: objects[name]}) if new not in objects else delete(chance, objects, name)


def alike(objects: Objects, name: str) -> list[str]:
    """Other objects, mostly of the same folder, with another content."""
    folder = name.partition("/")[0]
    near = [n for n in objects if n.startswith(folder) and objects[n] != objects[name]]
    return near * 3 + [n for n in objects if objects[n] != objects[name]]


DEEDS: tuple[Callable[[random.Random, Objects, str], Mutant], ...] = (
    flip, flip, truncate, extend, delete, swap, replace, duplicate,
)  # fmt: skip


def mutants(seed: int, objects: Objects) -> Iterator[Mutant]:
    chance = random.Random(seed)
    names = sorted(objects)
    for number in range(MUTANTS):
        # every object in turn, the rest by chance
        name = names[(seed * MUTANTS + number) % len(names)]
        mutant = chance.choice(DEEDS)(chance, objects, name)
        mutant.changed = {n: content for n, content in mutant.changed.items() if content != objects[n]}
        assert mutant.changed or mutant.added
        yield mutant


# ---------------------------------------------------------------- the machine that looks


@dataclass
class Watcher:
    """A machine that sealed these snapshots and looks after them."""

    sealed: SealedTarget
    paths: Paths

    @classmethod
    def make(cls, sealed: SealedTarget, folder: Path) -> Watcher:
        folder.mkdir(mode=0o700)
        paths = Paths(folder / "etc", folder / "state", folder / "cache", folder / "log")
        for place in (paths.config, paths.state):
            place.mkdir(mode=0o700)
        paths.toml.write_text(f'[target]\nurl = "{sealed.address}"\n')
        write_secret(paths.secret, SECRET)
        paths.host.write_text("0" * 32 + "\n")
        paths.key_file.write_bytes(b"-----BEGIN PGP MESSAGE-----\n\nanything\n-----END PGP MESSAGE-----\n")
        (sealed.folder / "target" / KEY).write_bytes(paths.key_file.read_bytes())
        return cls(sealed, paths)

    def look(self) -> VerifyResult:
        return verify(open_target_session(self.paths, TargetAccess(), lambda: datetime.now(UTC)), VerifyRequest())

    def fetch(self, snapshots: set[str]) -> None:
        """Bring all volumes of these snapshots, as a restore does; raises where one is not whole."""
        target = open_backend(self.sealed.address, Config())
        ledger = read_ledger(target, SECRET, self.paths.ledger)
        records = [record for record in ledger.entries if record.snapshot in snapshots]
        assert {record.snapshot for record in records} == snapshots
        wanted = {volume.name: volume for record in records for volume in select_restore_volumes(record.volumes)}
        folder = self.paths.cache / "fetched"
        folder.mkdir(mode=0o700)
        try:
            for volume in wanted.values():
                download_volume(target, volume, folder)
            assert len(os.listdir(folder)) == len(wanted)
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def write(self, objects: dict[str, bytes | None]) -> None:
        for name, content in objects.items():
            path = self.sealed.folder / "target" / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
                path.chmod(0o600)


def expected_loss(sealed: SealedTarget, mutant: Mutant) -> set[str]:
    """The snapshots that cannot be restored any more: their own entry is another, or a volume they need."""
    lost = set()
    for record in sealed.records:
        entry = f"{LEDGER}{record.sequence:08}-{record.snapshot}"
        needed = {VOLUMES + volume.name for volume in select_restore_volumes(record.volumes)}
        if mutant.changed.keys() & {entry, *needed}:
            lost.add(record.snapshot)
    return lost


def expected_names(sealed: SealedTarget, mutant: Mutant) -> set[str]:
    """What must be told: all that was changed, but for volumes that only an entry which is gone tells of."""
    records = [r for r in sealed.records if f"{LEDGER}{r.sequence:08}-{r.snapshot}" not in mutant.changed]
    sealed = {VOLUMES + volume.name for record in records for volume in record.volumes}
    changed = {name for name in mutant.changed if name in sealed or not name.startswith(VOLUMES)}
    return {name.removeprefix(VOLUMES) for name in (*changed, *mutant.added)}


def expected_kind(before: bytes, after: bytes | None) -> str:
    if after is None:
        return "missing"
    return "truncated" if len(after) < len(before) else "damaged"


@pytest.fixture(scope="session")
def watcher(sealed: SealedTarget, tmp_path_factory: pytest.TempPathFactory) -> Watcher:
    folder = tmp_path_factory.mktemp("watched")
    watcher = Watcher.make(sealed.copy(folder / "kept"), folder / "machine")
    verdict = watcher.look()
    assert verdict.is_ok
    assert verdict.exit_status == 0
    assert verdict.problems == ()
    return watcher


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_mutant_is_found_and_costs_what_it_is_said_to(watcher: Watcher, batch: int) -> None:
    objects = watcher.sealed.objects()
    everything = {record.snapshot for record in watcher.sealed.records}
    for mutant in mutants(batch, objects):
        watcher.write({**mutant.changed, **mutant.added})
        verdict = watcher.look()
        watcher.fetch(everything - expected_loss(watcher.sealed, mutant))
        watcher.write({**{name: objects[name] for name in mutant.changed}, **dict.fromkeys(mutant.added)})
        check(watcher.sealed, mutant, verdict, objects)


def check(sealed: SealedTarget, mutant: Mutant, verdict: VerifyResult, objects: Objects) -> None:
    told = {damage.volume: damage for damage in verdict.problems}
    assert told.keys() == expected_names(sealed, mutant), mutant.deed
    lost = expected_loss(sealed, mutant)
    assert {snapshot for damage in verdict.problems for snapshot in damage.snapshots} == lost, mutant
    assert set(verdict.whole_snapshots) == {record.snapshot for record in sealed.records} - lost
    judged = {name: content for name, content in mutant.changed.items() if name.removeprefix(VOLUMES) in told}
    for name, content in judged.items():
        kind = told[name.removeprefix(VOLUMES)].kind
        assert kind == expected_kind(objects[name], content) or (name.startswith(LEDGER) and kind != "unexpected"), name
    assert all(told[name.removeprefix(VOLUMES)].kind == "unexpected" for name in mutant.added)
    assert verdict.is_ok == (not mutant.changed)
    assert verdict.exit_status == (3 if verdict.is_ok else 33)
