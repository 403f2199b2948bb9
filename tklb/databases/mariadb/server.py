"""What a server is: its version, and what it can take. Asks a session, gives values."""

import re
import shutil

from tklb.base.process import PATH
from tklb.databases.mariadb.catalogue import databases
from tklb.databases.mariadb.session import ServerError, Session
from tklb.model.databases import ServerFeatures

PROGRAMS = ("mariadb-dump", "mysqldump")
_FEATURES = (
    "SELECT CONCAT('engine:', ENGINE) FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')",
    "SELECT CONCAT('collation:', COLLATION_NAME) FROM information_schema.COLLATIONS",
    "SELECT CONCAT('collation:', FULL_COLLATION_NAME) FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY",
    (
        "SELECT CONCAT('plugin:', PLUGIN_NAME) FROM information_schema.PLUGINS"
        " WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_STATUS = 'ACTIVE'"
    ),
)
_TYPES = {
    "type:inet6": "SELECT CAST('::' AS INET6)",
    "type:inet4": "SELECT CAST('0.0.0.0' AS INET4)",
    "type:uuid": "SELECT CAST('00000000-0000-0000-0000-000000000000' AS UUID)",
    "type:vector": "SELECT VEC_ToText(VEC_FromText('[1]'))",
    "type:xmltype": "SELECT CAST('<a/>' AS XMLTYPE)",
}


def program() -> str:
    """The dump program there is; empty where there is none."""
    return next((name for name in PROGRAMS if shutil.which(name, path=PATH)), "")


def version(session: Session) -> str:
    """As people write it: MariaDB 10.11.14, MySQL 8.0.36."""
    said = session.value("SELECT VERSION()")
    return f"{'MariaDB' if 'mariadb' in said.lower() else 'MySQL'} {_digits(said)}"


def _digits(said: str) -> str:
    found = re.match(r"\d+(\.\d+)*", said)
    return found[0] if found else "0"


def offer(session: Session) -> ServerFeatures:
    features: set[str] = set()
    for query in _FEATURES:
        features |= _asked(session, query)
    features |= {word for word, probe in _TYPES.items() if _asked(session, probe)}
    name = version(session)
    number = tuple(int(part) for part in _digits(session.value("SELECT VERSION()")).split("."))
    return ServerFeatures(name, number, databases(session), frozenset(features))


def _asked(session: Session, query: str) -> set[str]:
    """What a query gives; nothing where this server does not know it."""
    try:
        return {row[0] for row in session.names(query)}
    except ServerError:
        return set()
