"""Single tables of a dump into a database that goes on as it is.

A table that is here with the same columns gets the saved rows in the place of its own; one that is not here is made
as it is in the dump. All of them in one transaction: it is done, or nothing changed. Takes a loader; touches the
database here, and for tables to be made a scratch one.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from tklb.databases.postgresql import catalogue
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.feeding import Feeder, RowFeeder
from tklb.databases.postgresql.load import DatabaseLoader
from tklb.databases.postgresql.script import statements
from tklb.databases.postgresql.sections import Definer
from tklb.databases.postgresql.session import Refused, Session, ident
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.databases import SavedTable

Job = tuple[Table, SavedTable]


def load_tables(loader: DatabaseLoader) -> None:
    """Raises Refused, DatabaseFailed: nothing changed then."""
    chosen = set(loader.load.tables or ())
    jobs = [(table, saved) for table, saved in loader.details.tables if saved.name in chosen]
    _check_chosen(loader, chosen, jobs)
    with ExitStack() as stack:
        live = stack.enter_context(loader.session_with(loader.load.into))
        here = {(table.schema, table.table): table for table in catalogue.tables(live)}
        present = [(table, saved) for table, saved in jobs if (table.schema, table.table) in here]
        for table, saved in present:
            _check_columns(loader, here[table.schema, table.table], table, saved)
        absent = [job for job in jobs if job not in present]
        live.tell("BEGIN; SET LOCAL session_replication_role = replica")
        made = _definitions(loader, absent) if absent else []
        _replace(loader, live, present, absent, made)
        for table, _ in present:
            _move_sequences(live, table)
            loader.notes += _orphans(loader, live, table)
        live.tell("COMMIT")


def _check_chosen(loader: DatabaseLoader, chosen: set[str], jobs: Sequence[Job]) -> None:
    missing = sorted(chosen - {saved.name for _, saved in jobs})
    empty = sorted(saved.name for _, saved in jobs if saved.rows is None)
    if missing or empty:
        raise DatabaseFailed(item=loader.item, reason=f"the dump has no rows of {', '.join(missing + empty)}")
    if catalogue.LARGE_OBJECTS in chosen:
        raise _refusal(loader, f"{catalogue.LARGE_OBJECTS}: large objects are brought with their whole database only")


def _check_columns(loader: DatabaseLoader, here: Table, table: Table, saved: SavedTable) -> None:
    if set(here.columns) != set(table.columns):
        raise _refusal(loader, f"{saved.name} has other columns here than in the dump")


def _refusal(loader: DatabaseLoader, reason: str) -> DatabaseFailed:
    return DatabaseFailed(
        item=loader.item, reason=f"{reason}; --rename-database brings the saved database beside this one"
    )


def _definitions(loader: DatabaseLoader, absent: Sequence[Job]) -> list[tuple[bytes, bytes]]:
    """What defines tables, before and after their rows: of a scratch database that has all definitions."""
    with loader.scratch() as (names, _), loader.session_with(names.scratch) as session:
        feeder = Feeder(session, loader.item, loader.path, loader.details.has_gaps, loader.skipped)
        loader.define(feeder)
        feeder.run(loader.dump.read("post-data.sql"))
        encoding, version = session.encoding, session.version
        definer = Definer(loader.cluster, names.scratch, encoding, version, loader.lock_seconds)
        try:
            return [
                (
                    definer.table("pre-data", table.schema, table.table),
                    definer.table("post-data", table.schema, table.table),
                )
                for table, _ in absent
            ]
        except (ProgramFailed, ProgramMissing) as exc:
            raise DatabaseFailed(item=loader.item, reason=str(exc)) from exc


def _replace(
    loader: DatabaseLoader,
    live: Session,
    present: Sequence[Job],
    absent: Sequence[Job],
    made: Sequence[tuple[bytes, bytes]],
) -> None:
    rows = RowFeeder(loader.dump, loader.item, loader.details.properties.encoding, loader.path, lambda _: None)
    for (before, _), (_, saved) in zip(made, absent, strict=True):
        _define(loader, live, before, saved)
    for table, saved in present:
        loader.progress(f"{loader.item}: {saved.name}", 0, 0)
        live.tell(f"LOCK TABLE ONLY {table.sql} IN SHARE ROW EXCLUSIVE MODE")
        live.tell(f"DELETE FROM ONLY {table.sql} {table.condition}")
    for table, saved in (*present, *absent):
        rows.feed_one(live, table, saved)
    for (_, after), (_, saved) in zip(made, absent, strict=True):
        _define(loader, live, after, saved)


def _define(loader: DatabaseLoader, live: Session, script: bytes, saved: SavedTable) -> None:
    for statement in statements(script):
        try:
            live.tell(statement.text)
        except Refused as exc:
            raise _refusal(loader, f"{saved.name} cannot be made here: {statement.about}: {exc}") from exc


def _move_sequences(live: Session, table: Table) -> None:
    """The sequences of a table's columns go on behind the highest of its numbers."""
    for column in table.columns:
        found = live.value("SELECT pg_get_serial_sequence($1, $2)", table.sql, column.name)
        if found:
            highest = f"(SELECT max({ident(column.name)})::bigint FROM ONLY {table.sql})"
            live.tell(
                f"SELECT setval('{found.replace(chr(39), chr(39) * 2)}', {highest})"
                f" FROM {found} WHERE {highest} > last_value OR ({highest} = last_value AND NOT is_called)"
            )


def _orphans(loader: DatabaseLoader, live: Session, table: Table) -> list[str]:
    """Foreign keys, of the table's and to it, that do not hold any more."""
    keys = live.ask(
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
    told = []
    for name, child, parent, is_set, is_same in keys:
        count = live.value(
            f"SELECT count(*) FROM {child} child WHERE {is_set}"
            f" AND NOT EXISTS (SELECT FROM {parent} parent WHERE {is_same})"
        )
        if count != "0":
            told.append(f"{loader.item}: {count} rows of {child} miss their rows in {parent} (foreign key {name})")
    return told
