"""Carry a plan out: one match over its steps, in their order.

Takes a plan, what the snapshot holds and the stages with the decoded contents; changes this machine. Each step may be
repeated; what a step could not do comes back in the report. Only what makes going on senseless is an error, and then
no service is started.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from threading import Thread

from tklb.databases.load import DatabaseLoader
from tklb.errors import printable
from tklb.host import apt
from tklb.host.accounts import write_accounts
from tklb.host.apt_sources import add_sources
from tklb.host.files.space import ensure_room
from tklb.host.files.write_entry import FileWriter
from tklb.host.services import restart
from tklb.model.callbacks import Progress
from tklb.model.files import FileEntry
from tklb.model.plan import Plan, Step, StepKind
from tklb.model.report import Report, Skipped
from tklb.restore.plan.databases import DATABASES
from tklb.restore.plan.plan import SnapshotContents

PACKAGES = (StepKind.SOURCE, StepKind.INSTALL, StepKind.REMOVE, StepKind.MARK)
FILES = (StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE)
_EVERY = 100  # files between two reports of progress


@dataclass(frozen=True, slots=True)
class Executor:
    """What a plan is carried out with: the stages hold the decoded contents, `root` is the machine."""

    stages: Sequence[Path]
    loader: DatabaseLoader
    progress: Progress
    root: bytes = b"/"


def apply_plan(plan: Plan, saved: SnapshotContents, means: Executor, replan: Callable[[], Plan]) -> Report:
    """Do what `plan` says, and report what was done and what was not.

    Packages bring users and files of their own, so once some were installed the rest is planned anew by `replan`.
    An empty plan still sets the times of folders. Raises NoSpace, before anything is touched where that can be known.
    """
    folders = tuple(map(os.fsencode, means.stages))
    ensure_room(means.root, folders[0], _to_write(plan.steps))
    with FileWriter(means.root, folders) as applier:
        run = _Run(plan, saved, applier, means)
        run.do(_of(plan.steps, PACKAGES))
        if any(step.kind is StepKind.INSTALL for step in plan.steps):
            run.plan = replan()
            ensure_room(means.root, folders[0], _to_write(run.plan.steps))
        run.do(_of(run.plan.steps, (StepKind.ACCOUNTS, *FILES)))
        run.set_folder_times()
        with _syncing():
            run.do(_of(run.plan.steps, (*DATABASES, StepKind.SERVICE)))
            run.skipped += means.loader.finish()
        return run.report(plan)


@contextmanager
def _syncing() -> Iterator[None]:
    """What is in place so far is on disk when the block has ended."""
    sync = Thread(target=os.sync, daemon=True)
    sync.start()
    try:
        yield
    finally:
        sync.join()


@dataclass(slots=True)
class _Run:
    plan: Plan
    saved: SnapshotContents
    applier: FileWriter
    means: Executor
    done: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def do(self, steps: Iterable[Step]) -> None:
        """Carry steps out; those of one kind that belong together go in one deed, files one by one."""
        for kind, group in groupby(steps, key=lambda step: None if step.kind in FILES else step.kind):
            batch = list(group)
            skipped = self._do_files(batch) if kind is None else self._do(kind, batch)
            self.skipped += skipped
            missed = {item.item.removeprefix(b"package:") for item in skipped}
            self.done += [f"{step.kind} {printable(step.item)}" for step in batch if step.item not in missed]

    def _do(self, kind: StepKind, batch: list[Step]) -> Sequence[Skipped]:
        if kind in DATABASES:
            return [skipped for step in batch for skipped in self.means.loader.carry_out(step, self.means.progress)]
        names = [step.item.decode() for step in batch if kind not in (StepKind.SOURCE, *FILES)]
        self.means.progress(f"{kind} {' '.join(names)[:60]}", 0, 0)
        match kind:
            case StepKind.SOURCE:
                files = {source.path: source for source in self.saved.contents.sources}
                return add_sources(self.means.root, [files[step.item] for step in batch])
            case StepKind.INSTALL:
                self.warnings += apt.update(self.means.root)
                return apt.install(names, self.means.root)
            case StepKind.REMOVE:
                return apt.remove(names, self.means.root)
            case StepKind.MARK:
                packages = [step.package for step in batch if step.package]
                return apt.mark([(package.name, package.auto, package.held) for package in packages], self.means.root)
            case StepKind.ACCOUNTS:
                assert self.plan.merge is not None
                write_accounts(self.means.root, self.plan.merge.accounts)
                return ()
            case _:
                return restart(names)

    def _do_files(self, batch: list[Step]) -> Sequence[Skipped]:
        skipped: list[Skipped] = []
        for number, step in enumerate(self.applier.prepare_ahead(batch, _written)):
            if number % _EVERY == 0:
                self.means.progress("putting files in place", number, len(batch))
            skipped += apply_file(self.applier, step)
        return skipped

    def set_folder_times(self) -> None:
        missed = {item.item for item in self.skipped}
        for path, mtime_ns in self.plan.folder_times:
            if path not in missed:
                self.skipped += self.applier.set_folder_time(path, mtime_ns)

    def report(self, shown_plan: Plan) -> Report:
        said = (
            *shown_plan.warnings,
            *self.plan.warnings,
            *self.warnings,
            *self.applier.notes,
            *self.means.loader.notes,
        )
        return Report(tuple(self.done), (*self.plan.skipped, *self.skipped), tuple(dict.fromkeys(said)))


def apply_file(applier: FileWriter, step: Step) -> tuple[Skipped, ...]:
    """Carry out one step on a file; repeating it is harmless."""
    match step:
        case Step(kind=StepKind.DELETE):
            return applier.delete(step.item, step.was)
        case Step(kind=StepKind.LINK, entry=entry, partner=partner) if entry and partner:
            return applier.link(entry, partner, step.was)
        case Step(kind=StepKind.METADATA, entry=entry) if entry:
            return applier.set_metadata(entry, step.was)
        case Step(entry=entry) if entry:
            return applier.write(entry, step.was)
    raise ValueError(f"a step without an entry: {step.kind}")


def _written(step: Step) -> FileEntry | None:
    return step.entry if step.kind is StepKind.WRITE else None


def _of(steps: Iterable[Step], kinds: tuple[StepKind, ...]) -> Iterator[Step]:
    return (step for step in steps if step.kind in kinds)


def _to_write(steps: Iterable[Step]) -> Iterator[FileEntry]:
    return (entry for step in steps if (entry := _written(step)))
