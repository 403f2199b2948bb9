"""The commands of every day: init, delta, why, backup, list, status."""

import os
from pathlib import Path

import click

from tklb.cli.options import Output, ending, example, need_root, now, paths, shared_options
from tklb.cli.output.progress import progress_line
from tklb.cli.passphrase_input import asking, passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE, TargetDamaged, printable

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
    from tklb.commands.init import InitRequest, initialise

    where = paths()
    with run_log(where, "init", now()):
        ask = asking(passphrase_file) if passphrase_file else None
        made = initialise(where, InitRequest(target, profile, ask, force), now)
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
    from tklb.backup.collect import collect_state, file_changes
    from tklb.backup.dump_databases import list_databases
    from tklb.cli.output.delta import delta_lines, write_delta_json
    from tklb.diff.packages import native_architecture
    from tklb.session import open_session

    with progress_line(output.progress) as progress:
        setting = open_session(paths(), now, progress)
        seen = collect_state(setting, override)
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
    from tklb.cli.output.words import path_fields
    from tklb.commands.why import explain
    from tklb.session import open_session

    verdict = explain(open_session(paths(), now), os.path.abspath(path))
    value = {**path_fields(verdict.path), "in_delta": verdict.in_delta, "reasons": list(verdict.reasons)}
    state = "part of the delta" if verdict.in_delta else "not part of the delta"
    output.value(value, (f"{printable(verdict.path)}: {state}", *(f"  {reason}" for reason in verdict.reasons)))
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
    from tklb.cli.output.results import backup_json, backup_lines
    from tklb.commands.backup import BackupRequest, rehearse, take
    from tklb.session import open_session

    where = paths()
    request = BackupRequest(full=full, skip=frozenset(skip), overrides=override)
    with run_log(where, "backup", now(), wanted=not dry_run), progress_line(output.progress) as progress:
        setting = open_session(where, now, progress, limit_rate=limit_rate)
        result = rehearse(setting, request) if dry_run else take(setting, request)
    output.value(backup_json(result), backup_lines(result))
    return ending(output, result.skipped)


@click.command("list", epilog=example("tklb list", "tklb list --json"))
@shared_options
@click.pass_obj
def list_snapshots(output: Output) -> int:
    """List the snapshots of the target."""
    need_root()
    from tklb.cli.output.results import list_lines, record_json
    from tklb.commands.status import list_snapshots
    from tklb.session import open_session

    ledger = list_snapshots(open_session(paths(), now))
    output.value([record_json(record) for record in ledger.entries], list_lines(ledger.entries))
    for problem in ledger.problems:
        output.say(f"damaged: {problem}")
    return TargetDamaged.code if ledger.problems else COMPLETE


@click.command(epilog=example("tklb status", "tklb status --json || mail -s 'backup' root"))
@shared_options
@click.pass_obj
def status(output: Output) -> int:
    """Say how the backups of this machine are; the exit status says it too."""
    need_root()
    from tklb.cli.output.results import status_json, status_lines
    from tklb.commands.status import check_status
    from tklb.session import open_session

    state = check_status(open_session(paths(), now))
    output.value(status_json(state), status_lines(state, now()))
    return state.exit_status
