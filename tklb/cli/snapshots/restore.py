"""tklb restore."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tklb.cli.options import (
    AbsolutePath,
    Output,
    example,
    expect_key_option,
    key_option,
    limit_rate_option,
    need_root,
    now,
    read_paths,
    report_skipped,
    shared_options,
    skip_option,
    target_option,
)
from tklb.cli.output.progress import progress_line
from tklb.cli.passphrase_input import access_to, passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import RestoreRefused
from tklb.model.databases import ENGINES
from tklb.model.plan import Role

if TYPE_CHECKING:
    from tklb.commands.restore import RestoreRequest
    from tklb.session import TargetSession

_DATABASES = ", ".join(f"{engine}:DB[/TABLE]" for engine in ENGINES)
_LIMIT_HELP = f"Bring back only this: /path, package:NAME, user:NAME, {_DATABASES}; repeatable."
_SAME_HELP = "Both machines mean the same account by this user name, so its privileges come too; repeatable."
_SHOWN = 200  # steps of a plan that a terminal shows before the question


@click.command(
    epilog=example(
        "tklb restore --target file:///mnt/usb/backups --key server.key",
        "tklb restore --target s3://backups/web1 --passphrase-file passphrase",
        "tklb restore --dry-run",
        "tklb restore 20260102T030405Z --limit /srv/www --yes",
        "tklb restore 20260102T030405Z --exact --dry-run",
        "tklb restore --same-user alice",
        "tklb restore --into /tmp/look",
    )
)
@click.argument("snapshot", default="latest")
@target_option
@key_option
@passphrase_file_option
@expect_key_option
@skip_option
@click.option("--limit", metavar="ITEM", multiple=True, help=_LIMIT_HELP)
@click.option(
    "--rename-database",
    "renames",
    metavar="OLD=NEW",
    multiple=True,
    help="Bring a database back under another name; repeatable."
    f" {' or '.join(f'{engine}:' for engine in ENGINES)} before OLD selects the server.",
)
@click.option(
    "--as",
    "role",
    type=click.Choice([str(role) for role in Role]),
    default="replacement",
    show_default=True,
    help="replacement takes over the identity of the backed-up machine; clone keeps this one's.",
)
@click.option(
    "--into", metavar="DIR", type=AbsolutePath(path_type=Path), help="Only decode the snapshot into DIR; apply nothing."
)
@click.option("--dry-run", is_flag=True, help="Show the plan; change nothing.")
@click.option("--yes", is_flag=True, help="Apply the plan without asking.")
@limit_rate_option
@click.option("--remove-packages", is_flag=True, help="Remove the packages that the backed-up machine had removed.")
@click.option("--exact", is_flag=True, help="Also remove what this machine has and the snapshot does not know.")
@click.option("--same-user", "same_users", metavar="NAME", multiple=True, help=_SAME_HELP)
@shared_options
@click.pass_obj
def restore(
    output: Output,
    snapshot: str,
    target: str | None,
    key: Path | None,
    passphrase_file: Path | None,
    expect_key: str,
    role: str,
    into: Path | None,
    dry_run: bool,
    yes: bool,
    limit_rate: str,
    remove_packages: bool,
    exact: bool,
    same_users: tuple[str, ...],
    skip: tuple[str, ...],
    limit: tuple[str, ...],
    renames: tuple[str, ...],
) -> int:
    """Bring a snapshot back onto this machine: plan, show, ask, apply.

    SNAPSHOT is an id of `tklb list`, a time (the newest snapshot not after it) or `latest`, which is the default.
    Without --key, tklb uses the key of this machine, or the one that the target keeps, which its passphrase opens.
    """
    need_root()
    from tklb.commands.restore import RestoreRequest
    from tklb.session import open_target_session

    paths = read_paths()
    request = RestoreRequest(snapshot, Role(role), frozenset(skip), limit, renames, remove_packages, exact, same_users)
    access = access_to(target, key, passphrase_file, limit_rate, expect_key)
    with run_log(paths, "restore", now(), wanted=not dry_run), progress_line(output.progress) as progress:
        session = open_target_session(paths, access, now, progress)
        return _extract(output, session, request, into) if into else _apply(output, session, request, dry_run, yes)


def _apply(output: Output, session: "TargetSession", request: "RestoreRequest", dry_run: bool, yes: bool) -> int:
    from tklb.cli.output.restore import (
        key_line,
        plan_json,
        plan_lines,
        report_json,
        report_lines,
        skipped_lines,
        source_line,
    )
    from tklb.commands.restore import plan_restore

    with plan_restore(session, request) as run:
        plan = run.plan
        output.say(source_line(run.source.entry, now()))
        output.say(key_line(run.source.key))
        if dry_run or not (plan.steps or run.takes_over):
            output.value({**plan_json(plan), "key": asdict(run.source.key)}, plan_lines(plan))
            return report_skipped(output, plan.skipped)
        _confirm((*plan_lines(plan, _SHOWN), *skipped_lines(plan)), output, yes)
        report = run.apply()
        told = {**report_json(plan, report), "key": asdict(run.source.key)}
        output.value(told, report_lines(plan, report), f"snapshot {plan.snapshot} is back")
        return report_skipped(output, report.skipped)


def _confirm(lines: Iterable[str], output: Output, yes: bool) -> None:
    for line in lines:
        output.say(line)
    if yes:
        return
    if not sys.stdin.isatty():
        raise RestoreRefused(reason="nobody confirmed the plan")
    if not click.confirm("Carry this out?", err=True):
        raise RestoreRefused(reason="cancelled")


def _extract(output: Output, session: "TargetSession", request: "RestoreRequest", into: Path) -> int:
    from tklb.cli.output.json_forms import skipped_json
    from tklb.commands.restore import extract

    report = extract(session, request, into)
    name = report.done[0]
    output.value(
        {
            "snapshot": name,
            "into": str(into),
            "skipped": skipped_json(report.skipped),
            "skipped_count": len(report.skipped),
        },
        (f"snapshot {name} decoded into {into}",),
    )
    return report_skipped(output, report.skipped)
