"""Load a dumped database beside the one here, count, and put it in its place; or single tables into the one here.

A whole database: until the swap users work with the old one. Only tables whose rows are kept cannot be written to from
the moment they are copied. A load that fails or is interrupted leaves the old database as it was, and nothing of its
own. The next load drops the databases that a killed one left.

Single tables: a table that is here with the same columns gets the saved rows in the place of its own. A table that is
not here is made as it is in the dump, before, and is gone again where the rest fails. The rows are one transaction.

Takes a dump and a load; touches the server.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql import definitions as files
from tklb.databases.postgresql.accounts import keep_roles
from tklb.databases.postgresql.catalogue import (
    LARGE_OBJECTS,
    list_tables,
    open_maintenance,
    read_large_objects,
)
from tklb.databases.postgresql.connection import (
    ONLY_TABLES,
    ServerConnection,
    ServerError,
    convert_errors,
    open_connection,
    quote_name,
)
from tklb.databases.postgresql.definitions import (
    SavedDefinitions,
    ScriptTarget,
    Statement,
    load_definitions,
    read_definitions,
    split_script,
)
from tklb.databases.postgresql.dump.pg_dump import PgDump
from tklb.databases.postgresql.load.load_rows import (
    MAKE_PAGES,
    Job,
    Loaders,
    RowTarget,
    describe_orphans,
    format_copy,
    load_rows,
    load_table,
    move_sequences,
    put_pages,
)
from tklb.databases.postgresql.load.swap import (
    Swap,
    create_database,
    drop_database,
    drop_leftovers,
    has_database,
    list_property_statements,
    list_slots,
    make_swap,
    swap_database,
)
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad

__all__ = ["load_database"]

_FOR_SPEED = "SET synchronous_commit = off; SET maintenance_work_mem = '128MB'"
_KEY = "FK CONSTRAINT"
_INSTEAD = "--rename-database brings the saved database beside this one"


class DatabaseLoading:
    """One load. `third` is a database that is not swapped, for connections that must be with neither."""

    def __init__(
        self, login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, report: DatabaseReport, third: str
    ) -> None:
        self.login, self.load, self.progress, self.report, self.third = login, load, progress, report, third
        self.dump = dump.enter(load.saved.folder)
        self.saved: SavedDefinitions = read_definitions(self.dump, load.saved)
        self.made_roles: list[str] = []

    @property
    def item(self) -> str:
        return spell_item(ENGINE, self.load.into).decode("utf-8", "surrogateescape")

    @property
    def script_target(self) -> ScriptTarget:
        return ScriptTarget(self.load.into, self.saved.properties.search_path, self.saved.has_gaps)

    @property
    def kept_tables(self) -> list[Job]:
        """The tables whose rows stay as they are here."""
        names = set(self.load.kept)
        return [(table, saved) for table, saved in self.saved.tables if saved.rows is None or saved.name in names]

    def open(self, database: str) -> ServerConnection:
        return open_connection(self.login, database)

    def note(self, text: str) -> None:
        self.report.note(f"{self.item}: {text}")

    def make_row_target(self, *connections: ServerConnection) -> RowTarget:
        properties = self.saved.properties
        return RowTarget(connections, self.dump, self.item, properties.encoding, properties.search_path)

    def refuse(self, reason: str) -> DatabaseFailed:
        return DatabaseFailed(item=self.item, reason=f"{reason}; {_INSTEAD}")


def load_database(
    login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, report: DatabaseReport
) -> None:
    """Load one database. Raises DatabaseFailed, which says the object; the database here is as it was then."""
    with convert_errors(ENGINE), open_maintenance(login, without=load.into) as connection:
        third = connection.database
    loading = DatabaseLoading(login, dump, load, progress, report, third)
    with convert_errors(loading.item):
        with loading.open(third) as connection:
            is_here = has_database(connection, load.into)
        if load.tables is not None and is_here:
            _load_tables(loading)
        else:
            _load_whole(loading)


# ---------------------------------------------------------------- a whole database


def _load_whole(loading: DatabaseLoading) -> None:
    with _make_scratch(loading) as (swap, chief), ExitStack() as stack:
        connection = stack.enter_context(loading.open(swap.scratch))
        live = _open_live(loading, chief, stack)
        _fill(loading, connection, live)
        connection.close()
        _set_properties(loading, chief, swap.scratch)
        ender = stack.enter_context(loading.open(loading.third))
        gone = list_slots(chief, swap.live)
        ended = swap_database(chief, ender, swap, live)
        if gone:
            loading.note(f"replication slots of the old database are gone: {', '.join(gone)}")
        if ended:
            loading.note(f"{ended} sessions with the old database were ended")


@contextlib.contextmanager
def _make_scratch(loading: DatabaseLoading) -> Iterator[tuple[Swap, ServerConnection]]:
    """An empty database like the saved one, and a connection that is with neither; both gone at the end."""
    swap = make_swap(loading.load.into)
    is_done = False
    with loading.open(loading.third) as chief:
        try:
            for note in drop_leftovers(chief):
                loading.report.note(note)
            _make_roles(loading, chief)
            if lack := create_database(chief, swap.scratch, loading.saved.properties):
                loading.note(lack)
            yield swap, chief
            is_done = True
        finally:
            chief.settle()
            chief.close()
            _tidy(loading, swap, is_done=is_done)


def _tidy(loading: DatabaseLoading, swap: Swap, *, is_done: bool) -> None:
    for name in (swap.scratch, swap.aside):
        try:
            with loading.open(loading.third) as connection:
                drop_database(connection, name)
        except (ServerError, DatabaseFailed) as exc:
            loading.note(f"{name} is left over and cannot be dropped: {exc}")
    for role in () if is_done else loading.made_roles:
        with contextlib.suppress(ServerError, DatabaseFailed), loading.open(loading.third) as connection:
            connection.run(f"DROP ROLE {quote_name(role)}")


def _make_roles(loading: DatabaseLoading, connection: ServerConnection) -> None:
    """Make the roles that the dump needs and the server lacks: without a login, so that owners and grants are right."""
    here = {name for (name,) in connection.fetch_rows("SELECT rolname FROM pg_authid")}
    for role in loading.saved.roles:
        if role not in here:
            connection.run(f"CREATE ROLE {quote_name(role)} NOLOGIN")
            loading.made_roles.append(role)
    if loading.made_roles:
        loading.note(f"roles made without a login: {', '.join(loading.made_roles)}")


def _open_live(loading: DatabaseLoading, chief: ServerConnection, stack: ExitStack) -> ServerConnection | None:
    """A connection with the database here, where rows of it are to be kept."""
    if not (loading.kept_tables and has_database(chief, loading.load.into)):
        return None
    live = stack.enter_context(loading.open(loading.load.into))
    live.fetch_rows(ONLY_TABLES)
    live.run("BEGIN")
    return live


def _fill(loading: DatabaseLoading, first: ServerConnection, live: ServerConnection | None) -> None:
    """Load definitions, rows and all else into the scratch database that the connection is with."""
    dump = loading.dump
    first.run(_FOR_SPEED)
    with keep_roles(first), Loaders(first) as loaders:
        target = replace(loading.script_target, choose=loaders.choose)
        _define(loading, first, target)
        if pages := dump.has(files.LARGE_OBJECTS):
            load_definitions(first, dump.read(files.LARGE_OBJECTS), target, loading.report)
            first.run(MAKE_PAGES)
        with loaders.let_insert([table for table, _ in loading.saved.tables if table.full_name != LARGE_OBJECTS]):
            _load_rows(loading, first, loaders)
            if live:
                _keep_rows(loading, live, first, loaders)
        if pages:
            put_pages(first, loading.saved.page_size)
        load_definitions(first, dump.read(files.SEQUENCES), target, loading.report)
        loading.progress(f"{loading.item}: keys, indexes and triggers", 0, 0)
        load_definitions(first, dump.read(files.POST_DATA), target, loading.report)


def _define(loading: DatabaseLoading, connection: ServerConnection, target: ScriptTarget) -> None:
    """Drop what only template0 has, then load the definitions before the rows."""
    if "plpgsql" not in loading.saved.extensions:
        connection.run("DROP EXTENSION plpgsql")
    if not loading.saved.has_public:
        connection.run("DROP SCHEMA public")
    else:
        connection.run("COMMENT ON SCHEMA public IS NULL")
    load_definitions(connection, loading.dump.read(files.PRE_DATA), target, loading.report)


def _load_rows(loading: DatabaseLoading, chief: ServerConnection, loaders: Loaders) -> None:
    """Load the rows of each owner's tables in sessions that may do no more than that owner."""
    kept = {saved.name for _, saved in loading.kept_tables}
    chosen = None if loading.load.tables is None else set(loading.load.tables)
    jobs = [
        job for job in loading.saved.tables if job[1].name not in kept and (chosen is None or job[1].name in chosen)
    ]
    large = [job for job in jobs if job[1].name == LARGE_OBJECTS]
    saved = {table.full_name: job for job in jobs if job not in large for table in job[:1]}
    for tables in loaders.group(table for table, _ in saved.values()).values():
        connections = [loaders.open_for(tables[0]) for _ in range(2)]
        for connection in connections:
            connection.run("SET synchronous_commit = off")
        load_rows(loading.make_row_target(*connections), [saved[table.full_name] for table in tables], loading.progress)
    for job in large:
        load_table(chief, loading.make_row_target(chief), job)


