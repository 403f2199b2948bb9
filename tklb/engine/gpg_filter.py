"""A stand-in for gpg that compresses faster; duplicity gets it as --gpg-binary.

Takes the arguments of gpg and a stream on standard input; gives what gpg gives. To encrypt, it puts the stream into an
OpenPGP literal packet inside a compressed packet (RFC 4880, 5.9 and 5.6), deflated by ISA-L in a fifth of the time of
gpg's zlib. gpg then only encrypts, and any gpg reads the result. Content that does not compress is stored as it is,
which saves most of the time of unpacking. It leaves everything else to gpg.
It starts for every volume, so it imports next to nothing. Touches nothing but its pipes.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Sequence

TYPE_CHECKING = False  # as in typing, whose import would cost time
if TYPE_CHECKING:
    from isal import isal_zlib

GPG = "gpg"
ENCRYPT = "--symmetric"

_COMPRESSED, _LITERAL = 8, 11  # packet tags
_RAW_DEFLATE = b"\x01"  # RFC 4880, 9.3: "ZIP"
_LITERAL_START = b"b\x00\x00\x00\x00\x00"  # binary, no file name, no date
_PART_BITS = 17
_PART = 1 << _PART_BITS
_PART_LENGTH = bytes((0xE0 | _PART_BITS,))  # RFC 4880, 4.2.2.4
_PIPE = 1 << 18
_LEVEL = 1
_SAMPLE = 2048  # bytes from each half of a part that tell whether it compresses
_STORED = 0xFFFF  # bytes that a stored block has at most: RFC 1951, 3.2.4
_KILL = 9  # the module signal takes longer to import than all else here

Write = Callable[[bytes], object]


class SourceLost(Exception):
    """The process that wrote to us is gone: the stream may be incomplete."""


class Packet:
    """A packet of unknown length: parts whose sizes are a power of two, then the rest."""

    def __init__(self, tag: int, write: Write) -> None:
        self._write = write
        self._held = bytearray()
        write(bytes((0xC0 | tag,)))

    def write(self, content: bytes) -> None:
        self._held += content
        while len(self._held) > _PART:
            self._write(_PART_LENGTH + self._held[:_PART])
            del self._held[:_PART]

    def close(self) -> None:
        self._write(_length(len(self._held)) + self._held)


class Deflate:
    """A raw deflate stream (RFC 1951) that stores content that does not compress."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._isal = isal_zlib
        self._run = self._new_run()

    def compress(self, content: bytes) -> bytes:
        if not self._is_packed(content):
            return self._run.compress(content)
        # Later content must not refer to content that this compressor has not seen: it ends here, on a whole byte.
        before, self._run = self._run.flush(self._isal.Z_FULL_FLUSH), self._new_run()
        return before + _store_blocks(content)

    def flush(self) -> bytes:
        return self._run.flush()

    def _new_run(self) -> "isal_zlib.Compress":
        return self._isal.compressobj(_LEVEL, self._isal.DEFLATED, -15)

    def _is_packed(self, content: bytes) -> bool:
        half = len(content) // 2
        if half < 2 * _SAMPLE:
            return False
        sample = content[:_SAMPLE] + content[half : half + _SAMPLE]
        return len(self._isal.compress(sample, _LEVEL, -15)) >= len(sample)


def _store_blocks(content: bytes) -> bytes:
    blocks = []
    for start in range(0, len(content), _STORED):
        block = content[start : start + _STORED]
        blocks += [b"\0", len(block).to_bytes(2, "little"), (len(block) ^ 0xFFFF).to_bytes(2, "little"), block]
    return b"".join(blocks)


def _length(count: int) -> bytes:
    """RFC 4880, 4.2.2: a length of one, two or five bytes."""
    if count < 192:
        return bytes((count,))
    if count < 8384:
        return bytes((192 + (count - 192 >> 8), count - 192 & 0xFF))
    return b"\xff" + count.to_bytes(4, "big")


def compress(read: Callable[[int], bytes], write: Write) -> None:
    """Turn the stream of `read` into a compressed packet."""
    deflate = Deflate()
    outer = Packet(_COMPRESSED, write)
    outer.write(_RAW_DEFLATE)
    inner = Packet(_LITERAL, lambda content: outer.write(deflate.compress(content)))
    inner.write(_LITERAL_START)
    while content := read(_PART):
        inner.write(content)
    inner.close()
    outer.write(deflate.flush())
    outer.close()


def main(arguments: Sequence[str]) -> int:
    """Do what gpg does with these arguments, and give its exit status."""
    if ENCRYPT not in arguments:
        os.execvp(GPG, [GPG, *arguments])  # noqa: S606 - no shell is wanted
    parent = os.getppid()
    pid, feed = _start_gpg(arguments)
    try:
        with open(feed, "wb", buffering=_PIPE) as stream:
            compress(_reader(parent), stream.write)
    except BrokenPipeError:
        return _wait_exit(pid) or 1
    except BaseException as exc:  # noqa: BLE001 - whatever it was, gpg must not finish
        # A message that ends here would look whole.
        os.kill(pid, _KILL)
        _wait_exit(pid)
        sys.stderr.write(f"gpg filter: {type(exc).__name__}: {exc}\n")
        return 1
    return _wait_exit(pid)


def _start_gpg(arguments: Sequence[str]) -> tuple[int, int]:
    at = arguments.index(ENCRYPT)
    words = [GPG, *arguments[:at], "--no-literal", "--compress-algo", "none", *arguments[at:]]
    receive, feed = os.pipe()
    for pipe in (0, feed):
        _widen(pipe)
    actions = [(os.POSIX_SPAWN_DUP2, receive, 0)]
    pid = os.posix_spawnp(GPG, words, os.environ, file_actions=actions)
    os.close(receive)
    return pid, feed


def _widen(pipe: int) -> None:
    try:  # noqa: SIM105 - contextlib takes longer to import than all the rest
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    except OSError:
        pass  # no pipe, or no more room for pipes: slower, not wrong


def _reader(parent: int) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        content = os.read(0, count)
        if not content and os.getppid() != parent:
            raise SourceLost("the process that wrote to it is gone")
        return content

    return read


def _wait_exit(pid: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status
