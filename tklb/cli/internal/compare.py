"""tklb internal compare."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tklb.cli.options import EXISTING_FILE, example, shared_options
from tklb.errors import COMPLETE, UsageWrong


@click.command(epilog=example("tklb internal compare base.mtree now.mtree"))
@click.argument("base", type=EXISTING_FILE)
@click.argument("now", type=EXISTING_FILE)
@shared_options
def compare(base: Path, now: Path) -> int:
    """Compare two listings: one JSON object a line, sorted by path."""
    try:
        sys.stdout.writelines(_lines(base, now))
    except ValueError as exc:
        raise UsageWrong(reason=f"not a listing: {exc}") from exc
    return COMPLETE


def _lines(base: Path, now: Path) -> Iterator[str]:
    from tklb.cli.output.json_forms import path_fields
    from tklb.diff.listing import compare_listings

    with base.open("rb") as old, now.open("rb") as new:
        for change in compare_listings(old, new):
            yield json.dumps({**path_fields(change.path), "change": change.change}) + "\n"
