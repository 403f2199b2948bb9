"""The database servers of this machine. Takes the configuration; touches nothing but the places where servers are.

A server has a word: that of its engine for the default one, ENGINE@NAME for every other. NAME is that of a cluster or
instance, or the one under which the configuration has it.
"""

from importlib import import_module
from types import ModuleType

from tklb.config.schema import DatabaseConfig
from tklb.databases.foreign_servers import list_foreign_servers, parse_container
from tklb.databases.interface import DatabaseServer
from tklb.databases.named_server import NamedServer
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES, FoundServer, find_engine
from tklb.model.report import FoundPath


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server of this machine. `lack` says why it cannot be asked.

    `is_off`: it is down because the administrator wants it so, which is no failure of a backup.
    """

    word: str
    lack: str = ""
    is_off: bool = False


def list_servers(config: DatabaseConfig) -> tuple[KnownServer, ...]:
    """List the default server of each engine, whether there is one or not, and every other server.

    Raises DatabaseFailed where the servers of an engine cannot be listed.
    """
    known: dict[str, KnownServer] = {}
    for engine in ENGINES:
        logins = _read_logins(config, engine)
        module = _find_module(engine)
        entered = [container for login in logins.values() if (container := parse_container(login))]
        foreign = (FoundServer(*pair) for pair in list_foreign_servers(module.PROGRAMS, entered))
        others = tuple(module.list_names(config))
        default = [each for each in others if not each.name] or [FoundServer("")]
        for each in (*default, *map(FoundServer, logins), *others, *foreign):
            word = f"{engine}@{each.name}" if each.name else engine
            known.setdefault(word, KnownServer(word, each.lack, each.is_off))
    return tuple(known.values())


def find_server(word: str, config: DatabaseConfig) -> DatabaseServer | None:
    """Find a server by its word, whether it runs or not; None where this machine has none.

    The engine's module is imported here and no earlier: a machine without that server need not have its driver. Raises
    DatabaseFailed where there is a server and no driver for it.
    """
    engine, _, name = word.partition("@")
    if find_engine(word) is None:
        raise DatabaseFailed(item=word, reason="this version of tklb does not know such a server")
    login = _read_logins(config, engine).get(name, "")
    server: DatabaseServer | None = import_module(ENGINES[engine].module).find_server(config, name, login)
    return NamedServer(server, word) if name and server else server


def make_server(word: str, config: DatabaseConfig) -> DatabaseServer | None:
    """Make a server that is not here, by Debian's tools; None where these make none. Raises DatabaseFailed."""
    engine, _, name = word.partition("@")
    if not name or name in _read_logins(config, engine) or not _find_module(engine).make_instance(name):
        return None
    return find_server(word, config)


def _find_module(engine: str) -> ModuleType:
    return import_module(f"{ENGINES[engine].module}.instances")


def _read_logins(config: DatabaseConfig, engine: str) -> dict[str, str]:
    """The logins of configured servers of an engine, by name."""
    pairs = (line.partition("=") for line in config.servers)
    return {word.partition("@")[2]: login for word, _, login in pairs if word.partition("@")[0] == engine}


def list_locations(config: DatabaseConfig) -> tuple[FoundPath, ...]:
    """List where the servers of this machine keep data and logs: patterns of rules, with what lies there.

    Where a server runs, it is asked; a running server is not needed.
    """
    modules = (import_module(f"{engine.module}.locations") for engine in ENGINES.values())
    return tuple(found for module in modules for found in module.list_locations(config))
