"""The snapshots of a target and the state of the backups, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tklb.base.measure import format_count, format_size
from tklb.cli.output.json_forms import skipped_json
from tklb.cli.output.scope import outside_json
from tklb.cli.output.text import describe_age, format_time, table
from tklb.errors import printable
from tklb.model.report import fold_skipped

if TYPE_CHECKING:
    from tklb.cli.output.json_forms import Json
    from tklb.commands.status import StatusReport
    from tklb.model.snapshot import LedgerEntry


def entry_json(entry: LedgerEntry) -> Json:
    return {
        "snapshot": entry.snapshot,
        "kind": entry.kind,
        "time": entry.time.isoformat(),
        "bytes": entry.counts.delta_bytes,
        "stored_bytes": entry.stored_bytes,
        "profile": entry.profile,
        "host": entry.hostname,
        "marks": list(entry.marks),
        "skipped": len(entry.skipped),
        "skipped_items": skipped_json(entry.skipped),
    }


def list_lines(entries: Sequence[LedgerEntry], *, is_long: bool = False) -> Iterator[str]:
    """Give the table of snapshots; the long one has what each backup skipped below it."""
    rows = [
        (
            entry.snapshot,
            str(entry.kind),
            format_size(entry.counts.delta_bytes),
            format_size(entry.stored_bytes),
            entry.profile,
            printable(entry.hostname.encode()),
            f"{len(entry.skipped)} skipped" if entry.skipped else "",
        )
        for entry in entries
    ]
    if not rows:
        yield "no snapshots yet: run `tklb backup`"
        return
    head, *lines = table(("SNAPSHOT", "KIND", "SIZE", "STORED", "PROFILE", "HOST", ""), rows, right=frozenset({2, 3}))
    yield head
    for entry, line in zip(entries, lines, strict=True):
        yield line
        found = fold_skipped(entry.skipped) if is_long else ()
        yield from (f"  skipped {item}: {printable(reason)}" for item, reason, _ in found)


def status_json(condition: StatusReport) -> Json:
    last = condition.last
    return {
        "state": condition.state,
        "last": entry_json(last) if last else None,
        "next": None,
        "target": condition.target,
        "permanence": condition.permanence.value if condition.permanence else None,
        "profile": condition.profile,
        "stored_bytes": condition.stored_bytes,
        "snapshots": condition.snapshots,
        "unfinished_restore": condition.unfinished_restore or None,
        "problems": list(condition.problems),
        "outside": outside_json(condition.outside),
    }


def status_lines(condition: StatusReport, now: datetime) -> Iterator[str]:
    last = condition.last
    yield f"state     {condition.state}"
    yield "last      " + (f"{last.snapshot}, {last.kind}, {describe_age(now - last.time)}" if last else "none")
    if condition.checked and last and condition.checked.replace(microsecond=0) > last.time:
        yield f"checked   {format_time(condition.checked)}: nothing had changed"
    amount = f"{format_count(condition.snapshots, 'snapshot')}, {format_size(condition.stored_bytes)}"
    word = f", {condition.permanence.value}" if condition.permanence else ""
    yield f"target    {condition.target}: {amount}{word}"
    yield f"profile   {condition.profile}"
    yield from (f"problem   {problem}" for problem in condition.problems)
