"""Apply a plan: one match over its steps, in their order.

Takes a plan, the snapshot's contents and the folders with the decoded files; changes this machine. Each step can be
repeated. Steps that failed are in the report as skipped; only a failure that makes the rest pointless is an error, and
then no service is started.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from tklb.base.fs import sync_in_background
from tklb.base.measure import Stopwatch, format_count, format_size
from tklb.databases.load import DatabaseLoader
from tklb.errors import printable
from tklb.host.accounts import write_accounts
from tklb.host.apt.conffile_versions import list_leftovers
from tklb.host.apt.finish import finish_installation, name_unfinished
from tklb.host.apt.proxies import read_proxies
from tklb.host.dpkg import list_unfinished
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.openat import FolderGuard
from tklb.host.files.space import ensure_room
from tklb.host.files.write_entry import FileWriter
from tklb.host.registries.inventory import apply_decisions
from tklb.host.script_traces import describe_new, list_paths
from tklb.host.services import restart
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import IN_MEMORY
from tklb.model.files import FileEntry
from tklb.model.plan import COMING, Plan, Step, StepKind
from tklb.model.report import Report, Skipped
from tklb.restore.apply_files import FileSteps
from tklb.restore.apply_packages import (
    PackageInputs,
    carry_out_installs,
    carry_out_marks,
    carry_out_removals,
    carry_out_sources,
    check_apt,
    delete_leftovers,
)
from tklb.restore.plan.backup_skips import is_backup_skip
from tklb.restore.plan.databases import DATABASES, find_first_restarts, find_settings
from tklb.restore.plan.inputs import SnapshotContents
from tklb.restore.plan.outcome import Outcome
from tklb.restore.plan.services import NOT_STARTED
from tklb.restore.remainder import RemainderList, add_entries
from tklb.restore.remake import run_commands
from tklb.restore.settings.apply_settings import SettingsResult, apply_settings
from tklb.restore.settings.trial_journal import TrialJournal, undo_trial

SOURCES = (StepKind.ARCHITECTURE, StepKind.PRESEED, StepKind.SOURCE)
DECISIONS = (
    StepKind.ARCHITECTURE, StepKind.PRESEED, StepKind.DIVERSION, StepKind.STAT_OVERRIDE, StepKind.ALTERNATIVE,
    StepKind.NO_DIVERSION, StepKind.NO_STAT_OVERRIDE, StepKind.NO_ALTERNATIVE,
)  # fmt: skip
BEFORE_FILES = (StepKind.ACCOUNTS, StepKind.DIVERSION, StepKind.NO_DIVERSION)
AFTER_FILES = (*(kind for kind in DECISIONS if kind not in (*SOURCES, *BEFORE_FILES)), StepKind.RUN)
FILES = (StepKind.MOVE, StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE)
_EVERY = 100  # files between two reports of progress
# what the log says of the steps of a kind: a verb and a noun
_WORDS = {
    StepKind.FINISH: ("finished", "interrupted installation"),
    StepKind.ARCHITECTURE: ("added", "architecture"),
    StepKind.PRESEED: ("preseeded", "answer"),
    StepKind.SOURCE: ("added", "apt source file"),
    StepKind.INSTALL: ("installed", "package"),
    StepKind.REMOVE: ("removed", "package"),
    StepKind.MARK: ("marked", "package"),
    StepKind.ACCOUNTS: ("merged", "set of accounts"),
    StepKind.RUN: ("ran", "command"),
    StepKind.DIVERSION: ("added", "diversion"),
    StepKind.STAT_OVERRIDE: ("added", "override of owner and mode"),
    StepKind.ALTERNATIVE: ("set", "alternative"),
    StepKind.NO_DIVERSION: ("removed", "diversion of a package"),
    StepKind.NO_STAT_OVERRIDE: ("removed", "override of a package"),
    StepKind.NO_ALTERNATIVE: ("removed", "alternative of a package"),
    StepKind.FLAGS: ("set", "flag of a file"),
    StepKind.DATABASE_ACCOUNTS: ("merged accounts of", "database server"),
    StepKind.DATABASE: ("loaded", "database"),
    StepKind.DATABASE_SETTINGS: ("set settings of", "database server"),
    StepKind.SERVICE: ("restarted", "service"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executor:
    """What applies a plan: `stages` are the folders with the decoded contents, `root` is the machine.

    `guard` has folders that the plan saw where others can write, and those that nothing may be written into.
    `remainder` is the file that remembers what is still to do when the files are right, `script_traces` the one that
    lists what scripts of packages made, `trial` the one with the configuration of a database server that is tried.
    """

    stages: Sequence[Path]
    loader: DatabaseLoader
    progress: Progress
    root: bytes
    guard: FolderGuard | None = None
    remainder: Path | None = None
    script_traces: Path | None = None
    trial: Path | None = None


def apply_plan(plan: Plan, saved: SnapshotContents, executor: Executor, replan: Callable[[], Plan]) -> Report:
    """Carry out `plan`, and report what was done and what was not.

    Packages bring users and files of their own, so `replan` plans the rest again after an installation. An empty plan
    still sets the times of folders. Raises NoSpace, before any change where that can be known.
    """
    folders = tuple(map(os.fsencode, executor.stages))
    ensure_room(executor.root, folders[0], _list_written(plan.steps))
    with FileWriter(executor.root, folders, follows_root_links=True, guard=executor.guard) as writer:
        run = _Application(plan, saved, writer, executor)
        if any(step.kind is StepKind.FINISH for step in plan.steps):
            run.finish_interrupted()
            run.plan = replan()
        failed = run.install_packages(replan)
        ensure_room(executor.root, folders[0], _list_written(run.plan.steps))
        run.remainder.note_rest(run.plan.steps)
        run.apply(_select_files(run.plan.steps))
        if failed:  # now that the files are there
            run.install_failed_packages(failed, replan)
            run.remainder.note_rest(run.plan.steps)
            run.apply(_select_files(run.plan.steps))
        run.outcome.note_late(check_apt(run.plan.steps, executor.root))
        run.apply(_select(run.plan.steps, AFTER_FILES))
        run.set_folder_times()
        run.apply(_select(run.plan.steps, (StepKind.FLAGS,)))
        run.outcome.note_late(writer.set_lifted_flags())
        run.check_packages()
        with sync_in_background():
            run.apply(find_first_restarts(run.plan.steps))
            run.apply(_select(run.plan.steps, DATABASES))
            run.apply_settings()
            run.restart_services()
            run.outcome.note_late(executor.loader.finish())
        run.remainder.forget_services()
        return run.report(plan)


@contextmanager
def note_script_traces(executor: Executor, inputs: PackageInputs) -> Iterator[None]:
    """Note what scripts of packages make in the block, except what the snapshot has: that is the owner's."""
    before = list_paths(executor.root)
    yield
    if executor.script_traces:
        made = describe_new(executor.root, before, (entry.path for entry in inputs.manifest()))
        add_entries(executor.script_traces, made)


