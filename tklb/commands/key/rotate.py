"""Make a new key; the next backup starts a chain with it."""

import logging
from collections.abc import Callable

from tklb.backup.chain import open_chain
from tklb.base.fs import run_lock
from tklb.base.measure import format_count
from tklb.config.paths import Paths
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_file import read_fingerprint
from tklb.crypto.protection import refuse_known_passphrase, write_protected_key
from tklb.crypto.secret import fingerprint, make_secret, write_older, write_secret
from tklb.errors import TklbError, UsageWrong
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import authentication_key, key_name
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.session import Session, open_session
from tklb.storage.backend import KEY

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """The result of `key rotate`. `snapshots` still need the old key; `failure`: why the target did not list them."""

    old: str
    new: str
    has_passphrase: bool
    snapshots: tuple[str, ...] = ()
    failure: TklbError | None = None


def rotate(paths: Paths, clock: Clock, random: Callable[[int], bytes], passphrase: Secret | None) -> Rotation:
    """Make a new key, and keep the old one for the snapshots before.

    Raises UsageWrong where the key has a passphrase and the new one would have none, or that of an older key.
    """
    with run_lock(paths.lock):
        session = open_session(paths, clock)
        if passphrase is None and paths.key_file.exists():
            raise UsageWrong(reason="this key has a passphrase: give one for the new key too")
        snapshots, is_used, failure = _ask_target(session)
        if passphrase is not None:
            refuse_known_passphrase(paths, passphrase, (session.secret, *session.older) if is_used else session.older)
        made = make_secret(random)
        write_older(paths.older_secrets, session.secret)
        if passphrase is not None:
            write_protected_key(paths, made, passphrase)
        write_secret(paths.secret, made)
        old, new = fingerprint(session.secret), fingerprint(made)
        log.info("made key %s; key %s is kept for %s", new, old, format_count(len(snapshots), "snapshot"))
        return Rotation(old, new, passphrase is not None, snapshots, failure)


def _ask_target(session: Session) -> tuple[tuple[str, ...], bool, TklbError | None]:
    """List the snapshots, and say whether the present key was ever in use there.

    It was not if an interrupted change of the key made it: then no one else can have its key file.
    """
    name = key_name(authentication_key(session.secret))
    try:
        chain = open_chain(session)
        kept = chain.backend.read(KEY, LONGEST_KEY_FILE) if chain.backend.stat(KEY) else b""
        is_used = read_fingerprint(kept.decode("utf-8", "replace")) == fingerprint(session.secret)
        is_used = is_used or not chain.entries or any(entry.key == name for entry in chain.entries)
        return tuple(entry.snapshot for entry in chain.entries), is_used, None
    except TklbError as exc:
        log.info("the target did not list its snapshots: %s", exc)
        return (), True, exc
