"""Apply the steps for files in their order. What replaces an object and the object's own move stand or fall together.

Takes a FileWriter and steps; changes files below its root. A failed step is skipped and named.
"""

from tklb.errors import printable
from tklb.host.files.write_entry import FileWriter
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.files.present import is_at_or_below


class FileSteps:
    """Applies steps one by one; it remembers which objects moved aside, and for which place."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self._moved: dict[bytes, bytes] = {}  # places, and where their objects went
        self._blocked: dict[bytes, bytes] = {}  # places whose object did not go or came back: the same

    def apply(self, step: Step) -> tuple[Skipped, ...]:
        """Apply one step; it can be repeated. Raises NoSpace."""
        if reason := self._find_block(step):
            return (Skipped(step.item, reason),)
        skipped = apply_file(self._writer, step)
        if step.kind is StepKind.MOVE and step.partner:
            (self._blocked if skipped else self._moved)[step.item] = step.partner
        elif skipped and (aside := self._moved.get(step.item)) and self._writer.move_back(step.item, aside):
            self._blocked[step.item] = aside
        return skipped

    def _find_block(self, step: Step) -> str:
        for place, aside in self._blocked.items():
            if step.item == place:
                return "what is in its place could not be moved aside"
            if is_at_or_below(step.item, aside):
                return f"not deleted: nothing took the place of {printable(place)}"
        return ""


def apply_file(writer: FileWriter, step: Step) -> tuple[Skipped, ...]:
    """Apply one step on a file; it can be repeated."""
    match step:
        case Step(kind=StepKind.WRITE, entry=entry, content=content) if entry and content is not None:
            return writer.write_content(entry, content, step.was)
        case Step(kind=StepKind.DELETE):
            return writer.delete(step.item, step.was)
        case Step(kind=StepKind.MOVE, partner=aside, was=was) if aside and was:
            return writer.move_aside(step.item, aside, was)
        case Step(kind=StepKind.LINK, entry=entry, partner=partner) if entry and partner:
            return writer.link(entry, partner, step.was)
        case Step(kind=StepKind.METADATA, entry=entry) if entry:
            return writer.set_metadata(entry, step.was)
        case Step(entry=entry) if entry:
            return writer.write(entry, step.was)
    raise ValueError(f"a step without an entry: {step.kind}")
