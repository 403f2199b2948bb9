"""The result of `tklb verify`: problems and their cost, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from tklb.base.measure import format_count, format_size
from tklb.cli.output.json_forms import Json, path_fields, skipped_json, step_json, unknown_json
from tklb.cli.output.text import describe_age, unknown_lines
from tklb.errors import printable
from tklb.model.report import count_skipped
from tklb.storage.backend import KEY, LEDGER
from tklb.verify.result import Depth, VerifyResult

if TYPE_CHECKING:
    from tklb.verify.problem import LostFile, Problem

_SHOWN = 20  # of files, and of differences; --json has all


def verify_json(result: VerifyResult, now: datetime) -> Json:
    newest = result.newest
    return {
        "ok": all(problem.is_repaired for problem in result.problems),
        "target": result.address,
        "depth": result.depth,
        "newest": newest
        and {
            "snapshot": newest.snapshot,
            "sequence": newest.sequence,
            "age_seconds": int((now - newest.time).total_seconds()),
        },
        "snapshots": list(result.snapshots),
        "whole": list(result.whole_snapshots),
        "volumes": result.volumes,
        "read": {"volumes": result.read, "bytes": result.read_bytes},
        "problems": [_problem_json(problem) for problem in result.problems],
        **(_live_json(result) if result.depth is Depth.LIVE else {}),
        "skipped": skipped_json(result.skipped),
        "skipped_count": count_skipped(result.skipped),
        "warnings": list(result.warnings),
        "skipped_by_backups": [
            {"snapshot": snapshot, "skipped": skipped_json(skipped), "skipped_count": count_skipped(skipped)}
            for snapshot, skipped in result.gaps
        ],
    }


def _live_json(result: VerifyResult) -> Json:
    return {"differences": [step_json(step) for step in result.differences], **unknown_json(result.unknown)}


def _problem_json(problem: Problem) -> Json:
    return {
        "volume": problem.volume,
        "kind": problem.kind,
        "snapshots": list(problem.snapshots),
        "files": [_loss_json(loss) for loss in problem.files],
        "exact": problem.exact,
        "stranded": list(problem.stranded),
        "costs": costs(problem),
        "reason": problem.reason,
        "copy": problem.copy or None,
        "mended": problem.is_repaired,
    }


def _loss_json(loss: LostFile) -> Json:
    reason = {"reason": loss.reason} if loss.reason else {}
    return {**path_fields(loss.path), "snapshots": list(loss.snapshots), **reason}


def costs(problem: Problem) -> str:
    """Give the cost of a problem in a word: nothing, backup, key, snapshots or files."""
    if problem.is_harmless:
        return "nothing"
    if problem.volume == KEY:
        return "key"
    if not problem.snapshots:
        return "backup"
    return "snapshots" if problem.stranded or not problem.files else "files"


def verify_lines(result: VerifyResult, now: datetime) -> Iterator[str]:
    newest = result.newest
    if newest:
        host = printable(newest.hostname.encode())
        when = describe_age(now - newest.time)
        yield f"newest snapshot {newest.snapshot} of {host}: number {newest.sequence}, {when}"
    else:
        yield f"no snapshots on {result.address}"
    for problem in result.problems:
        yield from _problem_lines(problem)
    for step in result.differences[:_SHOWN]:
        yield f"{step.kind:16} {printable(step.item)}" + (f"  ({step.detail})" if step.detail else "")
    if len(result.differences) > _SHOWN:
        yield f"... and {format_count(len(result.differences) - _SHOWN, 'difference')} more (all with --json)"
    yield from (f"warning: {printable(warning)}" for warning in result.warnings)
    yield from unknown_lines(result.unknown)
    yield from _gap_lines(result)
    yield from _summary(result)


def _gap_lines(result: VerifyResult) -> Iterator[str]:
    """Say which snapshots lack something since their backups: they are whole all the same."""
    for snapshot, skipped in result.gaps:
        count = format_count(count_skipped(skipped), "item")
        yield f"the backup of {snapshot} skipped {count}: `tklb list --long` shows them"


def _summary(result: VerifyResult) -> Iterator[str]:
    volumes = format_count(result.volumes, "volume")
    checked = {
        Depth.QUICK: f"{volumes} by a listing",
        Depth.LIVE: f"{volumes} by a listing",
        Depth.HASH: f"{result.read} of {volumes} by content, {format_size(result.read_bytes)}",
        Depth.DATA: f"{volumes} by content, and every file",
    }[result.depth]
    yield f"checked {checked}"
    whole, known = len(result.whole_snapshots), len(result.snapshots)
    yield (
        f"{whole} of {format_count(known, 'snapshot')} whole"
        if whole < known
        else f"{format_count(known, 'snapshot')}, all whole"
    )
    is_same = not (result.differences or result.skipped or result.unknown.total)
    if result.depth is Depth.LIVE and is_same and whole:
        yield "this machine is as the snapshot has it"
    elif result.depth is Depth.LIVE and result.differences:
        yield f"{format_count(len(result.differences), 'difference')} between the snapshot and this machine"


def _problem_lines(problem: Problem) -> Iterator[str]:
    yield f"{problem.kind}: {printable(problem.volume)}" + (f" ({printable(problem.reason)})" if problem.reason else "")
    yield from (f"  {line}" for line in (*_cost_lines(problem), *_remedy_lines(problem)))


def _cost_lines(problem: Problem) -> Iterator[str]:
    if not problem.snapshots:
        yield _COSTS[costs(problem), problem.volume.startswith(LEDGER)]
        return
    yield f"cannot be restored: {', '.join(problem.snapshots)}"
    if problem.stranded:
        yield f"it holds the metadata of {', '.join(problem.stranded)}: without it tklb cannot restore the rest"
    if problem.files:
        yield f"{format_count(len(problem.files), 'file')} {'is' if len(problem.files) == 1 else 'are'} lost:"
    elif problem.exact:
        yield "no file is lost with it"
    yield from (
        f"  {printable(loss.path)}" + (f": {loss.reason}" if loss.reason else "") for loss in problem.files[:_SHOWN]
    )
    if len(problem.files) > _SHOWN:
        yield f"  ... and {format_count(len(problem.files) - _SHOWN, 'file')} more (all with --json)"
    if not problem.exact:
        yield "the list of lost files is not exact: its source is damaged too"


_NOTHING = "costs nothing: the ledger does not list it, so tklb never reads it"
_COSTS = {  # of problems that cost no snapshot, by cost and by whether they are in the ledger
    ("nothing", False): _NOTHING,
    ("nothing", True): _NOTHING,
    ("key", False): "costs no snapshot",
    ("backup", False): "costs no snapshot; the next increment may need it: `tklb backup --full` starts a new chain",
    ("backup", True): "costs no known snapshot; `tklb backup --full` goes on without it",
}


def _remedy_lines(problem: Problem) -> Iterator[str]:
    if problem.is_repaired:
        yield f"repaired: put back from {printable(problem.copy)}"
    elif problem.copy:
        yield f"a whole copy is in {printable(problem.copy)}: `tklb verify --mend` puts it back"
