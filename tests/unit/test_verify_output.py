"""The output of `tklb verify`: the cost of a problem in a word, all names for machines, twenty for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tklb.cli.output.verify import costs, verify_json, verify_lines
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.verify.problem import LostFile, Problem
from tklb.verify.result import Depth, VerifyResult

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID = "20260101T000000Z"
VOLUME = f"duplicity-full.{ID}.vol1.difftar.gpg"
LOST = Problem(VOLUME, "missing", (ID,), tuple(LostFile(b"/srv/%02d" % n, (ID,)) for n in range(30)))


def verdict(*damages: Problem, depth: Depth = Depth.HASH, **facts: object) -> VerifyResult:
    return VerifyResult("file:///x", depth, None, (ID,), 3, 3, 3000, damages, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "price", "status"),
    [
        (LOST, "files", 33),
        (Problem(VOLUME, "missing", (ID,), LOST.files, stranded=(ID,)), "snapshots", 33),
        (Problem(f"ledger/00000001-{ID}", "damaged", (ID,), exact=False), "snapshots", 33),
        (Problem(f"duplicity-full-signatures.{ID}.sigtar.gpg", "damaged"), "backup", 33),
        (Problem("key.asc", "missing"), "key", 33),
        (Problem("key.asc", "unexpected"), "nothing", 3),
        (Problem("foo", "unexpected"), "nothing", 3),
        (Problem("ledger/00000009", "missing"), "backup", 33),
        (Problem(f"ledger/00000009-{ID}", "unexpected"), "nothing", 3),
        (Problem(VOLUME, "missing", (ID,), LOST.files, copy="/spool", is_repaired=True), "files", 0),
    ],
)
def test_price_and_exit_status(damage: Problem, price: str, status: int) -> None:
    found = verdict(damage)
    assert (costs(damage), found.exit_status, found.is_ok) == (price, status, status != 33)
    assert verify_json(found, NOW)["ok"] is (status == 0)


def test_skipped_and_different_is_incomplete_and_no_damage() -> None:
    different = verdict(depth=Depth.LIVE, differences=(Step(StepKind.WRITE, b"/etc/motd"),))
    assert (different.exit_status, different.is_ok) == (3, True)
    assert verdict(skipped=(Skipped(b"x", "y"),)).exit_status == 3
    assert verdict().exit_status == 0


def test_machines_get_every_name_and_people_twenty() -> None:
    (problem,) = verify_json(verdict(LOST), NOW)["problems"]  # type: ignore[misc]
    assert len(problem["files"]) == 30
    lines = list(verify_lines(verdict(LOST), NOW))
    assert sum("/srv/" in line for line in lines) == 20
    assert "    ... and 10 files more (all with --json)" in lines
    assert f"  cannot be restored: {ID}" in lines


def test_name_that_is_not_text_is_printable_and_exact() -> None:
    odd = Problem(VOLUME, "missing", (ID,), (LostFile(b"/srv/\xff\n", (ID,)),))
    (problem,) = verify_json(verdict(odd), NOW)["problems"]  # type: ignore[misc]
    assert problem["files"] == [{"path": "/srv/\\xff\\n", "path_b64": "L3Nydi//Cg==", "snapshots": [ID]}]
    assert "    /srv/\\xff\\n" in list(verify_lines(verdict(odd), NOW))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            Problem(VOLUME, "missing", (ID,), copy="/spool"),
            "a whole copy is in /spool: `tklb verify --mend` puts it back",
        ),
        (Problem(VOLUME, "missing", (ID,), copy="/spool", is_repaired=True), "repaired: put back from /spool"),
        (Problem(f"duplicity-full-signatures.{ID}.sigtar.gpg", "damaged"), "`tklb backup --full` starts a new chain"),
        (Problem("ledger/00000009", "missing"), "`tklb backup --full` goes on without it"),
        (Problem(VOLUME, "missing", (ID,), exact=False), "the list of lost files is not exact"),
        (Problem(VOLUME, "missing", (ID,)), "no file is lost with it"),
    ],
)
def test_way_out_is_told(damage: Problem, words: str) -> None:
    assert sum(words in line for line in verify_lines(verdict(damage), NOW)) == 1
