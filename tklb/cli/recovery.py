"""The way back: restore."""

import sys
from pathlib import Path

import click

from tklb.cli.command import Output, example, need_root, now, paths, shared_options
from tklb.cli.daily import skip_option
from tklb.cli.logfile import run_log
from tklb.errors import COMPLETE, INCOMPLETE, Interrupted, RestoreRefused
from tklb.model import Plan, Role
from tklb.view.progress import progress_line

_SHOWN = 200  # steps of a plan that a person is asked to look at


@click.command(
    epilog=example(
        "tklb restore --target file:///mnt/usb/backups --key server.key",
        "tklb restore --dry-run",
        "tklb restore 20260102T030405Z --limit /srv/www --yes",
        "tklb restore --into /tmp/look",
    )
)
@click.argument("snapshot", default="latest")
@click.option("--target", metavar="URL", help="Where the snapshots are; the configured target when not given.")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="Key file of the backed-up machine.")
@skip_option
@click.option("--limit", metavar="ITEM", multiple=True, help="Bring back only this: /path, package:NAME, user:NAME.")
@click.option("--as", "role", type=click.Choice([str(role) for role in Role]), default="replacement", show_default=True,
              help="Take over the identity of the backed-up machine, or keep this one's.")
@click.option("--into", metavar="DIR", type=click.Path(path_type=Path), help="Only decode into DIR, apply nothing.")
@click.option("--dry-run", is_flag=True, help="Show the plan; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before the plan is carried out.")
@click.option("--remove-packages", is_flag=True, help="Remove the packages that the backed-up machine had removed.")
@shared_options
@click.pass_obj
def restore(output: Output, snapshot: str, target: str | None, key: Path | None, role: str, into: Path | None,
            dry_run: bool, yes: bool, remove_packages: bool, skip: tuple[str, ...], limit: tuple[str, ...]) -> int:
    """Bring a snapshot back onto this machine: plan, show, ask, apply.

    SNAPSHOT is an id of `tklb list`, a time (the newest snapshot not after it) or `latest`.
    """
    need_root()
    from tklb.flow.restore import Request, extract, restoring

    where = paths()
    request = Request(snapshot=snapshot, target=target, key=key, role=Role(role), skip=frozenset(skip), limits=limit,
                      remove_packages=remove_packages)
    with run_log(where, "restore", now(), wanted=not dry_run), progress_line(output.progress) as progress:
        if into is not None:
            return _extracted(output, extract(where, request, into, now, progress))
        with restoring(where, request, now, progress) as run:
            return _carried_out(output, run, dry_run, yes)
