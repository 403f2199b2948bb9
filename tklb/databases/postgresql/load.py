"""Load a dumped database beside the one here, count, and put it in its place.

Until the swap the old database is used as ever, but for tables whose rows are kept: these cannot be written to from
the moment they are copied. Takes a dump; touches the server. A load that fails, or is interrupted, leaves the old
database as it was and nothing of its own; what a killed one leaves, the next one drops.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.interface import LoadResult
from tklb.databases.postgresql import catalogue, details
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.cluster import ENGINE, Cluster
from tklb.databases.postgresql.feeding import Feeder, RowFeeder, copy_into, make_pages, put_pages
from tklb.databases.postgresql.properties import create, property_statements, search_path
from tklb.databases.postgresql.session import Refused, Session, ident
from tklb.databases.postgresql.swap import Names, drop, exists, slots, swap, sweep
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad, SavedTable
from tklb.model.report import Skipped

_FOR_SPEED = "SET synchronous_commit = off; SET maintenance_work_mem = '128MB'"


@dataclass(slots=True)
class DatabaseLoader:
    """One load. `session_with` opens a session with a database; `third` names one that is not swapped."""

    cluster: Cluster
    lock_seconds: int
    dump: DumpFolder
    load: DatabaseLoad
    progress: Progress
    third: str
    details: details.Details
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    made_roles: list[str] = field(default_factory=list)

    @property
    def item(self) -> str:
        return spell_item(ENGINE, self.load.into).decode("utf-8", "surrogateescape")

    @property
    def path(self) -> str:
        return search_path(self.details.properties)

    def session_with(self, database: str) -> Session:
        return Session(self.cluster, database, self.lock_seconds)

    def whole(self) -> None:
        """Bring the whole database. Raises Refused, DatabaseFailed: nothing changed then."""
        with self.scratch() as (names, chief), ExitStack() as stack:
            sessions = [stack.enter_context(self.session_with(names.scratch)) for _ in range(2)]
            live = self._live_session(chief, stack)
            self.fill(sessions, live)
            for session in sessions:
                session.close()
            self._dress(chief, names.scratch)
            ender = stack.enter_context(self.session_with(self.third))
            own = live.pid if live else 0
            gone = slots(chief, names.live)
            ended = swap(chief, ender, names, live.close if live else (lambda: None), own)
            if gone:
                self.notes.append(f"{self.item}: replication slots of the old database are gone: {', '.join(gone)}")
            if ended:
                self.notes.append(f"{self.item}: {ended} sessions with the old database were ended")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[tuple[Names, Session]]:
        """An empty database as the saved one, and a session that is with neither; both gone at the end."""
        names = Names(self.load.into)
        is_done = False
        with self.session_with(self.third) as chief:
            try:
                self.notes += sweep(chief, self.session_with)
                self._make_roles(chief)
                told = create(chief, names.scratch, self.details.properties)
                self.notes += [f"{self.item}: {told}"] if told else []
                yield names, chief
                is_done = True
            finally:
                chief.settle()
                chief.close()
                self._tidy(names, is_done=is_done)

    def _tidy(self, names: Names, *, is_done: bool) -> None:
        for name in (names.scratch, names.aside):
            try:
                with self.session_with(self.third) as session:
                    drop(session, name, self.session_with)
            except (Refused, DatabaseFailed) as exc:
                self.notes.append(f"{self.item}: {name} is left over and cannot be dropped: {exc}")
        for role in () if is_done else self.made_roles:
            with contextlib.suppress(Refused, DatabaseFailed), self.session_with(self.third) as session:
                session.tell(f"DROP ROLE {ident(role)}")

    def _make_roles(self, session: Session) -> None:
        """Roles that are named in the dump and not here: without a login, so that owners and privileges are right."""
        here = {name for (name,) in session.ask("SELECT rolname FROM pg_authid")}
        for role in self.details.roles:
            if role not in here:
                session.tell(f"CREATE ROLE {ident(role)} NOLOGIN")
                self.made_roles.append(role)
        if self.made_roles:
            self.notes.append(f"{self.item}: roles made without a login: {', '.join(self.made_roles)}")

    def _live_session(self, chief: Session, stack: ExitStack) -> Session | None:
        """A session with the database here, where rows of it are to be kept."""
        if not (self._kept() and exists(chief, self.load.into)):
            return None
        live = stack.enter_context(self.session_with(self.load.into))
        live.tell("BEGIN")
        return live

    def _kept(self) -> list[tuple[Table, SavedTable]]:
        kept = set(self.load.kept)
        return [(table, saved) for table, saved in self.details.tables if saved.rows is None or saved.name in kept]

    def _brought(self) -> list[tuple[Table, SavedTable]]:
        kept = {saved.name for _, saved in self._kept()}
        chosen = None if self.load.tables is None else set(self.load.tables)
        return [
            (table, saved)
            for table, saved in self.details.tables
            if saved.name not in kept and (chosen is None or saved.name in chosen)
        ]

    def fill(self, sessions: Sequence[Session], live: Session | None) -> None:
        """Definitions, rows and all else into the scratch database that the sessions are with."""
        first = sessions[0]
        feeder = Feeder(first, self.item, self.path, self.details.has_gaps, self.skipped)
        for session in sessions:
            session.tell(_FOR_SPEED)
        self.define(feeder)
        if pages := self.dump.has(details.LARGE_OBJECTS):
            feeder.run(self.dump.read(details.LARGE_OBJECTS))
            make_pages(first)
        self._bring(sessions)
        if live:
            self._keep(live, first)
        if pages:
            put_pages(first, self.details.page_size)
        feeder.run(self.dump.read(details.SEQUENCES))
        self.progress(f"{self.item}: keys, indexes and triggers", 0, 0)
        feeder.run(self.dump.read(details.POST_DATA))

    def define(self, feeder: Feeder) -> None:
        """What template0 has and the saved database has not, then the definitions before the rows."""
        if "plpgsql" not in self.details.extensions:
            feeder.session.tell("DROP EXTENSION plpgsql")
        if not self.details.has_public:
            feeder.session.tell("DROP SCHEMA public")
        else:
            feeder.session.tell("COMMENT ON SCHEMA public IS NULL")
        feeder.run(self.dump.read(details.PRE_DATA))

    def _bring(self, sessions: Sequence[Session]) -> None:
        jobs = self._brought()
        large = [job for job in jobs if job[1].name == catalogue.LARGE_OBJECTS]
        rows = RowFeeder(self.dump, self.item, self.details.properties.encoding, self.path, self._watch(jobs))
        rows.feed(sessions, [job for job in jobs if job not in large])
        for table, saved in large:
            rows.feed_one(sessions[0], table, saved)

    def _watch(self, jobs: Sequence[tuple[Table, SavedTable]]) -> Callable[[int], None]:
        total = sum(self.dump.path(name).stat().st_size for _, saved in jobs for name in saved.files)
        return lambda done: self.progress(self.item, done, total)

    def _keep(self, live: Session, scratch: Session) -> None:
        """Bring the rows that stay as they are from the database here; nobody writes to them from now on."""
        here = {(table.schema, table.table): table for table in catalogue.tables(live)}
        if pages := catalogue.large_objects(live):
            here[pages.schema, pages.table] = pages
        for table, saved in self._kept():
            own = here.get((table.schema, table.table))
            if own is None:
                self.notes.append(f"{self.item}: {saved.name} is empty: there were no rows of it here")
                continue
            if not {column.name for column in own.columns} <= {column.name for column in table.columns}:
                reason = f"{saved.name} has other columns here than in the dump, so that its rows cannot be kept"
                raise DatabaseFailed(item=self.item, reason=f"{reason} (--rename-database brings it beside this one)")
            if saved.name != catalogue.LARGE_OBJECTS:
                live.tell(f"LOCK TABLE ONLY {own.sql} IN SHARE MODE")
            encoding = "SQL_ASCII" if "SQL_ASCII" in (live.encoding, scratch.encoding) else "UTF8"
            scratch.copy_in(copy_into(own, encoding), live.copy_out(own.copy_out(encoding)))

    def _dress(self, session: Session, name: str) -> None:
        """Give the loaded database its owner, privileges, settings and comment."""
        for about, statement in property_statements(name, self.details.properties):
            try:
                session.tell(statement)
            except Refused as exc:
                self.skipped.append(Skipped(self.item.encode("utf-8", "surrogateescape"), f"its {about}: {exc}"))


def load_database(
    cluster: Cluster, lock_seconds: int, third: str, dump: DumpFolder, load: DatabaseLoad, progress: Progress
) -> LoadResult:
    """Raises DatabaseFailed, naming what failed: the database here is as it was."""
    from tklb.databases.postgresql.single import load_tables

    own = dump.below(load.saved.folder)
    loader = DatabaseLoader(cluster, lock_seconds, own, load, progress, third, details.read_details(own, load.saved))
    try:
        with loader.session_with(third) as session:
            is_here = exists(session, load.into)
        if load.tables is not None and is_here:
            load_tables(loader)
        else:
            loader.whole()
    except Refused as exc:
        raise DatabaseFailed(item=loader.item, reason=str(exc)) from exc
    return LoadResult(tuple(loader.skipped), tuple(loader.notes))
