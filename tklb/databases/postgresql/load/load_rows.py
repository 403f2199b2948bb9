"""Load rows of a dump into tables, over libpq: one thread a connection, each table counted by the server.

Checks, domains and generated columns call functions of whoever owns them, as the one who sends the rows. So temporary
roles send them: they are no superusers, and they log in themselves, because SET ROLE could be undone.

Takes connections and files; changes the database of the connections.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

from tklb.base.scram import make_verifier
from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    open_as,
    open_connection,
    quote_name,
    quote_text,
)
from tklb.databases.postgresql.definitions import retry_with_path
from tklb.databases.postgresql.load.adapt_rows import adapt_rows
from tklb.databases.postgresql.load.compare_rows import Differ, Proof
from tklb.databases.postgresql.load.fingerprint import FINGERPRINT
from tklb.databases.postgresql.load.fresh_table import fill_fresh
from tklb.databases.postgresql.load.swap import OUR_COMMENT
from tklb.databases.read_back import ReadBack
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import SavedTable
from tklb.model.secret import Secret

__all__ = ["load_rows"]

Job = tuple[Table, SavedTable]
RefusedRows = tuple[Job, ServerError]
ReadBlocks = Callable[[Sequence[str]], Iterator[bytes]]
_ALL = "\0"  # no name of a role
_LOAD_DAYS = 3  # their passwords end by themselves
# whether a role is, or can become, more than the owner of tables
_IS_PRIVILEGED = """
WITH RECURSIVE reach (oid) AS (SELECT oid FROM pg_roles WHERE rolname = $1
  UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON m.member = reach.oid)
SELECT count(*) = 0 OR bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
  OR rolname ~ '^pg_') FROM reach JOIN pg_roles USING (oid)"""
_CODE = {
    "functions": "SELECT proowner AS owner FROM pg_proc WHERE oid >= 16384",
    "domains": "SELECT typowner AS owner FROM pg_type WHERE typtype = 'd' AND oid >= 16384",
    "casts": "SELECT proowner AS owner FROM pg_cast JOIN pg_proc p ON p.oid = castfunc WHERE pg_cast.oid >= 16384",
}
_ACCESS = {"pg_class": "relacl", "pg_namespace": "nspacl", "pg_proc": "proacl"}
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


@dataclass(frozen=True, slots=True)
class RowTarget:
    """Where rows go. `item` is the database in reports, `path` the search path of those who use it.

    `differ` is told of a table whose rows are not as in the dump; without it, such a table ends the load.
    """

    connections: tuple[ServerConnection, ...]
    dump: DumpFolder
    item: str
    encoding: str
    path: str
    differ: Differ | None = None


def load_rows(target: RowTarget, tables: Sequence[Job], progress: Progress, proof: Proof) -> list[RefusedRows]:
    """Load the rows of all tables, and compare them; give those tables whose rows the server refuses: they are empty.

    Raises DatabaseFailed, ServerError; an interruption ends all connections' work first.
    """
    read_back = proof.begin(target.connections[0], target.dump, target.encoding, target.item, target.differ)
    return _RowLoad(target, tables, progress, read_back).run()


def load_table(connection: ServerConnection, target: RowTarget, job: Job, read: ReadBlocks | None = None) -> None:
    """Add the rows of one table. `read` gives the blocks of its files, twice where need be. Raises DatabaseFailed."""
    try:
        _add_rows(connection, target, job, read or target.dump.blocks)
    except ServerError as exc:
        raise DatabaseFailed(item=target.item, reason=f"rows of {job[1].name}: {exc}") from exc


def _add_rows(connection: ServerConnection, target: RowTarget, job: Job, read: ReadBlocks, how: str = "") -> None:
    """As load_table, but raises ServerError where the server refuses rows."""
    table, saved = job
    statement = format_copy(table, target.encoding, how)
    count = retry_with_path(
        connection,
        table.schema,
        target.path,
        lambda: connection.copy_in(statement, adapt_rows(read(saved.files), table, connection.version)),
    )
    if count != saved.rows:
        reason = f"rows of {saved.name}: the server took {count}, the dump has {saved.rows}"
        raise DatabaseFailed(item=target.item, reason=reason)


def format_copy(table: Table, encoding: str, how: str = "") -> str:
    """The COPY that takes what Table.copy_out gave; large objects' pages wait aside, see load.put_pages."""
    columns = ", ".join(quote_name(column.name) for column in table.columns)
    target = "pg_temp.tklb_pages" if table.full_name == LARGE_OBJECTS else table.sql
    return f"COPY {target}{f' ({columns})' if columns else ''} FROM STDIN WITH ({how}ENCODING {quote_text(encoding)})"


