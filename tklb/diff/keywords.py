"""The words of a listing: how to write each value of an entry, and how to read it. Pure.

Names and link targets are written with octal escapes; reading accepts everything that vis(3) writes. A listing may come
from anybody, so a value that does not match its keyword exactly is a ValueError.
"""

import binascii
import re
from collections.abc import Callable
from typing import NamedTuple

from tklb.model.files import FileEntry

KINDS = frozenset(("file", "dir", "link", "fifo", "block", "char"))
BILLION = 1_000_000_000

_UNSAFE = re.compile(rb"[^A-Za-z0-9_./+:@%,~-]")
_ESCAPE = re.compile(rb"\\(?:([0-3]?[0-7]{1,2})|(M?)\^(.)|M-(.)|(.)|)", re.DOTALL)
_LETTERS = dict(zip((b"%c" % letter for letter in b"abEfnrstv$"), (*b"\a\b\x1b\f\n\r \t\v", None), strict=True))
_MOST_DIGITS = 20
_OCTAL = re.compile(rb"[0-7]{1,6}")
_HEXADECIMAL = re.compile(rb"0x[0-9a-f]{1,16}")
_DEVICE_FORMATS = frozenset((b"native", b"linux", b"386bsd", b"4bsd", b"freebsd", b"netbsd"))


def escape(name: bytes) -> bytes:
    """Write all but plain letters, digits and a few signs in octal: mtree(8) interprets glob signs and `#`."""
    return _UNSAFE.sub(_escape_match, name) if _UNSAFE.search(name) else name


def unescape(text: bytes) -> bytes:
    """Undo escape(), and vis(3) in the C style of NetBSD. Raises ValueError for a lone backslash at the end."""
    return _ESCAPE.sub(_unescape_match, text) if b"\\" in text else text


def _escape_match(match: re.Match[bytes]) -> bytes:
    return b"\\%03o" % match[0][0]


def _unescape_match(match: re.Match[bytes]) -> bytes:
    octal, meta, control, high, letter = match.groups()
    if octal:
        return bytes((int(octal, 8),))
    if control:
        code = 0x7F if control == b"?" else control[0] & 0x1F
        return bytes((code | 0x80 if meta else code,))
    if high:
        return bytes((high[0] | 0x80,))
    if letter is None:
        raise ValueError("an escape without an end")
    code_or_none = _LETTERS.get(letter, letter[0])
    return b"" if code_or_none is None else bytes((code_or_none,))


# ---------------------------------------------------------------- values as text


def _make_writer(form: bytes) -> Callable[[object], bytes]:
    return lambda value: form % value


def _write_text(value: object) -> bytes:
    assert isinstance(value, bytes)
    return escape(value)


def _write_word(value: object) -> bytes:
    return str(value).encode("ascii")


def _write_time(value: object) -> bytes:
    assert isinstance(value, int)
    return b"%d.%09d" % divmod(value, BILLION)


# ---------------------------------------------------------------- text as values


