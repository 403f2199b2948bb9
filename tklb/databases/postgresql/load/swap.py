"""Databases as a whole: made like the saved one, put in the place of the one here in one transaction, dropped.

Renaming a database locks it against new sessions, and waits some seconds for its last ones to end; another connection
of ours ends them meanwhile. A killed run leaves no flag behind that would bar users. Until the commit the old database
is as it was; after it the new one is there. Sources: CREATE, ALTER and DROP DATABASE of PostgreSQL's
manual; CountOtherDBBackends of procarray.c. Takes connections with a third database; touches the two.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import replace

from tklb.databases.postgresql.accounts import format_grants
from tklb.databases.postgresql.catalogue import IS_OURS, LOADING, Properties
from tklb.databases.postgresql.connection import (
    ServerConnection,
    ServerError,
    open_connection,
    quote_name,
    quote_text,
)
from tklb.lazy_dataclass import dataclass

__all__ = ["Swap", "create_database", "drop_database", "drop_leftovers", "has_database", "swap_database"]

_IN_USE = "55006"
_ATTEMPTS = 6
# A load makes such roles; a killed one leaves them, and one that was just logging in has another name.
OUR_ROLES, OUR_COMMENT = "^tklb_loader_[0-9a-f]{16}$", "loads rows in a restore of tklb"


@dataclass(frozen=True, slots=True)
class Swap:
    """The database's own name, and those of the one being loaded and of the old one on its way out."""

    live: str
    scratch: str
    aside: str

    @property
    def is_in_place(self) -> bool:
        """Whether the one being loaded has its final name already."""
        return self.scratch == self.live

    def keep_name(self) -> "Swap":
        """The swap of a database that is loaded under its final name."""
        return replace(self, scratch=self.live)


def make_swap(live: str) -> Swap:
    """A swap whose other two databases have names that nobody else has."""
    return Swap(live, f"tklb_scratch_{secrets.token_hex(8)}", f"tklb_aside_{secrets.token_hex(8)}")


def has_database(connection: ServerConnection, name: str) -> bool:
    return bool(connection.fetch_rows("SELECT FROM pg_database WHERE datname = $1", name))


def create_database(connection: ServerConnection, name: str, properties: Properties, space: str = "") -> str:
    """Make an empty database; return the part of the saved one's locale that it could not have, empty for none.

    `space` is a tablespace of the server for it; empty for the default one.
    """
    place = f" TABLESPACE {quote_name(space)}" if space else ""
    try:
        connection.run(_format_creation(name, properties, connection.version) + place)
        return ""
    except ServerError as exc:
        first = exc
    bare = f"CREATE DATABASE {quote_name(name)} TEMPLATE template0 ENCODING {quote_text(properties.encoding)}"
    try:
        connection.run(bare)
        instead = "this cluster's default"
    except ServerError:
        connection.run(f"{bare} LOCALE 'C'")
        instead = "C"
    return f"its locale ({properties.locale or properties.collate}) cannot be had here, it has {instead}: {first}"


def _format_creation(name: str, properties: Properties, version: int) -> str:
    words = [
        f"CREATE DATABASE {quote_name(name)} TEMPLATE template0 ENCODING {quote_text(properties.encoding)}",
        f"LC_COLLATE {quote_text(properties.collate)} LC_CTYPE {quote_text(properties.ctype)}",
        f"LOCALE_PROVIDER {properties.provider}",
    ]
    if properties.provider != "libc":
        words.append(f"{properties.provider.upper()}_LOCALE {quote_text(properties.locale)}")
    if properties.rules and version >= 160000:
        words.append(f"ICU_RULES {quote_text(properties.rules)}")
    return " ".join(words)


def list_property_statements(name: str, properties: Properties) -> Iterator[tuple[str, str]]:
    """Statements that give database `name` its saved properties but settings, each with what it is about."""
    this = f"DATABASE {quote_name(name)}"
    yield "owner", f"ALTER {this} OWNER TO {quote_name(properties.owner)}"
    for statement in format_grants(this, properties.owner, properties.grants):
        yield "privileges", statement
    template = "true" if properties.is_template else "false"
    yield "limits", f"ALTER {this} CONNECTION LIMIT {properties.limit} IS_TEMPLATE {template}"


def set_comment(connection: ServerConnection, name: str, comment: str | None) -> None:
    """Give a database its comment, in the place of the mark that it may have."""
    text = "NULL" if comment is None else quote_text(comment)
    connection.run(f"COMMENT ON DATABASE {quote_name(name)} IS {text}")


def mark_database(connection: ServerConnection, swap: Swap) -> None:
    """Give a scratch database its final name, with a mark; nobody but administrators may connect to it."""
    name = quote_name(swap.scratch)
    connection.run(
        f"COMMENT ON DATABASE {name} IS {quote_text(LOADING)}; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;"
        f"ALTER DATABASE {name} RENAME TO {quote_name(swap.live)}"
    )


def unmark_privileges(connection: ServerConnection, name: str) -> None:
    """Give a database the privileges of a new one again: NULL, which no GRANT gives back."""
    try:
        connection.run(f"UPDATE pg_database SET datacl = NULL WHERE datname = {quote_text(name)}")
    except ServerError:  # no superuser
        connection.run(f"GRANT CONNECT ON DATABASE {quote_name(name)} TO PUBLIC")


