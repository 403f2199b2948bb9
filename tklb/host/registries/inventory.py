"""All registries of a machine, and one decision carried out on it."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tklb.diff.packages import native_architecture
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.host.dpkg import find_listed
from tklb.host.registries.alternatives import read_alternatives, set_alternative
from tklb.host.registries.architectures import add_architecture, read_architectures
from tklb.host.registries.debconf import give_answers, read_answers
from tklb.host.registries.diversions import add_diversion, read_diversions
from tklb.host.registries.stat_overrides import add_stat_override, read_stat_overrides
from tklb.model.packages import Package
from tklb.model.plan import Step, StepKind
from tklb.model.registries.decisions import AlternativeGroup, Answer, Diversion, Registries, StatOverride
from tklb.model.report import Skipped


def read_registries(root: bytes, installed: Sequence[Package], asked: Iterable[str] | None = None) -> Registries:
    """Give the registries below `root`. `asked` names the packages whose answers of debconf count (None: all)."""
    return Registries(
        architectures=read_architectures(root, native_architecture(installed)),
        diversions=read_diversions(root),
        stat_overrides=read_stat_overrides(root),
        alternatives=read_alternatives(root, partial(find_listed, root)),
        answers=read_answers(root, None if asked is None else frozenset(asked)),
    )


def apply_decisions(kind: StepKind, steps: Sequence[Step], root: bytes) -> tuple[Skipped, ...]:
    """Carry out steps of one kind; give those that failed."""
    if kind is StepKind.PRESEED:
        answers = [step.decision for step in steps if isinstance(step.decision, Answer)]
        reason = _try(lambda: give_answers(answers, root))
        return tuple(Skipped(step.item, reason) for step in steps if reason)
    tried = [(step.item, _apply(step, root)) for step in steps]
    return tuple(Skipped(item, reason) for item, reason in tried if reason)


def _apply(step: Step, root: bytes) -> str:
    match step.decision:
        case Diversion() as diversion:
            return _try(lambda: add_diversion(diversion, root))
        case StatOverride() as override:
            return _try(lambda: add_stat_override(override, root))
        case AlternativeGroup() as group:
            return _try(lambda: set_alternative(group, root))
    return _try(lambda: add_architecture(step.item.decode("ascii"), root))


def _try(action: Callable[[], None]) -> str:
    try:
        action()
    except (ProgramMissing, ProgramFailed) as exc:
        return str(exc)
    return ""
