"""Take the rows of many tables: by the dump program where it is exact, by ourselves where it is not.

Takes tables and folders; gives for each what was written and whether it is whole: its rows are as many as the server
counts at the same moment. Reads only; writes below the folders.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tklb.databases.dump_format import PIPE, encode_file_name
from tklb.databases.mariadb.catalogue import Table
from tklb.databases.mariadb.moment import Moment, one_moment
from tklb.databases.mariadb.rows import read_rows
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import Login, ServerError, Session
from tklb.databases.mariadb.split import Splitter, Writer
from tklb.databases.mariadb.stored import ROWS
from tklb.databases.row_files import RowWriter
from tklb.errors import ProgramFailed, printable
from tklb.model.callbacks import Progress

OPTIONS = (
    *("--skip-opt", "--single-transaction", "--quick", "--force", "--tz-utc", "--comments", "--extended-insert"),
    *("--no-create-info", "--no-create-db", "--complete-insert", "--hex-blob", "--order-by-primary", "--skip-triggers"),
    *("--skip-dump-date", "--set-charset", "--default-character-set=utf8mb4", "--skip-routines", "--skip-events"),
    *("--max-allowed-packet=1G", "--net-buffer-length=1M"),
)
_SECONDS = 1.0  # without output, after which somebody looks why


class Taken:
    """The rows of one table, as far as they came."""

    def __init__(self, table: Table, folder: Path) -> None:
        self.table = table
        self.writer = RowWriter(folder / ROWS, encode_file_name(table.name))
        self.least: int | None = None  # the fewest and the most rows it may have had
        self.most = 0
        self.is_foreign = False  # the program gave other columns than the server names
        self.reason = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{ROWS}/{name}" for name in self.writer.files)

    @property
    def is_whole(self) -> bool:
        return not self.reason and self.least is not None and self.least <= self.writer.rows <= self.most

    @property
    def is_missing(self) -> bool:
        return not self.reason and bool(self.least) and not self.writer.rows

    def count(self, session: Session) -> None:
        number = int(session.value(f"SELECT COUNT(*) FROM {self.table.address}"))
        self.least = number if self.least is None else min(number, self.least)
        self.most = max(number, self.most)

    def why(self) -> str:
        return self.reason or f"{self.writer.rows} rows came, the server counts {self.most}"


@dataclass(frozen=True, slots=True)
class Means:
    """What the rows are taken with. `program` is the dump program's name, empty where there is none."""

    login: Login
    control: Session
    program: str
    folder_of: Callable[[str], Path]
    progress: Progress


def take_rows(means: Means, tables: Sequence[Table], ignored: Iterable[Table], said: Notes) -> dict[Table, Taken]:
    """Take the rows of `tables`; `ignored` are all others in their databases. Raises ServerError."""
    taking = _Taking(means, {table: Taken(table, means.folder_of(table.database)) for table in tables}, said)
    taking.find_locked()
    taking.choose(tuple(ignored))
    with one_moment(means.login, means.control, taking.command) as moment:
        taking.take(moment)
    taking.conclude(is_one=moment.is_one)
    return taking.taken


