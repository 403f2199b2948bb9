"""Encrypting and opening with gpg: what comes back is whole, or it does not come back."""

import resource
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tklb.crypto.gpg import UnreadableMessage, decrypt, encrypt
from tklb.crypto.secret import make_secret
from tklb.errors import ProgramFailed

SECRET = make_secret(bytes)
OTHER = make_secret(lambda count: b"\xff" * count)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o700)
    return folder


@settings(max_examples=20)
@given(st.binary(max_size=100_000))
def test_any_bytes_come_back(home: Path, content: bytes) -> None:
    assert decrypt(encrypt(content, SECRET, home), SECRET, home, 100_000) == content


def test_home_stays_empty_and_no_agent_is_left(home: Path) -> None:
    decrypt(encrypt(b"x", SECRET, home), SECRET, home, 10)
    assert list(home.iterdir()) == []


def test_bytes_that_are_no_message_are_refused(home: Path) -> None:
    for content in (b"", b"hello\n"):
        with pytest.raises(UnreadableMessage):
            decrypt(content, SECRET, home, 10)


def test_wrong_secret_opens_nothing(home: Path) -> None:
    with pytest.raises(UnreadableMessage):
        decrypt(encrypt(b"x", SECRET, home), OTHER, home, 10)


def test_message_longer_than_allowed_is_refused(home: Path) -> None:
    message = encrypt(bytes(1_000_000), SECRET, home)
    assert len(message) < 10_000
    with pytest.raises(UnreadableMessage):
        decrypt(message, SECRET, home, 100_000)


@settings(max_examples=40)
@given(st.data())
def test_altered_or_cut_message_is_refused(home: Path, data: st.DataObject) -> None:
    message = encrypt(b"some content that matters", SECRET, home)
    at = data.draw(st.integers(0, len(message) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "drop"]))
    if how == "flip":
        altered = message[:at] + bytes((message[at] ^ data.draw(st.integers(1, 255)),)) + message[at + 1 :]
    else:
        altered = message[:at] if how == "cut" else message[:at] + message[at + 1 :]
    # at some alterations gpg ends without a word about the message: a broken stream of zlib, a lone header
    with pytest.raises((UnreadableMessage, ProgramFailed)):
        decrypt(altered, SECRET, home, 1000)


@pytest.mark.parametrize(
    "limit", [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, 6_000_000)], ids=["killed", "memory"]
)
def test_gpg_that_is_killed_or_gets_no_memory_does_not_make_the_message_bad(home: Path, limit: tuple[int, int]) -> None:
    message = encrypt(b"content", SECRET, home)
    kind, amount = limit
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, before[1]))
    try:
        with pytest.raises(ProgramFailed):
            decrypt(message, SECRET, home, 1000)
    finally:
        resource.setrlimit(kind, before)
    assert decrypt(message, SECRET, home, 1000) == b"content"


def gpg(home: Path, *words: str, feed: bytes) -> bytes:
    options = ["--batch", "--no-options", "--no-autostart", "--homedir", str(home), "--pinentry-mode", "loopback"]
    key = ["--passphrase", SECRET.reveal(), "--s2k-count", "65536"]
    return subprocess.run(["gpg", *options, *key, *words], input=feed, capture_output=True, check=True).stdout


def test_plain_message_in_place_of_an_encrypted_one_is_refused(home: Path) -> None:
    """Stock gpg prints it and ends with status 0."""
    with pytest.raises(UnreadableMessage):
        decrypt(gpg(home, "--store", feed=b"forged"), SECRET, home, 1000)


def test_message_without_integrity_protection_is_refused(home: Path) -> None:
    """Made by hand: gpg since 2.2.8 will not write a packet without it."""
    message = encrypt(b"content", SECRET, home)
    at = message.index(b"\xd2")  # tag 18, symmetrically encrypted and integrity protected
    with pytest.raises(UnreadableMessage):
        decrypt(message[:at] + b"\xc9" + message[at + 1 :], SECRET, home, 1000)
