"""tklb key escrow."""

import os
from pathlib import Path

import click

from tklb.cli.key.new_passphrase import need_one_protection, random_option, read_protection, refuse_existing
from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.passphrase_input import passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE

_OPTIONS = "--passphrase-file F, --random, --no-passphrase or --to-public-key FPR"


@click.command(
    epilog=example(
        "tklb key escrow /mnt/usb/server.key",
        "tklb key escrow --to-public-key 0123456789ABCDEF0123456789ABCDEF01234567 /mnt/usb/server.key",
    )
)
@passphrase_file_option
@random_option
@click.option(
    "--no-passphrase", is_flag=True, help="Write the bare key: anybody who has the file can read every snapshot."
)
@click.option(
    "--to-public-key",
    "public_keys",
    metavar="FPR",
    multiple=True,
    help="Encrypt it to this OpenPGP key of root's keyring, by full fingerprint; repeatable.",
)
@click.argument("file", type=click.Path(path_type=Path))
@shared_options
@click.pass_obj
def escrow(
    output: Output,
    passphrase_file: Path | None,
    is_random: bool,
    no_passphrase: bool,
    public_keys: tuple[str, ...],
    file: Path,
) -> int:
    """Write a copy of the key to FILE, to keep away from this machine.

    The options say who can open the copy. Without any, tklb asks for a passphrase on a terminal.
    """
    need_root()
    from tklb.cli.output.keys import escrow_json, escrow_lines
    from tklb.commands.key.escrow import escrow as write_copy
    from tklb.crypto.protection import Protection

    paths = read_paths()
    with run_log(paths, "key-escrow", now()):
        refuse_existing((file,))
        need_one_protection((passphrase_file is not None, is_random, no_passphrase, bool(public_keys)), _OPTIONS)
        if public_keys:
            protection, made = Protection(public_keys=public_keys), None
        else:
            protection, made = read_protection(passphrase_file, is_random, no_passphrase)
        copy = write_copy(paths, now, file, protection, Path(os.path.expanduser("~root/.gnupg")))
    output.value(escrow_json(copy, made), escrow_lines(copy, made))
    return COMPLETE
