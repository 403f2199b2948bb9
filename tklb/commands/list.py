"""List the snapshots of the target."""

import logging

from tklb.base.measure import format_count
from tklb.ledger.read import Ledger, read_ledger
from tklb.session import Session
from tklb.storage.kinds import open_backend

log = logging.getLogger(__name__)


def list_snapshots(session: Session) -> Ledger:
    """Read the ledger: every sealed snapshot, oldest first, and what is wrong with the rest."""
    backend = open_backend(session.config.target, session.config, session.paths.regions)
    ledger = read_ledger(backend, session.secret, session.paths.ledger, session.older)
    log.info("read %s at %s", format_count(len(ledger.entries), "ledger entry", "ledger entries"), backend.address)
    return ledger
