"""tklb internal merge-users."""

import json
import sys
from pathlib import Path

import click

from tklb.cli.options import EXISTING_FILE, example, shared_options
from tklb.errors import COMPLETE, UsageWrong


@click.command("merge-users", epilog=example("tklb internal merge-users a/passwd a/group /etc/passwd /etc/group"))
@click.argument("old_passwd", type=EXISTING_FILE)
@click.argument("old_group", type=EXISTING_FILE)
@click.argument("new_passwd", type=EXISTING_FILE)
@click.argument("new_group", type=EXISTING_FILE)
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