def _keep_rows(loading: DatabaseLoading, live: ServerConnection, scratch: ServerConnection, loaders: Loaders) -> None:
    """Copy the rows that stay from the database here; nobody writes to them from now on."""
    here = {table.full_name: table for table in list_tables(live)}
    if pages := read_large_objects(live):
        here[pages.full_name] = pages
    for table, saved in loading.kept_tables:
        own = here.get(table.full_name)
        if own is None:
            loading.note(f"{saved.name} is empty: there were no rows of it here")
            continue
        if not {column.name for column in own.columns} <= {column.name for column in table.columns}:
            raise loading.refuse(
                f"{saved.name} has other columns here than in the dump, so that its rows cannot be kept"
            )
        if saved.name != LARGE_OBJECTS:
            live.run(f"LOCK TABLE ONLY {own.sql} IN SHARE MODE")
        taker = scratch if saved.name == LARGE_OBJECTS else loaders.connect(table)
        encoding = "SQL_ASCII" if "SQL_ASCII" in (live.encoding, scratch.encoding) else "UTF8"
        taker.copy_in(format_copy(own, encoding), live.copy_out(own.copy_out(encoding)))


def _set_properties(loading: DatabaseLoading, connection: ServerConnection, name: str) -> None:
    """Give the loaded database its owner, privileges, settings and comment."""
    for about, statement in list_property_statements(name, loading.saved.properties):
        try:
            connection.run(statement)
        except ServerError as exc:
            loading.report.skip(loading.load.into, "", f"its {about}: {exc}")


