"""Load a dumped database beside the one here, count, and put it in its place; or single tables into the one here.

A whole database: until the swap users work with the old one. Only tables whose rows are kept cannot be written to from
the moment they are copied. A load that fails or is interrupted leaves the old database as it was, and nothing of its
own. The next load drops the databases that a killed one left. Where there is no old one, the new one has its name from
the beginning.

Rows come first. A definition that the server refuses is reported, and ends no load; what is left is tried once more
after all loads. Takes a dump and a load; touches the server.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql import definitions as files
from tklb.databases.postgresql.catalogue import (
    LARGE_OBJECTS,
    list_tables,
    open_maintenance,
    read_large_objects,
    read_page_size,
)
from tklb.databases.postgresql.connection import ServerConnection, convert_errors
from tklb.databases.postgresql.definitions import RefusedEntry, ScriptTarget, load_definitions, make_indexes
from tklb.databases.postgresql.load.compare_rows import Proof, find_difference
from tklb.databases.postgresql.load.fingerprint import keep_roles
from tklb.databases.postgresql.load.leftover import (
    Leftover,
    load_jobs,
    protect_rows,
    repeat_rows,
    split_jobs,
    try_again,
)
from tklb.databases.postgresql.load.load_rows import Job, Loaders, format_copy, load_table
from tklb.databases.postgresql.load.load_tables import load_tables
from tklb.databases.postgresql.load.scratch import (
    LoadRun,
    choose_versions,
    define,
    make_scratch,
    place_relations,
    set_properties,
)
from tklb.databases.postgresql.load.swap import Swap, drop_leftovers, has_database, list_slots, swap_database
from tklb.databases.postgresql.script import Entry
from tklb.databases.postgresql.session_settings import ONLY_TABLES
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad

__all__ = ["load_database"]

# the pages of large objects wait here until all are there
MAKE_PAGES = "CREATE TEMPORARY TABLE tklb_pages (loid oid, pageno bigint, data bytea)"
# an empty page says how long its object is; the number is INV_WRITE of libpq-fs.h
PUT_PAGES = (
    "SELECT CASE WHEN length(data) = 0 THEN pg_catalog.lo_truncate64(pg_catalog.lo_open(loid, 131072), pageno * {size})"
    " = 0 ELSE pg_catalog.lo_put(loid, pageno * {size}, data) IS NULL END FROM tklb_pages ORDER BY loid, pageno"
)
_LARGE = 1 << 20  # bytes of a table whose indexes take longer than to send them one by one
_FOR_SPEED = "SET synchronous_commit = off; SET maintenance_work_mem = '128MB'"


def load_database(
    login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, report: DatabaseReport
) -> Leftover | None:
    """Load one database; give what is still to be tried after the loads of others.

    Raises DatabaseFailed, which says the object; the database here is as it was then.
    """
    with convert_errors(ENGINE), open_maintenance(login, without=load.into) as connection:
        third = connection.database
    loading = LoadRun(login, dump, load, progress, report, third)
    with convert_errors(loading.item):
        with loading.open(third) as connection:
            for note in drop_leftovers(connection):
                report.note(note)
            loading.is_here = has_database(connection, load.into)
        if load.tables is not None and loading.is_here:
            load_tables(loading)
            return None
        return _load_whole(loading)


def _load_whole(loading: LoadRun) -> Leftover | None:
    is_here = loading.is_here
    with make_scratch(loading, is_free=not is_here) as (swap, chief), ExitStack() as stack:
        connection = stack.enter_context(loading.open(swap.scratch))
        if loading.collation_locales:  # collations of locales that this cluster was made without
            connection.run("SELECT pg_import_system_collations('pg_catalog')")
        live = _open_live(loading, stack) if is_here else None
        left = _fill(loading, connection, live)
        connection.close()
        set_properties(loading, chief, swap)
        if is_here:
            _swap(loading, chief, swap, live)
            left = _load_waiting(left, chief, swap)
    return left if left.refusals or left.lost else None


def _swap(loading: LoadRun, chief: ServerConnection, swap: Swap, live: ServerConnection | None) -> None:
    with loading.open(loading.third) as ender:
        gone = list_slots(chief, swap.live)
        ended = swap_database(chief, ender, swap, live)
    if gone:
        loading.note(f"replication slots of the old database are gone: {', '.join(gone)}")
    if ended:
        loading.note(f"{ended} sessions with the old database were ended")


def _load_waiting(left: Leftover, chief: ServerConnection, swap: Swap) -> Leftover:
    """Bring the tables of extensions that want the final name. Raises DatabaseFailed, with the old database back."""
    if not any(one.waits for one in left.lost):
        return left
    left = try_again(left, left.loading.report)
    try:
        protect_rows(left.loading, left.lost, swap.aside)
    except DatabaseFailed:
        with left.loading.open(left.loading.third) as ender:
            swap_database(chief, ender, Swap(swap.live, swap.aside, swap.scratch))
        raise
    return left


def _open_live(loading: LoadRun, stack: ExitStack) -> ServerConnection | None:
    """A connection with the database here, where rows of it are to be kept."""
    if not loading.kept_tables:
        return None
    live = stack.enter_context(loading.open(loading.load.into))
    live.fetch_rows(ONLY_TABLES)
    live.run("BEGIN")
    return live


def _fill(loading: LoadRun, first: ServerConnection, live: ServerConnection | None) -> Leftover:
    """Load definitions, rows and all else into the scratch database that the connection is with."""
    dump, report = loading.dump, loading.report
    first.run(_FOR_SPEED)
    loading.versions = choose_versions(first, loading.saved.versions)
    with keep_roles(first), Loaders(first) as loaders:
        target = replace(loading.script_target, choose=loaders.choose)
        refusals = define(loading, first, target, report)
        if dump.has(files.LARGE_OBJECTS):
            refusals = load_definitions(first, dump.read(files.LARGE_OBJECTS), target, report, refusals)
            first.run(MAKE_PAGES)
        tables = [job for job in loading.saved.tables if job[1].name != LARGE_OBJECTS]
        present, lost = split_jobs(first, tables, refusals)
        with Proof() as proof:
            with loaders.let_insert([table for table, _ in present]):
                refused = load_jobs(loading, loaders, [job for job in present if loading.loads(job)], proof)
                _load_pages(loading, first)
                if live:
                    proof.finish()
                    _keep_rows(loading, live, first, loaders)
            rest = _make_indexes(loading, first, target, [] if refused else present, proof)
        lifted, more = repeat_rows(loading, first, loaders, refused)
        left = Leftover(loading, (*refusals, *lifted), tuple(one for one in (*lost, *more) if loading.loses(one.job)))
        if loading.is_here:
            protect_rows(loading, [one for one in left.lost if not one.waits], loading.load.into)
        return replace(left, refusals=_define_rest(loading, first, target, left.refusals, rest))


def _make_indexes(
    loading: LoadRun, first: ServerConnection, target: ScriptTarget, jobs: Sequence[Job], proof: Proof
) -> bytes | Sequence[Entry]:
    """Make keys and indexes of large tables while the last ones are read back; the rest of the definitions."""
    script = loading.dump.read(files.POST_DATA)
    sizes = [(sum(loading.dump.path(name).stat().st_size for name in saved.files), table) for table, saved in jobs]
    large = sorted((one for one in sizes if one[0] >= _LARGE), key=lambda one: -one[0])  # in the order of their load
    if not large or not proof.helper:
        return script
    loading.progress(f"{loading.item}: keys and indexes", 0, 0)
    proof.helper.run(_FOR_SPEED)
    return make_indexes((first, proof.helper), script, target, [table for _, table in large])


def _define_rest(
    loading: LoadRun,
    first: ServerConnection,
    target: ScriptTarget,
    refusals: tuple[RefusedEntry, ...],
    rest: bytes | Sequence[Entry],
) -> tuple[RefusedEntry, ...]:
    dump, report = loading.dump, loading.report
    if dump.has(files.LARGE_OBJECTS):
        put_pages(first, loading.saved.page_size)
        _compare_pages(loading, first)
    refusals = load_definitions(first, dump.read(files.SEQUENCES), target, report, refusals)
    loading.progress(f"{loading.item}: keys, indexes and triggers", 0, 0)
    refusals = load_definitions(first, rest, target, report, refusals)
    place_relations(loading, first, indexes=True)
    return refusals


def put_pages(connection: ServerConnection, page_size: int) -> None:
    """Fill the large objects from the pages that wait in this connection."""
    connection.run(PUT_PAGES.format(size=page_size))
    connection.run("DROP TABLE pg_temp.tklb_pages")


def _load_pages(loading: LoadRun, chief: ServerConnection) -> None:
    for job in (one for one in loading.saved.tables if one[1].name == LARGE_OBJECTS and loading.loads(one)):
        load_table(chief, loading.make_row_target(chief), job)


def _compare_pages(loading: LoadRun, chief: ServerConnection) -> None:
    """Read the large objects back. Raises DatabaseFailed where they differ and older ones would be lost."""
    pages = [one for one in loading.saved.tables if one[1].name == LARGE_OBJECTS and loading.loads(one)]
    if not pages or not loading.login.read_back:
        return
    if read_page_size(chief) != loading.saved.page_size:
        loading.note("the large objects were not compared with the dump: their pages have another size here")
        return
    table, _ = pages[0]
    reason = find_difference(loading.dump, pages[0], chief.version, chief.copy_out(table.copy_out("UTF8")))
    if reason and loading.is_here:
        raise DatabaseFailed(item=loading.item, reason=f"{LARGE_OBJECTS}: {reason}")
    if reason:
        loading.report.skip(loading.load.into, LARGE_OBJECTS, reason)


def _keep_rows(loading: LoadRun, live: ServerConnection, scratch: ServerConnection, loaders: Loaders) -> None:
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
