"""Where the clusters keep their data and logs, as their configuration and their data folders say.

Takes the configuration of tklb; gives patterns of rules, and what lies there. Asks no server: the links in a data
folder say the same while it is down. Changes nothing. Sources: postgresql-common(7), "Database File Layout" and
"Setting Parameters" of PostgreSQL's manual.
"""

import glob
import os
import re
import stat
from collections.abc import Iterator

from tklb.base.fs import read_existing_link
from tklb.config.schema import DatabaseConfig
from tklb.model.report import FoundPath

__all__ = ["list_locations"]

SETTINGS, CLUSTERS = "/etc/postgresql", "/var/lib/postgresql"
_DATA = "data of a PostgreSQL cluster, which tklb stores as dumps"
_LOG = "a log of a PostgreSQL cluster; logs do not travel"
_LINE = re.compile(r"^\s*([A-Za-z_][\w.]*)(?:\s*=\s*|\s+)('(?:[^'\\\n]|''|\\.)*'|[^\s#]+)", re.MULTILINE)
_ESCAPED = re.compile(r"\\(.)")
_INCLUDES = ("include", "include_if_exists", "include_dir")
_DEEPEST = 10  # files that include each other
_MOST_BYTES = 1 << 20
_PLACEHOLDER = re.compile(r"%.")


def list_locations(_config: DatabaseConfig) -> tuple[FoundPath, ...]:
    """List where the clusters of this machine keep their files."""
    folders = sorted(glob.glob(f"{glob.escape(SETTINGS)}/*/*"))
    return tuple(dict.fromkeys(found for folder in folders for found in _list_cluster(folder)))


def _list_cluster(folder: str) -> Iterator[FoundPath]:
    settings = read_settings(f"{folder}/postgresql.conf")
    version, name = folder.split("/")[-2:]
    data = settings.get("data_directory", f"{CLUSTERS}/{version}/{name}")
    if not os.path.isfile(f"{data}/PG_VERSION"):
        return
    settings |= read_settings(f"{data}/postgresql.auto.conf")
    for path in dict.fromkeys((data, os.path.realpath(data))):
        yield FoundPath(os.fsencode(glob.escape(path)), _DATA)
    owner = os.stat(data).st_uid
    log = os.path.realpath(f"{data}/pg_wal")
    places = [log, *_list_tablespaces(data)]
    yield from (
        FoundPath(os.fsencode(glob.escape(path)), _DATA)
        for path in places
        if not _is_in(path, data) and os.path.isdir(path) and os.stat(path).st_uid == owner
    )
    if (logs := settings.get("log_directory", "")).startswith("/") and not _is_in(logs, data):
        pattern = _PLACEHOLDER.sub("*", settings.get("log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"))
        yield FoundPath(os.fsencode(f"{glob.escape(logs.rstrip('/'))}/{pattern}"), _LOG)


def _list_tablespaces(data: str) -> Iterator[str]:
    """Give the folder of this cluster in each tablespace: other releases may have theirs beside it."""
    links = glob.glob(f"{glob.escape(data)}/pg_tblspc/*")
    version = _read(f"{data}/PG_VERSION").strip()
    for link in links:
        if target := read_existing_link(os.fsencode(link)):
            yield from glob.glob(f"{glob.escape(os.fsdecode(target))}/PG_{glob.escape(version)}_*")


def _is_in(path: str, data: str) -> bool:
    return f"{os.path.realpath(path)}/".startswith(f"{os.path.realpath(data)}/")


def _read(path: str) -> str:
    """Read a file that may belong to the account of the server: a pipe or a device in its place is no file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            return stream.read(_MOST_BYTES).decode("utf-8", "surrogateescape") if is_file else ""
    except OSError:
        return ""


def read_settings(path: str, depth: int = 0, *, follows: bool = True) -> dict[str, str]:
    """Read a configuration file; a later setting wins. An absent file has none. `follows`: it reads included ones."""
    found: dict[str, str] = {}
    for name, raw in _LINE.findall(_read(path)):
        value = _ESCAPED.sub(r"\1", raw[1:-1].replace("''", "'")) if raw.startswith("'") else raw
        target = os.path.join(os.path.dirname(path), value)
        if name.lower() in _INCLUDES:
            found |= _read_included(name.lower(), target, depth + 1) if follows else {}
        else:
            found[name.lower()] = value
    return found


def _read_included(name: str, target: str, depth: int) -> dict[str, str]:
    is_folder = name == "include_dir"
    files = sorted(glob.glob(f"{glob.escape(target)}/*.conf")) if is_folder else [target]
    found: dict[str, str] = {}
    for file in files if depth < _DEEPEST else ():
        found |= read_settings(file, depth)
    return found
