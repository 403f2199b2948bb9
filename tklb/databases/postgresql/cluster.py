"""Which PostgreSQL server is this machine's, and how it is reached: a libpq service, or a cluster of postgresql-common.

Takes the name of a service, reads `pg_lsclusters` and the postmaster's own notes; gives a `Cluster`. Starts one when
asked. Sources: pg_lsclusters(1), postgresql-common(7), libpq's "The Connection Service File".
"""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from tklb.base.process import run
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.model.databases import POSTGRESQL

ADMINISTRATOR = "postgres"
ENGINE = POSTGRESQL.word
_SYSTEMD = Path("/run/systemd/system")


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server. `account` is the system's account that its administrator has, None: whoever runs this."""

    name: str = ""  # VERSION/NAME; empty where a service names the server
    service: str = ""
    port: str = ""
    data: str = ""
    account: str | None = ADMINISTRATOR
    others: tuple[str, ...] = ()  # clusters of this machine that are not taken

    @property
    def major(self) -> int:
        """The server's major version; 0 where a service names it, which does not say."""
        version = self.name.partition("/")[0].partition(".")[0]
        return int(version) if version.isdecimal() else 0

    def keywords(self) -> dict[str, str]:
        """Where to connect to, in libpq's words. Raises DatabaseFailed where the server is down."""
        if self.service:
            return {"service": self.service}
        try:
            lines = (Path(self.data) / "postmaster.pid").read_text("utf-8", "surrogateescape").split("\n")
            return {"host": lines[4], "port": lines[3], "user": self.account or ADMINISTRATOR}
        except (OSError, IndexError) as exc:
            raise DatabaseFailed(item=ENGINE, reason=f"the cluster {self.name} is not running") from exc

    def start(self) -> None:
        """Start it as its packages do. Raises DatabaseFailed."""
        if self.service:
            raise DatabaseFailed(item=ENGINE, reason=f"the server of the service {self.service} is to be started there")
        version, _, name = self.name.partition("/")
        command = ["pg_ctlcluster", version, name, "start"]
        if _SYSTEMD.is_dir():
            command = ["systemctl", "start", f"postgresql@{version}-{name}.service"]
        try:
            run(command, timeout=300)
        except (ProgramFailed, ProgramMissing) as exc:
            raise DatabaseFailed(item=ENGINE, reason=f"the cluster {self.name} does not start: {exc}") from exc


def find_cluster(service: str) -> Cluster | None:
    """The server that the service names, else the cluster with the lowest port; None where there is neither."""
    if service:
        return Cluster(service=service, account=None)
    if not shutil.which("pg_lsclusters"):
        return None
    found = sorted((row for row in _listed() if _is_account(row[4])), key=lambda row: int(row[2]))
    if not found:
        return None
    version, name, port, _, owner, data, *_ = found[0]
    others = tuple(f"{row[0]}/{row[1]}" for row in found[1:])
    return Cluster(f"{version}/{name}", "", port, data, owner, others)


def _listed() -> list[list[str]]:
    try:
        said = run(["pg_lsclusters", "--no-header"], timeout=60).stdout.decode("utf-8", "surrogateescape")
    except (ProgramFailed, ProgramMissing) as exc:
        raise DatabaseFailed(item=ENGINE, reason=f"the clusters of this machine cannot be listed: {exc}") from exc
    rows = (line.split() for line in said.splitlines())
    return [row for row in rows if len(row) >= 6 and row[2].isdigit()]


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def program(name: str, major: int) -> str:
    """The client program of the server's own release where it is installed: an older one refuses a newer server."""
    own = f"/usr/lib/postgresql/{major}/bin/{name}"
    return own if os.access(own, os.X_OK) else name
