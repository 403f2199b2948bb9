"""tklb takeover."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE


@click.command(epilog=example("tklb takeover", "tklb takeover --json"))
@shared_options
@click.pass_obj
def takeover(output: Output) -> int:
    """Make this machine the one that continues the backups, after another one with the same key did.

    The other one is the machine that this one was restored or cloned from. Its next backup is refused, with the reason.
    Stop its backups first, so that nothing it would store is missed.
    """
    need_root()
    from tklb.commands.takeover import take_over_lineage
    from tklb.session import open_session

    paths = read_paths()
    with run_log(paths, "takeover", now()):
        done = take_over_lineage(open_session(paths, now))
    before = f"; before: {done.reason}" if done.reason else ""
    after = f" after snapshot {done.after}" if done.after else ""
    line = f"this machine continues the backups at {done.address}{after}{before}"
    output.value(
        {
            "target": done.address,
            "installation": done.installation,
            "after": done.after or None,
            "before": done.reason or None,
            "changed": done.is_new,
        },
        (line if done.is_new else f"this machine continues the backups at {done.address} already",),
    )
    return COMPLETE
