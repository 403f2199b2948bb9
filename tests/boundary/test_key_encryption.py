"""The wrapped key and stock gpg: what one makes the other opens, and nothing else is ever taken for it.

Takes gpg, with homes of its own; touches temporary folders. Whoever owns the target can put any file in the place of
the wrapped key: none of them may choose the key, hang tklb, or make it believe a passphrase.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.lab.soak import some
from tklb.crypto import key_encryption as wrapping
from tklb.crypto.armor import armor, comments_of, dearmor, packets
from tklb.crypto.key_encryption import decrypt_key, encrypt_key, encrypt_key_to
from tklb.crypto.key_file import KeyKind, format_key, kind_of_key_file, open_key, read_fingerprint
from tklb.crypto.passphrase import check_passphrase, passphrase_bytes, random_passphrase
from tklb.crypto.secret import fingerprint, make_secret
from tklb.errors import KeyUnusable, TklbError, UsageWrong, WrongPassphrase
from tklb.model.secret import Secret

SECRET = make_secret(lambda count: bytes(range(count)))
PASSPHRASE = Secret("correct horse")
LOOPBACK = ("--batch", "--pinentry-mode", "loopback")


class Gpg:
    """Stock gpg with a home of its own, as a person has it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self.home = home

    def __call__(self, *words: str | Path, feed: bytes = b"", status: int = 0) -> bytes:
        environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(self.home), "LC_ALL": "C"}
        done = subprocess.run(
            ["gpg", *words], input=feed, env=environment, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def symmetric(self, content: bytes, passphrase: str, *options: str) -> bytes:
        """What a person with stock gpg makes."""
        words = (*LOOPBACK, "--s2k-count", "65536", "--passphrase", passphrase, *options, "--armor", "--symmetric")
        return self(*words, feed=content)

    def make_key(self, name: str, *use: str, options: Sequence[str] = ()) -> str:
        """A key pair without a passphrase; its fingerprint."""
        said = self(*LOOPBACK, *options, "--passphrase", "", "--status-fd", "1", "--quick-gen-key", name, *use)
        return re.findall(rb"KEY_CREATED \S+ (\S+)", said)[0].decode()


@pytest.fixture
def gpg(tmp_path: Path) -> Iterator[Gpg]:
    stock = Gpg(tmp_path / "stock")
    yield stock
    subprocess.run(["gpgconf", "--homedir", stock.home, "--kill", "all"], check=True, timeout=60)


@pytest.fixture(scope="module")
def wrapped() -> str:
    return encrypt_key(SECRET, PASSPHRASE)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same without the long stretching, for whoever opens it again and again."""
    stock = Gpg(tmp_path_factory.mktemp("quick") / "home")
    options = ("--force-mdc", "--compress-algo", "none", "--cipher-algo", "AES256", "--s2k-digest-algo", "SHA512")
    return stock.symmetric(f"{SECRET.reveal()}\n".encode(), PASSPHRASE.reveal(), *options).decode()


def message_of(text: str | bytes) -> bytes:
    return dearmor(text if isinstance(text, str) else text.decode())


# ---------------------------------------------------------------- what it is


def test_stock_gpg_opens_it_and_prints_the_secret(gpg: Gpg, wrapped: str, tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text(wrapped)
    (tmp_path / "pw").write_bytes(b"correct horse\n")
    printed = gpg(*LOOPBACK, "--passphrase-file", tmp_path / "pw", "--decrypt", tmp_path / "key.asc")
    assert printed == f"{SECRET.reveal()}\n".encode()


def test_it_is_aes256_with_the_longest_stretching_there_is(gpg: Gpg, wrapped: str) -> None:
    listed = gpg(*LOOPBACK, "--passphrase", "correct horse", "--list-packets", feed=wrapped.encode()).decode()
    assert ":symkey enc packet: version 4, cipher 9, aead 0,s2k 3, hash 10" in listed
    assert "count 65011712 (255)" in listed
    assert "mdc_method: 2" in listed
    assert listed.count(" packet:") == 3


def test_two_of_them_share_nothing(wrapped: str) -> None:
    assert message_of(wrapped)[15:] != message_of(encrypt_key(SECRET, PASSPHRASE))[15:]


def test_comments_say_which_key_and_what_for(wrapped: str) -> None:
    assert read_fingerprint(wrapped) == fingerprint(SECRET)
    assert "PASSPHRASE=$(gpg --decrypt THIS-FILE) gives it to duplicity." in comments_of(wrapped)
    assert kind_of_key_file(wrapped) is KeyKind.PASSPHRASE


def test_it_comes_back(wrapped: str) -> None:
    assert decrypt_key(wrapped, PASSPHRASE).reveal() == SECRET.reveal()
    assert open_key(wrapped.replace("\n", "\r\n"), lambda: PASSPHRASE).reveal() == SECRET.reveal()


@pytest.mark.parametrize(
    "options", [(), ("--compress-algo", "none"), ("--cipher-algo", "AES128", "--s2k-digest-algo", "SHA256")]
)
def test_what_a_person_made_with_stock_gpg_is_taken(gpg: Gpg, options: tuple[str, ...]) -> None:
    made = gpg.symmetric(SECRET.reveal().encode(), "x y", *options).decode()
    assert decrypt_key(made, Secret("x y")).reveal() == SECRET.reveal()


# ---------------------------------------------------------------- passphrases


@pytest.mark.parametrize(
    "passphrase",
    some(
        [
            b"x",
            b" ",
            b" both ends ",
            b"tab\tand \x07 \x1b[0m \x7f",
            "pässwörd für zwölf Boxkämpfer".encode(),
            b"latin pass\xf6rd",
            b"\xff\xfe\xc3",
            b"\xed\xa0\x80",
            b"$(id) `id` \\ ' \"",
            b"a" * 254,
            b"a" * 255,
            random_passphrase(lambda count: bytes(range(count))).reveal().encode(),
        ],
        2,
    ),
)
def test_a_passphrase_means_the_same_to_stock_gpg(gpg: Gpg, tmp_path: Path, passphrase: bytes) -> None:
    text = encrypt_key(SECRET, check_passphrase(passphrase))
    (tmp_path / "pw").write_bytes(passphrase)
    printed = gpg(*LOOPBACK, "--passphrase-file", tmp_path / "pw", "--decrypt", feed=text.encode())
    assert printed == f"{SECRET.reveal()}\n".encode()


@pytest.mark.parametrize(
    ("passphrase", "other"),
    [
        (b"secret", b"Secret"),
        (b"secret", b"secret "),
        (b"secret", b" secret"),
        (b"secret", b"secre"),
        (b"a" * 255, b"a" * 254),
        (b"a" * 255, b"a" * 254 + b"b"),
        (b"a" * 128, b"a" * 127),
        ("ä".encode(), "ä".encode("latin-1")),
        ("\u00e4".encode(), "a\u0308".encode()),
        (b"\xff", b"?"),
        (b"\xff", "\ufffd".encode()),
    ],
)
def test_no_other_passphrase_opens_it(gpg: Gpg, tmp_path: Path, passphrase: bytes, other: bytes) -> None:
    (tmp_path / "pw").write_bytes(passphrase)
    words = (*LOOPBACK, "--s2k-count", "65536", "--passphrase-file", tmp_path / "pw", "--armor", "--symmetric")
    text = gpg(*words, feed=SECRET.reveal().encode()).decode()
    assert decrypt_key(text, check_passphrase(passphrase)).reveal() == SECRET.reveal()
    with pytest.raises(WrongPassphrase, match="does not open the key file") as caught:
        decrypt_key(text, check_passphrase(other))
    assert caught.value.code == 40


@pytest.mark.parametrize("text", ["", "a\nb", "a\rb", "a\0b", "a" * 256])
def test_what_gpg_would_cut_never_reaches_it(wrapped: str, text: str) -> None:
    with pytest.raises(WrongPassphrase):
        encrypt_key(SECRET, Secret(text))
    with pytest.raises(WrongPassphrase):
        decrypt_key(wrapped, Secret(text))


def test_gpg_takes_no_more_from_a_person_than_the_longest_passphrase(gpg: Gpg) -> None:
    """Its agent answers for the terminal; here the loopback stands in for that."""

    def opens(passphrase: bytes, typed: bytes) -> bool:
        made = gpg.symmetric(b"content", passphrase.decode())
        (gpg.home / "message").write_bytes(made)
        words = ["gpg", "--no-symkey-cache", "--pinentry-mode", "loopback", "--command-fd", "0", "--decrypt"]
        environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(gpg.home), "LC_ALL": "C"}
        done = subprocess.run(
            [*words, gpg.home / "message"],
            input=typed + b"\n",
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.stdout == b"content"

    assert opens(b"a" * 255, b"a" * 255)
    assert not opens(b"a" * 300, b"a" * 300)


# ---------------------------------------------------------------- attacks


def refuses(text: str, *, code: int = 41) -> str:
    with pytest.raises(TklbError) as caught:
        decrypt_key(text, PASSPHRASE)
    assert caught.value.code == code, caught.value
    assert SECRET.reveal() not in str(caught.value)
    return str(caught.value)


def test_a_bare_key_is_no_wrapped_key() -> None:
    """It opens without a passphrase: whoever can write to the target would choose the key."""
    refuses(format_key(SECRET))
    refuses(SECRET.reveal())


def test_a_plain_literal_or_compressed_message_is_no_wrapped_key(gpg: Gpg) -> None:
    refuses(gpg("--batch", "--armor", "--store", feed=SECRET.reveal().encode()).decode())
    refuses(gpg("--batch", "--armor", "--compress-algo", "none", "--store", feed=SECRET.reveal().encode()).decode())


def test_a_message_to_a_public_key_is_no_wrapped_key(gpg: Gpg) -> None:
    name = gpg.make_key("mallory", "future-default", "default", "0")
    to = ("--batch", "--trust-model", "always", "--armor", "-r", name)
    refuses(gpg(*to, "--encrypt", feed=SECRET.reveal().encode()).decode())
    by_passphrase = (*LOOPBACK, "--s2k-count", "65536", "--passphrase", "correct horse", "--symmetric")
    both = gpg(*by_passphrase, *to, "--encrypt", feed=SECRET.reveal().encode())
    refuses(both.decode())


def test_a_signature_around_or_before_it_is_refused(gpg: Gpg, wrapped: str) -> None:
    gpg.make_key("mallory", "ed25519", "sign", "0")
    refuses(gpg("--batch", "--armor", "--sign", feed=SECRET.reveal().encode()).decode())
    refuses(gpg("--batch", "--armor", "--sign", feed=message_of(wrapped)).decode())
    signature = gpg("--batch", "--detach-sign", feed=message_of(wrapped))
    refuses(armor(signature + message_of(wrapped), ()))


@pytest.mark.parametrize("where", ["before", "after", "between"])
@pytest.mark.parametrize("extra", [b"\xcb\x0bt\x00\x00\x00\x00\x00hello", b"\xca\x03PGP", b"\xd5\x01x", b"\xfc\x01x"])
def test_a_packet_more_is_refused(wrapped: str, where: str, extra: bytes) -> None:
    message = message_of(wrapped)
    at = {"before": 0, "between": 15, "after": len(message)}[where]
    refuses(armor(message[:at] + extra + message[at:], ()))


def test_two_messages_or_two_passphrases_are_refused(gpg: Gpg, wrapped: str) -> None:
    message = message_of(wrapped)
    refuses(armor(message + message, ()))
    other = message_of(encrypt_key(make_secret(os.urandom), Secret("other")))
    refuses(armor(other[:15] + message, ()))


def test_encryption_without_an_integrity_check_is_refused(gpg: Gpg) -> None:
    """RFC 4880, 5.7: a packet of tag 9 can be altered without anybody noticing."""
    made = gpg.symmetric(SECRET.reveal().encode(), "correct horse", "--rfc2440", "--cipher-algo", "AES256")
    tags = [tag for tag, _ in packets(message_of(made))]
    if tags == [3, 9]:
        refuses(made.decode())
    refuses(armor(message_of(made).replace(b"\xd2", b"\xc9", 1), ()))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x05\x09\x02\x03\x0a12345678\xff", "version 5"),
        (b"\x06\x09\x03\x0a12345678\xff", "version 6"),
        (b"\x04\x09\x00\x0a", "no salt, no stretching"),
        (b"\x04\x09\x01\x0a12345678", "no stretching"),
        (b"\x04\x09\x04" + b"1" * 16 + b"\x01\x04\x1f", "Argon2 with 2 TiB of memory"),
        (b"\x04\x09\x65\x00GNU\x01", "gpg's own extension"),
        (b"\x04\x00\x03\x0a12345678\xff", "no encryption"),
        (b"\x04\x02\x03\x0a12345678\xff", "3DES"),
        (b"\x04\x09\x03\x0a12345678\xff" + b"x" * 33, "a session key of the attacker's choice"),
    ],
)
def test_another_way_of_stretching_is_refused_before_gpg_tries_it(
    wrapped: str, start: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnupg.Popen", lambda *_, **__: pytest.fail(f"gpg is started: {what}"))
    refuses(armor(b"\xc3" + bytes((len(start),)) + start + message_of(wrapped)[15:], ()))


def test_every_byte_counts(quick: str) -> None:
    """Whoever alters the message can keep its checksum right; no alteration gives a key."""
    assert decrypt_key(quick, PASSPHRASE).reveal() == SECRET.reveal()
    message = message_of(quick)
    for at in (*range(4), 6, *range(14, 19), 34, 35, 60, *(len(message) - 23, len(message) - 20, len(message) - 1)):
        changed = bytearray(message)
        changed[at] ^= 0x10
        with pytest.raises(TklbError) as caught:
            decrypt_key(armor(bytes(changed), ()), PASSPHRASE)
        assert caught.value.code in (40, 41), (at, caught.value)


def test_altered_content_is_told_from_a_wrong_passphrase(wrapped: str) -> None:
    changed = bytearray(message_of(wrapped))
    changed[-5] ^= 1
    assert "was altered" in refuses(armor(bytes(changed), ()))


def test_accident_is_told_from_a_wrong_passphrase(wrapped: str) -> None:
    body = wrapped.split("\n")[4]
    swapped = body.translate(str.maketrans("abcXYZ", "bcdYZX"))
    assert "damaged" in refuses(wrapped.replace(body, swapped))


def test_content_that_is_no_key_is_refused_without_being_told(gpg: Gpg) -> None:
    for content in (b"", b"canary", b"canary" * 100_000, SECRET.reveal().encode() * 2, b"\xff" * 60):
        with pytest.raises(TklbError) as caught:
            decrypt_key(gpg.symmetric(content, "correct horse").decode(), PASSPHRASE)
        assert caught.value.code in (41, 21)
        assert "canary" not in str(caught.value)


def test_wrapped_key_inside_another_is_refused(gpg: Gpg, wrapped: str) -> None:
    refuses(gpg.symmetric(message_of(wrapped), "correct horse").decode())


def test_huge_file_is_refused_at_once(wrapped: str) -> None:
    assert "far too long" in refuses(wrapped + "x" * 70_000)


def test_truncated_file_is_refused(wrapped: str) -> None:
    for length in range(0, len(wrapped) - 2, 7):
        refuses(wrapped[:length])
    message = message_of(wrapped)
    for length in range(1, len(message), 5):
        refuses(armor(message[:length], ()))


# ---------------------------------------------------------------- where gpg runs


class Watch(contextlib.ExitStack):
    """Everything that a process below this one shows to others while the block runs: arguments and environment."""

    def __enter__(self) -> Self:
        self.seen: dict[str, bytes] = {}
        self._is_over = threading.Event()
        thread = threading.Thread(target=self._look)
        thread.start()
        self.callback(thread.join)
        self.callback(self._is_over.set)
        return self

    def _look(self) -> None:
        while not self._is_over.is_set():
            for child in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (child / "cmdline").read_bytes()
                    if words.startswith(b"gpg\0") and f"PPid:\t{os.getpid()}\n" in (child / "status").read_text():
                        self.seen[child.name] = words + b"\0\0" + (child / "environ").read_bytes()


def test_no_secret_is_in_arguments_environment_or_logs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "of the caller")
    monkeypatch.setenv("GNUPGHOME", "/nowhere")
    passphrase = Secret("canary-passphrase-1")
    with Watch() as watch, caplog.at_level(logging.DEBUG):
        text = encrypt_key(SECRET, passphrase)
        decrypt_key(text, passphrase)
        with pytest.raises(WrongPassphrase):
            decrypt_key(text, Secret("canary-passphrase-2"))
    assert len(watch.seen) >= 3
    shown = b"\n".join(watch.seen.values()) + caplog.text.encode()
    for canary in (b"canary-passphrase", SECRET.reveal().encode(), SECRET.reveal()[:14].encode(), b"of the caller"):
        assert canary not in shown
        assert base64.b64encode(canary)[:-4] not in shown
    assert b"GNUPGHOME" not in shown


def test_traceback_of_a_failure_has_no_secret() -> None:
    program = (
        "from tklb.crypto.key_encryption import encrypt_key\nfrom tklb.model.secret import Secret\n"
        "encrypt_key(Secret('canary-secret'), Secret('canary-passphrase'))\n"
    )
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    without = program.replace("encrypt_key(S", "import gnupg; gnupg.GPG.encrypt_file = None\nencrypt_key(S")
    done = subprocess.run(
        [sys.executable, "-c", without],
        env=environment, capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "Traceback" in done.stderr
    assert "canary" not in done.stderr.replace("canary-secret'), Secret('canary-passphrase", "")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(wrapping._ENVIRONMENT, "STARTED_BY", str(tmp_path))
    encrypt_key(SECRET, PASSPHRASE)
    decrypt_key(wrapped, PASSPHRASE)
    with pytest.raises(WrongPassphrase):
        decrypt_key(wrapped, Secret("x"))
    assert os.listdir(tmp_path) == []
    assert started_by(tmp_path) == []


def started_by(mark: Path) -> list[str]:
    """gpg and its servers, with a mark in the environment that gpg is given: others run gpg at the same time."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            is_theirs = re.search(rb"gpg|keyboxd|dirmngr|scdaemon", words.split(b"\0")[0])
            if is_theirs and b"STARTED_BY=%b\0" % bytes(mark) in (process / "environ").read_bytes():
                found.append(words.decode())
    return found


def test_gpg_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: str) -> None:
    fake = tmp_path / "gpg"
    fake.write_text('#!/bin/sh\ncase "$*" in *--list-config*) echo cfg:version:2.2.40;; *) exec sleep 1000;; esac\n')
    fake.chmod(0o755)
    monkeypatch.setitem(wrapping._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(wrapping, "_SECONDS", 0.5)
    with pytest.raises(TklbError) as caught:
        decrypt_key(wrapped, PASSPHRASE)
    assert caught.value.code == 21


@pytest.mark.parametrize(
    "status", ["DECRYPTION_OKAY", "GOODMDC", "ENC_TO 1 1 0\n[GNUPG:] DECRYPTION_OKAY\n[GNUPG:] GOODMDC"]
)
def test_gpg_must_vouch_for_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: str, status: str
) -> None:
    """A gpg that prints a key and ends well, but says too little, or too much."""
    fake = tmp_path / "gpg"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *--list-config*) echo cfg:version:2.2.40; exit;; esac\ncat >/dev/null\n'
        f"echo '{SECRET.reveal()}'\nprintf '[GNUPG:] {status}\\n' >&2\n"
    )
    fake.chmod(0o755)
    monkeypatch.setitem(wrapping._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    refuses(wrapped, code=21)


def test_missing_gpg_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: str) -> None:
    monkeypatch.setitem(wrapping._ENVIRONMENT, "PATH", str(tmp_path))
    with pytest.raises(TklbError, match="gpg is not installed") as caught:
        decrypt_key(wrapped, PASSPHRASE)
    assert caught.value.code == 20


