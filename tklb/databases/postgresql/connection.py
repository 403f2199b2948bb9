"""One connection with the server, straight over libpq.

Takes a login and the name of a database; gives rows as text, streams COPY data. Names and values are UTF-8 with
surrogate escapes; in an SQL_ASCII database they are whatever bytes they are. Every connection has the settings that a
dump needs, whatever the database or role sets. Source: "libpq - C Library" of PostgreSQL's manual.
"""

import contextlib
import pwd
import re
import select
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Self

from psycopg import Error as DriverError
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from tklb.base.local_accounts import find_idle_account, is_listener, switch_account
from tklb.databases.postgresql import Login
from tklb.databases.postgresql.session_settings import (
    LIMITS_TRANSACTIONS,
    format_options,
    format_settings,
    join_words,
    list_words,
)
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret

__all__ = ["ServerConnection", "ServerError", "convert_errors", "open_connection", "quote_name", "quote_text"]

LOCK_NOT_AVAILABLE, OUT_OF_LOCKS = "55P03", "53200"
_MOST_DETAIL = 200  # of what may be a whole row
GRACE, _PAUSE = 2.0, 0.05  # seconds; a full server may still end the session that we have just closed
_PASSING = re.compile(r"FATAL:[^\"»«]*\Z")  # it is about no account or database: full, or starting up, in any language
_REFUSAL = re.compile(r"(?:ERROR|FATAL|PANIC): +(.*?)(?: / |$)")  # one line of stderr among others
_TEXT = ("utf-8", "surrogateescape")
_ABOUT_VALUES = ("22", "23", "2F", "38", "39", "42", "0A", "54", "F0", "HV", "P0", "XX")  # classes of SQLSTATE
_BAD_COPY = "22P04"
_PLACE = {
    "schema": pq.DiagnosticField.SCHEMA_NAME,
    "table": pq.DiagnosticField.TABLE_NAME,
    "column": pq.DiagnosticField.COLUMN_NAME,
    "type": pq.DiagnosticField.DATATYPE_NAME,
    "constraint": pq.DiagnosticField.CONSTRAINT_NAME,
}
_login_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ErrorPlace:
    """What of the database an error is about; empty where the server does not say it."""

    schema: str = ""
    table: str = ""
    column: str = ""
    type: str = ""
    constraint: str = ""


class ServerError(Exception):
    """The server's answer to a statement that it refuses. `state` is the SQLSTATE, empty where the connection broke."""

    def __init__(self, message: str, state: str = "", place: ErrorPlace | None = None) -> None:
        super().__init__(message)
        self.state, self.place = state, place or ErrorPlace()

    @property
    def is_about_values(self) -> bool:
        """Whether values, or code that they went through, are the reason; a damaged COPY is not."""
        return self.state.startswith(_ABOUT_VALUES) and self.state != _BAD_COPY


class ServerFullError(ServerError):
    """No session was free within the time that is allowed."""


