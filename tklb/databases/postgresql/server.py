"""The PostgreSQL server of this machine, as tklb.databases.interface.DatabaseServer has it.

Takes a login; opens a connection for each call. Touches the folder of a dump and the server.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tklb.databases.data_folders import NoteMove
from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseScope, DumpResult, LoadResult
from tklb.databases.locales import list_possible
from tklb.databases.postgresql import ENGINE, Login
from tklb.databases.postgresql.accounts import load_accounts
from tklb.databases.postgresql.catalogue import list_databases, open_maintenance, read_version
from tklb.databases.postgresql.connection import ServerConnection, convert_errors
from tklb.databases.postgresql.dump.dump import dump_databases
from tklb.databases.postgresql.load.leftover import Leftover, finish_load
from tklb.databases.postgresql.load.load import load_database
from tklb.databases.postgresql.present_rows import find_rows
from tklb.databases.postgresql.settings import explain_start, has_release, recover_server, restart_server
from tklb.databases.postgresql.settings_trial import describe_carried, load_settings, recover_settings
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, ServerFeatures

__all__ = ["Server"]

_START_SECONDS = 60


class Server:
    """One cluster. Its administrator is the account that the cluster belongs to, by peer authentication."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._left: list[Leftover] = []  # of the loads, to be tried again when all are done

    @property
    def engine(self) -> str:
        return ENGINE

    def start(self) -> None:
        recover_settings(self.login)
        with explain_start(self.login):
            self.login.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(until=deadline):
            time.sleep(0.2)

    def restart(self, changed: Sequence[bytes], note: NoteMove) -> str:
        ended = restart_server(self.login, note, changed)
        self.login = ended.login
        return ended.reason

    def recover(self, changed: Sequence[bytes], note: NoteMove) -> str:
        recover_settings(self.login)
        ended = recover_server(self.login, note, changed)
        self.login = ended.login
        return ended.reason

    def load_settings(self, settings: Sequence[tuple[str, str]]) -> LoadResult:
        report = DatabaseReport(ENGINE)
        elsewhere = [(name, "its files are not of this machine") for name, _ in settings]
        for name, reason in elsewhere if self.login.is_elsewhere else load_settings(self.login, settings):
            report.skip_other(f"ALTER SYSTEM SET {name}", f"the server does not run with it: {reason}")
        return LoadResult(tuple(report.skipped))

    def is_read(self, path: bytes) -> bool:
        return has_release(path)

    def carry_settings(self, files: Sequence[bytes]) -> str:
        return describe_carried(self.login, files)

    def list_databases(self) -> tuple[Database, ...]:
        with convert_errors(ENGINE), open_maintenance(self.login, patience=self.login.lock_seconds) as connection:
            return list_databases(connection)

    def read_features(self) -> ServerFeatures:
        with self._open() as connection:
            return _read_features(connection)

    def find_rows(self, tables: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], bool]:
        with self._open() as connection:
            return find_rows(connection, tables)

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        with convert_errors(ENGINE):
            return dump_databases(self.login, scope, folder, progress)

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        report = DatabaseReport(ENGINE)
        with self._open() as connection:
            load_accounts(connection, dump, progress, report)
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        report = DatabaseReport(ENGINE)
        left = load_database(self.login, dump, load, progress, report)
        self._left += [left] if left else []
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def finish(self) -> LoadResult:
        report = DatabaseReport(ENGINE)
        for left in self._left:
            report.add(finish_load(left, self.login))
        self._left.clear()
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def _answers(self, until: float) -> bool:
        try:
            with self._open():
                return True
        except DatabaseFailed:
            if time.monotonic() > until:
                raise
            return False

    @contextlib.contextmanager
    def _open(self) -> Iterator[ServerConnection]:
        with convert_errors(ENGINE), open_maintenance(self.login) as connection:
            yield connection


def _read_features(connection: ServerConnection) -> ServerFeatures:
    names = connection.fetch_rows("SELECT 'extension:' || name FROM pg_available_extensions")
    features = {str(name) for (name,) in names}
    if connection.fetch_value("SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')") == "t":
        features.add("provider:icu")
    if connection.version >= 170000:
        features.add("provider:builtin")
    features |= _list_locales(connection.login)
    number = (connection.version // 10000,)
    return ServerFeatures(read_version(connection), number, list_databases(connection), frozenset(features))


def _list_locales(login: Login) -> set[str]:
    """The locales that this machine has or can make: they are the server's own, where it is on this machine."""
    if login.is_elsewhere:
        return set()
    return {f"locale:{name}" for name in list_possible()}
