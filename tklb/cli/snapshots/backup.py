"""tklb backup."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import NoReturn

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
from tklb.config.paths import Paths
from tklb.errors import TklbError


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
    from tklb.backup.run_note import note_failure
    from tklb.cli.main import give_up
    from tklb.cli.output.backup import backup_json, backup_lines
    from tklb.commands.backup import BackupRequest, preview_snapshot, take_snapshot
    from tklb.session import open_session
    from tklb.storage.hang import watch_folder

    paths, begin = read_paths(), now()
    request = BackupRequest(full=full, skip=frozenset(skip), overrides=override)
    noted = nullcontext() if dry_run else note_failure(paths, begin)
    with noted, run_log(paths, "backup", begin, wanted=not dry_run):
        with progress_line(output.progress) as progress:
            session = open_session(paths, now, progress, limit_rate=limit_rate)
            with watch_folder(session.config, give_up if dry_run else _end_by(paths, begin)):
                result = preview_snapshot(session, request) if dry_run else take_snapshot(session, request)
        done = "nothing was to be done" if dry_run else result.summary
        output.value(backup_json(result), backup_lines(result), done)
        return max(report_skipped(output, result.skipped), report_outside(output, result.outside))


def _end_by(paths: Paths, begin: datetime) -> Callable[[TklbError], NoReturn]:
    """Give what notes a failure and ends the process, where the target hangs and nothing else can end the run."""
    from tklb.backup.run_note import note_failure
    from tklb.cli.main import give_up

    def end(error: TklbError) -> NoReturn:
        with suppress(TklbError), note_failure(paths, begin):
            raise error
        give_up(error)

    return end
