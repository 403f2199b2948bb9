"""The MariaDB server of this machine, as tklb.databases.interface.DatabaseServer has it.

Takes a login; opens a connection for each call. Touches the folder of a dump and the server.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tklb.databases.data_folders import NoteMove
from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseScope, DumpResult, LoadResult
from tklb.databases.mariadb import ENGINE, Login, accounts
from tklb.databases.mariadb.accounts import WaitingGrant
from tklb.databases.mariadb.catalogue import list_databases, read_version
from tklb.databases.mariadb.connection import ServerConnection, ServerError, convert_errors, open_connection
from tklb.databases.mariadb.definitions import Definition, make_definition
from tklb.databases.mariadb.dump.dump import dump_databases
from tklb.databases.mariadb.load.load import describe_programs, load_database
from tklb.databases.mariadb.load.server_settings import put_settings_aside
from tklb.databases.mariadb.present_rows import find_rows
from tklb.databases.mariadb.running_instances import RunningInstances
from tklb.databases.mariadb.settings import (
    TIME_ZONES,
    explain_start,
    fill_time_zones,
    recover_server,
    restart_server,
)
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, ServerFeatures

__all__ = ["Server"]

_FEATURES = (
    "SELECT CONCAT('engine:', ENGINE) FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')",
    "SELECT CONCAT('collation:', COLLATION_NAME) FROM information_schema.COLLATIONS",
    "SELECT CONCAT('collation:', FULL_COLLATION_NAME) FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY",
    (
        "SELECT CONCAT('plugin:', PLUGIN_NAME) FROM information_schema.PLUGINS"
        " WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_STATUS = 'ACTIVE'"
    ),
)
_TYPES = {
    "type:inet6": "SELECT CAST('::' AS INET6)",
    "type:inet4": "SELECT CAST('0.0.0.0' AS INET4)",
    "type:uuid": "SELECT CAST('00000000-0000-0000-0000-000000000000' AS UUID)",
    "type:vector": "SELECT VEC_ToText(VEC_FromText('[1]'))",
    "type:xmltype": "SELECT CAST('<a/>' AS XMLTYPE)",
}


class Server:
    """One server. It remembers, from load to load, the grants and views that wait for another database."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._data = ""  # where its data are, once it was restarted
        self._instances = RunningInstances()
        self._grants: list[WaitingGrant] = []
        self._views: list[tuple[str, Definition, str]] = []  # database, view, why it cannot be made yet

    @property
    def engine(self) -> str:
        return ENGINE

    def start(self) -> None:
        try:
            self.login.start()
        except DatabaseFailed as exc:
            if not self.login.instance and (reason := explain_start(self.login)):
                raise DatabaseFailed(item=ENGINE, reason=f"the server does not start: {reason}") from exc
            raise

    def restart(self, _changed: Sequence[bytes], note: NoteMove) -> str:
        self._instances.look(self.login)
        ended = restart_server(self.login, note, self._data)
        self.login, self._data = ended.login, ended.data
        return ended.reason or self._instances.restart(self.login, note)

    def recover(self, _changed: Sequence[bytes], note: NoteMove) -> str:
        ended = recover_server(self.login, note)
        self.login, self._data = ended.login, ended.data
        return ended.reason

    def load_settings(self, settings: Sequence[tuple[str, str]]) -> LoadResult:
        if TIME_ZONES in dict(settings):
            try:
                fill_time_zones(self.login)
            except (ProgramFailed, ProgramMissing) as exc:
                raise DatabaseFailed(item=ENGINE, reason=f"the tables of time zones stay empty: {exc}") from exc
        return LoadResult()

    def is_read(self, _path: bytes) -> bool:
        return True

    def carry_settings(self, _files: Sequence[bytes]) -> str:
        return ""

    def list_databases(self) -> tuple[Database, ...]:
        patience = self.login.lock_seconds
        with convert_errors(ENGINE), open_connection(self.login, patience=patience) as connection:
            return list_databases(connection)

    def read_features(self) -> ServerFeatures:
        with convert_errors(ENGINE), open_connection(self.login) as connection:
            return _read_features(connection)

    def find_rows(self, tables: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], bool]:
        with convert_errors(ENGINE), open_connection(self.login) as connection:
            return find_rows(connection, tables)

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        with convert_errors(ENGINE):
            return dump_databases(self.login, scope, folder, progress)

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        report = DatabaseReport(ENGINE)
        with convert_errors(ENGINE), put_settings_aside(self.login), open_connection(self.login) as connection:
            self._grants = accounts.load_accounts(connection, dump, progress, report)
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        report = DatabaseReport(ENGINE)
        loading = load_database(self.login, dump, load, progress, report)
        with convert_errors(ENGINE), open_connection(self.login) as connection:
            self._grants = accounts.retry_grants(connection, self._grants, load.into, report)
            self._make_views(connection)
            for note in describe_programs(connection, loading):
                report.note(note)
        self._views += [(load.into, view, reason) for view, reason in loading.waiting_views]
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def finish(self) -> LoadResult:
        report = DatabaseReport(ENGINE)
        for database, view, reason in self._views:
            report.skip(database, view.name, f"view: {reason}")
        for grant in self._grants:
            report.skip_other(grant.account, f"what it was granted is not there: {grant.statement}")
        self._views, self._grants = [], []
        return LoadResult(tuple(report.skipped), tuple(report.notes))

    def _make_views(self, connection: ServerConnection) -> None:
        """Make views of databases loaded earlier, where they needed the database that was loaded now."""
        waiting = []
        for database, view, _ in self._views:
            try:
                make_definition(connection, database, view)
            except ServerError as exc:
                waiting.append((database, view, str(exc)))
        self._views = waiting


def _read_features(connection: ServerConnection) -> ServerFeatures:
    features: set[str] = set()
    for query in _FEATURES:
        features |= _try_query(connection, query)
    features |= {word for word, probe in _TYPES.items() if _try_query(connection, probe)}
    name = read_version(connection)
    number = tuple(map(int, re.findall(r"\d+", name.partition(" ")[2])))
    return ServerFeatures(name, number, list_databases(connection), frozenset(features))


def _try_query(connection: ServerConnection, query: str) -> set[str]:
    """The first column of an answer; nothing where this server does not know the query."""
    try:
        return {row[0] for row in connection.fetch_texts(query)}
    except ServerError:
        return set()