# ---------------------------------------------------------------- single tables


def _load_tables(loading: DatabaseLoading) -> None:
    jobs = _choose_tables(loading)
    with ExitStack() as stack:
        live = stack.enter_context(loading.open(loading.load.into))
        for note in drop_leftovers(live):
            loading.report.note(note)
        here = {(table.schema, table.table): table for table in list_tables(live)}
        present = [job for job in jobs if (job[0].schema, job[0].table) in here]
        for table, saved in present:
            if set(here[table.schema, table.table].columns) != set(table.columns):
                raise loading.refuse(f"{saved.name} has other columns here than in the dump")
        absent = [job for job in jobs if job not in present]
        scripts = _read_scripts(loading, absent) if absent else []
        stack.enter_context(keep_roles(live))
        loaders = stack.enter_context(Loaders(live))
        with _make_tables(loading, loaders, live, absent, scripts):
            _fill_tables(loading, loaders, present)
        for script, (_, saved) in zip(scripts, absent, strict=True):
            _make_keys(loading, loaders, live, script[1], saved.name)
        for table, _ in present:
            move_sequences(live, table)
            for note in describe_orphans(live, table) if loaders.trusts("casts") else ():
                loading.note(note)


def _choose_tables(loading: DatabaseLoading) -> list[Job]:
    chosen = set(loading.load.tables or ())
    jobs = [(table, saved) for table, saved in loading.saved.tables if saved.name in chosen]
    missing = sorted(chosen - {saved.name for _, saved in jobs})
    empty = sorted(saved.name for _, saved in jobs if saved.rows is None)
    if missing or empty:
        raise DatabaseFailed(item=loading.item, reason=f"the dump has no rows of {', '.join(missing + empty)}")
    if LARGE_OBJECTS in chosen:
        raise loading.refuse(f"{LARGE_OBJECTS}: large objects are brought with their whole database only")
    return jobs


