"""Settings of the whole server that refuse a load: they are put aside for its time, and given back whatever happens.

A database of ours keeps the old values, so that the next load gives them back after a kill. Before that, a client
program does: it has the statement without its end, and runs it as soon as its input ends, which is when tklb is gone.
Takes a login; changes global settings of the server.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping

from tklb.base.process import Conversation, open_conversation
from tklb.databases.mariadb import CLIENT_PROGRAMS, Login
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection, quote_name, quote_text
from tklb.errors import ProgramFailed

__all__ = ["give_settings_back", "put_settings_aside"]

_MOST = str((1 << 64) - 1)
# what a load needs; a server that does not know one of them, or will not change it, keeps it
_NEEDED = {
    "innodb_default_row_format": "dynamic",  # the others hold no long keys
    "innodb_force_primary_key": "OFF",
    "innodb_log_file_size": "0",  # as much as load_database asks for
    "innodb_read_only_compressed": "OFF",
    "local_infile": "ON",
    "log_bin_trust_function_creators": "ON",
    "max_connections": "0",  # as many as there are, and ours
    "max_join_size": _MOST,
    "max_session_mem_used": str((1 << 63) - 1),
    "sql_select_limit": _MOST,
    "strict_password_validation": "OFF",
    "system_versioning_asof": "DEFAULT",
    "tmp_disk_table_size": _MOST,
}
_AT_LEAST = ("innodb_log_file_size", "max_connections")
_SESSIONS = 12  # of a load, and some for others
_TABLE = "settings"
_SET_SECONDS = 600  # for one setting: a log of another size is written first
_SECONDS = 20  # for the client program to give them back


@contextlib.contextmanager
def put_settings_aside(login: Login, redo_log: int = 0) -> Iterator[None]:
    """Let the server take what the block loads. Raises ServerError where it cannot be asked.

    `redo_log` is how many bytes InnoDB's log must have. A row is in it as a whole: where it has less room, the server
    waits for itself for ever, and no KILL ends that.
    """
    with open_connection(login) as connection:
        sessions = connection.fetch_texts("SHOW GLOBAL STATUS LIKE 'Threads_connected'")[0][1]
        own = {"innodb_log_file_size": str(redo_log), "max_connections": str(int(sessions) + _SESSIONS)}
        needed = {**_NEEDED, **own}
        old = _list_obstacles(connection, needed)
        if not old:
            yield
            return
        marker = f"tklb_aside_{secrets.token_hex(8)}"
        _note(connection, marker, old)
        if "max_connections" in old:  # or nobody can set the others
            connection.run(_format_change({"max_connections": needed["max_connections"]}))
    with _open_guard(login, old) as guard:
        try:
            _set_all(login, {name: needed[name] for name in old})
            yield
        finally:
            _set_all(login, old, marker)
            if guard:
                with contextlib.suppress(ProgramFailed):
                    guard.wait(_SECONDS)


def give_settings_back(connection: ServerConnection, database: str) -> None:
    """Give back what a killed load has put aside in a database of ours. Raises ServerError."""
    found = connection.fetch_texts(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {quote_text(database)}"
        f" AND TABLE_NAME = {quote_text(_TABLE)} AND TABLE_COMMENT = 'tklb'"
    )
    for name, value in (
        connection.fetch_texts(f"SELECT name, value FROM {quote_name(database, _TABLE)}") if found else ()
    ):
        if name in _NEEDED:
            connection.run(_format_change({name: value}))


def _list_obstacles(connection: ServerConnection, needed: Mapping[str, str]) -> dict[str, str]:
    """The settings that are not as a load needs them, with their values."""
    names = ", ".join(map(quote_text, (*_NEEDED, "log_bin")))
    rows = connection.fetch_texts(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    here: dict[str, str] = dict(rows)  # type: ignore[arg-type]
    if here.pop("log_bin", "OFF") == "OFF":
        here.pop("log_bin_trust_function_creators", None)
    return {name: value for name, value in sorted(here.items()) if not _is_enough(name, value, needed[name])}


def _is_enough(name: str, value: str, needed: str) -> bool:
    return int(value) >= int(needed) if name in _AT_LEAST else value.upper() == needed.upper()


def _note(connection: ServerConnection, marker: str, old: dict[str, str]) -> None:
    connection.run(f"CREATE DATABASE {quote_name(marker)}")
    table = quote_name(marker, _TABLE)
    connection.run(f"CREATE TABLE {table} (name VARCHAR(64) PRIMARY KEY, value VARCHAR(64)) COMMENT 'tklb'")
    for name, value in old.items():
        connection.run(f"INSERT INTO {table} VALUES ({quote_text(name)}, {quote_text(value)})")


@contextlib.contextmanager
def _open_guard(login: Login, old: dict[str, str]) -> Iterator[Conversation | None]:
    """A client that gives the settings back as soon as its input ends; None where no client is installed."""
    program = login.find_client(*CLIENT_PROGRAMS)
    if not program:
        yield None
        return
    command = [*login.make_command(program), "--batch"]
    with open_conversation(command, environment=login.environment) as guard:
        guard.say(_format_change(old).encode())
        yield guard


def _format_change(values: dict[str, str]) -> str:
    return "SET " + ", ".join(f"GLOBAL {quote_name(name)} = {_format_value(value)}" for name, value in values.items())


def _format_value(value: str) -> str:
    return str(int(value)) if value.isdecimal() else value if value == "DEFAULT" else quote_text(value)


def _set_all(login: Login, values: dict[str, str], done: str = "") -> None:
    """Set one by one: the server may refuse to change one of them. Then drop our database `done`."""
    with contextlib.suppress(ServerError), open_connection(login, seconds=_SET_SECONDS) as connection:
        for name, value in values.items():
            with contextlib.suppress(ServerError):
                connection.run(_format_change({name: value}))
        if done:
            connection.run(f"DROP DATABASE IF EXISTS {quote_name(done)}")
