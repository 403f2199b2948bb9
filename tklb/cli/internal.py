"""Plumbing with stable formats, for scripts and tests."""

import json
import os
import sys
from pathlib import Path

import click

from tklb.cli.options import Output, ending, example, shared_options
from tklb.errors import COMPLETE, UsageWrong

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(epilog=example("tklb internal scan --root /mnt/clean /etc > base.mtree"))
def internal() -> None:
    """Plumbing with stable formats, for scripts and tests."""


@internal.command(epilog=example("tklb internal scan --digest /etc /srv", "tklb internal scan --root /mnt/clean /"))
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=bytes), default=b"/", help="Where / is."
)
@click.option("--digest", is_flag=True, help="Read every file and give its SHA-256.")
@click.argument("path", nargs=-1, required=True, type=click.Path(path_type=bytes))
@shared_options
@click.pass_obj
def scan(output: Output, root: bytes, digest: bool, path: tuple[bytes, ...]) -> int:
    """Write an mtree(5) v2.0 listing of the PATHs inside the root to stdout.

    A path that does not begin with / is taken from the current folder, or from the root that was given.
    """
    from tklb.diff.listing import listing
    from tklb.diff.rules import Rule, Rules
    from tklb.host.files.scan_records import scan_records
    from tklb.model.report import Skipped, SkippedItems

    start = os.getcwdb() if os.path.samefile(root, b"/") else b"/"
    tops = [b"/" + os.path.normpath(os.path.join(start, name)).lstrip(b"/") for name in path]
    absent = (name for name in tops if not os.path.lexists(root + name))
    skipped = SkippedItems(Skipped(name, "there is no such path") for name in absent)
    rules = Rules(tuple(Rule(True, name, is_literal=True) for name in tops))
    sys.stdout.buffer.writelines(listing(scan_records(root, rules, digest=digest, skipped=skipped)))
    sys.stdout.buffer.flush()
    return ending(output, skipped)


@internal.command(epilog=example("tklb internal compare base.mtree now.mtree"))
@click.argument("base", type=_file)
@click.argument("now", type=_file)
@shared_options
def compare(base: Path, now: Path) -> int:
    """Compare two listings: one JSON object a line, sorted by path."""
    from tklb.cli.output.words import path_fields
    from tklb.diff.listing import compare_listings

    with base.open("rb") as old, now.open("rb") as new:
        try:
            for change in compare_listings(old, new):
                sys.stdout.write(json.dumps({**path_fields(change.path), "change": change.change}) + "\n")
        except ValueError as exc:
            raise UsageWrong(reason=f"not a listing: {exc}") from exc
    return COMPLETE


@internal.command("merge-users", epilog=example("tklb internal merge-users a/passwd a/group /etc/passwd /etc/group"))
@click.argument("old_passwd", type=_file)
@click.argument("old_group", type=_file)
@click.argument("new_passwd", type=_file)
@click.argument("new_group", type=_file)
@shared_options
def merge_users(old_passwd: Path, old_group: Path, new_passwd: Path, new_group: Path) -> int:
    """Merge the accounts of the backed-up machine (OLD) with this machine's (NEW); print lines and id maps."""
    from tklb.diff.accounts.merge import merge_users_json

    files = (old_passwd, old_group, new_passwd, new_group)
    try:
        merged = merge_users_json(*(path.read_bytes() for path in files))
    except ValueError as exc:
        raise UsageWrong(reason=f"the accounts cannot be merged: {exc}") from exc
    sys.stdout.write(json.dumps(merged) + "\n")
    return COMPLETE


@internal.command("merge-packages", epilog=example("tklb internal merge-packages profile/packages now/packages"))
@click.argument("base", type=_file)
@click.argument("now", type=_file)
@shared_options
def merge_packages(base: Path, now: Path) -> int:
    """Compare two package lists in the form of a profile's `packages`."""
    from tklb.diff.packages import delta_names, diff_packages, native_architecture, parse_packages

    try:
        old, new = parse_packages(base.read_bytes()), parse_packages(now.read_bytes())
    except ValueError as exc:
        raise UsageWrong(reason=f"not a package list: {exc}") from exc
    merged = delta_names(diff_packages(old, new), native_architecture(new))
    sys.stdout.write(json.dumps(merged) + "\n")
    return COMPLETE
