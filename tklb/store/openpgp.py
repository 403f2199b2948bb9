"""Small secrets of our own in OpenPGP: encrypted and opened by gpg with the secret as passphrase.

Takes and gives bytes; touches an empty private folder that gpg gets for a home. What is opened must be whole and
unaltered by gpg's own word (DECRYPTION_OKAY and GOODMDC on its status descriptor), whatever its exit status is.
"""

import os
from pathlib import Path

from tklb.errors import ProgramFailed
from tklb.model import Secret
from tklb.run import run
from tklb.store.dialect import GPG_OPTIONS


class Unreadable(ValueError):
    """Not a message that this secret opens, or not whole."""


def encrypt(content: bytes, secret: Secret, home: Path) -> bytes:
    """An OpenPGP message that stock gpg opens with the secret. Raises ProgramFailed, ProgramMissing."""
    return _gpg(["--force-mdc", "--symmetric"], content, secret, home)


def decrypt(message: bytes, secret: Secret, home: Path, limit: int) -> bytes:
    """The content of such a message, at most `limit` bytes long. Raises Unreadable."""
    # in memory: what gpg cannot say on a full disk would pass for a damaged message
    with open(os.memfd_create("gpg-status"), "w+b") as status:
        words = [f"--status-fd={status.fileno()}", f"--max-output={limit}", "--decrypt"]
        try:
            content = _gpg(words, message, secret, home, status.fileno())
        except ProgramFailed as exc:
            raise Unreadable(exc.facts["reason"]) from exc
        status.seek(0)
        said = status.read().split(b"\n")
    if b"[GNUPG:] DECRYPTION_OKAY" not in said or b"[GNUPG:] GOODMDC" not in said:
        raise Unreadable("gpg does not vouch for it")
    if len(content) > limit:
        raise Unreadable(f"it is longer than {limit} bytes")
    return content


def _gpg(words: list[str], feed: bytes, secret: Secret, home: Path, *descriptors: int) -> bytes:
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
        return run(argv, stdin=feed, environment={"GNUPGHOME": str(home)}, pass_fds=(receive, *descriptors)).stdout
    finally:
        os.close(receive)
