"""The one installation that may continue a history. Pure.

Several machines can hold one key and one host id: the machine that was restored, and the old one that still runs; a
virtual machine and its clone. One of them seals. The others are refused once, and `tklb takeover` decides.
"""

from tklb.errors import TakenOver
from tklb.ledger.read import Ledger

_TAKEN = {"restore": "a restore onto another machine took over", "takeover": "another installation took over"}


def find_leader(ledger: Ledger) -> str:
    """The installation that continues the history of a target; "" where nobody has claimed that."""
    if ledger.writer:
        return ledger.writer.installation
    return ledger.entries[-1].installation if ledger.entries else ""


def check_leader(ledger: Ledger, installation: str) -> None:
    """Raise TakenOver where another installation than this one continues the history."""
    leader = find_leader(ledger)
    if leader and leader != installation:
        raise TakenOver(address=ledger.address, reason=_describe(ledger))
    head = ledger.entries[-1].sequence if ledger.entries else 0
    ahead = [entry for entry in ledger.strays if entry.sequence > head and entry.installation != installation]
    if ahead and not ledger.writer:
        raise TakenOver(address=ledger.address, reason=f"{ahead[-1].hostname} sealed snapshot {ahead[-1].snapshot}")


def _describe(ledger: Ledger) -> str:
    writer = ledger.writer
    if writer:
        after = f" after snapshot {writer.after}" if writer.after else ""
        return f"{_TAKEN.get(writer.why, _TAKEN['takeover'])}{after}, at {writer.time}"
    head = ledger.entries[-1]
    return f"{head.hostname} sealed the newest one, {head.snapshot}"
