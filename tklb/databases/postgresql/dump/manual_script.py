"""load.sql: a script beside each database, for an administrator who has nothing but psql.

    createdb -T template0 NAME && cd FOLDER && psql -X -f load.sql NAME

Takes what a dump holds; writes the script. Only psql reads it, never tklb.
"""

from collections.abc import Sequence
from pathlib import Path

from tklb.databases.dump_format import write_file
from tklb.databases.postgresql import MONETARY
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.connection import quote_name, quote_text
from tklb.databases.postgresql.load.load import MAKE_PAGES, PUT_PAGES
from tklb.model.databases import SavedTable

__all__ = ["write_manual_script"]

SCRIPT = "load.sql"
_MOVED = "tklb_loading"


def write_manual_script(
    folder: Path, encoding: str, tables: Sequence[Table], saved: Sequence[SavedTable], page_size: int | None
) -> None:
    """Write load.sql into the folder of a database: it is for an empty database of the same encoding.

    `page_size` is that of large objects, None where there are none.
    """
    lines = [
        "-- From inside this folder: createdb -T template0 NAME && psql -X -f load.sql NAME",
        "\\set ON_ERROR_STOP on",
        f"SET lc_monetary = {quote_text(MONETARY)};",
        "\\i pre-data.sql",
    ]
    lines += ["\\i large-objects.sql", f"{MAKE_PAGES};"] if page_size else []
    for table, one in zip(tables, saved, strict=True):
        lines += _format_copies(encoding, table, one)
    lines += [f"{PUT_PAGES.format(size=page_size)};"] if page_size else []
    lines += ["\\i sequences.sql", "\\i post-data.sql", ""]
    write_file(folder / SCRIPT, "\n".join(lines).encode("utf-8", "surrogateescape"))


def _format_copies(encoding: str, table: Table, saved: SavedTable) -> list[str]:
    columns = ", ".join(quote_name(column.name) for column in table.columns)
    listed = f" ({columns})" if columns else ""
    source = f"with (encoding {quote_text(encoding)})"
    copies = [f"from {quote_text(file)} {source}" for file in saved.files]
    if table.full_name == LARGE_OBJECTS:
        return [f"\\copy tklb_pages {copy}" for copy in copies]
    if not {"\n", "\r"}.isdisjoint(columns):
        return ["-- a line break in a column's name: psql cannot copy into", f"-- {table.full_name!a}"]
    if {"\n", "\r"}.isdisjoint(table.sql):
        return [f"\\copy {table.sql}{listed} {copy}" for copy in copies]
    # \copy is a single line: a name with a line break is another one meanwhile
    moved = quote_name(table.schema, _MOVED)
    if not {"\n", "\r"}.isdisjoint(table.schema) and copies:
        return [
            f"ALTER SCHEMA {quote_name(table.schema)} RENAME TO {_MOVED};",
            f"ALTER TABLE {quote_name(_MOVED, table.table)} RENAME TO {_MOVED};",
            *(f"\\copy {_MOVED}.{_MOVED}{listed} {copy}" for copy in copies),
            f"ALTER TABLE {_MOVED}.{_MOVED} RENAME TO {quote_name(table.table)};",
            f"ALTER SCHEMA {_MOVED} RENAME TO {quote_name(table.schema)};",
        ]
    return [
        f"ALTER TABLE {table.sql} RENAME TO {_MOVED};",
        *(f"\\copy {moved}{listed} {copy}" for copy in copies),
        f"ALTER TABLE {moved} RENAME TO {quote_name(table.table)};",
    ]
