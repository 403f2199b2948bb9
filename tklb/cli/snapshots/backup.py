"""tklb backup."""

import click

from tklb.cli.options import (
    Output,
    example,
    limit_rate_option,
    need_root,
    now,
    read_paths,
    report_outside,
    report_skipped,
    shared_options,
    skip_option,
)
from tklb.cli.output.progress import progress_line
from tklb.cli.run_log import run_log


@click.command(epilog=example("tklb backup", "tklb backup --dry-run", "tklb backup -- -/srv/scratch"))
@click.option("--full", is_flag=True, help="Start a new chain with a full snapshot.")
@click.option("--dry-run", is_flag=True, help="Show the changes since the last snapshot; take nothing.")
@skip_option
@limit_rate_option
@click.argument("override", nargs=-1)
@shared_options
@click.pass_obj
def backup(
    output: Output, full: bool, dry_run: bool, skip: tuple[str, ...], limit_rate: str, override: tuple[str, ...]
) -> int:
    """Take a snapshot of the delta, or none if nothing changed.

    The run first resumes an interrupted upload. An OVERRIDE adds to the scope of this run (/path, package:NAME,
    mysql:DB), or leaves out with a - before it; see tklb-overrides(5).
    """
    need_root()
    from tklb.cli.output.backup import backup_json, backup_lines
    from tklb.commands.backup import BackupRequest, preview_snapshot, take_snapshot
    from tklb.session import open_session

    paths = read_paths()
    request = BackupRequest(full=full, skip=frozenset(skip), overrides=override)
    with run_log(paths, "backup", now(), wanted=not dry_run):
        with progress_line(output.progress) as progress:
            session = open_session(paths, now, progress, limit_rate=limit_rate)
            result = preview_snapshot(session, request) if dry_run else take_snapshot(session, request)
        output.value(backup_json(result), backup_lines(result))
        return max(report_skipped(output, result.skipped), report_outside(output, result.outside))
