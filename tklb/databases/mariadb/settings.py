"""The configuration of the server: what it says, and whether the server runs with it.

Takes a login; reads option files by MariaDB's own program, stops and starts the server. Before its
service starts it, the server runs once under our eyes: so a start that fails says why in the server's own words, and at
once. Sources: my_print_defaults(1), mysqld_safe(1), "Configuring MariaDB with Option Files" of MariaDB's manual.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import open_plain
from tklb.base.process import Conversation, open_conversation, run
from tklb.databases.data_folders import NoteMove, make_folder, move_data, stop_servers
from tklb.databases.mariadb import DATA, ENGINE, Login, find_program
from tklb.databases.mariadb.connection import ServerConnection, ServerError, open_connection
from tklb.databases.mariadb.locations import is_data_folder, read_group_options, read_options
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass

__all__ = ["Restart", "recover_server", "restart_server"]

ACCOUNT = "mysql"
_START, _STOP, _LOGIN, _LOOK = 180, 300, 5, 0.2  # seconds
_MOST_LOG = 1 << 16
TIME_ZONES = "time_zone_tables"
_ZONES = "/usr/share/zoneinfo"
_FIRST_ZONE = b"INSERT INTO time_zone ("
_UNFINISHED = "tklb fills these tables"
_HAS_ZONES = f"SELECT COUNT(*) > 0 AND SUM(Name = '{_UNFINISHED}') = 0 FROM mysql.time_zone_name"
_FILES = ("log_error", "general_log_file", "slow_query_log_file", "log_bin", "relay_log", "server_audit_file_path")
_FOLDERS = ("tmpdir", "slave_load_tmpdir", "innodb_undo_directory", "innodb_tmpdir", "secure_file_priv")
_PARTS = {  # settings that name a folder, and a file in it that the server must find
    "innodb_data_home_dir": "ibdata1",
    "innodb_log_group_home_dir": "ib_logfile0",
    "innodb_undo_directory": "undo001",
    "aria_log_dir_path": "aria_log_control",
}
_ERROR = re.compile(r"^.*?\[ERROR\] (?:\S*(?:mariadbd|mysqld): )?(.+)$", re.MULTILINE)
_LAST_WORDS = ("Aborting", "Plugin initialization aborted", "Failed to initialize plugins")
_READY = "ready for connections"


@dataclass(frozen=True, slots=True)
class Restart:
    """How a restart ended. `reason`: why the server does not run, empty where it runs. `data` is its folder."""

    login: Login
    data: str
    reason: str = ""


def restart_server(login: Login, note: NoteMove, data: str = "") -> Restart:
    """Restart the server. `data` is the folder of its data; empty where that is the one that it runs with."""
    options = read_options()
    try:
        data = data or _find_data(login, options)
        if reason := find_left_behind(options, data):
            return Restart(login, data, reason)
        if is_zone(options.get("default_time_zone", "")):
            fill_time_zones(login)
        _stop(login)
        make_folders(options)
        login = replace(login, socket=options.get("socket", login.socket))
        new = os.path.normpath(options.get("datadir", DATA))
        if new != data and (reason := move_data(data, new, note)):
            return Restart(login, data, reason)
        if reason := _try_start(login, options):
            return Restart(login, new, reason)
        login.start()
        return Restart(login, new, wait_for_answer(login, time.monotonic() + _START))
    except (DatabaseFailed, ProgramFailed, ProgramMissing) as exc:
        return Restart(login, data, str(exc.facts.get("reason", exc)))


def recover_server(login: Login, note: NoteMove) -> Restart:
    """Restart a server where a killed restore had begun with another configuration."""
    home = os.path.normpath(read_options().get("datadir", DATA))
    try:
        _stop(login)
        stop_servers({home})
    except (DatabaseFailed, ProgramFailed, ProgramMissing) as exc:
        return Restart(login, home, str(exc.facts.get("reason", exc)))
    return restart_server(login, note, home)


def find_left_behind(options: Mapping[str, str], data: str) -> str:
    """Say which file the server would look for in another folder than the one where it is; empty where none.

    InnoDB makes a new system tablespace where it finds none: the server runs then, and has lost all tables.
    """
    for setting, file in _PARTS.items():
        folder = os.path.join(options.get("datadir", DATA), options.get(setting, ""))
        is_moved = os.path.normpath(folder) != os.path.normpath(options.get("datadir", DATA))
        if is_moved and os.path.exists(f"{data}/{file}") and not os.path.exists(f"{folder}/{file}"):
            return f"{setting} is {folder}, and {file} is in {data}: move it there while the server is down"
    return ""


def explain_start(login: Login) -> str:
    """Give why a server that is down does not start, in its own words; empty where it would."""
    try:
        return _try_start(login, read_group_options(login.group_suffix))
    except (ProgramFailed, ProgramMissing) as exc:
        return str(exc)


def _find_data(login: Login, options: Mapping[str, str]) -> str:
    try:
        with open_connection(login) as connection:
            return os.path.normpath(connection.fetch_value("SELECT @@datadir"))
    except ServerError:
        new = os.path.normpath(options.get("datadir", DATA))
        return new if is_data_folder(new) else DATA


def make_folders(options: Mapping[str, str]) -> None:
    """Make the folders that options name and that this machine lacks."""
    for name in _FILES:
        make_folder(os.path.dirname(options.get(name, "")), ACCOUNT, 0o2750)
    for name in _FOLDERS:
        for folder in options.get(name, "").split(":"):
            make_folder(folder.rstrip("/"), ACCOUNT, 0o750)


# ---------------------------------------------------------------- time zones


def is_zone(name: str) -> bool:
    """Whether a time zone has a name that the server looks up in its tables."""
    return bool(name) and name.upper() != "SYSTEM" and not name.startswith(("+", "-"))


def dump_settings(connection: ServerConnection) -> tuple[tuple[str, str], ...]:
    """Give what the server keeps in its own tables: whether it knows the names of time zones."""
    with contextlib.suppress(ServerError):
        if connection.fetch_value("SELECT COUNT(*) FROM mysql.time_zone_name") != "0":
            return ((TIME_ZONES, "filled"),)
    return ()


def fill_time_zones(login: Login) -> None:
    """Fill empty tables of time zones from those of this machine. Raises ProgramFailed, ProgramMissing.

    These tables know no transaction. A mark says that the names are not all in, so that a killed run is repeated.
    """
    try:
        with open_connection(login) as connection:
            if connection.fetch_value(_HAS_ZONES) == "1":
                return
    except ServerError:
        return  # it does not run
    # one that is missing is named by its first name, when it is run
    program = find_program("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql") or "mariadb-tzinfo-to-sql"
    statements = run([program, _ZONES], timeout=_START).stdout
    mark = f"INSERT INTO time_zone_name VALUES ('{_UNFINISHED}', 0);\n".encode()
    statements = statements.replace(_FIRST_ZONE, mark + _FIRST_ZONE, 1)
    statements += f"DELETE FROM time_zone_name WHERE Name = '{_UNFINISHED}';\n".encode()
    client = login.find_client("mariadb", "mysql") or "mariadb"
    run([*login.make_command(client), "mysql"], stdin=statements, timeout=_START, environment=login.environment)


# ---------------------------------------------------------------- stop


def _stop(login: Login) -> None:
    """Stop a server that runs, and wait for its end. Raises DatabaseFailed, ProgramFailed."""
    if os.path.isdir("/run/systemd/system"):
        run(["systemctl", "stop", "--", "mariadb.service"], timeout=_STOP)
        return
    try:
        with open_connection(login) as connection:
            process = connection.fetch_value("SELECT @@pid_file")
            pid = _read_pid(os.path.join(connection.fetch_value("SELECT @@datadir"), process))
            connection.run("SHUTDOWN")
    except ServerError:
        return  # it does not run
    deadline = time.monotonic() + _STOP
    while pid and _is_server(pid):
        if time.monotonic() > deadline:
            raise DatabaseFailed(item=ENGINE, reason=f"the server does not stop within {_STOP} seconds")
        time.sleep(_LOOK)


def _read_pid(path: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text("ascii", "replace"))
    return 0


def _is_server(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("mariadbd", "mysqld")
    return False


# ---------------------------------------------------------------- a start under our eyes


def _try_start(login: Login, options: Mapping[str, str]) -> str:
    """Run the server until it answers, then end it; give why it does not answer."""
    run(["install", "-m", "755", "-o", ACCOUNT, "-g", "root", "-d", "/run/mysqld"])
    argv = [find_program("mariadbd", "mysqld") or "mariadbd"]
    if login.group_suffix:
        argv.append(f"--defaults-group-suffix={login.group_suffix}")  # has to be the first one
    if "user" not in options:
        argv.append(f"--user={ACCOUNT}")
    with _follow_log(options) as log, open_conversation(argv) as server:
        reason = _watch_start(login, server, log)
        if server.is_running:
            os.kill(server.pid, signal.SIGTERM)
        server.wait(_STOP)
        return reason


class _LogTail:
    """What a server adds to its log from now on."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._start = os.path.getsize(path) if path and os.path.exists(path) else 0

    def read(self) -> str:
        try:
            with open_plain(Path(self._path)) as stream:
                stream.seek(self._start)
                return stream.read(_MOST_LOG).decode("utf-8", "backslashreplace")
        except OSError:
            return ""


