"""Databases as a server lists them, as a dump holds them, and as they are loaded; the table of database engines."""

import re
from dataclasses import field
from typing import NamedTuple

from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DatabaseEngine:
    """A kind of database server. `word` stands for it in overrides, limits, profiles, dumps and JSON."""

    word: str
    module: str  # has find_server; it is imported only where a server is asked
    services: tuple[str, ...]  # the names that Debian gives its service
    data: bytes = b""  # where Debian puts its files
    settings: tuple[bytes, ...] = ()  # files and folders with its configuration, and how its service starts
    has_schemas: bool = False  # a table has two names: SCHEMA.TABLE and TABLE


_UNITS = b"/etc/systemd/system/"
_OF_MARIADB = (
    *(b"/etc/mysql", b"/etc/my.cnf", b"/etc/my.cnf.d", b"/etc/default/mariadb", b"/etc/default/mysql"),
    *(_UNITS + name + b".service" + end for name in b"mariadb mysql mysqld".split() for end in (b"", b".d")),
)
_OF_POSTGRESQL = (
    *(b"/etc/postgresql", b"/etc/postgresql-common"),
    *(_UNITS + name + b".service" + end for name in b"postgresql postgresql@".split() for end in (b"", b".d")),
)
_DATA, _CLUSTERS = b"/var/lib/mysql", b"/var/lib/postgresql"
MARIADB = DatabaseEngine("mysql", "tklb.databases.mariadb", ("mariadb", "mysql"), _DATA, _OF_MARIADB)
POSTGRESQL = DatabaseEngine("pgsql", "tklb.databases.postgresql", ("postgresql",), _CLUSTERS, _OF_POSTGRESQL, True)
ENGINES = {engine.word: engine for engine in (MARIADB, POSTGRESQL)}  # the only place that lists them

_CONFIGURED = tuple((engine.word, tuple(top + b"/" for top in engine.settings)) for engine in ENGINES.values())

IN_MEMORY = "engine:MEMORY"  # a need of databases with rows that do not survive a restart of their server

_WORD = re.compile(r"([a-z]+)(?:@[A-Za-z0-9][A-Za-z0-9_.+/-]{0,99})?")


def find_engine(word: str) -> DatabaseEngine | None:
    """Give the engine of a server by its word: `pgsql` or, for one that is not the default, `pgsql@16/main`."""
    match = _WORD.fullmatch(word)
    return ENGINES.get(match[1]) if match else None


def find_configured(path: bytes) -> str:
    """Give the word of the engine whose servers read their configuration at `path`; empty where none does."""
    return next((word for word, tops in _CONFIGURED if (path + b"/").startswith(tops)), "")


class FoundServer(NamedTuple):
    """A server that was found, by its name; that of the default one is empty.

    `lack` says why it cannot be asked. `is_off`: it is down because the administrator wants it so.
    """

    name: str
    lack: str = ""
    is_off: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Database:
    """One database as its server lists it. `engine` is the word of the server: see find_engine()."""

    engine: str
    name: str
    bytes: int = 0  # as the server reports it


@dataclass(frozen=True, slots=True)
class SavedTable:
    """One table of a dump. `name` is how overrides spell it: TABLE, in PostgreSQL SCHEMA.TABLE."""

    name: str
    rows: int | None = None  # None: its rows were left out, its definition is there
    files: tuple[str, ...] = ()  # what holds the rows, in order; below the folder of its database


@dataclass(frozen=True, slots=True)
class SavedDatabase:
    """One database of a dump. `folder` is where it lies in the dump of its server."""

    engine: str
    name: str
    folder: str
    tables: tuple[SavedTable, ...] = ()
    bytes: int = 0  # of all its files
    needs: tuple[str, ...] = ()  # features that a server must have: `extension:hstore`, `engine:InnoDB`, ...


@dataclass(frozen=True, slots=True)
class SavedServer:
    """The dump of one server: all databases taken, at one moment."""

    engine: str
    version: str  # as people write it: MariaDB 10.11.14, PostgreSQL 15.13
    databases: tuple[SavedDatabase, ...] = ()
    accounts: tuple[str, ...] = ()  # users and roles, as people write them, but the administrator's
    settings: tuple[tuple[str, str], ...] = ()  # names and values that the server keeps in its data folder


@dataclass(frozen=True, slots=True)
class DatabaseLoad:
    """A saved database that is to be loaded, or some of its tables. `into` is its name on this server."""

    saved: SavedDatabase
    into: str
    tables: tuple[str, ...] | None = None  # only these; None: the whole database takes the place of the one here
    kept: tuple[str, ...] = ()  # tables of a whole database whose rows stay as they are here


@dataclass(frozen=True, slots=True)
class ServerFeatures:
    """The version and the features of a server. `features` have the words of SavedDatabase.needs.

    A kind of feature that is in none of them is not known.
    """

    version: str
    number: tuple[int, ...]  # the version, to be compared: (10, 11), (15,)
    databases: tuple[Database, ...] = ()
    features: frozenset[str] = field(default_factory=frozenset)
