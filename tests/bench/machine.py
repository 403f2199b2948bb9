"""A lived-in web server, backed up and restored by tklb and by others, in turn.

Takes the number of runs, gives each program's cost of each step in each run; touches the lab's cache, where a clone and
fresh repositories live for the length of a run. Caches are warm: the whole root is read once before a run begins.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost import Command, Cost, cost
from tests.bench.programs import PROGRAMS, Program
from tests.lab.box import LAB
from tests.lab.used_server import touch_one_percent, used_server

FIRST, UNCHANGED, CHANGED, RESTORE = "first backup", "no-change backup", "1 %-change backup", "restore to usable"
FILES = 3000  # of the owner's


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step cost a program in one run, and the bytes it stored."""

    run: int
    step: str
    program: str
    cost: Cost
    stored: int | None = None


def measure(runs: int) -> Iterator[Measured]:
    """Give each as soon as it is known. Raises RuntimeError where a program fails."""
    for run in range(runs):
        yield from _one_run(run)


def _one_run(run: int) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=LAB) as scratch:
        folders = [Path(scratch, program.name) for program in PROGRAMS]
        for folder in folders:
            folder.mkdir()
        with used_server("lamp", files=FILES, tklb=True, on="disk", binds={folders[0]: "/mnt/bench"}) as machine:
            machine.start("mariadb")
            programs = [program(machine, folder) for program, folder in zip(PROGRAMS, folders, strict=True)]
            for program in programs:
                program.prepare()
            cost(Command(("grep", "--recursive", "--devices=skip", "--count", "", machine.root), accept=(0, 2)))
            yield from (_backed_up(run, FIRST, program) for program in programs)
            yield from (_backed_up(run, UNCHANGED, program) for program in programs)
            touch_one_percent(machine)
            yield from (_backed_up(run, CHANGED, program) for program in programs)
            yield from (_restored(run, program) for program in programs)


def _backed_up(run: int, step: str, program: Program) -> Measured:
    before = _bytes_in(program.stored)
    spent = cost(program.backup())
    return Measured(run, step, program.name, spent, _bytes_in(program.stored) - before)


def _restored(run: int, program: Program) -> Measured:
    with program.restoring() as command:
        return Measured(run, RESTORE, program.name, cost(command))


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
