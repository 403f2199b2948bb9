"""Copies of the key: protected by a passphrase or by OpenPGP keys, written to files, and noted.

Takes a Secret; touches the files it is given. gpg's library is loaded only where a copy needs it.
"""

import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tklb.base.fs import private_folder, write_atomic
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy, is_elsewhere, note_copy
from tklb.crypto.key_file import KeyKind, format_key, write_new
from tklb.crypto.secret import fingerprint
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


def write_protected_key(path: Path, secret: Secret, passphrase: Secret) -> None:
    """Keep the key file with a passphrase on this machine; the next backup uploads it."""
    from tklb.crypto.key_encryption import encrypt_key

    private_folder(path.parent)
    write_atomic(path, encrypt_key(secret, passphrase).encode("utf-8"))
    log.info("encrypted key %s with the passphrase, into %s", fingerprint(secret), path)


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
