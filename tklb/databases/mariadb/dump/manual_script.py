"""load.sql: a script beside each database, for an administrator who has nothing but the stock client.

    cd DATABASE && mariadb --local-infile NAME_OF_A_NEW_DATABASE < load.sql

Takes what a dump holds; writes the script. Only the client reads it, never tklb.
"""

from collections.abc import Sequence
from pathlib import Path

from tklb.databases.dump_format import write_file
from tklb.databases.mariadb.catalogue import Schema
from tklb.databases.mariadb.connection import MORE, NEUTRAL, quote_name, quote_text
from tklb.databases.mariadb.definitions import PROGRAMS, Definition, make_row_format
from tklb.databases.mariadb.load.load_rows import format_load
from tklb.model.databases import SavedTable

__all__ = ["write_manual_script"]

SCRIPT = "load.sql"
_END = "$$tklb$$"


def write_manual_script(
    folder: Path, schema: Schema, definitions: Sequence[Definition], tables: Sequence[SavedTable]
) -> None:
    """Write load.sql into the folder of a database; `definitions` are in the order in which they can be made."""
    lines = [f"DELIMITER {_END}", *map(_end, ("SET NAMES utf8mb4", NEUTRAL, MORE[1]))]
    for each in definitions:
        if each.kind in ("sequence", "table"):
            lines += [f"source {each.file}", _END]
        if each.position:
            value, round_ = each.position
            lines.append(_end(f"DO SETVAL({quote_name(each.name)}, {value}, 0, {round_})"))
    here = {table.name: table for table in schema.tables}
    for table in tables:
        row_format = make_row_format(here[table.name])
        statements = (format_load(quote_text(name), quote_name(table.name), row_format) for name in table.files)
        lines += map(_end, statements)
    for each in sorted((each for each in definitions if each.kind in PROGRAMS), key=_rank):
        lines += [_end(each.mode), f"source {each.file}", _END, _end(NEUTRAL)]
    write_file(folder / SCRIPT, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def _rank(definition: Definition) -> int:
    return PROGRAMS.index(definition.kind)


def _end(statement: str) -> str:
    return statement + _END
