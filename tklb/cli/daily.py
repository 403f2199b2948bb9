"""The commands of every day: init, delta, why, backup, list, status."""

import os
from pathlib import Path

import click

from tklb.cli.command import Output, ending, example, need_root, now, paths, shared_options
from tklb.cli.logfile import run_log
from tklb.cli.passphrase import asking, passphrase_file_option
from tklb.errors import COMPLETE, TargetDamaged, shown
from tklb.view.progress import progress_line

PARTS = ("files", "packages", "users", "databases")
skip_option = click.option("--skip", multiple=True, type=click.Choice(PARTS), help="Leave this part out; repeatable.")
limit_rate_option = click.option(
    "--limit-rate", metavar="RATE", default="", help="Bytes a second, as 500K or 2M, or a timetable as in tklb.toml(5)."
)


@click.command(
    epilog=example(
        "tklb init --target file:///mnt/usb/backups",
        "tklb init --target s3://backups/web1 --passphrase-file /root/passphrase",
        "tklb init --profile debian-12-core",
    )
)
@click.option("--target", metavar="URL", help="Where snapshots go (file:///var/backups/tklb).")
@click.option("--profile", metavar="ID|DIR", help="The profile of this machine; found out when not given.")
@passphrase_file_option
@click.option("--force", is_flag=True, help="Write the configuration anew; the key stays.")
@shared_options
@click.pass_obj
def init(output: Output, target: str | None, profile: str | None, passphrase_file: Path | None, force: bool) -> int:
    """Make the key, pick the profile, try the target, and write the configuration.

    With a passphrase, the key is kept at the target too, wrapped in it: then address and passphrase are enough to
    recover a dead server.
    """
    need_root()
    from tklb.flow.initialise import Wishes, initialise

    where = paths()
    with run_log(where, "init", now()):
        ask = asking(passphrase_file) if passphrase_file else None
        made = initialise(where, Wishes(target, profile, ask, force), now)
    copy = f"{made.config.target}/key.asc (wrapped in the passphrase)" if made.is_wrapped else "nowhere else yet"
    lines = (
        f"profile  {made.config.profile}",
        f"target   {made.config.target}",
        f"key      {where.secret}; {copy}",
        *(f"note: {oddity}" for oddity in made.oddities),
        "Next: `tklb backup`. And keep a copy of the key off this machine: `tklb key escrow FILE` or `key kit FILE`.",
    )
    fields = {"profile": made.config.profile, "target": made.config.target, "key": str(where.secret)}
    output.value({**fields, "passphrase": made.is_wrapped, "warnings": list(made.oddities)}, lines)
    return COMPLETE


@click.command(epilog=example("tklb delta", "tklb delta --json -- /srv -/srv/cache"))
@click.argument("override", nargs=-1)
@shared_options
@click.pass_obj
def delta(output: Output, override: tuple[str, ...]) -> int:
    """Show what makes this server this server, like `git status` for a machine; touches nothing."""
    need_root()
    from tklb.delta.packages import native_architecture
    from tklb.flow.databases import list_databases
    from tklb.flow.setting import open_setting
    from tklb.flow.survey import file_changes, survey
    from tklb.view.delta import delta_lines, write_delta_json

    with progress_line(output.progress) as progress:
        setting = open_setting(paths(), now, progress)
        seen = survey(setting, override)
        changes = file_changes(setting, seen)
        dumps = list_databases(setting, seen.overrides)
        if output.json:
            native = native_architecture(seen.packages)
            write_delta_json(changes, seen.package_delta, native, seen.account_delta, dumps.databases)
        else:
            for line in delta_lines(changes, seen.package_delta, seen.account_delta, dumps.databases):
                click.echo(line)
    return ending(output, (*seen.skipped, *dumps.skipped))


@click.command(epilog=example("tklb why /etc/apache2/apache2.conf"))
@click.argument("path", type=click.Path(path_type=bytes))
@shared_options
@click.pass_obj
def why(output: Output, path: bytes) -> int:
    """Say which rule, package or profile entry makes PATH part of the delta, or not."""
    need_root()
    from tklb.flow.explain import explain
    from tklb.flow.setting import open_setting
    from tklb.view.words import path_fields

    verdict = explain(open_setting(paths(), now), os.path.abspath(path))
    value = {**path_fields(verdict.path), "in_delta": verdict.in_delta, "reasons": list(verdict.reasons)}
    state = "part of the delta" if verdict.in_delta else "not part of the delta"
    output.value(value, (f"{shown(verdict.path)}: {state}", *(f"  {reason}" for reason in verdict.reasons)))
    return COMPLETE


@click.command(epilog=example("tklb backup", "tklb backup --dry-run", "tklb backup -- -/srv/scratch"))
@click.option("--full", is_flag=True, help="Start a new chain instead of an increment.")
@click.option("--dry-run", is_flag=True, help="Say what would be taken; take nothing.")
@skip_option
@limit_rate_option
@click.argument("override", nargs=-1)
@shared_options
@click.pass_obj
def backup(
    output: Output, full: bool, dry_run: bool, skip: tuple[str, ...], limit_rate: str, override: tuple[str, ...]
) -> int:
    """Take a snapshot of the delta; of nothing when nothing changed.

    An upload that was interrupted is gone on with first.
    """
    need_root()
    from tklb.flow.backup import Request, rehearse, take
    from tklb.flow.setting import limited, open_setting
    from tklb.view.results import backup_json, backup_lines

    where = paths()
    request = Request(full=full, skip=frozenset(skip), overrides=override)
    with run_log(where, "backup", now(), wanted=not dry_run), progress_line(output.progress) as progress:
        setting = limited(open_setting(where, now, progress), limit_rate)
        result = rehearse(setting, request) if dry_run else take(setting, request)
    output.value(backup_json(result), backup_lines(result))
    return ending(output, result.skipped)


@click.command("list", epilog=example("tklb list", "tklb list --json"))
@shared_options
@click.pass_obj
def list_snapshots(output: Output) -> int:
    """List the snapshots of the target."""
    need_root()
    from tklb.flow.inspect import snapshots
    from tklb.flow.setting import open_setting
    from tklb.view.results import list_lines, record_json

    ledger = snapshots(open_setting(paths(), now))
    output.value([record_json(record) for record in ledger.records], list_lines(ledger.records))
    for problem in ledger.problems:
        output.say(f"damaged: {problem}")
    return TargetDamaged.code if ledger.problems else COMPLETE


@click.command(epilog=example("tklb status", "tklb status --json || mail -s 'backup' root"))
@shared_options
@click.pass_obj
def status(output: Output) -> int:
    """Say how the backups of this machine are; the exit status says it too."""
    need_root()
    from tklb.flow.inspect import condition
    from tklb.flow.setting import open_setting
    from tklb.view.results import status_json, status_lines

    state = condition(open_setting(paths(), now))
    output.value(status_json(state), status_lines(state, now()))
    return state.exit_status