def read_count(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise ValueError("not a number")
    return int(value)


def _read_kind(value: bytes) -> str:
    kind = value.decode("ascii", "replace")
    if kind not in KINDS and kind != "socket":
        raise ValueError("not a type")
    return kind


def _read_mode(value: bytes) -> int:
    if not _OCTAL.fullmatch(value):
        raise ValueError("not an octal number")
    return int(value, 8) & 0o7777


def _read_time(value: bytes) -> int:
    """Seconds, then an integer of nanoseconds, be there leading zeros or not."""
    seconds, dot, fraction = value.partition(b".")
    if dot and (len(fraction) > 9 or not fraction.isdigit()):
        raise ValueError("not a time")
    since = -read_count(seconds[1:]) if seconds.startswith(b"-") else read_count(seconds)
    return since * BILLION + int(fraction or 0)


def _read_text(value: bytes) -> bytes:
    text = unescape(value)
    if b"\0" in text:
        raise ValueError("a NUL byte")
    return text


def _read_device(value: bytes) -> tuple[int, int]:
    """Take `native,MAJOR,MINOR` or the number that the system keeps; see makedev(3)."""
    form, *numbers = value.split(b",")
    if numbers:
        if form not in _DEVICE_FORMATS or len(numbers) != 2:
            raise ValueError("not a device number")
        return read_count(numbers[0]), read_count(numbers[1])
    number = int(value, 0) if _HEXADECIMAL.fullmatch(value) else read_count(value)
    return (number >> 8) & 0xFFF | (number >> 32) & ~0xFFF, number & 0xFF | (number >> 12) & 0xFFFFFF00


def _read_device_number(value: bytes) -> int:
    major, minor = _read_device(value)
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def _read_flags(value: bytes) -> str:
    if value not in (b"a", b"i", b"ai"):
        raise ValueError("not flags that tklb knows")
    return value.decode("ascii")


def _make_digest_reader(length: int) -> Callable[[bytes], str]:
    pattern = re.compile(rb"(?:0x)?([0-9a-fA-F]{%d})" % length)

    def read(value: bytes) -> str:
        match = pattern.fullmatch(value)
        if not match:
            raise ValueError("not a digest")
        return match[1].decode("ascii").lower()

    return read


def write_xattr(name: bytes, value: bytes) -> bytes:
    return b"xattr.%b=%b" % (escape(name), binascii.b2a_base64(value, newline=False))


def read_xattr(word: bytes) -> tuple[bytes, bytes]:
    name, _, value = word.removeprefix(b"xattr.").partition(b"=")
    try:
        return unescape(name), binascii.a2b_base64(value, strict_mode=True) if value else b""
    except binascii.Error as exc:
        raise ValueError(f"an extended attribute that is not base64: {exc}") from None


# ---------------------------------------------------------------- the keywords


class Keyword(NamedTuple):
    """One keyword: the name as in mtree(5), the place of its field in a FileEntry, how to write and read it."""

    name: bytes
    place: int
    write: Callable[[object], bytes]
    read: Callable[[bytes], object]


def _keyword(name: bytes, field: str, write: Callable[[object], bytes], read: Callable[[bytes], object]) -> Keyword:
    return Keyword(name, FileEntry._fields.index(field), write, read)


# In the order of writing: fields that change with the file come first, digests last.
WRITTEN = (
    _keyword(b"type", "kind", _write_word, _read_kind),
    _keyword(b"mode", "mode", _make_writer(b"%04o"), _read_mode),
    _keyword(b"uid", "uid", _make_writer(b"%d"), read_count),
    _keyword(b"gid", "gid", _make_writer(b"%d"), read_count),
    _keyword(b"uname", "uname", _write_text, _read_text),
    _keyword(b"gname", "gname", _write_text, _read_text),
    _keyword(b"size", "size", _make_writer(b"%d"), read_count),
    _keyword(b"time", "mtime_ns", _write_time, _read_time),
    _keyword(b"nlink", "nlink", _make_writer(b"%d"), read_count),
    _keyword(b"link", "link", _write_text, _read_text),
    _keyword(b"device", "device", _make_writer(b"native,%d,%d"), _read_device),
    _keyword(b"sha256digest", "sha256", _write_word, _make_digest_reader(64)),
    _keyword(b"md5digest", "md5", _write_word, _make_digest_reader(32)),
)
# On our comment line: mtree(8) of NetBSD refuses a listing with a keyword that it does not know.
WRITTEN_BESIDE = (
    _keyword(b"ctime", "ctime_ns", _write_time, _read_time),
    _keyword(b"dev", "dev", _make_writer(b"%d"), read_count),
    _keyword(b"inode", "ino", _make_writer(b"%d"), read_count),
    _keyword(b"chattr", "flags", _write_word, _read_flags),
)
_FOREIGN = (
    WRITTEN_BESIDE[2],
    _keyword(b"resdevice", "dev", _make_writer(b"%d"), _read_device_number),
    WRITTEN[11]._replace(name=b"sha256"),
    WRITTEN[12]._replace(name=b"md5"),
)
REPEATED = frozenset(
    (b"type", b"mode", b"uid", b"gid", b"uname", b"gname", b"nlink")
)  # these repeat, so they are cached
READ = {keyword.name: keyword for keyword in WRITTEN + _FOREIGN}
READ_BESIDE = {keyword.name: keyword for keyword in WRITTEN_BESIDE}