def _read_scripts(loading: DatabaseLoading, absent: Sequence[Job]) -> list[tuple[bytes, bytes]]:
    """The definitions of tables, before and after their rows: from a scratch database that has all definitions."""
    with _make_scratch(loading) as (swap, _), ExitStack() as stack:
        connection = stack.enter_context(loading.open(swap.scratch))
        loaders = stack.enter_context(Loaders(connection))
        target = replace(loading.script_target, choose=loaders.choose)
        _define(loading, connection, target)
        load_definitions(connection, loading.dump.read(files.POST_DATA), target, loading.report)
        program = PgDump(connection)
        try:
            return [
                (program.dump_table("pre-data", table), program.dump_table("post-data", table)) for table, _ in absent
            ]
        except (ProgramFailed, ProgramMissing) as exc:
            raise DatabaseFailed(item=loading.item, reason=str(exc)) from exc


@contextlib.contextmanager
def _make_tables(
    loading: DatabaseLoading,
    loaders: Loaders,
    live: ServerConnection,
    absent: Sequence[Job],
    scripts: Sequence[tuple[bytes, bytes]],
) -> Iterator[None]:
    """Make tables that are not here, with their rows; a failure, also in the block, drops them. Keys come later."""
    try:
        for (before, _), (_, saved) in zip(scripts, absent, strict=True):
            _run_script(loading, loaders, live, split_script(before), saved.name)
        _fill_tables(loading, loaders, absent)
        for (_, after), (_, saved) in zip(scripts, absent, strict=True):
            _run_script(loading, loaders, live, (one for one in split_script(after) if one.kind != _KEY), saved.name)
        yield
    except BaseException:
        for table, _ in absent:
            live.run(f"DROP TABLE IF EXISTS {table.sql}")
        raise


def _fill_tables(loading: DatabaseLoading, loaders: Loaders, jobs: Sequence[Job]) -> None:
    """Give tables the saved rows in the place of their own, without triggers, in one transaction: all or none."""
    if not jobs:
        return
    with loaders.join([table for table, _ in jobs]) as taker:
        taker.run("BEGIN; SET LOCAL session_replication_role = replica")
        for table, saved in jobs:
            loading.progress(f"{loading.item}: {saved.name}", 0, 0)
            taker.run(f"LOCK TABLE ONLY {table.sql} IN SHARE ROW EXCLUSIVE MODE")
            taker.run(f"DELETE FROM ONLY {table.sql} {table.condition}")
        for job in jobs:
            load_table(taker, loading.make_row_target(taker), job)
        taker.run("COMMIT")


def _make_keys(loading: DatabaseLoading, loaders: Loaders, live: ServerConnection, script: bytes, name: str) -> None:
    """Make the foreign keys of a new table, now that all rows are there."""
    for statement in (one for one in split_script(script) if one.kind == _KEY):
        try:
            _run_script(loading, loaders, live, [statement], name)
        except DatabaseFailed as exc:
            loading.report.skip(loading.load.into, name, str(exc))


def _run_script(
    loading: DatabaseLoading, loaders: Loaders, live: ServerConnection, script: Iterable[Statement], name: str
) -> None:
    for statement in script:
        try:
            runner = loaders.choose(*statement.needs) if statement.evaluates else live
            runner.run(statement.text)
        except ServerError as exc:
            raise loading.refuse(f"{name} cannot be made here: {statement.about}: {exc}") from exc
