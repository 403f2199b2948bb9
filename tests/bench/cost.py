"""What a command costs: takes its words, gives wall clock, CPU and peak memory; runs it, and touches what it touches.

GNU time counts: what it says of memory has its own megabyte as floor, not that of this Python.
"""

import mmap
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Word = str | bytes | os.PathLike[str]
_TOUCHED = 2 << 30  # bytes
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Command:
    """`accept` lists the exit statuses that are no failure; `output` is where standard output goes, else nowhere."""

    argv: tuple[Word, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    accept: tuple[int, ...] = (0,)
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall clock; seconds of CPU, children included; MB of the largest process.

    `server` is seconds of CPU of a server that was asked, where somebody counted them.
    """

    wall: float
    cpu: float
    peak: float
    server: float = 0

    def __add__(self, after: "Cost") -> "Cost":
        seconds = (getattr(self, name) + getattr(after, name) for name in ("wall", "cpu"))
        return Cost(*seconds, max(self.peak, after.peak), self.server + after.server)


def cost(command: Command) -> Cost:
    """Run `command`, when all that was written before is on disk. Raises RuntimeError where it fails."""
    os.sync()
    _use_memory()
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile("r") as figures:
        with (command.output or Path(os.devnull)).open("wb") as output:
            counted = ("/usr/bin/time", "--quiet", "--format=%U %S %M", f"--output={figures.name}", "--", *command.argv)
            begin = time.perf_counter()
            done = subprocess.run(
                counted,
                env=PLAIN | dict(command.env),
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=said,
                check=False,
            )
            wall = time.perf_counter() - begin
        if done.returncode not in command.accept:
            said.seek(0)
            raise RuntimeError(f"{command.argv} ended with {done.returncode}: {said.read()[-2000:].decode()}")
        user, system, peak = map(float, figures.read().splitlines()[-1].split())
    return Cost(wall, user + system, peak * 1024 / 1e6)


def _use_memory() -> None:
    """Touch memory, and free it: what a virtual machine has not used for a while comes slowly to whoever asks first."""
    mmap.mmap(-1, _TOUCHED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def median(costs: Iterable[Cost]) -> Cost:
    """Of each figure on its own."""
    costs = tuple(costs)
    return Cost(*(statistics.median(getattr(one, name) for one in costs) for name in ("wall", "cpu", "peak", "server")))
