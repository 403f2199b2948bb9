"""A million unchanged files: scan and compare against `find -printf`, as a ratio of one run.

Takes a tree (made when absent) and a scratch folder; gives figures. Each step is a process of its own, so that its
time, CPU and peak memory are the kernel's own count. Run it as `python -m tests.bench.million [TREE]`, or call
measure() from a larger bench.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tklb.delta.listing import compare_listings, compare_records, listing, records
from tklb.delta.rules import Rule, Rules
from tklb.model import Skipped
from tklb.system.records import scan_records

FIND = ("find", "%s", "-printf", r"%p\t%y\t%m\t%U\t%G\t%s\t%T@\t%C@\t%i\t%n\t%l\n")
SIDE = 100  # folders in a folder, and files in the innermost


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: seconds of wall clock and of CPU, peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians. `scan` writes a file and `compare` reads two; `one_step` is a scan that knows the stored listing."""

    files: int
    find: Cost
    scan: Cost
    compare: Cost
    one_step: Cost

    @property
    def two_steps_ratio(self) -> float:
        return (self.scan.wall + self.compare.wall) / self.find.wall

    @property
    def one_step_ratio(self) -> float:
        return self.one_step.wall / self.find.wall


def make_tree(tree: Path, side: int = SIDE) -> Path:
    """Make side x side x side empty files below `tree`, unless it is there."""
    if not tree.is_dir():
        for outer in range(side):
            for inner in range(side):
                folder = tree / f"d{outer:03}" / f"e{inner:03}"
                folder.mkdir(parents=True)
                for file in range(side):
                    os.close(os.open(folder / f"file-{file:04}.txt", os.O_CREAT | os.O_WRONLY, 0o644))
    return tree


def measure(tree: Path, scratch: Path, runs: int = 3) -> Figures:
    """Give the figures of `tree`, medians of paired runs. Raises RuntimeError where a step fails or finds a change."""
    stored, now = scratch / "stored.mtree", scratch / "now.mtree"
    _cost(_step("scan", tree, stored))
    rounds = [
        (
            _cost((*(word.replace("%s", str(tree), word == "%s") for word in FIND),), quiet=True),
            _cost(_step("scan", tree, now)),
            _cost(_step("compare", stored, now)),
            _cost(_step("known", tree, stored)),
        )
        for _ in range(runs)
    ]
    with stored.open("rb") as stream:
        files = sum(line.startswith(b".") for line in stream)
    return Figures(files, *map(_median, zip(*rounds, strict=True)))


def scan_step(tree: str, out: str) -> None:
    with open(out, "wb") as stream:
        stream.writelines(listing(scan_records(b"/", _only(tree), skipped=[])))


def compare_step(stored: str, now: str) -> None:
    with open(stored, "rb") as old, open(now, "rb") as new:
        _expect_none(sum(1 for _ in compare_listings(old, new)))


def known_step(tree: str, stored: str) -> None:
    skipped: list[Skipped] = []
    with open(stored, "rb") as stream:
        base, known = itertools.tee(records(stream))
        present = scan_records(b"/", _only(tree), skipped=skipped, known=known)
        _expect_none(sum(1 for _ in compare_records(base, present, skipped)))


def _only(tree: str) -> Rules:
    return Rules([Rule(include=True, pattern=os.fsencode(tree), is_literal=True)])


def _expect_none(changes: int) -> None:
    if changes:
        raise RuntimeError(f"{changes} changes in a tree that nobody changed")


def _step(name: str, *arguments: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.bench.million", name, *map(str, arguments))


def _cost(argv: tuple[str, ...], *, quiet: bool = False) -> Cost:
    actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)] if quiet else []
    begin = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _median(costs: tuple[Cost, ...]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        max(cost.peak for cost in costs),
    )


def _shown(figures: Figures) -> str:
    rows = [("find -printf", figures.find), ("scan", figures.scan), ("compare", figures.compare)]
    rows.append(("scan that knows, and compare", figures.one_step))
    lines = [f"{figures.files} files             wall s   CPU s  peak MiB  x find"]
    for name, cost in rows:
        ratio = cost.wall / figures.find.wall
        lines.append(f"{name:28} {cost.wall:7.2f} {cost.cpu:7.2f} {cost.peak:9.1f} {ratio:7.2f}")
    lines.append(
        f"scan + compare: {figures.two_steps_ratio:.2f} x find; in one step: {figures.one_step_ratio:.2f} x find"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    steps = {"scan": scan_step, "compare": compare_step, "known": known_step}
    if len(sys.argv) > 2:
        steps[sys.argv[1]](*sys.argv[2:])
    else:
        place = make_tree(Path(sys.argv[1] if len(sys.argv) == 2 else "/tmp/million"))
        with tempfile.TemporaryDirectory() as folder:
            print(_shown(measure(place, Path(folder))))
