"""Apply the steps on the configuration of database servers, engine by engine, when their databases are loaded."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tklb.base.measure import Stopwatch, format_count
from tklb.databases.load import DatabaseLoader
from tklb.host.files.write_entry import FileWriter
from tklb.host.services import is_forbidden
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES, DatabaseEngine
from tklb.model.plan import Plan, Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.databases import find_settings
from tklb.restore.settings.exchange import ExchangedFiles
from tklb.restore.settings.trial import TrialResult, explain_down, put_beside, try_settings
from tklb.restore.settings.trial_journal import Trial, TrialJournal, select_exchanges

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SettingsResult:
    """The result for one engine. `restarted` are the items of services that need no other restart."""

    engine: str
    trial: TrialResult
    restarted: frozenset[bytes] = frozenset()

    @property
    def problems(self) -> tuple[Skipped, ...]:
        return (explain_down(self.engine, self.trial.failure),) if self.trial.failure else ()


def apply_settings(
    plan: Plan, writer: FileWriter, loader: DatabaseLoader, journal: TrialJournal
) -> Iterator[SettingsResult]:
    """Put the configuration of each engine's servers in place; where a server runs here, it tries it."""
    for engine in ENGINES.values():
        if steps := [step for step in plan.steps if find_settings(step) == engine.word]:
            is_tried = plan.may_restart and _runs(engine, plan, loader)
            journal.begin(Trial(engine.word, select_exchanges(steps), is_tried=is_tried))
            restart = partial(loader.restart, note=journal.note_move) if is_tried else None
            yield _apply_engine(engine, steps, ExchangedFiles(writer), loader, restart)
            journal.end()


def _apply_engine(
    engine: DatabaseEngine,
    steps: Sequence[Step],
    files: ExchangedFiles,
    loader: DatabaseLoader,
    restart: Callable[[str, Sequence[bytes]], str] | None,
) -> SettingsResult:
    watch = Stopwatch()
    paths = tuple(step.item for step in steps)
    unread = [step for step in steps if not loader.is_read(engine.word, step.item)]
    read = [step for step in steps if step not in unread]
    trial = try_settings(files, read, partial(restart, engine.word, paths) if restart else None)
    if unread:
        beside = put_beside(files, unread, partial(loader.carry_settings, engine.word) if restart else None)
        trial = TrialResult((*trial.steps, *beside), trial.failure)
    stays = sum(1 for _, skipped in trial.steps if skipped)
    verb = "tried" if restart else "wrote"
    count = format_count(len(steps), "configuration file")
    log.info("%s %s of %s in %.1f s, %d skipped", verb, count, engine.word, watch.seconds, stays)
    restarted = frozenset(name.encode() for name in engine.services) if restart else frozenset()
    return SettingsResult(engine.word, trial, restarted)


def _runs(engine: DatabaseEngine, plan: Plan, loader: DatabaseLoader) -> bool:
    """Whether a server of the engine runs, or this restore starts it anyway."""
    if any(is_forbidden(name, "restart") for name in engine.services):
        return False
    starts = any(step.kind is StepKind.SERVICE and step.item.decode() in engine.services for step in plan.steps)
    return loader.has_server(engine.word, is_up=not starts)
