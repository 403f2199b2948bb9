"""tklb profile show."""

import click

from tklb.cli.options import Output, example, read_paths, shared_options
from tklb.errors import COMPLETE


@click.command(epilog=example("tklb profile show debian-12-core"))
@click.argument("name", metavar="ID|DIR")
@shared_options
@click.pass_obj
def show(output: Output, name: str) -> int:
    """Show the rules of a profile and what it holds."""
    from tklb.profile.folder import find_profile
    from tklb.profile.lint import describe_profile

    value = describe_profile(find_profile(read_paths().profiles, name))
    lines = []
    for field, content in value.items():
        items = content if isinstance(content, list) else [content]
        lines += [f"{field if number == 0 else '':10} {item}" for number, item in enumerate(items)]
    output.value(value, lines)
    return COMPLETE
