"""tklb key rotate."""

import os
from pathlib import Path

import click

from tklb.cli.key.new_passphrase import random_option, read_new_passphrase
from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.passphrase_input import passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE, WrongPassphrase


@click.command(epilog=example("tklb key rotate", "tklb key rotate --passphrase-file /root/passphrase"))
@passphrase_file_option
@random_option
@shared_options
@click.pass_obj
def rotate(output: Output, passphrase_file: Path | None, is_random: bool) -> int:
    """Make a new key; the next backup starts a new chain with it.

    Existing snapshots stay as they are, and this machine keeps the old key for them. The first snapshot of the new
    key holds the old key, so from then on the new key opens all snapshots.
    """
    need_root()
    from tklb.cli.output.keys import rotation_json, rotation_lines
    from tklb.commands.key.rotate import rotate as make_new_key

    paths = read_paths()
    with run_log(paths, "key-rotate", now()):
        given = None
        if passphrase_file is not None or is_random or paths.key_file.exists():
            given = read_new_passphrase(passphrase_file, is_random)
            if given is None:
                raise WrongPassphrase(reason="it is empty; the new key needs one, as the old one has")
        rotation = make_new_key(paths, now, os.urandom, given.secret if given else None)
    made = given.to_print if given else None
    output.value(rotation_json(rotation, made), rotation_lines(rotation, made))
    return COMPLETE