# ---------------------------------------------------------------- public keys


def test_owners_of_public_keys_open_it_each_alone(gpg: Gpg, tmp_path: Path) -> None:
    one = gpg.make_key("one", "future-default", "default", "0")
    other = Gpg(tmp_path / "other")
    two = other.make_key("two", "future-default", "default", "0")
    gpg("--batch", "--import", feed=other("--export", two))
    before = every_file(gpg.home)
    text = encrypt_key_to(SECRET, [one, two.lower(), f"0x{one}"], gpg.home)
    assert every_file(gpg.home) == before
    assert kind_of_key_file(text) is KeyKind.PUBLIC_KEY
    assert read_fingerprint(text) == fingerprint(SECRET)
    for owner in (gpg, other):
        assert owner(*LOOPBACK, "--decrypt", feed=text.encode()) == f"{SECRET.reveal()}\n".encode()
    with pytest.raises(KeyUnusable, match="gpg --decrypt FILE"):
        open_key(text, lambda: PASSPHRASE)
    refuses(text)
    subprocess.run(["gpgconf", "--homedir", other.home, "--kill", "all"], check=True, timeout=60)


def every_file(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_keys_that_cannot_be_encrypted_to_are_named(gpg: Gpg) -> None:
    signing = gpg.make_key("signing", "ed25519", "sign", "0")
    # A key for a second may be finished after it, and then gpg lets it live for ever.
    past = ["--faked-system-time", "20200101T000000"]
    expired = gpg.make_key("expired", "future-default", "default", "1d", options=past)
    revoked = gpg.make_key("revoked", "future-default", "default", "0")
    half = gpg.make_key("half", "future-default", "default", "0")
    disabled = gpg.make_key("disabled", "future-default", "default", "0")
    good = gpg.make_key("good", "future-default", "default", "0")
    revocation = (gpg.home / f"openpgp-revocs.d/{revoked}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
    gpg("--batch", "--import", feed=revocation.encode())
    gpg("--batch", "--command-fd", "0", "--edit-key", half, feed=b"key 1\nrevkey\ny\n0\n\ny\nsave\n")
    gpg("--batch", "--no-tty", "--command-fd", "0", "--edit-key", disabled, feed=b"disable\nsave\n")
    for name, reason in (
        (signing, "cannot be encrypted to"),
        (expired, "has expired"),
        (revoked, "was revoked"),
        (half, "cannot be encrypted to"),
        (disabled, "is disabled"),
        ("0" * 40, "is not known here"),
    ):
        with pytest.raises(KeyUnusable, match=f"{name} {reason}") as caught:
            encrypt_key_to(SECRET, [good, name], gpg.home)
        assert caught.value.code == 41


@pytest.mark.parametrize("name", ["", "mallory", "ABCDEF01", "0123456789ABCDEF", "G" * 40, "--export", "A" * 41])
def test_anything_but_a_full_fingerprint_is_refused(gpg: Gpg, name: str) -> None:
    """A short id can be somebody else's key, made to match; a name is whatever a keyring has."""
    with pytest.raises(UsageWrong, match="no full fingerprint"):
        encrypt_key_to(SECRET, [name], gpg.home)


def test_subkey_is_no_name_for_a_key(gpg: Gpg) -> None:
    name = gpg.make_key("one", "future-default", "default", "0")
    listed = re.findall(rb"^fpr:+(\w+):", gpg("--with-colons", "--list-keys", name), re.MULTILINE)
    assert listed[0].decode() == name
    with pytest.raises(KeyUnusable, match="is not known here"):
        encrypt_key_to(SECRET, [listed[1].decode()], gpg.home)


def test_keyring_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="there is no"):
        encrypt_key_to(SECRET, ["A" * 40], tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_passphrases_of_bytes_come_back_as_they_were() -> None:
    for content in (b"\xff\xfe", "ä".encode(), bytes(range(1, 10))):
        assert passphrase_bytes(check_passphrase(content)) == content
