"""Passphrases: check them, read them from files, and make random ones.

A passphrase is one line of bytes, and every byte counts: a passphrase that gpg would cut or misread is refused here. A
Secret holds it as text, with bytes that are no UTF-8 as lone surrogates (PEP 383). Touches the file of its caller.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from tklb.errors import KeyUnusable, WrongPassphrase
from tklb.model.secret import Secret

LONGEST = 255  # bytes: the most that gpg's agent takes at its prompt (MAX_PASSPHRASE_LEN)

# No letter or digit that people confuse with another: i l 1, o 0, s 5, z 2, b 6, g 9, u v.
_ALPHABET = "abcdefghjkmnpqrstuwxyz3478"
_GROUPS, _GROUP = 7, 4  # 28 letters of 26: 131 bits


def passphrase_bytes(secret: Secret) -> bytes:
    """The bytes that gpg gets for it."""
    return secret.reveal().encode("utf-8", "surrogateescape")


def check_passphrase(content: bytes) -> Secret:
    """Check bytes and give them as a passphrase. Raises WrongPassphrase, which never repeats them."""
    if not content:
        raise WrongPassphrase(reason="it is empty")
    if b"\0" in content:
        raise WrongPassphrase(reason="it has a NUL byte in it, where gpg would take it to end")
    if b"\n" in content or b"\r" in content:
        raise WrongPassphrase(reason="it has several lines; a passphrase is one")
    if len(content) > LONGEST:
        raise WrongPassphrase(reason=f"it is {len(content)} bytes long; gpg takes {LONGEST} at its own prompt")
    return Secret(content.decode("utf-8", "surrogateescape"))


def read_passphrase_file(path: Path) -> Secret:
    """The passphrase in a file. Raises WrongPassphrase as check_passphrase() does, KeyUnusable."""
    return check_passphrase(read_line(path))


def read_line(path: Path) -> bytes:
    """The content of a passphrase file without the one line end it may have; `-` is standard input.

    Raises KeyUnusable where it cannot be read, or others can read or change it.
    """
    try:
        is_input = str(path) == "-"
        descriptor = os.dup(0) if is_input else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0):
            content = _read(descriptor, "standard input" if is_input else str(path))
    except OSError as exc:
        raise KeyUnusable(reason=f"cannot read the passphrase file {path}: {exc.strerror}") from exc
    end = 2 if content.endswith(b"\r\n") else 1 if content.endswith(b"\n") else 0
    return content[: len(content) - end]


def random_passphrase(random: Callable[[int], bytes]) -> Secret:
    """Make a passphrase of 131 bits from `random` (secrets.token_bytes), in groups of four, for typing."""
    letters = ""
    fair = 256 - 256 % len(_ALPHABET)  # bytes from here on would favour the first letters
    while len(letters) < _GROUPS * _GROUP:
        letters += "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random(_GROUPS * _GROUP) if byte < fair)
    starts = range(0, _GROUPS * _GROUP, _GROUP)
    return Secret("-".join(letters[start : start + _GROUP] for start in starts))


def _read(descriptor: int, name: str) -> bytes:
    status = os.fstat(descriptor)
    is_exposed = status.st_mode & 0o066 and not stat.S_ISCHR(status.st_mode)  # a terminal's group may write to it
    if is_exposed and not stat.S_ISDIR(status.st_mode):
        raise KeyUnusable(reason=f"others may read or change {name} (mode {status.st_mode & 0o7777:04o}); chmod 600 it")
    content = b""
    while len(content) <= 2 * LONGEST and (block := os.read(descriptor, 4096)):
        content += block
    return content