class _Taking:
    def __init__(self, means: Means, taken: dict[Table, Taken], said: Notes) -> None:
        self.means, self.taken, self.said = means, taken, said
        self.command: list[str] = []
        self._own: set[Table] = set()  # those we read ourselves
        self._by_name = {(table.database, table.name): each for table, each in taken.items()}
        self._current: Taken | None = None
        self._size, self._done = sum(table.size for table in taken), 0
        self._is_stopped = self._is_finished = False

    def find_locked(self) -> None:
        """Name the tables that cannot be read. All waiting for locks together takes as long as is allowed for one."""
        control = self.means.control
        for table, taken in self.taken.items():
            try:
                control.rows(f"SELECT 1 FROM {table.address} LIMIT 1")
            except ServerError as exc:
                taken.reason = f"it cannot be read: {exc}"
                control.wait_for_locks(1)
        control.wait_for_locks(self.means.login.lock_seconds)

    def choose(self, others: Sequence[Table]) -> None:
        """Settle who reads what, and the program's command."""
        tables = [table for table, taken in self.taken.items() if not taken.reason]
        words = Counter(f"{table.database}.{table.name}" for table in [*self.taken, *others])
        self._own = {
            t for t in tables if not self.means.program or _is_inexact(t) or words[f"{t.database}.{t.name}"] > 1
        }
        given = [table for table in tables if table not in self._own]
        databases = sorted({table.database for table in given})
        if not databases:
            return
        chosen = set(given)
        left_out = [table for table in [*self.taken, *others] if table not in chosen and table.database in databases]
        ignore = [f"--ignore-table={table.database}.{table.name}" for table in left_out]
        login = self.means.login.options()
        self.command = [self.means.program, *login, *OPTIONS, *ignore, "--databases", "--", *databases]

    def take(self, moment: Moment) -> None:
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(self._count, moment.reader)
            try:
                self._listen(moment)
                counting.result()
            except BaseException:
                self._is_stopped = True
                with contextlib.suppress(ServerError):
                    self.means.control.run(f"KILL QUERY {moment.reader.id}")
                raise
        if self._is_finished:
            missing = [each for each in self.taken.values() if each.is_missing or each.is_foreign]
            for taken in missing:
                self._read(moment.reader, taken)

    def conclude(self, *, is_one: bool) -> None:
        """Count again what changes while it is read; say what is not whole."""
        transactional = {
            name
            for (name,) in self.means.control.names(
                "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'"
            )
        }
        loose: dict[str, list[str]] = defaultdict(list)
        for table, taken in self.taken.items():
            is_loose = table.engine not in transactional
            if is_loose:
                loose[table.database].append(printable(table.name))
            if (is_loose or not is_one) and not taken.reason:
                with contextlib.suppress(ServerError):
                    taken.count(self.means.control)
            if not taken.is_whole:
                self.said.skip(table.database, table.name, taken.why())
            elif table.kind == "SYSTEM VERSIONED":
                self._name_history(table, taken.most)
        for database, names in sorted(loose.items()):
            which = f"{', '.join(names)} of {printable(database)}"
            self.said.notes.append(f"no transaction protects these tables, they were read one by one: {which}")
        if not is_one:
            self.said.notes.append(
                "the server could not be held for a moment: rows were counted a little before or after they were read"
            )

    def _name_history(self, table: Table, now: int) -> None:
        with contextlib.suppress(ServerError):
            every = int(self.means.control.value(f"SELECT COUNT(*) FROM {table.address} FOR SYSTEM_TIME ALL"))
            if every > now:
                reason = f"{every - now} rows of its history are not taken, all those of now are"
                self.said.skip(table.database, table.name, reason)

    def _count(self, reader: Session) -> None:
        reader.run("SET NAMES utf8mb4")
        for taken in self.taken.values():
            if self._is_stopped:
                return
            if not taken.reason:
                self._alone(reader, taken, lambda each: each.count(reader))
            if taken.table in self._own:
                self._read(reader, taken)

    def _read(self, reader: Session, taken: Taken) -> None:
        def write(each: Taken) -> None:
            with each.writer as writer:
                for block in read_rows(reader, each.table):
                    writer.write(block)
                    self._moved(len(block))

        self._alone(reader, taken, write)

    def _alone(self, reader: Session, taken: Taken, deed: Callable[[Taken], None]) -> None:
        """Do something with a table and let go of it, so that nobody has to wait for us to change it."""
        try:
            reader.run("SAVEPOINT tklb")
            deed(taken)
        except ServerError as exc:
            taken.reason = str(exc)
        finally:
            with contextlib.suppress(ServerError):
                reader.run("ROLLBACK TO SAVEPOINT tklb")

    def _listen(self, moment: Moment) -> None:
        program = moment.program
        if not program:
            self._is_finished = True
            return
        splitter = Splitter(self._wanted)
        try:
            while block := self._hear(moment):
                splitter.feed(block)
            status = program.wait(60)
        finally:
            self._close()
        self._is_finished = splitter.is_finished and status >= 0
        if status or not splitter.is_finished:
            said = program.last_errors() or f"exit status {status}"
            end = "" if splitter.is_finished else ", and its end did not come"
            self.said.notes.append(f"{program.program} said: {printable(said)}{end}")

    def _hear(self, moment: Moment) -> bytes:
        assert moment.program
        while True:
            try:
                return moment.program.hear(PIPE, _SECONDS)
            except ProgramFailed:
                self._look(moment)

    def _look(self, moment: Moment) -> None:
        """End the wait of the program for a lock that lasts too long: it goes on with the next table then."""
        seconds = self.means.login.lock_seconds
        whose = f"ID = {moment.program_id}" if moment.program_id else "INFO LIKE 'SELECT /*!40001 SQL_NO_CACHE */%'"
        waits = f"{whose} AND STATE LIKE 'Waiting for %' AND TIME >= {seconds}"
        with contextlib.suppress(ServerError):
            for (number,) in self.means.control.names(f"SELECT ID FROM information_schema.PROCESSLIST WHERE {waits}"):
                self.means.control.run(f"KILL QUERY {number}")

    def _wanted(self, database: str, name: str, columns: tuple[str, ...]) -> Writer | None:
        taken = self._by_name.get((database, name))
        if taken is None or taken.reason or taken.table in self._own:
            return None
        if columns != tuple(column.name for column in taken.table.given):
            taken.is_foreign = True
            return None
        if taken is not self._current:
            self._close()
            self._current = taken
            taken.writer.__enter__()
        return self._write

    def _write(self, block: bytes) -> None:
        assert self._current
        self._current.writer.write(block)
        self._moved(len(block))

    def _close(self) -> None:
        if self._current:
            self._current.writer.__exit__(None, None, None)
        self._current = None

    def _moved(self, size: int) -> None:
        self._done += size
        self.means.progress("databases", self._done, max(self._size, self._done))


def _is_inexact(table: Table) -> bool:
    """Whether the program would not give its rows exactly, or not a row a line."""
    return not table.given or any(column.type == "float" or column.is_number for column in table.columns)
