"""One connection with the server: one statement at a time, bytes in and bytes out.

Takes a login; gives rows as tuples of bytes, as the server wrote them. Touches the server's socket. Nothing is ever
sent from a file that the server names: the server gets the stream that it is fed, or nothing.
"""

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.protocol import OKPacketWrapper

from tklb.databases.mariadb import Login
from tklb.errors import DatabaseFailed

__all__ = ["ServerConnection", "ServerError", "convert_errors", "open_connection", "quote_name", "quote_text"]

Row = tuple[bytes | None, ...]
NEUTRAL = (
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION',"
    " time_zone = '+00:00', autocommit = 1,"
    " foreign_key_checks = 0, unique_checks = 0, sql_quote_show_create = 1,"
    " net_read_timeout = 3600, net_write_timeout = 86400, wait_timeout = 86400"
)
# only some servers know these
MORE = (
    "SET SESSION max_statement_time = 0",
    "SET SESSION check_constraint_checks = 0",
    "SET SESSION character_set_collations = ''",
    "SET SESSION idle_transaction_timeout = 0",
    "SET SESSION innodb_strict_mode = 0",
    "SET SESSION enforce_storage_engine = NULL",
    "SET SESSION sql_select_limit = 18446744073709551615",
    "SET SESSION sql_big_selects = 1",
    "SET SESSION max_session_mem_used = 9223372036854775807",
    "SET SESSION tx_read_only = 0",
    "SET SESSION transaction_read_only = 0",
    "SET SESSION system_versioning_asof = DEFAULT",
    "SET SESSION max_heap_table_size = 18446744073709550592",  # of a table that it makes
    "SET SESSION tmp_disk_table_size = 18446744073709551615",
    "SET SESSION max_tmp_session_space_usage = 0",  # none
    "SET SESSION sql_safe_updates = 0",
    "SET SESSION completion_type = 'NO_CHAIN'",
    "SET SESSION alter_algorithm = 'DEFAULT'",
    "SET SESSION innodb_compression_default = 0",
    "SET SESSION sort_buffer_size = GREATEST(@@sort_buffer_size, 262144)",
)
_CONNECT_SECONDS = 20
GRACE = 1.0  # seconds; the server ends a session a while after its client
_PAUSE = 0.05  # seconds
_FULL = frozenset({1040, 1203})  # too many connections
_PACKET = 1 << 20
_PACKET_ROOM = 512  # bytes of a packet beside its content
_SYNTAX = 1064


class ServerError(Exception):
    """The server's answer to a statement that it refuses, or the end of the connection (`number` is 0)."""

    def __init__(self, number: int, words: str) -> None:
        self.number, self.words = number, words
        super().__init__(words)

    @property
    def discreet(self) -> str:
        """The words without the piece of statement that they quote, which may hold a password's hash."""
        return self.words.partition(" near '")[0] if self.number == _SYNTAX else self.words.partition(" '*")[0]


class ServerFullError(ServerError):
    """All sessions that the server allows are in use."""


class ServerConnection:
    """One connection, for one thread at a time. Statements are text or bytes; every method raises ServerError."""

    def __init__(self, driver: pymysql.Connection) -> None:  # type: ignore[type-arg,unused-ignore]
        self._driver = driver
        self.id = int(driver.thread_id())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._driver.close()

    def abort(self) -> None:
        """End the connection under a thread that waits for an answer, and gets ServerError. Any thread may call it."""
        with contextlib.suppress(Exception):
            self._driver._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001 - close() would wait for the answer

    def wait_for_locks(self, seconds: int) -> None:
        """Set how long a statement waits for a table or row that somebody else has locked."""
        self.run(f"SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}")

    def run(self, statement: str | bytes) -> int:
        """Run a statement; return how many rows it changed."""
        with _convert_driver_errors():
            return int(self._driver.query(_encode(statement)))

    def read_packet_limit(self) -> int:
        """How many bytes of a statement, or of rows, the server takes in one packet."""
        return int(self.fetch_value("SELECT @@max_allowed_packet")) - _PACKET_ROOM

    def run_as_oracle(self, statement: str) -> None:
        """Run a statement about packages: older servers take it in this mode only. The mode is neutral afterwards."""
        self.run("SET SESSION sql_mode = 'ORACLE'")
        try:
            self.run(statement)
        finally:
            self.run(NEUTRAL)

    def fetch_rows(self, statement: str | bytes) -> tuple[Row, ...]:
        """The whole answer, as bytes."""
        with _convert_driver_errors(), self._driver.cursor() as cursor:
            cursor.execute(_encode(statement))
            return tuple(cursor.fetchall())

    def fetch_texts(self, statement: str | bytes) -> tuple[tuple[str, ...], ...]:
        """The whole answer, as text; NULL is empty."""
        return tuple(tuple(decode(value) for value in row) for row in self.fetch_rows(statement))

    def fetch_value(self, statement: str | bytes) -> str:
        """The first column of the first row, as text; empty where there is no row."""
        found = self.fetch_texts(statement)
        return found[0][0] if found else ""

    def stream_rows(self, statement: str | bytes) -> Iterator[Row]:
        """The rows of an answer as they come, however many."""
        with _convert_driver_errors(), self._driver.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute(_encode(statement))
            while found := cursor.fetchmany(1000):
                yield from found

    def feed(self, statement: str | bytes, blocks: Iterable[bytes]) -> None:
        """Run a LOAD DATA LOCAL statement on these blocks."""
        driver, size = self._driver, min(_PACKET, self.read_packet_limit())
        with _convert_driver_errors():
            driver._execute_command(COMMAND.COM_QUERY, _encode(statement))  # noqa: SLF001 - there is no other way
            packet = driver._read_packet()  # noqa: SLF001
            if not packet.is_load_local_packet():
                raise ServerError(0, "the server did not ask for the rows")
            try:
                self._send_packets(blocks, size)
            except BaseException:
                self.close()  # a part of the rows must not become a whole table
                raise
            OKPacketWrapper(driver._read_packet())  # noqa: SLF001

    def _send_packets(self, blocks: Iterable[bytes], size: int) -> None:
        for block in blocks:
            for start in range(0, len(block), size):
                self._driver.write_packet(block[start : start + size])
        self._driver.write_packet(b"")


