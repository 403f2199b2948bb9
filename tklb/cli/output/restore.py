"""The plan and the report of `tklb restore`, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from tklb.base.measure import format_count
from tklb.cli.output.json_forms import Json, skipped_json, step_json, unknown_json
from tklb.cli.output.text import count_unknown, describe_age, unknown_lines
from tklb.errors import printable
from tklb.model.report import fold_skipped
from tklb.restore.plan.backup_skips import is_backup_skip

if TYPE_CHECKING:
    from tklb.model.plan import Plan
    from tklb.model.report import Report
    from tklb.model.snapshot import LedgerEntry
    from tklb.restore.source import UsedKey


def source_line(entry: LedgerEntry, now: datetime) -> str:
    """Name the snapshot, its number and its age: they show whether the target was set back to an older state."""
    host = printable(entry.hostname.encode())
    return f"snapshot {entry.snapshot} of {host}: number {entry.sequence}, {describe_age(now - entry.time)}"


def key_line(key: UsedKey) -> str:
    """Name the key and its place among the keys of the target: they show whether an older one was put back."""
    place = f"after {format_count(key.changes, 'change')} of the key" if key.changes else "never changed"
    return f"key {key.fingerprint}, {place}: the recovery sheet and `tklb key show` name the right one"


def plan_json(plan: Plan) -> Json:
    return {
        "snapshot": plan.snapshot,
        "steps": [step_json(step) for step in plan.steps],
        "planned": len(plan.steps) + len(plan.skipped),
        "warnings": list(plan.warnings),
        "skipped": skipped_json(plan.skipped),
        "skipped_count": len(plan.skipped),
        **unknown_json(plan.unknown),
    }


def plan_lines(plan: Plan, limit: int | None = None) -> Iterator[str]:
    """Give the plan in the order of its steps. `limit` cuts the list for a terminal."""
    steps = plan.steps if limit is None else plan.steps[:limit]
    for step in steps:
        yield f"{step.kind:16} {printable(step.item)}" + (f"  ({step.detail})" if step.detail else "")
    if len(plan.steps) > len(steps):
        yield f"... and {format_count(len(plan.steps) - len(steps), 'step')} more (all with --dry-run)"
    yield from (f"warning: {printable(warning)}" for warning in plan.warnings)
    yield from unknown_lines(plan.unknown)
    yield _summarise(plan)


def skipped_lines(plan: Plan) -> Iterator[str]:
    """Give what cannot come back, but for what the warnings of the plan name already."""
    known = (item for item in plan.skipped if not is_backup_skip(item.reason))
    yield from (f"cannot come back: {item}: {printable(reason)}" for item, reason, _ in fold_skipped(known))


def _summarise(plan: Plan) -> str:
    left = format_count(len(plan.skipped), "item")
    if plan.is_empty and plan.skipped:
        return f"no step is left for {plan.snapshot}, but {left} cannot come back here"
    if plan.is_empty and plan.unknown.total:
        return f"nothing to bring back from {plan.snapshot}, but this machine has more: `--exact` removes it"
    if plan.is_empty and not plan.is_whole:
        return f"nothing to do: all that the options select is as snapshot {plan.snapshot} has it"
    if plan.is_empty:
        return f"nothing to do: this machine is as snapshot {plan.snapshot} has it"
    return f"{format_count(len(plan.steps), 'step')} to bring back {plan.snapshot}" + (
        f"; {left} cannot come back here" if plan.skipped else ""
    )


def report_lines(plan: Plan, report: Report) -> Iterator[str]:
    yield from (f"warning: {printable(warning)}" for warning in report.warnings)
    steps = format_count(report.step_count, "step")
    if plan.unknown.total:
        yield f"{count_unknown(plan.unknown)} here that the snapshot does not know: kept"
    yield f"{plan.snapshot} is back: {steps}: {len(report.done)} done, {len(report.skipped)} skipped"


def report_json(plan: Plan, report: Report) -> Json:
    return {
        **plan_json(plan),
        "planned": report.step_count,
        "done": len(report.done),
        "warnings": list(report.warnings),
        "skipped": skipped_json(report.skipped),
        "skipped_count": len(report.skipped),
    }
