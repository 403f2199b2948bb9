"""The fast gpg front against the gpg of this machine: whatever goes in, plain gpg brings it out again."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tklb.base.python import write_gpg_launcher
from tklb.engine.gpg_filter import compress

PASSPHRASE = b"horse battery"
QUIET = ["--batch", "--no-tty", "--no-options", "--no-autostart", "--no-keyring", "--pinentry-mode", "loopback"]
CHEAP = ["--s2k-mode", "3", "--s2k-count", "65536", "--s2k-digest-algo", "SHA256", "--cipher-algo", "AES256"]
EDGES = [0, 1, 185, 186, 191, 192, 8377, 8378, 8383, 8384, 131_065, 131_066, 131_067, 131_072, 262_138, 1_000_000]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpg_launcher(tmp_path_factory.mktemp("front") / "gpg")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o700)
    return folder


def run(program: Path | str, home: Path, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    receive, give = os.pipe()
    os.write(give, PASSPHRASE)
    os.close(give)
    argv = [program, *QUIET, "--passphrase-fd", str(receive), *words]
    environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(home), "LC_ALL": "C"}
    try:
        return subprocess.run(
            argv, input=feed, env=environment, capture_output=True, check=False, pass_fds=[receive], timeout=60
        )
    finally:
        os.close(receive)


def round_trip(front: Path, home: Path, content: bytes) -> bytes:
    sealed = run(front, home, *CHEAP, "--symmetric", feed=content)
    assert sealed.returncode == 0, sealed.stderr
    opened = run("gpg", home, "--status-fd", "2", "--decrypt", feed=sealed.stdout)
    assert opened.returncode == 0
    assert b"GOODMDC" in opened.stderr
    return opened.stdout


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("filler", [os.urandom, bytes])
def test_sizes_around_every_length_form_round_trip(front: Path, home: Path, size: int, filler: type[bytes]) -> None:
    content = filler(size)
    assert round_trip(front, home, content) == content


@settings(max_examples=30)
@given(st.binary(max_size=5000), st.integers(1, 200))
def test_any_bytes_round_trip(front: Path, home: Path, content: bytes, times: int) -> None:
    assert round_trip(front, home, content * times) == content * times


@settings(max_examples=examples(200))
@given(st.binary(max_size=3000), st.integers(0, 300), st.lists(st.integers(1, 200_000), min_size=1, max_size=8))
def test_packet_reads_the_same_however_the_stream_arrives(content: bytes, times: int, reads: list[int]) -> None:
    rest = content * times
    left, turn, written = rest, 0, bytearray()

    def read(count: int) -> bytes:
        nonlocal left, turn
        turn += 1
        part = left[: min(count, reads[turn % len(reads)])]
        left = left[len(part) :]
        return part

    compress(read, written.extend)
    assert unpacked(bytes(written)) == rest


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400_000)), max_size=8), st.randoms(use_true_random=False))
def test_what_is_packed_already_and_what_is_not_may_alternate(runs: list[tuple[bool, int]], chance: Random) -> None:
    """What compresses comes back twice, so that the second could refer to the first if that were allowed."""
    words = chance.randbytes(50) * 40
    content = b"".join(
        chance.randbytes(size) if packed else (words * (size // 2000 + 1))[:size] for packed, size in runs
    )
    written = bytearray()
    compress(io.BytesIO(content).read, written.extend)
    assert unpacked(bytes(written)) == content


def test_what_is_packed_already_is_stored_as_it_is(front: Path, home: Path) -> None:
    content = Random(1).randbytes(1_000_000)
    written = bytearray()
    compress(io.BytesIO(content).read, written.extend)
    assert len(written) < 1_001_000
    assert content[200_000:230_000] in written
    assert round_trip(front, home, content) == content


def unpacked(packet: bytes) -> bytes:
    """An independent reading of RFC 4880: the content of a literal packet in a compressed one."""
    import zlib

    tag, body = packet_body(packet)
    assert (tag, body[0]) == (8, 1)
    tag, literal = packet_body(zlib.decompress(body[1:], -15))
    assert (tag, literal[:6]) == (11, b"b\0\0\0\0\0")
    return literal[6:]


def packet_body(packet: bytes) -> tuple[int, bytes]:
    at, body, last = 1, b"", False
    while not last:
        first = packet[at]
        last = not 224 <= first < 255
        if first < 192:
            at, size = at + 1, first
        elif first < 224:
            at, size = at + 2, ((first - 192) << 8) + packet[at + 1] + 192
        elif first == 255:
            at, size = at + 5, int.from_bytes(packet[at + 1 : at + 5], "big")
        else:
            at, size = at + 1, 1 << (first & 31)
            assert body or size >= 512, "RFC 4880, 4.2.2.4: the first part is at least 512 bytes long"
        body, at = body + packet[at : at + size], at + size
    assert at == len(packet)
    return packet[0] & 0x3F, body


def test_what_compresses_comes_out_small(front: Path, home: Path) -> None:
    sealed = run(front, home, *CHEAP, "--symmetric", feed=b"the same words again and again " * 100_000)
    assert len(sealed.stdout) < 100_000


def test_everything_else_is_gpg_itself(front: Path, home: Path) -> None:
    assert run(front, home, "--version").stdout == run("gpg", home, "--version").stdout
    failed = run(front, home, "--decrypt", feed=b"no message")
    assert failed.returncode == run("gpg", home, "--decrypt", feed=b"no message").returncode == 2


def test_failure_of_gpg_is_told(front: Path, home: Path) -> None:
    failed = run(front, home, "--symmetric", "--cipher-algo", "NONSENSE", feed=os.urandom(3_000_000))
    assert failed.returncode == 2
    assert b"NONSENSE" in failed.stderr or b"cipher" in failed.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_full_disk_is_told(front: Path, home: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", tmp_path], check=True)
    try:
        words = [*CHEAP, "--output", str(tmp_path / "out"), "--symmetric"]
        failed = run(front, home, *words, feed=os.urandom(3_000_000))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert failed.returncode != 0
    assert b"No space left" in failed.stderr


def test_killed_source_leaves_no_process_and_no_whole_message(front: Path, home: Path, tmp_path: Path) -> None:
    """A killed duplicity closes the pipe as a finished one does; the front must not take that for the end."""
    script = (
        "import os, subprocess, sys, time\n"
        "with open(sys.argv[1], 'wb') as out:\n"
        "    child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL)\n"
        "child.stdin.write(os.urandom(3_000_000)); child.stdin.flush()\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    words = [*QUIET, "--passphrase", "x", *CHEAP, "--symmetric"]
    environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(home)}
    source = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "out", front, *words], stdout=subprocess.PIPE, env=environment
    )
    assert source.stdout is not None
    pid = int(source.stdout.readline())
    time.sleep(0.3)
    source.send_signal(signal.SIGKILL)
    source.wait()
    source.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the front outlives the process that fed it"
        time.sleep(0.05)
    opened = run("gpg", home, "--passphrase", "x", "--decrypt", feed=(tmp_path / "out").read_bytes())
    assert opened.returncode != 0
