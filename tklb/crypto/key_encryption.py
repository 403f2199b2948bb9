"""Encrypt the secret with a passphrase or to OpenPGP public keys. The one place that knows python-gnupg.

Takes and gives key files as text. gpg gets no home, a clean environment, and passphrases through a pipe. tklb accepts
an encrypted key only as one session key for one passphrase and one sealed packet, and checks that before gpg sees it.
Then gpg must report DECRYPTION_OKAY and GOODMDC on its status lines, whatever its exit status is.
"""

import contextlib
import io
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gnupg

from tklb.base.process import PATH
from tklb.crypto.armor import (
    LONGEST_KEY_FILE,
    SEALED,
    SESSION_KEY_FOR_PASSPHRASE,
    SESSION_KEY_FOR_PUBLIC_KEY,
    armor,
    dearmor,
    packets,
)
from tklb.crypto.gpg import OVERRIDING, check_global_options, pick_reason
from tklb.crypto.passphrase import check_passphrase, passphrase_bytes
from tklb.crypto.secret import fingerprint, parse_secret
from tklb.errors import KeyUnusable, ProgramFailed, ProgramMissing, UsageWrong, WrongPassphrase
from tklb.model.secret import Secret

_SECONDS = 60  # what any call of gpg may take; stretching a passphrase takes less than one
_LONGEST_SECRET = 4096
_NO_HOME = "/nonexistent"  # by the Debian policy, 9.2.3, it never is
_ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C", "LANG": "C", "HOME": _NO_HOME}
_ALONE = ["--no-options", "--no-autostart", "--no-random-seed-file", "--lock-never", *OVERRIDING.split()]
_PLAIN = ["--force-mdc", "--compress-algo=none", "--cipher-algo=AES256"]
_STRETCHED = ["--s2k-mode=3", "--s2k-digest-algo=SHA512", "--s2k-cipher-algo=AES256"]
_STRETCH = 0xFF  # RFC 4880, 3.7.1.3: the most there is, 65,011,712 bytes
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_VALIDITY = {"e": "has expired", "r": "was revoked", "d": "is disabled", "i": "is not valid"}
_NO_KEY = "is an OpenPGP message, but no tklb key"

# It would log what gpg prints, and that may be a secret.
logging.getLogger(gnupg.__name__).disabled = True


def encrypt_key(secret: Secret, passphrase: Secret) -> str:
    """A key file that the passphrase opens, here and with stock gpg. Raises ProgramFailed, ProgramMissing."""
    with _gpg([*_ALONE, "--no-keyring"]) as gpg:
        result = gpg.encrypt_file(
            io.BytesIO(_content(secret)),
            None,
            passphrase=_encode_passphrase(passphrase),
            symmetric="AES256",
            armor=False,
            extra_args=[*_PLAIN, *_STRETCHED, f"--s2k-count={_count_stretched(_STRETCH)}"],
        )
    message = _read_message(result)
    _check_stretching(message)
    text = armor(
        message,
        (
            f"tklb key {fingerprint(secret)}. Its passphrase opens the backups.",
            "PASSPHRASE=$(gpg --decrypt THIS-FILE) gives it to duplicity.",
        ),
    )
    if decrypt_key(text, passphrase).reveal() != secret.reveal():
        raise ProgramFailed(program="gpg", reason="it does not give back what it encrypted")
    return text


def decrypt_key(text: str, passphrase: Secret) -> Secret:
    """The secret in a key file with a passphrase. Raises WrongPassphrase, KeyUnusable, ProgramFailed, ProgramMissing.

    It refuses every other kind of key file: somebody who can write to a target must not choose the key.
    """
    try:
        message = passphrase_message(text)
    except ValueError as exc:
        raise KeyUnusable(reason=f"the key file {exc}") from exc
    with _gpg([*_ALONE, "--no-keyring"]) as gpg:
        result = gpg.decrypt_file(
            io.BytesIO(message),
            passphrase=_encode_passphrase(passphrase),
            extra_args=[f"--max-output={_LONGEST_SECRET}"],
        )
    statuses = _statuses(result.stderr)
    if "BADMDC" in statuses:
        raise KeyUnusable(reason="the key file was altered, or the passphrase is another one")
    if "DECRYPTION_FAILED" in statuses:
        raise WrongPassphrase(reason="it does not open the key file")
    if not statuses.keys() >= {"DECRYPTION_OKAY", "GOODMDC"} or result.returncode != 0 or "ENC_TO" in statuses:
        raise ProgramFailed(program="gpg", reason=_last_words(result))
    try:
        return parse_secret(result.data.decode("ascii").strip())
    except ValueError as exc:
        raise KeyUnusable(reason=f"the key file {_NO_KEY}") from exc


