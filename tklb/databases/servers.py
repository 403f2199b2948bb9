"""The database servers of this machine. Takes the configuration; touches nothing but the places where servers are."""

from importlib import import_module

from tklb.config.schema import DatabaseConfig
from tklb.databases.interface import DatabaseServer
from tklb.model.databases import ENGINES
from tklb.model.report import FoundPath


def find_server(engine: str, config: DatabaseConfig) -> DatabaseServer | None:
    """Find the server of an engine, whether it runs or not; None where this machine has none.

    `engine` is a key of ENGINES. The engine's module is imported here and no earlier: a machine without that server
    need not have its driver. Raises DatabaseFailed where there is a server and no driver for it.
    """
    server: DatabaseServer | None = import_module(ENGINES[engine].module).find_server(config)
    return server


def list_locations(config: DatabaseConfig) -> tuple[FoundPath, ...]:
    """List where the servers of this machine keep data and logs: patterns of rules, with what lies there.

    Where a server runs, it is asked; a running server is not needed.
    """
    modules = (import_module(f"{engine.module}.locations") for engine in ENGINES.values())
    return tuple(found for module in modules for found in module.list_locations(config))