def open_connection(
    login: Login, database: str = "", seconds: float | None = None, patience: float = GRACE
) -> ServerConnection:
    """Connect, with the neutral settings of a dump; `database` is the one in use. Raises ServerError.

    `seconds` is how long an answer may take; None waits for ever. Where the server has no session free, wait `patience`
    seconds for one: long only where none of ours is open.
    """
    driver = _connect(_find_place(login), patience)
    connection = ServerConnection(driver)
    try:
        _prepare(connection, login, database)
        driver._read_timeout = seconds  # noqa: SLF001 - a server that hangs does not answer who connects
    except ServerError:
        connection.close()
        raise
    return connection


def _connect(place: dict[str, Any], patience: float) -> pymysql.Connection:  # type: ignore[type-arg,unused-ignore]
    begin = time.monotonic()
    while isinstance(found := _try_connect(place), ServerFullError):
        if (passed := time.monotonic() - begin) > patience:
            waited = f"; tklb waited {passed:.0f} seconds (databases.lock_seconds)" if patience > GRACE else ""
            raise ServerFullError(found.number, found.words + waited)
        time.sleep(max(_PAUSE, min(1.0, passed / 10)))
    return found


def _try_connect(place: dict[str, Any]) -> "pymysql.Connection | ServerFullError":  # type: ignore[type-arg,unused-ignore]
    try:
        return _connect_once(place)
    except ServerFullError as exc:
        return exc


def _connect_once(place: dict[str, Any]) -> pymysql.Connection:  # type: ignore[type-arg,unused-ignore]
    with _convert_driver_errors():
        # Without local_infile the library itself sends no file, whatever the server asks for.
        return pymysql.connect(
            charset="utf8mb4",
            use_unicode=False,
            conv={},
            autocommit=None,
            client_flag=CLIENT.LOCAL_FILES,
            local_infile=False,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_CONNECT_SECONDS,
            max_allowed_packet=1 << 30,
            **place,
        )


def _find_place(login: Login) -> dict[str, Any]:
    if login.defaults_file:
        return {"read_default_file": login.defaults_file, "read_default_group": "client"}
    socket = login.open_socket()
    if not login.container:
        return {"unix_socket": socket, "user": "root", "ssl_disabled": True}
    user, password = (login.read_option(name) for name in ("user", "password"))
    return {"unix_socket": socket, "user": user or "root", "password": password, "ssl_disabled": True}


def _prepare(connection: ServerConnection, login: Login, database: str) -> None:
    connection.run("SET NAMES utf8mb4")
    connection.run(NEUTRAL)
    for statement in MORE:
        with contextlib.suppress(ServerError):
            connection.run(statement)
    connection.wait_for_locks(login.lock_seconds)
    if database:
        connection.run(f"USE {quote_name(database)}")


@contextlib.contextmanager
def _convert_driver_errors() -> Iterator[None]:
    try:
        yield
    except pymysql.err.MySQLError as exc:
        number, words = (*exc.args, "", "")[:2]
        is_number = isinstance(number, int)
        kind = ServerFullError if number in _FULL else ServerError
        raise kind(number if is_number else 0, str(words if is_number else number)) from None
    except (OSError, ValueError) as exc:
        raise ServerError(0, str(exc)) from None


@contextlib.contextmanager
def convert_errors(item: str) -> Iterator[None]:
    """Turn a ServerError into a DatabaseFailed about `item`, without the statement that it may quote."""
    try:
        yield
    except ServerError as exc:
        raise DatabaseFailed(item=item, reason=exc.discreet) from exc


def quote_name(*names: str) -> str:
    """A name in a statement, with the names that it is in before it."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def quote_text(value: str) -> str:
    """A text in a statement, for a connection in its neutral mode."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def decode(value: bytes | str | None) -> str:
    """A value of an answer as text; NULL is empty."""
    if value is None:
        return ""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _encode(statement: str | bytes) -> bytes:
    return statement if isinstance(statement, bytes) else statement.encode("utf-8", "surrogateescape")
