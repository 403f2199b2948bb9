"""PostgreSQL: the server of this machine, or the one a libpq service names.

cluster.py       which server, how it is reached and started
session.py       one session, over libpq
catalogue.py     what is in it
locking.py sections.py copying.py largeobjects.py dump.py byhand.py    a dump
properties.py roles.py grants.py                                       databases' properties and roles, both ways
script.py load.py swap.py single.py                                    a load
"""

from tklb.config.schema import DatabaseConfig
from tklb.databases.interface import DatabaseServer
from tklb.databases.postgresql.cluster import ENGINE, find_cluster
from tklb.errors import DatabaseFailed


def find_server(config: DatabaseConfig) -> DatabaseServer | None:
    """The server, whether it runs or not: that of `service`, else of the cluster with the lowest port, if there is one.

    `lock_seconds` is how long a dump or load waits for what others have locked. Raises DatabaseFailed without libpq,
    which is only looked for where there is a server: every package of one brings it.
    """
    cluster = find_cluster(config.pgsql_service)
    if cluster is None:
        return None
    try:
        from tklb.databases.postgresql.server import PostgresServer
    except ImportError as exc:
        if "libpq" not in str(exc):
            raise
        raise DatabaseFailed(item=ENGINE, reason="the library libpq is missing: apt-get install libpq5") from exc
    return PostgresServer(cluster, config.lock_seconds)
