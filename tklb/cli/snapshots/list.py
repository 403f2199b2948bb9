"""tklb list."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.errors import COMPLETE, TargetDamaged


@click.command("list", epilog=example("tklb list", "tklb list --long", "tklb list --json"))
@click.option("--long", "is_long", is_flag=True, help="Show below each snapshot what its backup skipped.")
@shared_options
@click.pass_obj
def list_snapshots(output: Output, is_long: bool) -> int:
    """List the snapshots of the target, the oldest first."""
    need_root()
    from tklb.cli.output.snapshots import entry_json, list_lines
    from tklb.commands.list import list_snapshots
    from tklb.session import open_session

    ledger = list_snapshots(open_session(read_paths(), now))
    output.value([entry_json(entry) for entry in ledger.entries], list_lines(ledger.entries, is_long=is_long))
    for problem in ledger.problems:
        output.say(f"damaged: {problem}")
    return TargetDamaged.code if ledger.problems else COMPLETE
