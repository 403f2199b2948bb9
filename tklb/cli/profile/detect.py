"""tklb profile detect."""

import click

from tklb.cli.options import Output, example, read_paths, root_option, shared_options
from tklb.errors import COMPLETE


@click.command(epilog=example("tklb profile detect", "tklb profile detect --root /mnt/server"))
@root_option
@shared_options
@click.pass_obj
def detect(output: Output, root: bytes) -> int:
    """Show which profile fits this machine best."""
    from tklb.profile.detect import detect_profile

    found = detect_profile(root, read_paths().profiles)
    output.value({"id": found.id, "summary": found.summary}, (found.id,))
    return COMPLETE
