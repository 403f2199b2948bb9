"""The catalogue of the server and of one of its databases, asked of the system catalogues.

Takes connections; gives values; changes nothing. It leaves out relations in other sessions' temporary schemas and
members of extensions, as pg_dump(1) does. The tables that an extension declares its configuration are in.
"""

import contextlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from tklb.databases.locales import SETTINGS, spell_locale
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql.accounts import ACL_AS_JSON, Grant, read_grants
from tklb.databases.postgresql.cluster.role_settings import quote_setting, split_setting
from tklb.databases.postgresql.connection import (
    GRACE,
    ServerConnection,
    ServerError,
    ServerFullError,
    open_connection,
    quote_name,
    quote_text,
)
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import Database

__all__ = ["Column", "Table", "list_databases", "read_version"]

BARE = ("postgres", "template1")  # every server has them; they count when there is something in them
OURS = "^tklb_(scratch|aside)_[0-9a-f]{16}$"  # a restore makes these; a killed one leaves them
LOADING = "a restore of tklb loads this database; it is not complete"  # the mark of one that has its final name
IS_OURS = f"(datname ~ '{OURS}' OR coalesce(shobj_description(oid, 'pg_database') = '{LOADING}', false))"
LARGE_OBJECTS = "pg_catalog.pg_largeobject"
_FIRST_OF_USERS = 16384  # FirstNormalObjectId of access/transam.h


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table with rows of its own. `columns` are those that a COPY has; `condition` is an extension's WHERE."""

    oid: str
    schema: str
    table: str
    size: int = 0  # as the server last estimated it
    condition: str = ""
    columns: tuple[Column, ...] = ()
    parents: tuple[str, ...] = ()  # of a partition: the tables that it is a part of, SCHEMA.TABLE

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names it may have in overrides: a partition also those of the tables that it is a part of."""
        names = (self.full_name, self.table)
        return (*names, *self.parents, *(parent.partition(".")[2] for parent in self.parents))

    @property
    def sql(self) -> str:
        return quote_name(self.schema, self.table)

    def copy_out(self, encoding: str) -> str:
        """The COPY that gives its rows, as they lie: no plan of the server decides whether they can be read."""
        columns = ", ".join(quote_name(column.name) for column in self.columns)
        source = f"{self.sql}{f' ({columns})' if columns else ''}"
        if self.condition:
            source = f"(SELECT {columns} FROM ONLY {self.sql} {self.condition})"
        return f"COPY {source} TO STDOUT WITH (ENCODING {quote_text(encoding)})"


@dataclass(frozen=True, slots=True)
class Properties:
    """A database beside its contents. `provider` is libc, icu or builtin; `limit` -1 is none.

    `settings` are role ("" for all), name and value.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    rules: str
    owner: str
    limit: int
    is_template: bool
    comment: str | None
    grants: tuple[Grant, ...] | None
    settings: tuple[tuple[str, str, str], ...]

    @property
    def search_path(self) -> str:
        """The path that sessions with the database have, as SET wants it."""
        for role, name, value in self.settings:
            if not role and name == "search_path":
                return quote_setting(name, value)
        return "public"

    @property
    def needs(self) -> tuple[str, ...]:
        """The locales and providers that a server must have."""
        own = (value for _, name, value in self.settings if name in SETTINGS)
        locales = {spell_locale(name) for name in (self.collate, self.ctype, *own)} - {"", "C", "POSIX"}
        provider = () if self.provider == "libc" else (f"provider:{self.provider}",)
        return (*(f"locale:{name}" for name in sorted(locales)), *provider)


def list_collation_locales(connection: ServerConnection) -> tuple[str, ...]:
    """List the libc locales of collations that the database uses or has of its own, in one spelling."""
    rows = connection.fetch_rows(
        "SELECT collcollate, collctype FROM pg_collation c WHERE collprovider = 'c' AND"
        " (collnamespace <> 'pg_catalog'::regnamespace OR EXISTS (SELECT FROM pg_depend d"
        " WHERE d.refclassid = 'pg_collation'::regclass AND d.refobjid = c.oid))"
    )
    return tuple(sorted({spell_locale(name) for row in rows for name in row if name} - {"C", "POSIX"}))


def open_maintenance(login: Login, without: str = "", patience: float = GRACE) -> ServerConnection:
    """Connect with `postgres` or `template1`, whichever there is and is not `without`. Raises ServerError."""
    names = [name for name in BARE if name != without]
    for name in names[:-1]:
        try:
            return open_connection(login, name, patience)
        except ServerFullError:
            raise
        except ServerError:
            continue
    return open_connection(login, names[-1], patience)


def read_version(connection: ServerConnection) -> str:
    """The version as people write it: PostgreSQL 15.13."""
    return f"PostgreSQL {connection.version // 10000}.{connection.version % 10000}"


