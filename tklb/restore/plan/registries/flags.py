"""Plan the flags of chattr(1): set last, because nothing can change an immutable file. Pure."""

from tklb.errors import printable
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind


class FlagPlanner:
    """Collects the flags to set, and the files of this machine whose flags a restore has to lift for a while."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._lifted: list[bytes] = []

    def note_step(self, step: Step) -> None:
        """Note a change of a file that is immutable or append-only here."""
        if step.was and step.was.flags:
            self._lifted.append(step.item)

    def want(self, want: FileEntry, have: FileEntry | None, step: Step | None) -> None:
        """Plan to set the flags of a file that is new, or that has others here."""
        is_new = step is not None and step.kind is not StepKind.METADATA
        if want.flags and (have is None or have.flags != want.flags or is_new):
            self._steps.append(Step(StepKind.FLAGS, want.path, f"+{want.flags}", want))

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)

    def list_warnings(self) -> tuple[str, ...]:
        if not self._lifted:
            return ()
        more = f" (and {len(self._lifted) - 1} more)" if len(self._lifted) > 1 else ""
        named = printable(self._lifted[0])
        return (f"{named}{more} is protected by chattr here: the restore lifts that and sets it again",)
