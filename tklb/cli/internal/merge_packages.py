"""tklb internal merge-packages."""

import json
import sys
from pathlib import Path

import click

from tklb.cli.options import EXISTING_FILE, example, shared_options
from tklb.errors import COMPLETE, UsageWrong


@click.command("merge-packages", epilog=example("tklb internal merge-packages profile/packages now/packages"))
@click.argument("base", type=EXISTING_FILE)
@click.argument("now", type=EXISTING_FILE)
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