def list_databases(connection: ServerConnection) -> tuple[Database, ...]:
    """All databases with their sizes, by name, but template0, those of a restore, and the bare ones of every server."""
    rows = connection.fetch_rows(
        "SELECT datname, CASE WHEN datallowconn THEN pg_database_size(oid) ELSE 0 END FROM pg_database"
        f" WHERE datname <> 'template0' AND NOT {IS_OURS} ORDER BY datname COLLATE \"C\""
    )
    found = (Database(ENGINE, name or "", int(size or 0)) for name, size in rows)
    return tuple(each for each in found if each.name not in BARE or not _is_bare(connection, each.name))


def is_closed(connection: ServerConnection, database: str) -> bool:
    """Whether the database allows no connections."""
    return connection.fetch_value("SELECT datallowconn FROM pg_database WHERE datname = $1", database) == "f"


def measure_tables(connection: ServerConnection, tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables with their present sizes: the estimates of a server are empty until it has analysed a table."""
    oids = "{" + ",".join(table.oid for table in tables) + "}"
    rows = connection.fetch_rows("SELECT oid, pg_table_size(oid) FROM unnest($1::oid[]) oid", oids)
    sizes = {oid or "": int(size or 0) for oid, size in rows}
    return tuple(replace(table, size=sizes.get(table.oid, table.size)) for table in tables)


def _is_bare(connection: ServerConnection, database: str) -> bool:
    """Whether nothing in a database was made since its server was."""
    if is_closed(connection, database):
        return False
    own = f"oid >= {_FIRST_OF_USERS}"
    schemas = f"SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_|^pg_toast' AND {own}"
    inside = f"{own} AND %s NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast|temp)')"
    questions = [
        "pg_class WHERE " + inside % "relnamespace",
        "pg_proc WHERE " + own,
        "pg_type WHERE " + inside % "typnamespace",
        f"pg_namespace WHERE {own} AND oid NOT IN ({schemas})",
        *(f"{name} WHERE {own}" for name in _KINDS),
        "pg_extension WHERE extname <> 'plpgsql'",
        "pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
        f"pg_namespace n WHERE nspname = 'public' AND {_PUBLIC_CHANGED}",
        "(SELECT 1) one WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')",
    ]
    query = "SELECT " + " OR ".join(f"EXISTS (SELECT FROM {question})" for question in questions)
    return _ask_inside(connection, database, query) == "f"


def _ask_inside(connection: ServerConnection, database: str, query: str) -> str | None:
    """Ask a database of the connection's server, in a second session where the server has room for one."""
    if connection.database == database:
        return connection.fetch_value(query)
    with contextlib.suppress(ServerError), open_connection(connection.login, database) as other:
        return other.fetch_value(query)
    connection.close()
    try:
        with open_connection(connection.login, database) as other:
            return other.fetch_value(query)
    finally:
        connection.reopen()


_PUBLIC_CHANGED = (
    "n.nspacl::text <> '{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}'"  # as initdb makes it since 15
)
_KINDS = (
    "pg_cast",
    "pg_collation",
    "pg_conversion",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_operator",
    "pg_publication",
    "pg_transform",
    "pg_ts_config",
)

_VERSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY extname"
RELATIONS = """
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_extension e ON c.oid = ANY (e.extconfig)
WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (e.oid IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
"""


def list_tables(connection: ServerConnection) -> tuple[Table, ...]:
    """Plain tables, leaf partitions and the extensions' configuration, by name. Locks none of them."""
    rows = connection.fetch_rows(
        "SELECT c.oid, n.nspname, c.relname, c.relpages::bigint * 8192,"
        " coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '')"
        + RELATIONS
        + ' AND c.relkind = \'r\' ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"'
    )
    columns, parents = _list_columns(connection), _list_parents(connection)
    return tuple(
        Table(
            oid or "",
            schema or "",
            name or "",
            int(size or 0),
            condition or "",
            columns.get(oid, ()),
            parents.get(oid, ()),
        )
        for oid, schema, name, size, condition in rows
    )


def list_lockable(connection: ServerConnection) -> tuple[tuple[str, str, str], ...]:
    """The relations that pg_dump locks: oid, schema and name of plain and partitioned tables."""
    rows = connection.fetch_rows(
        "SELECT c.oid, n.nspname, c.relname" + RELATIONS + " AND c.relkind IN ('r', 'p') ORDER BY c.oid"
    )
    return tuple((oid or "", schema or "", name or "") for oid, schema, name in rows)


def _list_parents(connection: ServerConnection) -> dict[str | None, tuple[str, ...]]:
    rows = connection.fetch_rows(
        "SELECT c.oid, n.nspname || '.' || p.relname FROM pg_class c, pg_partition_ancestors(c.oid) a(oid)"
        " JOIN pg_class p ON p.oid = a.oid::oid JOIN pg_namespace n ON n.oid = p.relnamespace"
        " WHERE c.relispartition AND c.relkind = 'r' AND p.oid <> c.oid"
    )
    found: dict[str | None, tuple[str, ...]] = {}
    for oid, name in rows:
        found[oid] = (*found.get(oid, ()), name or "")
    return found


def _list_columns(connection: ServerConnection) -> dict[str | None, tuple[Column, ...]]:
    rows = connection.fetch_rows(
        "SELECT attrelid, attname, format_type(atttypid, atttypmod)"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE c.relkind = 'r' AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY attrelid, attnum"
    )
    found: dict[str | None, tuple[Column, ...]] = {}
    for oid, name, kind in rows:
        found[oid] = (*found.get(oid, ()), Column(name or "", kind or ""))
    return found


def read_large_objects(connection: ServerConnection) -> Table | None:
    """The pages of all large objects, as a table; None where there is no large object."""
    if connection.fetch_value("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)") == "f":
        return None
    columns = (Column("loid", "oid"), Column("pageno", "integer"), Column("data", "bytea"))
    query = "SELECT relpages::bigint * 8192 FROM pg_class WHERE relname = 'pg_largeobject'"
    size = int(connection.fetch_value(query) or 0)
    return Table("2613", "pg_catalog", "pg_largeobject", size, "", columns)


def read_page_size(connection: ServerConnection) -> int:
    """The bytes in a page of a large object: LOBLKSIZE of large_object.h."""
    return int(connection.fetch_value("SELECT current_setting('block_size')") or 8192) // 4


def list_sequences(connection: ServerConnection, without: Collection[str]) -> tuple[tuple[str, str, str], ...]:
    """The sequences but those of some oids: oid, schema and name."""
    rows = connection.fetch_rows(
        "SELECT c.oid, n.nspname, c.relname" + RELATIONS + " AND c.relkind = 'S' ORDER BY 2, 3"
    )
    return tuple((oid or "", schema or "", name or "") for oid, schema, name in rows if oid not in without)


def list_extensions(connection: ServerConnection) -> tuple[str, ...]:
    """The extensions of the connection's database, by name."""
    return tuple(name or "" for (name,) in connection.fetch_rows("SELECT extname FROM pg_extension ORDER BY extname"))


def list_extension_versions(connection: ServerConnection) -> dict[str, str]:
    """The versions of the extensions of the connection's database."""
    return {name or "": version or "" for name, version in connection.fetch_rows(_VERSIONS)}


def list_roles(connection: ServerConnection) -> tuple[str, ...]:
    """The roles that the connection's database needs: owners, grantees and those with settings of their own in it."""
    rows = connection.fetch_rows(
        """SELECT rolname FROM pg_authid r JOIN pg_database d ON d.datname = current_database()
           WHERE r.oid >= 16384 AND (
             r.oid IN (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
               AND (dbid = d.oid OR (classid = 'pg_database'::regclass AND objid = d.oid)))
             OR r.oid IN (SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid))
           ORDER BY rolname COLLATE "C" """
    )
    return tuple(name or "" for (name,) in rows)


def read_properties(connection: ServerConnection, database: str) -> Properties:
    """Read the properties of a database of the server. Raises ServerError where there is none of that name."""
    locale = "datlocale" if connection.version >= 170000 else "daticulocale"
    rules = "daticurules" if connection.version >= 160000 else "NULL"
    rows = connection.fetch_rows(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider,"
        f" coalesce({locale}, ''), coalesce({rules}, ''), pg_get_userbyid(datdba), datconnlimit, datistemplate,"
        f" shobj_description(oid, 'pg_database'), {ACL_AS_JSON.format(acl='datacl')}"
        " FROM pg_database WHERE datname = $1",
        database,
    )
    if not rows:
        raise ServerError(f'database "{database}" does not exist')
    encoding, collate, ctype, provider, place, rule, owner, limit, template, comment, grants = rows[0]
    settings = connection.fetch_rows(
        "SELECT coalesce(r.rolname, ''), unnest(setconfig) FROM pg_db_role_setting s"
        " LEFT JOIN pg_authid r ON r.oid = s.setrole WHERE setdatabase ="
        " (SELECT oid FROM pg_database WHERE datname = $1) ORDER BY 1, 2",
        database,
    )
    return Properties(
        encoding or "",
        collate or "",
        ctype or "",
        {"i": "icu", "b": "builtin"}.get(provider or "", "libc"),
        place or "",
        rule or "",
        owner or "",
        int(limit or -1),
        template == "t",
        comment,
        read_grants(json.loads(grants)) if grants else None,
        tuple(split_setting(role or "", line or "") for role, line in settings),
    )
