"""One set of files to an S3 service and back: tklb, restic, duplicity and the AWS CLI in turn; and volumes alone.

Takes the number of runs, gives each program's cost of each step in each run, the service's CPU apart; touches the lab's
cache, where machine, service and buckets live for the length of a run. The service is `rclone serve s3` on the
machine's own 127.0.0.1. Caches are warm: all files are read once before a run begins. Every other run asks the programs
in the opposite order. What was restored is compared with the machine. Nothing is removed before all is measured: ext4
passes over the inodes of what was just deleted, one by one, for whoever makes files next.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import ClassVar

from tests.bench.cost import Command, Cost, cost
from tests.bench.machine import CHANGED, FIRST, UNCHANGED, Measured
from tests.bench.programs import DUPLICITY, NAMED, PASSWORD
from tests.bench.volumes import note
from tests.lab.appliance import Appliance, clone
from tests.lab.box import ENVIRONMENT, LAB
from tests.lab.s3 import Service, rclone

BACK = "restore"
PUT, GET = "4 volumes of 100 MB: put", "4 volumes of 100 MB: get"
TKLB, INTO, RESTIC, PLAIN, AWS = "tklb", "tklb --into", "restic", "duplicity", "aws s3"
PLACE = "srv/files"
TREE = Path(__file__).parents[2]
_AWS = os.fspath(Path(sys.executable).with_name("aws"))
_VOLUMES, _ABREAST = 4, 4


def measure(runs: int, size: int = 400) -> Iterator[Measured]:
    """Of so many megabytes of files; give each as soon as it is known. Raises RuntimeError where a program fails."""
    with contextlib.ExitStack() as held:
        for run in range(runs):
            for part in (partial(_one_run, run, size), partial(_volumes, run)):
                scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=LAB)))
                yield from part(scratch, held)


@dataclass(frozen=True, slots=True)
class World:
    """`served` has the buckets as folders, `keep` what the programs keep on this side, `held` what ends with all."""

    machine: Appliance
    service: Service
    served: Path
    keep: Path
    held: contextlib.ExitStack

    @property
    def files(self) -> Path:
        return self.machine.root / PLACE

    def spent(self, command: Command) -> Cost:
        """Run beside the machine, but on its network."""
        beside = ("nsenter", f"--target={self.machine.pid}", "--net", "--", *command.argv)
        return self.counted(replace(command, argv=beside))

    def counted(self, command: Command) -> Cost:
        before = _cpu(self.service.pid)
        spent = cost(command)
        return replace(spent, server=_cpu(self.service.pid) - before)


class Tklb:
    name: ClassVar[str] = TKLB
    bucket: ClassVar[str] = "tklb"

    def prepare(self, world: World) -> None:
        _let_in(world)
        world.machine.run(["tklb", "init", "--target", world.service.address(self.bucket)])
        world.machine.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/bench/key"])

    def backup(self, world: World, step: str) -> Cost:
        del step
        return world.counted(Command(tuple(world.machine.argv(["tklb", "backup"])), ENVIRONMENT))

    def restored(self, world: World) -> Iterator[tuple[str, Cost]]:
        for name, words in ((TKLB, ["--yes"]), (INTO, ["--into", "/root/files"])):
            binds = {world.keep: "/mnt/bench"}
            b = world.held.enter_context(clone("core", hostname="b", tklb=True, on="disk", binds=binds))
            there = _served_anew(replace(world, machine=b))
            _let_in(there)
            source = ["--target", there.service.address(self.bucket), "--key", "/mnt/bench/key"]
            command = Command(tuple(b.argv(["tklb", "restore", *source, *words])), ENVIRONMENT, accept=(0, NAMED))
            yield name, there.counted(command)
            _compare(world.files, b.root / ("root/files" if name == INTO else "") / PLACE)


class Restic:
    name: ClassVar[str] = RESTIC
    bucket: ClassVar[str] = "restic"

    def prepare(self, world: World) -> None:
        world.spent(self._command(world, "init"))

    def backup(self, world: World, step: str) -> Cost:
        del step
        return world.spent(self._command(world, "backup", "."))

    def restored(self, world: World) -> Iterator[tuple[str, Cost]]:
        with _restored(world, self.name) as (there, folder):
            yield self.name, there.spent(self._command(there, "restore", "latest", "--target", folder))

    def _command(self, world: World, *words: str | Path) -> Command:
        kept = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": os.fspath(world.keep / "cache")}
        place = f"s3:{world.service.endpoint}/{self.bucket}"
        return Command(("restic", f"--repo={place}", *words), {**kept, **_keys(world)}, world.files)


class Duplicity:
    """As it comes, over its own S3 backend."""

    name: ClassVar[str] = PLAIN
    bucket: ClassVar[str] = "duplicity"

    def prepare(self, world: World) -> None:
        (world.keep / "gnupg").mkdir(mode=0o700)

    def backup(self, world: World, step: str) -> Cost:
        return world.spent(self._command(world, "full" if step == FIRST else "backup", world.files, self._place))

    def restored(self, world: World) -> Iterator[tuple[str, Cost]]:
        with _restored(world, self.name) as (there, folder):
            yield self.name, there.spent(self._command(there, "restore", "--numeric-owner", self._place, folder))

    @property
    def _place(self) -> str:
        return f"boto3+s3://{self.bucket}/files"

    def _command(self, world: World, verb: str, *words: str | Path) -> Command:
        kept = {
            "PASSPHRASE": PASSWORD,
            "GNUPGHOME": os.fspath(world.keep / "gnupg"),
            # With this service, a restore has ended in a checksum that did not match.
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }
        options = (f"--archive-dir={world.keep / 'archive'}", f"--s3-endpoint-url={world.service.endpoint}")
        return Command((DUPLICITY, verb, *options, *words), {**kept, **_keys(world)})


class Aws:
    """The AWS CLI copies, and then only what is not there: neither encrypted nor packed, without owners and modes."""

    name: ClassVar[str] = AWS
    bucket: ClassVar[str] = "aws"

    def prepare(self, world: World) -> None:
        pass

    def backup(self, world: World, step: str) -> Cost:
        words = ("cp", "--recursive") if step == FIRST else ("sync",)
        return world.spent(_aws(world, *words, world.files, f"s3://{self.bucket}"))

    def restored(self, world: World) -> Iterator[tuple[str, Cost]]:
        with _restored(world, self.name) as (there, folder):
            yield self.name, there.spent(_aws(there, "cp", "--recursive", f"s3://{self.bucket}", folder))


Program = Tklb | Restic | Duplicity | Aws
PROGRAMS: tuple[Program, ...] = (Tklb(), Restic(), Duplicity(), Aws())


def _world(scratch: Path, buckets: Sequence[str], held: contextlib.ExitStack) -> World:
    served, keep = scratch / "served", scratch / "keep"
    keep.mkdir()
    for bucket in buckets:
        (served / bucket).mkdir(parents=True)
    machine = held.enter_context(clone("core", hostname="a", tklb=True, on="disk", binds={keep: "/mnt/bench"}))
    return World(machine, held.enter_context(rclone(served, box=machine)), served, keep, held)


def _served_anew(world: World) -> World:
    """With a service that knows no digest of its objects from before."""
    return replace(world, service=world.held.enter_context(rclone(world.served, box=world.machine)))


def _one_run(run: int, size: int, scratch: Path, held: contextlib.ExitStack) -> Iterator[Measured]:
    programs = PROGRAMS[:: -1 if run % 2 else 1]
    world = _world(scratch, [program.bucket for program in programs], held)
    fill(world.files, size)
    for program in programs:
        program.prepare(world)
    for step in (FIRST, UNCHANGED, CHANGED):
        if step == CHANGED:
            change(world.files)
        cost(Command(("grep", "--recursive", "--devices=skip", "--count", "", world.machine.root), accept=(0, 2)))
        for program in programs:
            before = _bytes_in(world.served)
            spent = program.backup(world, step)
            yield Measured(run, step, program.name, spent, _bytes_in(world.served) - before)
    for program in programs:
        for name, spent in program.restored(world):
            yield Measured(run, BACK, name, spent)


def _volumes(run: int, scratch: Path, held: contextlib.ExitStack) -> Iterator[Measured]:
    """tklb's driver against the AWS CLI, each with volumes of its own place, both ways."""
    world = _world(scratch, ["tklb", "aws"], held)
    (world.served / "tklb/volumes").mkdir()  # where two make it at a time, rclone 1.75 loses the object of one
    made = scratch / "volumes"
    made.mkdir()
    for number in range(_VOLUMES):
        (made / f"volume-{number}").write_bytes(Random(number).randbytes(100_000_000))
    note(made, made)
    copied, fetched = scratch / "copied", scratch / "fetched"
    note(made, copied)
    ways = (
        (PUT, TKLB, _driver(world, "put", made)),
        (PUT, AWS, _aws(world, "cp", "--recursive", made, "s3://aws")),
        (GET, TKLB, _driver(world, "get", copied)),
        (GET, AWS, _aws(world, "cp", "--recursive", "s3://aws", fetched)),
    )
    copied.mkdir()
    for step, name, command in sorted(ways[:: -1 if run % 2 else 1], key=lambda way: way[0] == GET):
        yield Measured(run, step, name, world.spent(command))
    _compare(made, copied)
    _compare(made, fetched)


