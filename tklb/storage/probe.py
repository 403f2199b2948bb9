"""Find out early whether a target works: upload, stat, read back, delete, and compare the clocks.

Takes a backend, the clock and chance; leaves nothing there. It works with a small object `ledger/probe-…`. No reader of
the ledger takes that for an entry.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tklb.errors import AccessRefused, TargetDamaged, TargetUnfit
from tklb.storage.backend import LEDGER, VOLUMES, Backend, is_name

_PREFIX = f"{LEDGER}probe-"
_LONGEST = 1024
_FORGOTTEN = timedelta(hours=1)  # a probe that is older was left by a run that was killed
TOLERATED_SKEW = timedelta(minutes=1)

log = logging.getLogger(__name__)


class TargetNotes(NamedTuple):
    """Notes about a target that works: what is `odd` may be mended, `facts` are how it is."""

    odd: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


def check_target(backend: Backend, clock: Callable[[], datetime]) -> TargetNotes:
    """Use the target once in every way. Raises what is wrong with it; gives notes about the rest."""
    facts: tuple[str, ...] = ()
    with TemporaryDirectory(prefix="tklb-") as work:
        try:
            skew = probe(backend, Path(work), clock, os.urandom)
        except _DeletesNothing as exc:
            skew, facts = exc.skew, (f"the target lets tklb delete nothing: {exc.reason}",)
    log.info(
        "tried every operation at %s; its clock differs by %s%s", backend.address, abs(skew), "; ".join(("", *facts))
    )
    odd = describe_skew(skew)
    return TargetNotes((odd,) if odd else (), facts)


class _DeletesNothing(Exception):
    """The target works, and refuses to delete: what an interrupted run leaves there stays."""

    def __init__(self, reason: str, skew: timedelta) -> None:
        super().__init__(reason)
        self.reason, self.skew = reason, skew


def probe(backend: Backend, work: Path, clock: Callable[[], datetime], chance: Callable[[int], bytes]) -> timedelta:
    """Use a target once in every way; `work` is a private folder. Gives how far its clock is ahead of ours.

    A folder of this machine has the same clock. Raises what the backend raises, and TargetDamaged where the target does
    not give back what was uploaded.
    """
    name, content = f"{_PREFIX}{chance(8).hex()}", chance(64)
    source = work / "probe"
    source.write_bytes(content)
    began = clock()
    backend.list(VOLUMES)
    if refusal := _delete_old_probes(backend, began):
        raise _DeletesNothing(refusal, timedelta(0))
    backend.upload(name, source, hashlib.sha256(content).hexdigest())
    ended = clock()
    try:
        known = backend.stat(name)
        if known is None or known.size != len(content) or backend.read(name, _LONGEST) != content:
            raise TargetDamaged(address=backend.address, reason="what was written there did not come back")
        _check_download(backend, name, work / "copy", content)
    finally:
        refusal = _delete(backend, name)
    skew = _skew(known.modified, began, ended) if backend.spool is None else timedelta(0)
    if refusal:
        raise _DeletesNothing(refusal, skew)
    if backend.stat(name) is not None:
        raise TargetDamaged(address=backend.address, reason="what was deleted there is still there")
    return skew


def _check_download(backend: Backend, name: str, copy: Path, content: bytes) -> None:
    backend.download(name, copy)
    if copy.read_bytes() != content:
        raise TargetDamaged(address=backend.address, reason="what was written there did not come back")


def _delete(backend: Backend, name: str) -> str:
    """Delete the probe; give why the target refuses to delete anything, or ""."""
    try:
        backend.delete(name)
    except (AccessRefused, TargetUnfit) as exc:
        return str(exc.facts.get("reason", ""))
    return ""


def describe_skew(skew: timedelta) -> str:
    """The warning about a difference of clocks; "" where it is small."""
    if abs(skew) <= TOLERATED_SKEW:
        return ""
    seconds = round(abs(skew).total_seconds())
    return f"the target's clock is {seconds} seconds {'ahead of' if skew > timedelta(0) else 'behind'} this machine's"


def _skew(modified: datetime | None, began: datetime, ended: datetime) -> timedelta:
    """Zero where the target may have written the object between `began` and `ended`."""
    if modified is None or began - timedelta(seconds=1) <= modified <= ended:
        return timedelta(0)
    return modified - began if modified < began else modified - ended


def _delete_old_probes(backend: Backend, now: datetime) -> str:
    """Delete what killed runs left; give why the target refuses to delete anything, or ""."""
    names = [name for name, _ in backend.list(LEDGER) if name.startswith(_PREFIX) and is_name(name)]
    for name in names:
        known = backend.stat(name)
        is_old = known and known.modified and now - known.modified > _FORGOTTEN
        if is_old and (refusal := _delete(backend, name)):
            return refusal
    return ""
