"""Give the key a passphrase, or remove it: on this machine and at the target. No volume is changed."""

import logging

from tklb.backup.chain import open_chain
from tklb.backup.target_key import upload_key_file
from tklb.base.fs import run_lock, sync_folder
from tklb.config.paths import Paths
from tklb.crypto.key_copies import forget_copy
from tklb.crypto.protection import refuse_known_passphrase, write_protected_key
from tklb.crypto.secret import fingerprint
from tklb.errors import TargetDamaged, TklbError
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.session import open_session
from tklb.storage.backend import KEY

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassphraseChange:
    """The result of `key passphrase`. `failure`: why the target lacks the key file; the next backup uploads it."""

    fingerprint: str
    has_passphrase: bool
    address: str
    is_on_target: bool
    failure: TklbError | None = None


def set_passphrase(paths: Paths, clock: Clock, passphrase: Secret) -> PassphraseChange:
    """Encrypt the key with a passphrase: here first, then at the target.

    Raises what is wrong with this machine, and UsageWrong for the passphrase of an older key. A failure of the target
    is in the result.
    """
    with run_lock(paths.lock):
        session = open_session(paths, clock)
        name, address = fingerprint(session.secret), session.config.target
        refuse_known_passphrase(paths, passphrase, session.older)
        write_protected_key(paths, session.secret, passphrase)
        try:
            is_there = upload_key_file(session)
        except TklbError as exc:
            log.info("the target does not have the key file yet: %s", exc)
            return PassphraseChange(name, True, address, False, exc)
        log.info("the key file at %s %s", address, "has this passphrase" if is_there else "is that of another key")
        return PassphraseChange(name, True, address, is_there)


def remove_passphrase(paths: Paths, clock: Clock) -> PassphraseChange:
    """Delete the key file at the target, then on this machine. Raises what the target raises: then nothing changed."""
    with run_lock(paths.lock):
        session = open_session(paths, clock)
        backend = open_chain(session).backend
        backend.delete(KEY)
        if backend.stat(KEY) is not None:
            raise TargetDamaged(address=backend.address, reason=f"{KEY} is still there after it was deleted")
        log.info("deleted %s at %s", KEY, backend.address)
        forget_copy(paths.key_copies, backend.address)
        paths.key_file.unlink(missing_ok=True)
        sync_folder(paths.state)
        log.info("deleted %s", paths.key_file)
        return PassphraseChange(fingerprint(session.secret), False, session.config.target, False)
