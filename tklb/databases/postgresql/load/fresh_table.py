"""Fill a table that nobody has filled yet: the server takes pages one after the other, and freezes the rows.

Otherwise it looks for room in pages that are full but for some bytes: rows would lie in another order than in the files
of the dump, and the next dump would have new files. Takes a connection; changes the table.
"""

from collections.abc import Callable

from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.connection import ServerConnection, ServerError
from tklb.errors import DatabaseFailed

__all__ = ["fill_fresh"]

_STEADY = 4 * 8192  # bytes up to which the server looks for no such room


def fill_fresh(connection: ServerConnection, table: Table, size: int, fill: Callable[[str], None]) -> None:
    """Fill a table by `fill`, which gets the options for COPY, and is called again without any where they are refused.

    `size` is that of its files. Raises what `fill` raises.
    """
    if size <= _STEADY or not _begin(connection, table):
        fill("")
        return
    try:
        fill("FREEZE, ")
        connection.run("COMMIT")
    except (ServerError, DatabaseFailed):
        connection.run("ROLLBACK")
        fill("")


def _begin(connection: ServerConnection, table: Table) -> bool:
    """Begin a transaction that makes an empty table anew. False where it has rows, or where the server refuses it."""
    if connection.fetch_value("SELECT pg_relation_size($1::regclass)", table.sql) != "0":
        return False
    connection.run("BEGIN")
    try:
        connection.run(f"TRUNCATE TABLE ONLY {table.sql}")
    except ServerError:
        connection.run("ROLLBACK")
        return False
    return True
