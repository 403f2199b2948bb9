"""From a sealed snapshot to a private folder of decoded files: check the seal, fetch, check every volume, decode.

Nothing the seal does not name is ever looked at. Decoding begins with the first volumes, while others still come.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tklb.config import load as configuration
from tklb.config.paths import Paths
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_file import open_key, read_key_text
from tklb.crypto.secret import read_older, read_secret
from tklb.errors import KeyUnusable, NotInitialised
from tklb.ledger.read import Ledger, read_ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.storage.backend import KEY, Backend
from tklb.storage.open import open_backend


def refuse_to_ask() -> Secret:
    """Who is asked for a passphrase where nobody can be."""
    raise KeyUnusable(reason="it needs a passphrase, and --passphrase-file was not given")


@dataclass(frozen=True, slots=True)
class TargetAccess:
    """How a target is found and opened.

    `ask` gives the passphrase and is called only where one is needed; with `by_passphrase` the key kept at the target
    is wanted, whatever key this machine has.
    """

    address: str | None = None  # the configured one
    key: Path | None = None
    ask: Callable[[], Secret] = refuse_to_ask
    by_passphrase: bool = False
    limit_rate: str = ""


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


def open_ledger(paths: Paths, access: TargetAccess) -> tuple[Backend, Ledger, OpenedKey]:
    """The target, all that its ledger has, and the key. Raises what is wrong with key or target.

    The key is that of the key file; else this machine's, unless it does not fit; else the one the target keeps.
    """
    config = configuration.load_or_default(paths)
    if access.address is None and access.key is None and not paths.toml.exists():
        raise NotInitialised(reason="it has no key and no target")
    config = replace(config, limit_rate=access.limit_rate or config.limit_rate)
    target = open_backend(config.target if access.address is None else access.address, config, paths.regions)
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
