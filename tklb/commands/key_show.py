"""What there is to say of the key: its copies, and what older keys are still needed for. Changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tklb.backup.target_key import has_passphrase, is_target_elsewhere
from tklb.crypto.armor import LONGEST_KEY_FILE
from tklb.crypto.key_copies import KeyCopy, read_copies
from tklb.crypto.key_file import KeyKind, read_fingerprint
from tklb.crypto.secret import fingerprint
from tklb.errors import TargetDamaged, TklbError
from tklb.ledger.read import read_ledger
from tklb.session import Session
from tklb.storage.backend import KEY, Backend
from tklb.storage.kinds import open_backend


@dataclass(frozen=True, slots=True)
class OlderKey:
    """A key before the present one, and the snapshots that only it opens; None where the target could not be asked."""

    fingerprint: str
    snapshots: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class KeyState:
    """`copies` are of the present key. `target_copy` is a word for what lies there: none, this key, another key, ?."""

    fingerprint: str
    made: datetime
    has_passphrase: bool
    target: str
    target_copy: str
    copies: tuple[KeyCopy, ...]
    older: tuple[OlderKey, ...]
    problems: tuple[str, ...] = ()

    @property
    def has_left(self) -> bool:
        """Whether a copy is known to be anywhere but on this machine."""
        return any(copy.is_away for copy in self.copies)


UNKNOWN, NONE, THIS_KEY, ANOTHER_KEY = "?", "none", "this key", "another key"


def key_state(setting: Session) -> KeyState:
    """Look at what is here and at the target; a target that cannot be asked is a problem, not a failure."""
    paths, name = setting.paths, fingerprint(setting.secret)
    there = _There(setting.config.target)
    problems: list[str] = []
    try:
        there = _look(setting)
    except TklbError as exc:
        problems.append(f"the target could not be asked: {exc}")
    is_own = has_passphrase(paths, setting.secret)
    if paths.key_file.exists() and not is_own:
        problems.append(
            "the key file here is not of this key, as a change of the key was cut off: repeat `tklb key rotate`,"
            " or give this key a passphrase with `tklb key passphrase`"
        )
    elif is_own and there.found in (NONE, ANOTHER_KEY):
        problems.append("the key file here is not on the target yet: the next backup brings it there")
    known = {*map(fingerprint, setting.older), *there.snapshots} - {name}
    return KeyState(
        fingerprint=name,
        made=datetime.fromtimestamp(paths.secret.stat().st_mtime, UTC),
        has_passphrase=is_own,
        target=there.address,
        target_copy=there.found,
        copies=_copies(setting, name, there),
        older=tuple(OlderKey(each, there.needing(each)) for each in sorted(known)),
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True)
class _There:
    """What is at the target: a word for the key file, and the snapshots of each key."""

    address: str
    found: str = UNKNOWN
    snapshots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def needing(self, name: str) -> tuple[str, ...] | None:
        return None if self.found == UNKNOWN else self.snapshots.get(name, ())


def _look(setting: Session) -> _There:
    target = open_backend(setting.config.target, setting.config)
    ledger = read_ledger(target, setting.secret, setting.paths.ledger, setting.older)
    names = {key: fingerprint(secret) for key, secret in ledger.secrets.items()}
    snapshots: dict[str, tuple[str, ...]] = {}
    for record in ledger.entries:
        name = names[record.key]
        snapshots[name] = (*snapshots.get(name, ()), record.snapshot)
    return _There(target.address, _on_target(target, fingerprint(setting.secret)), snapshots)


def _on_target(target: Backend, name: str) -> str:
    if target.stat(KEY) is None:
        return NONE
    try:
        text = target.read(KEY, LONGEST_KEY_FILE).decode("utf-8", "replace")
    except TargetDamaged:
        return ANOTHER_KEY
    return THIS_KEY if read_fingerprint(text) == name else ANOTHER_KEY


def _copies(setting: Session, name: str, there: _There) -> tuple[KeyCopy, ...]:
    """What was noted, but for the target what lies there."""
    noted = [copy for copy in read_copies(setting.paths.key_copies) if copy.fingerprint == name]
    if there.found == UNKNOWN:
        return tuple(noted)
    elsewhere = [copy for copy in noted if copy.where != there.address]
    if there.found != THIS_KEY:
        return tuple(elsewhere)
    known = next((copy for copy in noted if copy.where == there.address), None)
    time = known.time if known else setting.clock()
    away = is_target_elsewhere(setting.paths, setting.config)
    return (*elsewhere, KeyCopy(there.address, str(KeyKind.PASSPHRASE), name, time, away))
