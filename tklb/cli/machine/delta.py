"""tklb delta."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, report_skipped, shared_options
from tklb.cli.output.progress import progress_line


@click.command(epilog=example("tklb delta", "tklb delta --json -- /srv -/srv/cache"))
@click.argument("override", nargs=-1)
@shared_options
@click.pass_obj
def delta(output: Output, override: tuple[str, ...]) -> int:
    """Show what a backup takes, like `git status` for a server; changes nothing.

    The delta is what differs from the machine as it was just after installation. An OVERRIDE adds to the scope of
    this run (/path, package:NAME, mysql:DB), or leaves out with a - before it; see tklb-overrides(5).
    """
    need_root()
    from tklb.backup.collect import collect_state, stream_changes
    from tklb.backup.dump_databases import list_databases
    from tklb.cli.output.delta import delta_lines, write_delta_json
    from tklb.diff.packages import native_architecture
    from tklb.model.report import SkippedItems
    from tklb.session import open_session

    with progress_line(output.progress) as progress:
        session = open_session(read_paths(), now, progress)
        skipped, seen = SkippedItems(), collect_state(session, override)
        changes = stream_changes(session, seen, skipped)
        dumps = list_databases(session, seen.overrides)
        if output.json:
            native = native_architecture(seen.packages)
            write_delta_json(changes, seen.package_delta, native, seen.account_delta, dumps.databases)
        else:
            for line in delta_lines(changes, seen.package_delta, seen.account_delta, dumps.databases):
                click.echo(line)
    return report_skipped(output, (*skipped, *dumps.skipped))
