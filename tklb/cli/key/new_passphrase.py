"""A new passphrase for the key or for a copy of it: from a file, from the terminal, or made at random."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from tklb.errors import UsageWrong, WrongPassphrase
from tklb.model.secret import Secret

if TYPE_CHECKING:
    from tklb.crypto.protection import Protection

random_option = click.option("--random", "is_random", is_flag=True, help="Make a random passphrase and print it once.")


class NewPassphrase(NamedTuple):
    """A passphrase to set. `to_print` is the same one where tklb made it, so that the user learns it."""

    secret: Secret
    to_print: Secret | None = None


def read_new_passphrase(file: Path | None, is_random: bool) -> NewPassphrase | None:
    """Read or make a passphrase; None for an empty one.

    Asks twice on a terminal where neither a file nor --random was given. Raises UsageWrong where there is no terminal,
    WrongPassphrase for one that is not valid.
    """
    from tklb.crypto.passphrase import check_passphrase, random_passphrase, read_line

    if file is not None and is_random:
        raise UsageWrong(reason="give only one of --passphrase-file and --random")
    if is_random:
        made = random_passphrase(os.urandom)
        return NewPassphrase(made, made)
    if file is None and not sys.stdin.isatty():
        raise UsageWrong(reason="there is no terminal to ask for a passphrase: give --passphrase-file F or --random")
    content = _ask_twice() if file is None else read_line(file)
    return NewPassphrase(check_passphrase(content)) if content else None


def _ask_twice() -> bytes:
    first, second = (
        click.prompt(question, default="", show_default=False, hide_input=True, err=True)
        for question in ("New passphrase (empty for none)", "The same again")
    )
    if first != second:
        raise WrongPassphrase(reason="the second one differs from the first; nothing was changed")
    return str(first).encode("utf-8", "surrogateescape")


def read_protection(file: Path | None, is_random: bool, is_bare: bool) -> "tuple[Protection, Secret | None]":
    """Give the protection of a copy, and its passphrase where tklb made one."""
    from tklb.crypto.protection import Protection

    if is_bare:
        return Protection(), None
    given = read_new_passphrase(file, is_random)
    if given is None:
        raise WrongPassphrase(reason="it is empty; only --no-passphrase writes the key without one")
    return Protection(passphrase=given.secret), given.to_print


def need_one_protection(given: Iterable[bool], options: str) -> None:
    """Raise UsageWrong unless exactly one is given, or none where a terminal can be asked for a passphrase."""
    count = sum(given)
    if count > 1 or (count == 0 and not sys.stdin.isatty()):
        raise UsageWrong(reason=f"say how to protect the copy: give exactly one of {options}")


def refuse_existing(files: Iterable[Path]) -> None:
    """Raise UsageWrong where one of the files exists."""
    for file in files:
        if os.path.lexists(file):
            raise UsageWrong(reason=f"{file} exists already; give another name")
