"""Figures as the rows of one Markdown table, and how far they reach the targets. Pure."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.cost import Cost, median
from tests.bench.databases import DUMP, LOAD, RANGE, step_of, step_of_small
from tests.bench.distant import BACK, INTO, RESTIC
from tests.bench.machine import FIRST, RESTORE, UNCHANGED, Measured
from tests.bench.million import Scanned
from tests.bench.servers import TKLB, Kind

HEAD = (
    "| step | program | wall s | CPU s | peak MB | stored | wall, x first row |",
    "|---|---|---:|---:|---:|---:|---:|",
)


@dataclass(frozen=True, slots=True)
class Target:
    """`value` of what `name` says must be at most `limit`."""

    name: str
    value: float
    limit: float

    @property
    def is_reached(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.3g} {'ok' if self.is_reached else 'MISSED'}"


def machine_rows(measured: Sequence[Measured]) -> Iterator[str]:
    """One row for each step and program; the first program is what the others are compared with."""
    first = measured[0].program
    for step, program in dict.fromkeys((one.step, one.program) for one in measured):
        runs = [one for one in measured if (one.step, one.program) == (step, program)]
        stored = "" if runs[0].stored is None else _bytes(statistics.median(one.stored or 0 for one in runs))
        ratio = _ratio(measured, step, program, first, _wall)
        told = f"{program}: the root into an empty folder" if step == RESTORE and program != first else program
        yield _row(step, told, median(one.cost for one in runs), stored, ratio)


def machine_targets(measured: Sequence[Measured]) -> tuple[Target, ...]:
    time = _ratio(measured, FIRST, "tklb", "restic", _wall)
    stored = _ratio(measured, FIRST, "tklb", "restic", lambda one: one.stored or 0)
    unchanged = _ratio(measured, UNCHANGED, "tklb", "restic", _wall)
    return (
        Target("first backup ≤ 1/2 of restic's time", time, 1 / 2),
        Target("first backup ≤ 1/3 of restic's bytes", stored, 1 / 3),
        Target("no-change backup ≤ restic's", unchanged, 1),
    )


def database_targets(measured: Sequence[Measured], kind: Kind, megabytes: int) -> Iterator[Target]:
    """How an engine does against the stock tools, against itself at a tenth of the size, and after a change."""
    tenth, whole = ({deed: step_of(kind, size, deed) for deed in (DUMP, LOAD)} for size in (megabytes // 10, megabytes))
    for deed in (DUMP, LOAD):
        for other in (other for other in kind.others if other.is_held_against):
            name, limit = (other.name, other.dump_limit) if deed == DUMP else (other.loader, other.load_limit)
            ratio = _ratio(measured, whole[deed], TKLB, name, _wall)
            yield Target(f"{kind.engine}: {deed} ≤ {limit:g} x the time of {name}", ratio, limit)
    small = step_of_small(kind)
    wall = median(one.cost for one in measured if one.step == small).wall
    yield Target(f"{small} ≤ 3 s", wall, 3)
    for deed in (DUMP, LOAD):
        small, large = (_peak(measured, steps[deed]) for steps in (tenth, whole))
        limit = 1.1 * small + 10
        name = f"{kind.engine}: {deed}'s peak memory in MB ≤ 1.1 x that at {megabytes // 10:,} MB + 10 = {limit:.0f}"
        yield Target(name, large, limit)
    stored = {one.step: one.stored or 0 for one in measured}
    first, changed = (stored[step_of(kind, megabytes, deed)] for deed in (FIRST, RANGE))
    yield Target(f"{kind.engine}: {RANGE}: stored, in % of the first backup, ≤ 3", 100 * changed / first, 3)


def distant_targets(measured: Sequence[Measured]) -> Iterator[Target]:
    """How tklb does over S3, against restic."""
    for step, program, limit in ((FIRST, TKLB, 1.2), (BACK, TKLB, 1), (BACK, INTO, 1)):
        name = f"S3: {step}, {program} ≤ {limit} x the time of {RESTIC}"
        yield Target(name, _ratio(measured, step, program, RESTIC, _wall), limit)


def _peak(measured: Iterable[Measured], step: str) -> float:
    return median(one.cost for one in measured if (one.step, one.program) == (step, TKLB)).peak


def scan_rows(rounds: Sequence[Scanned]) -> Iterator[str]:
    step = f"scan and compare of {rounds[0].files:,} unchanged files"
    yield _row(step, "find -printf", median(one.find for one in rounds), "", 1)
    yield _row(step, "tklb", median(one.tklb for one in rounds), "", _against_find(rounds))


def scan_targets(tenth: Sequence[Scanned], whole: Sequence[Scanned]) -> tuple[Target, ...]:
    small, large = (median(one.tklb for one in rounds).peak for rounds in (tenth, whole))
    return (
        Target(f"scan + compare of {whole[0].files:,} files ≤ 4 x find", _against_find(whole), 4),
        Target("its peak memory ≤ 150 MB", large, 150),
        Target(f"its peak memory ≤ 1.1 x that at {tenth[0].files:,} files", large / small, 1.1),
    )


def _against_find(rounds: Iterable[Scanned]) -> float:
    return statistics.median(one.tklb.wall / one.find.wall for one in rounds)


def _ratio(
    measured: Iterable[Measured], step: str, program: str, other: str, figure: Callable[[Measured], float]
) -> float:
    """The median of the ratios that the runs gave, each on its own."""
    value = {(one.run, one.program): figure(one) for one in measured if one.step == step}
    return statistics.median(value[run, program] / value[run, other] for run, of in value if of == program)


def _wall(one: Measured) -> float:
    return one.cost.wall


def _row(step: str, program: str, cost: Cost, stored: str, ratio: float) -> str:
    cpu = f"{cost.cpu:.2f}{f' + {cost.server:.2f}' if cost.server else ''}"
    return f"| {step} | {program} | {cost.wall:.2f} | {cpu} | {cost.peak:.0f} | {stored} | {ratio:.2f} |"


def _bytes(amount: float) -> str:
    return f"{amount / 1e6:.1f} MB" if amount >= 1e5 else f"{amount:,.0f} B"
