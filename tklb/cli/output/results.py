"""Results of the stories: one value each, as lines for people and as JSON for machines."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from tklb.cli.output.tables import table
from tklb.cli.output.words import age, moment, path_fields, plural, size
from tklb.commands.backup import BackupResult
from tklb.commands.status import StatusReport
from tklb.errors import printable
from tklb.model.plan import Plan, Step
from tklb.model.report import Report, Skipped
from tklb.model.snapshot import Kind, LedgerEntry

Json = dict[str, object]


def skipped_json(skipped: Iterable[Skipped]) -> list[dict[str, str]]:
    return [{**path_fields(item.item, "item"), "reason": item.reason} for item in skipped]


# ---------------------------------------------------------------- backup


def backup_json(result: BackupResult) -> Json:
    counts = result.counts
    return {
        "snapshot": result.snapshot or None,
        "kind": result.kind,
        "files": {
            "changed": counts.files_changed,
            "metadata": counts.files_metadata,
            "deleted": counts.files_deleted,
            "bytes": counts.bytes,
        },
        "packages": {"added": counts.packages_added, "removed": counts.packages_removed},
        "users": {"added": counts.users_added, "changed": counts.users_changed},
        "databases": {
            **{engine: [d.name for d in result.databases if d.engine == engine] for engine in _engines(result)},
            "count": len(result.databases),
            "bytes": sum(database.bytes for database in result.databases),
        },
        "delta": {"files": counts.delta_files, "bytes": counts.delta_bytes},
        "stored_bytes": result.stored_bytes,
        "skipped": skipped_json(result.skipped),
        "warnings": list(result.warnings),
        "seconds": round(result.seconds, 3),
    }


def backup_lines(result: BackupResult) -> Iterator[str]:
    counts = result.counts
    if result.kind is Kind.NONE:
        yield (
            f"nothing changed since {result.snapshot}" if result.snapshot else "nothing changed since the last snapshot"
        )
    else:
        what = f"snapshot {result.snapshot}" if result.snapshot else "would take"
        yield (
            f"{what}: {result.kind}, {plural(counts.files_changed, 'file')} changed ({size(counts.bytes)}), "
            f"{counts.files_metadata} metadata only, {counts.files_deleted} deleted"
        )
        yield (
            f"packages: {counts.packages_added} added, {counts.packages_removed} removed; "
            f"users: {counts.users_added} added, {counts.users_changed} changed"
        )
        if result.databases:
            total = sum(database.bytes for database in result.databases)
            yield f"{plural(len(result.databases), 'database')}, {size(total)}"
        yield f"stored {size(result.stored_bytes)} in {result.seconds:.1f} s"
    yield from (f"note: {printable(warning)}" for warning in result.warnings)


def _engines(result: BackupResult) -> list[str]:
    return sorted({database.engine for database in result.databases})


# ---------------------------------------------------------------- list


def record_json(record: LedgerEntry) -> Json:
    return {
        "snapshot": record.snapshot,
        "kind": record.kind,
        "time": record.time.isoformat(),
        "bytes": record.counts.delta_bytes,
        "stored_bytes": record.stored_bytes,
        "profile": record.profile,
        "host": record.hostname,
        "marks": list(record.marks),
        "skipped": len(record.skipped),
    }


def list_lines(records: Iterable[LedgerEntry]) -> Iterator[str]:
    rows = [
        (
            record.snapshot,
            str(record.kind),
            size(record.counts.delta_bytes),
            size(record.stored_bytes),
            record.profile,
            printable(record.hostname.encode()),
            f"{len(record.skipped)} skipped" if record.skipped else "",
        )
        for record in records
    ]
    if not rows:
        yield "no snapshots yet: run `tklb backup`"
        return
    yield from table(("SNAPSHOT", "KIND", "SIZE", "STORED", "PROFILE", "HOST", ""), rows, right=frozenset({2, 3}))


# ---------------------------------------------------------------- status


def status_json(condition: StatusReport) -> Json:
    last = condition.last
    return {
        "state": condition.state,
        "last": record_json(last) if last else None,
        "next": None,
        "target": condition.target,
        "profile": condition.profile,
        "stored_bytes": condition.stored_bytes,
        "snapshots": condition.snapshots,
        "problems": list(condition.problems),
    }


def status_lines(condition: StatusReport, now: datetime) -> Iterator[str]:
    last = condition.last
    yield f"state     {condition.state}"
    yield "last      " + (f"{last.snapshot}, {age(now - last.time)} ago, {last.kind}" if last else "none")
    if condition.checked and last and condition.checked.replace(microsecond=0) > last.time:
        yield f"checked   {moment(condition.checked)}: nothing had changed"
    yield f"target    {condition.target}: {plural(condition.snapshots, 'snapshot')}, {size(condition.stored_bytes)}"
    yield f"profile   {condition.profile}"
    yield from (f"problem   {problem}" for problem in condition.problems)


# ---------------------------------------------------------------- restore


def source_line(record: LedgerEntry, now: datetime) -> str:
    """Which snapshot it is: whoever knows of a later one sees that the target was set back."""
    host = printable(record.hostname.encode())
    return f"snapshot {record.snapshot} of {host}: number {record.sequence}, {age(now - record.time)} old"


def plan_json(plan: Plan) -> Json:
    return {
        "snapshot": plan.snapshot,
        "steps": [_step_json(step) for step in plan.steps],
        "warnings": list(plan.warnings),
        "skipped": skipped_json(plan.skipped),
    }


def plan_lines(plan: Plan, limit: int | None = None) -> Iterator[str]:
    """The plan as it will be carried out; `limit` cuts the list for a terminal, and says so."""
    steps = plan.steps if limit is None else plan.steps[:limit]
    for step in steps:
        yield f"{step.kind:16} {printable(step.item)}" + (f"  ({step.detail})" if step.detail else "")
    if len(plan.steps) > len(steps):
        yield f"... and {plural(len(plan.steps) - len(steps), 'step')} more (all with --dry-run)"
    yield from (f"warning: {printable(warning)}" for warning in plan.warnings)
    if plan.is_empty:
        yield f"nothing to do: this machine is as snapshot {plan.snapshot} has it"
    else:
        yield f"{plural(len(plan.steps), 'step')} to bring back {plan.snapshot}"


def report_lines(plan: Plan, report: Report) -> Iterator[str]:
    yield from (f"warning: {printable(warning)}" for warning in report.warnings)
    yield f"{plan.snapshot} is back: {plural(len(report.done), 'step')} done, {len(report.skipped)} skipped"


def report_json(plan: Plan, report: Report) -> Json:
    return {
        **plan_json(plan),
        "done": len(report.done),
        "warnings": list(report.warnings),
        "skipped": skipped_json(report.skipped),
    }


def _step_json(step: Step) -> Json:
    return {"step": step.kind, **path_fields(step.item, "item"), "detail": step.detail}
