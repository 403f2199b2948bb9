"""tklb why."""

import os

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.errors import COMPLETE, printable


@click.command(epilog=example("tklb why /etc/apache2/apache2.conf"))
@click.argument("path", type=click.Path(path_type=bytes))
@shared_options
@click.pass_obj
def why(output: Output, path: bytes) -> int:
    """Show why PATH is part of the delta, or why it is not.

    The reasons are a rule, a package, and an entry of the install state.
    """
    need_root()
    from tklb.cli.output.json_forms import path_fields
    from tklb.commands.why import explain
    from tklb.session import open_session

    verdict = explain(open_session(read_paths(), now), os.path.abspath(path))
    value = {**path_fields(verdict.path), "in_delta": verdict.in_delta, "reasons": list(verdict.reasons)}
    state = "part of the delta" if verdict.in_delta else "not part of the delta"
    output.value(value, (f"{printable(verdict.path)}: {state}", *(f"  {reason}" for reason in verdict.reasons)))
    return COMPLETE
