"""tklb init."""

from pathlib import Path

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.output.progress import progress_line
from tklb.cli.passphrase_input import passphrase_file_option, passphrase_source
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE


@click.command(
    epilog=example(
        "tklb init --target file:///mnt/usb/backups",
        "tklb init --target s3://backups/web1 --passphrase-file /root/passphrase",
        "tklb init --profile debian-12-core",
    )
)
@click.option("--target", metavar="URL", help="Where to keep the snapshots (file:///var/backups/tklb).")
@click.option("--profile", metavar="ID|DIR", help="The profile of this machine; detected if not given.")
@passphrase_file_option
@click.option("--force", is_flag=True, help="Write the configuration again; the key stays.")
@shared_options
@click.pass_obj
def init(output: Output, target: str | None, profile: str | None, passphrase_file: Path | None, force: bool) -> int:
    """Set this machine up: make the key, select the profile, test the target.

    With a passphrase, the target also keeps a copy of the key that only this passphrase opens. Then the address and
    the passphrase are enough to recover a dead server.
    """
    need_root()
    from tklb.backup.scope.outside_lines import describe_outside
    from tklb.cli.output.scope import outside_json
    from tklb.commands.init import InitRequest, initialise

    paths = read_paths()
    with run_log(paths, "init", now()), progress_line(output.progress) as progress:
        ask = passphrase_source(passphrase_file) if passphrase_file else None
        made = initialise(paths, InitRequest(target, profile, ask, force), now, progress)
    notes, word = (*made.notes.odd, *made.notes.facts), made.notes.permanence.value
    copy = f"{made.config.target}/key.asc (the passphrase opens it)" if made.is_wrapped else "no copy elsewhere yet"
    lines = (
        f"profile  {made.config.profile}",
        f"target   {made.config.target} ({word})",
        f"key      {paths.secret}; {copy}",
        *(f"note: {oddity}" for oddity in notes),
        *(f"note: not taken: {line}" for line in describe_outside(made.outside)),
        "Next: `tklb backup`. And keep a copy of the key off this machine: `tklb key escrow FILE` or `key kit FILE`.",
    )
    fields = {"profile": made.config.profile, "target": made.config.target, "key": str(paths.secret)}
    output.value(
        {
            **fields,
            "passphrase": made.is_wrapped,
            "permanence": word,
            "warnings": list(notes),
            "outside": outside_json(made.outside),
        },
        lines,
    )
    return COMPLETE
