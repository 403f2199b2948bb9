"""Storage engines that are plugins: installed for the tables that need them, where the plugin's file is here.

Takes a connection and the needs of a saved database; changes the server's list of plugins.
"""

import re
from collections.abc import Iterable

from tklb.databases.mariadb.connection import ServerConnection, ServerError, quote_text

__all__ = ["ENGINE_UNKNOWN", "install_engines"]

ENGINE_UNKNOWN = frozenset({1286, 1289})  # of a statement that makes a table
_NEED = re.compile(r"engine:(\w+)")
_OTHER_FILES = {"FEDERATED": "ha_federatedx"}


def install_engines(connection: ServerConnection, needs: Iterable[str]) -> list[str]:
    """Install the engines among the needs that are missing; return those that came. Raises ServerError."""
    query = "SELECT ENGINE FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')"
    here = {name.upper() for (name,) in connection.fetch_texts(query)}
    wanted = {found[1] for need in needs if (found := _NEED.fullmatch(need))}
    return [name for name in sorted(wanted) if name.upper() not in here and _install(connection, name)]


def _install(connection: ServerConnection, engine: str) -> bool:
    file = _OTHER_FILES.get(engine.upper(), f"ha_{engine.lower()}")
    try:
        connection.run(f"INSTALL SONAME {quote_text(file)}")
    except ServerError:
        return False  # its tables are reported
    return True
