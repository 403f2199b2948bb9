"""Choose the snapshot that the user named."""

from collections.abc import Iterable
from datetime import UTC, datetime

from tklb.crypto.secret import fingerprint
from tklb.errors import KeyUnusable, SnapshotUnknown
from tklb.ledger.read import Ledger
from tklb.model.snapshot import LedgerEntry, snapshot_time
from tklb.restore.open import SnapshotSource, open_ledger
from tklb.session import TargetSession

LATEST = "latest"


def select_snapshot(session: TargetSession, wanted: str) -> SnapshotSource:
    """Open the target and pick the snapshot. Raises what is wrong with key, target or snapshot."""
    target, ledger, opened = open_ledger(session)
    current = opened.secret
    if wanted == LATEST:
        _refuse_older_key(ledger)
        ledger.check()  # the damage may hide a newer one
    record = choose(ledger.entries, wanted, target.address)
    return SnapshotSource(
        target=target,
        secret=ledger.secrets[record.key],
        record=record,
        current=current,
        older=tuple(secret for secret in ledger.secrets.values() if fingerprint(secret) != fingerprint(current)),
        wrapped=opened.wrapped,
        problems=ledger.problems,
    )


def _refuse_older_key(ledger: Ledger) -> None:
    if ledger.later and ledger.entries:
        raise KeyUnusable(
            reason=f"{ledger.later} snapshots after {ledger.entries[-1].snapshot} were sealed with another key: give"
            " the newer key if it was changed, else somebody else wrote there; those before can be named one by one"
        )


def choose(records: Iterable[LedgerEntry], wanted: str, address: str) -> LedgerEntry:
    """Pick by id, by `latest`, or by a time: the newest snapshot not after it. Raises SnapshotUnknown."""
    known = list(records)
    if wanted == LATEST and known:
        return known[-1]
    for record in known:
        if record.snapshot == wanted:
            return record
    moment = _moment(wanted)
    if moment is not None:
        known = [record for record in known if record.time <= moment]
        if known and not _is_id(wanted):
            return known[-1]
    raise SnapshotUnknown(snapshot=wanted, address=address)


def _is_id(text: str) -> bool:
    try:
        snapshot_time(text)
    except ValueError:
        return False
    return True


def _moment(text: str) -> datetime | None:
    try:
        moment = snapshot_time(text) if _is_id(text) else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
