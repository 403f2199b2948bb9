"""Put configuration files in place in such a way that those of this machine can come back.

Takes a FileWriter and steps; changes files below its root. While the files of the snapshot are tried, those of this
machine wait beside them. A file of the snapshot that must not stay gets a name that no server reads.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from tklb.errors import printable
from tklb.host.files.write_entry import FileWriter
from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.apply_files import FileSteps

WAITING, BESIDE = b".tklb-waiting", b".tklb-snapshot"
_NEW = (StepKind.WRITE, StepKind.LINK)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One step that is done and can be undone. `brings`: the snapshot has the file; `had`: this machine had one."""

    step: Step
    brings: bool
    had: bool

    @property
    def new_path(self) -> bytes:
        return self.step.item + BESIDE


class ExchangedFiles:
    """Carries out steps, undoes them one by one, and does them again."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self._files = FileSteps(writer)

    def apply(self, step: Step) -> tuple[Exchange | None, tuple[Skipped, ...]]:
        """Carry out a step; give the exchange where it is one, and what was skipped."""
        if not is_exchange(step):
            return None, self._files.apply(step)
        if step.kind is StepKind.METADATA:
            skipped = self._files.apply(step)
            return None if skipped else Exchange(step, brings=False, had=False), skipped
        exchange = Exchange(step, step.kind is not StepKind.DELETE, step.was is not None)
        if exchange.had and not self._rename(step.item, step.item + WAITING):
            return None, (Skipped(step.item, f"it cannot wait as {printable(step.item + WAITING)}"),)
        if not exchange.brings:
            return exchange, ()
        if skipped := self._files.apply(replace(step, was=None)):
            self._restore_own(exchange)
            return None, skipped
        return exchange, ()

    def undo(self, exchange: Exchange) -> None:
        """Bring the file of this machine back; that of the snapshot is beside it then."""
        step = exchange.step
        if step.kind is StepKind.METADATA and step.was:
            self._writer.set_metadata(step.was, step.entry)
        if exchange.brings:
            self._writer.delete(exchange.new_path)
            self._rename(step.item, exchange.new_path)
        self._restore_own(exchange)

    def redo(self, exchange: Exchange) -> None:
        """Put the file of the snapshot in its place again."""
        step = exchange.step
        if step.kind is StepKind.METADATA and step.entry:
            self._writer.set_metadata(step.entry, step.was)
        if exchange.had:
            self._rename(step.item, step.item + WAITING)
        if exchange.brings:
            self._rename(exchange.new_path, step.item)

    def discard(self, exchanges: Iterable[Exchange], refused: Collection[bytes]) -> None:
        """Remove the files of this machine that have waited, and earlier ones beside those that are in place now."""
        for exchange in exchanges:
            if exchange.had:
                self._writer.delete(exchange.step.item + WAITING)
            if exchange.brings and exchange.step.item not in refused:
                self._writer.delete(exchange.new_path)

    def finish_folders(self) -> tuple[Skipped, ...]:
        return self._writer.finish_folders()

    def _restore_own(self, exchange: Exchange) -> None:
        if exchange.had:
            self._rename(exchange.step.item + WAITING, exchange.step.item)

    def _rename(self, old: bytes, new: bytes) -> bool:
        """Rename a file in its folder to a free name; whether that was done."""
        return self._writer.move_back(new, old)


def is_exchange(step: Step) -> bool:
    """Whether a step can be undone: it changes an object that is no folder, or metadata."""
    if step.kind is StepKind.METADATA:
        return step.was is not None
    is_file = all(entry is None or entry.kind != "dir" for entry in (step.entry, step.was))
    return is_file and step.kind in (*_NEW, StepKind.DELETE)