class ServerConnection:
    """Open until `close`; one thread at a time, but for `cancel`. Waits can be interrupted. Raises ServerError."""

    def __init__(self, login: Login, database: str, driver: PGconn) -> None:
        self.login, self.database = login, database
        self._take(driver)
        self.version = driver.server_version
        self.encoding = (driver.parameter_status(b"server_encoding") or b"").decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is open."""
        return self._driver.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self._driver.status == pq.ConnStatus.OK

    @property
    def copy_encoding(self) -> str:
        """The encoding in which client programs and COPY give its texts."""
        return "SQL_ASCII" if self.encoding == "SQL_ASCII" else "UTF8"

    def close(self) -> None:
        self._driver.finish()

    def reopen(self) -> None:
        """Connect again, after `close`."""
        self._take(_log_in(self.login, self.database))
        _prepare(self, format_settings(self.login))

    def _take(self, driver: PGconn) -> None:
        self._driver, self.pid = driver, driver.backend_pid
        driver.notice_handler = None

    def run(self, statements: str | bytes) -> None:
        """Run statements, several of them as one transaction; their answers are discarded."""
        self.send(statements)
        self.wait()

    def fetch_rows(self, statement: str, *values: str | None) -> list[tuple[str | None, ...]]:
        """The rows of one statement, as text. `values` are its $1, $2, ..."""
        parameters = [None if value is None else value.encode(*_TEXT) for value in values]
        with _convert_driver_errors():
            self._driver.send_query_params(statement.encode(*_TEXT), parameters)
        rows: list[tuple[str | None, ...]] = []
        for result in self._receive():
            columns = range(result.nfields)
            rows += [tuple(_decode(result.get_value(row, c)) for c in columns) for row in range(result.ntuples)]
        return rows

    def fetch_value(self, statement: str, *values: str | None) -> str | None:
        """The only value of a statement; None where there is no row."""
        rows = self.fetch_rows(statement, *values)
        return rows[0][0] if rows else None

    def send(self, statements: str | bytes) -> None:
        """Send statements and do not wait: `is_busy` and `wait` follow."""
        with _convert_driver_errors():
            self._driver.send_query(statements.encode(*_TEXT) if isinstance(statements, str) else statements)

    def is_busy(self, seconds: float) -> bool:
        """Whether the server still works on what was sent, after waiting for it for so long."""
        with _convert_driver_errors():
            if self._driver.is_busy() and select.select([self._driver.socket], [], [], seconds)[0]:
                self._driver.consume_input()
            return bool(self._driver.is_busy())

    def wait(self) -> None:
        """Wait for the end of what was sent."""
        for _ in self._receive():
            pass

    def copy_in(self, statement: str, blocks: Iterable[bytes]) -> int:
        """Run a COPY FROM STDIN with blocks of lines; return how many rows the server took."""
        self.send(statement)
        try:
            self._begin_copy(pq.ExecStatus.COPY_IN)
            with _convert_driver_errors():
                for block in blocks:
                    self._driver.put_copy_data(block)
                self._driver.put_copy_end()
        except BaseException:
            self._give_up_copy()
            raise
        count = 0
        for result in self._receive():
            count = result.command_tuples or 0
        return count

    def copy_out(self, statement: str) -> Generator[bytes, None, int]:
        """Run a COPY TO STDOUT; its lines in blocks, and how many rows the server counted as its return value."""
        self.send(statement)
        try:
            self._begin_copy(pq.ExecStatus.COPY_OUT)
        except ServerError:
            self._give_up_copy()
            raise
        yield from self._receive_blocks()
        return sum(result.command_tuples or 0 for result in self._receive())

    def cancel(self) -> None:
        """Ask the server, from any thread, to give up what it does for this connection."""
        with contextlib.suppress(DriverError):
            self._driver.get_cancel().cancel()

    def settle(self) -> None:
        """Give up what was sent, and wait until the server has decided: it is done or undone."""
        self.cancel()
        with contextlib.suppress(DriverError):  # there may be no COPY to end
            self._driver.put_copy_end(b"given up")
        with contextlib.suppress(ServerError):
            self.wait()

    def _receive_blocks(self) -> Iterator[bytes]:
        lines: list[bytes] = []
        count = size = 0
        with _convert_driver_errors():
            while count >= 0:
                count, data = self._driver.get_copy_data(1)
                if count > 0:
                    lines.append(bytes(data))
                    size += count
                elif count == 0:
                    select.select([self._driver.socket], [], [])
                    self._driver.consume_input()
                if size > 1 << 20 or count < 0:
                    yield b"".join(lines)
                    lines, size = [], 0

    def _begin_copy(self, wanted: pq.ExecStatus) -> None:
        result = self._receive_result()
        if result is None or result.status != wanted:
            self.wait()
            raise ServerError("the server did not begin to copy")

    def _give_up_copy(self) -> None:
        with contextlib.suppress(DriverError):  # the COPY may not have begun
            self._driver.put_copy_end(b"given up")
        with contextlib.suppress(ServerError, DriverError):
            self.wait()

    def _receive(self) -> Iterator[PGresult]:
        """All results of what was sent; the first refusal is raised when the server has come to the end."""
        refusal: ServerError | None = None
        while (result := self._receive_one()) is not None:
            if isinstance(result, ServerError):
                refusal = refusal or result
            else:
                yield result
        if refusal:
            raise refusal

    def _receive_one(self) -> PGresult | ServerError | None:
        """The next result or refusal; None at the end. Raises ServerError where the connection broke."""
        try:
            return self._receive_result()
        except ServerError as exc:
            if self._driver.status != pq.ConnStatus.OK:
                raise
            return exc

    def _receive_result(self) -> PGresult | None:
        with _convert_driver_errors():
            while self._driver.is_busy():
                select.select([self._driver.socket], [], [])
                self._driver.consume_input()
            result = self._driver.get_result()
        if result is not None and result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            raise _make_error(result)
        return result


def open_connection(login: Login, database: str, patience: float = GRACE) -> ServerConnection:
    """Connect with a database, with the settings of a dump. Raises ServerError; DatabaseFailed where it is down.

    Where the server has no session free, wait for one for `patience` seconds: long only where none of ours is open.
    The whole process has the effective ids of the administrator's account meanwhile: no other thread may be at work.
    """
    return _prepare(ServerConnection(login, database, _log_in(login, database, patience)), format_settings(login))


def _log_in(login: Login, database: str, patience: float = GRACE) -> PGconn:
    begin = time.monotonic()
    while isinstance(found := _try_log_in(login, database), ServerError):
        if not _PASSING.search(str(found)):
            raise found
        if (passed := time.monotonic() - begin) > patience:
            raise ServerFullError(f"{found}; tklb waited {passed:.0f} seconds (databases.lock_seconds)")
        time.sleep(max(_PAUSE, min(1.0, passed / 10)))
    return found


def _try_log_in(login: Login, database: str) -> PGconn | ServerError:
    try:
        with _login_lock, switch_account(login.account):
            options = format_options(login, login.major, has_all=False)
            return _connect(list_words(login, database, options))
    except ServerError as exc:
        return exc


def _prepare(connection: ServerConnection, settings: str = "") -> ServerConnection:
    connection.run(settings)
    if connection.encoding != "SQL_ASCII":
        connection.run("SET client_encoding = 'UTF8'")
    if not connection.login.major and connection.version // 10000 >= LIMITS_TRANSACTIONS:
        connection.run("SET transaction_timeout = 0")
    return connection


def open_as(chief: ServerConnection, role: str, password: Secret) -> ServerConnection:
    """Log in as a role that is no administrator, with the database of the administrator `chief`. Raises ServerError.

    The owner's pg_hba.conf decides. Debian's takes passwords over TCP on this machine; others take them on the socket.
    Where the server only asks the kernel who comes, the role has the name of an idle account for this moment: nobody
    but root could come as that one.
    """
    login, database, reasons = chief.login, chief.database, []
    for place in _list_places(login):
        words = {**_list_role_words(login, database, role), **place, "password": password.reveal()}
        try:
            return _prepare(ServerConnection(login, database, _connect(words)))
        except ServerError as exc:
            reasons.append(str(exc))
    taken = {name or "" for (name,) in chief.fetch_rows("SELECT rolname FROM pg_roles")}
    if (account := find_idle_account(taken)) and not login.is_elsewhere:
        words = _list_role_words(login, database, account)
        chief.run(f"ALTER ROLE {quote_name(role)} RENAME TO {quote_name(account)}")
        try:
            with _login_lock, switch_account(account):
                driver = _connect(words)
            return _prepare(ServerConnection(login, database, driver))
        except ServerError as exc:
            reasons.append(str(exc))
        finally:
            chief.run(f"ALTER ROLE {quote_name(account)} RENAME TO {quote_name(role)}")
    full = next(filter(_PASSING.search, reasons), "")
    raise ServerError(full or f"no way in for loading rows, let pg_hba.conf accept passwords: {'; '.join(reasons)}")


def _list_places(login: Login) -> list[dict[str, str]]:
    """Where a password may be given: TCP only if the port is really the server's, else somebody else could hear it."""
    if login.is_elsewhere:
        return [{}]
    account = pwd.getpwnam(login.account or "root").pw_uid
    port = int(login.list_keywords()["port"])
    return [*({"host": host} for host in ("127.0.0.1", "::1") if is_listener(host, port, account)), {}]


