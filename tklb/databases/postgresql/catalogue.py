"""What is in a server and in one of its databases: asked of the system catalogues, changed by nobody.

Takes sessions; gives values. The names of relations in other sessions' temporary schemas and of members of extensions
are left out as pg_dump(1) does; the tables that an extension declares its configuration are in.
"""

from collections.abc import Collection
from dataclasses import dataclass

from tklb.databases.postgresql.cluster import ENGINE
from tklb.databases.postgresql.session import Session, ident, literal
from tklb.model.databases import Database

BARE = ("postgres", "template1")  # every server has them; they count when there is something in them
OWN = "^tklb_(scratch|aside)_[0-9a-f]{16}$"  # what an ended restore may have left behind
LARGE_OBJECTS = "pg_catalog.pg_largeobject"
_FIRST_OF_USERS = 16384  # FirstNormalObjectId of access/transam.h


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table with rows of its own. `columns` are those that a COPY has; `condition` is an extension's WHERE."""

    oid: str
    schema: str
    table: str
    size: int = 0  # as the server last reckoned it
    condition: str = ""
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()  # of a partition: what it is a part of, SCHEMA.TABLE

    @property
    def spelled(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """How overrides may name it: a partition also by what it is a part of."""
        names = (self.spelled, self.table)
        return (*names, *self.parents, *(parent.partition(".")[2] for parent in self.parents))

    @property
    def sql(self) -> str:
        return ident(self.schema, self.table)

    def copy_out(self, encoding: str) -> str:
        """The COPY that gives its rows: by the key where there is one, else as they lie."""
        columns = ", ".join(ident(column.name) for column in self.columns)
        order = ", ".join(ident(name) for name in self.key)
        source = f"{self.sql} ({columns})"
        if order or self.condition or not columns:
            ordered = f" ORDER BY {order}" if order else ""
            source = f"(SELECT {columns} FROM ONLY {self.sql} {self.condition}{ordered})"
        return f"COPY {source} TO STDOUT WITH (ENCODING {literal(encoding)})"

    def count(self) -> str:
        return f"SELECT count(*) FROM ONLY {self.sql} {self.condition}"


def databases(session: Session) -> tuple[Database, ...]:
    """All but template0 and what a restore of ours left behind; the bare ones too."""
    rows = session.ask(
        "SELECT datname, CASE WHEN datallowconn THEN pg_database_size(oid) ELSE 0 END FROM pg_database"
        " WHERE datname <> 'template0' AND datname !~ $1 ORDER BY datname COLLATE \"C\"",
        OWN,
    )
    return tuple(Database(ENGINE, name or "", int(size or 0)) for name, size in rows)


def is_closed(session: Session, database: str) -> bool:
    """Whether nobody may connect to it."""
    return session.value("SELECT datallowconn FROM pg_database WHERE datname = $1", database) == "f"


def is_bare(session: Session) -> bool:
    """Whether nothing in the session's database was made since its server was."""
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
    return session.value("SELECT " + " OR ".join(f"EXISTS (SELECT FROM {question})" for question in questions)) == "f"


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

_RELATIONS = """
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_extension e ON c.oid = ANY (e.extconfig)
WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (e.oid IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
"""


def tables(session: Session) -> tuple[Table, ...]:
    """Plain tables, leaf partitions and the extensions' configuration, by name. Locks none of them."""
    rows = session.ask(
        "SELECT c.oid, n.nspname, c.relname, c.relpages::bigint * 8192,"
        " coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '')"
        + _RELATIONS
        + ' AND c.relkind = \'r\' ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"'
    )
    columns, keys, parents = _columns(session), _keys(session), _parents(session)
    return tuple(
        Table(
            oid or "",
            schema or "",
            name or "",
            int(size or 0),
            condition or "",
            columns.get(oid, ()),
            keys.get(oid, ()),
            parents.get(oid, ()),
        )
        for oid, schema, name, size, condition in rows
    )


def _parents(session: Session) -> dict[str | None, tuple[str, ...]]:
    rows = session.ask(
        "SELECT c.oid, n.nspname || '.' || p.relname FROM pg_class c, pg_partition_ancestors(c.oid) a(oid)"
        " JOIN pg_class p ON p.oid = a.oid::oid JOIN pg_namespace n ON n.oid = p.relnamespace"
        " WHERE c.relispartition AND c.relkind = 'r' AND p.oid <> c.oid"
    )
    found: dict[str | None, tuple[str, ...]] = {}
    for oid, name in rows:
        found[oid] = (*found.get(oid, ()), name or "")
    return found


def _columns(session: Session) -> dict[str | None, tuple[Column, ...]]:
    rows = session.ask(
        "SELECT attrelid, attname, format_type(atttypid, atttypmod)"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE c.relkind = 'r' AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attrelid, attnum"
    )
    found: dict[str | None, tuple[Column, ...]] = {}
    for oid, name, kind in rows:
        found[oid] = (*found.get(oid, ()), Column(name or "", kind or ""))
    return found


def _keys(session: Session) -> dict[str | None, tuple[str, ...]]:
    rows = session.ask(
        "SELECT i.indrelid, a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)"
        " JOIN pg_attribute a ON a.attnum = k.number"
        " WHERE i.indisprimary AND i.indisvalid AND a.attrelid = i.indrelid AND k.place <= i.indnkeyatts"
        " ORDER BY i.indrelid, k.place"
    )
    found: dict[str | None, tuple[str, ...]] = {}
    for oid, name in rows:
        found[oid] = (*found.get(oid, ()), name or "")
    return found


def large_objects(session: Session) -> Table | None:
    """The pages of all large objects, as a table; None where there is no large object."""
    if session.value("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)") == "f":
        return None
    columns = (Column("loid", "oid"), Column("pageno", "integer"), Column("data", "bytea"))
    size = int(session.value("SELECT relpages::bigint * 8192 FROM pg_class WHERE relname = 'pg_largeobject'") or 0)
    return Table("2613", "pg_catalog", "pg_largeobject", size, "", columns, ("loid", "pageno"))


def lockable(session: Session) -> tuple[tuple[str, str, str], ...]:
    """What pg_dump locks: oid, schema and name of plain and partitioned tables."""
    rows = session.ask(
        "SELECT c.oid, n.nspname, c.relname" + _RELATIONS + " AND c.relkind IN ('r', 'p') ORDER BY c.oid"
    )
    return tuple((oid or "", schema or "", name or "") for oid, schema, name in rows)


def dependants(session: Session, oids: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """What cannot be defined without some relations: their partitions, heirs and sequences, and the views on them."""
    listed = "{" + ",".join(oids) + "}"
    rows = session.ask(
        """WITH RECURSIVE gone (oid) AS (
             SELECT unnest($1::oid[])
             UNION SELECT next.oid FROM gone JOIN (
                 SELECT inhparent AS parent, inhrelid AS oid FROM pg_inherits
                 UNION ALL SELECT refobjid, objid FROM pg_depend WHERE deptype IN ('a', 'i')
                   AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
                 UNION ALL SELECT d.refobjid, r.ev_class FROM pg_rewrite r JOIN pg_depend d
                   ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
             ) next ON next.parent = gone.oid)
           SELECT c.oid, n.nspname, c.relname FROM gone JOIN pg_class c USING (oid) JOIN pg_namespace n ON
             n.oid = c.relnamespace WHERE c.oid <> ALL ($1::oid[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')""",
        listed,
    )
    return tuple((oid or "", schema or "", name or "") for oid, schema, name in rows)


def sequences(session: Session, without: Collection[str]) -> tuple[str, ...]:
    """The statements that set sequences, but for some oids, to where they are. They know no transaction: ask last."""
    found = session.ask("SELECT n.nspname, c.relname, c.oid" + _RELATIONS + " AND c.relkind = 'S' ORDER BY 1, 2")
    told = []
    for schema, name in ((schema, name) for schema, name, oid in found if oid not in without):
        sequence = ident(schema or "", name or "")
        (last, is_called), *_ = session.ask(f"SELECT last_value, is_called FROM {sequence}")
        is_called_word = "true" if is_called == "t" else "false"
        told.append(f"SELECT pg_catalog.setval({literal(sequence)}, {last}, {is_called_word});\n")
    return tuple(told)


def extensions(session: Session) -> tuple[str, ...]:
    return tuple(name or "" for (name,) in session.ask("SELECT extname FROM pg_extension ORDER BY extname"))


def roles_used(session: Session) -> tuple[str, ...]:
    """The roles that own, may use or are named by something in the session's database, or by the database itself."""
    rows = session.ask(
        """SELECT rolname FROM pg_authid r JOIN pg_database d ON d.datname = current_database()
           WHERE r.oid >= 16384 AND (
             r.oid IN (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
               AND (dbid = d.oid OR (classid = 'pg_database'::regclass AND objid = d.oid)))
             OR r.oid IN (SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid))
           ORDER BY rolname COLLATE "C" """
    )
    return tuple(name or "" for (name,) in rows)


def remarks(session: Session) -> tuple[str, ...]:
    """What a dump of the session's database has not, or has in another way."""
    elsewhere = session.ask(
        "SELECT n.nspname || '.' || c.relname" + _RELATIONS + " AND c.reltablespace <> 0 ORDER BY 1"
    )
    own = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    asked = (
        (
            "subscriptions",
            f"SELECT subname FROM pg_subscription WHERE subdbid = {own} ORDER BY 1",
            "a restore leaves them disabled",
        ),
        (
            "transactions prepared for two-phase commit",
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1",
            "what they would write is not in the dump",
        ),
        (
            "the database's security labels",
            f"SELECT provider FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = {own}",
            "they are not in the dump",
        ),
        (
            "a tablespace of its own",
            f"SELECT dattablespace::text FROM pg_database WHERE dattablespace <> 1663 AND oid = {own}",
            "a restore puts it into the default one",
        ),
    )
    told = [(what, session.ask(question), said) for what, question, said in asked]
    told.append(("tables in tablespaces of their own", elsewhere, "a restore puts them into the default one"))
    return tuple(f"{what} ({', '.join(str(row[0]) for row in rows)}): {said}" for what, rows, said in told if rows)
