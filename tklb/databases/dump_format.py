"""The format of a dump on disk: a folder for each server, in it server.json and a folder for each database.

    SERVER/server.json                 SavedServer, and with it every SavedDatabase and SavedTable
    SERVER/DATABASE/...                files of the engine; rows in files of lines, see row_files.py

Nothing in it depends on the time of the dump: an unchanged database gives the same bytes. Takes and gives values;
touches the folder it is given. A dump is not trusted: every value that is read from it is checked.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tklb.base.fs import PRIVATE_FILE, private_folder
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

SERVER = "server.json"
ROWS = "rows"  # the folder of the rows, in that of a database
BLOCK = 1 << 20
PIPE = 1 << 16  # the room in a pipe: a larger buffer costs time for each piece
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def encode_file_name(name: str) -> str:
    """A safe file name that belongs to `name` alone: itself where it is plain, else its plain letters and a digest."""
    if _PLAIN.fullmatch(name):
        return name
    readable = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60]
    return f"{readable}~{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def encode_folder_name(database: str) -> str:
    """The folder of a database in the dump of its server: never the name of a file beside it."""
    name = encode_file_name(database)
    return f"{name}~" if name.endswith(".json") else name


def encode_server_name(word: str) -> str:
    """The folder of a server among the dumps: its word, with the slash of `pgsql@16/main` written %2F."""
    return word.replace("/", "%2F")


def decode_server_name(folder: str) -> str:
    """The word of the server whose dump has such a folder."""
    return folder.replace("%2F", "/")


def write_file(path: Path, content: bytes) -> None:
    """Write a new private file, and the folders above it."""
    private_folder(path.parent)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE), "wb") as stream:
        stream.write(content)


def write_json(path: Path, value: object) -> None:
    """Write JSON the same way every time, a line for each value, so that a change is a small one."""
    write_file(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("utf-8", "surrogateescape"))


def write_server(folder: Path, server: SavedServer) -> None:
    """Write server.json into the folder of a server."""
    write_json(folder / SERVER, asdict(server))


@dataclass(frozen=True, slots=True)
class DumpFolder:
    """A dump to read from: the same folder in one or more trees, each with a part of the files."""

    folders: tuple[Path, ...]
    item: str = "dump"  # its name in the message where it is not whole

    def enter(self, name: str) -> "DumpFolder":
        """A folder in it, in all trees."""
        return DumpFolder(tuple(folder / name for folder in self.folders), self.item)

    def path(self, name: str) -> Path:
        """The file of that name. Raises DatabaseFailed where there is none."""
        for folder in self.folders:
            path = folder / name
            if path.is_file() and not path.is_symlink():
                return path
        raise DatabaseFailed(item=self.item, reason=f"its dump lacks {name}")

    def has(self, name: str) -> bool:
        """Whether one of the trees has the file."""
        return any((folder / name).is_file() for folder in self.folders)

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def read_json(self, name: str) -> Any:  # noqa: ANN401 - JSON has no type yet
        try:
            return json.loads(self.read(name))
        except ValueError as exc:
            raise DatabaseFailed(item=self.item, reason=f"{name} of its dump cannot be read: {exc}") from exc

    def blocks(self, names: Sequence[str]) -> Iterator[bytes]:
        """The content of files, one after the other, in blocks."""
        for name in names:
            with self.path(name).open("rb") as stream:
                while block := stream.read(BLOCK):
                    yield block


def read_server(dump: DumpFolder) -> SavedServer:
    """Read and check server.json. Raises DatabaseFailed where it is not as it should be."""
    try:
        value = dump.read_json(SERVER)
        databases = tuple(_database(item) for item in value["databases"])
        accounts = tuple(map(str, value["accounts"]))
        settings = tuple((_name(name), _name(setting)) for name, setting in value.get("settings", ()))
        return SavedServer(str(value["engine"]), str(value["version"]), databases, accounts, settings)
    except (KeyError, TypeError, ValueError) as exc:
        raise DatabaseFailed(item=dump.item, reason=f"{SERVER} of its dump is not as it should be: {exc}") from exc


def _database(value: Mapping[str, Any]) -> SavedDatabase:
    tables = (
        SavedTable(
            _name(table["name"]),
            None if table["rows"] is None else int(table["rows"]),
            tuple(map(_relative, table["files"])),
        )
        for table in value["tables"]
    )
    return SavedDatabase(
        engine=str(value["engine"]),
        name=_name(value["name"]),
        folder=_relative(value["folder"]),
        tables=tuple(tables),
        bytes=int(value["bytes"]),
        needs=tuple(map(str, value["needs"])),
    )


def _name(value: object) -> str:
    """A name that can be bytes again: JSON allows half characters, which none can."""
    name = str(value)
    name.encode("utf-8", "surrogateescape")
    return name


def _relative(value: object) -> str:
    name = str(value)
    if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} is no name below the dump")
    return name
