"""The dumps of a decoded snapshot: where they are, whether they are whole, and which servers here can take them."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tklb.base.fs import private_folder
from tklb.config.schema import DatabaseConfig
from tklb.databases.dump_format import SERVER, DumpFolder, read_server
from tklb.databases.filter import item_of
from tklb.databases.servers import ENGINES, find_server
from tklb.errors import DatabaseFailed
from tklb.model.databases import SavedServer, ServerFeatures
from tklb.model.files import FileEntry
from tklb.model.snapshot_metadata import SQLITE_COPIES
from tklb.snapshot import metadata


@dataclass(frozen=True, slots=True)
class FoundDumps:
    """The dumps of a snapshot, an engine each. `broken` databases (`mysql:DB`) are not as they were when taken."""

    folders: Mapping[str, DumpFolder] = field(default_factory=dict)
    servers: tuple[SavedServer, ...] = ()
    broken: frozenset[bytes] = frozenset()


def find_dumps(folders: tuple[Path, ...], stage: str) -> FoundDumps:
    """Look for dumps below the stage of every shard, and hold each of their files against the listing.

    Raises DatabaseFailed where the table of contents of a dump cannot be read.
    """
    stages = tuple(folder / stage for folder in folders)
    found, servers, broken = {}, [], set()
    damaged = _damaged(stages)
    for engine in ENGINES:
        dump = DumpFolder(tuple(top / metadata.DUMPS / engine for top in stages), engine)
        if not dump.has(SERVER):
            continue
        server = read_server(dump)
        found[engine] = dump
        servers.append(server)
        for database in server.databases:
            top = f"/{metadata.DUMPS}/{engine}/{database.folder}/".encode()
            if any(path.startswith(top) for path in damaged):
                broken.add(item_of(engine, database.name))
    return FoundDumps(found, tuple(servers), frozenset(broken))


def _damaged(stages: tuple[Path, ...]) -> frozenset[bytes]:
    listed = metadata.read_manifest(stages[0], metadata.DUMPS_LISTING)
    return frozenset(entry.path for entry in listed if not any(_is_whole(stage, entry) for stage in stages))


def _is_whole(stage: Path, entry: FileEntry) -> bool:
    try:
        descriptor = os.open(os.fsencode(stage) + entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


def place_copies(work: Path, folders: tuple[Path, ...], records: Path) -> Path:
    """Move the copies of SQLite databases into a folder of their own, to where the databases were; give the folder."""
    top = private_folder(work / "copies")
    stage = records.relative_to(folders[0])
    for path, name in metadata.read_copies(records):
        place = top / os.fsdecode(path[1:])
        private_folder(place.parent)
        for folder in folders:
            copy = folder / stage / metadata.DUMPS / SQLITE_COPIES / name
            if copy.is_file() and not copy.is_symlink():
                os.rename(copy, place)
    return top


def list_server_features(config: DatabaseConfig, dumps: FoundDumps) -> dict[str, ServerFeatures]:
    """What the servers here can take; those that do not answer are left out."""
    offers = {}
    for engine in dumps.folders:
        try:
            if server := find_server(engine, config):
                offers[engine] = server.offer()
        except DatabaseFailed:
            continue
    return offers
