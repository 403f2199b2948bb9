"""The trial of configuration that runs, on disk: where it is killed, the next restore brings this machine's files back.

Takes the file of the journal, and steps; touches that file, configuration files, and the server that was tried.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tklb.base.json import read_state, write_state
from tklb.databases.data_folders import DataMove, recover_data
from tklb.databases.load import DatabaseLoader
from tklb.diff import mtree
from tklb.errors import printable
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.write_entry import FileWriter
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.files.obstacles import KEPT_SUFFIX
from tklb.restore.settings.exchange import BESIDE, WAITING, is_exchange
from tklb.restore.settings.trial import explain_down

log = logging.getLogger(__name__)

_DEEPEST = 5  # folders of configuration


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial: steps that are exchanges, and moves of the server's data. `is_tried`: the server restarts in it."""

    engine: str
    steps: tuple[Step, ...]
    moves: tuple[DataMove, ...] = ()
    is_tried: bool = True


class TrialJournal:
    """The journal of one trial at a time; without a path it is nowhere. Raises OSError, NoSpace."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._trial: Trial | None = None

    def begin(self, trial: Trial) -> None:
        """Note a trial before its first step."""
        self._trial = trial
        self._write()

    def note_move(self, move: DataMove) -> None:
        """Note a stage of a move of data before it begins."""
        if self._trial:
            old = self._trial
            self._trial = Trial(old.engine, old.steps, (*old.moves, move), old.is_tried)
            self._write()

    def end(self) -> None:
        """Forget the trial: its files are in place, or beside it."""
        self._trial = None
        if self._path:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path and self._trial:
            write_state(self._path, _format(self._trial))


def describe_trial(path: Path) -> tuple[str, ...]:
    """Name the trial that did not end; nothing where there is none."""
    trial = read_state(path, _parse, None)
    if trial is None:
        return ("the trial of a configuration was interrupted, and its journal is damaged",) if path.exists() else ()
    return (f"the trial of the configuration of {trial.engine} was interrupted",)


def undo_trial(path: Path | None, writer: FileWriter, files: LiveFiles, loader: DatabaseLoader) -> tuple[Skipped, ...]:
    """Bring back what a killed trial had exchanged, and restart its server; give what cannot come back."""
    trial = read_state(path, _parse, None) if path else None
    if trial is None:
        return _undo_unknown(path, writer, files, loader) if path and path.exists() else ()
    changed = tuple(step.item for step in trial.steps)
    skipped = tuple(item for step in reversed(trial.steps) for item in _recover_file(step, writer, files))
    journal = TrialJournal(path)
    journal.begin(trial)
    reason = recover_data(trial.moves, journal.note_move)
    if trial.is_tried and not reason:
        reason = loader.recover(trial.engine, changed, journal.note_move)
    log.info("undid the interrupted trial of %s: %s", trial.engine, reason or f"{len(changed)} files")
    if not reason:
        journal.end()
    return (*skipped, explain_down(trial.engine, reason)) if reason else skipped


def _undo_unknown(path: Path, writer: FileWriter, files: LiveFiles, loader: DatabaseLoader) -> tuple[Skipped, ...]:
    """Bring back every configuration file that waits, where the journal is damaged; give what is to be looked at."""
    reason = f"the journal of the interrupted trial is damaged ({path})"
    skipped: list[Skipped] = []
    for engine in ENGINES.values():
        waiting = [found for top in engine.settings for found in _find_waiting(top, files)]
        skipped += [_put_back(own, reason, writer, files) for own in waiting]
        failure = loader.recover(engine.word, waiting, _note_nothing) if waiting else ""
        skipped += [explain_down(engine.word, failure)] if failure else []
    log.warning("%s; %d items are named", reason, len(skipped))
    path.unlink(missing_ok=True)
    return tuple(skipped) or (Skipped(os.fsencode(path), f"{reason}; no file was waiting"),)


def _find_waiting(path: bytes, files: LiveFiles, depth: int = 0) -> Iterator[bytes]:
    """The paths, a file or those below a folder, whose own file waits beside."""
    if files.entry(path + WAITING):
        yield path
    entry = files.entry(path)
    inside = files.names(path) if entry and entry.kind == "dir" and depth < _DEEPEST else ()
    for name in sorted({name.removesuffix(WAITING) for name in inside}):
        yield from _find_waiting(path + b"/" + name, files, depth + 1)


def _put_back(path: bytes, reason: str, writer: FileWriter, files: LiveFiles) -> Skipped:
    """Put a file that waits in its place; the one that is there goes beside it."""
    beside = path + BESIDE
    if files.entry(path):
        writer.delete(beside)
        writer.move_back(beside, path)
        reason = f"{reason}; the file that was in place is {printable(beside)}"
    if not writer.move_back(path, path + WAITING):
        return Skipped(path, f"{reason}; it cannot come back from {printable(path + WAITING)}")
    return Skipped(path, f"{reason}; this machine's own is in place again")


def _note_nothing(_move: DataMove) -> None:
    """Nothing is known of a move."""


def _recover_file(step: Step, writer: FileWriter, files: LiveFiles) -> tuple[Skipped, ...]:
    """Undo one exchange, however far it came. What somebody has written in the meantime stays."""
    path = step.item
    here, own = files.entry(path), files.entry(path + WAITING)
    if step.kind is StepKind.METADATA:
        return writer.set_metadata(step.was) if step.was and here else ()
    if here and (own or not step.was) and not _is_same(here, step.entry, files):
        kept = path + KEPT_SUFFIX
        moved = own and writer.move_back(kept, path + WAITING)
        reason = "it was changed after the restore was interrupted, and stays"
        return (Skipped(path, f"{reason}; the one before is {printable(kept)}" if moved else reason),)
    skipped = writer.delete(path + BESIDE)
    if own or not step.was:
        skipped += writer.delete(path)
    if own and not writer.move_back(path, path + WAITING):
        skipped += (Skipped(path, f"it cannot come back from {printable(path + WAITING)}"),)
    return skipped


def _is_same(here: FileEntry, saved: FileEntry | None, files: LiveFiles) -> bool:
    if saved is None or here.kind != saved.kind:
        return False
    return here.link == saved.link if here.kind == "link" else files.digest(here.path, "sha256") == saved.sha256


# ---------------------------------------------------------------- on disk


def select_exchanges(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps that an interrupted trial has to undo."""
    return tuple(filter(is_exchange, steps))


def _format(trial: Trial) -> dict[str, Any]:
    return {
        "engine": trial.engine,
        "is_tried": trial.is_tried,
        "moves": [[move.old, move.new, move.is_copied] for move in trial.moves],
        "steps": [
            {"kind": str(step.kind), "path": os.fsdecode(step.item), "entry": _list(step.entry), "was": _list(step.was)}
            for step in trial.steps
        ],
    }


def _list(entry: FileEntry | None) -> str:
    return mtree.format_entry(entry).decode("ascii") if entry else ""


def _parse(noted: dict[str, Any]) -> Trial:
    moves = tuple(DataMove(str(old), str(new), bool(is_copied)) for old, new, is_copied in noted["moves"])
    return Trial(str(noted["engine"]), tuple(_parse_steps(noted["steps"])), moves, bool(noted["is_tried"]))


def _parse_steps(noted: Sequence[dict[str, str]]) -> Iterator[Step]:
    for step in noted:
        entry, was = _read(step["entry"]), _read(step["was"])
        yield Step(StepKind(step["kind"]), os.fsencode(step["path"]), entry=entry, was=was)


def _read(line: str) -> FileEntry | None:
    return next(iter(mtree.parse(line.encode("ascii").splitlines(keepends=True))), None) if line else None
