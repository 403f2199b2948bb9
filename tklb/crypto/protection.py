"""Copies of the key: protected by a passphrase or by OpenPGP keys, written to files, and noted.

Takes a Secret; touches the files it is given. gpg's library is loaded only where a copy needs it.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from tklb.base.fs import private_folder, write_atomic
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy, is_elsewhere, note_copy
from tklb.crypto.key_file import KeyKind, format_key, read_fingerprint, write_new
from tklb.crypto.secret import fingerprint
from tklb.errors import KeyUnusable, UsageWrong, WrongPassphrase
from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protection:
    """What opens a copy of the key: a passphrase, one of several OpenPGP keys (by fingerprint), or nothing."""

    passphrase: Secret | None = None
    public_keys: tuple[str, ...] = ()

    @property
    def kind(self) -> KeyKind:
        if self.public_keys:
            return KeyKind.PUBLIC_KEY
        return KeyKind.PASSPHRASE if self.passphrase else KeyKind.BARE


def format_protected_key(secret: Secret, protection: Protection, homedir: Path) -> str:
    """Give a key file. `homedir` has the keyring with the public keys.

    Raises UsageWrong, KeyUnusable, ProgramFailed.
    """
    from tklb.crypto.key_encryption import encrypt_key, encrypt_key_to

    if protection.public_keys:
        return encrypt_key_to(secret, protection.public_keys, homedir)
    return encrypt_key(secret, protection.passphrase) if protection.passphrase else format_key(secret)


def write_protected_key(paths: Paths, secret: Secret, passphrase: Secret) -> None:
    """Keep the key file with a passphrase on this machine; the next backup uploads it. The one before is kept too."""
    from tklb.crypto.key_encryption import encrypt_key

    text = encrypt_key(secret, passphrase).encode("utf-8")
    private_folder(paths.state)
    if paths.key_file.exists():
        before = paths.key_file.read_bytes()
        write_atomic(private_folder(paths.older_key_files) / hashlib.sha256(before).hexdigest()[:16], before)
    write_atomic(paths.key_file, text)
    log.info("encrypted key %s with the passphrase, into %s", fingerprint(secret), paths.key_file)


def refuse_known_passphrase(paths: Paths, passphrase: Secret, others: Iterable[Secret]) -> None:
    """Raise UsageWrong if the passphrase opens a key file of one of `others`, the keys before the one to protect.

    Whoever kept such a file and can write to the target could put it back, and the passphrase would open it.
    """
    from tklb.crypto.key_encryption import decrypt_key

    names = set(map(fingerprint, others))
    kept = sorted(paths.older_key_files.iterdir()) if paths.older_key_files.is_dir() else []
    for text in (file.read_text("utf-8", "replace") for file in (*kept, paths.key_file) if file.exists()):
        if read_fingerprint(text) in names:
            with contextlib.suppress(WrongPassphrase, KeyUnusable):
                decrypt_key(text, passphrase)
                raise UsageWrong(
                    reason=f"this passphrase opens the older key {read_fingerprint(text)}, and somebody may have kept"
                    " its key file: give another passphrase"
                )


def write_copy(
    paths: Paths, file: Path, secret: Secret, protection: Protection, homedir: Path, now: datetime
) -> KeyCopy:
    """Write a copy of the key to a new file, and note it. Raises as format_protected_key() and write_new() do."""
    write_new(file, format_protected_key(secret, protection, homedir).encode("utf-8"))
    copy = note_file(paths, file, fingerprint(secret), protection.kind, now)
    log.info("wrote a copy of key %s (%s) to %s", copy.fingerprint, copy.kind, copy.where)
    return copy


def note_file(paths: Paths, file: Path, name: str, kind: KeyKind, now: datetime) -> KeyCopy:
    """Note a file as a copy of the key with the fingerprint `name`."""
    where = os.path.abspath(file)
    away = is_elsewhere(Path(where).parent, (Path("/"), paths.state))
    copy = KeyCopy(where.encode("utf-8", "backslashreplace").decode(), str(kind), name, now, away)
    note_copy(paths.key_copies, copy)
    return copy
