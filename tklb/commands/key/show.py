"""Show the key: its copies, and what older keys are still needed for. Changes nothing."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from tklb.backup.target_key import has_passphrase, is_target_elsewhere
from tklb.base.measure import format_count
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_copies import KeyCopy, read_copies
from tklb.crypto.key_file import KeyKind, read_fingerprint
from tklb.crypto.key_state import ANOTHER_KEY, NONE, THIS_KEY, UNKNOWN, KeysAtTarget, KeyState, OlderKey
from tklb.crypto.secret import fingerprint
from tklb.errors import TargetDamaged, TklbError
from tklb.ledger.read import read_ledger
from tklb.model.snapshot import snapshot_time
from tklb.session import Session
from tklb.storage.backend import KEY, Backend
from tklb.storage.kinds import open_backend

log = logging.getLogger(__name__)


def show_key(session: Session) -> KeyState:
    """Look at this machine and at the target; a target that does not answer is a problem, not a failure."""
    paths, name = session.paths, fingerprint(session.secret)
    there = KeysAtTarget(session.config.target)
    problems: list[str] = []
    try:
        there = _ask_target(session)
    except TklbError as exc:
        problems.append(f"the target could not be asked: {exc}")
    is_own = has_passphrase(paths, session.secret)
    if paths.key_file.exists() and not is_own:
        problems.append(
            "the key file here is not of this key, because a change of the key was interrupted: repeat"
            " `tklb key rotate`, or give this key a passphrase with `tklb key passphrase`"
        )
    elif is_own and there.key_file in (NONE, ANOTHER_KEY):
        problems.append("the key file here is not on the target yet: the next backup uploads it")
    known = {*map(fingerprint, session.older), *there.snapshots} - {name}
    return KeyState(
        fingerprint=name,
        made=_find_age(session, there.list_snapshots_of(name) or ()),
        has_passphrase=is_own,
        target=there.address,
        target_copy=there.key_file,
        copies=_list_copies(session, name, there),
        older=tuple(OlderKey(each, there.list_snapshots_of(each)) for each in sorted(known)),
        problems=tuple(problems),
    )


def _find_age(session: Session, snapshots: Iterable[str]) -> datetime:
    """Give the time when the key was made: that of its file, or of the first snapshot with it if that is earlier."""
    written = datetime.fromtimestamp(session.paths.secret.stat().st_mtime, UTC)
    return min((written, *map(snapshot_time, snapshots)))


def _ask_target(session: Session) -> KeysAtTarget:
    backend = open_backend(session.config.target, session.config)
    ledger = read_ledger(backend, session.secret, session.paths.ledger, session.older)
    names = {key: fingerprint(secret) for key, secret in ledger.secrets.items()}
    snapshots: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for entry in ledger.entries:
        snapshots[names[entry.key]] += (entry.snapshot,)
    log.info("read %s at %s", format_count(len(ledger.entries), "ledger entry", "ledger entries"), backend.address)
    return KeysAtTarget(backend.address, _compare_key_file(backend, fingerprint(session.secret)), snapshots)


def _compare_key_file(backend: Backend, name: str) -> str:
    if backend.stat(KEY) is None:
        return NONE
    try:
        text = backend.read(KEY, LONGEST_KEY_FILE).decode("utf-8", "replace")
    except TargetDamaged:
        return ANOTHER_KEY
    return THIS_KEY if read_fingerprint(text) == name else ANOTHER_KEY


def _list_copies(session: Session, name: str, there: KeysAtTarget) -> tuple[KeyCopy, ...]:
    """The copies that were noted; of the target, what it has now."""
    noted = [copy for copy in read_copies(session.paths.key_copies) if copy.fingerprint == name]
    if there.key_file == UNKNOWN:
        return tuple(noted)
    elsewhere = [copy for copy in noted if copy.where != there.address]
    if there.key_file != THIS_KEY:
        return tuple(elsewhere)
    known = next((copy for copy in noted if copy.where == there.address), None)
    time = known.time if known else None
    away = is_target_elsewhere(session.paths, session.config)
    return (*elsewhere, KeyCopy(there.address, str(KeyKind.PASSPHRASE), name, time, away))
