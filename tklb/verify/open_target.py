"""Open the target that is verified, even where no entry of its ledger is whole."""

from pathlib import Path

from tklb.config.paths import Paths
from tklb.crypto.secret import read_secret
from tklb.errors import SnapshotUnknown, TargetDamaged
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import authentication_key, key_name
from tklb.ledger.read import Ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry
from tklb.restore.select import LATEST, choose
from tklb.restore.source import open_ledger
from tklb.session import TargetSession
from tklb.storage.backend import Backend
from tklb.storage.copies import CopySources
from tklb.storage.kinds import open_backend
from tklb.verify.result import Depth, VerifyRequest


@dataclass(frozen=True, slots=True)
class Verification:
    """One run of `tklb verify` against one target. `work` is a private folder, `copies` the places of whole copies."""

    session: TargetSession
    request: VerifyRequest
    work: Path
    backend: Backend
    ledger: Ledger
    copies: CopySources

    def select_entries(self, lost: frozenset[str]) -> tuple[LedgerEntry, ...]:
        """The entries of the snapshots in question; one of the `lost` snapshots has none. Raises SnapshotUnknown."""
        wanted, entries = self.request.snapshot, self.ledger.entries
        if wanted is None and self.request.depth is Depth.LIVE:
            wanted = LATEST
        if wanted is None:
            return self.ledger.snapshots
        try:
            return (choose(entries, wanted, self.backend.address, self.ledger.strays),)
        except SnapshotUnknown:
            if wanted in lost or (wanted == LATEST and lost):
                return ()
            raise

    def list_snapshots(self, entries: tuple[LedgerEntry, ...], lost: frozenset[str]) -> tuple[str, ...]:
        """The snapshots in question, also those without a readable entry: of another key, or with a damaged entry."""
        wanted, known = self.request.snapshot, {entry.snapshot for entry in entries}
        if wanted is None and self.request.depth is not Depth.LIVE:
            known |= lost | {one.snapshot for one in self.ledger.closed}
        elif not entries:
            known |= lost if wanted in (None, LATEST) else lost & {wanted}
        return tuple(sorted(known))


def open_target(session: TargetSession, request: VerifyRequest, work: Path) -> Verification:
    """Read the ledger. Raises what is wrong with key or address; a damaged ledger is part of the result."""
    paths, config = session.paths, session.config
    try:
        backend, ledger, _ = open_ledger(session)
    except TargetDamaged as exc:  # no entry is whole: the result says so in full
        backend = open_backend(config.target, config)
        ledger = Ledger(backend.address, problems=(str(exc.facts["reason"]),), secrets=_read_own_secret(paths))
    spares = () if request.spare is None else (open_backend(request.spare, config),)
    copies = CopySources((paths.spool,), spares, paths.ledger, paths.key_file if session.access.is_own else None)
    return Verification(session, request, work, backend, ledger, copies)


def _read_own_secret(paths: Paths) -> dict[str, Secret]:
    if not paths.secret.exists():
        return {}
    secret = read_secret(paths.secret)
    return {key_name(authentication_key(secret)): secret}
