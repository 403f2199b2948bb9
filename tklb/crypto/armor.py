"""OpenPGP messages as text, and the packets in them (RFC 4880, 4.2 and 6.2).

Takes and gives text and bytes; touches nothing. Its input is hostile. A bad message raises ValueError, whose text
continues "FILE ...", before gpg sees any of it.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

LONGEST_KEY_FILE = 64 * 1024  # bytes
SESSION_KEY_FOR_PUBLIC_KEY, SESSION_KEY_FOR_PASSPHRASE, LITERAL, SEALED = 1, 3, 11, 18  # tags of packets

_ARMOUR = re.compile(
    r"-----BEGIN PGP MESSAGE-----[ \t]*\n((?:[^\n:]+:[^\n]*\n)*)[ \t]*\n(.*?)\n-----END PGP MESSAGE-----", re.DOTALL
)


def armor(message: bytes, comments: Iterable[str]) -> str:
    """A message as text, with a line for each comment."""
    encoded = base64.b64encode(message).decode("ascii")
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    checksum = base64.b64encode(_crc24(message).to_bytes(3, "big")).decode("ascii")
    return "\n".join(
        (
            "-----BEGIN PGP MESSAGE-----",
            *(f"Comment: {comment}" for comment in comments),
            "",
            *lines,
            f"={checksum}",
            "-----END PGP MESSAGE-----",
            "",
        )
    )


def comments_of(text: str) -> tuple[str, ...]:
    """The comment lines of a message. They are not authenticated."""
    found = _ARMOUR.search(text.replace("\r\n", "\n"))
    headers = (line.partition(": ") for line in (found[1].split("\n") if found else ()))
    return tuple(value.strip() for name, _, value in headers if name == "Comment")


def dearmor(text: str) -> bytes:
    """The one message in a text. Raises ValueError where there is none, or it is not whole."""
    if not text.strip():
        raise ValueError("is empty")
    text = text.replace("\r\n", "\n")
    if "-----BEGIN PGP MESSAGE-----" not in text:
        raise ValueError("is no tklb key file")
    found = _ARMOUR.search(text)
    if not found:
        raise ValueError("is cut off: the end of the message is missing")
    *lines, last = (line.strip() for line in found[2].split("\n"))
    try:
        message = base64.b64decode("".join(lines), validate=True)
        checksum = base64.b64decode(last.removeprefix("="), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("is damaged") from exc
    if not message or _crc24(message).to_bytes(3, "big") != checksum:
        raise ValueError("is damaged: its checksum does not fit")
    return message


def packets(message: bytes) -> tuple[tuple[int, bytes], ...]:
    """Tag and body of every packet of a message, up to its last byte. Raises ValueError for anything else."""
    return tuple(_packets(message))


def _packets(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(message):
        first = message[at]
        if not first & 0x80:
            raise ValueError("is damaged: it is no OpenPGP message")
        tag, (body, at) = (
            (first & 0x3F, _new_body(message, at + 1))
            if first & 0x40
            else (first >> 2 & 0x0F, _old_body(message, at + 1, first & 3))
        )
        yield tag, body


def _old_body(message: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind == 3:  # to the end, wherever that is
        raise ValueError("is an OpenPGP message, but no tklb key")
    width = 1 << kind
    return _cut(message, at + width, int.from_bytes(_cut(message, at, width)[0], "big"))


def _new_body(message: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        first = _cut(message, at, 1)[0][0]
        if first < 192:
            part, at = _cut(message, at + 1, first)
        elif first < 224:
            second = _cut(message, at + 1, 1)[0][0]
            part, at = _cut(message, at + 2, (first - 192 << 8) + second + 192)
        elif first == 255:
            part, at = _cut(message, at + 5, int.from_bytes(_cut(message, at + 1, 4)[0], "big"))
        else:  # a part, with more to come
            part, at = _cut(message, at + 1, 1 << (first & 0x1F))
            body += part
            continue
        return body + part, at


def _cut(message: bytes, at: int, count: int) -> tuple[bytes, int]:
    if at + count > len(message):
        raise ValueError("is cut off: a packet of the message is longer than the message")
    return message[at : at + count], at + count


def _crc24(content: bytes) -> int:
    """RFC 4880, 6.1."""
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc
