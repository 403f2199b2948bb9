"""Restore a snapshot: select, download, decode, plan; the user sees and confirms the plan; apply, take over.

Nothing of this machine is changed before `apply`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tklb.base.measure import Stopwatch, format_count
from tklb.config.paths import ROOT
from tklb.databases.load import DatabaseLoader
from tklb.databases.servers import find_server, make_server
from tklb.diff.rules import parse_override
from tklb.host.files.live_files import LiveFiles
from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Plan, Role
from tklb.model.report import Report
from tklb.restore.apply import Executor, apply_plan
from tklb.restore.extract import extract_files, need_empty_folder
from tklb.restore.plan.filter import RestoreFilter, parse_rename
from tklb.restore.plan.outcome import count_steps
from tklb.restore.plan.plan import make_plan
from tklb.restore.prepare import list_own_places, open_snapshot, read_contents, read_dumps, read_machine
from tklb.restore.remainder import remember_restore
from tklb.restore.source import SnapshotSource
from tklb.restore.take_over import continues_chain, keep_local_files, take_over, warn_of_no_takeover
from tklb.session import TargetSession
from tklb.verify.own_state import collect_own_state

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    snapshot: str = "latest"
    role: Role = Role.REPLACEMENT
    skip: frozenset[str] = frozenset()
    limits: tuple[str, ...] = ()
    renames: tuple[str, ...] = ()  # of databases: OLD=NEW
    remove_packages: bool = False
    is_exact: bool = False
    same_users: tuple[str, ...] = ()

    def parse(self, session: TargetSession) -> RestoreFilter:
        """Raises UsageWrong."""
        return RestoreFilter(
            role=self.role,
            skip=self.skip,
            limit=tuple(parse_override(item) for item in self.limits),
            remove_packages=self.remove_packages or self.is_exact,
            is_exact=self.is_exact,
            own=list_own_places(session),
            same_users=frozenset(name.encode("utf-8", "surrogateescape") for name in self.same_users),
            renames=tuple(map(parse_rename, self.renames)),
        )


@dataclass(frozen=True, slots=True)
class PlannedRestore:
    """A restore that is planned and not yet done; `apply` carries the plan out.

    The sequence and age of the snapshot, and the key, show whether the target was set back. `takes_over`: apply makes
    this machine the one that continues the chain, even where the plan is empty.
    """

    source: SnapshotSource
    plan: Plan
    takes_over: bool
    apply: Callable[[], Report]


@contextmanager
def plan_restore(session: TargetSession, request: RestoreRequest) -> Iterator[PlannedRestore]:
    """Decode a snapshot and plan its restore; the end of the block removes the decoded files."""
    paths, chosen = session.paths, request.parse(session)
    with (
        open_snapshot(session, request.snapshot, is_checked=True) as decoded,
        LiveFiles(ROOT, follows_root_links=True) as files,
    ):
        dumps = read_dumps(decoded)
        contents = read_contents(decoded, dumps)

        def plan_now(*, is_first: bool) -> Plan:
            own = collect_own_state(session) if is_first or chosen.is_exact else None
            plan = make_plan(contents, read_machine(session, files, dumps, contents, own), chosen)
            log.info("planned %s", count_steps(plan))
            ledger = (f"the ledger: {problem}" for problem in decoded.source.problems)
            left = warn_of_no_takeover(paths, request.role, is_whole=plan.is_whole)
            return replace(plan, warnings=(*ledger, *plan.warnings, *left))

        def apply() -> Report:
            watch, remainder = Stopwatch(), paths.remainder
            find, make = (partial(each, config=session.config.databases) for each in (find_server, make_server))
            loader, lists = DatabaseLoader(find, dumps.folders, make), (remainder, paths.script_traces, paths.trial)
            executor = Executor(decoded.stages, loader, session.progress, ROOT, files.guard(chosen.own), *lists)
            with remember_restore(remainder, contents.snapshot, is_whole=chosen.is_whole):
                report = apply_plan(plan, contents, executor, partial(plan_now, is_first=False))
                if chosen.wants_part("files"):
                    keep_local_files(paths, filter(partial(chosen.allows, "path"), contents.contents.local_files))
                if takes_over:
                    report = replace(report, warnings=(*report.warnings, *take_over(session, decoded)))
            steps, done = format_count(report.step_count, "step"), len(report.done)
            log.info("applied %s in %.1f s: %d done, %d skipped", steps, watch.seconds, done, len(report.skipped))
            return report

        plan = plan_now(is_first=True)
        takes_over = request.role is Role.REPLACEMENT and plan.is_whole and not continues_chain(paths, decoded.source)
        yield PlannedRestore(decoded.source, plan, takes_over, apply)


def extract(session: TargetSession, request: RestoreRequest, into: Path) -> Report:
    """Only decode a snapshot into a folder. Raises RestoreRefused where that exists and is not empty."""
    need_empty_folder(into, list_own_places(session))
    with open_snapshot(session, request.snapshot, is_checked=False) as decoded:
        skipped = extract_files(decoded, into, request.parse(session))
        return Report(done=(decoded.source.entry.snapshot,), skipped=skipped)
