"""tklb key kit."""

from pathlib import Path

import click

from tklb.cli.key.new_passphrase import need_one_protection, random_option, read_protection, refuse_existing
from tklb.cli.options import Output, example, need_root, now, read_paths, shared_options
from tklb.cli.passphrase_input import passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE

_OPTIONS = "--passphrase-file F, --random or --no-passphrase"


@click.command(epilog=example("tklb key kit /root/recovery-sheet", "tklb key kit --random /root/recovery-sheet"))
@passphrase_file_option
@random_option
@click.option(
    "--no-passphrase", is_flag=True, help="Print the bare key: anybody who has the sheet can read every snapshot."
)
@click.argument("file", type=click.Path(path_type=Path))
@shared_options
@click.pass_obj
def kit(output: Output, passphrase_file: Path | None, is_random: bool, no_passphrase: bool, file: Path) -> int:
    """Write a recovery sheet to print: FILE.pdf and FILE.txt.

    It is one page that a stranger can follow. The passphrase of `tklb key passphrase` opens the key on it, unless an
    option says otherwise.
    """
    need_root()
    from tklb.cli.output.keys import kit_json, kit_lines
    from tklb.commands.key.kit import kit_files, needs_protection, write_kit

    paths = read_paths()
    with run_log(paths, "key-kit", now()):
        refuse_existing(kit_files(file))
        given = (passphrase_file is not None, is_random, no_passphrase)
        protection, made = None, None
        if any(given) or needs_protection(paths):
            need_one_protection(given, _OPTIONS)
            protection, made = read_protection(passphrase_file, is_random, no_passphrase)
        sheet = write_kit(paths, now, file, protection)
    output.value(kit_json(sheet, made), kit_lines(sheet, made))
    return COMPLETE
