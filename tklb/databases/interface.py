"""The interface of every database engine: protocols and values only.

A server is found, never made. No method reconfigures it. Only `start` and `restart` start it, and only `restart` stops
it. The administrator's own account is used, and no secret travels in the arguments of a program.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tklb.databases.data_folders import NoteMove
from tklb.databases.dump_format import DumpFolder
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, SavedServer, ServerFeatures
from tklb.model.report import Skipped


class DatabaseScope(Protocol):
    """Decides which databases are dumped, and the rows of which tables. Pure; any thread may ask."""

    def has_database(self, name: str) -> bool:
        """Say whether a database is in scope, be it for some of its tables only."""

    def has_rows(self, database: str, *names: str) -> bool:
        """Say whether the rows of a table are in scope; `names` are all the ways to spell the table."""


@dataclass(frozen=True, slots=True)
class DumpResult:
    """A dump as it is on disk, with the items it lacks. `notes` are texts for people: unprotected tables, say."""

    server: SavedServer
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The items that could not be put back. `notes` are texts for people: sessions that were ended, roles made."""

    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


class DatabaseServer(Protocol):
    """One server of this machine.

    One thread at a time may use it. No other thread of the process may be at work when a method begins. The method may
    change the effective ids of the process while it connects. It may start threads; they are gone when it returns.
    Each method opens its own connections and closes them, also where it is interrupted. It calls the progress callback
    with a text and two numbers of bytes, from one thread at a time. The callback may raise to interrupt the method.
    """

    @property
    def engine(self) -> str:
        """The engine's word: a key of tklb.model.databases.ENGINES."""

    def start(self) -> None:
        """Start a server that does not run, by its service, and wait until it answers.

        Only a restore does this. Raises DatabaseFailed where no service starts it, or where it does not answer in time.
        """

    def restart(self, changed: Sequence[bytes], note: NoteMove) -> str:
        """Restart the server, so that it reads its configuration files, of which those at the `changed` paths changed.

        Only a restore does this. Give why the server does not run then, or does not let its administrator in, in the
        words of its log; empty where all is well. A server that does not run is down at the end, and nothing of it is
        left. Where its data move, `note` gets each stage before it begins, and keeps it on disk. Raises nothing.
        """

    def recover(self, changed: Sequence[bytes], note: NoteMove) -> str:
        """Restart a server after a killed restore, which had begun with other files at the `changed` paths.

        These, and the data, are as they were again. The implementer ends every server that still uses the data. Give
        why the server does not run then, empty where all is well. Raises nothing.
        """

    def load_settings(self, settings: Sequence[tuple[str, str]]) -> LoadResult:
        """Give the server the settings that another one kept in its data folder, as SavedServer.settings has them.

        The server may restart. A setting that it does not run with is in `skipped`. Raises DatabaseFailed.
        """

    def is_read(self, path: bytes) -> bool:
        """Whether a server of this machine, of the right release, reads its configuration at `path`. Raises nothing."""

    def carry_settings(self, files: Sequence[bytes]) -> str:
        """Bring into the configuration of this server what files of another release say, as far as it runs with it.

        Say what was brought and what was not, empty where there is nothing to bring. Raises nothing.
        """

    def list_databases(self) -> tuple[Database, ...]:
        """List the databases that are there now, by name, with their sizes in bytes as the server reports them.

        The implementer leaves out the databases that every server has, where they are empty, and those that a killed
        restore left behind. Raises DatabaseFailed where the server cannot be reached or does not answer.
        """

    def read_features(self) -> ServerFeatures:
        """Read the version of the server and the features that it offers.

        The features have the words of SavedDatabase.needs. A kind of need that the implementer cannot ask about is in
        none of the features, and the plan does not warn about it. Raises DatabaseFailed where the server cannot be
        reached.
        """

    def find_rows(self, tables: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], bool]:
        """Say of each table, given as database and table, whether it has rows; a table that is not here has no answer.

        A table is spelled as in SavedTable.name. One that cannot be read counts as one with rows. No question waits
        longer than a few seconds for a lock. Raises DatabaseFailed where the server cannot be reached.
        """

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        """Dump the databases in scope, and all accounts, into an empty private folder; read only.

        The rows of a database are of one moment. An unchanged database gives the same bytes again: nothing in the
        files depends on the time. The implementer counts the rows of every table and sees the end of every output. A
        database or table that is not whole is removed and is in `skipped`, as `ENGINE:DB` or `ENGINE:DB/TABLE`. No
        transaction of others waits for the dump for longer than a few seconds. The caller writes server.json. Raises
        DatabaseFailed where the server cannot be reached, ProgramFailed and ProgramMissing for its client programs.
        """

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        """Load users, roles and grants: the saved one wins, others stay, the administrator's own stays as it is.

        A grant that needs a database which is still to come may wait for it. No message has a password or its hash. An
        account that the server refuses is in `skipped`. Raises DatabaseFailed where the server cannot be reached, and
        where the dump is not as it should be.
        """

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        """Load one database under a scratch name, compare its rows, and put it in the place of the one here.

        The dump may come from a hostile target. The implementer gives no file of it to a client program, and runs no
        statement of it that could start a program. Users work with the old database until the last moment; then their
        sessions are ended. Raises DatabaseFailed with the name of the object that failed: the database here is as it
        was, and nothing of the load is left. The same holds for an interruption. After a kill the next load cleans up.
        """

    def finish(self) -> LoadResult:
        """Report, after all loads, the grants and views that waited for a database which did not come.

        The implementer forgets them then. Raises nothing.
        """
