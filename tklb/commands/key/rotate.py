"""Make a new key; the next backup starts a chain with it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from tklb.backup.chain import open_chain
from tklb.base.fs import run_lock
from tklb.base.measure import format_count
from tklb.config.paths import Paths
from tklb.crypto.protection import refuse_known_passphrase, write_protected_key
from tklb.crypto.secret import fingerprint, make_secret, write_older, write_secret
from tklb.errors import TklbError, UsageWrong
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.session import Session, open_session

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
        if passphrase is not None:
            refuse_known_passphrase(paths, passphrase, (session.secret, *session.older))
        snapshots, failure = _list_sealed(session)
        made = make_secret(random)
        write_older(paths.older_secrets, session.secret)
        if passphrase is not None:
            write_protected_key(paths, made, passphrase)
        write_secret(paths.secret, made)
        old, new = fingerprint(session.secret), fingerprint(made)
        log.info("made key %s; key %s is kept for %s", new, old, format_count(len(snapshots), "snapshot"))
        return Rotation(old, new, passphrase is not None, snapshots, failure)


def _list_sealed(session: Session) -> tuple[tuple[str, ...], TklbError | None]:
    try:
        return tuple(entry.snapshot for entry in open_chain(session).entries), None
    except TklbError as exc:
        log.info("the target did not list its snapshots: %s", exc)
        return (), exc
