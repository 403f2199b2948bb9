"""The result of `tklb verify`: problems and their cost, as lines for people and as JSON for machines."""

from collections.abc import Iterator
from datetime import datetime

from tklb.base.measure import format_count, format_size
from tklb.cli.output.json_forms import Json, path_fields, skipped_json, step_json
from tklb.cli.output.text import format_age
from tklb.commands.verify import Depth, VerifyResult
from tklb.errors import printable
from tklb.storage.backend import KEY, LEDGER
from tklb.verify.impact import LostFile, Problem

_SHOWN = 20  # of files, and of differences; --json has all


def verify_json(verdict: VerifyResult, now: datetime) -> Json:
    newest = verdict.newest
    return {
        "ok": all(damage.mended for damage in verdict.damages),
        "target": verdict.address,
        "depth": verdict.depth,
        "newest": newest
        and {
            "snapshot": newest.snapshot,
            "sequence": newest.sequence,
            "age_seconds": int((now - newest.time).total_seconds()),
        },
        "snapshots": list(verdict.looked_at),
        "whole": list(verdict.whole),
        "volumes": verdict.volumes,
        "read": {"volumes": verdict.read, "bytes": verdict.read_bytes},
        "problems": [_damage_json(damage) for damage in verdict.damages],
        **({"differences": [step_json(step) for step in verdict.differences]} if verdict.depth is Depth.LIVE else {}),
        "skipped": skipped_json(verdict.skipped),
        "warnings": list(verdict.warnings),
    }


def _damage_json(damage: Problem) -> Json:
    return {
        "volume": damage.volume,
        "kind": damage.kind,
        "snapshots": list(damage.snapshots),
        "files": [_loss_json(loss) for loss in damage.files],
        "exact": damage.exact,
        "stranded": list(damage.stranded),
        "costs": costs(damage),
        "reason": damage.reason,
        "copy": damage.copy or None,
        "mended": damage.mended,
    }


def _loss_json(loss: LostFile) -> Json:
    reason = {"reason": loss.reason} if loss.reason else {}
    return {**path_fields(loss.path), "snapshots": list(loss.snapshots), **reason}


def costs(damage: Problem) -> str:
    """Give the cost of a problem in a word: nothing, backup, key, snapshots or files."""
    if damage.is_harmless:
        return "nothing"
    if damage.volume == KEY:
        return "key"
    if not damage.snapshots:
        return "backup"
    return "snapshots" if damage.stranded or not damage.files else "files"


def verify_lines(verdict: VerifyResult, now: datetime) -> Iterator[str]:
    newest = verdict.newest
    if newest:
        host = printable(newest.hostname.encode())
        when = format_age(now - newest.time)
        yield f"newest snapshot {newest.snapshot} of {host}: number {newest.sequence}, {when} old"
    else:
        yield f"no snapshots on {verdict.address}"
    for damage in verdict.damages:
        yield from _damage_lines(damage)
    for step in verdict.differences[:_SHOWN]:
        yield f"{step.kind:16} {printable(step.item)}" + (f"  ({step.detail})" if step.detail else "")
    if len(verdict.differences) > _SHOWN:
        yield f"... and {format_count(len(verdict.differences) - _SHOWN, 'difference')} more (all with --json)"
    yield from (f"warning: {printable(warning)}" for warning in verdict.warnings)
    yield from _summary(verdict)


def _summary(verdict: VerifyResult) -> Iterator[str]:
    volumes = format_count(verdict.volumes, "volume")
    checked = {
        Depth.QUICK: f"{volumes} by a listing",
        Depth.LIVE: f"{volumes} by a listing",
        Depth.HASH: f"{verdict.read} of {volumes} by content, {format_size(verdict.read_bytes)}",
        Depth.DATA: f"{volumes} by content, and every file",
    }[verdict.depth]
    yield f"checked {checked}"
    whole, known = len(verdict.whole), len(verdict.looked_at)
    yield (
        f"{whole} of {format_count(known, 'snapshot')} whole"
        if whole < known
        else f"{format_count(known, 'snapshot')}, all whole"
    )
    if verdict.depth is Depth.LIVE and not verdict.differences and whole:
        yield "this machine matches the snapshot"
    elif verdict.depth is Depth.LIVE and verdict.differences:
        yield f"{format_count(len(verdict.differences), 'difference')} between the snapshot and this machine"


def _damage_lines(damage: Problem) -> Iterator[str]:
    yield f"{damage.kind}: {printable(damage.volume)}" + (f" ({printable(damage.reason)})" if damage.reason else "")
    yield from (f"  {line}" for line in (*_cost_lines(damage), *_remedy_lines(damage)))


def _cost_lines(damage: Problem) -> Iterator[str]:
    if not damage.snapshots:
        yield _COSTS[costs(damage), damage.volume.startswith(LEDGER)]
        return
    yield f"cannot be restored: {', '.join(damage.snapshots)}"
    if damage.stranded:
        yield f"it holds the metadata of {', '.join(damage.stranded)}: without it tklb cannot restore the rest"
    if damage.files:
        yield f"{format_count(len(damage.files), 'file')} {'is' if len(damage.files) == 1 else 'are'} lost:"
    elif damage.exact:
        yield "no file is lost with it"
    yield from (
        f"  {printable(loss.path)}" + (f": {loss.reason}" if loss.reason else "") for loss in damage.files[:_SHOWN]
    )
    if len(damage.files) > _SHOWN:
        yield f"  ... and {format_count(len(damage.files) - _SHOWN, 'file')} more (all with --json)"
    if not damage.exact:
        yield "the list of lost files is not exact: its source is damaged too"


_NOTHING = "costs nothing: the ledger does not list it, so tklb never reads it"
_COSTS = {  # of problems that cost no snapshot, by cost and by whether they are in the ledger
    ("nothing", False): _NOTHING,
    ("nothing", True): _NOTHING,
    ("key", False): "costs no snapshot",
    ("backup", False): "costs no snapshot; the next increment may need it: `tklb backup --full` starts a new chain",
    ("backup", True): "costs no known snapshot; but tklb adds nothing to a ledger that is not in order",
}


def _remedy_lines(damage: Problem) -> Iterator[str]:
    if damage.mended:
        yield f"repaired: put back from {printable(damage.copy)}"
    elif damage.copy:
        yield f"a whole copy is in {printable(damage.copy)}: `tklb verify --mend` puts it back"
