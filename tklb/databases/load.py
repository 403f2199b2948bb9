"""Carry out the steps on databases, with this machine's own servers.

Takes the steps of a plan and the dumps that they use; gives the items that could not be put back. Starts a server that
does not run yet. A database that fails stays as it was, and the others are loaded all the same.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from tklb.base.measure import Stopwatch, format_count
from tklb.databases.data_folders import NoteMove
from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseServer, LoadResult
from tklb.errors import DatabaseFailed, printable
from tklb.model.callbacks import Progress
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped

log = logging.getLogger(__name__)

FindServer = Callable[[str], DatabaseServer | None]


class DatabaseLoader:
    """Loads with one server for each engine. For one thread.

    `find` gives a server by its word, `make` makes one that is not here; `dumps` has the dump of each server.
    """

    def __init__(self, find: FindServer, dumps: Mapping[str, DumpFolder], make: FindServer | None = None) -> None:
        self.notes: list[str] = []
        self._find, self._dumps, self._make = find, dumps, make
        self._servers: dict[str, DatabaseServer] = {}

    def carry_out(self, step: Step, progress: Progress) -> tuple[Skipped, ...]:
        """Do one step: load the accounts of a server, or one database. A failure is a skipped item."""
        engine = _name_engine(step)
        try:
            result = self._load(self._start_server(engine), self._dumps[engine], step, progress)
        except DatabaseFailed as exc:
            return (Skipped(step.item, str(exc), status=exc.code),)
        self.notes += result.notes
        return result.skipped

    def carry_out_all(self, steps: Sequence[Step], progress: Progress) -> list[tuple[Step, tuple[Skipped, ...]]]:
        """Do steps; give each with what was skipped of it.

        A database that fails is loaded again as long as others of its server came after it: it may need one of them.
        """
        results = [(step, self.carry_out(step, progress)) for step in steps]
        last = {_name_engine(step): place for place, (step, rest) in enumerate(results) if not _has_failed(step, rest)}
        again = [
            step
            for place, (step, rest) in enumerate(results)
            if _has_failed(step, rest) and place < last.get(_name_engine(step), -1)
        ]
        done = [(step, rest) for step, rest in results if step not in again]
        return [*done, *(self.carry_out_all(again, progress) if again else ())]

    def has_server(self, engine: str, *, is_up: bool) -> bool:
        """Whether this machine has a server of an engine; with `is_up`, whether it answers."""
        try:
            server = self._find(engine)
            return server is not None and (not is_up or server.list_databases() is not None)
        except DatabaseFailed:
            return False

    def restart(self, engine: str, changed: Sequence[bytes], note: NoteMove) -> str:
        """Restart a server whose configuration has `changed`; give why it does not run, or nothing."""
        try:
            server = self._servers.get(engine) or self._find(engine)
        except DatabaseFailed as exc:
            return str(exc)
        if server is None:
            return "this machine has no such server"
        self._servers[engine] = server  # it knows where its data have moved
        return server.restart(changed, note)

    def recover(self, engine: str, changed: Sequence[bytes], note: NoteMove) -> str:
        """Restart a server after a killed trial of its configuration; give why it does not run, or nothing."""
        try:
            server = self._find(engine)
        except DatabaseFailed as exc:
            return str(exc)
        return server.recover(changed, note) if server else "this machine has no such server"

    def is_read(self, engine: str, path: bytes) -> bool:
        """Whether a server of this machine can read its configuration at a path; so it may where there is no server."""
        try:
            server = self._servers.get(engine) or self._find(engine)
        except DatabaseFailed:
            return True
        return server is None or server.is_read(path)

    def carry_settings(self, engine: str, files: Sequence[bytes]) -> str:
        """Bring what files of another release say to the server that ran last; say what became of it."""
        server = self._servers.get(engine)
        return server.carry_settings(files) if server else ""

    def finish(self) -> tuple[Skipped, ...]:
        """The items of all servers that waited for another database which did not come."""
        return tuple(item for server in self._servers.values() for item in self._finish(server))

    def _finish(self, server: DatabaseServer) -> tuple[Skipped, ...]:
        result = server.finish()
        self.notes += result.notes
        return result.skipped

    def _load(self, server: DatabaseServer, dump: DumpFolder, step: Step, progress: Progress) -> LoadResult:
        watch = Stopwatch()
        if step.kind is StepKind.DATABASE_ACCOUNTS:
            result = server.load_accounts(dump, progress)
            log.info("loaded the accounts of %s in %.1f s", server.engine, watch.seconds)
            return result
        if step.kind is StepKind.DATABASE_SETTINGS:
            result = server.load_settings(step.settings)
            log.info("set settings of %s in %.1f s: %s", server.engine, watch.seconds, step.detail)
            return result
        load = step.load
        assert load is not None
        result = server.load_database(dump, load, progress)
        tables = format_count(len(load.saved.tables if load.tables is None else load.tables), "table")
        name = printable(load.into)
        log.info("loaded database %s (%s): %s in %.1f s", name, server.engine, tables, watch.seconds)
        return result

    def _start_server(self, engine: str) -> DatabaseServer:
        if engine not in self._servers:
            server = self._find(engine) or (self._make(engine) if self._make else None)
            if server is None:
                raise DatabaseFailed(item=engine, reason="this machine has no such server")
            _ensure_answer(server)
            self._servers[engine] = server
        return self._servers[engine]


def _name_engine(step: Step) -> str:
    return step.load.saved.engine if step.load else step.item.decode()


def _has_failed(step: Step, skipped: Sequence[Skipped]) -> bool:
    """Whether nothing of a step was done."""
    return any(item.item == step.item and item.status == DatabaseFailed.code for item in skipped)


def _ensure_answer(server: DatabaseServer) -> None:
    try:
        server.list_databases()
    except DatabaseFailed:
        server.start()
        server.list_databases()
