"""One database engine's work alone: a command that runs inside a machine of the lab, so that its cost can be counted.

    engine.py dump ENGINE DATABASE FOLDER          dump one database of the server into an empty folder
    engine.py load ENGINE DATABASE FOLDER INTO     load it from there, under the name INTO
    engine.py dump ENGINE START* FOLDER            dump all databases whose names begin with START

Takes the working tree around it; touches that folder or that server. Ends with 1 where anything was skipped.
"""

import glob
import os
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [TREE, *glob.glob(f"{TREE}/.venv/lib/python3.*/site-packages")]

from tklb.config.schema import DatabaseConfig  # noqa: E402 - the path comes first
from tklb.databases.dump_format import DumpFolder, read_server, write_server  # noqa: E402
from tklb.databases.interface import DatabaseServer, DumpResult, LoadResult  # noqa: E402
from tklb.databases.servers import find_server  # noqa: E402
from tklb.model.databases import DatabaseLoad  # noqa: E402


@dataclass(frozen=True, slots=True)
class Only:
    """A scope of one database, or of all that begin alike."""

    name: str

    def has_database(self, name: str) -> bool:
        return fnmatchcase(name, self.name)

    def has_rows(self, database: str, *_: str) -> bool:
        return self.has_database(database)


def main(deed: str, engine: str, database: str, folder: str, into: str = "") -> int:
    os.umask(0o077)
    server = find_server(engine, DatabaseConfig())
    assert server is not None, f"there is no {engine} server"
    done = _dump(server, database, Path(folder)) if deed == "dump" else _load(server, database, Path(folder), into)
    for left_out in done.skipped:
        print(left_out, file=sys.stderr)
    return 1 if done.skipped else 0


def _dump(server: DatabaseServer, database: str, folder: Path) -> DumpResult:
    dumped = server.dump_databases(Only(database), folder, _ignore)
    write_server(folder, dumped.server)
    assert dumped.server.databases, dumped
    return dumped


def _load(server: DatabaseServer, database: str, folder: Path, into: str) -> LoadResult:
    dump = DumpFolder((folder,))
    [saved] = (saved for saved in read_server(dump).databases if saved.name == database)
    return server.load_database(dump, DatabaseLoad(saved, into), _ignore)


def _ignore(what: str, done: int, total: int) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