class _Application:
    """One plan while it is applied, and what was done so far."""

    def __init__(self, plan: Plan, saved: SnapshotContents, writer: FileWriter, executor: Executor) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self.remainder = RemainderList(executor.remainder)
        self._saved, self._writer, self._executor = saved, writer, executor
        self._proxies = (
            read_proxies(executor.root) if any(step.kind in (*COMING, StepKind.FINISH) for step in plan.steps) else {}
        )
        self._of_packages: tuple[str, ...] = ()  # warnings of the last installation
        self._failed: list[str] = []  # packages that it did not bring
        self._came: tuple[Step, ...] = ()  # the steps of the plan before packages came
        self._unfinished: tuple[Skipped, ...] = ()  # what could not be finished
        self._refused: list[tuple[Step, tuple[Skipped, ...]]] = []  # loads that wait for the other configuration
        self._in_memory: list[Step] = []  # loads whose rows do not survive the trial of the other configuration
        self._restarted: frozenset[bytes] = frozenset()  # services that have their new configuration

    def install(self, steps: Sequence[Step], *, is_last: bool = False) -> Sequence[Step]:
        """Install and replace packages; give the steps that failed. They are skipped only the last time."""
        if not steps:
            return ()
        watch = Stopwatch()
        self._executor.progress("installing packages", 0, 0)
        inputs = self._describe_inputs()
        with note_script_traces(self._executor, inputs):
            result = carry_out_installs(steps, inputs, self._executor.root, again=is_last)
        self._of_packages = result.warnings
        missed = {item.item.removeprefix(b"package:") for item in result.skipped}
        failed = [step for step in steps if step.item in missed]
        is_over = is_last or not failed
        done = [step for step in steps if step.item not in missed]
        self.outcome.note_batch(steps if is_over else done, result.skipped if is_over else ())
        self._failed = [step.item.decode() for step in failed] if is_over else []
        log.info("%s in %.1f s", _describe(StepKind.INSTALL, done), watch.seconds)
        return failed

    def _describe_inputs(self) -> PackageInputs:
        early = tuple(_select(self.plan.steps, (StepKind.SOURCE,)))
        leftovers = self.remainder.note_leftovers(list_leftovers(self._executor.root))
        return PackageInputs(self._saved.manifest, self._executor.stages, self._proxies, leftovers, early)

    def finish_interrupted(self) -> None:
        """Finish what an interrupted run left halfway."""
        watch, executor = Stopwatch(), self._executor
        with LiveFiles(executor.root, follows_root_links=True) as files:
            self.outcome.note_late(undo_trial(executor.trial, self._writer, files, executor.loader))
        self.remainder.note_packages((), list_unfinished(self._executor.root))
        inputs = self._describe_inputs()
        self._unfinished = finish_installation(self._executor.root, lambda text: self._executor.progress(text, 0, 0))
        delete_leftovers(inputs, self._executor.root)
        done = [step for step in self.plan.steps if step.kind is StepKind.FINISH]
        self.outcome.note_batch(done, ())
        log.info("%s in %.1f s", _describe(StepKind.FINISH, done), watch.seconds)

    def install_packages(self, replan: Callable[[], Plan]) -> Sequence[Step]:
        """Carry out what comes before the files, and plan the rest again; give the packages that failed."""
        steps = self.plan.steps
        self.remainder.note_packages(steps)
        self.apply(_select(steps, SOURCES))
        failed = self.install(list(_select(steps, COMING)))
        if not failed:
            self.apply(_select(steps, (StepKind.REMOVE, StepKind.MARK)))
        if any(step.kind in (StepKind.SOURCE, *COMING) for step in steps):
            self._came, self.plan = steps, replan()
            self.apply(_select(self.plan.steps, (StepKind.PRESEED,)))  # scripts of packages may have answered otherwise
        return failed

    def install_failed_packages(self, failed: Sequence[Step], replan: Callable[[], Plan]) -> None:
        """Try once more, then do what had to wait for them, and plan the rest again."""
        self.install(failed, is_last=True)
        self.apply(_select(self._came, (StepKind.REMOVE, StepKind.MARK)))
        self.plan = replan()

    def check_packages(self) -> None:
        """Look again at the end: name the packages that are not fully installed, if nothing has named them."""
        named = {item.item for item in self.outcome.skipped_items}
        known = {item.item: item for item in self._unfinished}
        left = (known.get(item.item, item) for item in name_unfinished(self._executor.root, {}))
        self.outcome.note_late(item for item in left if item.item not in named)

    def apply(self, steps: Iterable[Step]) -> None:
        """Apply steps: neighbours of one kind together, files one by one."""
        for kind, group in groupby(steps, key=lambda step: None if step.kind in FILES else step.kind):
            batch, watch = list(group), Stopwatch()
            done = self._apply_files(batch) if kind is None else self._apply_kind(kind, batch)
            log.info("%s in %.1f s", _describe(kind, done), watch.seconds)

    def _apply_kind(self, kind: StepKind, batch: list[Step]) -> list[Step]:
        """Apply steps of one kind; give those that are done."""
        if kind in DATABASES:
            loads = self._executor.loader.carry_out_all(batch, self._executor.progress)
            return [step for step, skipped in loads if self._note_load(step, skipped)]
        if kind is StepKind.FLAGS:
            return [step for step in batch if self._set_flags(step)]
        absent = [step for step in batch if kind is StepKind.MARK and step.item.decode() in self._failed]
        for step in absent:
            self.outcome.note_step(step, [Skipped(b"package:" + step.item, "not marked: it is not installed")])
        batch = [step for step in batch if step not in absent]
        return self.outcome.note_batch(batch, self._apply_batch(kind, batch))

    def _note_load(self, step: Step, skipped: tuple[Skipped, ...]) -> bool:
        """Note that a database or the accounts of a server were loaded; whether all of it came."""
        if self._has_settings(step):
            if any(item.item == step.item for item in skipped):
                self._refused.append((step, skipped))
                return False
            self._in_memory += [step] if step.load and IN_MEMORY in step.load.saved.needs else []
        return self.outcome.note_step(step, skipped)

    def _has_settings(self, step: Step) -> bool:
        return any(step.item.startswith((find_settings(other) or ":").encode()) for other in self.plan.steps)

    def apply_settings(self) -> None:
        """Put the configuration of database servers in place, and load again what was refused without it."""
        executor = self._executor
        journal = TrialJournal(executor.trial)
        results = list(apply_settings(self.plan, self._writer, executor.loader, journal))
        for result in results:
            self._restarted |= result.restarted
            for step, skipped in result.trial.steps:
                self.outcome.note_step(step, skipped)
            self.outcome.note_late(result.problems)
            self._load_refused(result)
        if results:
            self.set_folder_times()
            self.outcome.note_late(self._writer.set_lifted_flags())

    def _load_refused(self, result: SettingsResult) -> None:
        loader, progress = self._executor.loader, self._executor.progress
        may_differ = result.restarted and not result.trial.failure
        for step, refused in self._refused:
            engine, _, instance = step.item.partition(b":")[0].decode().partition("@")
            if engine == result.engine:  # an instance is configured only now
                self.outcome.note_step(step, loader.carry_out(step, progress) if may_differ or instance else refused)
        for step in self._in_memory if may_differ else ():
            if step.item.startswith(result.engine.encode()):
                self.outcome.note_late(loader.carry_out(step, progress))

    def restart_services(self) -> None:
        """Restart services, but for those that have restarted before the databases or with their configuration."""
        first = find_first_restarts(self.plan.steps)
        steps = [step for step in _select(self.plan.steps, (StepKind.SERVICE,)) if step not in first]
        for step in (step for step in steps if step.item in self._restarted):
            self.outcome.note_step(step, ())
        self.apply(step for step in steps if step.item not in self._restarted)

    def _set_flags(self, step: Step) -> bool:
        """Set the flags of a file that is there; what was skipped before has none."""
        if step.entry is None or any(item.item == step.item for item in self.outcome.skipped_items):
            return self.outcome.note_step(step, [Skipped(step.item, "its flags are not set: it did not come")])
        return self.outcome.note_step(step, self._writer.set_flags(step.entry))

    def _apply_batch(self, kind: StepKind, batch: list[Step]) -> Sequence[Skipped]:
        progress, root = self._executor.progress, self._executor.root
        if kind in DECISIONS:
            return apply_decisions(kind, batch, root)
        names = [step.item.decode() for step in batch if kind not in (StepKind.SOURCE, *FILES)]
        progress(f"{kind} {' '.join(names)[:60]}", 0, 0)
        match kind:
            case StepKind.SOURCE:
                coming = list(_select(self.plan.steps, COMING))
                return carry_out_sources(batch, coming, self._proxies, root)
            case StepKind.REMOVE:
                return carry_out_removals(names, self._failed, self._saved.contents.history.relations, root)
            case StepKind.MARK:
                packages = [step.package for step in batch if step.package]
                return carry_out_marks(packages, self._failed, self._saved.contents, root)
            case StepKind.ACCOUNTS:
                assert self.plan.merge is not None
                write_accounts(root, self.plan.merge.accounts)
                return ()
            case StepKind.RUN:
                return run_commands(batch, self.remainder)
            case _:
                return restart(names)

    def _apply_files(self, batch: list[Step]) -> list[Step]:
        """Apply steps for files; give those that are done."""
        files, done = FileSteps(self._writer), []
        for number, step in enumerate(self._writer.prepare_ahead(batch, _written_entry)):
            if number % _EVERY == 0:
                self._executor.progress("writing files", number, len(batch))
            if self.outcome.note_step(step, files.apply(step)):
                done.append(step)
        self.outcome.note_late(self._writer.finish_folders())
        return done

    def set_folder_times(self) -> None:
        """Set the times of folders where nothing changes any more."""
        missed = {item.item for item in self.outcome.skipped_items}
        for path, mtime_ns in self.plan.folder_times:
            if path not in missed:
                self.outcome.note_late(self._writer.set_folder_time(path, mtime_ns))

    def report(self, shown_plan: Plan) -> Report:
        # the plan after the packages knows all services; what the backup skipped is among the skipped items
        shown = (line for line in shown_plan.warnings if not line.startswith(NOT_STARTED))
        warnings = (
            *(line for line in (*shown, *self.plan.warnings) if not is_backup_skip(line)),
            *self._of_packages,
            *self._writer.notes,
            *self._executor.loader.notes,
        )
        named = {item.item for item in self.outcome.skipped_items}  # with the reason of today
        planned = dict.fromkeys(item for item in self.plan.skipped if item.item not in named)
        skipped = (*planned, *self.outcome.skipped_items)
        return Report(self.outcome.done_steps, skipped, tuple(dict.fromkeys(warnings)))


