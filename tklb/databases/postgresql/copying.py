"""The rows of tables, out of the server into files: psql streams them, two side by side, in one snapshot.

psql gives COPY's lines as they come, which is several times as fast as asking for each row. Its output is cut into
tables by a random word that it is told to say after each, only at the end of what there is to read: no row can be
taken for it. Takes sessions' snapshots and tables; writes below a folder.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tklb.base.process import Conversation, open_conversation
from tklb.databases.dump_format import PIPE, encode_file_name
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.cluster import Cluster, program
from tklb.databases.postgresql.session import OUT_OF_LOCKS, Refused, login
from tklb.databases.row_files import RowWriter
from tklb.errors import ProgramFailed

ROWS = "rows"
WORKERS = 2
_ANSWER_SECONDS = 60  # beyond the wait for a lock: only a psql that hangs is silent for so long


class Stream:
    """A psql that is told statements and read to their end."""

    def __init__(self, spoken: Conversation, lock_seconds: int) -> None:
        self._spoken = spoken
        self._patience = lock_seconds + _ANSWER_SECONDS
        self._mark = secrets.token_hex(16).encode()

    def survive(self) -> None:
        """From now on a statement that fails does not end the transaction that it is in."""
        self._spoken.say(b"\\set ON_ERROR_ROLLBACK on\n")

    def tell(self, statement: str) -> None:
        """Run a statement that gives nothing. Raises Refused, also where no word comes back."""
        for _ in self.rows(statement, self._patience):
            pass

    def rows(self, statement: str, seconds: float | None = None) -> Iterator[bytes]:
        """Run a statement; its lines in blocks. Raises Refused where it failed, after all it gave.

        `seconds` is how long it may be silent.
        """
        told = statement.encode("utf-8", "surrogateescape")
        self._spoken.say(told + b";\n\\echo " + self._mark + b" :ERROR :SQLSTATE\n")
        parts: list[bytes] = []  # of a line whose end is still to come
        while True:
            block = self._heard(seconds)
            cut = block.rfind(b"\n") + 1
            if not cut:
                parts.append(block)
                continue
            whole = b"".join((*parts, block[:cut]))
            parts = [block[cut:]] if cut < len(block) else []
            last = whole.rfind(b"\n", 0, len(whole) - 1) + 1
            if whole.startswith(self._mark, last):
                yield whole[:last]
                return self._judge(whole[last:].split())
            yield whole

    def _judge(self, words: list[bytes]) -> None:
        if words[1:] != [b"false", b"00000"]:
            raise Refused(self._spoken.last_errors().rpartition("ERROR: ")[2].strip(), words[-1].decode())

    def _heard(self, seconds: float | None) -> bytes:
        try:
            block = self._spoken.hear(PIPE, seconds)
        except ProgramFailed as exc:
            raise Refused(str(exc)) from exc
        if not block:
            raise Refused(f"psql ended: {self._spoken.last_errors() or 'it said nothing'}")
        return block


@dataclass(slots=True)
class Copied:
    """How far the copying is. `failures` has why a table's rows are not there; `fault` is beyond a single table."""

    written: dict[str, RowWriter] = field(default_factory=dict)  # by the table's oid
    failures: dict[str, str] = field(default_factory=dict)
    fault: BaseException | None = None

    def size(self) -> int:
        return sum(writer.size for writer in list(self.written.values()))


@dataclass(slots=True)
class Copying:
    """Two psql at work. To be entered where no other thread is; it is left when all rows are there, or by an error."""

    cluster: Cluster
    database: str
    encoding: str
    version: int
    lock_seconds: int
    folder: Path
    done: Copied = field(default_factory=Copied)
    _stack: ExitStack = field(default_factory=ExitStack)
    _streams: list[tuple[Stream, list[Table]]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self, tables: Sequence[Table], snapshot: str) -> None:
        """Open the sessions, in the snapshot, and lock the tables: nobody may come between later on."""
        shares: list[list[Table]] = [[] for _ in range(WORKERS)]
        for table in sorted(tables, key=lambda table: -table.size):
            min(shares, key=lambda share: sum(one.size + 8192 for one in share)).append(table)
        for share in filter(None, shares):
            self._streams.append((self._open(snapshot), share))
        for stream, share in self._streams:
            for table in share:
                self._lock(stream, table)

    def _open(self, snapshot: str) -> Stream:
        encoding = "SQL_ASCII" if self.encoding == "SQL_ASCII" else "UTF8"
        words = login(self.cluster, self.database, self.lock_seconds, self.version // 10000)
        command = [program("psql", self.version // 10000), "-X", "-q", "-A", "-t", "--no-password", f"--dbname={words}"]
        stream = Stream(
            self._stack.enter_context(open_conversation(command, user=self.cluster.account)), self.lock_seconds
        )
        stream.tell(f"SET client_encoding = '{encoding}'")
        stream.tell("SET work_mem = '64MB'")
        stream.tell("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stream.tell(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        stream.survive()
        return stream

    def _lock(self, stream: Stream, table: Table) -> None:
        if table.schema != "pg_catalog":
            try:
                stream.tell(f"LOCK TABLE ONLY {table.sql} IN ACCESS SHARE MODE")
            except Refused as exc:
                if exc.state != OUT_OF_LOCKS:
                    self.done.failures[table.oid] = str(exc)

    def start(self) -> None:
        for stream, share in self._streams:
            self._threads.append(threading.Thread(target=self._copy, args=(stream, share), daemon=True))
            self._threads[-1].start()

    def wait(self, watch: Callable[[], None]) -> None:
        """Until all is copied; `watch` is called now and then. Raises what went wrong beyond a single table."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.5)
                watch()
        if self.done.fault:
            raise self.done.fault

    def close(self) -> None:
        """End the programs, and with them the threads."""
        self._stack.close()
        for thread in self._threads:
            thread.join()

    def _copy(self, stream: Stream, share: list[Table]) -> None:
        try:
            for table in share:
                if table.oid not in self.done.failures:
                    self._copy_table(stream, table)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self.done.fault = exc

    def _copy_table(self, stream: Stream, table: Table) -> None:
        with RowWriter(self.folder / ROWS, encode_file_name(table.spelled)) as writer:
            self.done.written[table.oid] = writer
            try:
                for block in stream.rows(table.copy_out(self.encoding)):
                    writer.write(block)
            except (Refused, ProgramFailed) as exc:
                self.done.failures[table.oid] = str(exc)
