"""A script beside each database, for an administrator who has nothing but the stock client.

    cd DATABASE && mariadb --local-infile NAME_OF_A_NEW_DATABASE < load.sql

Takes what a dump holds; writes load.sql. Only the client reads it, never tklb.
"""

from collections.abc import Sequence
from pathlib import Path

from tklb.databases.dump_format import write_file
from tklb.databases.mariadb import programs
from tklb.databases.mariadb.catalogue import Definition, Schema
from tklb.databases.mariadb.fill import load_statement
from tklb.databases.mariadb.session import MORE, NEUTRAL, quoted, text
from tklb.databases.mariadb.stored import file_of, form_of
from tklb.model.databases import SavedTable

LOAD = "load.sql"
_END = "$$tklb$$"


def write_load_file(
    folder: Path, schema: Schema, definitions: Sequence[Definition], tables: Sequence[SavedTable]
) -> None:
    """`definitions` in the order in which they can be made."""
    lines = [f"DELIMITER {_END}", _line("SET NAMES utf8mb4"), _line(NEUTRAL), _line(MORE[1])]
    for each in definitions:
        if each.kind in ("sequence", "table"):
            lines += [f"source {file_of(each)}", _END]
        if each.position:
            value, round_ = each.position
            lines.append(_line(f"DO SETVAL({quoted(each.name)}, {value}, 0, {round_})"))
    here = {table.name: table for table in schema.tables}
    for table in tables:
        form = form_of(here[table.name])
        lines += [_line(load_statement(text(name), quoted(table.name), form)) for name in table.files]
    for kind in programs.KINDS:
        for each in definitions:
            if each.kind == kind:
                lines += [_line(programs.mode(each)), f"source {file_of(each)}", _END, _line(NEUTRAL)]
    write_file(folder / LOAD, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def _line(statement: str) -> str:
    return statement + _END
