"""tklb verify."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tklb.cli.options import (
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
    target_option,
)
from tklb.cli.output.progress import progress_line
from tklb.cli.passphrase_input import access_to, passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import UsageWrong

if TYPE_CHECKING:
    from tklb.verify.result import VerifyResult


@click.command(
    epilog=example(
        "tklb verify",
        "tklb verify --sample 10%",
        "tklb verify --quick --json",
        "tklb verify latest --data",
        "tklb verify --mend --from file:///mnt/usb/backups",
    )
)
@click.argument("snapshot", required=False)
@click.option("--quick", is_flag=True, help="Only compare a listing of the target with the ledger: names and sizes.")
@click.option(
    "--data", is_flag=True, help="Also decode the snapshots, and compare every file with the snapshot metadata."
)
@click.option("--live", is_flag=True, help="Compare a snapshot, by default the latest, with this machine.")
@click.option("--sample", metavar="N%", help="Read only this share of the volumes, a different share each time.")
@target_option
@key_option
@passphrase_file_option
@expect_key_option
@click.option(
    "--mend", "repair", is_flag=True, help="Repair the target: put back objects of which another copy is whole."
)
@click.option(
    "--from", "spare", metavar="URL", help="Another target that may have whole copies of the same volumes, for --mend."
)
@click.option("--dry-run", is_flag=True, help="Show the possible repairs; change nothing.")
@limit_rate_option
@shared_options
@click.pass_obj
def verify(
    output: Output,
    /,
    snapshot: str | None,
    sample: str | None,
    target: str | None,
    key: Path | None,
    passphrase_file: Path | None,
    expect_key: str,
    repair: bool,
    spare: str | None,
    dry_run: bool,
    limit_rate: str,
    **depths: bool,
) -> int:
    """Report damaged and missing objects at the target, and the files that they cost.

    Without options, tklb compares the content of every volume with its SHA-256 in the ledger. SNAPSHOT is an id of
    `tklb list`, a time or `latest`; without it, tklb checks all snapshots.
    """
    need_root()
    from tklb.commands.verify import verify as verify_target
    from tklb.session import open_target_session
    from tklb.verify.result import Depth, VerifyRequest

    paths, depth = read_paths(), Depth(_depth(depths))
    request = VerifyRequest(
        snapshot=snapshot,
        depth=depth,
        percent=_percent(sample, depth is Depth.HASH and snapshot is None),
        repair=repair,
        spare=spare,
        dry_run=dry_run,
    )
    access = access_to(target, key, passphrase_file, limit_rate, expect_key)
    with run_log(paths, "verify", now(), wanted=not dry_run):
        with progress_line(output.progress) as progress:
            result = verify_target(open_target_session(paths, access, now, progress), request)
        return _report(output, result)


def _report(output: Output, result: "VerifyResult") -> int:
    """Print the result; give the exit status."""
    from tklb.cli.output.verify import verify_json, verify_lines

    output.value(verify_json(result, now()), verify_lines(result, now()))
    skipped = report_skipped(output, result.skipped)
    return max(result.exit_status, skipped) if result.is_ok else result.exit_status


def _depth(flags: Mapping[str, bool]) -> str:
    """The depth whose option was given. Raises UsageWrong for more than one."""
    wanted = [name for name, is_given in flags.items() if is_given]
    if len(wanted) > 1:
        raise UsageWrong(reason=f"give only one of {' and '.join(f'--{name}' for name in wanted)}")
    return wanted[0] if wanted else "hash"


def _percent(text: str | None, fits: bool) -> Fraction | None:
    """Read `10%`, `2.5%` or `10`. Raises UsageWrong."""
    if text is None:
        return None
    if not fits:
        raise UsageWrong(
            reason="--sample reads a share of all volumes: it does not go with SNAPSHOT, --quick, --data or --live"
        )
    try:
        percent = Fraction(text.removesuffix("%").strip())
    except (ValueError, ZeroDivisionError) as exc:
        raise UsageWrong(reason=f"--sample {text}: give a percentage, as in 10%") from exc
    if not 0 < percent <= 100:
        raise UsageWrong(reason=f"--sample {text}: it must be above 0% and at most 100%")
    return percent
