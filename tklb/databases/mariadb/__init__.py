"""MariaDB and MySQL: found by its socket or data folder, asked as its administrator.

session.py    a conversation, the only place that knows the driver
catalogue.py  what there is, and the definition of every object
moment.py     one moment for the dump program and for our own counts
split.py      the dump program's output as rows of tables
rows.py       rows that the program cannot give exactly
tables.py     all rows, each table whole or named
dump.py       a dump of a server; stored.py is its form on disk
fill.py       rows into fresh tables
swap.py       tables in the place of others, and back
programs.py   views, routines, triggers, events
load.py       a load of one database, undone where it fails
accounts.py   users, roles, grants

Takes a defaults file or nothing; gives a Server. Touches what each part says.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tklb.base.process import run
from tklb.config.schema import DatabaseConfig
from tklb.databases.dump_format import DumpFolder
from tklb.databases.interface import DatabaseScope, DumpResult, LoadResult
from tklb.databases.mariadb import accounts, server
from tklb.databases.mariadb.catalogue import ENGINE, Definition, databases
from tklb.databases.mariadb.dump import dump as dump_server
from tklb.databases.mariadb.load import about_programs, load_database
from tklb.databases.mariadb.programs import make
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import Login, ServerError, Session, failing_as
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.callbacks import Progress
from tklb.model.databases import MARIADB, Database, DatabaseLoad, ServerFeatures

SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock")
DATA = "/var/lib/mysql"
_SECONDS = 180  # to start a service


def find_server(config: DatabaseConfig) -> "MariaDb | None":
    """The server of this machine, running or not; None where there is none."""
    there = [name for name in SOCKETS if _is_socket(name)]
    defaults_file = config.mysql_defaults_file
    if not defaults_file and not there and not os.path.isdir(f"{DATA}/mysql"):
        return None
    return MariaDb(Login(there[0] if there else SOCKETS[0], defaults_file, config.lock_seconds))


def _is_socket(name: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(name).st_mode)
    except OSError:
        return False


@dataclass(slots=True)
class MariaDb:
    """One server, as tklb.databases.interface.DatabaseServer has it."""

    login: Login
    _grants: list[accounts.Grant] = field(default_factory=list)  # that wait for their database
    _views: list[tuple[str, Definition, str]] = field(default_factory=list)  # that wait for another database

    @property
    def engine(self) -> str:
        return ENGINE

    def start(self) -> None:
        """Start it by its service."""
        has_systemd = os.path.isdir("/run/systemd/system")
        scripts = [name for name in MARIADB.services if has_systemd or os.access(f"/etc/init.d/{name}", os.X_OK)]
        reason = "there is no service that starts it"
        for name in scripts:
            command = ["systemctl", "start", "--", f"{name}.service"] if has_systemd else ["service", name, "start"]
            try:
                run(command, timeout=_SECONDS)
                return
            except (ProgramFailed, ProgramMissing) as exc:
                reason = str(exc)
        raise DatabaseFailed(item=ENGINE, reason=reason)

    def list_databases(self) -> tuple[Database, ...]:
        with failing_as(ENGINE), self.login.open() as session:
            return databases(session)

    def read_features(self) -> ServerFeatures:
        with failing_as(ENGINE), self.login.open() as session:
            return server.offer(session)

    def dump_databases(self, wish: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        with failing_as(ENGINE):
            return dump_server(self.login, wish, folder, progress)

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        said = Notes()
        with failing_as(ENGINE), self.login.open() as session:
            self._grants = accounts.load_accounts(session, dump, progress, said)
        return LoadResult(tuple(said.skipped), tuple(said.notes))

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        said = Notes()
        loading = load_database(self.login, dump, load, progress, said)
        with failing_as(ENGINE), self.login.open() as session:
            self._grants = accounts.give_again(session, self._grants, load.into, said)
            self._make_views_that_waited(session)
            said.notes += about_programs(session, loading)
        self._views += [(load.into, view, reason) for view, reason in loading.waiting]
        return LoadResult(tuple(said.skipped), tuple(said.notes))

    def finish(self) -> LoadResult:
        said = Notes()
        for database, view, reason in self._views:
            said.skip(database, view.name, f"view: {reason}")
        for grant in self._grants:
            said.skip_thing(grant.account, f"what it was granted is not there: {grant.statement}")
        self._views, self._grants = [], []
        return LoadResult(tuple(said.skipped), tuple(said.notes))

    def _make_views_that_waited(self, session: Session) -> None:
        """Make views of databases loaded earlier, where they needed the one that was loaded now."""
        still = []
        for database, view, _ in self._views:
            try:
                make(session, database, view)
            except ServerError as exc:
                still.append((database, view, str(exc)))
        self._views = still