def _list_role_words(login: Login, database: str, role: str) -> dict[str, str]:
    return {**list_words(login, database, format_options(login, 0, is_administrator=False)), "user": role}


def _connect(words: Mapping[str, str]) -> PGconn:
    driver = pq.PGconn.connect((join_words(words) + " client_encoding=SQL_ASCII").encode(*_TEXT))
    if driver.status == pq.ConnStatus.OK:
        return driver
    reason = driver.error_message.decode("utf-8", "backslashreplace").strip()
    driver.finish()
    raise ServerError(reason)


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode(*_TEXT)


def _make_error(result: PGresult) -> ServerError:
    def read(field: pq.DiagnosticField) -> str:
        return (result.error_field(field) or b"").decode("utf-8", "backslashreplace")

    message = read(pq.DiagnosticField.MESSAGE_PRIMARY).strip() or "no reason given"
    detail = read(pq.DiagnosticField.MESSAGE_DETAIL).strip()[:_MOST_DETAIL]
    place = {name: (result.error_field(field) or b"").decode(*_TEXT) for name, field in _PLACE.items()}
    reason = f"{message} ({detail})" if detail else message
    return ServerError(reason, read(pq.DiagnosticField.SQLSTATE), ErrorPlace(**place))


@contextlib.contextmanager
def _convert_driver_errors() -> Iterator[None]:
    """A connection that broke is a refusal too."""
    try:
        yield
    except DriverError as exc:
        raise ServerError(str(exc).strip()) from exc


@contextlib.contextmanager
def convert_errors(item: str) -> Iterator[None]:
    """Turn a ServerError into a DatabaseFailed about `item`."""
    try:
        yield
    except ServerError as exc:
        raise DatabaseFailed(item=item, reason=str(exc)) from exc


def find_refusal(output: str) -> str:
    """The server's own error in what a client program wrote, without context and query; else all of it."""
    found = _REFUSAL.search(output)
    return found[1] if found else output


def quote_name(*names: str) -> str:
    """A name in a statement, with the names that it is in before it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def quote_text(text: str) -> str:
    """A text in a statement, in any setting of standard_conforming_strings."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in text else quoted
