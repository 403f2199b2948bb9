"""Key files: the secret as an armoured OpenPGP message that `gpg --decrypt FILE` prints. There are three kinds.

Takes and gives a Secret; touches the file that a caller names. A bare key is a single literal packet (RFC 4880, 5.9): a
few lines here are safer than a gpg process with a home of its own. key_encryption.py makes the other two kinds.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from tklb.base.fs import sync_folder
from tklb.crypto.armor import (
    LITERAL,
    LONGEST_KEY_FILE,
    SEALED,
    SESSION_KEY_FOR_PASSPHRASE,
    SESSION_KEY_FOR_PUBLIC_KEY,
    armor,
    comments_of,
    dearmor,
    packets,
)
from tklb.crypto.secret import fingerprint, parse_secret
from tklb.errors import KeyUnusable
from tklb.model.secret import Secret

_LITERAL = 0xC0 | LITERAL  # new format
_LITERAL_START = b"t\x00\x00\x00\x00\x00"  # text, no file name, no date
_AEAD = 20  # RFC 9580 calls it reserved; newer versions of gpg seal with it for keys that want it
_NAMED = re.compile(r"tklb key ([0-9a-f]{4}(?:-[0-9a-f]{4}){3})(?![0-9a-f-])")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_KEY = "is an OpenPGP message, but no tklb key"


class KeyKind(StrEnum):
    """The kinds of key files: what opens each."""

    BARE = "bare"
    PASSPHRASE = "passphrase"  # noqa: S105 - it is the word for it
    PUBLIC_KEY = "public-key"


def write_new(path: Path, content: bytes) -> None:
    """Write a file, mode 0600, whole or not at all. Raises KeyUnusable where `path` exists or cannot be written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _give_name(beside, path)
        _sync_folder(path.parent)
    except OSError as exc:
        reason = "it is there already" if exc.errno == errno.EEXIST else exc.strerror
        raise KeyUnusable(reason=f"cannot write {path}: {reason}") from exc
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_all_new(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write several files as write_new() does, or none of them: a failure removes those that were written."""
    with contextlib.ExitStack() as written:
        for path, content in files:
            write_new(path, content)
            written.callback(path.unlink, missing_ok=True)
        written.pop_all()


def read_key_text(path: Path) -> str:
    """The text of a key file of any kind; `-` is standard input. Raises KeyUnusable with the problem."""
    try:
        descriptor = os.dup(0) if str(path) == "-" else os.open(path, os.O_RDONLY | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(LONGEST_KEY_FILE + 1)
    except OSError as exc:
        raise KeyUnusable(reason=f"cannot read {path}: {exc.strerror}") from exc
    if len(content) > LONGEST_KEY_FILE:
        raise KeyUnusable(reason=f"{path} is far too long for a key file")
    text = content.decode("utf-8", "replace")
    try:
        _kind(text)
    except ValueError as exc:
        raise KeyUnusable(reason=f"{path} {exc}") from exc
    return text


def kind_of_key_file(text: str) -> KeyKind:
    """The kind of a key file. Raises KeyUnusable with the problem."""
    try:
        return _kind(text)
    except ValueError as exc:
        raise KeyUnusable(reason=f"the key file {exc}") from exc


def open_key(text: str, ask: Callable[[], Secret]) -> Secret:
    """The secret in a key file of any kind. `ask` gives the passphrase; it is called only where there is one.

    Raises KeyUnusable, WrongPassphrase, and what `ask` raises.
    """
    match kind_of_key_file(text):
        case KeyKind.PASSPHRASE:
            from tklb.crypto.key_encryption import decrypt_key

            return decrypt_key(text, ask())
        case KeyKind.PUBLIC_KEY:
            raise KeyUnusable(
                reason="the key file is for the owner of an OpenPGP key: what `gpg --decrypt FILE` prints is the key"
                " (`gpg --decrypt FILE | tklb restore --key - ...`)"
            )
        case KeyKind.BARE:
            try:
                return parse_key(text)
            except ValueError as exc:
                raise KeyUnusable(reason=f"the key file {exc}") from exc


def format_key(secret: Secret) -> str:
    """The text of a bare key file."""
    body = _LITERAL_START + secret.reveal().encode("ascii") + b"\n"
    return armor(
        bytes((_LITERAL, len(body))) + body,
        (
            f"tklb key {fingerprint(secret)}. Anyone with this file can read the backups.",
            "PASSPHRASE=$(gpg --decrypt THIS-FILE) gives it to duplicity.",
        ),
    )


def parse_key(text: str) -> Secret:
    """The secret in a bare key file, or in the output of gpg. Raises ValueError; its text continues "FILE ..."."""
    with contextlib.suppress(ValueError):
        return parse_secret(text.strip())
    packet = dearmor(text)
    if packet[0] != _LITERAL or len(packet) < 2 or packet[1] != len(packet) - 2 or packet[1] >= 192:
        raise ValueError(_NO_KEY)
    try:
        return parse_secret(packet[2 + len(_LITERAL_START) :].decode("ascii").strip())
    except (ValueError, UnicodeDecodeError) as exc:
        raise ValueError(_NO_KEY) from exc


def read_fingerprint(text: str) -> str:
    """The fingerprint in a comment of a key file, "" where there is none. It is not authenticated."""
    found = (_NAMED.search(comment) for comment in comments_of(text))
    return next((match[1] for match in found if match), "")


def _kind(text: str) -> KeyKind:
    with contextlib.suppress(ValueError):
        parse_secret(text.strip())
        return KeyKind.BARE
    match [tag for tag, _ in packets(dearmor(text))]:
        case [tag] if tag == LITERAL:
            return KeyKind.BARE
        case [tag, sealed] if tag == SESSION_KEY_FOR_PASSPHRASE and sealed == SEALED:
            return KeyKind.PASSPHRASE
        case [*tags, sealed] if tags and set(tags) == {SESSION_KEY_FOR_PUBLIC_KEY} and sealed in (SEALED, _AEAD):
            return KeyKind.PUBLIC_KEY
    raise ValueError(_NO_KEY)


def _sync_folder(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # what file systems of sticks say that cannot do it
            raise


def _give_name(beside: Path, path: Path) -> None:
    """Give a finished file its name, and never replace a file of that name."""
    try:
        os.link(beside, path, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # The FAT of a USB stick knows no links: take the name with an empty file, then replace that.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        os.rename(beside, path)
