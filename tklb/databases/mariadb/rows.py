"""The rows of a table, read by ourselves in the very form the dump program gives them: what it cannot give exactly.

It prints six digits of a FLOAT, and cannot tell apart tables whose names hold dots. Takes a session in a transaction;
gives lines.
"""

from collections.abc import Iterator

from tklb.databases.mariadb.catalogue import Column, Table
from tklb.databases.mariadb.session import Row, Session, decoded, quoted

_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "double", "float", "year"})
_ESCAPES = ((b"\\", b"\\\\"), (b"'", b"\\'"), (b'"', b'\\"'), (b"\0", b"\\0"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_LAST_ESCAPE = (b"\x1a", b"\\Z")
_LINES = 500
_BLOCK = 1 << 20


def read_rows(session: Session, table: Table) -> Iterator[bytes]:
    """Blocks of lines, in the order of the primary key where there is one."""
    columns = table.given
    values = ", ".join(map(_value, columns)) or "1"
    order = ", ".join(map(quoted, _key(session, table)))
    ordered = f" ORDER BY {order}" if order else ""
    lines: list[bytes] = []
    size = 0
    for row in session.stream(f"SELECT {values} FROM {table.address}{ordered}"):
        line = _line(row, columns)
        lines.append(line)
        size += len(line)
        if len(lines) >= _LINES or size > _BLOCK:
            yield b"".join(lines)
            lines, size = [], 0
    yield b"".join(lines)


def _value(column: Column) -> str:
    name = quoted(column.name)
    return f"CAST({name} AS DOUBLE)" if column.type == "float" else f"{name} + 0" if column.is_number else name


def _key(session: Session, table: Table) -> list[str]:
    keys = [row for row in session.rows(f"SHOW KEYS FROM {table.address}") if row[1] == b"0"]
    return [decoded(row[4]) for row in keys if row[2] == keys[0][2]]


def _line(row: Row, columns: tuple[Column, ...]) -> bytes:
    return b",".join(map(_literal, row, columns)) + b"\n"


def _literal(value: bytes | None, column: Column) -> bytes:
    if value is None:
        return b"NULL"
    if column.type in _NUMBERS or column.is_number:
        return value
    if column.is_bytes:
        return b"0x" + value.hex().upper().encode() if value else b"''"
    for raw, escaped in (*_ESCAPES, _LAST_ESCAPE):
        if raw in value:
            value = value.replace(raw, escaped)
    return b"'" + value + b"'"
