"""The secret that encrypts every volume, and its fingerprint.

Takes 32 random bytes; gives text that people can type and that gpg takes as a passphrase. Keeps it in one file that
only its owner can read. Touches that file alone.
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from pathlib import Path

from tklb.base.fs import is_plain, private_folder, write_atomic
from tklb.errors import KeyUnusable
from tklb.model.secret import Secret

SECRET_BYTES = 32
_SHAPE = re.compile(r"[A-Z2-7]{4}(-[A-Z2-7]{4}){12}")
_LONGEST_FILE = 4096


def make_secret(random: Callable[[int], bytes]) -> Secret:
    """Make a secret of 256 bits from `random` (secrets.token_bytes): base32 in groups of four, for typing."""
    text = base64.b32encode(random(SECRET_BYTES)).decode("ascii").rstrip("=")
    return Secret("-".join(text[start : start + 4] for start in range(0, len(text), 4)))


def parse_secret(text: str) -> Secret:
    """Parse a secret. Raises ValueError, whose message never repeats the text."""
    if not _SHAPE.fullmatch(text):
        raise ValueError("it is not 13 groups of four letters and digits")
    return Secret(text)


def write_secret(path: Path, secret: Secret) -> None:
    """Write the secret to a file of mode 0600, whole or not at all."""
    write_atomic(path, f"{secret.reveal()}\n".encode("ascii"))


def read_secret(path: Path) -> Secret:
    """Read the file of write_secret(). Raises KeyUnusable where it is missing, damaged or readable by others."""
    try:
        return parse_secret(_read_private(path).decode("ascii").strip())
    except (ValueError, UnicodeDecodeError) as exc:
        raise KeyUnusable(reason=f"{path} does not hold a secret") from exc


def write_older(folder: Path, secret: Secret) -> None:
    """Keep a secret that a new one replaces: older snapshots still need it."""
    write_secret(private_folder(folder) / fingerprint(secret), secret)


def read_older(folder: Path) -> tuple[Secret, ...]:
    """The secrets of write_older(). Raises KeyUnusable as read_secret() does."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return tuple(read_secret(folder / name) for name in names if not name.endswith(".new"))


def fingerprint(secret: Secret) -> str:
    """The fingerprint of the secret, which reveals nothing about it: four groups of four hex digits.

    It is the start of a block of HKDF-Expand (RFC 5869), without the extract step, as the secret is uniformly random.
    """
    digits = hmac.digest(secret.reveal().encode("ascii"), b"tklb 1 fingerprint\x01", hashlib.sha256).hex()
    return "-".join(digits[start : start + 4] for start in range(0, 16, 4))


def _read_private(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise KeyUnusable(reason=f"{path}: {exc.strerror}") from exc
    try:
        status = os.fstat(descriptor)
        if not is_plain(status):
            raise KeyUnusable(reason=f"{path} is not a plain file")
        if status.st_uid != os.geteuid():
            raise KeyUnusable(reason=f"{path} belongs to uid {status.st_uid}")
        if status.st_mode & 0o077:
            raise KeyUnusable(reason=f"others may read {path} (mode {status.st_mode & 0o7777:04o})")
        return os.read(descriptor, _LONGEST_FILE)
    finally:
        os.close(descriptor)
