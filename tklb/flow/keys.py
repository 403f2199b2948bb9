"""Keys that cannot be lost: the passphrase, copies for elsewhere, and a new key.

The order of every change is such that a kill strands nothing: what opens the newest snapshot is there before and after.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tklb.config import Config, Paths
from tklb.durable import private_folder, run_lock, sync_folder, write_atomic
from tklb.errors import KeyUnusable, TargetDamaged, TklbError, UsageWrong
from tklb.flow.chain import open_chain
from tklb.flow.setting import Clock, Setting, open_setting
from tklb.keys.armour import LONGEST_KEY_FILE
from tklb.keys.copies import Copy, forget_copy, is_elsewhere, note_copy
from tklb.keys.keyfile import KeyKind, format_key, kind_of, named_fingerprint, write_new
from tklb.keys.secret import fingerprint, make_secret, read_secret, write_older, write_secret
from tklb.model import Secret
from tklb.store.address import parse_address
from tklb.store.target import KEY, Target
from tklb.store.upload import put_checked


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


# ---------------------------------------------------------------- passphrase


def set_passphrase(paths: Paths, clock: Clock, passphrase: Secret) -> PassphraseChange:
    """Wrap the key in a passphrase: here first, then on the target. No data is touched.

    Raises what is wrong with this machine; what is wrong with the target is in the result.
    """
    with run_lock(paths.lock):
        setting = open_setting(paths, clock)
        write_protected(paths, setting.secret, passphrase)
        try:
            is_there = bring_to_target(setting)
        except TklbError as exc:
            return PassphraseChange(fingerprint(setting.secret), True, setting.config.target, False, exc)
        return PassphraseChange(fingerprint(setting.secret), True, setting.config.target, is_there)


def remove_passphrase(paths: Paths, clock: Clock) -> PassphraseChange:
    """Take the key file off the target, then off this machine. Raises what the target raises: then nothing changed."""
    with run_lock(paths.lock):
        setting = open_setting(paths, clock)
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
    from tklb.keys.wrap import wrap  # every backup comes through this module, and hardly any needs gpg's

    private_folder(paths.state)
    write_atomic(paths.key_file, wrap(secret, passphrase).encode("utf-8"))


def has_passphrase(paths: Paths, secret: Secret) -> bool:
    """Whether the key file here is of this key. One of another key is of a change of the key that was cut off."""
    try:
        text = paths.key_file.read_text("utf-8", "replace")
        return kind_of(text) is KeyKind.PASSPHRASE and named_fingerprint(text) == fingerprint(secret)
    except (FileNotFoundError, KeyUnusable):  # a damaged one must not go to the target
        return False


def bring_to_target(setting: Setting) -> bool:
    """Put this machine's key file on the target; whether it fits what is there. Raises what opening the chain does.

    Beside snapshots that were all sealed with older keys it would be of no use, and theirs would be gone.
    """
    chain = open_chain(setting)
    fits = not chain.records or chain.continues(setting.secret)
    if fits:
        keep_on_target(setting, chain.target)
    return fits


def keep_on_target(setting: Setting, target: Target) -> bool:
    """Put this machine's key file on the target, where there is one and the target's is another; whether it did.

    To be called where the newest snapshot, if there is any, was sealed with this key. Raises what the target raises.
    """
    if not has_passphrase(setting.paths, setting.secret):
        return False
    content = setting.paths.key_file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    known = target.stat(KEY)
    if known and known.size == len(content) and sha256 == (known.sha256 or _digest_there(target)):
        return False
    put_checked(target, KEY, setting.paths.key_file)
    away = target_is_away(setting.paths, setting.config)
    name = fingerprint(setting.secret)
    note_copy(
        setting.paths.key_copies, Copy(target.address, str(KeyKind.PASSPHRASE), name, setting.clock(), is_away=away)
    )
    return True


def target_is_away(paths: Paths, config: Config) -> bool:
    """Whether what is on the target outlives this machine."""
    address = parse_address(config.target)
    return address.scheme != "file" or is_elsewhere(Path(address.path), (Path("/"), paths.state))


def _digest_there(target: Target) -> str:
    try:
        return hashlib.sha256(target.read(KEY, LONGEST_KEY_FILE)).hexdigest()
    except TargetDamaged:
        return ""  # it goes, whatever it is


# ---------------------------------------------------------------- copies


def key_text(secret: Secret, protection: Protection, homedir: Path) -> str:
    """A key file. `homedir` has the keyring with the public keys. Raises UsageWrong, KeyUnusable, ProgramFailed."""
    from tklb.keys.wrap import wrap, wrap_to

    if protection.public_keys:
        return wrap_to(secret, protection.public_keys, homedir)
    return wrap(secret, protection.passphrase) if protection.passphrase else format_key(secret)


def escrow(paths: Paths, clock: Clock, file: Path, protection: Protection, homedir: Path) -> Copy:
    """Write a copy of the key to a new file, and note it. Raises KeyUnusable and what key_text() does."""
    secret = read_secret(paths.secret)
    write_new(file, key_text(secret, protection, homedir).encode("utf-8"))
    return note_file(paths, clock, file, secret, protection.kind)


def note_file(paths: Paths, clock: Clock, file: Path, secret: Secret, kind: KeyKind) -> Copy:
    """Note a copy that was written to a file."""
    where = os.path.abspath(file)
    away = is_elsewhere(Path(where).parent, (Path("/"), paths.state))
    copy = Copy(where.encode("utf-8", "backslashreplace").decode(), str(kind), fingerprint(secret), clock(), away)
    note_copy(paths.key_copies, copy)
    return copy


# ---------------------------------------------------------------- a new key


def rotate(paths: Paths, clock: Clock, random: Callable[[int], bytes], passphrase: Secret | None) -> Rotation:
    """Make a new key; the next backup starts a chain with it. The old one is kept for the snapshots before.

    Raises UsageWrong where the key has a passphrase and the new one would have none.
    """
    with run_lock(paths.lock):
        setting = open_setting(paths, clock)
        if passphrase is None and paths.key_file.exists():
            raise UsageWrong(reason="this key has a passphrase: give one for the new key too")
        snapshots, failure = _sealed_snapshots(setting)
        fresh = make_secret(random)
        write_older(paths.older_secrets, setting.secret)
        if passphrase is not None:
            write_protected(paths, fresh, passphrase)
        write_secret(paths.secret, fresh)
        return Rotation(fingerprint(setting.secret), fingerprint(fresh), passphrase is not None, snapshots, failure)


def _sealed_snapshots(setting: Setting) -> tuple[tuple[str, ...], TklbError | None]:
    try:
        return tuple(record.snapshot for record in open_chain(setting).records), None
    except TklbError as exc:
        return (), exc