def swap_database(
    renamer: ServerConnection, ender: ServerConnection, swap: Swap, occupant: ServerConnection | None = None
) -> int:
    """Put scratch in the place of live; return how many sessions of live's were ended for it.

    `occupant` is a connection of ours with the live database; it stays until all others are gone, and is then closed.
    Raises ServerError: all is as it was.
    """
    return _DatabaseSwap(renamer, ender, swap, occupant).run()


class _DatabaseSwap:
    def __init__(
        self, renamer: ServerConnection, ender: ServerConnection, swap: Swap, occupant: ServerConnection | None
    ) -> None:
        self._renamer, self._ender, self._swap, self._occupant = renamer, ender, swap, occupant
        self._ended: set[str] = set()

    def run(self) -> int:
        for _ in range(_ATTEMPTS - 1):
            if self._try():
                return len(self._ended)
        self._rename()
        return len(self._ended)

    def _try(self) -> bool:
        try:
            self._rename()
        except ServerError as exc:
            if exc.state != _IN_USE:
                raise
            return False
        return True

    def _rename(self) -> None:
        renamer, swap = self._renamer, self._swap
        renamer.run("BEGIN")
        try:
            if has_database(self._ender, swap.live):
                self._rename_live()
            renamer.run(f"ALTER DATABASE {quote_name(swap.scratch)} RENAME TO {quote_name(swap.live)}")
            renamer.run("COMMIT")
        except ServerError:
            renamer.run("ROLLBACK")
            raise

    def _rename_live(self) -> None:
        live, aside = quote_name(self._swap.live), quote_name(self._swap.aside)
        own = str(self._occupant.pid if self._occupant else 0)
        self._renamer.send(f"ALTER DATABASE {live} RENAME TO {aside}")
        while self._renamer.is_busy(0.05):
            rows = self._ender.fetch_rows(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = $1 AND pid <> $2::int AND backend_type <> 'autovacuum worker'",
                self._swap.live,
                own,
            )
            self._ended.update(str(pid) for pid, _ in rows)
            if not rows and self._occupant:
                self._occupant.close()
        self._renamer.wait()


def drop_database(connection: ServerConnection, name: str) -> None:
    """Drop a database of ours, whoever is in it. Raises ServerError."""
    if not has_database(connection, name):
        return
    with contextlib.suppress(ServerError):
        connection.run(f"ALTER DATABASE {quote_name(name)} IS_TEMPLATE false")
    _forget_subscriptions(connection, name)
    # meanwhile the server may have ended the last statement of a killed run, which dropped it
    connection.run(f"DROP DATABASE IF EXISTS {quote_name(name)} WITH (FORCE)")


def _forget_subscriptions(connection: ServerConnection, database: str) -> None:
    """A database with subscriptions cannot be dropped. The publisher is left alone: its slot serves the new one."""
    own = "(SELECT oid FROM pg_database WHERE datname = $1)"
    names = connection.fetch_rows(f"SELECT subname FROM pg_subscription WHERE subdbid = {own}", database)
    if not names:
        return
    with open_connection(connection.login, database) as inside:
        for (name,) in inside.fetch_rows("SELECT evtname FROM pg_event_trigger"):
            inside.run(f"ALTER EVENT TRIGGER {quote_name(name or '')} DISABLE")
        for (name,) in names:
            subscription = f"SUBSCRIPTION {quote_name(name or '')}"
            inside.run(f"ALTER {subscription} DISABLE")
            inside.run(f"ALTER {subscription} SET (slot_name = NONE)")
            inside.run(f"DROP {subscription}")


def list_slots(connection: ServerConnection, database: str) -> tuple[str, ...]:
    """The logical replication slots of a database: they go with it."""
    query = "SELECT slot_name FROM pg_replication_slots WHERE database = $1 ORDER BY 1"
    return tuple(name or "" for (name,) in connection.fetch_rows(query, database))


def drop_leftovers(connection: ServerConnection) -> tuple[str, ...]:
    """Drop the databases of killed runs; return notes on those that could not be dropped."""
    notes = []
    for (name,) in connection.fetch_rows(f"SELECT datname FROM pg_database WHERE {IS_OURS} ORDER BY 1"):
        try:
            drop_database(connection, name or "")
        except ServerError as exc:
            notes.append(f"the database {name} of an ended restore cannot be dropped: {exc}")
    ours = "SELECT rolname FROM pg_roles WHERE rolname ~ $1 OR shobj_description(oid, 'pg_authid') = $2 ORDER BY 1"
    for (name,) in connection.fetch_rows(ours, OUR_ROLES, OUR_COMMENT):
        try:
            _drop_role(connection, name or "")
        except ServerError as exc:
            notes.append(f"the role {name} of an ended restore cannot be dropped: {exc}")
    return tuple(notes)


def _drop_role(connection: ServerConnection, name: str) -> None:
    """Drop a role of a killed load, with what it had in any database."""
    rows = connection.fetch_rows(
        "SELECT DISTINCT datname FROM pg_shdepend JOIN pg_database d ON d.oid = dbid"
        " WHERE refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)",
        name,
    )
    for (database,) in rows:
        with open_connection(connection.login, database or "") as inside:
            inside.run(f"DROP OWNED BY {quote_name(name)}")
    connection.run(f"DROP OWNED BY {quote_name(name)}; DROP ROLE {quote_name(name)}")