def _describe(kind: StepKind | None, done: Sequence[Step]) -> str:
    """What steps of one kind did, for the log; None is files, which are too many to name."""
    if kind is None:
        size = sum(entry.size or 0 for entry in _list_written(done))
        deleted = sum(step.kind is StepKind.DELETE for step in done)
        written = format_count(sum(step.kind not in (StepKind.DELETE, StepKind.MOVE) for step in done), "file")
        return f"wrote {written}, {format_size(size)}, and deleted {format_count(deleted, 'file')}"
    verb, noun = _WORDS[kind]
    names = " ".join(step.detail if kind is StepKind.ACCOUNTS else printable(step.item) for step in done)
    return f"{verb} {format_count(len(done), noun)} ({names})"


def _written_entry(step: Step) -> FileEntry | None:
    return step.entry if step.kind is StepKind.WRITE and step.content is None else None


def _select(steps: Iterable[Step], kinds: tuple[StepKind, ...]) -> Iterator[Step]:
    return (step for step in steps if step.kind in kinds)


def _select_files(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps for accounts and files, without the configuration of database servers."""
    return (step for step in _select(steps, (*BEFORE_FILES, *FILES)) if not find_settings(step))


def _list_written(steps: Iterable[Step]) -> Iterator[FileEntry]:
    return (entry for step in steps if (entry := _written_entry(step)))
