"""A million unchanged files: scan and compare against `find -printf`.

Takes a folder for the tree and one for listings; gives what the commands cost in each round. find and
`tklb internal scan` write a file, `tklb internal compare` reads two.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost import Command, Cost, cost

HOUSE = Path(__file__).parents[2]
FIND = r"%p\t%y\t%m\t%U\t%G\t%s\t%T@\t%C@\t%i\t%n\t%l\n"
FOLDERS, IN_A_FOLDER = 100, 100  # in each folder at the top; and files in each of those


@dataclass(frozen=True, slots=True)
class Scanned:
    """One round: what find took, and what scan and compare took together."""

    files: int
    find: Cost
    tklb: Cost


def make_tree(tree: Path, files: int) -> int:
    """Make at least `files` empty files, in whole folders at the top; return how many."""
    tops = -(-files // (FOLDERS * IN_A_FOLDER))
    for number in range(tops * FOLDERS):
        folder = tree / f"d{number // FOLDERS:03}" / f"e{number % FOLDERS:03}"
        folder.mkdir(parents=True)
        for file in range(IN_A_FOLDER):
            os.close(os.open(folder / f"file-{file:04}.txt", os.O_CREAT | os.O_WRONLY, 0o644))
    return tops * FOLDERS * IN_A_FOLDER


def measure(tree: Path, files: int, scratch: Path, runs: int) -> Iterator[Scanned]:
    """Raises RuntimeError where a command fails or finds a change."""
    stored, now, changes = (scratch / name for name in ("stored", "now", "changes"))
    tklb = (sys.executable, "-m", "tklb", "internal")
    find = Command(("find", tree, "-printf", FIND), output=scratch / "found")
    scan = Command((*tklb, "scan", tree), cwd=HOUSE, output=now)
    compare = Command((*tklb, "compare", stored, now), cwd=HOUSE, output=changes)
    cost(scan)
    now.rename(stored)
    for _ in range(runs):
        yield Scanned(files, cost(find), cost(scan) + cost(compare))
        if changes.stat().st_size:
            raise RuntimeError("changes in a tree that nobody changed")
