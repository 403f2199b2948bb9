"""tklb profile lint."""

from pathlib import Path

import click

from tklb.cli.options import Output, example, shared_options
from tklb.errors import COMPLETE, ProfileInvalid


@click.command(epilog=example("tklb profile lint profiles/debian-12-core"))
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_options
@click.pass_obj
def lint(output: Output, folder: Path) -> int:
    """Check the profile in a folder and list every problem."""
    from tklb.profile.lint import lint_profile

    problems = lint_profile(folder)
    output.value({"ok": not problems, "problems": list(problems)}, problems or (f"{folder}: well-formed",))
    return ProfileInvalid.code if problems else COMPLETE
