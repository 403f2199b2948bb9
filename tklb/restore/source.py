"""Open a target with the right key, and read its ledger.

Nothing that the ledger does not name is used.
"""

from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_file import open_key, read_key_text
from tklb.crypto.secret import fingerprint, read_older, read_secret
from tklb.errors import KeyUnusable
from tklb.lazy_dataclass import dataclass
from tklb.ledger.read import Ledger, read_ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.session import TargetSession
from tklb.storage.backend import KEY, Backend
from tklb.storage.kinds import open_backend


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A key. `wrapped` is the key file of the target that it came from, "" where it came from elsewhere."""

    secret: Secret
    wrapped: str = ""


@dataclass(frozen=True, slots=True)
class UsedKey:
    """The key that opened a target, and how often the key of these snapshots was changed before it came."""

    fingerprint: str
    changes: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """A snapshot, where it is, and the keys.

    `secret` decrypts this snapshot; `current` seals from now on; `older` are the keys before that one. `wrapped` is
    the key file of the target if the passphrase opened it, else "": anybody can have written any other.
    """

    backend: Backend
    secret: Secret
    entry: LedgerEntry
    current: Secret
    older: tuple[Secret, ...] = ()
    wrapped: str = ""
    problems: tuple[str, ...] = ()  # of the rest of the ledger
    changes: int = 0  # of the key, before `current`

    @property
    def key(self) -> UsedKey:
        return UsedKey(fingerprint(self.current), self.changes)


def open_ledger(session: TargetSession) -> tuple[Backend, Ledger, OpenedKey]:
    """Give the target, its whole ledger, and the key. Raises what is wrong with key or target.

    The key is that of the key file; else that of this machine, unless it does not fit; else the one the target keeps.
    """
    paths, access = session.paths, session.access
    backend = open_backend(session.config.target, session.config, paths.regions)
    if access.key is not None:
        return _read_with(session, backend, OpenedKey(open_key(read_key_text(access.key), access.ask)))
    if access.by_passphrase or not paths.secret.exists():
        return _read_with(session, backend, _open_kept_key(session, backend))
    try:
        return _read_with(session, backend, OpenedKey(read_secret(paths.secret)))
    except KeyUnusable:
        if not _read_kept_key(backend):
            raise
    return _read_with(session, backend, _open_kept_key(session, backend))


def _read_with(session: TargetSession, backend: Backend, key: OpenedKey) -> tuple[Backend, Ledger, OpenedKey]:
    name, expected = fingerprint(key.secret), session.access.expected_key
    if expected and name != expected:
        raise KeyUnusable(reason=f"it is {name}, and {expected} was expected: an older key may have been put back")
    older = read_older(session.paths.older_secrets)
    return backend, read_ledger(backend, key.secret, session.paths.ledger, older, thorough=True), key


def _open_kept_key(session: TargetSession, backend: Backend) -> OpenedKey:
    """Open the key that the target keeps. It must have a passphrase: whoever can write there can replace it."""
    from tklb.crypto.key_encryption import decrypt_key

    text = _read_kept_key(backend)
    if not text:
        reason = f"this machine has none, --key was not given, and {backend.address} keeps none"
        raise KeyUnusable(reason=reason)
    return OpenedKey(decrypt_key(text, session.access.ask()), text)


def _read_kept_key(backend: Backend) -> str:
    """Give the key file of the target; "" where it keeps none."""
    if backend.stat(KEY) is None:
        return ""
    return backend.read(KEY, LONGEST_KEY_FILE).decode("utf-8", "replace")
