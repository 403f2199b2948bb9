"""Which tables of this server have rows: a restore says so of each table whose rows a backup could not take.

Takes a connection and the names of tables; connects with their databases and reads at most one row of each.
"""

import contextlib
from collections.abc import Iterable
from itertools import groupby

from tklb.databases.postgresql.connection import ServerConnection, ServerError, open_connection, quote_name
from tklb.errors import DatabaseFailed

__all__ = ["find_rows"]

_WAIT = "SET lock_timeout = '3s'"
_FIND = "SELECT to_regclass($1)"  # NULL for a table that is not there


def find_rows(connection: ServerConnection, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Say of each table that is here whether it has rows; one that cannot be read counts as one with rows."""
    found: dict[tuple[str, str], bool] = {}
    for database, names in groupby(sorted(tables), key=lambda table: table[0]):
        try:
            with open_connection(connection.login, database) as other:
                other.run(_WAIT)
                answers = {each: _has_rows(other, each[1]) for each in names}
        except (ServerError, DatabaseFailed):
            continue  # there is no such database, or nobody may enter it
        found |= {each: answer for each, answer in answers.items() if answer is not None}
    return found


def has_rows(connection: ServerConnection, table: str) -> bool:
    """Whether a table, whose name is quoted, has rows of its own. Raises ServerError.

    No query is planned: the planner would call functions of the table's owner, in expressions of indexes.
    """
    blocks = connection.copy_out(f"COPY {table} TO STDOUT")
    is_filled = bool(next(blocks, b""))
    connection.cancel()
    with contextlib.suppress(ServerError):
        for _ in blocks:
            pass
    return is_filled


def _has_rows(connection: ServerConnection, table: str) -> bool | None:
    """Ask about one table, spelled SCHEMA.TABLE: a dot may be in either name, so each reading is tried."""
    for place in (place for place, sign in enumerate(table) if sign == "."):
        names = (table[:place], table[place + 1 :])
        if connection.fetch_value(_FIND, quote_name(*names)) is not None:
            return _is_filled(connection, names)
    return None


def _is_filled(connection: ServerConnection, names: tuple[str, str]) -> bool:
    try:
        return has_rows(connection, quote_name(*names))
    except ServerError:
        return True
