"""The plan and the report of `tklb restore`, as lines for people and as JSON for machines."""

from collections.abc import Iterator
from datetime import datetime

from tklb.base.measure import format_count
from tklb.cli.output.json_forms import Json, skipped_json, step_json
from tklb.cli.output.text import format_age
from tklb.errors import printable
from tklb.model.plan import Plan
from tklb.model.report import Report
from tklb.model.snapshot import LedgerEntry


def source_line(entry: LedgerEntry, now: datetime) -> str:
    """Name the snapshot, its number and its age: they show whether the target was set back to an older state."""
    host = printable(entry.hostname.encode())
    return f"snapshot {entry.snapshot} of {host}: number {entry.sequence}, {format_age(now - entry.time)} old"


def plan_json(plan: Plan) -> Json:
    return {
        "snapshot": plan.snapshot,
        "steps": [step_json(step) for step in plan.steps],
        "warnings": list(plan.warnings),
        "skipped": skipped_json(plan.skipped),
    }


def plan_lines(plan: Plan, limit: int | None = None) -> Iterator[str]:
    """Give the plan in the order of its steps. `limit` cuts the list for a terminal."""
    steps = plan.steps if limit is None else plan.steps[:limit]
    for step in steps:
        yield f"{step.kind:16} {printable(step.item)}" + (f"  ({step.detail})" if step.detail else "")
    if len(plan.steps) > len(steps):
        yield f"... and {format_count(len(plan.steps) - len(steps), 'step')} more (all with --dry-run)"
    yield from (f"warning: {printable(warning)}" for warning in plan.warnings)
    if plan.is_empty:
        yield f"nothing to do: this machine already matches snapshot {plan.snapshot}"
    else:
        yield f"{format_count(len(plan.steps), 'step')} to bring back {plan.snapshot}"


def report_lines(plan: Plan, report: Report) -> Iterator[str]:
    yield from (f"warning: {printable(warning)}" for warning in report.warnings)
    yield f"{plan.snapshot} is back: {format_count(len(report.done), 'step')} done, {len(report.skipped)} skipped"


def report_json(plan: Plan, report: Report) -> Json:
    return {
        **plan_json(plan),
        "done": len(report.done),
        "warnings": list(report.warnings),
        "skipped": skipped_json(report.skipped),
    }