def encrypt_key_to(secret: Secret, fingerprints: Sequence[str], homedir: Path) -> str:
    """A key file for the owners of OpenPGP keys. It looks the keys up by full fingerprint in the keyring of `homedir`.

    Raises UsageWrong for anything but full fingerprints, KeyUnusable naming the key that cannot be encrypted to.
    """
    wanted = tuple(dict.fromkeys(_parse_fingerprint(text) for text in fingerprints))
    exported = _export_keys(wanted, homedir)
    with _hold_keyring(exported) as keyring, _gpg(_ALONE, keyring=keyring) as gpg:
        result = gpg.encrypt_file(
            io.BytesIO(_content(secret)),
            wanted,
            always_trust=True,
            armor=False,
            extra_args=_PLAIN,
        )
    message = _read_message(result)
    if [tag for tag, _ in _read_packets(message)].count(SESSION_KEY_FOR_PUBLIC_KEY) != len(wanted):
        raise ProgramFailed(program="gpg", reason="it did not encrypt to all of the keys")
    return armor(
        message,
        (
            f"tklb key {fingerprint(secret)} for {', '.join(wanted[:4])}{', ...' if len(wanted) > 4 else ''}.",
            "PASSPHRASE=$(gpg --decrypt THIS-FILE) gives it to duplicity.",
        ),
    )


def passphrase_message(text: str) -> bytes:
    """The OpenPGP message in a key file with a passphrase. Raises ValueError; its message continues "FILE ..."."""
    if len(text) > LONGEST_KEY_FILE:
        raise ValueError("is far too long for a key file")
    message = dearmor(text)
    found = packets(message)
    if [tag for tag, _ in found] != [SESSION_KEY_FOR_PASSPHRASE, SEALED]:
        raise ValueError(_NO_KEY)
    # RFC 4880, 5.3 and 3.7.1.3: version 4, AES, salted and iterated, 8 bytes of salt, the count, and no more; 5.13
    start, sealed = found[0][1], found[1][1]
    is_ours = len(start) == 13 and start[0] == 4 and start[1] in (7, 8, 9) and start[2] == 3
    if not is_ours or sealed[:1] != b"\x01":
        raise ValueError("is protected in a way that tklb does not know")
    return message


# ---------------------------------------------------------------- gpg


class _Result(Protocol):
    """What python-gnupg gives: `stderr` has the status lines among the rest."""

    ok: bool
    data: bytes
    stderr: str
    returncode: int


