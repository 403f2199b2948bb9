"""From a sealed snapshot to a private folder of decoded files: check the seal, fetch, check every volume, decode.

Nothing the seal does not name is ever looked at. Decoding begins with the first volumes, while others still come.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_file import open_key, read_key_text
from tklb.crypto.secret import read_older, read_secret
from tklb.errors import KeyUnusable
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
class SnapshotSource:
    """Where a snapshot comes from, and what opens it: `secret`. `current` is the key that seals from now on.

    `older` are the keys before; `wrapped` is the key file that the target keeps, where the passphrase
    opened it, else "": what nobody opened may be anybody's.
    """

    target: Backend
    secret: Secret
    record: LedgerEntry
    current: Secret
    older: tuple[Secret, ...] = ()
    wrapped: str = ""
    problems: tuple[str, ...] = ()  # what is wrong with the rest of the ledger


def open_ledger(session: TargetSession) -> tuple[Backend, Ledger, OpenedKey]:
    """The target, all that its ledger has, and the key. Raises what is wrong with key or target.

    The key is that of the key file; else this machine's, unless it does not fit; else the one the target keeps.
    """
    paths, access = session.paths, session.access
    target = open_backend(session.config.target, session.config, paths.regions)
    older = read_older(paths.older_secrets)

    def read(key: OpenedKey) -> tuple[Backend, Ledger, OpenedKey]:
        return target, read_ledger(target, key.secret, paths.ledger, older, thorough=True), key

    if access.key is not None:
        return read(OpenedKey(open_key(read_key_text(access.key), access.ask)))
    if paths.secret.exists() and not access.by_passphrase:
        try:
            return read(OpenedKey(read_secret(paths.secret)))
        except KeyUnusable:
            if not _kept_at(target):
                raise
    return read(_opened_at(target, access.ask))


def _opened_at(target: Backend, ask: Callable[[], Secret]) -> OpenedKey:
    """The key that the target keeps: only by a passphrase, for whoever can write there could put another there."""
    from tklb.crypto.key_encryption import decrypt_key

    text = _kept_at(target)
    if not text:
        reason = f"this machine has none, --key was not given, and {target.address} keeps none"
        raise KeyUnusable(reason=reason)
    return OpenedKey(decrypt_key(text, ask()), text)


def _kept_at(target: Backend) -> str:
    if target.stat(KEY) is None:
        return ""
    return target.read(KEY, LONGEST_KEY_FILE).decode("utf-8", "replace")
