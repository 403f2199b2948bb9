"""A script for psql that loads a dumped database by hand, should tklb be out of reach. Pure.

createdb -T template0 x && cd FOLDER && psql -X -f load.sql x
"""

from collections.abc import Sequence

from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.session import ident, literal
from tklb.model.databases import SavedTable

PAGES = "CREATE TEMPORARY TABLE tklb_pages (loid oid, pageno bigint, data bytea)"
PUT_PAGES = "SELECT pg_catalog.lo_put(loid, pageno * {size}, data) FROM tklb_pages ORDER BY loid, pageno"
_MOVED = "tklb_loading"


def load_script(encoding: str, tables: Sequence[Table], saved: Sequence[SavedTable], page_size: int | None) -> bytes:
    """Statements and commands of psql, for an empty database of the same encoding.

    `page_size` is that of large objects, None where there are none.
    """
    lines = [
        "-- From inside this folder: createdb -T template0 NAME && psql -X -f load.sql NAME",
        "\\set ON_ERROR_STOP on",
        "\\i pre-data.sql",
    ]
    lines += ["\\i large-objects.sql", f"{PAGES};"] if page_size else []
    for table, one in zip(tables, saved, strict=True):
        lines += _rows(encoding, table, one)
    lines += [f"{PUT_PAGES.format(size=page_size)};"] if page_size else []
    lines += ["\\i sequences.sql", "\\i post-data.sql", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _rows(encoding: str, table: Table, saved: SavedTable) -> list[str]:
    columns = ", ".join(ident(column.name) for column in table.columns)
    listed = f" ({columns})" if columns else ""
    source = f"with (encoding {literal(encoding)})"
    copies = [f"from {literal(file)} {source}" for file in saved.files]
    if table.spelled == LARGE_OBJECTS:
        return [f"\\copy tklb_pages {copy}" for copy in copies]
    if not {"\n", "\r"}.isdisjoint(columns):
        return ["-- a line break in a column's name: psql cannot copy into", f"-- {table.spelled!a}"]
    if {"\n", "\r"}.isdisjoint(table.sql):
        return [f"\\copy {table.sql}{listed} {copy}" for copy in copies]
    # \copy is a single line: a name with a line break is another one meanwhile
    moved = ident(table.schema, _MOVED)
    if not {"\n", "\r"}.isdisjoint(table.schema) and copies:
        return [
            f"ALTER SCHEMA {ident(table.schema)} RENAME TO {_MOVED};",
            f"ALTER TABLE {ident(_MOVED, table.table)} RENAME TO {_MOVED};",
            *(f"\\copy {_MOVED}.{_MOVED}{listed} {copy}" for copy in copies),
            f"ALTER TABLE {_MOVED}.{_MOVED} RENAME TO {ident(table.table)};",
            f"ALTER SCHEMA {_MOVED} RENAME TO {ident(table.schema)};",
        ]
    return [
        f"ALTER TABLE {table.sql} RENAME TO {_MOVED};",
        *(f"\\copy {moved}{listed} {copy}" for copy in copies),
        f"ALTER TABLE {moved} RENAME TO {ident(table.table)};",
    ]
