"""The key file that the target keeps: upload it, compare it, know where it is."""

import hashlib
from pathlib import Path

from tklb.backup.chain import open_chain
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_copies import Copy, is_elsewhere, note_copy
from tklb.crypto.key_file import KeyKind, kind_of_key_file, named_fingerprint
from tklb.crypto.secret import fingerprint
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.model.secret import Secret
from tklb.session import Session
from tklb.storage.backend import KEY, Backend
from tklb.storage.upload import put_checked
from tklb.storage.url import parse_url


def has_passphrase(paths: Paths, secret: Secret) -> bool:
    """Whether the key file here is of this key. One of another key is of a change of the key that was cut off."""
    try:
        text = paths.key_file.read_text("utf-8", "replace")
        return kind_of_key_file(text) is KeyKind.PASSPHRASE and named_fingerprint(text) == fingerprint(secret)
    except (FileNotFoundError, KeyUnusable):  # a damaged one must not go to the target
        return False


def upload_key_file(setting: Session) -> bool:
    """Put this machine's key file on the target; whether it fits what is there. Raises what opening the chain does.

    Beside snapshots that were all sealed with older keys it would be of no use, and theirs would be gone.
    """
    chain = open_chain(setting)
    fits = not chain.entries or chain.continues(setting.secret)
    if fits:
        update_key_file(setting, chain.target)
    return fits


def update_key_file(setting: Session, target: Backend) -> bool:
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
    away = is_target_elsewhere(setting.paths, setting.config)
    name = fingerprint(setting.secret)
    note_copy(
        setting.paths.key_copies, Copy(target.address, str(KeyKind.PASSPHRASE), name, setting.clock(), is_away=away)
    )
    return True


def is_target_elsewhere(paths: Paths, config: Config) -> bool:
    """Whether what is on the target outlives this machine."""
    address = parse_url(config.target)
    return address.scheme != "file" or is_elsewhere(Path(address.path), (Path("/"), paths.state))


def _digest_there(target: Backend) -> str:
    try:
        return hashlib.sha256(target.read(KEY, LONGEST_KEY_FILE)).hexdigest()
    except TargetDamaged:
        return ""  # it goes, whatever it is
