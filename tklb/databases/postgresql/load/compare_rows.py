"""Compare loaded tables with their dump, while others load: read them as a dump does, see tklb.databases.read_back.

A load leaves rows in the order of the files. psql streams large tables, a connection of ours reads small ones. Takes a
database with loaded tables; reads it only.
"""

import contextlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.catalogue import LARGE_OBJECTS, Table
from tklb.databases.postgresql.connection import ServerConnection, ServerError, open_connection
from tklb.databases.postgresql.definitions import POST_DATA
from tklb.databases.postgresql.dump.psql_stream import PsqlStream, is_for_psql, open_psql
from tklb.databases.postgresql.load.adapt_rows import adapt_rows
from tklb.databases.postgresql.session_settings import ONLY_TABLES
from tklb.databases.read_back import ReadBack, RowComparison, explain_difference
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing, printable
from tklb.model.databases import SavedTable

__all__ = ["Differ", "Proof", "compare_rows"]

Job = tuple[Table, SavedTable]
Differ = Callable[[Table, str], None]  # with the reason
_NO_LIMIT = "SET lock_timeout = 0"  # only a key of ours that is being made has a table locked
_LARGE = 1 << 20  # bytes of a table that psql reads faster, although it must start
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_PAGE_KEY = ("loid", "pageno")
_NAME = rb'"(?:[^"]|"")*"'
_KEY = re.compile(rb"%b PRIMARY KEY \((%b(?:, %b)*)\)" % ((_NAME,) * 3))


@contextlib.contextmanager
def compare_rows(
    loader: ServerConnection, dump: DumpFolder, encoding: str, label: str, differ: Differ | None
) -> Iterator[ReadBack[Job] | None]:
    """Compare the tables that are handed in, all of them before the end of the block; None where nobody wants it.

    An administrator's connection with the database of `loader` reads. `label` is the database in reports. `differ` is
    told of a table whose rows differ; without it, that is a failure. Raises DatabaseFailed, which says the table;
    ServerError. No other thread may be at work when this begins.
    """
    if not loader.login.read_back:
        yield None
        return
    with open_connection(loader.login, loader.database) as reader:
        reader.fetch_rows(ONLY_TABLES)
        reader.run(_NO_LIMIT)
        comparing = _Comparing(reader, dump, encoding, label, differ)
        with ReadBack(comparing.check, comparing.cancel) as read_back:
            yield read_back
            read_back.finish()


class Proof:
    """The comparison of some tables, which ends with the block or by `finish`: their indexes may be made meanwhile.

    Nobody may connect until it has ended. So `helper` is a session for these indexes, where the server has room for it.
    """

    def __init__(self, *, has_helper: bool = True) -> None:
        self.helper: ServerConnection | None = None
        self._has_helper, self._stack = has_helper, ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.helper = None
        self._stack.__exit__(kind, failure, trace)

    def begin(
        self, loader: ServerConnection, dump: DumpFolder, encoding: str, label: str, differ: Differ | None
    ) -> ReadBack[Job] | None:
        """Begin to compare, as `compare_rows` does."""
        if self._has_helper:
            with contextlib.suppress(ServerError):
                self.helper = self._stack.enter_context(open_connection(loader.login, loader.database))
        return self._stack.enter_context(compare_rows(loader, dump, encoding, label, differ))

    def finish(self) -> None:
        """Wait for its end. Raises what `compare_rows` raises."""
        self.helper = None
        self._stack.close()


class _Comparing:
    """Reads tables back, in the thread of a ReadBack."""

    def __init__(
        self, reader: ServerConnection, dump: DumpFolder, encoding: str, label: str, differ: Differ | None
    ) -> None:
        self._reader, self._dump, self._encoding, self._label, self._differ = reader, dump, encoding, label, differ
        self._psql: PsqlStream | None = None
        self._stack = ExitStack()

    def cancel(self) -> None:
        self._reader.cancel()
        self._stack.close()

    def check(self, batch: Sequence[Job]) -> None:
        try:
            for job in batch:
                self._check_table(job)
        finally:
            self._stack.close()
            self._psql = None

    def _check_table(self, job: Job) -> None:
        table, _ = job
        try:
            reason = find_difference(self._dump, job, self._reader.version, self._read(job))
        except (ServerError, ProgramFailed) as exc:
            raise self._fail(table, f"its rows cannot be read back: {exc}") from exc
        if reason and not self._differ:
            raise self._fail(table, reason)
        if reason and self._differ:
            self._differ(table, reason)

    def _fail(self, table: Table, reason: str) -> DatabaseFailed:
        return DatabaseFailed(item=f"{self._label}/{printable(table.full_name)}", reason=reason)

    def _read(self, job: Job) -> Generator[bytes, None, int]:
        table, saved = job
        statement = table.copy_out(self._encoding)
        size = sum(self._dump.path(name).stat().st_size for name in saved.files)
        if size < _LARGE or not is_for_psql(statement) or not (psql := self._find_psql()):
            return self._reader.copy_out(statement)
        return psql.copy_out(statement)

    def _find_psql(self) -> PsqlStream | None:
        """A psql for the tables of a batch, where the server has room for it."""
        if self._psql is None:
            with contextlib.suppress(ServerError, ProgramFailed, ProgramMissing):
                self._psql = self._stack.enter_context(open_psql(self._reader, ONLY_TABLES, _NO_LIMIT))
        return self._psql


def find_difference(dump: DumpFolder, job: Job, version: int, blocks: Iterable[bytes]) -> str:
    """Name the first row of a table that is not as in the dump; empty for none. `blocks` are what was read back.

    `version` is the server's. Raises what the blocks raise.
    """
    table, saved = job
    comparison = RowComparison(adapt_rows(dump.blocks(saved.files), table, version))
    for block in blocks:
        comparison.write(block)
    difference = comparison.finish()
    if not difference:
        return ""
    keys = _PAGE_KEY if table.full_name == LARGE_OBJECTS else list_key(dump.read(POST_DATA), table)
    return explain_difference(difference, [column.name for column in table.columns], keys, split_line)


def list_key(script: bytes, table: Table) -> list[str]:
    """The columns of a table's primary key, from the definitions that come after the rows."""
    head = f"ALTER TABLE ONLY {table.sql}\n    ADD CONSTRAINT ".encode("utf-8", "surrogateescape")
    for part in script.split(head)[1:]:
        if found := _KEY.match(part):
            names = re.findall(_NAME, found[1])
            return [name[1:-1].replace(b'""', b'"').decode("utf-8", "surrogateescape") for name in names]
    return []


def split_line(line: bytes) -> list[bytes]:
    """The values of a line of rows, as COPY's text format has them; NULL is backslash and N."""
    return [value if value == b"\\N" else _ESCAPE.sub(_unescape, value) for value in line.split(b"\t")]


def _unescape(found: re.Match[bytes]) -> bytes:
    return _LETTERS.get(found[1], found[1])
