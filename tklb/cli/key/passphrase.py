"""tklb key passphrase."""

from pathlib import Path

import click

from tklb.cli.key.new_passphrase import random_option, read_new_passphrase
from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.passphrase_input import passphrase_file_option
from tklb.cli.run_log import run_log


@click.command(epilog=example("tklb key passphrase", "tklb key passphrase --random"))
@passphrase_file_option
@random_option
@shared_options
@click.pass_obj
def passphrase(output: Output, passphrase_file: Path | None, is_random: bool) -> int:
    """Give the key a passphrase or another one; an empty passphrase removes it.

    The target then keeps a copy of the key that only this passphrase opens. The address and the passphrase are enough
    to recover a dead server.
    """
    need_root()
    from tklb.cli.output.keys import failure_code, passphrase_json, passphrase_lines
    from tklb.commands.key.passphrase import remove_passphrase, set_passphrase

    paths = read_paths()
    with run_log(paths, "key-passphrase", now()):
        given = read_new_passphrase(passphrase_file, is_random)
        change = set_passphrase(paths, now, given.secret) if given else remove_passphrase(paths, now)
    made = given.to_print if given else None
    output.value(passphrase_json(change, made), passphrase_lines(change, made))
    return failure_code(change.failure)
