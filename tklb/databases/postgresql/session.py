"""One session with a PostgreSQL server, straight over libpq.

Takes a cluster and the name of a database; gives rows as text, streams COPY data. Names and values are UTF-8 with
surrogate escapes (in an SQL_ASCII database: whatever bytes they are). Every session has the settings that a dump
needs, whatever the database or role sets; libpq's own words: "libpq - C Library" of PostgreSQL's manual.
"""

import contextlib
import os
import pwd
import select
import threading
from collections.abc import Iterable, Iterator
from typing import Self

from psycopg import Error as DriverError
from psycopg import pq
from psycopg.pq.abc import PGresult

from tklb.databases.postgresql.cluster import Cluster

NAME = "tklb"
LOCK_NOT_AVAILABLE, OUT_OF_LOCKS = "55P03", "53200"
_SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "search_path": "",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "session_replication_role": "origin",
    "check_function_bodies": "off",
    "client_min_messages": "warning",
    "xmloption": "content",
    "role": "none",
    # a password's hash must not reach the server's log, be it in a statement that fails
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_duration": "off",
    "log_parser_stats": "off",
}
_LIMITS_TRANSACTIONS = 17  # the first version that does: an older one refuses who names such a setting
_MOST_DETAIL = 200  # of what may be a whole row
_login = threading.Lock()


class Refused(Exception):
    """What the server says to a statement. `state` is the SQLSTATE, empty where the connection broke."""

    def __init__(self, message: str, state: str = "") -> None:
        super().__init__(message)
        self.state = state


def options(lock_seconds: int, major: int) -> str:
    """All settings as PGOPTIONS has them: stronger than those of a database or role, and from the first moment on."""
    settings = {**_SETTINGS, "lock_timeout": f"{lock_seconds}s"}
    if major >= _LIMITS_TRANSACTIONS:
        settings["transaction_timeout"] = "0"
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


def login(cluster: Cluster, database: str, lock_seconds: int, major: int) -> str:
    """A connection string for sessions and for client programs: what it says, no service file can change.

    `major` is the server's version, 0 where it is not known yet.
    """
    words = {
        **cluster.keywords(),
        "dbname": database,
        "options": options(lock_seconds, major),
        "application_name": NAME,
        "connect_timeout": "30",
    }
    if not cluster.service:
        words["gssencmode"] = "disable"
    return " ".join(f"{name}={_quoted(value)}" for name, value in words.items())


