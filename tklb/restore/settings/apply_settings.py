"""Apply the steps on the configuration of database servers, engine by engine, when their databases are loaded."""

import logging
from collections.abc import Iterator, Sequence
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


def apply_settings(plan: Plan, writer: FileWriter, loader: DatabaseLoader) -> Iterator[SettingsResult]:
    """Put the configuration of each engine's servers in place; where a server runs here, it tries it."""
    for engine in ENGINES.values():
        if steps := [step for step in plan.steps if find_settings(step) == engine.word]:
            yield _apply_engine(engine, plan, steps, writer, loader)


def _apply_engine(
    engine: DatabaseEngine,
    plan: Plan,
    steps: Sequence[Step],
    writer: FileWriter,
    loader: DatabaseLoader,
) -> SettingsResult:
    watch = Stopwatch()
    paths = tuple(step.item for step in steps)
    is_tried = plan.may_restart and _runs(engine, plan, loader)
    restart = partial(loader.restart, engine.word, paths) if is_tried else None
    files = ExchangedFiles(writer)
    unread = [step for step in steps if not loader.is_read(engine.word, step.item)]
    read = [step for step in steps if step not in unread]
    trial = try_settings(files, read, restart)
    if unread:
        beside = put_beside(files, unread, partial(loader.carry_settings, engine.word) if is_tried else None)
        trial = TrialResult((*trial.steps, *beside), trial.failure)
    stays = sum(1 for _, skipped in trial.steps if skipped)
    verb = "tried" if is_tried else "wrote"
    count = format_count(len(steps), "configuration file")
    log.info("%s %s of %s in %.1f s, %d skipped", verb, count, engine.word, watch.seconds, stays)
    restarted = frozenset(name.encode() for name in engine.services) if is_tried else frozenset()
    return SettingsResult(engine.word, trial, restarted)


def _runs(engine: DatabaseEngine, plan: Plan, loader: DatabaseLoader) -> bool:
    """Whether a server of the engine runs, or this restore starts it anyway."""
    if any(is_forbidden(name, "restart") for name in engine.services):
        return False
    starts = any(step.kind is StepKind.SERVICE and step.item.decode() in engine.services for step in plan.steps)
    return loader.has_server(engine.word, is_up=not starts)
