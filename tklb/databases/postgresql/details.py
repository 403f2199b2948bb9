"""What database.json of a dump says, read and checked. Takes a dump; touches nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.catalogue import Column, Table
from tklb.databases.postgresql.properties import Properties, properties_from
from tklb.errors import DatabaseFailed
from tklb.model.databases import SavedDatabase, SavedTable

DETAILS = "database.json"
PRE_DATA, LARGE_OBJECTS, SEQUENCES, POST_DATA = "pre-data.sql", "large-objects.sql", "sequences.sql", "post-data.sql"
LOAD = "load.sql"


@dataclass(frozen=True, slots=True)
class Details:
    """`tables` are in the order of the saved database's. `has_gaps`: definitions of tables are missing in it."""

    properties: Properties
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    has_public: bool
    has_gaps: bool
    page_size: int
    tables: tuple[tuple[Table, SavedTable], ...]


def read_details(dump: DumpFolder, saved: SavedDatabase) -> Details:
    """Raises DatabaseFailed where the dump is not as it should be."""
    try:
        value = dump.read_json(DETAILS)
        tables = tuple(_table(one) for one in value["tables"])
        if [table.spelled for table in tables] != [table.name for table in saved.tables]:
            raise ValueError("it has other tables than the server's list")  # noqa: TRY301 - one way out
        return Details(
            properties=properties_from(value["properties"]),
            roles=tuple(map(str, value["roles"])),
            extensions=tuple(map(str, value["extensions"])),
            has_public=bool(value["has_public"]),
            has_gaps=bool(value["has_gaps"]),
            page_size=int(value["page_size"]),
            tables=tuple(zip(tables, saved.tables, strict=True)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatabaseFailed(item=dump.item, reason=f"{DETAILS} of its dump is not as it should be: {exc}") from exc


def _table(value: Mapping[str, Any]) -> Table:
    columns = tuple(Column(str(name), str(kind)) for name, kind in value["columns"])
    return Table("", str(value["schema"]), str(value["table"]), 0, str(value["condition"]), columns)
