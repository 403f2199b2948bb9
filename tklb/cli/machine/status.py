"""tklb status."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options


@click.command(epilog=example("tklb status", "tklb status --json || mail -s 'backup' root"))
@shared_options
@click.pass_obj
def status(output: Output) -> int:
    """Report the state of this machine's backups; the exit status says it too.

    The state is ok, late, never or failing; 0 means ok without problems.
    """
    need_root()
    from tklb.cli.output.snapshots import status_json, status_lines
    from tklb.commands.status import check_status, open_status_session

    state = check_status(open_status_session(read_paths(), now))
    output.value(status_json(state), status_lines(state, now()))
    return state.exit_status
