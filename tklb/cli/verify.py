"""tklb verify."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import click

from tklb.cli.daily import limit_rate_option
from tklb.cli.options import Output, ending, example, need_root, now, paths, shared_options
from tklb.cli.output.progress import progress_line
from tklb.cli.passphrase_input import asking, passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import UsageWrong


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
@click.option("--quick", is_flag=True, help="Only compare a listing of the target with the ledger.")
@click.option("--data", is_flag=True, help="Decode the snapshots, and compare every file with its records.")
@click.option("--live", is_flag=True, help="Compare a snapshot, the latest if none is named, with this machine.")
@click.option("--sample", metavar="N%", help="Read this share of the volumes, the next one each time.")
@click.option("--target", metavar="URL", help="Where the snapshots are; the configured target when not given.")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="Key file of the backed-up machine.")
@passphrase_file_option
@click.option("--mend", is_flag=True, help="Put back what is damaged and whole elsewhere.")
@click.option("--from", "spare", metavar="URL", help="Another target that has the same volumes, for --mend.")
@click.option("--dry-run", is_flag=True, help="Say what would be mended; change nothing.")
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
    mend: bool,
    spare: str | None,
    dry_run: bool,
    limit_rate: str,
    **depths: bool,
) -> int:
    """Say what is damaged or missing, and exactly what that costs; mend it where another copy is whole.

    Without options, the content of every volume is compared with its seal. SNAPSHOT is an id of `tklb list`, a time
    or `latest`; without it, all are looked at.
    """
    need_root()
    from tklb.cli.output.verify import verify_json, verify_lines
    from tklb.commands import verify as flow
    from tklb.session import TargetAccess, open_target_session

    where, depth = paths(), flow.Depth(_depth(depths))
    request = flow.VerifyRequest(
        snapshot=snapshot,
        depth=depth,
        percent=_percent(sample, depth is flow.Depth.HASH and snapshot is None),
        mend=mend,
        spare=spare,
        dry_run=dry_run,
    )
    access = TargetAccess(target, key, asking(passphrase_file), passphrase_file is not None, limit_rate)
    with run_log(where, "verify", now(), wanted=not dry_run), progress_line(output.progress) as progress:
        verdict = flow.verify(open_target_session(where, access, now, progress), request)
    output.value(verify_json(verdict, now()), verify_lines(verdict, now()))
    skipped = ending(output, verdict.skipped)
    return max(verdict.exit_status, skipped) if verdict.is_ok else verdict.exit_status


def _depth(said: Mapping[str, bool]) -> str:
    """The one that was said. Raises UsageWrong where several were."""
    wanted = [name for name, is_said in said.items() if is_said]
    if len(wanted) > 1:
        raise UsageWrong(reason=f"say one of {' and '.join(f'--{name}' for name in wanted)}")
    return wanted[0] if wanted else "hash"


def _percent(text: str | None, fits: bool) -> Fraction | None:
    """Read `10%`, `2.5%` or `10`. Raises UsageWrong."""
    if text is None:
        return None
    if not fits:
        raise UsageWrong(
            reason="--sample is a share of all volumes to read: it goes with no SNAPSHOT and no other depth"
        )
    try:
        percent = Fraction(text.removesuffix("%").strip())
    except (ValueError, ZeroDivisionError) as exc:
        raise UsageWrong(reason=f"--sample {text}: say a percentage, as in 10%") from exc
    if not 0 < percent <= 100:
        raise UsageWrong(reason=f"--sample {text}: it must be above 0% and at most 100%")
    return percent
