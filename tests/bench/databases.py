"""Databases of a given size: dumped and loaded by tklb's engines and by stock tools, in turn; and backed up by tklb.

Takes a kind of server, megabytes and the number of runs; gives what each cost. Touches the lab's cache, where a machine
and its dumps live as long as it takes.

Every other run asks the programs in the opposite order. Content is held against what was filled after each load. The
backups are tklb's own, with the target on the same disk: a first one, one of what did not change, one after a change
of a hundredth of the rows with neighbouring keys, one after a change of every hundredth row.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import content
from tests.bench.cost import Cost, cost
from tests.bench.machine import FIRST, UNCHANGED, Measured
from tests.bench.servers import COPY, DATABASE, HOW_MANY, INSIDE, TKLB, Kind, Program, Server, running
from tests.lab.box import LAB

DUMP, LOAD = "dump", "load"
RANGE, SCATTERED = "1 % of the rows changed, in one range", "1 % of the rows changed, every hundredth"


def step_of(kind: Kind, megabytes: int, deed: str) -> str:
    return f"{kind.engine}, {megabytes:,} MB: {deed}"


def step_of_small(kind: Kind) -> str:
    return f"{kind.engine}, {HOW_MANY} small databases: dump"


def measure(kind: Kind, megabytes: int, runs: int) -> Iterator[Measured]:
    """Give each as soon as it is known; ours alone for a tenth of the size first. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=LAB) as scratch, running(kind, Path(scratch)) as server:
        yield from _Size(server, megabytes // 10).round(0, [kind.tklb])
        size = _Size(server, megabytes)
        for run in range(runs):
            yield from size.round(run, kind.programs[:: -1 if run % 2 else 1])
        yield from size.back_up()
        server.fill_small()
        for run in range(runs):
            yield size.dump_small(run)


class _Size:
    """A server filled to a size."""

    def __init__(self, server: Server, megabytes: int) -> None:
        self._server = server
        self._megabytes = megabytes
        self._rows = content.rows_of(megabytes)
        server.fill(self._rows)
        self._filled = server.tell(content.summary(), DATABASE)

    def round(self, run: int, programs: Sequence[Program]) -> Iterator[Measured]:
        """Everybody dumps, then everybody loads what he dumped."""
        with tempfile.TemporaryDirectory(dir=self._server.scratch) as scratch:
            folders = [Path(scratch, str(number)) for number, _ in enumerate(programs)]
            Path(scratch).chmod(0o755)
            for program, folder in zip(programs, folders, strict=True):
                folder.mkdir()
                folder.chmod(0o777)
                spent = self._spent(program.dump, folder)
                yield Measured(run, self._step(DUMP), program.name, spent, _bytes_in(folder))
            for program, folder in zip(programs, folders, strict=True):
                if program.load:
                    yield Measured(run, self._step(LOAD), program.loader, self._loaded(program, folder))

    def dump_small(self, run: int) -> Measured:
        with tempfile.TemporaryDirectory(dir=self._server.scratch) as scratch:
            spent = self._spent(self._server.kind.dump_small, Path(scratch))
            return Measured(run, step_of_small(self._server.kind), TKLB, spent, _bytes_in(Path(scratch)))

    def _step(self, deed: str) -> str:
        return step_of(self._server.kind, self._megabytes, deed)

    def _spent(self, words: Sequence[str], folder: Path, output: Path | None = None) -> Cost:
        before = self._server.cpu()
        name = str(folder.relative_to(self._server.scratch))
        spent = cost(self._server.command(words, name, output))
        return replace(spent, server=self._server.cpu() - before)

    def _loaded(self, program: Program, folder: Path) -> Cost:
        (self._server.drop if program.makes_copy else self._server.renew)(COPY)
        spent = self._spent(program.load, folder)
        there = self._server.tell(content.summary(), COPY)
        if there != self._filled:
            raise RuntimeError(f"{program.loader} loaded {there}, not {self._filled}")
        self._server.drop(COPY)
        return spent

    def back_up(self) -> Iterator[Measured]:
        """Back up the whole machine by tklb, after each change."""
        self._server.machine.run(["tklb", "init", "--target", f"file://{INSIDE}/target"])
        with (self._server.machine.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt\n")  # what the lab mounts there is nobody's
        yield self._backed_up(FIRST)
        yield self._backed_up(UNCHANGED)
        self._server.tell(content.change_a_range(self._rows), DATABASE)
        yield self._backed_up(RANGE)
        self._server.tell(content.change_here_and_there(), DATABASE)
        yield self._backed_up(SCATTERED)

    def _backed_up(self, step: str) -> Measured:
        said = self._server.scratch / "said"
        spent = self._spent(("tklb", "backup", "--json"), said, said)
        return Measured(0, self._step(step), TKLB, spent, int(json.loads(said.read_bytes())["stored_bytes"]))


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
