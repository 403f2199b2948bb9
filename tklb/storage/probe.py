"""Find out early whether a target can be used: write, look, read back, delete, and compare the clocks.

Takes a target, the clock and chance; leaves nothing there. A small object `ledger/probe-…` is what it works with,
which no reader of the ledger takes for an entry.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from tklb.errors import TargetDamaged
from tklb.storage.backend import LEDGER, Backend, is_name

_PREFIX = f"{LEDGER}probe-"
_LONGEST = 1024
_FORGOTTEN = timedelta(hours=1)  # a probe that is older was left by a run that was killed
TOLERATED_SKEW = timedelta(minutes=1)


def probe(target: Backend, work: Path, clock: Callable[[], datetime], chance: Callable[[int], bytes]) -> timedelta:
    """Use the target once in every way; `work` is a private folder. Gives how far its clock is ahead of ours; a
    folder of this machine has no other.

    Raises what the target raises, TargetDamaged where it does not give back what it was given.
    """
    name, content = f"{_PREFIX}{chance(8).hex()}", chance(64)
    source = work / "probe"
    source.write_bytes(content)
    began = clock()
    target.put(name, source, hashlib.sha256(content).hexdigest())
    ended = clock()
    try:
        known = target.stat(name)
        if known is None or known.size != len(content) or target.read(name, _LONGEST) != content:
            raise TargetDamaged(address=target.address, reason="what was written there did not come back")
    finally:
        target.delete(name)
    if target.stat(name) is not None:
        raise TargetDamaged(address=target.address, reason="what was deleted there is still there")
    _forget_others(target, ended)
    return _skew(known.modified, began, ended) if target.spool is None else timedelta(0)


def describe_skew(skew: timedelta) -> str:
    """What to say of it; "" where it is small."""
    if abs(skew) <= TOLERATED_SKEW:
        return ""
    seconds = round(abs(skew).total_seconds())
    return f"the target's clock is {seconds} seconds {'ahead of' if skew > timedelta(0) else 'behind'} this machine's"


def _skew(modified: datetime | None, began: datetime, ended: datetime) -> timedelta:
    """Zero where the object can have been written in between."""
    if modified is None or began - timedelta(seconds=1) <= modified <= ended:
        return timedelta(0)
    return modified - began if modified < began else modified - ended


def _forget_others(target: Backend, now: datetime) -> None:
    for name, _ in target.list(LEDGER):
        if name.startswith(_PREFIX) and is_name(name):  # a listing is the server's word
            known = target.stat(name)
            if known and known.modified and now - known.modified > _FORGOTTEN:
                target.delete(name)
