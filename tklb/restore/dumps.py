"""The dumps of a decoded snapshot: where they are, whether they are whole, and which servers here can take them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from tklb.base.fs import file_sha256, list_existing, private_folder
from tklb.config.schema import DatabaseConfig
from tklb.databases.dump_format import SERVER, DumpFolder, decode_server_name, encode_server_name, read_server
from tklb.databases.filter import parse_item, spell_item
from tklb.databases.named_server import name_server
from tklb.databases.servers import find_server
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import SavedServer, ServerFeatures, find_engine
from tklb.model.files import FileEntry
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import SQLITE_COPIES
from tklb.snapshot import metadata


@dataclass(frozen=True, slots=True)
class FoundDumps:
    """The dumps of a snapshot, one for each engine.

    `broken` databases (`mysql:DB`) have files that differ from their digest in the snapshot metadata.
    """

    folders: Mapping[str, DumpFolder] = field(default_factory=dict)
    servers: tuple[SavedServer, ...] = ()
    broken: frozenset[bytes] = frozenset()


def find_dumps(folders: tuple[Path, ...], stage: str) -> FoundDumps:
    """Find the dumps below the metadata folder of every shard, and check each of their files against the listing.

    Raises DatabaseFailed for a dump whose table of contents cannot be read.
    """
    stages = tuple(folder / stage for folder in folders)
    tops = tuple(stage / metadata.DUMPS for stage in stages)
    dumps = {
        word: DumpFolder(tuple(top / encode_server_name(word) for top in tops), word) for word in _list_words(tops)
    }
    found = {word: dump for word, dump in dumps.items() if dump.has(SERVER)}
    servers = {word: _read_server(dump, word) for word, dump in found.items()}
    damaged = _list_damaged_files(stages)
    broken = {
        spell_item(engine, database.name)
        for engine, server in servers.items()
        for database in server.databases
        if any(
            path.startswith(f"/{metadata.DUMPS}/{encode_server_name(engine)}/{database.folder}/".encode())
            for path in damaged
        )
    }
    return FoundDumps(found, tuple(servers.values()), frozenset(broken))


def _list_words(tops: Iterable[Path]) -> list[str]:
    """The words of all servers that have a dump: default servers first. No other folder of a snapshot is entered."""
    words = {decode_server_name(name) for top in tops for name in map(os.fsdecode, list_existing(os.fsencode(top)))}
    return sorted((word for word in words if find_engine(word)), key=lambda word: ("@" in word, word))


def _read_server(dump: DumpFolder, word: str) -> SavedServer:
    try:
        return name_server(read_server(dump), word)
    except ValueError as exc:
        raise DatabaseFailed(item=word, reason=str(exc)) from exc


def _list_damaged_files(stages: tuple[Path, ...]) -> frozenset[bytes]:
    listed = metadata.read_manifest(stages[0], metadata.DUMPS_LISTING)
    return frozenset(entry.path for entry in listed if not any(_is_whole(stage, entry) for stage in stages))


def _is_whole(stage: Path, entry: FileEntry) -> bool:
    try:
        descriptor = os.open(os.fsencode(stage) + entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb", buffering=0) as stream:
            return file_sha256(stream) == entry.sha256
    except OSError:
        return False


def place_copies(work: Path, folders: tuple[Path, ...], metadata_folder: Path) -> Path:
    """Move the copies of SQLite databases to the paths of the databases, below a new folder; give that folder."""
    top = private_folder(work / "copies")
    stage = metadata_folder.relative_to(folders[0])
    named = [(path, folder / stage / metadata.DUMPS / SQLITE_COPIES / name)
             for path, name in metadata.read_copies(metadata_folder) for folder in folders]  # fmt: skip
    for path, copy in named:
        place = top / os.fsdecode(path[1:])
        private_folder(place.parent)
        if copy.is_file() and not copy.is_symlink():
            os.rename(copy, place)
    return top


@dataclass(frozen=True, slots=True)
class ServerAnswers:
    """What the servers here can take, by engine; those that do not answer are left out.

    `rows` says of tables (`mysql:DB/TABLE`) whose rows the snapshot lacks, and that are here, whether they have rows.
    """

    features: Mapping[str, ServerFeatures] = field(default_factory=dict)
    rows: Mapping[bytes, bool] = field(default_factory=dict)


def ask_servers(config: DatabaseConfig, dumps: FoundDumps, skipped: Iterable[Skipped]) -> ServerAnswers:
    """Ask the servers of all engines that the snapshot has a dump of, or would have one of."""
    lacking = [parse_item(item.item) for item in skipped if not item.item.startswith(b"/")]
    engines = dict.fromkeys((*dumps.folders, *(each[0] for each in lacking if find_engine(each[0]))))
    features: dict[str, ServerFeatures] = {}
    rows: dict[bytes, bool] = {}
    for engine in engines:
        with suppress(DatabaseFailed):
            if server := find_server(engine, config):
                features[engine] = server.read_features()
                tables = dict.fromkeys([*_list_rowless(engine, dumps), *(t[1:] for t in lacking if t[0] == engine)])
                found = server.find_rows(names for names in tables if all(names))
                rows |= {spell_item(engine, *names): answer for names, answer in found.items()}
    return ServerAnswers(features, rows)


def _list_rowless(engine: str, dumps: FoundDumps) -> Iterator[tuple[str, str]]:
    """Give database and table wherever the snapshot has the definition only."""
    for database in (each for server in dumps.servers if server.engine == engine for each in server.databases):
        yield from ((database.name, table.name) for table in database.tables if table.rows is None)
