"""The key file that the target keeps: upload it, compare it, say where it is."""

import hashlib
import logging
from pathlib import Path

from tklb.backup.chain import open_chain
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_copies import KeyCopy, is_elsewhere, note_copy
from tklb.crypto.key_file import KeyKind, kind_of_key_file, read_fingerprint
from tklb.crypto.secret import fingerprint
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.model.secret import Secret
from tklb.session import Session
from tklb.storage.backend import KEY, Backend
from tklb.storage.upload import upload_object
from tklb.storage.url import parse_url

log = logging.getLogger(__name__)


def has_passphrase(paths: Paths, secret: Secret) -> bool:
    """Whether the key file here holds this key. After an interrupted change of the key it holds another one."""
    try:
        text = paths.key_file.read_text("utf-8", "replace")
        return kind_of_key_file(text) is KeyKind.PASSPHRASE and read_fingerprint(text) == fingerprint(secret)
    except (FileNotFoundError, KeyUnusable):  # a damaged one must not go to the target
        return False


def upload_key_file(session: Session) -> bool:
    """Upload this machine's key file, where it can open the newest snapshot; whether it can.

    Beside snapshots that older keys sealed it would be of no use, and it would replace their key file. Raises what
    open_chain() raises.
    """
    chain = open_chain(session)
    is_useful = not chain.entries or chain.can_continue(session.secret)
    if is_useful:
        update_key_file(session, chain.backend)
    return is_useful


def update_key_file(session: Session, backend: Backend) -> bool:
    """Upload this machine's key file, where there is one and the target has another; whether it did.

    The newest snapshot at the target, if there is any, must be sealed with this key. Raises what the target raises.
    """
    if not has_passphrase(session.paths, session.secret):
        return False
    content = session.paths.key_file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    known = backend.stat(KEY)
    if known and known.size == len(content) and sha256 == (known.sha256 or _read_digest(backend)):
        return False
    upload_object(backend, KEY, session.paths.key_file)
    is_away = is_target_elsewhere(session.paths, session.config)
    name = fingerprint(session.secret)
    note_copy(
        session.paths.key_copies,
        KeyCopy(backend.address, str(KeyKind.PASSPHRASE), name, session.clock(), is_away=is_away),
    )
    log.info("uploaded the key file to %s", backend.address)
    return True


def is_target_elsewhere(paths: Paths, config: Config) -> bool:
    """Whether the target outlives this machine."""
    address = parse_url(config.target)
    return address.scheme != "file" or is_elsewhere(Path(address.path), (Path("/"), paths.state))


def _read_digest(backend: Backend) -> str:
    try:
        return hashlib.sha256(backend.read(KEY, LONGEST_KEY_FILE)).hexdigest()
    except TargetDamaged:
        return ""  # it is replaced, whatever it is
