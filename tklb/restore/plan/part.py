"""A part of a plan: the steps of one stage, with its warnings and skipped items. Pure."""

from collections.abc import Iterable

from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Step
from tklb.model.report import Skipped


@dataclass(frozen=True, slots=True)
class PlanPart:
    """The steps, warnings and skipped items that one stage adds to the plan."""

    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def join_parts(parts: Iterable[PlanPart]) -> PlanPart:
    """Put parts together, in their order."""
    every = tuple(parts)
    return PlanPart(
        tuple(step for part in every for step in part.steps),
        tuple(warning for part in every for warning in part.warnings),
        tuple(item for part in every for item in part.skipped),
    )
