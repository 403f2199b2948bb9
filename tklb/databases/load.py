"""Carry out the steps on databases, with this machine's own servers.

Takes the steps of a plan and the dumps they name; gives what could not be put back. A server that does not run yet is
started; one database that fails leaves itself as it was, and the others go on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseServer, LoadResult
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped


@dataclass(slots=True)
class DatabaseLoader:
    """`find` gives the server of an engine, `dumps` has the dump of each engine's server."""

    find: Callable[[str], DatabaseServer | None]
    dumps: Mapping[str, DumpFolder]
    notes: list[str] = field(default_factory=list)
    _servers: dict[str, DatabaseServer] = field(default_factory=dict)

    def carry_out(self, step: Step, progress: Progress) -> tuple[Skipped, ...]:
        """Do one step: the accounts of a server, or one database."""
        engine = step.load.saved.engine if step.load else step.item.decode()
        try:
            loaded = self._loaded(self._server(engine), engine, step, progress)
        except DatabaseFailed as exc:
            return (Skipped(step.item, str(exc), status=exc.code),)
        self.notes += loaded.notes
        return loaded.skipped

    def finish(self) -> tuple[Skipped, ...]:
        """What waited in vain for something else to come, on all servers."""
        return tuple(item for server in self._servers.values() for item in server.finish().skipped)

    def _loaded(self, server: DatabaseServer, engine: str, step: Step, progress: Progress) -> LoadResult:
        dump = self.dumps[engine]
        if step.kind is StepKind.DATABASE_ACCOUNTS:
            return server.load_accounts(dump, progress)
        assert step.load is not None
        return server.load_database(dump, step.load, progress)

    def _server(self, engine: str) -> DatabaseServer:
        if engine not in self._servers:
            server = self.find(engine)
            if server is None:
                raise DatabaseFailed(item=engine, reason="this machine has no such server")
            _answering(server)
            self._servers[engine] = server
        return self._servers[engine]


def _answering(server: DatabaseServer) -> None:
    try:
        server.list_databases()
    except DatabaseFailed:
        server.start()
        server.list_databases()
