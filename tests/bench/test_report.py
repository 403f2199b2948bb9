"""What a bench says of its figures. Pure."""

from pathlib import Path

import pytest

from tests.bench.cost import Cost
from tests.bench.databases import DUMP, LOAD, RANGE, step_of, step_of_small
from tests.bench.distant import BACK, INTO, RESTIC, change, fill
from tests.bench.machine import FIRST, RESTORE, UNCHANGED, Measured
from tests.bench.million import Scanned
from tests.bench.report import (
    database_targets,
    distant_targets,
    machine_rows,
    machine_targets,
    scan_rows,
    scan_targets,
)
from tests.bench.servers import MARIADB, POSTGRESQL, TKLB, Kind


def run(number: int, tklb: float, restic: float) -> list[Measured]:
    return [
        Measured(number, step, name, Cost(wall, wall, 50), stored)
        for step, stored in ((FIRST, 2_000_000), (UNCHANGED, 300), (RESTORE, None))
        for name, wall in (("tklb", tklb), ("restic", restic))
    ]


def test_ratio_is_the_median_of_what_each_run_gave() -> None:
    measured = [*run(0, 1, 4), *run(1, 10, 20), *run(2, 1, 10)]
    assert [row.rpartition("| ")[2] for row in machine_rows(measured)][:2] == ["1.00 |", "4.00 |"]
    assert machine_targets(measured)[0].value == 0.25


def test_table_has_a_row_for_each_step_and_program_and_bytes_only_where_some_are_stored() -> None:
    rows = list(machine_rows(run(0, 1, 4)))
    assert rows[0] == "| first backup | tklb | 1.00 | 1.00 | 50 | 2.0 MB | 1.00 |"
    assert rows[-1] == "| restore to usable | restic: the root into an empty folder | 4.00 | 4.00 | 50 |  | 4.00 |"
    assert len(rows) == 6


def test_target_is_reached_or_missed_aloud() -> None:
    lines = [str(target) for target in machine_targets(run(0, 3, 6))]
    assert lines == [
        "first backup ≤ 1/2 of restic's time: 0.5 ok",
        "first backup ≤ 1/3 of restic's bytes: 1 MISSED",
        "no-change backup ≤ restic's: 0.5 ok",
    ]


@pytest.mark.parametrize(("wall", "peak", "reached"), [(4, 20, [1, 1, 1]), (5, 20, [0, 1, 1]), (4, 160, [1, 0, 0])])
def test_scan_is_held_against_find_and_against_a_smaller_tree(wall: float, peak: float, reached: list[bool]) -> None:
    tenth = [Scanned(100_000, Cost(1, 1, 3), Cost(3, 3, 20))]
    whole = [Scanned(1_000_000, Cost(1, 1, 3), Cost(wall, wall, peak))]
    assert [target.is_reached for target in scan_targets(tenth, whole)] == reached
    assert next(scan_rows(whole)).startswith("| scan and compare of 1,000,000 unchanged files | find -printf | 1.00 |")


def dumped(kind: Kind, tklb: float, other: float, peak: float, stored: int) -> list[Measured]:
    """One run of 100 MB, and what came before and after."""
    tenth = [Measured(0, step_of(kind, 10, deed), TKLB, Cost(1, 1, 30)) for deed in (DUMP, LOAD)]
    whole = [
        Measured(0, step_of(kind, 100, deed), name, Cost(tklb if name == TKLB else other, 1, peak, server=2))
        for program in kind.programs
        for deed, name in ((DUMP, program.name), (LOAD, program.loader))
        if name
    ]
    backups = [(FIRST, 1000), (RANGE, stored)]
    small = [Measured(0, step_of_small(kind), TKLB, Cost(3, 1, 1))]
    return (
        tenth
        + whole
        + small
        + [Measured(0, step_of(kind, 100, step), TKLB, Cost(1, 1, 1), size) for step, size in backups]
    )


@pytest.mark.parametrize("kind", [MARIADB, POSTGRESQL], ids=["mysql", "pgsql"])
@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ((1, 1, 43, 30), ()),
        ((1.3, 1, 30, 30), ("the time of",)),
        ((1, 1, 44, 30), ("peak memory",)),
        ((1, 1, 30, 31), ("stored",)),
    ],
)
def test_engine_is_held_against_stock_tools_a_smaller_database_and_its_first_backup(
    kind: Kind, figures: tuple[float, float, float, int], missed: tuple[str, ...]
) -> None:
    targets = list(database_targets(dumped(kind, *figures), kind, 100))
    failed = [target for target in targets if not target.is_reached]
    assert all(any(word in target.name for word in missed) for target in failed)
    assert bool(failed) == bool(missed)
    assert len(targets) == (8 if kind is MARIADB else 6)


def test_cpu_of_a_server_is_told_apart() -> None:
    assert "| 1.00 + 2.00 |" in list(machine_rows(dumped(MARIADB, 1, 1, 1, 1)))[2]


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ((1.2, 1, 1), []),
        ((1.3, 1, 1), ["S3: first backup, tklb ≤ 1.2 x the time of restic"]),
        ((1, 1.1, 1), ["S3: restore, tklb ≤ 1 x the time of restic"]),
        ((1, 1, 1.1), ["S3: restore, tklb --into ≤ 1 x the time of restic"]),
    ],
)
def test_backup_and_restore_through_s3_are_held_against_restic(figures: tuple[float, ...], missed: list[str]) -> None:
    ours = zip(((FIRST, TKLB), (BACK, TKLB), (BACK, INTO)), figures, strict=True)
    walls = [*ours, *(((step, RESTIC), 1) for step in (FIRST, BACK))]
    measured = [Measured(0, step, name, Cost(wall, wall, 50)) for (step, name), wall in walls]
    assert [target.name for target in distant_targets(measured) if not target.is_reached] == missed


def test_files_are_the_same_each_time_of_the_size_asked_for_and_a_hundredth_changes(tmp_path: Path) -> None:
    sets = [tmp_path / name for name in ("one", "other")]
    for folder in sets:
        fill(folder, 34)
    change(sets[1])
    contents = [{path.relative_to(top): path.read_bytes() for path in top.rglob("*.*")} for top in sets]
    assert contents[0].keys() == contents[1].keys()
    changed = [name for name, content in contents[0].items() if content != contents[1][name]]
    assert len(changed) == -(-len(contents[0]) // 100)
    assert all(len(contents[0][name]) == len(contents[1][name]) for name in changed)
    assert 32_000_000 < sum(map(len, contents[0].values())) < 36_000_000
