"""tklb key show."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.errors import COMPLETE


@click.command(epilog=example("tklb key show", "tklb key show --json"))
@shared_options
@click.pass_obj
def show(output: Output) -> int:
    """Show the fingerprint of the key, its copies, and older keys still in use."""
    need_root()
    from tklb.cli.output.keys import state_json, state_lines
    from tklb.commands.key.show import show_key
    from tklb.session import open_session

    state = show_key(open_session(read_paths(), now))
    output.value(state_json(state), state_lines(state, now()))
    return COMPLETE
