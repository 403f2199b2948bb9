"""Keys that cannot be lost: the passphrase, copies for elsewhere, and a new key.

The order of every change is such that a kill strands nothing: what opens the newest snapshot is there before and after.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tklb.backup.chain import open_chain
from tklb.backup.target_key import upload_key_file
from tklb.base.fs import private_folder, run_lock, sync_folder, write_atomic
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy, forget_copy, is_elsewhere, note_copy
from tklb.crypto.key_file import KeyKind, format_key, write_new
from tklb.crypto.secret import fingerprint, make_secret, read_secret, write_older, write_secret
from tklb.errors import TargetDamaged, TklbError, UsageWrong
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.session import Session, open_session
from tklb.storage.backend import KEY


@dataclass(frozen=True, slots=True)
class Protection:
    """What it takes to open a copy of the key: one of a passphrase, OpenPGP keys by fingerprint, nothing."""

    passphrase: Secret | None = None
    public_keys: tuple[str, ...] = ()

    @property
    def kind(self) -> KeyKind:
        if self.public_keys:
            return KeyKind.PUBLIC_KEY
        return KeyKind.PASSPHRASE if self.passphrase else KeyKind.BARE


@dataclass(frozen=True, slots=True)
class PassphraseChange:
    """What `key passphrase` did. `failure`: why the target does not have it yet; the next backup brings it there."""

    fingerprint: str
    has_passphrase: bool
    address: str
    is_on_target: bool
    failure: TklbError | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """What `key rotate` did. `snapshots` still need the old key; `failure`: why the target could not name them."""

    old: str
    new: str
    has_passphrase: bool
    snapshots: tuple[str, ...] = ()
    failure: TklbError | None = None


def set_passphrase(paths: Paths, clock: Clock, passphrase: Secret) -> PassphraseChange:
    """Wrap the key in a passphrase: here first, then on the target. No data is touched.

    Raises what is wrong with this machine; what is wrong with the target is in the result.
    """
    with run_lock(paths.lock):
        setting = open_session(paths, clock)
        write_protected(paths, setting.secret, passphrase)
        try:
            is_there = upload_key_file(setting)
        except TklbError as exc:
            return PassphraseChange(fingerprint(setting.secret), True, setting.config.target, False, exc)
        return PassphraseChange(fingerprint(setting.secret), True, setting.config.target, is_there)


def remove_passphrase(paths: Paths, clock: Clock) -> PassphraseChange:
    """Take the key file off the target, then off this machine. Raises what the target raises: then nothing changed."""
    with run_lock(paths.lock):
        setting = open_session(paths, clock)
        target = open_chain(setting).target
        target.delete(KEY)
        if target.stat(KEY) is not None:
            raise TargetDamaged(address=target.address, reason=f"{KEY} is still there after it was deleted")
        forget_copy(paths.key_copies, target.address)
        paths.key_file.unlink(missing_ok=True)
        sync_folder(paths.state)
        return PassphraseChange(fingerprint(setting.secret), False, setting.config.target, False)


def write_protected(paths: Paths, secret: Secret, passphrase: Secret) -> None:
    """Keep the key file with a passphrase on this machine; the next keep_on_target() brings it to the target."""
    from tklb.crypto.key_encryption import encrypt_key

    private_folder(paths.state)
    write_atomic(paths.key_file, encrypt_key(secret, passphrase).encode("utf-8"))


def key_text(secret: Secret, protection: Protection, homedir: Path) -> str:
    """A key file. `homedir` has the keyring with the public keys. Raises UsageWrong, KeyUnusable, ProgramFailed."""
    from tklb.crypto.key_encryption import encrypt_key, encrypt_key_to

    if protection.public_keys:
        return encrypt_key_to(secret, protection.public_keys, homedir)
    return encrypt_key(secret, protection.passphrase) if protection.passphrase else format_key(secret)


def escrow(paths: Paths, clock: Clock, file: Path, protection: Protection, homedir: Path) -> KeyCopy:
    """Write a copy of the key to a new file, and note it. Raises KeyUnusable and what key_text() does."""
    secret = read_secret(paths.secret)
    write_new(file, key_text(secret, protection, homedir).encode("utf-8"))
    return note_file(paths, clock, file, secret, protection.kind)


def note_file(paths: Paths, clock: Clock, file: Path, secret: Secret, kind: KeyKind) -> KeyCopy:
    """Note a copy that was written to a file."""
    where = os.path.abspath(file)
    away = is_elsewhere(Path(where).parent, (Path("/"), paths.state))
    copy = KeyCopy(where.encode("utf-8", "backslashreplace").decode(), str(kind), fingerprint(secret), clock(), away)
    note_copy(paths.key_copies, copy)
    return copy


def rotate(paths: Paths, clock: Clock, random: Callable[[int], bytes], passphrase: Secret | None) -> Rotation:
    """Make a new key; the next backup starts a chain with it. The old one is kept for the snapshots before.

    Raises UsageWrong where the key has a passphrase and the new one would have none.
    """
    with run_lock(paths.lock):
        setting = open_session(paths, clock)
        if passphrase is None and paths.key_file.exists():
            raise UsageWrong(reason="this key has a passphrase: give one for the new key too")
        snapshots, failure = _sealed_snapshots(setting)
        fresh = make_secret(random)
        write_older(paths.older_secrets, setting.secret)
        if passphrase is not None:
            write_protected(paths, fresh, passphrase)
        write_secret(paths.secret, fresh)
        return Rotation(fingerprint(setting.secret), fingerprint(fresh), passphrase is not None, snapshots, failure)


def _sealed_snapshots(setting: Session) -> tuple[tuple[str, ...], TklbError | None]:
    try:
        return tuple(record.snapshot for record in open_chain(setting).entries), None
    except TklbError as exc:
        return (), exc
