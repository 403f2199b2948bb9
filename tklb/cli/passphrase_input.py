"""How a command comes by a passphrase: from the file it was given, or from whoever sits at the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from tklb.errors import KeyUnusable
from tklb.model.secret import Secret

passphrase_file_option = click.option(
    "--passphrase-file",
    metavar="F",
    type=click.Path(path_type=Path),
    help="A file of mode 0600 with the passphrase on one line; - is standard input.",
)


def asking(file: Path | None, question: str = "Passphrase of the key") -> Callable[[], Secret]:
    """Who to ask for the passphrase of a key that is there. Raises, when asked, KeyUnusable, WrongPassphrase."""

    def ask() -> Secret:
        from tklb.crypto.passphrase import read_passphrase_file

        return typed(question) if file is None else read_passphrase_file(file)

    return ask


def typed(question: str, twice: bool = False) -> Secret:
    """What somebody types, unseen; `twice` guards a new one. Raises KeyUnusable where there is no terminal."""
    from tklb.crypto.passphrase import check_passphrase

    if not sys.stdin.isatty():
        raise KeyUnusable(reason="it needs a passphrase: there is no terminal to ask at, and no --passphrase-file")
    text = click.prompt(question, hide_input=True, confirmation_prompt=twice, default="", show_default=False, err=True)
    return check_passphrase(text.encode("utf-8", "surrogateescape"))