def fill(folder: Path, megabytes: int) -> None:
    """Files that depend on nothing but the size: 45 % is what no packing makes smaller, in files of 5 MB; 40 % logs of
    500 kB; the rest ten times as many small files of both kinds as there are megabytes.
    """
    random, small = Random(megabytes), megabytes * 10
    folder.mkdir(parents=True)
    for number in range(megabytes * 9 // 100):
        _write(folder / f"photos/{number:03}.jpg", random.randbytes(5_000_000))
    for number in range(megabytes * 8 // 10):
        _write(folder / f"logs/{number // 50}/access.log.{number}", _log(random, 500_000))
    for number in range(small):
        size = int(random.triangular(200, 40_000, 4_000))
        content = random.randbytes(size) if number % 3 == 0 else _log(random, size)
        _write(folder / f"pages/{number // 100}/{number}.html", content)


def change(folder: Path) -> None:
    """A hundredth of the files gets new content of the same length, whatever their size."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, path in enumerate(files[::100]):
        path.write_bytes(Random(number).randbytes(path.stat().st_size))


def _log(random: Random, size: int) -> bytes:
    lines, length = [], 0
    while length < size:
        number = random.getrandbits(64)
        line = (
            f'192.0.2.{number & 255} - - [21/Nov/2025:10:{number >> 8 & 31:02}:{number >> 13 & 31:02} +0000] "GET'
            f' /shop/item/{number >> 18 & 0xFFFFF} HTTP/1.1" 200 {number >> 38 & 0xFFFF} "-" "Mozilla/5.0 (Linux)"\n'
        )
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _let_in(world: World) -> None:
    folder = world.machine.root / "etc/tklb"
    folder.mkdir(mode=0o700, exist_ok=True)
    world.service.credentials(folder / "credentials")


def _keys(world: World) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": world.service.access_key,
        "AWS_SECRET_ACCESS_KEY": world.service.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _aws(world: World, *words: str | Path) -> Command:
    return Command((_AWS, "--endpoint-url", world.service.endpoint, "s3", *words), _keys(world))


def _driver(world: World, deed: str, folder: Path) -> Command:
    credentials = world.service.credentials(world.keep / "credentials")
    told = (deed, world.service.address("tklb"), credentials, folder, str(_ABREAST))
    return Command((sys.executable, TREE / "tests/bench/volumes.py", *told))


@contextlib.contextmanager
def _restored(world: World, name: str) -> Iterator[tuple[World, Path]]:
    folder = world.keep / f"restored by {name}"
    folder.mkdir()
    yield _served_anew(world), folder
    _compare(world.files, folder)


def _compare(files: Path, copy: Path) -> None:
    said = subprocess.run(["diff", "--recursive", "--brief", files, copy], capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(f"{copy} is not what was backed up: {said.stdout[:500]}{said.stderr[:500]}")


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process, see proc(5)."""
    figures = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
