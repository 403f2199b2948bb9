"""The chain of this machine's snapshots: what the target has, and the records of the newest that are kept here."""

import logging
from dataclasses import dataclass
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree
from tklb.config.paths import Paths
from tklb.errors import KeyUnusable, TargetForeign
from tklb.ledger.entry import authentication_key, key_name
from tklb.ledger.read import Ledger, read_ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.storage.backend import Backend
from tklb.storage.open import open_backend

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the target has: its sealed snapshots, oldest first."""

    target: Backend
    entries: tuple[LedgerEntry, ...]
    ledger: Ledger

    @property
    def head(self) -> LedgerEntry | None:
        return self.entries[-1] if self.entries else None

    @property
    def doubtful(self) -> frozenset[bytes]:
        """What the newest snapshot has otherwise than its records say: changed, torn or lost while being read."""
        head = self.head
        return frozenset((*(path for path, _ in head.amended), *(item.item for item in head.skipped)) if head else ())

    @property
    def sealed(self) -> frozenset[str]:
        """The names of all volumes that count."""
        return frozenset(self.ledger.volumes)

    def continues(self, secret: Secret) -> bool:
        """Whether the newest snapshot was sealed with this very key: there are never two keys in one chain."""
        return self.head is not None and self.head.key == key_name(authentication_key(secret))

    def older_secrets(self, secret: Secret) -> tuple[Secret, ...]:
        """What an entry sealed with `secret` must hand on, so that the snapshots before can be read with it alone."""
        own = key_name(authentication_key(secret))
        used = sorted({record.key for record in self.entries} - {own})
        return tuple(self.ledger.secrets[key] for key in used)

    def last_records(self, paths: Paths) -> Path | None:
        """The folder with the records of the newest snapshot; None where there is none yet.

        A run that was killed between its seal and its tidying left them in the stage. A machine that has not got them,
        as after the restore of an older snapshot, gets an empty folder: then every file counts as new and is read,
        and the engine, which compares contents, stores what differs from the newest snapshot.
        """
        head = self.head
        if head is None:
            return None
        for left in (paths.stage, paths.pending / "stage"):
            if _holds(left, head):
                keep_metadata(paths, left)
        if not _holds(paths.last, head):
            log.info("the records kept here are not those of %s: every file is compared with it", head.snapshot)
            remove_tree(paths.last)
            private_folder(paths.last)
        return paths.last


def open_chain(setting: Session) -> Chain:
    """Read the ledger of the target. Raises TargetDamaged; TargetForeign: another machine's snapshots are there."""
    target = open_backend(setting.config.target, setting.config, setting.paths.regions)
    try:
        ledger = read_ledger(target, setting.secret, setting.paths.ledger, setting.older)
    except KeyUnusable as exc:
        raise TargetForeign(address=target.address, owner="another key") from exc
    ledger.check()
    records = ledger.entries
    if records and records[-1].host != setting.host:
        raise TargetForeign(address=target.address, owner=f"another machine, {records[-1].hostname}")
    return Chain(target, records, ledger)


def _holds(folder: Path, record: LedgerEntry) -> bool:
    return folder.is_dir() and metadata.digest(folder) == record.content_digest
