"""Which tables of this server have rows: a restore says so of each table whose rows a backup could not take.

Takes a connection and the names of tables; reads at most one row of each.
"""

from collections.abc import Iterable

from tklb.databases.mariadb.connection import ServerConnection, ServerError, quote_name

__all__ = ["find_rows"]

_SECONDS = 3
_ABSENT = frozenset({1049, 1109, 1146})  # no such database or table


def find_rows(connection: ServerConnection, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Say of each table that is here whether it has rows; one that cannot be read counts as one with rows."""
    connection.wait_for_locks(_SECONDS)
    answers = {names: _has_rows(connection, *names) for names in tables}
    return {names: answer for names, answer in answers.items() if answer is not None}


def _has_rows(connection: ServerConnection, database: str, table: str) -> bool | None:
    try:
        return bool(connection.fetch_rows(f"SELECT 1 FROM {quote_name(database, table)} LIMIT 1"))
    except ServerError as exc:
        return None if exc.number in _ABSENT else True