class _RowLoad:
    """One load of rows by all connections; the first failure ends it."""

    def __init__(
        self, target: RowTarget, tables: Sequence[Job], progress: Progress, read_back: ReadBack[Job] | None
    ) -> None:
        self._target, self._progress, self._read_back = target, progress, read_back
        sizes = {saved.name: self._measure(saved) for _, saved in tables}
        self._left = sorted(tables, key=lambda job: -sizes[job[1].name])  # so that no large one is alone at the end
        self._size = sum(sizes.values())
        self._done = 0
        self._lock = threading.Lock()
        self._fault: BaseException | None = None
        self._refused: list[RefusedRows] = []

    def run(self) -> list[RefusedRows]:
        connections = self._target.connections
        threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                self._wait(thread)
        except BaseException:
            self._end(threads)
            raise
        if self._fault:
            raise self._fault
        return self._refused

    def _wait(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            thread.join(0.2)
            self._progress(self._target.item, self._done, self._size)

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        self._left.clear()
        self._fault = DatabaseFailed(item=self._target.item, reason="given up")
        while any(thread.is_alive() for thread in threads):
            for connection in self._target.connections:
                connection.cancel()
            for thread in threads:
                thread.join(0.2)

    def _work(self, connection: ServerConnection) -> None:
        try:
            while not self._fault and (job := self._take_job()):
                self._load(connection, job)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._fault = self._fault or exc

    def _load(self, connection: ServerConnection, job: Job) -> None:
        target, size = self._target, self._measure(job[1])
        try:
            fill_fresh(connection, job[0], size, lambda how: _add_rows(connection, target, job, self._read, how))
        except ServerError as exc:
            if not connection.is_open or not exc.is_about_values:
                raise DatabaseFailed(item=self._target.item, reason=f"rows of {job[1].name}: {exc}") from exc
            self._refused.append((job, exc))
            return
        if self._read_back:
            self._read_back.add(job)

    def _measure(self, saved: SavedTable) -> int:
        return sum(self._target.dump.path(name).stat().st_size for name in saved.files)

    def _take_job(self) -> Job | None:
        with self._lock:
            return self._left.pop(0) if self._left else None

    def _read(self, files: Sequence[str]) -> Iterator[bytes]:
        for block in self._target.dump.blocks(files):
            if self._fault:
                raise self._fault
            yield block
            with self._lock:
                self._done += len(block)


# ---------------------------------------------------------------- the roles that load


class Loaders:
    """Temporary roles for one database, one for each owner; `chief` is an administrator's connection with it.

    The role of an owner is a member of the owner, and of nothing else. An owner with privileges of its own has no
    member: its role gets the privilege to insert, table by table. At the end all roles and privileges are gone.
    """

    def __init__(self, chief: ServerConnection) -> None:
        self._chief = chief
        self._roles: dict[str, tuple[str, Secret]] = {}  # by owner; "" for all owners with privileges
        self._connections: dict[str, ServerConnection] = {}
        self._privileged: dict[str, bool] = {}
        self._open_schemas: list[str] = []
        self._opened: list[ServerConnection] = []
        self._is_needed = chief.fetch_value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == "t"
        self._owners: dict[str, str] = {}  # by table

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._opened:
            connection.cancel()
            connection.close()
        self._chief.settle()
        for role, _password in self._roles.values():
            for statement in (f"DROP OWNED BY {quote_name(role)}", f"DROP ROLE {quote_name(role)}"):
                with contextlib.suppress(ServerError):
                    self._chief.run(statement)
        if self._open_schemas:
            self._reset_defaults({"pg_namespace": self._open_schemas})

    @contextlib.contextmanager
    def lend(self, table: Table, count: int) -> Iterator[list[ServerConnection]]:
        """Connections that may insert into a table: one at least, and no more than the server has room for."""
        key = self._find_key(table)
        lent = [self._open(key)]
        with contextlib.suppress(ServerError):
            lent += [self._open(key) for _ in range(count - 1)]
        try:
            yield lent
        finally:
            for connection in lent:
                connection.close()
                self._opened.remove(connection)

    def connect(self, table: Table) -> ServerConnection:
        """The connection that may insert into a table: the same one for each owner."""
        key = self._find_key(table)
        if key not in self._connections:
            self._connections[key] = self._open(key)
        return self._connections[key]

    def has_owner(self, table: Table) -> bool:
        """Whether a table belongs to somebody without privileges, whose role can do with it what the owner can."""
        return self._find_key(table) != ""

    def trusts(self, what: str) -> bool:
        """Whether nobody without privileges has functions, domains or casts here."""
        return not self._has_others(_CODE[what])

    @contextlib.contextmanager
    def join(self, tables: Sequence[Table]) -> Iterator[ServerConnection]:
        """One connection that may replace the rows of several tables and switch triggers off for itself."""
        owners = sorted(self.group(tables).keys() - {""})
        if not self._is_needed:
            yield self._open("")
            return
        name, password = self._make_role(_ALL)
        role = quote_name(name)
        closed = [table for table in tables if self._find_key(table) == ""]
        defaults = {catalog: self._list_defaults(catalog) for catalog in _ACCESS} if closed else {}
        grants = [f"GRANT {quote_name(owner)} TO {role}" for owner in owners]
        grants += [f"GRANT USAGE ON SCHEMA {quote_name(table.schema)} TO {role}" for table in closed]
        grants += [f"GRANT SELECT, INSERT, DELETE ON TABLE {table.sql} TO {role}" for table in closed]
        grants.append(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
        if closed and self.trusts("functions"):
            grants.append(f"ALTER ROLE {role} BYPASSRLS")
        try:
            self._chief.run("; ".join(grants))
            self._let_connect(name)
            with open_as(self._chief, name, password) as connection:
                yield connection
        finally:
            self._chief.run(f"DROP OWNED BY {role}")
            self._reset_defaults(defaults)
            self._chief.run("; ".join(f"REVOKE {quote_name(owner)} FROM {role}" for owner in owners))

    def group(self, tables: Iterable[Table]) -> dict[str, list[Table]]:
        """The tables that one role can load, by its key."""
        found: dict[str, list[Table]] = {}
        for table in tables:
            found.setdefault(self._find_key(table), []).append(table)
        return found

    def choose(self, what: str, owner: str, schema: str = "") -> ServerConnection:
        """The connection for a statement that calls functions, domains or casts, for an owner's object.

        The administrator's, where nobody else has any here; else one that may create in the schema, if one is given.
        A check may also call what only administrators may, so that one of an owner without privileges is never theirs.
        Raises ServerError where the owner has privileges.
        """
        if not self._has_others(_CODE[what]) and (what != "functions" or self._is_privileged(owner)):
            return self._chief
        if self._is_privileged(owner):
            raise ServerError(f"it may call {what} of other owners with the privileges of {owner}")
        if owner not in self._connections:
            self._connections[owner] = self._open(owner)
        if schema:
            self._open_schemas = self._open_schemas or self._list_defaults("pg_namespace")
            role = quote_name(self._roles[owner][0])
            self._chief.run(f"GRANT USAGE, CREATE ON SCHEMA {quote_name(schema)} TO {role}")
        return self._connections[owner]

    @contextlib.contextmanager
    def let_insert(self, tables: Iterable[Table]) -> Iterator[None]:
        """Let a role insert into the tables of owners with privileges, and check that no definition changes meanwhile.

        Where nobody else has code here, it may also read tables and call functions, as the checks of an owner do.
        Raises ServerError where definitions changed.
        """
        closed = [table for table in tables if self._find_key(table) == ""]
        defaults = {name: self._list_defaults(name) for name in _ACCESS} if closed else {}
        role = self._grant_inserts(closed) if closed else ""
        before = self._chief.fetch_value(FINGERPRINT)
        yield
        if self._chief.fetch_value(FINGERPRINT) != before:
            raise ServerError("a function of the database changed definitions while rows were loaded")
        if closed:
            self._chief.run(f"DROP OWNED BY {role}")
            self._reset_defaults(defaults)

    def _grant_inserts(self, tables: Sequence[Table]) -> str:
        role = quote_name(self._make_role("")[0])
        schemas = sorted({table.schema for table in tables})
        grants: list[str] = []
        if self.trusts("functions"):
            schemas = [name for (name,) in self._chief.fetch_rows(_SCHEMAS) if name]
            kinds = ("SELECT ON ALL TABLES", "SELECT ON ALL SEQUENCES", "EXECUTE ON ALL ROUTINES")
            grants.append(f"ALTER ROLE {role} BYPASSRLS")  # tables of extensions have policies already
            grants += [f"GRANT {kind} IN SCHEMA {quote_name(name)} TO {role}" for kind in kinds for name in schemas]
        grants += [f"GRANT USAGE ON SCHEMA {quote_name(name)} TO {role}" for name in schemas]
        grants += [f"GRANT INSERT, TRUNCATE ON TABLE {table.sql} TO {role}" for table in tables]
        self._chief.run("; ".join(grants))
        return role

    def _reset_defaults(self, defaults: Mapping[str, list[str]]) -> None:
        for catalog, oids in defaults.items():
            column, among = _ACCESS[catalog], f"oid = ANY ('{{{','.join(oids)}}}'::oid[])"
            self._chief.run(f"UPDATE {catalog} SET {column} = NULL WHERE {among} AND {column} IS NOT NULL")

    def _list_defaults(self, catalog: str) -> list[str]:
        """The objects whose privileges are the default ones: NULL, which no GRANT or REVOKE gives back."""
        rows = self._chief.fetch_rows(f"SELECT oid FROM {catalog} WHERE {_ACCESS[catalog]} IS NULL AND oid >= 16384")
        return [oid or "0" for (oid,) in rows]

    def _has_others(self, catalog: str) -> bool:
        """Whether somebody without privileges owns one of these."""
        rows = self._chief.fetch_rows(f"SELECT DISTINCT pg_get_userbyid(owner) FROM ({catalog}) own")
        return self._is_needed and any(not self._is_privileged(owner or "") for (owner,) in rows)

    def _find_key(self, table: Table) -> str:
        if table.full_name not in self._owners:
            query = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = $1::regclass"
            self._owners[table.full_name] = self._chief.fetch_value(query, table.sql) or ""
        owner = self._owners[table.full_name]
        return "" if self._is_privileged(owner) else owner

    def _is_privileged(self, owner: str) -> bool:
        if owner not in self._privileged:
            self._privileged[owner] = self._chief.fetch_value(_IS_PRIVILEGED, owner) == "t"
        return self._privileged[owner]

    def _make_role(self, owner: str) -> tuple[str, Secret]:
        if owner not in self._roles:
            name, password = f"tklb_loader_{secrets.token_hex(8)}", Secret(secrets.token_urlsafe(24))
            until = f"(now() + interval '{_LOAD_DAYS} days')"
            end = self._chief.fetch_value(f"SELECT {until}::text") or ""
            words = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT"
            secret = quote_text(make_verifier(password))
            self._chief.run(
                f"CREATE ROLE {quote_name(name)} {words} PASSWORD {secret} VALID UNTIL {quote_text(end)};"
                f"COMMENT ON ROLE {quote_name(name)} IS {quote_text(OUR_COMMENT)}"
            )
            self._roles[owner] = name, password
            if owner not in ("", _ALL):
                self._chief.run(f"GRANT {quote_name(owner)} TO {quote_name(name)}")
        return self._roles[owner]

    def _let_connect(self, role: str) -> None:
        if self._chief.fetch_value("SELECT has_database_privilege($1, current_database(), 'CONNECT')", role) == "f":
            self._chief.run(f"GRANT CONNECT ON DATABASE {quote_name(self._chief.database)} TO {quote_name(role)}")

    def _open(self, owner: str) -> ServerConnection:
        if self._is_needed:
            name, password = self._make_role(owner)
            self._let_connect(name)
            opened = open_as(self._chief, name, password)
        else:
            opened = open_connection(self._chief.login, self._chief.database)
        self._opened.append(opened)
        return opened
