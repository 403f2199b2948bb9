"""Choose the snapshot that the user named."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from tklb.base.measure import format_count
from tklb.crypto.secret import fingerprint, read_older
from tklb.errors import KeyUnusable, SnapshotUnknown, TargetDamaged
from tklb.ledger.order import sequence_in, snapshot_in
from tklb.ledger.read import Ledger
from tklb.model.secret import Secret
from tklb.model.snapshot import LedgerEntry, snapshot_time
from tklb.model.volume_names import snapshot_of_volume
from tklb.restore.source import SnapshotSource, open_ledger
from tklb.session import TargetSession
from tklb.storage.backend import Backend
from tklb.storage.check import list_sizes

LATEST = "latest"
NAMED = 5  # ignored objects that are named
log = logging.getLogger(__name__)


def select_snapshot(session: TargetSession, wanted: str) -> SnapshotSource:
    """Open the target and pick the snapshot. Raises what is wrong with key, target or snapshot."""
    target, ledger, opened = open_ledger(session)
    current = opened.secret
    if wanted == LATEST:
        _refuse_older_key(session, ledger, current)
        check_newest(target, ledger)
    entry = choose(ledger.entries, wanted, target.address, ledger.strays)
    age = timedelta(seconds=int((session.clock() - entry.time).total_seconds()))
    log.info("selected snapshot %s, entry %d of %s, age %s", entry.snapshot, entry.sequence, target.address, age)
    return SnapshotSource(
        backend=target,
        secret=ledger.secrets[entry.key],
        entry=entry,
        current=current,
        older=tuple(secret for secret in ledger.secrets.values() if fingerprint(secret) != fingerprint(current)),
        wrapped=opened.wrapped,
        problems=(*ledger.problems, *describe_ignored(ledger)),
        changes=len({entry.key for entry in ledger.entries}) - 1,
    )


def _refuse_older_key(session: TargetSession, ledger: Ledger, secret: Secret) -> None:
    known = map(fingerprint, read_older(session.paths.older_secrets))
    if fingerprint(secret) in known:
        raise KeyUnusable(
            reason=f"this machine replaced {fingerprint(secret)} by a newer key: whoever kept the older one may have"
            " written the latest snapshots; those before the change can be named one by one"
        )
    if ledger.later and ledger.entries:
        raise KeyUnusable(
            reason=f"{ledger.later} snapshots after {ledger.entries[-1].snapshot} were sealed with another key: give"
            " the newer key if it was changed, else somebody else wrote there; those before can be named one by one"
        )


def describe_ignored(ledger: Ledger) -> Iterator[str]:
    """Say what lies under the names of entries and is ignored: the first of it, and how much more."""
    ignored = sorted(ledger.foreign.items())
    yield from (f"{name} is ignored: {why}" for name, why in ignored[:NAMED])
    if len(ignored) > NAMED:
        yield f"{format_count(len(ignored) - NAMED, 'more object')} beside the entries ignored"


def check_newest(target: Backend, ledger: Ledger) -> None:
    """Raise TargetDamaged where a newer snapshot than the newest one was lost.

    It was if this machine saw its entry, or if something lies in the place of an entry and volumes of that snapshot are
    there. Anything else in such a place is rubbish, and hides nothing. What was lost before stops no restore.
    """
    newest = ledger.entries[-1].sequence if ledger.entries else 0
    later = [name for name in ledger.foreign if sequence_in(name) > newest]
    made = {snapshot_of_volume(name) for name in list_sizes(target)} if later else set()
    made -= {entry.snapshot for entry in ledger.snapshots}
    hidden = [f"{name}: {ledger.foreign[name]}" for name in sorted(later) if snapshot_in(name) in made]
    if lost := (*hidden, *(ledger.problems if ledger.is_set_back else ())):
        raise TargetDamaged(address=ledger.address, reason="; ".join(lost[:3]))


def choose(
    entries: Iterable[LedgerEntry], wanted: str, address: str, strays: Iterable[LedgerEntry] = ()
) -> LedgerEntry:
    """Pick by id, by `latest`, or by a time: the newest snapshot not after it. Raises SnapshotUnknown.

    Only its id picks one of the `strays`.
    """
    known = list(entries)
    if wanted == LATEST and known:
        return known[-1]
    for entry in (*known, *strays):
        if entry.snapshot == wanted:
            return entry
    moment = _parse_time(wanted)
    if moment is not None:
        known = [entry for entry in known if entry.time <= moment]
        if known and not _is_id(wanted):
            return known[-1]
    raise SnapshotUnknown(snapshot=wanted, address=address)


def _is_id(text: str) -> bool:
    try:
        snapshot_time(text)
    except ValueError:
        return False
    return True


def _parse_time(text: str) -> datetime | None:
    try:
        moment = snapshot_time(text) if _is_id(text) else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