@contextlib.contextmanager
def _follow_log(options: Mapping[str, str]) -> Iterator[_LogTail]:
    name = options.get("log_error", "")
    name += "" if os.path.splitext(name)[1] else ".err"  # as the server does
    yield _LogTail(os.path.join(options.get("datadir", DATA), name) if "log_error" in options else "")


def _watch_start(login: Login, server: Conversation, log: _LogTail) -> str:
    deadline, ready = time.monotonic() + _START, 0.0
    while server.is_running:
        reason = _try_login(login)
        if not reason:
            return ""
        text, now = server.errors + log.read(), time.monotonic()
        ready = ready or (now if _READY in text else 0.0)
        if now > deadline or (ready and now > ready + _LOGIN):
            return reason
        time.sleep(_LOOK)
    server.wait(_STOP)
    server.last_errors()  # waits for the end of its output
    return find_reason(server.errors + log.read()) or f"{server.program} ended: {server.last_errors()}"


def find_reason(text: str) -> str:
    """Find the first error of a server's log; empty where it has none."""
    found = [line.strip() for line in _ERROR.findall(text)]
    telling = [line for line in found if not line.startswith(_LAST_WORDS)]
    return next(iter(telling or found), "")


def _try_login(login: Login) -> str:
    try:
        with open_connection(login):
            return ""
    except ServerError as exc:
        return exc.discreet


def wait_for_answer(login: Login, deadline: float) -> str:
    while reason := _try_login(login):
        if time.monotonic() > deadline:
            return reason
        time.sleep(_LOOK)
    return ""
