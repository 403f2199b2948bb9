"""What every database engine can do. Values and protocols only.

A server is found, never made: nobody stops, restarts or reconfigures it. Its administrator's own account is used.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tklb.databases.dump_format import DumpFolder
from tklb.model.callbacks import Progress
from tklb.model.databases import Database, DatabaseLoad, SavedServer, ServerFeatures
from tklb.model.report import Skipped


class DatabaseScope(Protocol):
    """Which databases are wanted, and of which tables the rows. `names` are the ways to spell one table."""

    def has_database(self, name: str) -> bool: ...

    def has_rows(self, database: str, *names: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class DumpResult:
    """What a dump has, what it has not, and what else should be known (tables that no transaction protects, ...)."""

    server: SavedServer
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What could not be put back, and what else should be known (sessions that were ended, roles made, ...)."""

    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


class DatabaseServer(Protocol):
    """One server. Every method but `start` raises DatabaseFailed where it cannot be reached or asked at all."""

    @property
    def engine(self) -> str:
        """The word of overrides: mysql, pgsql."""

    def start(self) -> None:
        """Start a server that does not run, by its service, for a restore. Raises DatabaseFailed."""

    def list_databases(self) -> tuple[Database, ...]:
        """Ask what databases there are now, those that every server has apart. Sorted by name."""

    def read_features(self) -> ServerFeatures:
        """Say what this server could take."""

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        """Write databases and accounts into an empty private folder, at one moment.

        A database or table that could not be taken is in `skipped`, as `mysql:DB` or `mysql:DB/TABLE`; all else is
        whole, its end seen and its rows counted.
        """

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        """Bring users, roles and grants: the saved one wins, the administrator's own stays, others stay."""

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        """Load into a scratch name, count, swap. Raises DatabaseFailed, naming the object: nothing changed then."""

    def finish(self) -> LoadResult:
        """Say, after all loads, what waited in vain: a view, a grant that needs a database which did not come."""
