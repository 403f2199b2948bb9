"""Put loaded tables in the place of those that are there, in one statement, and take it back.

Takes a connection and names; touches three databases: `live`, `scratch` that the new tables come from, and `aside`
where the old ones go. RENAME TABLE carries foreign keys along, so those that point into the other
two are redirected to the live database.
"""

import re
import secrets
import time

from tklb.databases.mariadb.catalogue import OURS
from tklb.databases.mariadb.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.databases.mariadb.load.server_settings import give_settings_back
from tklb.databases.report import DatabaseReport
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass

__all__ = ["Swap", "create_database", "drop_database", "drop_leftovers", "has_database", "swap_database"]

_NAME = rb"`(?:[^`]|``)+`"
_NAMES = rb"%b(?:, ?%b)*" % (_NAME, _NAME)
_FOREIGN_KEY = re.compile(
    rb"CONSTRAINT (%b) FOREIGN KEY \((%b)\) REFERENCES (?:(%b)\.)?(%b) \((%b)\)"
    rb"((?: ON (?:DELETE|UPDATE) (?:CASCADE|RESTRICT|SET NULL|SET DEFAULT|NO ACTION))*)"
    % (_NAME, _NAMES, _NAME, _NAME, _NAMES)
)
_LOCKED = frozenset({1205, 1213})
_TRY = 5  # seconds


@dataclass(frozen=True, slots=True)
class Swap:
    """The tables that change places: `moved_in` from scratch to live, `moved_out` from live to aside."""

    live: str
    scratch: str
    aside: str
    moved_in: tuple[str, ...] = ()
    moved_out: tuple[str, ...] = ()

    @property
    def forward(self) -> str:
        out = [_format_move(name, self.live, self.aside) for name in self.moved_out]
        return ", ".join([*out, *(_format_move(name, self.scratch, self.live) for name in self.moved_in)])

    @property
    def back(self) -> str:
        into = [_format_move(name, self.live, self.scratch) for name in self.moved_in]
        return ", ".join([*into, *(_format_move(name, self.aside, self.live) for name in self.moved_out)])


def _format_move(name: str, old: str, new: str) -> str:
    return f"{quote_name(old, name)} TO {quote_name(new, name)}"


def make_swap(live: str) -> Swap:
    """A swap that moves nothing yet; its scratch database and the one beside it have names that nobody else has."""
    word = secrets.token_hex(8)
    return Swap(live, f"tklb_scratch_{word}", f"tklb_aside_{word}")


def has_database(connection: ServerConnection, name: str) -> bool:
    return (name,) in connection.fetch_texts("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")


def create_database(connection: ServerConnection, name: str, charset: str, collation: str) -> None:
    connection.run(f"CREATE DATABASE {quote_name(name)} CHARACTER SET {charset} COLLATE {collation}")


def drop_database(connection: ServerConnection, name: str) -> None:
    """Drop a database if it is there: the server may still be at the last statement of a killed run, which drops it."""
    connection.run(f"DROP DATABASE IF EXISTS {quote_name(name)}")


def drop_leftovers(connection: ServerConnection) -> None:
    """Drop the databases of a killed run: its tables were all moved in one statement, so none of them is needed."""
    for (name,) in connection.fetch_texts("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA"):
        if OURS.fullmatch(name):
            give_settings_back(connection, name)
            drop_database(connection, name)


def list_kinds(connection: ServerConnection, database: str) -> dict[str, str]:
    """The kind of each table and view of a database, by name; empty where there is no such database."""
    query = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = "
    found = connection.fetch_texts(query + quote_text(database))
    return {name: kind for schema, name, kind in found if schema == database}


def swap_database(connection: ServerConnection, swap: Swap, seconds: int) -> int:
    """Swap the tables; return how many sessions had to be ended for it. Raises ServerError: nothing moved then."""
    ended = _end_sessions(connection, swap.live)
    if not swap.forward:
        return len(ended)
    until = time.monotonic() + seconds
    connection.wait_for_locks(min(_TRY, seconds))
    try:
        while not _try_rename(connection, swap, until):
            ended |= _end_sessions(connection, swap.live)
    finally:
        connection.wait_for_locks(seconds)
    return len(ended)


def _try_rename(connection: ServerConnection, swap: Swap, until: float) -> bool:
    try:
        connection.run(f"RENAME TABLE {swap.forward}")
    except ServerError as exc:
        if exc.number not in _LOCKED or time.monotonic() > until:
            raise
        return False
    return True


def _end_sessions(connection: ServerConnection, database: str) -> set[str]:
    """End everybody else's sessions that use a database; return their numbers: the server lists them a while longer."""
    query = "SELECT ID, DB FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon'"
    numbers = [number for number, name in connection.fetch_texts(query) if name == database]
    return {number for number in numbers if _kill(connection, number)}


def _kill(connection: ServerConnection, number: str) -> bool:
    try:
        connection.run(f"KILL {number}")
    except ServerError:
        return False  # it has gone by itself
    return True


def is_swapped(connection: ServerConnection, swap: Swap) -> bool:
    """Whether the statement was carried out: it is, as a whole or not at all."""
    names = swap.moved_in or swap.moved_out
    there = list_kinds(connection, swap.scratch if swap.moved_in else swap.live)
    return bool(names) and names[0] not in there


def redirect_foreign_keys(connection: ServerConnection, swap: Swap, report: DatabaseReport) -> None:
    """Let every foreign key that points into the two other databases point to the live one."""
    others = (swap.scratch, swap.aside)
    query = (
        "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"
        f" WHERE REFERENCED_TABLE_SCHEMA IN ({', '.join(map(quote_text, others))})"
    )
    for database, table in connection.fetch_texts(query):
        if database in others:
            continue
        try:
            _redirect(connection, quote_name(database, table), swap)
        except ServerError as exc:
            report.skip(database, table, f"its foreign keys to {printable(swap.live)} could not be set: {exc}")


def _redirect(connection: ServerConnection, table_name: str, swap: Swap) -> None:
    statement = connection.fetch_rows(f"SHOW CREATE TABLE {table_name}")[0][1] or b""
    others = {quote_name(swap.scratch).encode(), quote_name(swap.aside).encode()}
    live = quote_name(swap.live).encode("utf-8", "surrogateescape")
    table = table_name.encode("utf-8", "surrogateescape")
    for found in _FOREIGN_KEY.finditer(statement):
        name, columns, database, parent, keys, rules = found.groups()
        if database in others:
            connection.run(b"ALTER TABLE %b DROP FOREIGN KEY %b" % (table, name))
            connection.run(
                b"ALTER TABLE %b ADD CONSTRAINT %b FOREIGN KEY (%b) REFERENCES %b.%b (%b)%b"
                % (table, name, columns, live, parent, keys, rules)
            )
