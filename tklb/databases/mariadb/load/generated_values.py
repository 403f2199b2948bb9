"""Generated values that depend on the time zone of a session: they are made again in the zone that they belong to.

Rows are loaded in UTC, like those of a dump. A stored date of a TIMESTAMP would be that of UTC then, and the index of a
virtual one would not fit what its readers generate. Takes a connection with the loaded table; changes that table only.
"""

from tklb.databases.mariadb.catalogue import Table, read_digest
from tklb.databases.mariadb.connection import ServerConnection, ServerError, decode, quote_name, quote_text
from tklb.databases.mariadb.definitions import RowFormat

__all__ = ["settle_generated"]

_UTC = "SET SESSION time_zone = '+00:00'"


def settle_generated(connection: ServerConnection, table: Table, row_format: RowFormat) -> str:
    """Let the generated values be as in the dump; say where they are not. Raises ServerError.

    The zone of the server that was dumped comes first, then the one of this server.
    """
    if not table.generated_columns:
        return ""
    indexed = _list_indexed(connection, table)
    has_times = any(column.type == "timestamp" for column in table.stored_columns)
    is_unlike = row_format.generated != read_digest(connection, table) if row_format.generated else has_times
    if not (table.kept_columns and is_unlike) and not (indexed and has_times):
        return _check_index(connection, table) if indexed else ""
    try:
        reason = _generate_again(connection, table, row_format)
        return reason or (_check_index(connection, table) if indexed else "")
    finally:
        connection.run(_UTC)


def _list_indexed(connection: ServerConnection, table: Table) -> set[str]:
    """The virtual columns that have an index."""
    keys = {decode(row[4]) for row in connection.fetch_rows(f"SHOW KEYS FROM {table.sql}")}
    return keys & set(table.generated_columns) - set(table.kept_columns)


def _generate_again(connection: ServerConnection, table: Table, row_format: RowFormat) -> str:
    """Generate the values in one zone after the other; leave the session in the last. Give the reason of failure."""
    names = ", ".join(map(quote_name, table.kept_columns))
    reason = f"the generated values of {names} are not those of the dump: time zones or servers differ"
    zones = [quote_text(row_format.time_zone)] if row_format.time_zone else []
    for zone in (*zones, "@@GLOBAL.time_zone"):
        try:
            connection.run(f"SET SESSION time_zone = {zone}")
            connection.run(f"ALTER TABLE {table.sql} FORCE, ALGORITHM = COPY")
            is_same = row_format.generated in ("", _read_in_utc(connection, table))
            connection.run(f"SET SESSION time_zone = {zone}")
        except ServerError as exc:
            reason = f"its generated values could not be generated again: {exc}"
            continue
        if is_same:
            return ""
    return reason


def _read_in_utc(connection: ServerConnection, table: Table) -> str:
    connection.run(_UTC)
    return read_digest(connection, table)


def _check_index(connection: ServerConnection, table: Table) -> str:
    """Check the table, in the zone in which its values were generated."""
    for *_, kind, text in connection.fetch_texts(f"CHECK TABLE {table.sql} EXTENDED"):
        if kind.lower() in ("error", "warning"):
            return f"CHECK TABLE: {text}"
    return ""
