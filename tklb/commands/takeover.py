"""Make this installation the one that continues the history at the target."""

import logging

from tklb.backup.chain import read_chain
from tklb.base.fs import run_lock
from tklb.errors import TakenOver
from tklb.lazy_dataclass import dataclass
from tklb.ledger.leader import check_leader, find_leader
from tklb.ledger.takeover import record_takeover
from tklb.ledger.turn import has_turns
from tklb.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Takeover:
    """`after` is the newest snapshot, "" for none; `reason` says who led before, "" where this machine did."""

    address: str
    installation: str
    after: str
    reason: str = ""
    is_new: bool = True


def take_over_lineage(session: Session) -> Takeover:
    """Record that this installation goes on, unless it leads already. Raises what open_chain() raises but TakenOver."""
    with run_lock(session.paths.lock):
        chain = read_chain(session)
        own, after = chain.installation, chain.head.snapshot if chain.head else ""
        try:
            check_leader(chain.ledger, own)
            if find_leader(chain.ledger) == own and not has_turns(chain.ledger):
                log.info("this installation leads already at %s", chain.backend.address)
                return Takeover(chain.backend.address, own, after, is_new=False)
            reason = ""
        except TakenOver as exc:
            reason = str(exc.facts["reason"])
        folder = session.paths.ledger
        record_takeover(chain.backend, session.secret, folder, chain.ledger, own, session.clock(), "takeover")
        check_leader(read_chain(session).ledger, own)
        return Takeover(chain.backend.address, own, after, reason)
