"""Profiles."""

from pathlib import Path

import click

from tklb.cli.options import Output, example, need_root, paths, shared_options
from tklb.cli.output.tables import table
from tklb.errors import COMPLETE, ProfileInvalid


@click.group(epilog=example("tklb profile list", "tklb profile detect"))
def profile() -> None:
    """Work with profiles: what a machine type is just after installation."""


@profile.command("list", epilog=example("tklb profile list"))
@shared_options
@click.pass_obj
def list_profiles(output: Output) -> int:
    """List the profiles that came with tklb."""
    from tklb.profile.folder import list_shipped

    found = list_shipped(paths().profiles)
    rows = [(item.id, item.release, item.summary) for item in found]
    value = [{"id": item.id, "release": item.release, "summary": item.summary} for item in found]
    output.value(value, table(("ID", "RELEASE", "SUMMARY"), rows))
    return COMPLETE


@profile.command(epilog=example("tklb profile show debian-12-core"))
@click.argument("name", metavar="ID|DIR")
@shared_options
@click.pass_obj
def show(output: Output, name: str) -> int:
    """Show the rules and figures of a profile."""
    from tklb.profile.folder import find_profile
    from tklb.profile.lint import figures

    value = figures(find_profile(paths().profiles, name))
    lines = []
    for field, content in value.items():
        items = content if isinstance(content, list) else [content]
        lines += [f"{field if number == 0 else '':10} {item}" for number, item in enumerate(items)]
    output.value(value, lines)
    return COMPLETE


@profile.command(epilog=example("tklb profile detect"))
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=bytes), default=b"/", help="Where / is."
)
@shared_options
@click.pass_obj
def detect(output: Output, root: bytes) -> int:
    """Say which profile fits this machine."""
    from tklb.profile.detect import detect_profile as detected

    found = detected(root, paths().profiles)
    output.value({"id": found.id, "summary": found.summary}, (found.id,))
    return COMPLETE


@profile.command(epilog=example("tklb profile lint profiles/debian-12-core"))
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_options
@click.pass_obj
def lint(output: Output, folder: Path) -> int:
    """Check a profile folder; name every problem."""
    from tklb.profile.lint import lint_profile as linted

    problems = linted(folder)
    output.value({"ok": not problems, "problems": list(problems)}, problems or (f"{folder}: well-formed",))
    return ProfileInvalid.code if problems else COMPLETE


@profile.command(epilog=example("tklb profile build --root /mnt/clean --recipe recipe.toml --out profiles/mine"))
@click.option(
    "--root",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=bytes),
    help="A clean root file system.",
)
@click.option(
    "--recipe",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the profile covers: id, release, rules, services.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to; a folder named after the id when not given.")
@shared_options
@click.pass_obj
def build(output: Output, root: bytes, recipe: Path, out: Path | None) -> int:
    """Build a profile from a clean root file system; the same root gives the same bytes."""
    need_root()
    from tklb.profile.build import build_profile as built

    made = built(root, recipe, out)
    output.value({"id": made.id, "folder": str(made.folder)}, (f"{made.id} built in {made.folder}",))
    return COMPLETE
