"""The chain of this machine's snapshots: the entries at the target, and the metadata of the newest, kept here."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree
from tklb.base.measure import format_count
from tklb.config.paths import Paths
from tklb.errors import KeyUnusable, TargetForeign
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import authentication_key, key_name
from tklb.ledger.installation import read_installation
from tklb.ledger.leader import check_leader
from tklb.ledger.place import Place
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import finish_minted, follow_lineage, has_minted, plan_place
from tklb.ledger.turn import TargetTurn, hold_turn
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.session import Session
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.storage.backend import Backend
from tklb.storage.kinds import open_backend

_NAMED = 20  # ignored objects that the log names
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """The target with its ledger entries, oldest first, and the place of the next one.

    `installation` is this one, which seals it; `excuses_lost`: entries may be gone, and the next one will excuse them.
    """

    backend: Backend
    entries: tuple[LedgerEntry, ...]
    ledger: Ledger
    place: Place
    installation: str
    excuses_lost: bool = False

    @property
    def head(self) -> LedgerEntry | None:
        """The entry of the newest snapshot."""
        return self.entries[-1] if self.entries else None

    @property
    def uncertain(self) -> frozenset[bytes]:
        """Paths of which the newest snapshot has other content than its metadata says: changed or lost in reading."""
        head = self.head
        return frozenset(
            (*(path for path, _ in head.changed_while_read), *(item.item for item in head.skipped)) if head else ()
        )

    @property
    def volume_names(self) -> frozenset[str]:
        """The names of all volumes that a ledger entry names."""
        return frozenset(self.ledger.volumes)

    def can_continue(self, secret: Secret) -> bool:
        """Whether the newest snapshot was sealed with this very key: a chain never has two keys."""
        return self.head is not None and self.head.key == key_name(authentication_key(secret))

    def older_secrets(self, secret: Secret) -> tuple[Secret, ...]:
        """The secrets that an entry sealed with `secret` hands on, so that it alone opens the earlier snapshots."""
        own = key_name(authentication_key(secret))
        used = sorted({entry.key for entry in self.entries} - {own})
        return tuple(self.ledger.secrets[key] for key in used)

    def prepare_last_metadata(self, paths: Paths) -> Path | None:
        """Give the folder with the metadata of the newest snapshot; None where there is no snapshot.

        A run that was killed after its seal left the metadata in the folder it was written in. A machine may lack it,
        as after the restore of an older snapshot. Then the folder is empty: every file counts as new and is read, and
        the engine, which compares contents, stores only the difference from the newest snapshot.
        """
        head = self.head
        if head is None:
            return None
        for left in (paths.stage, paths.pending_upload / "stage"):
            if _is_metadata_of(head, left):
                keep_metadata(paths, left)
        if not _is_metadata_of(head, paths.last):
            log.info("the metadata kept here is not that of snapshot %s: every file is read", head.snapshot)
            remove_tree(paths.last)
            private_folder(paths.last)
        return paths.last


def open_chain(session: Session, *, excuses_lost: bool = False) -> Chain:
    """Read the ledger of the target, and finish the seal that a run was interrupted in.

    Raises TargetDamaged where it has problems, TargetForeign where the snapshots are those of another machine, and
    TakenOver where another installation of this machine continues them.
    """
    chain = read_chain(session, excuses_lost=excuses_lost)
    check_leader(chain.ledger, chain.installation)
    follow_lineage(session.paths.ledger, chain.ledger)
    if not has_minted(chain.backend, session.paths.ledger):
        return chain
    with hold_target(session, chain):
        is_finished = finish_minted(chain.backend, session.secret, session.paths.ledger, chain.ledger)
    return read_chain(session, excuses_lost=excuses_lost) if is_finished else chain


@contextmanager
def hold_target(session: Session, chain: Chain) -> Iterator[None]:
    """Have the turn to write at the target while the block runs. Raises TakenOver where another installation has it."""
    ledger = chain.ledger
    turn = TargetTurn(ledger.writer.number if ledger.writer else 0, chain.installation)
    with hold_turn(chain.backend, session.secret, session.paths.ledger, ledger, turn, time.sleep):
        yield


def read_chain(session: Session, *, excuses_lost: bool = False) -> Chain:
    """Read the ledger of the target, whoever continues it. Raises TargetDamaged and TargetForeign like open_chain()."""
    backend = open_backend(session.config.target, session.config, session.paths.regions)
    folder = session.paths.ledger
    try:
        ledger = read_ledger(backend, session.secret, folder, session.older)
    except KeyUnusable as exc:
        raise TargetForeign(address=backend.address, owner="another key") from exc
    ledger.check(excuses_lost=excuses_lost)
    entries = ledger.entries
    if entries and entries[-1].host != session.host:
        raise TargetForeign(address=backend.address, owner=f"another machine, {entries[-1].hostname}")
    newest = f", the newest is snapshot {entries[-1].snapshot}" if entries else ""
    log.info("read %s at %s%s", format_count(len(entries), "ledger entry", "ledger entries"), backend.address, newest)
    for name, why in sorted(ledger.foreign.items())[:_NAMED]:
        log.warning("%s at %s is ignored: %s", name, backend.address, why)
    installation = read_installation(session.paths.installation, os.urandom)
    return Chain(backend, entries, ledger, plan_place(ledger, folder), installation, excuses_lost)


def _is_metadata_of(entry: LedgerEntry, folder: Path) -> bool:
    return folder.is_dir() and metadata.digest(folder) == entry.content_digest
