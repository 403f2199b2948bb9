"""Load single tables of a dump into the database that is here.

A table that is here with the same columns gets the saved rows in the place of its own. A table that is not here is made
as it is in the dump, before, and is gone again where the rest fails. The rows are one transaction, and are read back in
it. A new table comes without the definitions that its rows or the server refuse; each is reported.

Takes a load; touches that database, and a scratch database while it lasts.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from tklb.databases.postgresql import definitions as files
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table, list_tables
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.databases.postgresql.definitions import RefusedEntry, load_definitions, report_refusals, retry_with_path
from tklb.databases.postgresql.dump.pg_dump import PgDump
from tklb.databases.postgresql.load.compare_rows import find_difference
from tklb.databases.postgresql.load.fingerprint import keep_roles
from tklb.databases.postgresql.load.load_rows import Job, Loaders, load_table
from tklb.databases.postgresql.load.relax import lift_constraint
from tklb.databases.postgresql.load.scratch import LoadRun, define, make_scratch
from tklb.databases.postgresql.script import split_script
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing

__all__ = ["load_tables"]

_KEY = "FK CONSTRAINT"


def load_tables(loading: LoadRun) -> None:
    jobs = _choose_tables(loading)
    with ExitStack() as stack:
        live = stack.enter_context(loading.open(loading.load.into))
        here = {(table.schema, table.table): table for table in list_tables(live)}
        present = [job for job in jobs if (job[0].schema, job[0].table) in here]
        for table, saved in present:
            if set(here[table.schema, table.table].columns) != set(table.columns):
                raise loading.refuse(f"{saved.name} has other columns here than in the dump")
        absent = [job for job in jobs if job not in present]
        scripts = _read_scripts(loading, absent) if absent else []
        stack.enter_context(keep_roles(live))
        loaders = stack.enter_context(Loaders(live))
        new = _NewTables(loading, loaders, live, absent)
        with new.drop_on_failure():
            new.make(scripts)
            _fill_tables(loading, loaders, present)
        new.make_keys(scripts)
        for table, _ in jobs:
            _move_sequences(loading, loaders, live, table)
        is_safe = loaders.trusts("casts") and loaders.trusts("functions")
        for table, _ in present if is_safe else ():
            for note in _describe_orphans(live, table):
                loading.note(note)


def _choose_tables(loading: LoadRun) -> list[Job]:
    chosen = set(loading.load.tables or ())
    jobs = [(table, saved) for table, saved in loading.saved.tables if saved.name in chosen]
    missing = sorted(chosen - {saved.name for _, saved in jobs})
    empty = sorted(saved.name for _, saved in jobs if saved.rows is None)
    if missing or empty:
        raise DatabaseFailed(item=loading.item, reason=f"the dump has no rows of {', '.join(missing + empty)}")
    if LARGE_OBJECTS in chosen:
        raise loading.refuse(f"{LARGE_OBJECTS}: large objects are brought with their whole database only")
    return jobs


def _read_scripts(loading: LoadRun, absent: Sequence[Job]) -> list[tuple[bytes, bytes]]:
    """The definitions of tables, before and after their rows: from a scratch database that has all definitions."""
    with make_scratch(loading) as (swap, _), ExitStack() as stack:
        connection = stack.enter_context(loading.open(swap.scratch))
        loaders = stack.enter_context(Loaders(connection))
        target = replace(loading.script_target, choose=loaders.choose)
        unwanted = DatabaseReport(loading.report.engine)  # about other objects
        refusals = define(loading, connection, target, unwanted)
        load_definitions(connection, loading.dump.read(files.POST_DATA), target, unwanted, refusals)
        program = PgDump(connection)
        try:
            return [
                (program.dump_table("pre-data", table), program.dump_table("post-data", table)) for table, _ in absent
            ]
        except (ProgramFailed, ProgramMissing) as exc:
            raise DatabaseFailed(item=loading.item, reason=str(exc)) from exc


class _NewTables:
    """Tables that are not here: made with their rows. A definition that the server refuses is reported at the end."""

    def __init__(self, loading: LoadRun, loaders: Loaders, live: ServerConnection, jobs: Sequence[Job]) -> None:
        self._loading, self._loaders, self._live, self._jobs = loading, loaders, live, jobs
        self._target = replace(loading.script_target, choose=loaders.choose)
        self._refusals: tuple[RefusedEntry, ...] = ()

    @contextlib.contextmanager
    def drop_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for table, _ in self._jobs:
                self._live.run(f"DROP TABLE IF EXISTS {table.sql}")
            raise

    def make(self, scripts: Sequence[tuple[bytes, bytes]]) -> None:
        """Make the tables, fill them, and make all else of them but foreign keys. Raises DatabaseFailed."""
        for before, _ in scripts:
            self._run(before)
        for table, saved in self._jobs:
            if self._live.fetch_value("SELECT to_regclass($1)", table.sql) is None:
                reasons = [one.reason for one in self._refusals if one.entry.first.full_name == table.full_name]
                raise self._loading.refuse(f"{saved.name} cannot be made here: {'; '.join(reasons)}")
        self._fill()
        for _, after in scripts:
            self._run(b"".join(one.text for one in split_script(after) if one.kind != _KEY))

    def make_keys(self, scripts: Sequence[tuple[bytes, bytes]]) -> None:
        """Make the foreign keys, now that all rows are there, and report what was refused."""
        for _, after in scripts:
            self._run(b"".join(one.text for one in split_script(after) if one.kind == _KEY))
        report_refusals(self._refusals, self._target, self._loading.report)

    def _run(self, script: bytes) -> None:
        self._refusals = load_definitions(self._live, script, self._target, self._loading.report, self._refusals)

    def _fill(self) -> None:
        """Fill them; a constraint that their rows do not hold comes back afterwards."""
        while failure := self._try_fill():
            error = failure.__cause__
            lifted = lift_constraint(self._live, error) if isinstance(error, ServerError) else None
            if lifted is None:
                raise failure
            self._refusals = (*self._refusals, lifted)

    def _try_fill(self) -> DatabaseFailed | None:
        try:
            _fill_tables(self._loading, self._loaders, self._jobs)
        except DatabaseFailed as exc:
            return exc
        return None


def _fill_tables(loading: LoadRun, loaders: Loaders, jobs: Sequence[Job]) -> None:
    """Give tables the saved rows in the place of their own, without triggers, in one transaction: all or none.

    The rows are read back before it ends.
    """
    if not jobs:
        return
    path = loading.saved.properties.search_path
    with loaders.join([table for table, _ in jobs]) as taker:
        taker.run("BEGIN; SET LOCAL session_replication_role = replica")
        for table, saved in jobs:
            loading.progress(f"{loading.item}: {saved.name}", 0, 0)
            taker.run(f"LOCK TABLE ONLY {table.sql} IN SHARE ROW EXCLUSIVE MODE")
            # its plan calls functions of indexes, which may rely on the path of those who use the database
            taker.run(f"SET LOCAL search_path TO {quote_text(table.schema)}, {path}")
            taker.run(f"DELETE FROM ONLY {table.sql} {table.condition}")
        taker.run("SET LOCAL search_path TO ''")
        for job in jobs:
            load_table(taker, loading.make_row_target(taker), job)
        for job in jobs if loading.login.read_back else ():
            _compare_table(loading, taker, job)
        taker.run("COMMIT")


def _compare_table(loading: LoadRun, taker: ServerConnection, job: Job) -> None:
    table, saved = job
    try:
        rows = taker.copy_out(table.copy_out(loading.saved.properties.encoding))
        reason = find_difference(loading.dump, job, taker.version, rows)
    except ServerError as exc:
        reason = f"its rows cannot be read back: {exc}"
    if reason:
        raise DatabaseFailed(item=f"{loading.item}/{saved.name}", reason=reason)


# ---------------------------------------------------------------- after the rows


def _move_sequences(loading: LoadRun, loaders: Loaders, live: ServerConnection, table: Table) -> None:
    """Set the sequences of a table's columns behind the highest of its numbers.

    The planner calls functions in expressions of indexes: an administrator asks only where nobody else has any.
    """
    is_safe = loaders.trusts("functions")
    if not is_safe and not loaders.has_owner(table):
        loading.note(f"{table.full_name}: its sequences stay where they are")
        return
    runner = live if is_safe else loaders.connect(table)
    path = loading.saved.properties.search_path
    try:
        retry_with_path(runner, table.schema, path, lambda: _set_sequences(runner, table))
    except ServerError as exc:
        loading.note(f"{table.full_name}: its sequences stay where they are: {exc}")


def _set_sequences(live: ServerConnection, table: Table) -> None:
    for column in (one for one in table.columns if not one.type.endswith("[]")):
        found = live.fetch_value("SELECT pg_get_serial_sequence($1, $2)", table.sql, column.name)
        if found:
            highest = f"(SELECT max({quote_name(column.name)})::bigint FROM ONLY {table.sql})"
            live.run(
                f"SELECT setval({quote_text(found)}, {highest})"
                f" FROM {found} WHERE {highest} > last_value OR ({highest} = last_value AND NOT is_called)"
            )


def _describe_orphans(live: ServerConnection, table: Table) -> Iterator[str]:
    """Describe the foreign keys, of the table's and to it, that do not hold any more."""
    keys = live.fetch_rows(
        """SELECT c.conname, c.conrelid::regclass::text, c.confrelid::regclass::text,
             string_agg(format('%1$s.%2$I IS NOT NULL', 'child', a.attname), ' AND '),
             string_agg(format('child.%I = parent.%I', a.attname, b.attname), ' AND ')
           FROM pg_constraint c
           CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k(own, other)
           JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.own
           JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.other
           WHERE c.contype = 'f' AND $1::regclass IN (c.conrelid, c.confrelid) AND c.conparentid = 0
           GROUP BY c.oid, c.conname, c.conrelid, c.confrelid ORDER BY 1""",
        table.sql,
    )
    for name, child, parent, is_set, is_same in keys:
        count = live.fetch_value(
            f"SELECT count(*) FROM {child} child WHERE {is_set}"
            f" AND NOT EXISTS (SELECT FROM {parent} parent WHERE {is_same})"
        )
        if count != "0":
            yield f"{count} rows of {child} miss their rows in {parent} (foreign key {name})"
