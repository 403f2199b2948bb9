"""The PostgreSQL server of this machine, as the protocol of databases has it.

Takes a cluster; asks, dumps and loads it through sessions of its administrator. Touches the folder of a dump and the
server.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tklb.base.process import run
from tklb.databases.dump_format import DumpFolder, folder_of, write_json
from tklb.databases.filter import spell_item
from tklb.databases.interface import DatabaseScope, DumpResult, LoadResult
from tklb.databases.postgresql import catalogue
from tklb.databases.postgresql.cluster import ENGINE, Cluster
from tklb.databases.postgresql.dump import DatabaseDump
from tklb.databases.postgresql.load import load_database
from tklb.databases.postgresql.properties import locale_word
from tklb.databases.postgresql.roles import ROLES, RoleLoader, ask_roles, read_roles
from tklb.databases.postgresql.session import Refused, Session
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, SavedServer, ServerFeatures
from tklb.model.report import Skipped

_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One cluster. Its administrator is who the cluster belongs to, by peer authentication."""

    cluster: Cluster
    lock_seconds: int

    @property
    def engine(self) -> str:
        return ENGINE

    def start(self) -> None:
        self.cluster.start()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self._maintenance():
                    return
            except DatabaseFailed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def list_databases(self) -> tuple[Database, ...]:
        with self._maintenance() as session:
            return self._databases(session)

    def read_features(self) -> ServerFeatures:
        with self._maintenance() as session:
            names = session.ask("SELECT 'extension:' || name FROM pg_available_extensions")
            features = {str(name) for (name,) in names}
            if session.value("SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')") == "t":
                features.add("provider:icu")
            if session.version >= 170000:
                features.add("provider:builtin")
            number = (session.version // 10000,)
            return ServerFeatures(
                _version(session), number, self._databases(session), frozenset(features | self._locales())
            )

    def dump_databases(self, wish: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        skipped: list[Skipped] = []
        notes: list[str] = []
        saved = []
        with self._maintenance() as session:
            roles = ask_roles(session)
            write_json(folder / ROLES, roles)
            version = _version(session)
            for database in self._databases(session):
                if not wish.has_database(database.name):
                    continue
                if catalogue.is_closed(session, database.name):
                    skipped.append(Skipped(spell_item(ENGINE, database.name), "it allows no connections"))
                    continue
                own = folder / folder_of(database.name)
                one = DatabaseDump(self.cluster, database.name, own, self.lock_seconds, wish, progress)
                taken = one.taken()
                saved += [taken] if taken else []
                skipped += one.skipped
                notes += one.notes
        skipped += _others(self.cluster)
        accounts = tuple(str(role["name"]) for role in roles["roles"])
        return DumpResult(SavedServer(ENGINE, version, tuple(saved), accounts), tuple(skipped), tuple(notes))

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        skipped: list[Skipped] = []
        notes: list[str] = []
        with self._maintenance() as session:
            progress(f"{ENGINE}: roles", 0, 0)
            try:
                RoleLoader(session, read_roles(dump), skipped, notes).load()
            except (KeyError, TypeError, ValueError, AttributeError) as exc:
                raise DatabaseFailed(item=ENGINE, reason=f"{ROLES} of its dump is not as it should be") from exc
        return LoadResult(tuple(skipped), tuple(notes))

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        with self._maintenance(load.into) as session:
            third = session.database
        return load_database(self.cluster, self.lock_seconds, third, dump, load, progress)

    def finish(self) -> LoadResult:
        return LoadResult()  # no database of a cluster waits for another

    def _databases(self, session: Session) -> tuple[Database, ...]:
        return tuple(
            database
            for database in catalogue.databases(session)
            if database.name not in catalogue.BARE or not self._is_bare(session, database.name)
        )

    def _is_bare(self, session: Session, database: str) -> bool:
        if catalogue.is_closed(session, database):
            return False
        with Session(self.cluster, database, self.lock_seconds) as inside:
            return catalogue.is_bare(inside)

    def _locales(self) -> set[str]:
        """Those that this machine knows: the server's own, where it is on it."""
        if self.cluster.service:
            return set()
        try:
            said = run(["locale", "-a"]).stdout.decode("utf-8", "replace")
        except (ProgramFailed, ProgramMissing):
            return set()
        return {f"locale:{locale_word(line)}" for line in said.split()}

    @contextlib.contextmanager
    def _maintenance(self, without: str = "") -> Iterator[Session]:
        """A session with a database that every server has; what it refuses is a failure of the whole server."""
        try:
            with open_maintenance(self.cluster, self.lock_seconds, without) as session:
                yield session
        except Refused as exc:
            raise DatabaseFailed(item=ENGINE, reason=str(exc)) from exc


def open_maintenance(cluster: Cluster, lock_seconds: int, without: str = "") -> Session:
    """A session with `postgres` or `template1`, whichever there is and is not `without`. Raises Refused."""
    names = [name for name in catalogue.BARE if name != without]
    for name in names[:-1]:
        with contextlib.suppress(Refused):
            return Session(cluster, name, lock_seconds)
    return Session(cluster, names[-1], lock_seconds)


def _version(session: Session) -> str:
    return f"PostgreSQL {session.version // 10000}.{session.version % 10000}"


def _others(cluster: Cluster) -> Iterator[Skipped]:
    reason = "one cluster is taken, that with the lowest port; a libpq service (databases.pgsql_service) names another"
    for name in cluster.others:
        yield Skipped(f"{ENGINE}:{name}".encode("utf-8", "surrogateescape"), reason)
