"""`python -m tests.bench`: measures, prints one table and how far the targets are reached; exit status 0 when all are.

Takes the words of scripts/bench; touches the lab's cache, where all of it happens.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tklb
from tests.bench import databases, distant, machine, million, report
from tests.bench.programs import versions
from tests.bench.servers import KINDS
from tests.lab.box import LAB

CONDITIONS = (
    "Caches are warm, all is on one disk, borg compresses with zstd; else everybody's defaults. CPU of a"
    " server is told behind a plus."
)


def main(words: Sequence[str]) -> int:
    options = _options(words)
    rows: list[str] = []
    targets: list[report.Target] = []
    if options.only in (None, "machine"):
        measured = [_told(one) for one in machine.measure(options.runs)]
        rows += report.machine_rows(measured)
        targets += report.machine_targets(measured)
    if options.only in (None, "scan"):
        tenth, whole = (_scanned(files, options.runs) for files in (options.files // 10, options.files))
        rows += [*report.scan_rows(tenth), *report.scan_rows(whole)]
        targets += report.scan_targets(tenth, whole)
    for kind in KINDS if options.only == "databases" else ():
        measured = [_told(one) for one in databases.measure(kind, options.size, options.runs)]
        rows += report.machine_rows(measured)
        targets += report.database_targets(measured, kind, options.size)
    if options.only == "targets":
        measured = [_told(one) for one in distant.measure(options.runs, options.size)]
        rows += report.machine_rows(measured)
        targets += report.distant_targets(measured)
    print(_this_machine(), CONDITIONS, "", *report.HEAD, *rows, "", *targets, sep="\n")
    return 0 if all(target.is_reached for target in targets) else 1


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", choices=["machine", "scan", "databases", "targets"])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--size", type=int)
    options = parser.parse_args(words)
    if options.size is None:
        options.size = 400 if options.only == "targets" else 1000
    if min(options.runs, options.files) < 1 or options.size < 10:
        parser.error("at least one run, one file, and 10 MB")
    return options


def _told(one: machine.Measured) -> machine.Measured:
    print(f"bench: run {one.run + 1}: {one.step}: {one.program}: {one.cost.wall:.1f} s", file=sys.stderr, flush=True)
    return one


def _this_machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB memory, {system}, tklb {tklb.__version__}, {versions()}"


def _scanned(files: int, runs: int) -> tuple[million.Scanned, ...]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=LAB) as scratch:
        tree = Path(scratch, "tree")
        made = million.make_tree(tree, files)
        return tuple(million.measure(tree, made, Path(scratch), runs))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RuntimeError as exc:
        sys.exit(f"bench: {exc}")
