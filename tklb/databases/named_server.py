"""A server beside the default one of its engine: `pgsql@16/main`, `mysql@shop`.

Wraps a server of the engine, which knows itself by the engine's word only, and gives it its own word in all results.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tklb.databases.data_folders import NoteMove
from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseScope, DatabaseServer, DumpResult, LoadResult
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, SavedServer, ServerFeatures, find_engine
from tklb.model.report import Skipped


class NamedServer:
    """One server under a word of its own; the rest is as tklb.databases.interface.DatabaseServer says."""

    def __init__(self, server: DatabaseServer, word: str) -> None:
        self._server, self._word = server, word

    @property
    def engine(self) -> str:
        return self._word

    def start(self) -> None:
        with self._name_failure():
            self._server.start()

    def restart(self, changed: Sequence[bytes], note: NoteMove) -> str:
        return self._server.restart(changed, note)

    def recover(self, changed: Sequence[bytes], note: NoteMove) -> str:
        return self._server.recover(changed, note)

    def load_settings(self, settings: Sequence[tuple[str, str]]) -> LoadResult:
        with self._name_failure():
            return self._name_result(self._server.load_settings(settings))

    def is_read(self, path: bytes) -> bool:
        return self._server.is_read(path)

    def carry_settings(self, files: Sequence[bytes]) -> str:
        return self._server.carry_settings(files)

    def list_databases(self) -> tuple[Database, ...]:
        with self._name_failure():
            return self._name_databases(self._server.list_databases())

    def read_features(self) -> ServerFeatures:
        with self._name_failure():
            features = self._server.read_features()
        return replace(features, databases=self._name_databases(features.databases))

    def find_rows(self, tables: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], bool]:
        with self._name_failure():
            return self._server.find_rows(tables)

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        with self._name_failure():
            dumped = self._server.dump_databases(scope, folder, progress)
        return DumpResult(name_server(dumped.server, self._word), self._name_items(dumped.skipped), dumped.notes)

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        with self._name_failure():
            return self._name_result(self._server.load_accounts(dump, progress))

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        plain = replace(load, saved=replace(load.saved, engine=self._server.engine))
        with self._name_failure():
            return self._name_result(self._server.load_database(dump, plain, progress))

    def finish(self) -> LoadResult:
        return self._name_result(self._server.finish())

    @contextlib.contextmanager
    def _name_failure(self) -> Iterator[None]:
        try:
            yield
        except DatabaseFailed as exc:
            item = str(exc.facts.get("item", self._word))
            raise DatabaseFailed(item=self._name_text(item), reason=exc.facts.get("reason", str(exc))) from exc

    def _name_result(self, result: LoadResult) -> LoadResult:
        return LoadResult(self._name_items(result.skipped), result.notes)

    def _name_items(self, items: Iterable[Skipped]) -> tuple[Skipped, ...]:
        return tuple(replace(each, item=self._name_item(each.item)) for each in items)

    def _name_item(self, item: bytes) -> bytes:
        engine, colon, rest = item.partition(b":")
        return self._word.encode() + colon + rest if engine == self._server.engine.encode() else item

    def _name_text(self, item: str) -> str:
        engine, colon, rest = item.partition(":")
        return self._word + colon + rest if engine == self._server.engine else item

    def _name_databases(self, databases: Iterable[Database]) -> tuple[Database, ...]:
        return tuple(replace(each, engine=self._word) for each in databases)


def name_server(server: SavedServer, word: str) -> SavedServer:
    """Give a dump the word of its server. Raises ValueError where the dump is one of another engine."""
    if find_engine(server.engine) is not find_engine(word):
        raise ValueError(f"a dump of {server.engine} cannot be one of {word}")
    databases = tuple(replace(database, engine=word) for database in server.databases)
    return replace(server, engine=word, databases=databases)
