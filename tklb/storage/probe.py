"""Find out early whether a target works: upload, stat, read back, delete, and compare the clocks.

Takes a backend, the clock and chance; leaves nothing there that it may delete. It works with small objects
`ledger/probe-…`. No reader of the ledger takes those for entries. What it finds out about deletions is remembered, so
that nobody tries in vain for ever.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from tklb.base.json import read_state, write_state
from tklb.errors import AccessRefused, TargetDamaged, TargetUnfit
from tklb.lazy_dataclass import dataclass
from tklb.model.target import Permanence
from tklb.storage.backend import LEDGER, PROBE, VOLUMES, Backend, StoredObject, is_name
from tklb.storage.upload import create_object

_LONGEST = 1024
_FORGOTTEN = timedelta(hours=1)  # a probe that is older was left by a run that was killed
TOLERATED_SKEW = timedelta(minutes=1)
_FACTS = {
    Permanence.VERSIONED: "the target is versioned: what tklb deletes stays, until a rule of the bucket removes it",
    Permanence.APPEND_ONLY: "the target is append-only, it lets tklb delete nothing",
    Permanence.LOCKED: "the target is locked: nothing there can be deleted before its retention ends",
}
Answered = TypeVar("Answered")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TargetTraits:
    """What this machine has found out about the target at `address`; `permanence` is None before it tried.

    `left` are volumes of killed runs that may not be deleted, and that a run has reported.
    """

    address: str
    permanence: Permanence | None = None
    left: tuple[str, ...] = ()

    @property
    def is_write_once(self) -> bool:
        return self.permanence is not None and self.permanence.is_write_once


class TargetNotes(NamedTuple):
    """Notes about a target that works: what is `odd` may be mended, `facts` are how it is."""

    odd: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    permanence: Permanence = Permanence.DELETABLE


class ProbeResult(NamedTuple):
    """`skew` is how far the clock of the target is ahead of ours; `refusal` is why it deletes nothing, or ""."""

    skew: timedelta
    permanence: Permanence = Permanence.DELETABLE
    refusal: str = ""


def read_traits(path: Path, address: str) -> TargetTraits:
    """Read what this machine knows of the target at an address."""
    nothing = TargetTraits(address)
    known = read_state(path, _parse_traits, nothing)
    return known if known.address == address else nothing


def _parse_traits(fields: list[Any]) -> TargetTraits:
    address, word, left = fields
    return TargetTraits(address, Permanence(word) if word else None, tuple(map(str, left)))


def remember_traits(path: Path, traits: TargetTraits) -> None:
    """Remember the traits of the target in use."""
    if read_traits(path, traits.address) != traits:
        word = traits.permanence.value if traits.permanence else ""
        write_state(path, [traits.address, word, list(traits.left)])


def check_target(backend: Backend, clock: Callable[[], datetime], path: Path | None = None) -> TargetNotes:
    """Use the target once in every way. Raises what is wrong with it; gives notes about the rest.

    `path` is the file where the traits of the target are remembered, if there is one.
    """
    with TemporaryDirectory(prefix="tklb-") as work:
        found = probe(backend, Path(work), clock, os.urandom)
    fact = _FACTS.get(found.permanence, "") + (f" ({found.refusal})" if found.refusal else "")
    log.info("tried every operation at %s; its clock differs by %s; %s", backend.address, abs(found.skew), fact)
    odd = describe_skew(found.skew)
    if path:
        remember_traits(path, replace(read_traits(path, backend.address), permanence=found.permanence))
    return TargetNotes((odd,) if odd else (), (fact,) if fact else (), found.permanence)


def recheck_target(backend: Backend, clock: Callable[[], datetime], path: Path) -> TargetNotes:
    """Use a target again that was tried before; `path` is the file of its traits.

    Where the target keeps what is deleted, nothing is written: each check would leave something there for ever.
    """
    traits = read_traits(path, backend.address)
    if traits.permanence not in (None, Permanence.DELETABLE):
        return TargetNotes(permanence=traits.permanence)
    return check_target(backend, clock, path)


def probe(backend: Backend, work: Path, clock: Callable[[], datetime], chance: Callable[[int], bytes]) -> ProbeResult:
    """Use a target once in every way; `work` is a private folder.

    A folder of this machine has the same clock. Raises AccessRefused with every right that is missing, TargetDamaged
    where the target does not give back what was uploaded, and what the backend raises.
    """
    content, attempts = chance(64), _Attempts(backend.address)
    names = [f"{PROBE}{chance(8).hex()}{suffix}" for suffix in ("", "-new")]
    source = work / "probe"
    source.write_bytes(content)
    began = clock()
    attempts.attempt(partial(backend.list, VOLUMES))
    attempts.attempt(partial(_delete_old_probes, backend, began))
    upload = partial(backend.upload, names[0], source, hashlib.sha256(content).hexdigest())
    is_there = attempts.attempt(upload) is not None
    ended, refusal, known = clock(), "", None
    try:
        if is_there:
            known = attempts.attempt(partial(_check_content, backend, names[0], work / "copy", content))
            attempts.attempt(partial(create_object, backend, names[1], source))
    finally:
        refusal = _delete(backend, names) if is_there else ""
    attempts.check()
    permanence = _find_permanence(known, refusal)
    if permanence is Permanence.DELETABLE and any(backend.stat(name) for name in names):
        raise TargetDamaged(address=backend.address, reason="what was deleted there is still there")
    skew = _skew(known.modified if known else None, began, ended) if backend.spool is None else timedelta(0)
    return ProbeResult(skew, permanence, refusal)


class _Attempts:
    """Operations that are tried one after the other: all rights that are missing are named together."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._missing: list[str] = []

    def attempt(self, act: Callable[[], Answered]) -> Answered | None:
        """Do something; None where a right is missing for it."""
        try:
            return act()
        except AccessRefused as exc:
            if exc.is_transient:
                raise
            self._missing.append(str(exc.facts.get("reason", "")))
            return None

    def check(self) -> None:
        """Raise AccessRefused where a right was missing."""
        if self._missing:
            raise AccessRefused(address=self._address, reason="; ".join(dict.fromkeys(self._missing)))


def _check_content(backend: Backend, name: str, copy: Path, content: bytes) -> StoredObject:
    """Read an object in every way; give what the target reports about it."""
    known = backend.stat(name)
    if known is None or known.size != len(content) or backend.read(name, _LONGEST) != content:
        raise TargetDamaged(address=backend.address, reason="what was written there did not come back")
    backend.download(name, copy)
    if copy.read_bytes() != content:
        raise TargetDamaged(address=backend.address, reason="what was written there did not come back")
    return known


def _find_permanence(known: StoredObject | None, refusal: str) -> Permanence:
    shown = known.permanence if known else None
    if shown is Permanence.LOCKED or not refusal:
        return shown or Permanence.DELETABLE
    return Permanence.APPEND_ONLY


def _delete(backend: Backend, names: Iterable[str]) -> str:
    """Delete the probes; give why the target refuses to delete anything, or ""."""
    try:
        for name in names:
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


def _delete_old_probes(backend: Backend, now: datetime) -> None:
    """Delete what killed runs left, as far as the target lets us."""
    names = [name for name, _ in backend.list(LEDGER) if name.startswith(PROBE) and is_name(name)]
    for name in names:
        known = backend.stat(name)
        if known and known.modified and now - known.modified > _FORGOTTEN and _delete(backend, (name,)):
            return
