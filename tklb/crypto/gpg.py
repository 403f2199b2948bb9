"""Encrypt and decrypt messages with gpg and the secret, as stock gpg does.

Takes content or files, the secret and a private home for gpg; gives content or files. The secret goes through a pipe.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tklb.base.process import ProcessResult, run
from tklb.errors import ProgramFailed
from tklb.model.secret import Secret

GPG_OPTIONS = (
    "--no-options --no-autostart --no-keyring --lock-never --no-random-seed-file "
    # The secret is random already: stretching it would cost time for every volume and gain nothing.
    "--s2k-mode 3 --s2k-count 65536 --s2k-digest-algo SHA256 --cipher-algo AES256"
)


_ENDED = range(256)  # exit statuses, no signals
_WHOLE = {b"DECRYPTION_OKAY", b"GOODMDC"}
_BAD = {b"DECRYPTION_FAILED", b"NODATA"}


class UnreadableMessage(ValueError):
    """A message that this secret does not open, or that is not whole."""


def encrypt(content: bytes, secret: Secret, home: Path) -> bytes:
    """An OpenPGP message that stock gpg opens with the secret. Raises ProgramFailed, ProgramMissing."""
    return _gpg(["--force-mdc", "--symmetric"], content, secret, home).stdout


def decrypt(message: bytes, secret: Secret, home: Path, limit: int) -> bytes:
    """The content of such a message, at most `limit` bytes. Raises UnreadableMessage, ProgramFailed, ProgramMissing."""
    # in memory: on a full disk, lost status lines would look like a damaged message
    with open(os.memfd_create("gpg-status"), "w+b") as status:
        words = [f"--status-fd={status.fileno()}", f"--max-output={limit}", "--decrypt"]
        result = _gpg(words, message, secret, home, status.fileno(), accept=_ENDED)
        status.seek(0)
        statuses = {line.split()[1] for line in status if line.startswith(b"[GNUPG:] ")}
    is_whole = statuses >= _WHOLE
    if is_whole and result.status == 0 and len(result.stdout) <= limit:
        return result.stdout
    if is_whole:
        raise UnreadableMessage(f"it is longer than {limit} bytes")
    reason = result.stderr.decode("utf-8", "backslashreplace").strip().split("\n")[-1]
    if result.status == 0 or statuses & _BAD:
        raise UnreadableMessage(reason or "gpg does not confirm it")
    raise ProgramFailed(program="gpg", reason=reason or f"exit status {result.status}")


def decrypt_file(message: Path, secret: Secret, home: Path, destination: Path) -> None:
    """Decrypt a message of any size into a new file. Raises ProgramFailed, ProgramMissing.

    The caller has compared the message with the ledger, so the exit status of gpg is enough.
    """
    _gpg([f"--output={destination}", "--decrypt", str(message)], b"", secret, home)


def _gpg(
    words: list[str], feed: bytes, secret: Secret, home: Path, *descriptors: int, accept: Sequence[int] = (0,)
) -> ProcessResult:
    receive, give = os.pipe()
    try:
        os.write(give, secret.reveal().encode("ascii"))  # far less than a pipe holds
        os.close(give)
        argv = [
            "gpg",
            *GPG_OPTIONS.split(),
            *("--batch", "--no-tty", "--pinentry-mode=loopback", f"--passphrase-fd={receive}"),
            *words,
        ]
        environment = {"GNUPGHOME": str(home)}
        return run(argv, stdin=feed, environment=environment, pass_fds=(receive, *descriptors), accept=accept)
    finally:
        os.close(receive)
