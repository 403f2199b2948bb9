"""The passphrase of an existing key: from the file of --passphrase-file, or typed at the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tklb.errors import KeyUnusable
from tklb.model.secret import Secret

if TYPE_CHECKING:
    from tklb.session import TargetAccess

passphrase_file_option = click.option(
    "--passphrase-file",
    metavar="F",
    type=click.Path(path_type=Path),
    help="A file of mode 0600 with the passphrase on one line; - is standard input.",
)


def passphrase_source(file: Path | None) -> Callable[[], Secret]:
    """Give a function that reads the passphrase of an existing key: from `file`, or from the terminal without one.

    The function raises KeyUnusable and WrongPassphrase.
    """

    def ask() -> Secret:
        from tklb.crypto.passphrase import read_passphrase_file

        return _ask_at_terminal() if file is None else read_passphrase_file(file)

    return ask


def access_to(
    target: str | None, key: Path | None, file: Path | None, limit_rate: str, expected: str
) -> "TargetAccess":
    """Give the access that the options of a command describe."""
    from tklb.session import TargetAccess

    return TargetAccess(target, key, passphrase_source(file), file is not None, limit_rate, expected)


def _ask_at_terminal() -> Secret:
    from tklb.crypto.passphrase import check_passphrase

    if not sys.stdin.isatty():
        raise KeyUnusable(reason="it needs a passphrase: there is no terminal to ask at, and no --passphrase-file")
    text = click.prompt("Passphrase of the key", hide_input=True, default="", show_default=False, err=True)
    return check_passphrase(text.encode("utf-8", "surrogateescape"))
