"""PostgreSQL: the server of this machine, and how its administrator gets in.

Takes the configuration, reads the postmaster's own notes. A server is one that a libpq service
gives, or a cluster of postgresql-common. tklb.databases lists the stages that the modules are. Sources:
pg_lsclusters(1), postgresql-common(7), libpq's "The Connection Service File".
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tklb.base.process import run
from tklb.config.schema import DatabaseConfig
from tklb.databases.foreign_servers import Container, parse_container
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import POSTGRESQL

if TYPE_CHECKING:
    from tklb.databases.postgresql.server import Server

__all__ = ["Login", "find_program", "find_server"]

ENGINE = POSTGRESQL.word
ADMINISTRATOR = "postgres"
SOCKETS = "/run/postgresql"  # in a container
_SYSTEMD = Path("/run/systemd/system")
MONETARY = "C"  # the locale of money in a dump: an amount means the same on each server
_SECONDS = 300  # to start a cluster


@dataclass(frozen=True, slots=True)
class Login:
    """One server and how its administrator gets in: by a service of libpq, or by peer authentication.

    `account` is the system's account that the administrator has; None: the one that runs this. `lock_seconds` is how
    long a statement waits for what somebody else has locked. `read_back`: loaded rows are compared with the dump.
    `monetary` is the locale in which our sessions see money; empty for the server's. `has_password`: the administrator
    had a password when it was last asked.
    """

    name: str = ""  # VERSION/NAME; empty where a service gives the server
    service: str = ""
    port: str = ""
    data: str = ""
    account: str | None = ADMINISTRATOR
    lock_seconds: int = 60
    read_back: bool = True
    monetary: str = MONETARY
    has_password: bool = False
    container: Container | None = None  # that it runs in
    folder: str = ""  # of its socket in a container

    @property
    def is_elsewhere(self) -> bool:
        """Whether the server has not the accounts and locales of this machine."""
        return bool(self.service or self.container)

    @property
    def inside(self) -> "Login":
        """The login for client programs, which run where the server is."""
        return replace(self, folder=SOCKETS) if self.container else self

    def make_command(self, program: str, major: int) -> list[str]:
        """A client program of the server's own release, where the clients of this server run."""
        return self.container.enter([program]) if self.container else [find_program(program, major)]

    @property
    def major(self) -> int:
        """The server's major version; 0 where a service gives the server, which does not say."""
        version = self.name.partition("/")[0].partition(".")[0]
        return int(version) if version.isdecimal() else 0

    def list_keywords(self) -> dict[str, str]:
        """Where to connect to, in libpq's words. Raises DatabaseFailed where the server is down."""
        if self.service:
            return {"service": self.service}
        if self.container:
            folder = self.folder or self.container.open_socket(SOCKETS, is_folder=True)
            return {"host": folder, "port": "5432", "user": ADMINISTRATOR}
        try:
            lines = (Path(self.data) / "postmaster.pid").read_text("utf-8", "surrogateescape").split("\n")
            return {"host": lines[4], "port": lines[3], "user": self.account or ADMINISTRATOR}
        except (OSError, IndexError) as exc:
            raise DatabaseFailed(item=ENGINE, reason=f"the cluster {self.name} is not running") from exc

    def start(self) -> None:
        """Start the cluster as its packages do. Raises DatabaseFailed."""
        if self.service:
            raise DatabaseFailed(item=ENGINE, reason=f"the server of the service {self.service} is to be started there")
        if self.container:
            self.container.refuse("tklb starts no container")
        version, _, name = self.name.partition("/")
        command = ["pg_ctlcluster", version, name, "start"]
        if _SYSTEMD.is_dir():
            command = ["systemctl", "start", f"postgresql@{version}-{name}.service"]
        try:
            run(command, timeout=_SECONDS)
        except (ProgramFailed, ProgramMissing) as exc:
            raise DatabaseFailed(item=ENGINE, reason=f"the cluster {self.name} does not start: {exc}") from exc


def find_server(config: DatabaseConfig, name: str = "", login: str = "") -> "Server | None":
    """Find the default server, or the one called `name`, whether it runs or not; None where there is none.

    The default is what the service of the configuration gives, else a cluster. `login` is the service of a configured
    server. Raises DatabaseFailed where there is a server and no libpq. libpq is loaded only here: every package of a
    server brings it.
    """
    found = find_login(config, name, login)
    if found is None:
        return None
    try:
        from tklb.databases.postgresql.server import Server
    except ImportError as exc:
        if "libpq" not in str(exc):
            raise
        raise DatabaseFailed(item=ENGINE, reason="the library libpq is missing: apt-get install libpq5") from exc
    return Server(found)


def find_program(name: str, major: int) -> str:
    """The client program of the server's own release where it is installed: an older one refuses a newer server."""
    own = f"/usr/lib/postgresql/{major}/bin/{name}"
    return own if os.access(own, os.X_OK) else name


def find_login(config: DatabaseConfig, name: str = "", service: str = "") -> Login | None:
    """Give how the administrator gets in: to the server of a service, else to a cluster; None without either."""
    from tklb.databases.postgresql.instances import find_cluster, find_default

    options = (config.lock_seconds, config.read_back)
    if container := parse_container(service):
        return Login("", "", "", "", None, *options, container=container)
    service = service or ("" if name else config.pgsql_service)
    if service:
        return Login("", service, "", "", None, *options)
    found = find_cluster(name) if name else find_default()
    return Login(found.name, "", found.port, found.data, found.owner, *options) if found else None
