"""Try the configuration of a snapshot with the database server of this machine.

The server starts with all files of the snapshot. Where it does not run with them, halves of them are tried, and halves
of those: the files that keep it from running give way to those of this machine.
"""

import logging
from collections.abc import Callable, Sequence

from tklb.errors import DatabaseFailed, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Step
from tklb.model.report import Skipped
from tklb.restore.settings.exchange import Exchange, ExchangedFiles

log = logging.getLogger(__name__)

_MOST_TRIALS = 40  # restarts, of which one bad file among a thousand takes half

Result = tuple[Step, tuple[Skipped, ...]]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The steps with what was skipped of each. `failure`: why the server does not run with this machine's files."""

    steps: tuple[Result, ...]
    failure: str = ""

    @property
    def is_clean(self) -> bool:
        return not self.failure and not any(skipped for _, skipped in self.steps)


def try_settings(files: ExchangedFiles, steps: Sequence[Step], restart: Callable[[], str] | None) -> TrialResult:
    """Put files in place and restart the server. `restart` gives why the server does not run; None tries nothing."""
    done = [(step, *files.apply(step)) for step in steps]
    late = files.finish_folders()
    exchanges = [exchange for _, exchange, _ in done if exchange]
    reasons, failure = _find_culprits(files, exchanges, restart) if restart else ({}, "")
    files.discard(exchanges, reasons)
    results = [(step, (*skipped, *_describe(exchange, reasons))) for step, exchange, skipped in done]
    if results:
        results[-1] = (results[-1][0], (*results[-1][1], *late))
    return TrialResult(tuple(results), failure)


def put_beside(
    files: ExchangedFiles, steps: Sequence[Step], carry: Callable[[Sequence[bytes]], str] | None
) -> tuple[Result, ...]:
    """Give files that no server here reads a name beside their place; `carry` brings what they say to a server."""
    done = [(step, *files.apply(step)) for step in steps]
    exchanges = [exchange for _, exchange, _ in done if exchange]
    for exchange in reversed(exchanges):
        files.undo(exchange)
    late = files.finish_folders()
    carried = carry([exchange.new_path for exchange in exchanges if exchange.brings]) if carry else ""
    first = exchanges[0] if exchanges else None
    results = [
        (step, (*skipped, *_describe_unread(exchange, carried if exchange is first else "")))
        for step, exchange, skipped in done
    ]
    results[-1] = (results[-1][0], (*results[-1][1], *late))
    return tuple(results)


def _describe_unread(exchange: Exchange | None, carried: str) -> tuple[Skipped, ...]:
    if exchange is None:
        return ()
    reason = f"no server of its release is here; it is {printable(exchange.new_path)}"
    return (Skipped(exchange.step.item, f"{reason}; {carried}" if carried else reason),)


def explain_down(word: str, reason: str) -> Skipped:
    """A server that does not run at the end, as a skipped item."""
    failed = DatabaseFailed(item=word, reason=f"the server does not run: {reason}")
    return Skipped(f"{word}:*".encode(), str(failed), status=failed.code)


def _find_culprits(
    files: ExchangedFiles, exchanges: Sequence[Exchange], restart: Callable[[], str]
) -> tuple[dict[bytes, str], str]:
    """Give the files that keep the server from running, each with the reason, and why it does not run in the end."""
    reason = restart()
    if not reason or not exchanges:
        return {}, reason
    log.info("the server does not run with the configuration of the snapshot: %s", reason)
    for exchange in reversed(exchanges):
        files.undo(exchange)
    search = _Search(files, restart)
    search.put_in_place(exchanges, reason)
    return search.reasons, restart() if search.is_down else ""


class _Search:
    """Puts files in place as long as the server runs with them. `reasons` are of those that it does not run with."""

    def __init__(self, files: ExchangedFiles, restart: Callable[[], str]) -> None:
        self.reasons: dict[bytes, str] = {}
        self.is_down = True  # after the last trial
        self._files, self._restart = files, restart
        self._trials = 0

    def put_in_place(self, exchanges: Sequence[Exchange], reason: str) -> None:
        """Put in place what can be of some files, which it was not possible to put in place all at once."""
        if len(exchanges) == 1 or self._trials >= _MOST_TRIALS:
            self.reasons |= dict.fromkeys((exchange.step.item for exchange in exchanges), reason)
            return
        middle = len(exchanges) // 2
        for half in (exchanges[:middle], exchanges[middle:]):
            if why := self._try(half):
                self.put_in_place(half, why)

    def _try(self, exchanges: Sequence[Exchange]) -> str:
        """Put all of these in place, or none; give why the server does not run with them."""
        for exchange in exchanges:
            self._files.redo(exchange)
        self._trials += 1
        reason = self._restart()
        self.is_down = bool(reason)
        for exchange in reversed(exchanges) if reason else ():
            self._files.undo(exchange)
        return reason


def _describe(exchange: Exchange | None, reasons: dict[bytes, str]) -> tuple[Skipped, ...]:
    if exchange is None or exchange.step.item not in reasons:
        return ()
    stays = "this machine's own stays" if exchange.had else "it is not in use"
    place = f", that of the snapshot is {printable(exchange.new_path)}" if exchange.brings else ""
    item = exchange.step.item
    return (Skipped(item, f"the server does not run with it: {reasons[item]}; {stays}{place}"),)
