"""The key file and stock gpg: what a person has at 3 a.m. without tklb."""

import subprocess
from pathlib import Path

import pytest

from tklb.errors import KeyUnusable
from tklb.keys.keyfile import read_key_file, write_key_file
from tklb.keys.secret import make_secret

SECRET = make_secret(lambda count: bytes(range(count)))


def gpg(home: Path, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    home.mkdir(mode=0o700, exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(home), "LC_ALL": "C"}
    return subprocess.run(["gpg", *words], input=feed, env=environment, capture_output=True, check=False, timeout=30)


def test_stock_gpg_prints_the_secret(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key.asc", SECRET)
    printed = gpg(tmp_path / "home", "-d", str(tmp_path / "key.asc"))
    assert printed.returncode == 0
    assert printed.stdout == f"{SECRET.reveal()}\n".encode()


def test_stock_gpg_sees_one_literal_packet(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key.asc", SECRET)
    shown = gpg(tmp_path / "home", "--list-packets", str(tmp_path / "key.asc")).stdout
    assert shown.count(b":literal data packet:") == 1
    assert shown.count(b" packet:") == 1


def test_other_openpgp_message_is_refused(tmp_path: Path) -> None:
    made = gpg(tmp_path / "home", "--batch", "--armor", "--store", feed=b"no key\n")
    (tmp_path / "key.asc").write_bytes(made.stdout)
    with pytest.raises(KeyUnusable, match="no tklb key"):
        read_key_file(tmp_path / "key.asc")
