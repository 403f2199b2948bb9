"""The result of `tklb backup`, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tklb.base.measure import format_count, format_size
from tklb.cli.output.json_forms import Json, skipped_json
from tklb.cli.output.scope import mount_lines, mounts_json, outside_json
from tklb.errors import printable
from tklb.model.report import count_skipped
from tklb.model.snapshot import Kind

if TYPE_CHECKING:
    from tklb.backup.result import BackupResult


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
        "skipped_count": count_skipped(result.skipped),
        "outside": outside_json(result.outside),
        "mounts": mounts_json(result.mounts),
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
        title = f"snapshot {result.snapshot}" if result.snapshot else "a backup would take"
        yield (
            f"{title}: {result.kind}, {format_count(counts.files_changed, 'file')} changed "
            f"({format_size(counts.bytes)}), {counts.files_metadata} metadata only, {counts.files_deleted} deleted"
        )
        yield (
            f"packages: {counts.packages_added} added, {counts.packages_removed} removed; "
            f"users: {counts.users_added} added, {counts.users_changed} changed"
        )
        if result.databases:
            total = sum(database.bytes for database in result.databases)
            yield f"{format_count(len(result.databases), 'database')}, {format_size(total)}"
        yield f"stored {format_size(result.stored_bytes)} in {result.seconds:.1f} s"
    yield from (f"note: {printable(warning)}" for warning in result.warnings)
    closed = (mount for mount in result.mounts if not mount.taken)
    yield from (f"note: mount point {line}" for line in mount_lines(closed))


def _engines(result: BackupResult) -> list[str]:
    return sorted({database.engine for database in result.databases})
