"""The key file and stock gpg: what a person has at 3 a.m. without tklb."""

import os
import subprocess
from pathlib import Path

import pytest

from tklb.crypto.key_file import format_key, open_key, read_key_text, write_new
from tklb.crypto.secret import make_secret
from tklb.errors import KeyUnusable
from tklb.model.secret import Secret

SECRET = make_secret(lambda count: bytes(range(count)))


def gpg(home: Path, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    home.mkdir(mode=0o700, exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(home), "LC_ALL": "C"}
    return subprocess.run(["gpg", *words], input=feed, env=environment, capture_output=True, check=False, timeout=30)


def test_stock_gpg_prints_the_secret(tmp_path: Path) -> None:
    write_new(tmp_path / "key.asc", format_key(SECRET).encode())
    printed = gpg(tmp_path / "home", "-d", str(tmp_path / "key.asc"))
    assert printed.returncode == 0
    assert printed.stdout == f"{SECRET.reveal()}\n".encode()


def test_stock_gpg_sees_one_literal_packet(tmp_path: Path) -> None:
    write_new(tmp_path / "key.asc", format_key(SECRET).encode())
    shown = gpg(tmp_path / "home", "--list-packets", str(tmp_path / "key.asc")).stdout
    assert shown.count(b":literal data packet:") == 1
    assert shown.count(b" packet:") == 1


def test_other_openpgp_message_is_refused(tmp_path: Path) -> None:
    made = gpg(tmp_path / "home", "--batch", "--armor", "--store", feed=b"no key\n")
    (tmp_path / "key.asc").write_bytes(made.stdout)
    with pytest.raises(KeyUnusable, match="no tklb key"):
        open_key(read_key_text(tmp_path / "key.asc"), never)


def test_key_text_comes_through_a_pipe_as_gpg_prints_it(tmp_path: Path) -> None:
    write_new(tmp_path / "key.asc", format_key(SECRET).encode())
    receive, give = os.pipe()
    os.write(give, gpg(tmp_path / "home", "-d", str(tmp_path / "key.asc")).stdout)
    os.close(give)
    text = read_key_text(Path(f"/dev/fd/{receive}"))
    os.close(receive)
    assert open_key(text, never).reveal() == SECRET.reveal()


def never() -> Secret:
    raise AssertionError


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\x00\xff" * 100, "is no tklb key file"),
        (b"x" * 70_000, "far too long"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "is no tklb key file"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "is no tklb key file"),
    ],
)
def test_foreign_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(KeyUnusable, match=f"{path} .*{reason}") as caught:
        read_key_text(path)
    assert caught.value.code == 41


def test_signature_of_somebody_is_no_key_file(tmp_path: Path) -> None:
    options = (
        "--batch",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
        "--quick-gen-key",
        "x",
        "ed25519",
        "sign",
        "0",
    )
    assert gpg(tmp_path / "home", *options).returncode == 0
    signed = gpg(tmp_path / "home", "--batch", "--armor", "--sign", feed=SECRET.reveal().encode())
    subprocess.run(["gpgconf", "--homedir", tmp_path / "home", "--kill", "all"], check=True, timeout=30)
    (tmp_path / "key").write_bytes(signed.stdout)
    with pytest.raises(KeyUnusable, match="no tklb key"):
        read_key_text(tmp_path / "key")


def test_new_file_of_a_full_disk_is_not_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True, timeout=30)
    try:
        with pytest.raises(KeyUnusable, match="No space left"):
            write_new(disk / "key.asc", b"x" * 200_000)
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)
