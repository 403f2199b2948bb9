"""The commands around the key."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tklb.cli.options import Output, example, need_root, now, paths, shared_options
from tklb.cli.passphrase_input import passphrase_file_option
from tklb.cli.run_log import run_log
from tklb.errors import COMPLETE, UsageWrong, WrongPassphrase
from tklb.model.secret import Secret

if TYPE_CHECKING:
    from tklb.commands.key import Protection

_WAYS = "--passphrase-file F, --random, --no-passphrase or --to-public-key FPR"
_KIT_WAYS = "--passphrase-file F, --random or --no-passphrase"

random_option = click.option(
    "--random", "is_random", is_flag=True, help="Make a passphrase by chance and print it once."
)


@click.group(epilog=example("tklb key passphrase", "tklb key escrow /mnt/usb/server.key", "tklb key show"))
def key() -> None:
    """Look after the key: without it nobody can read the snapshots, you included."""


@key.command(epilog=example("tklb key passphrase", "tklb key passphrase --random"))
@passphrase_file_option
@random_option
@shared_options
@click.pass_obj
def passphrase(output: Output, passphrase_file: Path | None, is_random: bool) -> int:
    """Give the key a passphrase, another one, or, with an empty one, none.

    With a passphrase the target has the wrapped key: address and passphrase then bring a dead machine back.
    """
    need_root()
    from tklb.cli.output.keys import failure_code, passphrase_json, passphrase_lines
    from tklb.commands.key import remove_passphrase, set_passphrase

    where = paths()
    with run_log(where, "key-passphrase", now()):
        given = _new_passphrase(passphrase_file, is_random)
        change = set_passphrase(where, now, given[0]) if given else remove_passphrase(where, now)
    made = given[0] if given and given[1] else None
    output.value(passphrase_json(change, made), passphrase_lines(change, made))
    return failure_code(change.failure)


@key.command(
    epilog=example(
        "tklb key escrow /mnt/usb/server.key",
        "tklb key escrow --to-public-key 0123456789ABCDEF0123456789ABCDEF01234567 /mnt/usb/server.key",
    )
)
@passphrase_file_option
@random_option
@click.option("--no-passphrase", is_flag=True, help="Write the bare key: whoever has the file can read everything.")
@click.option(
    "--to-public-key",
    "public_keys",
    metavar="FPR",
    multiple=True,
    help="Write it for the owner of this OpenPGP key of root's keyring, by full fingerprint; repeatable.",
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
    """Write a copy of the key to FILE, to be kept away from this machine."""
    need_root()
    from tklb.cli.output.keys import escrow_json, escrow_lines
    from tklb.commands.key import Protection
    from tklb.commands.key import escrow as written

    where = paths()
    with run_log(where, "key-escrow", now()):
        _refuse_existing((file,))
        ways = (passphrase_file is not None, is_random, no_passphrase, bool(public_keys))
        _one_way(ways, _WAYS)
        if public_keys:
            protection, made = Protection(public_keys=public_keys), None
        else:
            protection, made = _protection(passphrase_file, is_random, no_passphrase)
        copy = written(where, now, file, protection, Path(os.path.expanduser("~root/.gnupg")))
    output.value(escrow_json(copy, made), escrow_lines(copy, made))
    return COMPLETE


@key.command(epilog=example("tklb key kit /root/recovery-sheet", "tklb key kit --random /root/recovery-sheet"))
@passphrase_file_option
@random_option
@click.option("--no-passphrase", is_flag=True, help="Print the bare key: whoever has the sheet can read everything.")
@click.argument("file", type=click.Path(path_type=Path))
@shared_options
@click.pass_obj
def kit(output: Output, passphrase_file: Path | None, is_random: bool, no_passphrase: bool, file: Path) -> int:
    """Write a recovery sheet, FILE.pdf and FILE.txt: one page to print, that a stranger can follow.

    The key on it has the passphrase of `tklb key passphrase`, or what an option says.
    """
    need_root()
    from tklb.backup.target_key import has_passphrase
    from tklb.cli.output.keys import kit_json, kit_lines
    from tklb.commands.key_kit import kit_files, write_kit
    from tklb.crypto.secret import read_secret

    where = paths()
    with run_log(where, "key-kit", now()):
        _refuse_existing(kit_files(file))
        ways = (passphrase_file is not None, is_random, no_passphrase)
        protection, made = None, None
        if any(ways) or not has_passphrase(where, read_secret(where.secret)):
            _one_way(ways, _KIT_WAYS)
            protection, made = _protection(passphrase_file, is_random, no_passphrase)
        written = write_kit(where, now, file, protection)
    output.value(kit_json(written, made), kit_lines(written, made))
    return COMPLETE


@key.command(epilog=example("tklb key show", "tklb key show --json"))
@shared_options
@click.pass_obj
def show(output: Output) -> int:
    """Show which key this is, where copies of it are, and what older keys are needed for."""
    need_root()
    from tklb.cli.output.keys import state_json, state_lines
    from tklb.commands.key_show import key_state
    from tklb.session import open_session

    state = key_state(open_session(paths(), now))
    output.value(state_json(state), state_lines(state, now()))
    return COMPLETE


@key.command(epilog=example("tklb key rotate", "tklb key rotate --passphrase-file /root/passphrase"))
@passphrase_file_option
@random_option
@shared_options
@click.pass_obj
def rotate(output: Output, passphrase_file: Path | None, is_random: bool) -> int:
    """Make a new key; the next backup starts a new chain with it.

    Snapshots of the old key stay as they are. It is kept on this machine, and the new key's first snapshot has it too.
    """
    need_root()
    from tklb.cli.output.keys import rotation_json, rotation_lines
    from tklb.commands.key import rotate as rotated

    where = paths()
    with run_log(where, "key-rotate", now()):
        given = None
        if passphrase_file is not None or is_random or where.key_file.exists():
            given = _new_passphrase(passphrase_file, is_random)
            if given is None:
                raise WrongPassphrase(reason="it is empty; the new key needs one, as the old one has")
        rotation = rotated(where, now, os.urandom, given[0] if given else None)
    made = given[0] if given and given[1] else None
    output.value(rotation_json(rotation, made), rotation_lines(rotation, made))
    return COMPLETE


def _new_passphrase(file: Path | None, is_random: bool) -> tuple[Secret, bool] | None:
    """A passphrase to be set, and whether chance made it; None where an empty one was given.

    Asks twice on a terminal where no way is named. Raises UsageWrong where there is none to ask at.
    """
    from tklb.crypto.passphrase import check_passphrase, random_passphrase, read_line

    if file is not None and is_random:
        raise UsageWrong(reason="--passphrase-file and --random are two ways: say one")
    if is_random:
        return random_passphrase(os.urandom), True
    if file is None and not sys.stdin.isatty():
        raise UsageWrong(reason="there is no terminal to ask at: say --passphrase-file F or --random")
    content = _typed_twice() if file is None else read_line(file)
    return (check_passphrase(content), False) if content else None


def _typed_twice() -> bytes:
    first, second = (
        click.prompt(question, default="", show_default=False, hide_input=True, err=True)
        for question in ("New passphrase (empty for none)", "The same again")
    )
    if first != second:
        raise WrongPassphrase(reason="the two are not the same; nothing was changed")
    return str(first).encode("utf-8", "surrogateescape")


def _protection(file: Path | None, is_random: bool, is_bare: bool) -> "tuple[Protection, Secret | None]":
    """What protects a copy, and the passphrase if chance made it."""
    from tklb.commands.key import Protection

    if is_bare:
        return Protection(), None
    given = _new_passphrase(file, is_random)
    if given is None:
        raise WrongPassphrase(reason="it is empty; the bare key is written with --no-passphrase only")
    return Protection(passphrase=given[0]), given[0] if given[1] else None


def _one_way(ways: Iterable[bool], names: str) -> None:
    """Exactly one way; none where a terminal can be asked for a passphrase."""
    count = sum(ways)
    if count > 1 or (count == 0 and not sys.stdin.isatty()):
        raise UsageWrong(reason=f"say how the copy shall be protected, by one of {names}")


def _refuse_existing(files: Iterable[Path]) -> None:
    for file in files:
        if os.path.lexists(file):
            raise UsageWrong(reason=f"{file} is there already")
