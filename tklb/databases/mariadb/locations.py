"""Where the server keeps its data and logs: it is asked where it runs; else its option files say it.

Takes the configuration of tklb; gives patterns of rules, and what lies there. Changes nothing. Sources: "Server System
Variables" and "InnoDB System Variables" of MariaDB's manual, my_print_defaults(1).
"""

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tklb.base.process import run
from tklb.config.schema import DatabaseConfig
from tklb.databases import mariadb
from tklb.errors import ProgramFailed
from tklb.model.report import FoundPath

__all__ = ["list_locations"]

_DATA = "data of the MariaDB server, which tklb stores as dumps"
_LOG = "a log of the MariaDB server; logs do not travel"
_FILES = {  # settings that name folders, and the names of the server's files in them
    "innodb_data_home_dir": ("ibtmp[0-9]*", "ib_buffer_pool*"),
    "innodb_log_group_home_dir": ("ib_logfile*",),
    "innodb_undo_directory": ("undo[0-9]*",),
    "aria_log_dir_path": ("aria_log.*", "aria_log_control"),
    "rocksdb_datadir": ("*.sst", "*.log", "MANIFEST-*", "CURRENT", "IDENTITY", "OPTIONS-*"),
    "tmpdir": ("[#]sql*",),
    "slave_load_tmpdir": ("SQL_LOAD-*",),
}
_NUMBERED = ("log_bin_basename", "relay_log_basename")
_LOGS = ("log_error", "general_log_file", "slow_query_log_file", "server_audit_file_path")
_MOVED = "SELECT PATH FROM information_schema.INNODB_SYS_DATAFILES WHERE PATH LIKE '/%'"

Place = tuple[str, str, str]  # a folder, a glob for names in it or nothing, what it is


def list_locations(config: DatabaseConfig) -> tuple[FoundPath, ...]:
    """List where the servers of this machine keep their files; nothing for one that has no data."""
    from tklb.databases.mariadb.instances import find_instances

    login = mariadb.find_login(config)
    found = [_list_server(login, read_options())]
    found += [
        _list_server(replace(login, socket=options["socket"], defaults_file=""), options)
        for options in find_instances(config.mysql_defaults_file).values()
    ]
    return tuple(dict.fromkeys(place for places in found for place in places))


def _list_server(login: "mariadb.Login", options: Mapping[str, str]) -> tuple[FoundPath, ...]:
    settings, moved = _ask_server(login) if mariadb.is_socket(login.socket) else ({}, ())
    settings = settings or _normalize(options)
    data = os.path.normpath(settings.get("datadir") or mariadb.DATA)
    if not is_data_folder(data):
        return ()
    places = [(data, "", _DATA), *_list_files(settings, data), *_list_logs(settings)]
    places += [(*os.path.split(path), _DATA) for path in moved]
    outside = (place for place in places if place[0].startswith("/") and (not place[1] or not _is_in(place[0], data)))
    return tuple(dict.fromkeys(found for place in outside for found in _make_patterns(*place)))


def read_options(*groups: str) -> dict[str, str]:
    """Read the server's options from its option files, with underscores in their names. A later one wins.

    `groups` are arguments of my_print_defaults(1), by default those of the server.
    """
    program = mariadb.find_program("my_print_defaults")
    if not program:
        return {}
    try:
        lines = (
            run([program, *(groups or ("--mysqld",))], timeout=60)
            .stdout.decode("utf-8", "surrogateescape")
            .splitlines()
        )
    except ProgramFailed:
        return {}
    pairs = (line.removeprefix("--").partition("=") for line in lines)
    return {name.replace("-", "_").removeprefix("loose_"): value for name, _, value in pairs}


def read_group_options(suffix: str) -> dict[str, str]:
    """Read the options of a server whose groups end with `suffix`, among them those of all servers."""
    return read_options(f"--defaults-group-suffix={suffix}", "--mysqld") if suffix else read_options()


def is_data_folder(path: str) -> bool:
    """Whether a server has its data in a folder: its own database, beside what no other program has."""
    names = ("aria_log_control", "ibdata1", "mysql/global_priv.frm", "mysql/user.frm")
    return os.path.isdir(f"{path}/mysql") and any(os.path.exists(f"{path}/{name}") for name in names)


def _ask_server(login: "mariadb.Login") -> tuple[dict[str, str], tuple[str, ...]]:
    """Give the settings of a server, and the files of tables that it keeps elsewhere; nothing where it is silent."""
    from tklb.databases.mariadb.connection import ServerError, open_connection

    with contextlib.suppress(ServerError), open_connection(login) as connection:
        settings = {row[0]: row[1] for row in connection.fetch_texts("SHOW GLOBAL VARIABLES")}
        moved: tuple[str, ...] = ()
        with contextlib.suppress(ServerError):
            moved = tuple(path for (path,) in connection.fetch_texts(_MOVED))
        return settings, moved
    return {}, ()


def _normalize(options: Mapping[str, str]) -> dict[str, str]:
    """Give options the names that a running server has for them."""
    names = {"log_bin": "log_bin_basename", "relay_log": "relay_log_basename"}
    return {names.get(name, name): value for name, value in options.items()}


def _list_files(settings: Mapping[str, str], data: str) -> Iterator[Place]:
    home = settings.get("innodb_data_home_dir", "") or data
    for part in settings.get("innodb_data_file_path", "").split(";"):
        if name := part.partition(":")[0]:
            folder, file = os.path.split(os.path.join(home, name))
            yield folder, glob.escape(file), _DATA
    for setting, names in _FILES.items():
        folders = settings.get(setting, "").split(":")  # tmpdir may be several
        yield from ((folder, name, _DATA) for folder in folders for name in names)
    for setting in _NUMBERED:
        folder, name = os.path.split(settings.get(setting, ""))
        yield from ((folder, glob.escape(name) + end, _DATA) for end in (".[0-9]*", ".index", ".state"))


def _list_logs(settings: Mapping[str, str]) -> Iterator[Place]:
    for setting in _LOGS:
        folder, name = os.path.split(settings.get(setting, ""))
        yield from ((folder, glob.escape(name) + end, _LOG) for end in ("", ".*") if name)


def _is_in(folder: str, data: str) -> bool:
    return f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(data)}/")


def _make_patterns(folder: str, name: str, reason: str) -> Iterator[FoundPath]:
    """Give the pattern of a place, also by the name that its folder has without links."""
    for path in dict.fromkeys((os.path.normpath(folder), os.path.realpath(folder))):
        yield FoundPath(os.fsencode(os.path.join(glob.escape(path), name).rstrip("/")), reason)
