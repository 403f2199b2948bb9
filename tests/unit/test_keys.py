"""What the secret looks like, what is derived from it, and which files are refused."""

import contextlib
import os
import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.errors import KeyUnusable
from tklb.keys.keyfile import format_key, parse_key, read_key_file, write_key_file
from tklb.keys.secret import fingerprint, make_secret, parse_secret, read_secret, write_secret
from tklb.model import Secret

SECRET = make_secret(bytes)  # 32 zero bytes
OTHER = make_secret(lambda count: b"\xff" * count)


@given(st.binary(min_size=32, max_size=32))
def test_any_random_bytes_make_typable_text_that_is_read_back(entropy: bytes) -> None:
    text = make_secret(lambda count: entropy).reveal()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-")
    assert parse_secret(text).reveal() == text


def test_two_secrets_differ() -> None:
    assert make_secret(secrets.token_bytes).reveal() != make_secret(secrets.token_bytes).reveal()


def test_fingerprint_is_fixed_for_ever() -> None:
    assert SECRET.reveal() == "-".join(["AAAA"] * 13)
    assert fingerprint(SECRET) == "e4b4-e156-585d-d90c"


def test_fingerprints_differ() -> None:
    assert fingerprint(SECRET) != fingerprint(OTHER)


def test_secret_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, OTHER)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read_secret(path).reveal() == OTHER.reveal()


@pytest.mark.parametrize(
    ("content", "mode"), [(b"", 0o600), (b"AAAA-AAAA\n", 0o600), (b"\xff\xfe", 0o600), (None, 0o640), (None, 0o604)]
)
def test_unfit_secret_file_is_refused(tmp_path: Path, content: bytes | None, mode: int) -> None:
    path = tmp_path / "secret"
    write_secret(path, SECRET)
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(KeyUnusable) as caught:
        read_secret(path)
    assert "AAAA" not in str(caught.value)


def test_secret_that_is_absent_a_link_or_a_fifo_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "real", SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("absent", "link", "fifo", "."):
        with pytest.raises(KeyUnusable):
            read_secret(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_secret_of_another_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, SECRET)
    os.chown(path, 65534, 65534)
    with pytest.raises(KeyUnusable, match="belongs to uid 65534"):
        read_secret(path)


def test_key_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "key.asc"
    write_key_file(path, OTHER)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read_key_file(path).reveal() == OTHER.reveal()
    assert fingerprint(OTHER) in path.read_text("ascii")


def test_key_file_never_replaces_anything(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text("mine")
    (tmp_path / "link.asc").symlink_to(tmp_path / "elsewhere")
    for name in ("key.asc", "link.asc", "no/such/folder"):
        with pytest.raises(KeyUnusable, match="cannot write"):
            write_key_file(tmp_path / name, SECRET)
    assert (tmp_path / "key.asc").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["\n", "\r\n"]), st.text(max_size=40))
def test_key_survives_mail(entropy: bytes, newline: str, talk: str) -> None:
    secret = make_secret(lambda count: entropy)
    text = f"{talk}\n{format_key(secret)}{talk}".replace("\r", "").replace("\n", newline)
    assert parse_key(text).reveal() == secret.reveal()


@given(st.data())
def test_key_with_a_changed_letter_is_refused_or_is_the_same_key(data: st.DataObject) -> None:
    text = format_key(SECRET)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019+/=\n -"))
    with contextlib.suppress(ValueError):
        assert parse_key(text[:at] + letter + text[at + 1 :]).reveal() == SECRET.reveal()


@given(st.integers(0, len(format_key(SECRET)) - 2))
def test_cut_off_key_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|empty|no tklb key file"):
        parse_key(format_key(SECRET)[:length])


@given(st.text())
def test_any_text_gives_a_key_or_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_key(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"ssh-ed25519 AAAA", "is no tklb key file"),
        (b"x" * 70_000, "far too long"),
        (b"-----BEGIN PGP MESSAGE-----\n\nabc", "is cut off"),
    ],
)
def test_key_file_says_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key.asc"
    path.write_bytes(content)
    with pytest.raises(KeyUnusable, match=reason):
        read_key_file(path)


def test_missing_key_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="No such file"):
        read_key_file(tmp_path / "absent")


def test_secret_is_never_shown() -> None:
    assert OTHER.reveal() not in f"{OTHER} {OTHER!r}"
    with pytest.raises(ValueError) as caught:
        parse_secret(OTHER.reveal() + "x")
    assert OTHER.reveal() not in str(caught.value)
    assert isinstance(OTHER, Secret)
