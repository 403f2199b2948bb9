"""A million unchanged files: scan and compare against `find -printf`.

Takes the number of files and a scratch folder, where it makes the tree; gives what each command costs. find and
`tklb internal scan` write a file, `tklb internal compare` reads two; a backup does both in one step, which knows the
listing it compares with.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost import Command, Cost, cost, median
from tklb.delta.listing import compare_records, records
from tklb.delta.rules import Rule, Rules
from tklb.model import Skipped
from tklb.system.records import scan_records

HOUSE = Path(__file__).parents[2]
FIND = r"%p\t%y\t%m\t%U\t%G\t%s\t%T@\t%C@\t%i\t%n\t%l\n"
FOLDERS, IN_A_FOLDER = 100, 100  # in each folder at the top; and files in each of those


@dataclass(frozen=True, slots=True)
class Scanned:
    """Medians of paired runs."""

    files: int
    find: Cost
    two_steps: Cost
    one_step: Cost


def make_tree(tree: Path, files: int) -> None:
    """Make `files` empty files, rounded up to whole top folders."""
    for number in range(-(-files // (FOLDERS * IN_A_FOLDER))):
        for inner in range(FOLDERS):
            folder = tree / f"d{number:03}" / f"e{inner:03}"
            folder.mkdir(parents=True)
            for file in range(IN_A_FOLDER):
                os.close(os.open(folder / f"file-{file:04}.txt", os.O_CREAT | os.O_WRONLY, 0o644))


def measure(tree: Path, scratch: Path, runs: int) -> Scanned:
    """Raises RuntimeError where a step fails or finds a change."""
    stored, now, changes = (scratch / name for name in ("stored", "now", "changes"))
    python = (sys.executable, "-m")
    find = Command(("find", tree, "-printf", FIND), output=scratch / "found")
    scan = Command((*python, "tklb", "internal", "scan", tree), cwd=HOUSE, output=now)
    compare = Command((*python, "tklb", "internal", "compare", stored, now), cwd=HOUSE, output=changes)
    one_step = Command((*python, "tests.bench.million", tree, stored), cwd=HOUSE)
    cost(scan)
    now.rename(stored)
    rounds = []
    for _ in range(runs):
        rounds.append((cost(find), cost(scan) + cost(compare), cost(one_step)))
        if changes.stat().st_size:
            raise RuntimeError("changes in a tree that nobody changed")
    files = sum(len(names) for _, _, names in os.walk(tree))
    return Scanned(files, *map(median, zip(*rounds, strict=True)))


def scan_and_compare(tree: bytes, stored: Path) -> int:
    """How many changes there are."""
    rules = Rules([Rule(include=True, pattern=tree, is_literal=True)])
    skipped: list[Skipped] = []
    with stored.open("rb") as base, stored.open("rb") as known:
        present = scan_records(b"/", rules, skipped=skipped, known=records(known))
        return sum(1 for _ in compare_records(records(base), present, skipped)) + len(skipped)


if __name__ == "__main__":
    sys.exit(scan_and_compare(os.fsencode(sys.argv[1]), Path(sys.argv[2])) > 0)
