"""The empty database that a load fills: under a name of its own, or, where its final name is free, under that one.

Extensions may look at the name of their database (pg_cron). One under its final name has a mark until its load is done,
and nobody but administrators may connect. A backup leaves it out, and the next load drops it after a kill.

Takes one load; touches the server.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tklb.databases.dump_format import DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.locales import make_locales
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql import definitions as files
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.cluster.role_settings import give_setting
from tklb.databases.postgresql.cluster.tablespaces import has_tablespace, move_relations
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    open_connection,
    quote_name,
    quote_text,
)
from tklb.databases.postgresql.definitions import (
    RefusedEntry,
    SavedDefinitions,
    ScriptTarget,
    load_definitions,
    read_definitions,
)
from tklb.databases.postgresql.load.load_rows import Job, RowTarget
from tklb.databases.postgresql.load.swap import (
    Swap,
    create_database,
    drop_database,
    list_property_statements,
    make_swap,
    mark_database,
    set_comment,
    unmark_privileges,
)
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import DatabaseLoad

__all__ = ["LoadRun", "choose_versions", "define", "make_scratch", "place_relations", "set_properties"]

_INSTEAD = "--rename-database brings the saved database beside this one"


class LoadRun:
    """One load. `third` is a database that is not swapped, for connections that must be with neither."""

    def __init__(
        self, login: Login, dump: DumpFolder, load: DatabaseLoad, progress: Progress, report: DatabaseReport, third: str
    ) -> None:
        self.load, self.progress, self.report, self.third = load, progress, report, third
        self.dump = dump.enter(load.saved.folder)
        self.saved: SavedDefinitions = read_definitions(self.dump, load.saved)
        self.use_login(login)
        self.is_here = True  # a database of that name is
        self.made_roles: list[str] = []
        self.versions: Mapping[str, str] = {}  # of extensions, where another one than the server's own is offered

    def use_login(self, login: Login) -> None:
        """Go in by this login, and see money as the dump has it."""
        self.login = replace(login, monetary=self.saved.monetary)

    @property
    def item(self) -> str:
        return spell_item(ENGINE, self.load.into).decode("utf-8", "surrogateescape")

    @property
    def locales(self) -> frozenset[str]:
        """The locales that the database itself needs."""
        return frozenset(_select_locales(self.saved.properties.needs))

    @property
    def collation_locales(self) -> frozenset[str]:
        """The locales that its collations need beside those."""
        return frozenset(_select_locales(self.load.saved.needs)) - self.locales

    @property
    def script_target(self) -> ScriptTarget:
        return ScriptTarget(self.load.into, self.saved.properties.search_path, self.versions)

    @property
    def kept_tables(self) -> list[Job]:
        """The tables whose rows stay as they are here."""
        names = set(self.load.kept)
        return [(table, saved) for table, saved in self.saved.tables if saved.rows is None or saved.name in names]

    def loads(self, job: Job) -> bool:
        """Whether the rows of a table come from the dump."""
        chosen = self.load.tables is None or job[1].name in self.load.tables
        return chosen and job not in self.kept_tables

    def loses(self, job: Job) -> bool:
        """Whether rows are missing where a table cannot be had."""
        return self.loads(job) or job in self.kept_tables

    def open(self, database: str) -> ServerConnection:
        return open_connection(self.login, database)

    def note(self, text: str) -> None:
        self.report.note(f"{self.item}: {text}")

    def make_row_target(self, *connections: ServerConnection) -> RowTarget:
        properties = self.saved.properties
        differ = None if self.is_here else self._report_difference
        return RowTarget(connections, self.dump, self.item, properties.encoding, properties.search_path, differ)

    def _report_difference(self, table: Table, reason: str) -> None:
        self.report.skip(self.load.into, table.full_name, reason)

    def refuse(self, reason: str) -> DatabaseFailed:
        return DatabaseFailed(item=self.item, reason=f"{reason}; {_INSTEAD}")


def _find_absent(loading: LoadRun) -> tuple[str, ...]:
    """The locales that the server does not take, be it because they came after its start.

    A session remembers what it did not find, so one of its own asks.
    """
    wanted = () if loading.login.is_elsewhere else sorted(loading.locales | loading.collation_locales)
    if not wanted:
        return ()
    with loading.open(loading.third) as connection:
        return tuple(locale for locale in wanted if not _takes_locale(connection, locale))


def _takes_locale(connection: ServerConnection, locale: str) -> bool:
    try:
        connection.run(f"CREATE COLLATION pg_temp.tklb_probe (PROVIDER = libc, LOCALE = {quote_text(locale)})")
        connection.run("DROP COLLATION pg_temp.tklb_probe")
    except ServerError:
        return False
    return True


def _select_locales(needs: Iterable[str]) -> Iterator[str]:
    return (need.removeprefix("locale:") for need in needs if need.startswith("locale:"))


@contextlib.contextmanager
def make_scratch(loading: LoadRun, *, is_free: bool = False) -> Iterator[tuple[Swap, ServerConnection]]:
    """An empty database like the saved one, and a connection that is with neither; both gone at the end.

    `is_free`: it has its final name already, and stays where the block ends well.
    """
    swap = make_swap(loading.load.into)
    is_done = False
    with loading.open(loading.third) as chief:
        try:
            _make_roles(loading, chief)
            for note in make_locales(_find_absent(loading)):
                loading.note(note)
            space = _choose_space(loading, chief)
            if lack := create_database(chief, swap.scratch, loading.saved.properties, space):
                loading.note(lack)
            if is_free:
                mark_database(chief, swap)
                swap = swap.keep_name()
            yield swap, chief
            is_done = True
        finally:
            chief.settle()
            chief.close()
            _tidy(loading, swap, is_done=is_done)


def _tidy(loading: LoadRun, swap: Swap, *, is_done: bool) -> None:
    own = [swap.aside] if swap.is_in_place and is_done else [swap.aside, swap.scratch]
    for name in own:
        try:
            with loading.open(loading.third) as connection:
                drop_database(connection, name)
        except (ServerError, DatabaseFailed) as exc:
            loading.note(f"{name} is left over and cannot be dropped: {exc}")
    for role in () if is_done else loading.made_roles:
        with contextlib.suppress(ServerError, DatabaseFailed), loading.open(loading.third) as connection:
            connection.run(f"DROP ROLE {quote_name(role)}")


def _make_roles(loading: LoadRun, connection: ServerConnection) -> None:
    """Make the roles that the dump needs and the server lacks: without a login, so that owners and grants are right."""
    here = {name for (name,) in connection.fetch_rows("SELECT rolname FROM pg_authid")}
    for role in loading.saved.roles:
        if role not in here:
            connection.run(f"CREATE ROLE {quote_name(role)} NOLOGIN")
            loading.made_roles.append(role)
    if loading.made_roles:
        loading.note(f"roles made without a login: {', '.join(loading.made_roles)}")


def define(
    loading: LoadRun, connection: ServerConnection, target: ScriptTarget, report: DatabaseReport
) -> tuple[RefusedEntry, ...]:
    """Drop what only template0 has, then load the definitions before the rows."""
    if "plpgsql" not in loading.saved.extensions:
        connection.run("DROP EXTENSION plpgsql")
    if not loading.saved.has_public:
        connection.run("DROP SCHEMA public")
    else:
        connection.run("COMMENT ON SCHEMA public IS NULL")
    refusals = load_definitions(connection, loading.dump.read(files.PRE_DATA), target, report)
    place_relations(loading, connection, indexes=False)
    return refusals


def place_relations(loading: LoadRun, connection: ServerConnection, *, indexes: bool) -> None:
    """Put tables, while they are empty, or indexes into the tablespaces that they were in, where these are here."""
    here = {name or "" for (name,) in connection.fetch_rows("SELECT spcname FROM pg_tablespace")}
    places = [place for place in loading.saved.places if place.space in here]
    for text in move_relations(connection, places, indexes=indexes):
        loading.note(text)
    lost = sorted({place.space for place in loading.saved.places} - here)
    if lost and not indexes:
        loading.note(f"what was in the tablespaces {', '.join(lost)} is in the default one: they are not here")


def _choose_space(loading: LoadRun, connection: ServerConnection) -> str:
    """The tablespace of the saved database, where it is here."""
    space = loading.saved.space
    if not space or has_tablespace(connection, space):
        return space
    loading.note(f"it is in the default tablespace: {space} is not here")
    return ""


def choose_versions(connection: ServerConnection, wanted: Mapping[str, str]) -> dict[str, str]:
    """The versions of extensions that the server offers beside those that it installs unasked."""
    rows = connection.fetch_rows(
        "SELECT v.name, v.version FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name)"
        " WHERE v.version <> e.default_version"
    )
    return {name or "": version or "" for name, version in rows if wanted.get(name or "") == version}


def set_properties(loading: LoadRun, connection: ServerConnection, swap: Swap) -> None:
    """Give the loaded database its owner, privileges, settings and comment; its mark goes last."""
    if swap.is_in_place:
        unmark_privileges(connection, swap.live)
    for about, statement in list_property_statements(swap.scratch, loading.saved.properties):
        try:
            connection.run(statement)
        except ServerError as exc:
            loading.report.skip(loading.load.into, "", f"its {about}: {exc}")
    this = f"DATABASE {quote_name(swap.scratch)}"
    for role, name, value in loading.saved.properties.settings:
        target = f"ROLE {quote_name(role)} IN {this}" if role else this
        if reason := give_setting(connection, target, name, value):
            loading.report.skip(loading.load.into, "", f"its setting {name}: {reason}")
    set_comment(connection, swap.scratch, loading.saved.properties.comment)
