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
    from tklb.cli.output.delta import delta_lines, write_delta_json
    from tklb.commands.delta import collect_delta
    from tklb.session import open_session

    with progress_line(output.progress) as progress:
        found = collect_delta(open_session(read_paths(), now, progress), override)
        if output.json:
            rest = (found.accounts, found.registries, found.dumps.databases)
            write_delta_json(found.changes, found.packages, found.native, *rest)
        else:
            rest = (found.accounts, found.registries, found.dumps.databases)
            for line in delta_lines(found.changes, found.packages, *rest):
                click.echo(line)
    return report_skipped(output, found.list_skipped())
