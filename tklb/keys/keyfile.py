"""The bare key file: the secret as an armoured OpenPGP message that `gpg --decrypt FILE` prints.

Takes and gives a Secret; touches the one file it is told. The message is a single literal packet (RFC 4880, 4.2
and 5.9) in ASCII armour (6.2): so small that a few lines here are safer than a gpg process with a home of its own.
"""

import base64
import binascii
import errno
import os
import re
from pathlib import Path

from tklb.durable import sync_folder
from tklb.errors import KeyUnusable
from tklb.keys.secret import fingerprint, parse_secret
from tklb.model import Secret

_LONGEST_FILE = 64 * 1024
_LITERAL = 0xCB  # new format, tag 11
_LITERAL_START = b"t\x00\x00\x00\x00\x00"  # text, no file name, no date
_TAG_SECRET_FOR_PASSPHRASE = 3  # symmetric-key encrypted session key
_ARMOUR = re.compile(
    r"-----BEGIN PGP MESSAGE-----[ \t]*\n((?:[^\n:]+:[^\n]*\n)*)[ \t]*\n(.*?)\n-----END PGP MESSAGE-----", re.DOTALL
)


def write_key_file(path: Path, secret: Secret) -> None:
    """Write the secret, unprotected, mode 0600. Raises KeyUnusable where `path` exists or cannot be written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as exc:
        reason = "it is there already" if exc.errno == errno.EEXIST else exc.strerror
        raise KeyUnusable(reason=f"cannot write {path}: {reason}") from exc
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(format_key(secret).encode("ascii"))
            stream.flush()
            os.fsync(descriptor)
        sync_folder(path.parent)
    except OSError as exc:
        path.unlink()
        raise KeyUnusable(reason=f"cannot write {path}: {exc.strerror}") from exc


def read_key_file(path: Path) -> Secret:
    """Read what write_key_file wrote. Raises KeyUnusable, saying what is wrong with the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(_LONGEST_FILE + 1)
    except OSError as exc:
        raise KeyUnusable(reason=f"cannot read {path}: {exc.strerror}") from exc
    if len(content) > _LONGEST_FILE:
        raise KeyUnusable(reason=f"{path} is far too long for a key file")
    try:
        return parse_key(content.decode("utf-8", "replace"))
    except ValueError as exc:
        raise KeyUnusable(reason=f"{path} {exc}") from exc


def format_key(secret: Secret) -> str:
    """The text of a key file."""
    body = _LITERAL_START + secret.reveal().encode("ascii") + b"\n"
    packet = bytes((_LITERAL, len(body))) + body
    encoded = base64.b64encode(packet).decode("ascii")
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    checksum = base64.b64encode(_crc24(packet).to_bytes(3, "big")).decode("ascii")
    return "\n".join(
        (
            "-----BEGIN PGP MESSAGE-----",
            f"Comment: tklb key {fingerprint(secret)}. Whoever has this file reads the backups.",
            "Comment: PASSPHRASE=$(gpg --decrypt THIS-FILE) gives it to duplicity.",
            "",
            *lines,
            f"={checksum}",
            "-----END PGP MESSAGE-----",
            "",
        )
    )


def parse_key(text: str) -> Secret:
    """Find the secret in the text of a key file. Raises ValueError; its message continues "FILE ..."."""
    if not text.strip():
        raise ValueError("is empty")
    packet = _unarmoured(text.replace("\r\n", "\n"))
    if packet[0] & 0x80 and _tag(packet[0]) == _TAG_SECRET_FOR_PASSPHRASE:
        raise ValueError("needs a passphrase, which this version of tklb cannot ask for")
    if packet[0] != _LITERAL or len(packet) < 2 or packet[1] != len(packet) - 2 or packet[1] >= 192:
        raise ValueError("is an OpenPGP message, but no tklb key")
    try:
        return parse_secret(packet[2 + len(_LITERAL_START) :].decode("ascii").strip())
    except (ValueError, UnicodeDecodeError) as exc:
        raise ValueError("is an OpenPGP message, but no tklb key") from exc


def _unarmoured(text: str) -> bytes:
    if "-----BEGIN PGP MESSAGE-----" not in text:
        raise ValueError("is no tklb key file")
    found = _ARMOUR.search(text)
    if not found:
        raise ValueError("is cut off: the end of the message is missing")
    *lines, last = (line.strip() for line in found[2].split("\n"))
    try:
        packet = base64.b64decode("".join(lines), validate=True)
        checksum = base64.b64decode(last.removeprefix("="), validate=True)
    except binascii.Error as exc:
        raise ValueError("is damaged") from exc
    if not packet or _crc24(packet).to_bytes(3, "big") != checksum:
        raise ValueError("is damaged: its checksum does not fit")
    return packet


def _tag(first: int) -> int:
    return first & 0x3F if first & 0x40 else (first >> 2) & 0x0F


def _crc24(content: bytes) -> int:
    """RFC 4880, 6.1."""
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
