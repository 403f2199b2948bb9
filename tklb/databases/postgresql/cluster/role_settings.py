"""Settings of roles and databases, as ALTER ROLE and ALTER DATABASE give them.

The server takes some that its sessions do not begin with: a library that is not there refuses every login. Takes
connections; gives reasons for people. Sources: ALTER ROLE, session_preload_libraries and "Shared Library Preloading" of
PostgreSQL's manual; dumputils.c of pg_dump for settings as statements; dfmgr.c for the names of libraries.
"""

import os
from collections.abc import Iterable, Iterator

from tklb.databases.locales import SETTINGS as LOCALES
from tklb.databases.locales import make_absent_locales
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text

_LIBRARIES = ("local_preload_libraries", "session_preload_libraries")
_LISTS = (
    *_LIBRARIES,
    "search_path",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
# settings of which the server only says afterwards that their value is not there
_UNCHECKED = (
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "role",
    "temp_tablespaces",
)
_LIBDIR = "$libdir"


def make_setting_locales(connection: ServerConnection, settings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Make the locales that settings name, where the server is on this machine; give notes for people."""
    if connection.login.is_elsewhere:
        return ()
    return make_absent_locales(value for name, value in settings if name.lower() in LOCALES)


def give_setting(connection: ServerConnection, target: str, name: str, value: str) -> str:
    """Give a role or database a setting; say why it has it not, or its sessions will not. `target` is quoted."""
    if missing := _find_missing_library(connection, name, value):
        return f"it is not set, because nobody could log in with it: this server has no library {missing}"
    try:
        connection.run(f"ALTER {target} SET {quote_setting_name(name)} TO {quote_setting(name, value)}")
    except ServerError as exc:
        return str(exc)
    return _try_in_session(connection, name, value) if name.lower() in _UNCHECKED else ""


def _try_in_session(connection: ServerConnection, name: str, value: str) -> str:
    """Say why a session of its own does not take a setting, which then has no effect."""
    try:
        connection.run("BEGIN")
        connection.run(f"SET LOCAL {quote_setting_name(name)} TO {quote_setting(name, value)}")
    except ServerError as exc:
        return f"it is set and has no effect: {exc}"
    finally:
        connection.run("ROLLBACK")
    return ""


def find_lockout(connection: ServerConnection) -> str:
    """Say which setting of the configuration files refuses every login but ours; empty where none does."""
    rows = connection.fetch_rows(
        "SELECT name, setting FROM pg_file_settings WHERE applied AND name = ANY (string_to_array($1, ','))",
        ",".join(_LIBRARIES),
    )
    for name, value in rows:
        if missing := _find_missing_library(connection, name or "", value or ""):
            return f"nobody could log in: {name} has the library {missing}, which is not there"
    return ""


def _find_missing_library(connection: ServerConnection, name: str, value: str) -> str:
    """The first library of a list that is not where the server looks; empty where all are there."""
    if name.lower() not in _LIBRARIES:
        return ""
    path = connection.fetch_value("SELECT current_setting('dynamic_library_path')") or _LIBDIR
    own = connection.fetch_value("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'") or ""
    folders = [folder.replace(_LIBDIR, own) for folder in path.split(":")]
    is_local = name.lower().startswith("local_")
    for library in filter(None, split_list(value)):
        plugin = f"{_LIBDIR}/plugins/{library}" if is_local and "/" not in library else library
        places = [plugin] if "/" in plugin else [f"{folder}/{plugin}" for folder in folders]
        files = [place.replace(_LIBDIR, own) + end for place in places for end in ("", ".so")]
        if not any(_has_file(connection, file) for file in files):
            return library
    return ""


def _has_file(connection: ServerConnection, path: str) -> bool:
    if not os.path.isabs(path):
        return False
    return connection.fetch_value("SELECT NOT isdir FROM pg_stat_file($1, true)", path) == "t"


# ---------------------------------------------------------------- as text


def split_setting(role: str, line: str) -> tuple[str, str, str]:
    """`name=value` as pg_db_role_setting has it."""
    name, _, value = line.partition("=")
    return role, name, value


def quote_setting_name(name: str) -> str:
    return ".".join(quote_name(part) for part in name.split("."))


def quote_setting(name: str, value: str) -> str:
    """A setting's text as SET wants it: lists of names one by one."""
    if name.lower() not in _LISTS:
        return quote_text(value)
    return ", ".join(quote_text(part) for part in split_list(value)) or "''"


def split_list(value: str) -> Iterator[str]:
    """Cut a list of names at its commas, as SplitGUCList of varlena.c does."""
    part, in_quotes, place = "", False, 0
    while place < len(value):
        sign = value[place]
        if sign == '"' and in_quotes and value[place + 1 : place + 2] == '"':
            part, place = part + sign, place + 1
        elif sign == '"':
            in_quotes = not in_quotes
        elif sign == "," and not in_quotes:
            yield part
            part = ""
        elif in_quotes or not sign.isspace():
            part += sign
        place += 1
    yield part
