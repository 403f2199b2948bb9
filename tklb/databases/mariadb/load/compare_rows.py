"""Compare loaded tables with their dump, while others load: read them as a dump does, see tklb.databases.read_back.

The dump program reads many tables at once; those of which it is not exact are read by a connection of our own. Takes a
database with loaded tables; reads it only.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tklb.base.process import Conversation, open_conversation
from tklb.databases.dump_format import PIPE, DumpFolder
from tklb.databases.filter import spell_item
from tklb.databases.mariadb import ENGINE, Login
from tklb.databases.mariadb.catalogue import Table, read_version
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection
from tklb.databases.mariadb.definitions import RowFormat
from tklb.databases.mariadb.dump.dump_rows import OPTIONS, list_key, read_blocks
from tklb.databases.mariadb.dump.split_output import Splitter, Writer
from tklb.databases.read_back import ReadBack, RowComparison, explain_difference
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import SavedTable

__all__ = ["Job", "LoadTarget", "open_read_back"]

Job = tuple[SavedTable, RowFormat]
_LOOK = 0.5  # seconds without output, after which we look whether to go on
_SILENCE = 3600  # seconds without output, after which the program hangs
_VALUE = re.compile(rb"'(?:[^'\\]|\\.)*'|[^,]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """Where rows go. `scratch` is the database with the tables, `label` its final name, which reports use.

    `report` is told of a table whose rows differ; without it, such a table ends the load.
    """

    login: Login
    scratch: str
    label: str
    dump: DumpFolder
    tables: Mapping[str, Table]  # those in the scratch database, by name
    report: DatabaseReport | None = None

    def fail(self, table: str, reason: str) -> DatabaseFailed:
        return DatabaseFailed(item=printable(spell_item(ENGINE, self.label, table)), reason=reason)


def open_read_back(target: LoadTarget) -> ReadBack[Job]:
    """Compare the tables that are handed in. The failure is DatabaseFailed, which says the table, or ServerError."""
    comparing = _Comparing(target)
    return ReadBack(comparing.check, comparing.cancel)


class _Comparing:
    """Reads tables back, in the thread of a ReadBack."""

    def __init__(self, target: LoadTarget) -> None:
        self._target = target
        self._is_cancelled = False
        self._session = 0  # that reads, while one does
        words = Counter(name.casefold() for name in target.tables)
        with open_connection(target.login) as connection:
            self._program = target.login.find_dump_program(read_version(connection))
        self._alike = {name for name in target.tables if words[name.casefold()] > 1}

    def cancel(self) -> None:
        self._is_cancelled = True
        if number := self._session:
            with contextlib.suppress(ServerError), open_connection(self._target.login) as control:
                control.run(f"KILL {number}")

    def check(self, batch: Sequence[Job]) -> None:
        left = {saved.name: (saved, row_format) for saved, row_format in batch if row_format.columns}
        suitable = [name for name in left if self._is_exact(name)]
        if self._program and suitable:
            for name in self._check_by_program([left[name] for name in suitable]):
                del left[name]
        if left:
            self._check_ourselves(left.values())

    def _is_exact(self, name: str) -> bool:
        """Whether the program gives its rows exactly, and no other table's for them."""
        return not self._target.tables[name].is_inexact and name not in self._alike

    def _check_by_program(self, jobs: Sequence[Job]) -> list[str]:
        """Compare what the program gives; return the tables that it gave."""
        comparing = _ProgramOutput(self._target, {saved.name: (saved, row_format) for saved, row_format in jobs})
        names = [saved.name for saved, _ in jobs]
        login = self._target.login
        command = [*login.make_command(self._program), *OPTIONS, "--", self._target.scratch, *names]
        splitter = Splitter(comparing.find_writer)
        try:
            with open_conversation(command, environment=login.environment) as program:
                for block in self._hear(program):
                    splitter.feed(block)
                status = program.wait(60)
                message = program.last_errors()
        except (ProgramFailed, ProgramMissing, ValueError) as exc:
            raise self._target.fail(names[0], f"it cannot be read back: {exc}") from exc
        comparing.finish()
        if status or not splitter.is_finished:
            raise self._target.fail(names[0], f"it cannot be read back: {message or f'exit status {status}'}")
        return comparing.done

    def _hear(self, program: Conversation) -> Iterator[bytes]:
        silence = 0.0
        while True:
            self._ensure_life(silence)
            try:
                block = program.hear(PIPE, _LOOK)
            except ProgramFailed:
                silence += _LOOK
                continue
            silence = 0
            if not block:
                return
            yield block

    def _ensure_life(self, silence: float) -> None:
        if self._is_cancelled:
            raise ServerError(0, "loading was stopped")
        if silence > _SILENCE:
            raise ServerError(0, f"the server gave no row for {silence:.0f} seconds")

    def _check_ourselves(self, jobs: Iterable[Job]) -> None:
        with open_connection(self._target.login) as connection:
            self._session = connection.id
            try:
                for job in jobs:
                    self._check_table(connection, job)
            finally:
                self._session = 0

    def _check_table(self, connection: ServerConnection, job: Job) -> None:
        saved, row_format = job
        columns = {column.name: column for column in self._target.tables[saved.name].columns}
        try:
            table = replace(
                self._target.tables[saved.name], columns=tuple(columns[name] for name in row_format.columns)
            )
            comparison = RowComparison(self._target.dump.blocks(saved.files))
            for block in read_blocks(connection, table):
                self._ensure_life(0)
                comparison.write(block)
        except (ServerError, KeyError) as exc:
            raise self._target.fail(saved.name, f"it cannot be read back: {exc}") from exc
        settle_difference(self._target, job, comparison)


class _ProgramOutput:
    """Compares table by table what the program gives. `done` are those that are compared."""

    def __init__(self, target: LoadTarget, jobs: Mapping[str, Job]) -> None:
        self.done: list[str] = []
        self._target, self._jobs = target, jobs
        self._now = ""  # the table whose rows come
        self._comparison: RowComparison | None = None

    def find_writer(self, _: str, name: str, columns: tuple[str, ...]) -> Writer | None:
        if name not in self._jobs or columns != self._jobs[name][1].columns:
            return None  # it is read by ourselves
        if name != self._now:
            self.finish()
            self._now = name
            self._comparison = RowComparison(self._target.dump.blocks(self._jobs[name][0].files))
        assert self._comparison
        return self._comparison.write

    def finish(self) -> None:
        if self._comparison:
            settle_difference(self._target, self._jobs[self._now], self._comparison)
            self.done.append(self._now)
        self._comparison = None


def settle_difference(target: LoadTarget, job: Job, comparison: RowComparison) -> None:
    """Report a table that is not as it is in the dump, or raise DatabaseFailed: see LoadTarget."""
    difference = comparison.finish()
    saved, row_format = job
    if not difference and comparison.rows == saved.rows:
        return
    if not difference:
        raise target.fail(saved.name, f"{comparison.rows} rows are there after loading {saved.rows}")
    with open_connection(target.login) as connection:
        keys = list_key(connection, target.tables[saved.name])
    reason = explain_difference(difference, row_format.columns, keys, split_line)
    if not target.report:
        raise target.fail(saved.name, reason)
    target.report.skip(target.label, saved.name, reason)


def split_line(line: bytes) -> list[bytes]:
    """The values of a line of rows, as they are in it."""
    return _VALUE.findall(line)
