"""tklb profile build."""

from pathlib import Path

import click

from tklb.cli.options import AbsolutePath, Output, example, need_root, shared_options
from tklb.errors import COMPLETE


@click.command(epilog=example("tklb profile build --root /mnt/clean --recipe recipe.toml --out profiles/mine"))
@click.option(
    "--root",
    required=True,
    type=AbsolutePath(exists=True, file_okay=False, path_type=bytes),
    help="A clean root file system.",
)
@click.option(
    "--recipe",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file that describes the profile: id, release, rules, services; see tklb-profile(5).",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder to write; a folder with the name of the id if not given."
)
@shared_options
@click.pass_obj
def build(output: Output, root: bytes, recipe: Path, out: Path | None) -> int:
    """Build a profile from a clean root file system; the same root gives the same bytes."""
    need_root()
    from tklb.profile.build import build_profile

    made = build_profile(root, recipe, out)
    output.value({"id": made.id, "folder": str(made.folder)}, (f"{made.id} built in {made.folder}",))
    return COMPLETE
