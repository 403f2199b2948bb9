"""tklb profile list."""

import click

from tklb.cli.options import Output, example, read_paths, shared_options
from tklb.cli.output.text import table
from tklb.errors import COMPLETE


@click.command("list", epilog=example("tklb profile list"))
@shared_options
@click.pass_obj
def list_profiles(output: Output) -> int:
    """List the profiles that came with tklb."""
    from tklb.profile.folder import list_shipped

    found = list_shipped(read_paths().profiles)
    rows = [(item.id, item.release, item.summary) for item in found]
    value = [{"id": item.id, "release": item.release, "summary": item.summary} for item in found]
    output.value(value, table(("ID", "RELEASE", "SUMMARY"), rows))
    return COMPLETE
