"""The turn: the right of one installation to write the next entry, with its volumes, at a target.

Two installations can read one ledger at the same moment, and both be the one that continues it. Whoever has the turn
writes; the other one writes nothing. A turn is an object that only one of them can make, where the target can exclude
the other. Elsewhere each makes one of its own and lists: at least one of two sees the other. An interrupted run finds
its own turn again, and a takeover ends those of others. Touches `ledger/` on the target.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder
from tklb.errors import (
    AccessRefused,
    Interrupted,
    TakenOver,
    TargetDamaged,
    TargetUnfit,
    TargetUnreachable,
    TklbError,
)
from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import ENTRY_NAME, authentication_key
from tklb.ledger.read import Ledger
from tklb.ledger.writer import WRITER_NAME
from tklb.model.secret import Secret
from tklb.storage.backend import LEDGER, Backend, Creation
from tklb.storage.upload import create_object, upload_object

TURN_NAME = re.compile(r"ledger/turn-([0-9]{8})(?:-[0-9a-f]{8})?")
_LONGEST_TURN = 1 << 10
_PAUSE = 3.0  # seconds until one of two that met tries again
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TargetTurn:
    """The turn of `installation`. `takeover` is the number of the last takeover; 0 where nobody ever took over."""

    takeover: int
    installation: str

    @property
    def name(self) -> str:
        """The name of the object that only one installation can make."""
        return f"ledger/turn-{self.takeover:08}"

    @property
    def own_name(self) -> str:
        """The name of an object that no other installation makes."""
        return f"{self.name}-{self.installation[:8]}"


@contextmanager
def hold_turn(
    backend: Backend, secret: Secret, folder: Path, ledger: Ledger, turn: TargetTurn, pause: Callable[[float], object]
) -> Iterator[None]:
    """Have the turn while the block writes to the target, and give it back where the block ends well.

    Of two that meet, the one with the lower id tries once more after `pause`. A run that loses a distant target, or is
    interrupted there, keeps its turn, and the next one resumes. Raises TakenOver where another one has the
    turn, or has sealed or taken over since `ledger` was read, and what the target raises.
    """
    key = authentication_key(secret)
    content = _format_turn(turn, key)
    with fresh_folder(private_folder(folder) / "sealing") as work:
        (work / "turn").write_bytes(content)
        other = _take(backend, turn, work / "turn", key)
        if other and turn.installation < other.installation:
            pause(_PAUSE)
            other = _take(backend, turn, work / "turn", key)
    if other:
        raise TakenOver(address=backend.address, reason=f"installation {other.installation[:8]} is writing there now")
    names = [name for name, _ in backend.list(LEDGER)]
    try:
        _check_nobody_came(backend, ledger, names)
        yield
    except (TklbError, KeyboardInterrupt) as exc:
        is_cut_off = isinstance(exc, (TargetUnreachable, Interrupted, KeyboardInterrupt))
        if backend.spool is not None or not is_cut_off:  # a distant target would take its time
            _remove(backend, (name for name in (turn.name, turn.own_name) if _read_turn(backend, name, key) == turn))
        raise
    _remove(backend, (name for name in (*names, turn.name, turn.own_name) if _is_over(name, turn)))


def _take(backend: Backend, turn: TargetTurn, source: Path, key: bytes) -> TargetTurn | None:
    """Take the turn; gives None, or the turn of another installation. Then no object of this one is left."""
    holder = _read_turn(backend, turn.name, key)
    result = Creation.MADE if holder == turn else create_object(backend, turn.name, source)
    if result is Creation.EXISTS:
        holder = _read_turn(backend, turn.name, key)
        if holder and holder.installation != turn.installation:
            return holder
    if result is not Creation.MADE and _read_turn(backend, turn.own_name, key) != turn:
        upload_object(backend, turn.own_name, source)
    if result is Creation.UNSURE:  # both may have written it, so it says nothing
        _remove(backend, (turn.name,))
    own = turn.name if result is Creation.MADE else turn.own_name
    for name in (name for name, _ in backend.list(LEDGER) if name.startswith(turn.name) and name != own):
        other = _read_turn(backend, name, key)
        if other and other.installation != turn.installation:
            _remove(backend, (own,))
            return other
    return None


def _check_nobody_came(backend: Backend, ledger: Ledger, names: Iterable[str]) -> None:
    """Raise TakenOver where another installation took over, or sealed an entry, since the ledger was read."""
    for name in sorted(set(names) - ledger.names):
        if ENTRY_NAME.fullmatch(name) or WRITER_NAME.fullmatch(name):
            raise TakenOver(address=backend.address, reason=f"another installation wrote {name} meanwhile")


def has_turns(ledger: Ledger) -> bool:
    """Whether somebody had the turn when the ledger was read, since the last takeover."""
    number = ledger.writer.number if ledger.writer else 0
    turns = (match for name in ledger.names if (match := TURN_NAME.fullmatch(name)))
    return any(int(match[1]) >= number for match in turns)


def _is_over(name: str, turn: TargetTurn) -> bool:
    match = TURN_NAME.fullmatch(name)
    return match is not None and int(match[1]) <= turn.takeover


def _remove(backend: Backend, names: Iterable[str]) -> None:
    """Delete turns that are over. One that has to stay is in nobody's way."""
    try:
        for name in sorted(set(names)):
            backend.delete(name)
    except (AccessRefused, TargetUnfit, TargetUnreachable) as exc:
        log.info("a turn that is over stays at %s: %s", backend.address, exc)


def _format_turn(turn: TargetTurn, key: bytes) -> bytes:
    first = json.dumps([turn.takeover, turn.installation]).encode("ascii") + b"\n"
    return first + hmac.digest(key, b"turn" + first, hashlib.sha256).hex().encode("ascii") + b"\n"


def _read_turn(backend: Backend, name: str, key: bytes) -> TargetTurn | None:
    """The turn that an object is; None for one that is gone, or that no key of ours authenticates."""
    with suppress(TargetDamaged, ValueError, TypeError):
        content = backend.read(name, _LONGEST_TURN)
        takeover, installation = json.loads(content.partition(b"\n")[0])
        turn = TargetTurn(int(takeover), str(installation))
        if hmac.compare_digest(content, _format_turn(turn, key)) and name in (turn.name, turn.own_name):
            return turn
    return None