class _Gpg(gnupg.GPG):  # type: ignore[misc]
    """gnupg.GPG whose processes end after some time, or with the block around them."""

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> object:
        process = super()._open_subprocess(args, passphrase)
        timer = threading.Timer(_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        self.__dict__.setdefault("started", []).append((process, timer))
        return process


@contextlib.contextmanager
def _gpg(options: list[str], home: Path | None = None, keyring: str | None = None) -> Iterator[_Gpg]:
    """gpg with a home, or without any: then it reads no file, and a killed run leaves nothing behind."""
    check_global_options()
    gpg = None
    where = [] if home else ["--homedir", _NO_HOME]
    try:
        gpg = _Gpg(
            gnupghome=str(home) if home else None, keyring=keyring, options=[*where, *options], env=dict(_ENVIRONMENT)
        )
        yield gpg
    except (OSError, ValueError) as exc:
        if gpg is None and isinstance(exc, OSError):
            raise ProgramMissing(program="gpg") from exc
        raise ProgramFailed(program="gpg", reason=pick_reason(str(exc).strip().splitlines())) from exc
    finally:
        for process, timer in getattr(gpg, "started", ()):
            timer.cancel()
            _end(process)


def _end(process: Any) -> None:  # noqa: ANN401 - python-gnupg has no types
    if process.poll() is None:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _hold_keyring(keys: bytes) -> Iterator[str]:
    """The path of a keyring in memory."""
    with open(os.memfd_create("tklb-public-keys"), "wb") as stream:
        stream.write(keys)
        stream.flush()
        yield f"/proc/{os.getpid()}/fd/{stream.fileno()}"


def _content(secret: Secret) -> bytes:
    return f"{secret.reveal()}\n".encode("ascii")


def _encode_passphrase(passphrase: Secret) -> str:
    """The passphrase for python-gnupg: in Latin-1 a letter is a byte. It is checked, or gpg would cut it."""
    content = passphrase_bytes(passphrase)
    check_passphrase(content)
    return content.decode("latin-1")


def _read_message(result: _Result) -> bytes:
    if not result.ok or result.returncode != 0:
        raise ProgramFailed(program="gpg", reason=_last_words(result))
    return result.data


def _read_packets(message: bytes) -> list[tuple[int, bytes]]:
    """Give the packets of what gpg wrote. Raises ProgramFailed where that is no message."""
    try:
        return list(packets(message))
    except ValueError as exc:
        raise ProgramFailed(program="gpg", reason=f"what it wrote {exc}") from exc


def _count_stretched(octet: int) -> int:
    """RFC 4880, 3.7.1.3: the bytes that are hashed."""
    return (16 + (octet & 15)) << ((octet >> 4) + 6)


def _check_stretching(message: bytes) -> None:
    """Raise ProgramFailed where gpg stretched the passphrase less than we asked for: nobody would notice."""
    tags = _read_packets(message)
    if [tag for tag, _ in tags] != [SESSION_KEY_FOR_PASSPHRASE, SEALED] or tags[0][1][:4] != b"\x04\x09\x03\x0a":
        raise ProgramFailed(program="gpg", reason="it did not protect the key as it had to")
    if tags[0][1][-1] != _STRETCH:
        raise ProgramFailed(program="gpg", reason="it did not stretch the passphrase as far as it had to")


def _statuses(stderr: str) -> Mapping[str, str]:
    lines = (line.split(None, 2) for line in stderr.splitlines() if line.startswith("[GNUPG:] "))
    return {words[1]: words[2] if len(words) > 2 else "" for words in lines if len(words) > 1}


def _last_words(result: _Result) -> str:
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("[GNUPG:]")]
    return " / ".join(lines[-2:]) or f"exit status {result.returncode}"


# ---------------------------------------------------------------- public keys


def _parse_fingerprint(text: str) -> str:
    found = text.replace(" ", "").upper().removeprefix("0X")
    if not _FINGERPRINT.fullmatch(found):
        raise UsageWrong(reason=f"`{text}` is no full fingerprint of an OpenPGP key (40 hex digits)")
    return found


def _export_keys(wanted: Sequence[str], homedir: Path) -> bytes:
    if not homedir.is_dir():
        raise KeyUnusable(reason=f"the OpenPGP key {wanted[0]} is not known here: there is no {homedir}")
    with _gpg(["--no-autostart", "--no-auto-check-trustdb", "--trust-model=always"], homedir) as gpg:
        for name in wanted:
            _check_public_key(name, [key for key in gpg.list_keys(keys=[name]) if name in key["fingerprint"]])
        exported = gpg.export_keys(list(wanted), armor=False)
    assert isinstance(exported, bytes)
    return exported


def _check_public_key(name: str, found: Sequence[Mapping[str, str]]) -> None:
    if len(found) != 1:
        raise KeyUnusable(reason=f"the OpenPGP key {name} is not known here; import it with `gpg --import`")
    validity, capabilities = found[0]["trust"][:1], found[0]["cap"]
    if validity in _VALIDITY or "D" in capabilities:
        raise KeyUnusable(reason=f"the OpenPGP key {name} {_VALIDITY.get(validity, 'is disabled')}")
    if "E" not in capabilities:
        raise KeyUnusable(reason=f"the OpenPGP key {name} cannot be encrypted to: it has no valid key for that")
