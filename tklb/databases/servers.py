"""The database servers of this machine. Takes the configuration; touches nothing."""

from collections.abc import Callable

from tklb.config.schema import DatabaseConfig
from tklb.databases.interface import DatabaseServer

ENGINES = ("mysql", "pgsql")


def find_server(engine: str, config: DatabaseConfig) -> DatabaseServer | None:
    """The server of an engine, whether it runs or not; None where this machine has none. Raises DatabaseFailed."""
    return _FINDERS[engine](config)


def _find_mysql(config: DatabaseConfig) -> DatabaseServer | None:
    from tklb.databases import mariadb

    return mariadb.find(config.mysql_defaults_file, config.lock_seconds)


def _find_pgsql(config: DatabaseConfig) -> DatabaseServer | None:
    from tklb.databases import postgresql

    return postgresql.find(config.pgsql_service, config.lock_seconds)


_FINDERS: dict[str, Callable[[DatabaseConfig], DatabaseServer | None]] = {"mysql": _find_mysql, "pgsql": _find_pgsql}
