"""The outcome of a plan: each step is done or skipped, and everything skipped is named once. Collects values."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tklb.errors import printable
from tklb.model.plan import Plan, Step
from tklb.model.report import Skipped

_PREFIXES = (b"package:", b"service:", b"command:", b"architecture:")  # of skipped items; a step has the bare name


class Outcome:
    """Collects what was done and what was skipped. Steps that are done and items that are skipped add up to all steps.

    It is for one thread at a time.
    """

    def __init__(self) -> None:
        self._done: list[tuple[str, bytes]] = []  # step as text, and its item
        self._skipped: list[Skipped] = []

    @property
    def done_steps(self) -> tuple[str, ...]:
        return tuple(text for text, _ in self._done)

    @property
    def skipped_items(self) -> tuple[Skipped, ...]:
        return tuple(self._skipped)

    def note_step(self, step: Step, skipped: Sequence[Skipped]) -> bool:
        """Note one step, done unless something of it was skipped. Gives whether it is done."""
        if skipped:
            self._skipped += _join_by_item(skipped)
        else:
            self._done.append((f"{step.kind} {printable(step.item)}", step.item))
        return not skipped

    def note_batch(self, steps: Iterable[Step], skipped: Iterable[Skipped]) -> list[Step]:
        """Note steps that were carried out together; give those that are done. Other items may be skipped besides."""
        waiting = {_bare(item.item): item for item in _join_by_item(skipped)}
        done = []
        for step in steps:
            reason = waiting.pop(step.item, None)
            if self.note_step(step, [reason] if reason else []):
                done.append(step)
        self._skipped += waiting.values()
        return done

    def note_late(self, skipped: Iterable[Skipped]) -> None:
        """Note what was skipped after its step seemed to be done."""
        for item in _join_by_item(skipped):
            late = next((step for step in reversed(self._done) if step[1] == _bare(item.item)), None)
            if late is not None:
                self._done.remove(late)
            self._skipped.append(item)


def count_steps(plan: Plan) -> str:
    """Say how many steps of which kinds a plan has."""
    kinds = Counter(str(step.kind) for step in plan.steps)
    total = "1 step" if len(plan.steps) == 1 else f"{len(plan.steps)} steps"
    return f"{total}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}" if kinds else total


def _bare(item: bytes) -> bytes:
    return next((item.removeprefix(prefix) for prefix in _PREFIXES if item.startswith(prefix)), item)


def _join_by_item(skipped: Iterable[Skipped]) -> list[Skipped]:
    """Give one entry an item, with all its reasons."""
    found: dict[bytes, list[Skipped]] = {}
    for one in skipped:
        found.setdefault(one.item, []).append(one)
    return [
        Skipped(item, "; ".join(dict.fromkeys(one.reason for one in some)), max(one.status for one in some))
        for item, some in found.items()
    ]
