"""What is damaged, exactly what that costs, and mending: the ledger first, then what it names, as deep as is asked.

Nothing is changed but what `mend` puts back. What is found is the result, and no failure.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import partial
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder, remove_tree, run_lock, write_atomic
from tklb.commands import restore
from tklb.config.paths import Paths
from tklb.crypto.secret import read_secret
from tklb.engine.duplicity import select_restore_volumes
from tklb.errors import COMPLETE, INCOMPLETE, ProgramFailed, SnapshotUnknown, TargetDamaged
from tklb.ledger.entry import authentication_key, key_name
from tklb.ledger.read import Ledger
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.model.secret import Secret
from tklb.model.snapshot import Kind, LedgerEntry, Volume
from tklb.restore.decode import decode
from tklb.restore.dumps import place_copies
from tklb.restore.open import SnapshotSource, open_ledger
from tklb.restore.select import LATEST, choose
from tklb.session import TargetSession
from tklb.storage.backend import VOLUMES, Backend
from tklb.storage.check import ObjectProblem, check_objects, find_unexpected
from tklb.storage.copies import CopySources
from tklb.storage.download import download
from tklb.storage.local import LocalBackend
from tklb.storage.open import open_backend
from tklb.verify.contents import check_contents
from tklb.verify.impact import LostFile, Problem, find_impact
from tklb.verify.ledger_check import check_key, check_ledger, label_of, snapshots_of
from tklb.verify.repair import repair
from tklb.verify.sample import Turn, take_share


class Depth(StrEnum):
    QUICK = "quick"  # one listing against the ledger
    HASH = "hash"  # the content of every volume
    DATA = "data"  # every snapshot decoded, and held against its own records
    LIVE = "live"  # one snapshot held against this machine


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """`percent` of the volumes are read where it is given; `spare` is an address that may have whole copies."""

    snapshot: str | None = None  # all of them
    depth: Depth = Depth.HASH
    percent: Fraction | None = None
    mend: bool = False
    spare: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found. `looked_at` are the snapshots in question, `read` the volumes whose content was looked at."""

    address: str
    depth: Depth
    newest: LedgerEntry | None
    looked_at: tuple[str, ...]
    volumes: int
    read: int
    read_bytes: int
    damages: tuple[Problem, ...] = ()
    differences: tuple[Step, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Whether nothing is lost: what no seal names costs nothing."""
        return all(damage.mended or damage.is_harmless for damage in self.damages)

    @property
    def whole(self) -> tuple[str, ...]:
        """The snapshots that no damage concerns."""
        broken = {snapshot for damage in self.damages if not damage.mended for snapshot in damage.snapshots}
        return tuple(snapshot for snapshot in self.looked_at if snapshot not in broken)

    @property
    def exit_status(self) -> int:
        if not self.is_ok:
            return TargetDamaged.code
        is_clean = all(damage.mended for damage in self.damages) and not (self.differences or self.skipped)
        return COMPLETE if is_clean else INCOMPLETE


@dataclass(frozen=True, slots=True)
class _Case:
    """One target under examination."""

    session: TargetSession
    request: VerifyRequest
    work: Path
    target: Backend
    ledger: Ledger
    copies: CopySources

    def mended(self, damages: Iterable[Problem]) -> tuple[Problem, ...]:
        put = self.request.mend and not self.request.dry_run
        return repair(self.target, self.ledger, damages, self.copies, self.work / "copy", put)


def verify(session: TargetSession, request: VerifyRequest) -> VerifyResult:
    """Look as deep as is asked.

    Raises what is wrong with key or address, SnapshotUnknown, and what a target raises that does not answer. Damage
    is a part of the result.
    """
    with run_lock(session.paths.lock):
        private_folder(session.paths.cache)
        with fresh_folder(session.paths.cache / "verify") as work:
            verdict = _looked(*_opened(session, request, work))
    if request.depth is Depth.LIVE and verdict.looked_at == verdict.whole:
        return _compared(session, request, verdict)
    return verdict


def _opened(session: TargetSession, request: VerifyRequest, work: Path) -> tuple[_Case, tuple[Problem, ...]]:
    """The ledger, which is mended to begin with, and what is wrong with it and with the key file."""
    case = _case(session, request, work)
    found = case.mended(check_ledger(case.target, case.ledger, session.paths.ledger))
    if any(damage.mended for damage in found):
        case = _case(session, request, work)
    if case.copies.key_file:
        found += case.mended(check_key(case.target, case.copies.key_file))
    return case, found


def _case(session: TargetSession, request: VerifyRequest, work: Path) -> _Case:
    paths, config = session.paths, session.config
    try:
        target, ledger, _ = open_ledger(session)
    except TargetDamaged as exc:  # no entry is whole: that is to be told in full
        target = open_backend(config.target, config)
        ledger = Ledger(target.address, problems=(str(exc.facts["reason"]),), secrets=_own_secret(paths))
    spares = () if request.spare is None else (open_backend(request.spare, config),)
    copies = CopySources((paths.spool,), spares, paths.ledger, paths.key_file if session.access.is_own else None)
    return _Case(session, request, work, target, ledger, copies)


def _own_secret(paths: Paths) -> dict[str, Secret]:
    if not paths.secret.exists():
        return {}
    secret = read_secret(paths.secret)
    return {key_name(authentication_key(secret)): secret}


def _looked(case: _Case, damages: tuple[Problem, ...]) -> VerifyResult:
    """Every volume in question by a listing, and those whose turn it is by content."""
    request, ledger, lost = case.request, case.ledger, snapshots_of(damages)
    records = _records(case, lost)
    volumes = _volumes(ledger, records, request.snapshot)
    due, turn = _due(case, volumes)
    problems = _problems(case, volumes, due)
    if request.snapshot is None:
        problems += tuple(
            one for one in find_unexpected(case.target, ledger.volumes) if label_of(one.volume) not in lost
        )
    problems = tuple(sorted(problems, key=lambda problem: problem.volume))
    damages += case.mended(find_impact(case.target, ledger, problems, case.work / "assess"))
    if turn and not request.dry_run:
        _remember(case, turn)
    verdict = VerifyResult(
        address=case.target.address,
        depth=request.depth,
        newest=ledger.entries[-1] if ledger.entries else None,
        looked_at=_looked_at(request, ledger, records, lost),
        volumes=len(volumes),
        read=len(due),
        read_bytes=sum(volume.size for volume in due),
        damages=damages,
    )
    return _decoded(case, records, verdict) if request.depth is Depth.DATA else verdict


def _records(case: _Case, lost: frozenset[str]) -> tuple[LedgerEntry, ...]:
    """The snapshots in question. One whose entry is damaged is known, and has no record."""
    wanted, records = case.request.snapshot, case.ledger.entries
    if wanted is None and case.request.depth is Depth.LIVE:
        wanted = LATEST
    if wanted is None:
        return records
    try:
        return (choose(records, wanted, case.target.address),)
    except SnapshotUnknown:
        if wanted in lost or (wanted == LATEST and lost):
            return ()
        raise


def _looked_at(
    request: VerifyRequest, ledger: Ledger, records: Sequence[LedgerEntry], lost: frozenset[str]
) -> tuple[str, ...]:
    """The snapshots in question, also those without a record: of another key, or with a damaged entry."""
    known = {record.snapshot for record in records}
    if request.snapshot is None and request.depth is not Depth.LIVE:
        known |= lost | {one.snapshot for one in ledger.closed}
    elif not records:
        known |= lost if request.snapshot in (None, LATEST) else lost & {request.snapshot}
    return tuple(sorted(known))


def _volumes(ledger: Ledger, records: Sequence[LedgerEntry], snapshot: str | None) -> tuple[Volume, ...]:
    """The volumes in question. No snapshot needs signatures: they are the chain's."""
    if snapshot is None:
        return tuple(sorted(ledger.volumes.values(), key=lambda volume: volume.name))
    return tuple(volume for record in records for volume in select_restore_volumes(record.volumes))


def _due(case: _Case, volumes: Sequence[Volume]) -> tuple[tuple[Volume, ...], Turn | None]:
    """The volumes whose content is to be read, and the turn of the rotation after that."""
    if case.request.depth in (Depth.QUICK, Depth.LIVE):
        return (), None
    if case.request.percent is None:
        return tuple(volumes), None
    share, turn = take_share((volume.name for volume in volumes), case.request.percent, _turn(case))
    names = frozenset(share)
    return tuple(volume for volume in volumes if volume.name in names), turn


def _problems(case: _Case, volumes: Sequence[Volume], due: Sequence[Volume]) -> tuple[ObjectProblem, ...]:
    problems = check_objects(case.target, volumes)
    bad = {problem.volume for problem in problems}
    rest = [volume for volume in due if volume.name not in bad]
    if not rest:
        return problems
    total = sum(volume.size for volume in rest)
    return problems + check_objects(
        case.target,
        rest,
        private_folder(case.work / "volumes"),
        lambda done: case.session.progress("checking", done, total),
        case.session.config.uploads,
    )


def _decoded(case: _Case, records: Sequence[LedgerEntry], verdict: VerifyResult) -> VerifyResult:
    """Decode what no damage concerns, one after the other, and hold it against its records."""
    whole = frozenset(verdict.whole)
    damages = [damage for record in records if record.snapshot in whole for damage in _examined(case, record)]
    closed = whole - {record.snapshot for record in records}
    skipped = (Skipped(snapshot.encode(), "the key it was sealed with is not at hand") for snapshot in sorted(closed))
    return replace(verdict, damages=(*verdict.damages, *damages), skipped=tuple(skipped))


def _near(case: _Case, record: LedgerEntry) -> Backend:
    """Where a snapshot is decoded from: a distant chain is fetched once, however many snapshots it has."""
    if case.target.spool is not None:
        return case.target
    folder = case.work / "near"
    if record.kind is Kind.FULL:
        remove_tree(folder)
    near = LocalBackend.make(folder)
    missing = [volume for volume in select_restore_volumes(record.volumes) if near.stat(VOLUMES + volume.name) is None]
    total = sum(volume.size for volume in missing)
    told = partial(case.session.progress, "fetching")
    download(case.target, missing, folder / VOLUMES, case.session.config.uploads, lambda done: told(done, total))
    return near


def _examined(case: _Case, record: LedgerEntry) -> Iterator[Problem]:
    secret = case.ledger.secrets[record.key]
    name = f"snapshot {record.snapshot}"
    with fresh_folder(case.work / "decoded") as work:
        try:
            source = SnapshotSource(_near(case, record), secret, record, current=secret)
            folders = decode(case.session, source, work)
            copies = place_copies(work, folders, folders[0] / record.stage)
            found = tuple(check_contents(folders, copies, record))
        except (TargetDamaged, ProgramFailed, ValueError, FileNotFoundError) as exc:
            yield Problem(name, "damaged", (record.snapshot,), exact=False, reason=f"it cannot be decoded: {exc}")
            return
    if found:
        losses = tuple(LostFile(one.path, (record.snapshot,), one.reason) for one in found)
        yield Problem(name, "damaged", (record.snapshot,), losses, reason="its files are not what its records say")


def _compared(session: TargetSession, request: VerifyRequest, verdict: VerifyResult) -> VerifyResult:
    """What a restore of the snapshot would do to this machine: that is how they differ."""
    wanted = restore.RestoreRequest(snapshot=verdict.looked_at[0])
    try:
        with restore.plan_restore(session, wanted) as run:
            plan = run.plan
    except TargetDamaged:  # a listing does not show all
        return verify(session, replace(request, depth=Depth.HASH, snapshot=verdict.looked_at[0]))
    steps = tuple(step for step in plan.steps if step.kind is not StepKind.SERVICE)  # that comes of the others
    return replace(verdict, differences=steps, skipped=plan.skipped, warnings=plan.warnings)


def _turn(case: _Case) -> Turn:
    try:
        known = json.loads(case.session.paths.sampled.read_bytes())[case.target.address]
        return Turn(int(known["run"]), {str(name): int(run) for name, run in known["seen"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Turn()


def _remember(case: _Case, turn: Turn) -> None:
    try:
        known = dict(json.loads(case.session.paths.sampled.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    known[case.target.address] = {"run": turn.run, "seen": dict(turn.seen)}
    write_atomic(case.session.paths.sampled, json.dumps(known).encode())
