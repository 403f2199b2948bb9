"""The database servers of this machine. Takes the configuration; touches nothing."""

from collections.abc import Callable

from tklb.config import DatabaseConfig
from tklb.system.database.protocol import Server

ENGINES = ("mysql", "pgsql")


def find_server(engine: str, config: DatabaseConfig) -> Server | None:
    """The server of an engine, whether it runs or not; None where this machine has none. Raises DatabaseFailed."""
    return _FINDERS[engine](config)


def _find_mysql(config: DatabaseConfig) -> Server | None:
    from tklb.system.database import mysql

    return mysql.find(config.mysql_defaults_file, config.lock_seconds)


def _find_pgsql(config: DatabaseConfig) -> Server | None:
    from tklb.system.database import postgres

    return postgres.find(config.pgsql_service, config.lock_seconds)


_FINDERS: dict[str, Callable[[DatabaseConfig], Server | None]] = {"mysql": _find_mysql, "pgsql": _find_pgsql}