class Session:
    """Open until `close`; waits can be interrupted. Raises Refused for whatever goes wrong."""

    def __init__(self, cluster: Cluster, database: str, lock_seconds: int) -> None:
        self.database = database
        words = login(cluster, database, lock_seconds, cluster.major) + " client_encoding=SQL_ASCII"
        with _login, acting_as(cluster.account):
            self._conn = pq.PGconn.connect(words.encode(*_TEXT))
        if self._conn.status != pq.ConnStatus.OK:
            said = self._conn.error_message.decode("utf-8", "backslashreplace").strip()
            self._conn.finish()
            raise Refused(said)
        self._conn.notice_handler = None
        self.version = self._conn.server_version
        self.pid = self._conn.backend_pid
        self.encoding = (self._conn.parameter_status(b"server_encoding") or b"").decode()
        if self.encoding != "SQL_ASCII":
            self.tell("SET client_encoding = 'UTF8'")
        if not cluster.major and self.version // 10000 >= _LIMITS_TRANSACTIONS:
            self.tell("SET transaction_timeout = 0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is open."""
        return self._conn.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        self._conn.finish()

    def ask(self, statement: str, *values: str | None) -> list[tuple[str | None, ...]]:
        """Run one statement; its rows as text. `values` are its $1, $2, ..."""
        parameters = [None if value is None else value.encode(*_TEXT) for value in values]
        with _driver():
            self._conn.send_query_params(statement.encode(*_TEXT), parameters)
        rows: list[tuple[str | None, ...]] = []
        for result in self._results():
            columns = range(result.nfields)
            rows += [tuple(_text(result.get_value(row, c)) for c in columns) for row in range(result.ntuples)]
        return rows

    def value(self, statement: str, *values: str | None) -> str | None:
        """The only value of a statement."""
        rows = self.ask(statement, *values)
        return rows[0][0] if rows else None

    def tell(self, statements: str | bytes) -> None:
        """Run statements, several of them as one transaction; what they give is thrown away."""
        self.send(statements)
        for _ in self._results():
            pass

    def send(self, statements: str | bytes) -> None:
        """Send statements and do not wait: `is_busy` and `tell_end` follow."""
        with _driver():
            self._conn.send_query(statements.encode(*_TEXT) if isinstance(statements, str) else statements)

    def is_busy(self, seconds: float) -> bool:
        """Whether the server still works on what was sent, after waiting for it for so long."""
        with _driver():
            if self._conn.is_busy() and select.select([self._conn.socket], [], [], seconds)[0]:
                self._conn.consume_input()
            return bool(self._conn.is_busy())

    def tell_end(self) -> None:
        """Wait for the end of what was sent."""
        for _ in self._results():
            pass

    def copy_in(self, statement: str, blocks: Iterable[bytes]) -> int:
        """Run a COPY FROM STDIN with blocks of lines; how many rows the server took."""
        self.send(statement)
        try:
            self._first_of_copy(pq.ExecStatus.COPY_IN)
            with _driver():
                for block in blocks:
                    self._conn.put_copy_data(block)
                self._conn.put_copy_end()
        except BaseException:
            self._give_up_copy()
            raise
        taken = 0
        for result in self._results():
            taken = result.command_tuples or 0
        return taken

    def copy_out(self, statement: str) -> Iterator[bytes]:
        """Run a COPY TO STDOUT; its lines in blocks."""
        self.send(statement)
        self._first_of_copy(pq.ExecStatus.COPY_OUT)
        lines: list[bytes] = []
        size = 0
        while line := self._copied():
            lines.append(line)
            size += len(line)
            if size > 1 << 20:
                yield b"".join(lines)
                lines, size = [], 0
        yield b"".join(lines)
        self.tell_end()

    def cancel(self) -> None:
        """Ask the server, from another thread, to give up what it does for this session."""
        with contextlib.suppress(DriverError):
            self._conn.get_cancel().cancel()

    def settle(self) -> None:
        """Give up what was sent, whatever it was, and wait until the server has: done or undone, it is decided."""
        self.cancel()
        with contextlib.suppress(Refused):
            self.tell_end()

    def _copied(self) -> bytes:
        with _driver():
            count, data = self._conn.get_copy_data(1)
            while count == 0:
                select.select([self._conn.socket], [], [])
                self._conn.consume_input()
                count, data = self._conn.get_copy_data(1)
        return bytes(data) if count > 0 else b""

    def _first_of_copy(self, wanted: pq.ExecStatus) -> None:
        result = self._next()
        if result is None or result.status != wanted:
            for _ in self._results():
                pass
            raise Refused("the server did not begin to copy")

    def _give_up_copy(self) -> None:
        with contextlib.suppress(Refused, DriverError):
            self._conn.put_copy_end(b"given up")
            self.tell_end()

    def _results(self) -> Iterator[PGresult]:
        refusal: Refused | None = None
        while True:
            try:
                result = self._next()
            except Refused as exc:
                refusal = refusal or exc
                if self._conn.status != pq.ConnStatus.OK:
                    raise
                continue
            if result is None:
                break
            yield result
        if refusal:
            raise refusal

    def _next(self) -> PGresult | None:
        with _driver():
            while self._conn.is_busy():
                select.select([self._conn.socket], [], [])
                self._conn.consume_input()
            result = self._conn.get_result()
        if result is not None and result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            raise _refusal(result)
        return result


_TEXT = ("utf-8", "surrogateescape")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(*_TEXT)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _refusal(result: PGresult) -> Refused:
    def told(field: pq.DiagnosticField) -> str:
        return (result.error_field(field) or b"").decode("utf-8", "backslashreplace")

    message = told(pq.DiagnosticField.MESSAGE_PRIMARY).strip() or "no reason given"
    detail = told(pq.DiagnosticField.MESSAGE_DETAIL).strip()[:_MOST_DETAIL]
    return Refused(f"{message} ({detail})" if detail else message, told(pq.DiagnosticField.SQLSTATE))


@contextlib.contextmanager
def _driver() -> Iterator[None]:
    """A connection that broke is a refusal too."""
    try:
        yield
    except DriverError as exc:
        raise Refused(str(exc).strip()) from exc


@contextlib.contextmanager
def acting_as(account: str | None) -> Iterator[None]:
    """Have an account's effective ids: the server asks the kernel who connects to its socket (unix(7), SO_PEERCRED).

    The whole process has them meanwhile: no other thread may be at work.
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    entry = pwd.getpwnam(account)
    group = os.getegid()
    os.setegid(entry.pw_gid)
    try:
        os.seteuid(entry.pw_uid)
        try:
            yield
        finally:
            os.seteuid(0)
    finally:
        os.setegid(group)


def ident(*names: str) -> str:
    """A name in SQL, with the names it is in before it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A text in SQL, in any setting of standard_conforming_strings."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in text else quoted
