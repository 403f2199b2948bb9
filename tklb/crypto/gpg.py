"""Encrypt and decrypt messages with gpg and the secret, as stock gpg does.

Takes content or files, the secret and a private home for gpg; gives content or files. The secret goes through a pipe.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tklb.base.process import ProcessResult, run
from tklb.errors import ProgramFailed
from tklb.model.secret import Secret

# gpg reads its file of the whole machine in spite of --no-options. These set what that file may say otherwise.
OVERRIDING = (
    "--no-armor --no-textmode --output=- --max-output=0 --compress-algo=zip --gnupg --logger-fd=2 --trust-model=always "
    "--no-encrypt-to --no-default-recipient --no-throw-keyids --no-for-your-eyes-only --no-use-embedded-filename"
)
GPG_OPTIONS = (
    f"--no-options --no-autostart --no-keyring --lock-never --no-random-seed-file {OVERRIDING} "
    # The secret is random already: stretching it would cost time for every volume and gain nothing.
    "--s2k-mode 3 --s2k-count 65536 --s2k-digest-algo SHA256 --cipher-algo AES256"
)


_WHOLE_MACHINE = Path("/etc/gnupg/gpg.conf")
# what no option of the command line undoes: gpg then gives other output, another file, or a secret
_LASTING = frozenset((
    "attribute-fd", "attribute-file", "clear-sign", "clearsign", "decrypt", "detach-sign", "disable-cipher-algo",
    "dry-run", "encrypt", "hidden-recipient", "hidden-recipient-file", "list-only", "log-file", "logger-fd",
    "logger-file", "multifile", "no-literal", "override-session-key", "override-session-key-fd", "recipient",
    "recipient-file", "show-session-key", "sign", "status-fd", "status-file", "symmetric", "unwrap", "verify",
))  # fmt: skip
# RFC 4880, 5.3: a session key for a passphrase, version 4, AES256, salted and iterated
_START = b"\x8c\x0d\x04\x09\x03"
_ENDED = range(256)  # exit statuses, no signals
_WHOLE = {b"DECRYPTION_OKAY", b"GOODMDC"}
_BAD = {b"DECRYPTION_FAILED", b"NODATA"}


class UnreadableMessage(ValueError):
    """A message that this secret does not open, or that is not whole."""


def check_global_options(file: Path = _WHOLE_MACHINE) -> None:
    """Raise ProgramFailed where the options of the whole machine change what gpg does, and no other option undoes it.

    Call it before gpg starts.
    """
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        word = next(iter(line.split()), "").lstrip("-")
        if word in _LASTING or (word.startswith("[") and ("force" in line or "ignore" in line)):
            reason = f"{file}, line {number}: `{word}` changes what gpg gives to every program; delete the line"
            raise ProgramFailed(program="gpg", reason=reason)


def pick_reason(lines: Sequence[str]) -> str:
    """Give the line of gpg that tells why it failed: one that names a file of options, else the last; "" for none."""
    return next((line for line in lines if "/etc/gnupg/" in line), lines[-1] if lines else "")


def encrypt(content: bytes, secret: Secret, home: Path) -> bytes:
    """An OpenPGP message that stock gpg opens with the secret. Raises ProgramFailed, ProgramMissing."""
    message = _gpg(["--force-mdc", "--symmetric"], content, secret, home).stdout
    if message[: len(_START)] != _START:
        reason = (
            f"it did not encrypt as it had to; it also reads {_WHOLE_MACHINE}, or its configuration is not the usual"
        )
        raise ProgramFailed(program="gpg", reason=reason)
    return message


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
    reason = pick_reason(result.stderr.decode("utf-8", "backslashreplace").strip().split("\n"))
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
    check_global_options()
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
