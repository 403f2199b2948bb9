"""A conversation with the server: one statement at a time, bytes in and bytes out.

Takes where to log in; gives rows as tuples of bytes, as the server wrote them. Touches the server's socket. Nothing is
ever sent from a file that the server names: it gets the stream it is fed, or nothing.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.protocol import OKPacketWrapper

from tklb.errors import DatabaseFailed

Row = tuple[bytes | None, ...]
NEUTRAL = (
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', autocommit = 1,"
    " foreign_key_checks = 0, unique_checks = 0, sql_quote_show_create = 1,"
    " net_read_timeout = 3600, net_write_timeout = 86400, wait_timeout = 86400"
)
# what only some servers know
MORE = (
    "SET SESSION max_statement_time = 0",
    "SET SESSION check_constraint_checks = 0",
    "SET SESSION character_set_collations = ''",
    "SET SESSION idle_transaction_timeout = 0",
    "SET SESSION innodb_strict_mode = 0",
)
_PACKET = 1 << 20


class ServerError(Exception):
    """What the server said against a statement."""

    def __init__(self, number: int, words: str) -> None:
        self.number, self.words = number, words
        super().__init__(words)

    @property
    def discreet(self) -> str:
        """Its words without the piece of statement they quote, which may hold a password's hash."""
        return self.words.partition(" near '")[0] if self.number == _SYNTAX else self.words.partition(" '*")[0]


_SYNTAX = 1064


@dataclass(frozen=True, slots=True)
class Login:
    """How the administrator gets in: by a defaults file, or by the socket as root."""

    socket: str
    defaults_file: str = ""
    lock_seconds: int = 60

    def options(self) -> list[str]:
        """The same for a client program; no secret is among them."""
        if self.defaults_file:
            return [f"--defaults-file={self.defaults_file}"]
        return ["--no-defaults", "--user=root", "--protocol=socket", f"--socket={self.socket}"]

    def open(self) -> "Session":
        """Raises ServerError."""
        where = (
            {"read_default_file": self.defaults_file, "read_default_group": "client"}
            if self.defaults_file
            else {"unix_socket": self.socket, "user": "root", "ssl_disabled": True}
        )
        with _said():
            # Without local_infile the library itself sends no file, whatever the server asks for.
            connection = pymysql.connect(
                charset="utf8mb4",
                use_unicode=False,
                conv={},
                autocommit=None,
                client_flag=CLIENT.LOCAL_FILES,
                local_infile=False,
                connect_timeout=20,
                max_allowed_packet=1 << 30,
                **where,
            )
        session = Session(connection)
        try:
            session.run("SET NAMES utf8mb4")
            session.run(NEUTRAL)
            for statement in MORE:
                with contextlib.suppress(ServerError):
                    session.run(statement)
            session.wait_for_locks(self.lock_seconds)
        except ServerError:
            session.close()
            raise
        return session


class Session:
    """One connection. Statements are text or bytes; every method raises ServerError."""

    def __init__(self, connection: pymysql.Connection) -> None:  # type: ignore[type-arg,unused-ignore]
        self._connection = connection
        self.id = int(connection.thread_id())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close()

    def wait_for_locks(self, seconds: int) -> None:
        """How long a statement waits for a table or row that somebody else holds."""
        self.run(f"SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}")

    def run(self, statement: str | bytes) -> int:
        """Run a statement; how many rows it changed."""
        with _said():
            return int(self._connection.query(_bytes(statement)))

    def run_as_oracle(self, statement: str) -> None:
        """Run a statement about packages, which older servers take in this mode only. The mode is neutral then."""
        self.run("SET SESSION sql_mode = 'ORACLE'")
        try:
            self.run(statement)
        finally:
            self.run(NEUTRAL)

    def rows(self, statement: str | bytes) -> tuple[Row, ...]:
        """The whole answer."""
        with _said(), self._connection.cursor() as cursor:
            cursor.execute(_bytes(statement))
            return tuple(cursor.fetchall())

    def names(self, statement: str | bytes) -> tuple[tuple[str, ...], ...]:
        """The whole answer as text; NULL is empty."""
        return tuple(tuple(decoded(value) for value in row) for row in self.rows(statement))

    def value(self, statement: str | bytes) -> str:
        """The first column of the first row as text; empty where there is none."""
        found = self.names(statement)
        return found[0][0] if found else ""

    def stream(self, statement: str | bytes) -> Iterator[Row]:
        """The rows of an answer as they come, however many."""
        with _said(), self._connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute(_bytes(statement))
            while found := cursor.fetchmany(1000):
                yield from found

    def feed(self, statement: str | bytes, blocks: Iterable[bytes]) -> tuple[int, str]:
        """Run a LOAD DATA LOCAL statement on these blocks; the rows taken and the server's summary."""
        connection = self._connection
        with _said():
            connection._execute_command(COMMAND.COM_QUERY, _bytes(statement))  # noqa: SLF001 - there is no other way
            packet = connection._read_packet()  # noqa: SLF001
            if not packet.is_load_local_packet():
                raise ServerError(0, "the server did not ask for the rows")
            try:
                for block in blocks:
                    for start in range(0, len(block), _PACKET):
                        connection.write_packet(block[start : start + _PACKET])
                connection.write_packet(b"")
            except BaseException:
                self.close()  # what it has got so far must not become a whole table
                raise
            answer = OKPacketWrapper(connection._read_packet())  # noqa: SLF001
        return int(answer.affected_rows), decoded(answer.message)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except pymysql.err.MySQLError as exc:
        number, words = (*exc.args, "", "")[:2]
        is_number = isinstance(number, int)
        raise ServerError(number if is_number else 0, str(words if is_number else number)) from None
    except (OSError, ValueError) as exc:
        raise ServerError(0, str(exc)) from None


@contextlib.contextmanager
def failing_as(item: str) -> Iterator[None]:
    """Make what the server says against something a failure of the database `item`."""
    try:
        yield
    except ServerError as exc:
        raise DatabaseFailed(item=item, reason=exc.discreet) from exc


def quoted(name: str) -> str:
    """An identifier for a statement."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """A string literal for a statement of a session in its neutral mode."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def decoded(value: bytes | str | None) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _bytes(statement: str | bytes) -> bytes:
    return statement if isinstance(statement, bytes) else statement.encode("utf-8", "surrogateescape")
