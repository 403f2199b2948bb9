"""Verify a target: check the ledger, the volumes and their contents; find the cost of each problem; repair.

Only `--mend` changes something: it puts whole copies back. Problems are the result of a verification, not its failure.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from tklb.base.fs import fresh_folder, private_folder, run_lock
from tklb.base.measure import format_count
from tklb.commands import restore
from tklb.errors import TargetDamaged
from tklb.model.plan import StepKind
from tklb.model.snapshot import describe_long_chain
from tklb.session import TargetSession
from tklb.verify.impact import find_impact
from tklb.verify.ledger_check import check_key, check_ledger, snapshots_of
from tklb.verify.objects import check_volumes, select_volumes
from tklb.verify.open_target import Verification, open_target
from tklb.verify.problem import Problem
from tklb.verify.repair import repair
from tklb.verify.result import Depth, VerifyRequest, VerifyResult
from tklb.verify.sample import remember_turn
from tklb.verify.snapshot_check import check_snapshots

log = logging.getLogger(__name__)


def verify(session: TargetSession, request: VerifyRequest) -> VerifyResult:
    """Verify a target as deep as the request says.

    Raises what is wrong with key or address, SnapshotUnknown, and what a target raises that does not answer. Problems
    of the target are part of the result.
    """
    with run_lock(session.paths.lock), fresh_folder(private_folder(session.paths.cache) / "verify") as work:
        verification, problems = _check_ledger(open_target(session, request, work))
        result = _check_objects(verification, problems)
    if request.depth is Depth.LIVE and result.snapshots == result.whole_snapshots:
        return _compare_with_machine(session, request, result)
    return result


def _check_ledger(verification: Verification) -> tuple[Verification, tuple[Problem, ...]]:
    """Check and repair ledger and key file; the volumes are then checked against the repaired ledger."""
    session, target = verification.session, verification.backend
    problems = _repair(verification, check_ledger(target, verification.ledger, session.paths.ledger))
    if any(problem.is_repaired for problem in problems):
        verification = open_target(session, verification.request, verification.work)
    if key_file := verification.copies.key_file:
        problems += _repair(verification, check_key(target, key_file))
    return verification, problems


def _check_objects(verification: Verification, problems: tuple[Problem, ...]) -> VerifyResult:
    """Check the volumes, find the cost of their problems, and repair; then the contents, if the request says so."""
    target, ledger, request = verification.backend, verification.ledger, verification.request
    lost = snapshots_of(problems)
    entries = verification.select_entries(lost)
    selection = select_volumes(verification, entries)
    found = check_volumes(verification, selection, lost)
    problems += _repair(verification, find_impact(target, ledger, found, verification.work / "impact"))
    if selection.turn and not request.dry_run:
        remember_turn(verification.session.paths.sample_turns, target.address, selection.turn)
    result = VerifyResult(
        address=target.address,
        depth=request.depth,
        newest=ledger.entries[-1] if ledger.entries else None,
        snapshots=verification.list_snapshots(entries, lost),
        volumes=len(selection.volumes),
        read=len(selection.due),
        read_bytes=selection.due_bytes,
        problems=problems,
        warnings=describe_long_chain(ledger.entries[-1] if ledger.entries else None),
        gaps=tuple((entry.snapshot, entry.skipped) for entry in entries if entry.skipped),
    )
    return check_snapshots(verification, entries, result) if request.depth is Depth.DATA else result


def _repair(verification: Verification, problems: Sequence[Problem]) -> tuple[Problem, ...]:
    put = verification.request.repair and not verification.request.dry_run
    work = verification.work / "copy"
    return repair(verification.backend, verification.ledger, problems, verification.copies, work, put)


def _compare_with_machine(session: TargetSession, request: VerifyRequest, result: VerifyResult) -> VerifyResult:
    """Plan a restore of the snapshot: its steps are the differences between snapshot and machine."""
    snapshot = result.snapshots[0]
    try:
        with restore.plan_restore(session, restore.RestoreRequest(snapshot=snapshot)) as run:
            plan = run.plan
    except TargetDamaged:  # a listing does not show every problem
        return verify(session, replace(request, depth=Depth.HASH, snapshot=snapshot))
    follow = (StepKind.RUN, StepKind.SERVICE)  # commands and services follow their files
    steps = tuple(step for step in plan.steps if step.kind not in follow)
    log.info("compared snapshot %s with this machine: %s", snapshot, format_count(len(steps), "difference"))
    return replace(result, differences=steps, skipped=plan.skipped, warnings=plan.warnings, unknown=plan.unknown)
